"""Videos from file to file: what must stay, stays; what is marked, changes."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_factory import Clip, make_clip, make_mask_video, masks_for, picture, read_back, video_packets

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import FaceInpaintError, MaskError, OutputError
from faceinpaint_cli.media.audit import audit
from faceinpaint_cli.media.matroska_aspect import MARK, write_aspect
from faceinpaint_cli.media.mov_boxes import sample_kinds
from faceinpaint_cli.media.planes import ToRgb, alpha_of
from faceinpaint_cli.media.ts_programs import Program, _checksum, programs
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_packets import ALPHA
from faceinpaint_cli.media.video_reader import with_data
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.types import Job, JobResult

DAMAGED = range(9, 13)  # in the second of three groups of eight frames


class Shown:
    """What a report is given."""

    def __init__(self) -> None:
        self.pictures: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, job, frame, before, mask, after) -> None:
        self.pictures.append((frame, before, mask, after))

    def add_strip(self, job, pictures, damaged, seconds) -> None:
        self.strip = (pictures, damaged, seconds)


def run(source: Path, output: Path, damaged=DAMAGED, size=None, progress=None, **settings) -> JobResult:
    """Repair with a mask video whose frames in `damaged` mark a moving box."""
    settings.setdefault("method", "telea")
    if "box" not in settings and "mask_color" not in settings:
        index = index_video(source)
        masks = masks_for(index.frames, size or index.display_size, damaged)
        settings["mask"] = str(make_mask_video(output.with_name("masks.mkv"), masks))
    config = RunConfig(**settings)
    return repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config), progress)


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def assert_same_file_around(source: Path, output: Path, shift: Fraction = Fraction(0), rounding: float = 0.0) -> None:
    """Other streams' packets equal, all times equal but for one shift."""
    a, b = read_back(source), read_back(output)
    assert len(a.times) == len(b.times)
    assert max(abs(float(y - x - shift)) for x, y in zip(a.times, b.times, strict=True)) <= rounding
    assert list(a.packets.values()) == list(b.packets.values())
    for x, y in zip(a.packet_times.values(), b.packet_times.values(), strict=True):
        assert max(abs(float(t - s - shift)) for s, t in zip(x, y, strict=True)) <= rounding
    assert a.rotation == b.rotation


def outside(source: Path, output: Path, damaged=DAMAGED) -> tuple[int, int]:
    """(luma samples outside the masks that changed, damaged frames that changed inside)."""
    a, b = read_back(source), read_back(output)
    height, width = a.planes[0][0].shape
    masks = masks_for(len(a.times), (width, height), damaged)
    wrong = filled = 0
    for x, y, mask in zip(a.planes, b.planes, masks, strict=True):
        wrong += int((x[0] != y[0])[~mask].sum())
        filled += bool((x[0] != y[0])[mask].any())
    return wrong, filled


CLIPS = {
    "h264 with B pictures": ("a.mp4", Clip(options={"bf": "2"})),
    "variable rate, late start": ("a.mp4", Clip(times=[i * 600 + i % 4 * 90 + 900 for i in range(24)],
                                                time_base=Fraction(1, 15000), options={"bf": "2"})),
    "mkv, two sounds, subtitles, chapters": ("a.mkv", Clip(audio_tracks=2, subtitles=True, chapters=True)),
    "10 bit, colour tags, aspect": ("a.mp4", Clip(pixel_format="yuv420p10le", colour=(9, 16, 9, 1),
                                                  aspect=Fraction(4, 3))),
    "odd sides, 4:4:4": ("a.mkv", Clip(size=(97, 81), pixel_format="yuv444p")),
    "transport stream": ("a.ts", Clip()),
    "vp9": ("a.webm", Clip(codec="libvpx-vp9", audio="libopus", options={"cpu-used": "8", "deadline": "realtime"})),
    "mpeg-1 program stream": ("a.mpg", Clip(codec="mpeg1video", audio="mp2")),
    "interlaced": ("a.mp4", Clip(size=(96, 96), options={"x264-params": "tff=1"})),
    "hevc": ("a.mp4", Clip(codec="libx265", options={"x265-params": "log-level=none:bframes=2:open-gop=0",
                                                     "preset": "ultrafast"})),
    "hevc in mkv": ("a.mkv", Clip(codec="libx265", pixel_format="yuv420p10le", options={
        "x265-params": "log-level=none:bframes=2:open-gop=0", "preset": "ultrafast"})),
    "hevc transport stream": ("a.ts", Clip(codec="libx265", options={
        "x265-params": "log-level=none:bframes=2:open-gop=0", "preset": "ultrafast"})),
    "motion jpeg": ("a.avi", Clip(codec="mjpeg", pixel_format="yuvj420p", audio=None)),
    "prores": ("a.mov", Clip(codec="prores_ks", pixel_format="yuv422p10le")),
}


@pytest.mark.parametrize("kind", CLIPS)
def test_smart_render_copies_groups_without_damage(kind, tmp_path):
    name, clip = CLIPS[kind]
    source, output = make_clip(tmp_path / name, clip), tmp_path / f"out{Path(name).suffix}"
    result = run(source, output, preset="ultrafast" if clip.codec in ("libx264", "libx265") else None)
    assert result.audit["render"] == "smart" and result.audit["ok"], result.audit
    assert result.frames == 24 and result.frames_damaged == result.frames_filled == 4
    assert_same_file_around(source, output)
    copied = result.audit["frames_copied"]
    assert copied == (20 if clip.codec in ("mjpeg", "prores_ks") else 16)
    a, b = read_back(source), read_back(output)
    same = [all(map(np.array_equal, x, y)) for x, y in zip(a.planes, b.planes, strict=True)]
    assert sum(same) >= copied and not any(same[i] for i in DAMAGED)
    if name.endswith((".mp4", ".mov")):
        p, q = video_packets(source), video_packets(output)
        said_again = 2 if kind == "hevc" else 0  # the parameter sets before the first picture of each copied group
        assert sum(x == y for x, y in zip(p, q, strict=True)) == copied - said_again


@pytest.mark.parametrize(("kind", "codec", "suffix"), [
    ("h264 with B pictures", None, ".mp4"), ("variable rate, late start", None, ".mp4"),
    ("variable rate, late start", None, ".mov"), ("mkv, two sounds, subtitles, chapters", None, ".mkv"),
    ("10 bit, colour tags, aspect", "hevc", ".mp4"), ("odd sides, 4:4:4", None, ".mkv"),
    ("transport stream", None, ".ts"), ("interlaced", None, ".mp4"),
    ("mpeg-1 program stream", None, ".mpg"), ("motion jpeg", None, ".avi"),
])
def test_full_render_keeps_times_and_other_streams(kind, codec, suffix, tmp_path):
    name, clip = CLIPS[kind]
    source, output = make_clip(tmp_path / name, clip), tmp_path / f"out{suffix}"
    result = run(source, output, render="full", codec=codec, preset="ultrafast" if clip.codec == "libx264" else None)
    assert result.audit["render"] == "full" and result.audit["ok"] and not result.audit["notes"], result.audit
    assert_same_file_around(source, output)
    with av.open(str(source)) as a, av.open(str(output)) as b:
        assert [c["metadata"] for c in a.chapters()] == [c["metadata"] for c in b.chapters()]
        for x, y in zip(a.streams, b.streams, strict=True):
            assert x.metadata.get("language", "und") == y.metadata.get("language", "und")
            assert x.disposition == y.disposition
        x, y = a.streams.video[0], b.streams.video[0]
        assert x.sample_aspect_ratio == y.sample_aspect_ratio and x.codec_context.pix_fmt == y.codec_context.pix_fmt
        for tag in ("color_primaries", "color_trc", "colorspace", "color_range"):
            assert getattr(x.codec_context, tag) == getattr(y.codec_context, tag)
        assert next(a.decode(x)).interlaced_frame == next(b.decode(y)).interlaced_frame == (kind == "interlaced")
    first, second = read_back(source), read_back(output)
    apart = [np.abs(p[0].astype(int) - q[0]).mean() for i, (p, q) in
             enumerate(zip(first.planes, second.planes, strict=True)) if i not in DAMAGED]
    assert max(apart) < (10 if "10 bit" in kind else 2.5), "visually lossless"


@pytest.mark.parametrize("kind", ["h264 with B pictures", "10 bit, colour tags, aspect", "odd sides, 4:4:4",
                                  "transport stream", "prores"])
def test_lossless_codec_is_bit_exact_outside_the_mask(kind, tmp_path):
    name, clip = CLIPS[kind]
    source, output = make_clip(tmp_path / name, clip), tmp_path / "out.mkv"
    result = run(source, output, codec="ffv1")
    assert result.audit["why_full"].startswith("the codec changes")
    assert outside(source, output) == (0, 4)
    a, b = read_back(source), read_back(output)
    for number in set(range(24)) - set(DAMAGED):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes[number], b.planes[number], strict=True))
    # Matroska starts a file that begins below zero at zero: picture and sound move together, by whole ticks.
    if name != "a.ts":  # which wraps each packet of sound in a header
        assert_same_file_around(source, output, b.times[0] - a.times[0], 0.0011)


H264_709_FULL = {"colour": (1, 1, 1, 2), "pixel_format": "yuv420p"}
COLOURS = {
    "RGB stays RGB": ("a.mkv", {"codec": "libx264rgb", "pixel_format": "rgb24"}, ".mkv", None, None),
    "RGB to h264": ("a.mov", {"codec": "png", "pixel_format": "rgb24"}, ".mkv", "libx264", "pictures become yuv444p"),
    "RGB h264 to h264": ("a.mkv", {"codec": "libx264rgb", "pixel_format": "rgb24"}, ".mkv", "libx264", "yuv444p"),
    "h264 to RGB h264": ("a.mp4", {"colour": (1, 1, 1, 1)}, ".mkv", "libx264rgb", "pictures become"),
    "h264 to png": ("a.mp4", {}, ".mov", "png", "pictures become rgb24"),
    "h264 to qtrle": ("a.mp4", {}, ".mov", "qtrle", "pictures become rgb24"),
    "limited to motion jpeg": ("a.mp4", {"colour": (1, 1, 1, 1)}, ".mkv", "mjpeg", None),
    "BT.601 to DNxHR": ("a.mp4", {"colour": (6, 6, 6, 1), "size": (256, 144)}, ".mov", "dnxhd", None),
    "full to h264": ("a.mp4", H264_709_FULL, ".mkv", "libx264", None),
    "full to ffv1": ("a.mp4", H264_709_FULL, ".mkv", "ffv1", None),
    "full to ffv1 in avi": ("a.mp4", {"colour": (5, 5, 5, 2)}, ".avi", "ffv1", "they become limited"),
    "full to prores": ("a.mp4", H264_709_FULL, ".mov", "prores", "they become limited"),
    "full to v210": ("a.mp4", H264_709_FULL, ".mov", "v210", "they become limited"),
    "full to mpeg-2": ("a.mp4", H264_709_FULL, ".ts", "mpeg2video", "they become limited"),
    "full to vp8": ("a.mp4", {**H264_709_FULL, "audio": None}, ".webm", "libvpx", "they become limited"),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_colours_stay_the_same_in_another_format(kind, tmp_path, caplog):
    name, changes, suffix, codec, said = COLOURS[kind]
    source, output = make_clip(tmp_path / name, frames=8, options={"qp": "4"}, **changes), tmp_path / f"out{suffix}"
    result = run(source, output, [2], codec=codec)
    assert result.audit["ok"], result.audit
    assert said in caplog.text if said else "become" not in caplog.text, caplog.text
    away = cv2.blur(rgb_of(source, 6) - rgb_of(output, 6), (16, 16))
    assert np.abs(away).mean() < 2.5, np.abs(away).mean((0, 1))


AVI = {
    "reordered mpeg-4": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}, ".avi", {}),
    "reordered h264": ("a.avi", {"options": {"bf": "2"}}, ".avi", {}),
    "h264 in order": ("a.avi", {"options": {"bf": "0"}}, ".avi", {"render": "full"}),
    "h264 in order, copied groups": ("a.avi", {"options": {"bf": "0"}}, ".avi", {}),
    "reordered, to Matroska": ("a.avi", {"options": {"bf": "2"}}, ".mkv", {}),
    "from mp4": ("a.mp4", {"options": {"bf": "2"}}, ".avi", {"codec": "libx264"}),
    "from mp4, lossless": ("a.mp4", {"options": {"bf": "2"}}, ".avi", {"codec": "utvideo"}),
}


@pytest.mark.parametrize("kind", AVI)
def test_in_avi_the_place_of_a_frame_is_its_time(kind, tmp_path):
    name, changes, suffix, settings = AVI[kind]
    source = make_clip(tmp_path / name, audio="libmp3lame" if name.endswith("avi") else "aac", **changes)
    output = tmp_path / f"out{suffix}"
    result = run(source, output, preset="ultrafast" if settings.get("codec") != "utvideo" else None, **settings)
    assert result.audit["ok"], result.audit
    if suffix == ".avi":
        assert places(output) == (places(source) if name.endswith("avi") else [Fraction(i, 25) for i in range(24)])
    a, b = read_back(source), read_back(output)
    assert a.packets == b.packets
    for number in set(range(24)) - set(DAMAGED):
        assert np.abs(a.planes[number][0].astype(int) - b.planes[number][0]).mean() < 3


def places(path: Path) -> list[Fraction]:
    """Seconds at which the packets of a video are decoded."""
    with av.open(str(path)) as container:
        return [p.dts * p.time_base for p in container.demux(container.streams.video[0]) if p.size]


def rgb_of(path: Path, number: int) -> np.ndarray:
    """HWC float, 0 to 255, as the tags of the file say."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.video[0]))
    rgb = ToRgb()(frames[number])
    return rgb / (257.0 if rgb.dtype == np.uint16 else 1.0)


OTHERS = {
    "DNxHR": ("a.mov", Clip(codec="dnxhd", pixel_format="yuv422p10le", size=(256, 144), audio=None,
                            options={"profile": "dnxhr_hqx"}), "smart"),
    "raw uyvy": ("a.mov", Clip(codec="rawvideo", pixel_format="uyvy422", audio=None), "full"),
    "raw yuyv": ("a.avi", Clip(codec="rawvideo", pixel_format="yuyv422", audio=None), "full"),
    "raw rgb": ("a.avi", Clip(codec="rawvideo", pixel_format="bgr24", audio=None), "full"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_codecs_of_editors_stay_what_they_are(kind, tmp_path):
    name, clip, render = OTHERS[kind]
    source, output = make_clip(tmp_path / name, clip), tmp_path / f"out{Path(name).suffix}"
    result = run(source, output)
    assert result.audit["render"] == render and result.audit["ok"], result.audit
    with av.open(str(source)) as a, av.open(str(output)) as b:
        x, y = a.streams.video[0], b.streams.video[0]
        assert (x.profile, x.codec_context.pix_fmt) == (y.profile, y.codec_context.pix_fmt)
        for number, (before, after) in enumerate(zip(a.decode(x), b.decode(y), strict=True)):
            p, q = (frame.to_ndarray(format="rgb24") for frame in (before, after))
            assert np.array_equal(p, q) == (number not in DAMAGED)


def test_avi_counts_frames_at_their_rate(tmp_path):
    run(make_clip(tmp_path / "a.mp4"), tmp_path / "out.avi", codec="mjpeg")
    with av.open(str(tmp_path / "out.avi")) as container:
        assert container.streams.video[0].average_rate == 25


def test_nothing_marked_copies_the_file(tmp_path):
    source = make_clip(tmp_path / "a.mp4", chapters=True)
    result = run(source, tmp_path / "out.mp4", ())
    assert (tmp_path / "out.mp4").read_bytes() == source.read_bytes()
    assert (result.method, result.frames, result.frames_damaged) == ("copy", 24, 0)


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".ts"])
def test_nothing_marked_moves_all_packets_to_another_container(suffix, tmp_path):
    source = make_clip(tmp_path / "a.mp4", options={"bf": "2"})
    output = tmp_path / f"out{suffix}"
    result = run(source, output, ())
    assert result.audit["streams_equal"] == 2 and result.audit["ok"]
    a, b = read_back(source), read_back(output)
    assert all(np.array_equal(p[0], q[0]) for p, q in zip(a.planes, b.planes, strict=True))
    if suffix != ".ts":  # which wraps each packet of sound in a header
        assert a.packets[1] == b.packets[1]


def test_rotated_video_takes_upright_masks(tmp_path):
    source, output = make_clip(tmp_path / "a.mp4", rotation=90), tmp_path / "out.mkv"
    assert index_video(source).rotation == 90
    run(source, output, codec="ffv1")
    a, b = read_back(source), read_back(output)
    assert a.rotation == b.rotation == 90
    upright = masks_for(24, (80, 96), DAMAGED)
    for number in range(24):
        wrong = a.planes[number][0] != b.planes[number][0]
        assert not np.rot90(wrong, 1)[~upright[number]].any()
        assert wrong.any() == (number in DAMAGED)


def test_time_code_and_the_keys_of_a_phone_stay(tmp_path):
    keys = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.location.ISO6709": "+48.1+011.5+520/",
            "title": "a title", "creation_time": "2024-05-01T10:00:00.000000Z"}
    source = make_clip(tmp_path / "a.mov", codec="prores_ks", pixel_format="yuv422p10le", audio=None,
                       metadata={**keys, "timecode": "10:00:00:00"}, muxer={"movflags": "use_metadata_tags"})
    output = tmp_path / "out.mov"
    assert run(source, output).audit["render"] == "smart"
    run(output, tmp_path / "again.mov", render="full")
    for path in (output, tmp_path / "again.mov"):
        with av.open(str(path)) as container:
            found = {k: v.split(";")[0] for k, v in container.metadata.items()}
            assert keys.items() <= found.items()
            assert [s.metadata["timecode"] for s in container.streams] == ["10:00:00:00"] * 2


@pytest.mark.parametrize(("kind", "suffix", "kept"), [("gpmd", ".mp4", True), ("gpmd", ".mkv", False),
                                                      ("mebx", ".mp4", False)])
def test_tracks_of_a_camera_are_copied_or_named(kind, suffix, kept, tmp_path, caplog):
    """A track of text, made into one of telemetry: the library knows no encoder for those."""
    source, output = make_clip(tmp_path / "a.mp4", chapters=True), tmp_path / f"out{suffix}"
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mp4"), "w") as b:
        b.set_chapters(a.chapters())
        streams = [b.add_stream_from_template(s, opaque=True) for s in a.streams if s.type != "data"]
        streams.append(b.add_data_stream("bin_data"))
        for packet in (p for p in a.demux(*(a.streams[i] for i in (0, 1))) if p.size):
            packet.stream = streams[packet.stream_index]
            b.mux(packet)
        for number in range(3):
            packet = av.Packet(b"DEVC%d" % number)
            packet.pts = packet.dts = number * 300
            packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), streams[2]
            b.mux(packet)
    source = tmp_path / "c.mp4"
    source.write_bytes((tmp_path / "b.mp4").read_bytes().replace(b"gpmd", kind.encode()))
    assert kind in sample_kinds(source).values() and "text" in sample_kinds(source).values()
    result = run(source, output)
    telemetry = [p for p in read_back(output).packets.values() if p[0] == b"DEVC0"]
    assert telemetry == ([[b"DEVC0", b"DEVC1", b"DEVC2"]] if kept else [])
    left = result.audit.get("left_out", [])
    assert (not left) if kept else (len(left) == 1 and kind in left[0]), left


def test_sound_of_a_few_samples_is_copied(tmp_path):
    whole, source = make_clip(tmp_path / "whole.mp4"), tmp_path / "a.mp4"
    with av.open(str(whole)) as a, av.open(str(source), "w", options={"movie_timescale": "48000"}) as b:
        streams = [b.add_stream_from_template(s, opaque=True) for s in a.streams]
        sounds = 0
        for packet in (p for p in a.demux() if p.size):
            if packet.stream_index == 1:
                sounds += 1
                packet.duration = 5 if sounds == 2 else packet.duration
            if sounds <= 2 or packet.stream_index == 0:
                packet.stream = streams[packet.stream_index]
                b.mux(packet)
    assert len(read_back(source).packets[1]) == 2
    assert run(source, tmp_path / "out.mp4").audit["ok"]
    assert_same_file_around(source, tmp_path / "out.mp4")


def test_captions_of_filled_frames_stay(tmp_path):
    """As ATSC A/53 puts them: a message of registered user data before each picture."""
    whole, source, output = make_clip(tmp_path / "whole.mp4"), tmp_path / "a.mp4", tmp_path / "out.mp4"
    message = bytes.fromhex("b5 0031 47413934 03 c1 ff fc 9425 ff")
    unit = bytes([6, 4, len(message)]) + message + b"\x80"
    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
        for packet in (p for p in a.demux(a.streams.video[0]) if p.size):
            said = with_data(packet, len(unit).to_bytes(4, "big") + unit + bytes(packet))
            said.stream = stream
            b.mux(said)
    run(source, output)
    assert outside(source, output, ())[0]
    with av.open(str(output)) as container:
        captions = [bytes(f.side_data["A53_CC"]) for f in container.decode(container.streams.video[0])]
    assert captions == [bytes.fromhex("fc 9425")] * 24


@pytest.mark.parametrize("codec", [None, "libx264", "libsvtav1"])
def test_the_light_of_hdr_stays(codec, tmp_path):
    screen = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,500)"
    source = make_clip(tmp_path / "a.mp4", codec="libx265", pixel_format="yuv420p10le", colour=(9, 16, 9, 1),
                       frames=8, options={"preset": "ultrafast",
                                          "x265-params": f"log-level=none:master-display={screen}:max-cll=1000,400"})
    look = index_video(source).look
    assert look.light == (1000, 400) and look.mastering is not None and look.mastering[8:] == (Fraction(1, 20), 1000)
    result = run(source, tmp_path / "out.mp4", [2], codec=codec, render="full")
    assert not result.audit["notes"], result.audit
    after = index_video(tmp_path / "out.mp4").look
    assert after.light == look.light and after.mastering is not None
    assert max(abs(a - b) for a, b in zip(after.mastering, look.mastering, strict=True)) < 0.001


@pytest.mark.parametrize(("render", "suffix", "codec"), [("smart", ".webm", None), ("full", ".webm", None),
                                                         ("full", ".mkv", "libx264")])
def test_the_alpha_of_webm_stays_or_is_named(render, suffix, codec, tmp_path):
    whole, source, output = tmp_path / "whole.webm", tmp_path / "a.webm", tmp_path / f"out{suffix}"
    make_clip(whole, codec="libvpx-vp9", audio=None, options={"cpu-used": "8", "deadline": "realtime"})

    def alphas(path):
        with av.open(str(path)) as container:
            packets = [p for p in container.demux() if p.size]
            return [bytes(p.get_sidedata(ALPHA)) if p.has_sidedata(ALPHA) else None for p in packets]

    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
        stream.metadata["alpha_mode"] = "1"
        for number, packet in enumerate(p for p in a.demux() if p.size):
            beside = av.packet.PacketSideData(15, 28)  # matroska_block_additional
            beside.update((1).to_bytes(8, "big") + bytes([number] * 20))
            packet.set_sidedata(beside)
            packet.stream = stream
            b.mux(packet)
    assert None not in alphas(source)
    result = run(source, output, render=render, codec=codec)
    assert alphas(output) == ([None] * 24 if codec else alphas(source))
    assert any("alpha" in line for line in result.audit.get("left_out", [])) == bool(codec)


@pytest.mark.parametrize("render", ["smart", "full"])
@pytest.mark.parametrize(("name", "codec", "title"), [("a.webm", "libvpx-vp9", ""), ("a.webm", "libvpx", "a title"),
                                                      ("a.mkv", "libsvtav1", "a title"), ("a.mkv", "libx264", "")])
def test_pixels_keep_their_shape_in_matroska(name, codec, title, render, tmp_path):
    whole, source = tmp_path / f"whole{Path(name).suffix}", tmp_path / name
    made = {"libsvtav1": {"preset": "12"}, "libx264": {}}.get(codec, {"cpu-used": "8", "deadline": "realtime"})
    make_clip(whole, codec=codec, audio="libopus", options=made)
    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        streams = [b.add_stream_from_template(s, opaque=True) for s in a.streams]
        streams[0].metadata["title"] = title + MARK
        for packet in (p for p in a.demux() if p.size):
            packet.stream = streams[packet.stream_index]
            b.mux(packet)
    write_aspect(source, (96, 80), Fraction(93, 64))
    output = tmp_path / f"out{Path(name).suffix}"
    assert index_video(source).look.aspect == Fraction(93, 64)
    result = run(source, output, render=render)
    assert result.audit["ok"] and result.audit["render"] == render, result.audit
    for path in (source, output):
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            assert video.sample_aspect_ratio == Fraction(93, 64) and video.metadata.get("title", "") == title
            assert len(list(container.decode(video))) == 24
    assert_same_file_around(source, output)


def test_numbers_and_names_of_a_transport_stream_stay(tmp_path):
    source, output = tmp_path / "a.ts", tmp_path / "out.ts"
    make_clip(source, metadata={"service_name": "Das Erste HD", "service_provider": "Ünï"},
              muxer={"mpegts_service_id": "77", "mpegts_pmt_start_pid": "500", "mpegts_start_pid": "3000",
                     "mpegts_transport_stream_id": "9"})
    run(source, output)
    expected = [Program(77, 9, 500, "Das Erste HD", "Ünï")]
    for path in (source, output):
        assert programs(path) == expected
        with av.open(str(path)) as container:
            assert [s.id for s in container.streams] == [3000, 3001]


def test_several_programs_in_one_are_named(tmp_path):
    """The table of a file with one program and one entry for the network, which is made into another program."""
    source = make_clip(tmp_path / "a.ts")
    data = bytearray(source.read_bytes())
    for at in range(0, len(data), 188):
        if data[at + 1 : at + 3] == b"\x40\0":
            table = data[at + 5 : at + 5 + 12] + b"\0\2\xf1\0"
            table[2] += 4
            data[at + 5 : at + 25] = table + _checksum(bytes(table)).to_bytes(4, "big")
    source.write_bytes(data)
    assert [p.number for p in programs(source)] == [1, 2]
    left = run(source, tmp_path / "out.ts").audit["left_out"]
    assert len(left) == 1 and "programs 1 (Service01), 2" in left[0]


def test_pixels_keep_their_shape_where_only_mp4_says_it(tmp_path):
    whole, source = make_clip(tmp_path / "whole.mp4", audio=None), tmp_path / "a.mp4"
    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
        stream.codec_context.sample_aspect_ratio = Fraction(93, 64)
        for packet in (p for p in a.demux() if p.size):
            packet.stream = stream
            b.mux(packet)
    assert index_video(source).look.aspect == Fraction(93, 64)
    assert run(source, tmp_path / "out.mp4").audit["render"] == "smart"
    assert index_video(tmp_path / "out.mp4").look.aspect == Fraction(93, 64)


def test_colours_that_mxf_says_in_its_own_way_are_the_same(tmp_path):
    source = make_clip(tmp_path / "a.mxf", codec="mpeg2video", audio=None, colour=(6, 1, 6, 1))
    assert run(source, tmp_path / "out.mxf", render="full").audit["ok"]


def test_mask_by_colour_looks_at_the_pictures(tmp_path):
    source, output = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgr0", audio=None), tmp_path / "out.mkv"
    result = run(source, output, mask_color="#ad5b54", mask_tolerance=12)
    assert 0 < result.mask_fraction < 0.2 and result.frames_damaged > 0


def clip_with_a_hole(path: Path, codec: str, pixel_format: str, frames: int = 6) -> Path:
    """Transparent in a box that moves by a pixel a frame."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, pixel_format
        for number in range(frames):
            pixels = np.full((80, 96, 4), 255, np.uint8)
            pixels[..., :3] = picture(number, 96, 80)
            pixels[20:44, 30 + number : 50 + number] = 0
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(("codec", "pixel_format", "suffix", "becomes"), [
    ("ffv1", "yuva420p", ".mkv", None), ("png", "rgba", ".mov", None), ("prores_ks", "yuva444p10le", ".mov", None),
    ("qtrle", "argb", ".mov", None), ("ffv1", "yuva420p", ".mkv", "h264")])
def test_what_is_transparent_is_filled_and_then_seen(codec, pixel_format, suffix, becomes, tmp_path):
    source, output = clip_with_a_hole(tmp_path / f"a{suffix}", codec, pixel_format), tmp_path / f"b{suffix}"
    config = RunConfig(mask_alpha=True, method="telea", codec=becomes)
    result = repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config))
    assert result.frames_damaged == result.frames_filled == 6 and result.audit["ok"]
    with av.open(str(source)) as a, av.open(str(output)) as b:
        for number, (before, after) in enumerate(zip(a.decode(video=0), b.decode(video=0), strict=True)):
            hole = np.zeros((80, 96), bool)
            hole[20:44, 30 + number : 50 + number] = True
            assert (alpha_of(before) < 128)[hole].mean() > 0.95
            alpha = alpha_of(after)
            assert alpha is None if becomes else alpha.min() > 250
            grey = after.to_ndarray(format="gray")
            assert grey[hole].min() > 30, "still the black that was hidden there"


def test_a_transparency_that_no_decoder_gives_is_refused(tmp_path):
    whole, source = tmp_path / "whole.webm", tmp_path / "a.webm"
    make_clip(whole, codec="libvpx-vp9", audio=None, frames=3, options={"cpu-used": "8", "deadline": "realtime"})
    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
        stream.metadata["alpha_mode"] = "1"
        for packet in a.demux():
            if packet.size:
                packet.stream = stream
                b.mux(packet)
    config = RunConfig(mask_alpha=True, method="telea")
    with pytest.raises(MaskError, match="--mask-alpha cannot read the transparency"):
        repair_video(Job(source, tmp_path / "b.webm", "video", Path("a.webm")), config, Stages(config))
    assert names(tmp_path) == {"whole.webm", "a.webm"}


def test_one_frame(tmp_path):
    source, output = make_clip(tmp_path / "a.mp4", frames=1, audio=None), tmp_path / "out.mp4"
    assert run(source, output, [0]).frames == 1
    assert len(read_back(output).times) == 1


@pytest.mark.parametrize("name", ["Film: one", "映" * 82], ids=["colon", "longest"])
def test_any_name_that_a_file_can_have(name, tmp_path, monkeypatch):
    made = make_clip(tmp_path / "a.mp4")
    source, output = made.rename(tmp_path / f"{name}.mp4"), tmp_path / "out" / f"{name}.mp4"
    masks = make_mask_video(tmp_path / "m.mkv", masks_for(24, (96, 80), DAMAGED)).rename(tmp_path / "m: m.mkv")
    output.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    settings = {"method": "telea", "mask": masks.name, "preview": name.isascii()}
    for relative in (output.relative_to(tmp_path), Path(f"{name[:-1]}.mkv")):
        config = RunConfig(**settings)
        repair_video(Job(Path(source.name), relative, "video", Path(source.name)), config, Stages(config), None)
        assert len(read_back(tmp_path / relative).times) == 24
    assert names(output.parent) == {output.name} | ({f"{name}.mp4.preview.mp4"} if name.isascii() else set())


def test_progress_counts_what_is_encoded(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=None)
    seen = []
    run(source, tmp_path / "out.mp4", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 8) for i in range(8)]


def test_preview_shows_before_mask_after(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=None)
    run(source, tmp_path / "out.mp4", preview=True)
    shown = read_back(tmp_path / "out.mp4.preview.mp4")
    assert len(shown.times) == 24 and shown.planes[0][0].shape == (80, 3 * 96)
    y = [p[0].astype(int) for p in shown.planes]
    assert np.abs(y[0][:, :96] - y[0][:, 192:]).mean() < 2
    assert np.abs(y[10][:, :96] - y[10][:, 96:192]).mean() > 2


def test_previews_of_outputs_that_differ_in_their_suffix_do_not_meet_and_a_failed_one_is_a_warning(tmp_path, caplog):
    source = make_clip(tmp_path / "a.mp4", audio=None, size=(97, 81), pixel_format="yuv444p")
    for name in ("out.mp4", "out.mkv"):
        run(source, tmp_path / name, preview=True)
    assert {"out.mp4.preview.mp4", "out.mkv.preview.mp4"} <= names(tmp_path)
    assert read_back(tmp_path / "out.mkv.preview.mp4").planes[0][0].shape == (82, 3 * 97 + 1)
    (tmp_path / "last.mp4.preview.mp4").mkdir()
    assert run(source, tmp_path / "last.mp4", preview=True).status == "done"
    assert "no preview of" in caplog.text and (tmp_path / "last.mp4").is_file()


def test_one_pixel_has_a_preview(tmp_path):
    source = make_clip(tmp_path / "a.mkv", codec="ffv1", audio=None, size=(1, 1), pixel_format="yuv444p", frames=3)
    run(source, tmp_path / "out.mkv", box=("0,0,1,1",), preview=True)
    assert len(read_back(tmp_path / "out.mkv.preview.mp4").times) == 3


def test_a_frame_that_is_mended_and_masked_counts_once(tmp_path):
    source = broken(tmp_path, 10)
    result = run(source, tmp_path / "out.mp4", box=("20,20,30,30",), detect=True, preset="ultrafast")
    assert result.audit["damage"]["mended"] and result.frames == result.frames_filled == 24


def test_what_smart_render_cannot_join_is_encoded_in_full_and_told_so(tmp_path, monkeypatch, caplog):
    def doubtful(source, output, plan, *others):
        found = audit(source, output, plan, *others)
        found.problems += ["2 copied frames decode to other samples"] * plan.smart
        return found

    monkeypatch.setattr("faceinpaint_cli.pipeline.video.audit", doubtful)
    result = run(make_clip(tmp_path / "a.mp4", audio=None), tmp_path / "out.mp4", preset="ultrafast")
    assert result.audit["render"] == "full" and result.audit["why_full"] == "2 copied frames decode to other samples"
    assert "so all of it is encoded" in caplog.text and "nothing was written" not in caplog.text


def test_seen_pictures_go_to_the_report(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=None)
    masks = make_mask_video(tmp_path / "m.mkv", masks_for(24, (96, 80), DAMAGED))
    config, shown = RunConfig(method="telea", mask=str(masks)), Shown()
    repair_video(Job(source, tmp_path / "out.mp4", "video", Path("a.mp4")), config, Stages(config, shown), None)
    assert [s[0] for s in shown.pictures] == list(DAMAGED)
    assert all(mask.any() and (before != after).any() for _, before, mask, after in shown.pictures)
    pictures, damaged, seconds = shown.strip
    assert len(pictures) == 12 and np.flatnonzero(damaged).tolist() == list(DAMAGED) and seconds == 24 / 25


# --- going on


class Stop(Exception):
    pass


def stop_after(frames: int):
    def progress(done, total):
        if done >= frames:
            raise Stop
    return progress


def test_resume_goes_on_from_the_last_finished_segment(tmp_path, monkeypatch):
    monkeypatch.setattr("faceinpaint_cli.media.smart_render.SEGMENT_FRAMES", 8)
    source, output = make_clip(tmp_path / "a.mp4"), tmp_path / "out.mp4"
    settings = {"box": ("20,20,30,30",), "render": "full", "resume": True, "preset": "ultrafast"}
    with pytest.raises(Stop):
        run(source, output, progress=stop_after(19), **settings)
    folder = tmp_path / ".out.mp4.faceinpaint-segments"
    assert not output.exists() and len(list(folder.glob("*.packets"))) == 2
    steps = []
    result = run(source, output, progress=lambda done, total: steps.append(done), **settings)
    assert steps == list(range(17, 25)), "the first sixteen frames were not done again"
    assert result.frames == result.frames_damaged == 24 and not folder.exists()
    assert_same_file_around(source, output)
    whole = tmp_path / "whole.mp4"
    run(source, whole, **settings)
    assert video_packets(whole) == video_packets(output)


def test_what_is_drawn_does_not_jump_where_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    """A logo over a picture that moves: what it hides is carried from the frames before, also from those of segments
    that are finished."""
    monkeypatch.setattr("faceinpaint_cli.media.smart_render.SEGMENT_FRAMES", 8)
    source = make_clip(tmp_path / "a.mp4", frames=20, audio=None)
    settings = {"box": ("20,20,30,30",), "method": "generator", "device": "cpu", "codec": "ffv1", "resume": True}
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    run(source, whole, **settings)
    with pytest.raises(Stop):
        run(source, output, progress=stop_after(10), **settings)
    steps = []
    run(source, output, progress=lambda done, total: steps.append(done), **settings)
    assert steps[0] == 9
    assert video_packets(whole) == video_packets(output)


def test_resume_with_other_settings_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("faceinpaint_cli.media.smart_render.SEGMENT_FRAMES", 8)
    source, output = make_clip(tmp_path / "a.mp4", audio=None), tmp_path / "out.mp4"
    with pytest.raises(Stop):
        run(source, output, progress=stop_after(19), resume=True, box=("20,20,30,30",))
    steps = []
    run(source, output, progress=lambda done, total: steps.append(done), resume=True, box=("20,20,30,30",), crf=30.0)
    assert steps == list(range(1, 25))


def test_resume_with_a_model_file_that_changed_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("faceinpaint_cli.media.smart_render.SEGMENT_FRAMES", 8)
    source, output, model = make_clip(tmp_path / "a.mp4", audio=None), tmp_path / "out.mp4", tmp_path / "m.safetensors"
    settings = {"resume": True, "box": ("20,20,30,30",), "model": str(model)}
    for content, first in ((b"one", 1), (b"one", 17), (b"another", 1)):
        if not model.exists() or model.read_bytes() != content:
            model.write_bytes(content)
        steps: list[int] = []

        def progress(done, total, steps=steps):
            steps.append(done)
            if done >= 19:
                raise Stop

        with pytest.raises(Stop):
            run(source, output, progress=progress, **settings)
        assert steps[0] == first


def test_failure_without_resume_leaves_nothing(tmp_path):
    source, output = make_clip(tmp_path / "a.mp4"), tmp_path / "out" / "o.mp4"
    output.parent.mkdir()
    with pytest.raises(Stop):
        run(source, output, progress=stop_after(3))
    assert names(output.parent) == {"masks.mkv"}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_leaves_nothing_and_ends_soon(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=200, size=(160, 120), audio=None, options={"preset": "ultrafast"})
    (tmp_path / "out").mkdir()
    child = subprocess.Popen([sys.executable, "-m", "faceinpaint_cli", "run", str(source), "-o",
                              str(tmp_path / "out" / "o.mp4"), "--box", "40,30,60,60", "--method", "telea"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "out" / ".o.mp4.faceinpaint-segments"
    end = time.monotonic() + 60
    while not folder.exists() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    assert names(tmp_path / "out") == set()


# --- bad input


def bad(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "bad.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a video " * 50)
    elif kind == "only a header":
        path.write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 300)
    elif kind == "broken off":
        path.write_bytes(make_clip(tmp_path / "whole.mp4").read_bytes()[:4000])
    elif kind == "only sound":
        with av.open(str(path), "w") as out:
            track = out.add_stream("aac", rate=48000)
            track.layout = "mono"
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 48000, 0
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
    elif kind == "changing size":
        path = path.with_suffix(".h264")
        parts = [make_clip(tmp_path / f"{i}.h264", audio=None, size=(96 - 32 * i, 80)) for i in range(2)]
        path.write_bytes(b"".join(p.read_bytes() for p in parts))
    return path


@pytest.mark.parametrize(("kind", "said"), [
    ("empty", "0 bytes"), ("text", "cannot be opened"), ("only a header", "cannot be opened"),
    ("broken off", "cannot be opened"), ("only sound", "found only audio"), ("missing", "there is none"),
    ("changing size", "changes from 96 x 80 to 64 x 80 at frame 24"),
])
def test_bad_input_is_one_clear_line(kind, said, tmp_path):
    source = bad(tmp_path, kind)
    before = names(tmp_path)
    output = tmp_path / "out.mkv"
    with pytest.raises(FaceInpaintError, match=said) as caught:
        run(source, output, box=("10,10,20,20",))
    assert "\n" not in str(caught.value) and "Errno" not in str(caught.value)
    assert names(tmp_path) == before


def test_a_changing_size_is_told_where_damage_is_looked_for(tmp_path):
    """Joined transport streams with a gap in time are copied; with damage nothing can be encoded in their place."""
    parts = [make_clip(tmp_path / f"{i}.ts", audio=None, frames=10, size=(64 + 32 * i, 80), options={"bf": "3"},
                       times=range(15 * i, 15 * i + 10), time_base=Fraction(1, 25)) for i in range(2)]
    source = tmp_path / "joined.ts"
    joined = b"".join(p.read_bytes() for p in parts)
    source.write_bytes(joined)
    config = RunConfig()
    job = Job(source, tmp_path / "whole.ts", "video", Path(source.name))
    assert repair_video(job, config, Stages(config), None).method == "copy"
    assert (tmp_path / "whole.ts").read_bytes() == joined
    source.write_bytes(joined[: 9 * 188] + joined[10 * 188 :])  # one packet lost
    with pytest.raises(FaceInpaintError, match="its picture changes from 64 x 80 to 96 x 80"):
        repair_video(Job(source, tmp_path / "out.ts", "video", Path(source.name)), config, Stages(config), None)
    assert not (tmp_path / "out.ts").exists()


def test_broken_off_matroska_is_repaired_as_far_as_it_goes(tmp_path):
    whole = make_clip(tmp_path / "whole.mkv")
    source = tmp_path / "cut.mkv"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = run(source, tmp_path / "out.mkv", box=("10,10,20,20",))
    assert 0 < result.frames < 24 and len(read_back(tmp_path / "out.mkv").times) == result.frames


def test_damaged_packets_do_not_end_the_run(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=32)
    data = bytearray(source.read_bytes())
    packet = video_packets(source)[12]
    at = bytes(data).index(packet)
    data[at + 8 : at + len(packet)] = bytes(len(packet) - 8)
    source.write_bytes(data)
    result = run(source, tmp_path / "out.mp4", range(8, 16))
    assert result.frames >= 31


@pytest.mark.parametrize(("settings", "name", "said"), [
    ({"codec": "nonsense"}, "out.mp4", "--codec nonsense is not an encoder"),
    ({"codec": "prores"}, "out.ts", "cannot be put into out.ts"),
    ({"codec": "h264_nvenc"}, "out.mp4", "h264_nvenc cannot be used"),
    ({"preset": "hurried"}, "out.mp4", "--preset"),
    ({}, "out.xyz", "no container"), ({"codec": "libx264"}, "out.wmv", "cannot be put into out.wmv"),
])
def test_impossible_output_is_one_clear_line(settings, name, said, tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=None)
    before = names(tmp_path)
    if "nvenc" in str(settings):
        try:
            av.CodecContext.create("h264_nvenc", "w")
        except av.codec.codec.UnknownCodecError:
            pytest.skip("no such encoder in this build")
    with pytest.raises(FaceInpaintError, match=said) as caught:
        run(source, tmp_path / name, box=("10,10,20,20",), **settings)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == before


@pytest.mark.parametrize(("suffix", "lost"), [
    (".ts", ["subtitle"]), (".mxf", ["audio", "subtitle"]), (".wmv", ["subtitle"]), (".mpg", ["audio", "subtitle"]),
    (".vob", ["audio", "subtitle"]), (".ogv", ["audio", "subtitle"]), (".avi", ["subtitle"]), (".flv", ["subtitle"])])
def test_what_a_container_has_no_place_for_is_named_and_left_out(suffix, lost, tmp_path, caplog):
    source = make_clip(tmp_path / "a.mkv", subtitles=True, options={"bf": "2"})
    codec = "mpeg2video" if suffix in (".mpg", ".vob") else None
    result = run(source, tmp_path / f"b{suffix}", render="full", codec=codec)
    assert result.audit["ok"]
    said = [r.getMessage() for r in caplog.records if "not carried over" in r.getMessage()]
    assert [line.split("(")[1].split(",")[0] for line in said] == lost
    assert len(result.audit["left_out"]) == len(lost)
    with av.open(str(tmp_path / f"b{suffix}")) as out:
        assert {s.type for s in out.streams} == {"video", "audio"} - set(lost)


@pytest.mark.parametrize(("covered", "said"), [(range(24), "covers all of it"),
                                               ((3, 4), "covers all of 2 of its 24 frames")])
def test_frames_of_which_nothing_is_left_are_told_and_not_counted(covered, said, tmp_path, caplog):
    source, mask = make_clip(tmp_path / "a.mp4", audio=None), tmp_path / "m.mkv"
    masks = masks_for(24, (96, 80), range(24))
    for number in covered:
        masks[number][:] = True
    config = RunConfig(method="ns", mask=str(make_mask_video(mask, masks)))
    result = repair_video(Job(source, tmp_path / "b.mp4", "video", Path("a.mp4")), config, Stages(config))
    assert f"the mask of {source} {said}: nothing is left to go by" in caplog.text
    assert (result.frames_damaged, result.frames_filled) == (24, 24 - len(covered))


@pytest.mark.parametrize(("method", "filled"), [("ns", 0), ("generator", 24)])
def test_a_box_over_the_whole_video(method, filled, tmp_path, caplog):
    source = make_clip(tmp_path / "a.mp4", audio=None)
    result = run(source, tmp_path / "b.mp4", box=("0,0,96,80",), method=method)
    assert caplog.text.count("covers all of it: nothing is left to go by") == 1
    assert (result.frames_damaged, result.frames_filled) == (24, filled)


def test_an_encoder_says_nothing_of_its_own(tmp_path):
    """In a process of its own: what SVT-AV1 is to say it is told once."""
    source = make_clip(tmp_path / "a.mp4", audio=None, frames=2)
    done = subprocess.run([sys.executable, "-m", "faceinpaint_cli", "run", str(source), "-o", str(tmp_path / "b.mp4"),
                           "--box", "9,9,9,9", "--method", "ns", "--codec", "av1"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


def test_what_a_container_refuses_is_told_before_the_work(tmp_path):
    """MXF knows a few rates."""
    source = make_clip(tmp_path / "a.mp4", audio=None, rate=19)
    done = []
    with pytest.raises(OutputError, match=r"\.mxf cannot hold this video.*\.mkv, or another --codec") as caught:
        run(source, tmp_path / "b.mxf", progress=lambda *of: done.append(of))
    assert not done and "\n" not in str(caught.value) and "tmp" not in str(caught.value)
    assert names(tmp_path) == {"a.mp4", "masks.mkv"}


@pytest.mark.parametrize("marked", [[3], []])
def test_mask_video_too_long_is_refused(marked, tmp_path):
    """Also where it marks nothing in the frames that there are."""
    source = make_clip(tmp_path / "a.mp4")
    mask = make_mask_video(tmp_path / "m.mkv", masks_for(48, (96, 80), marked))
    config = RunConfig(mask=str(mask), method="telea")
    with pytest.raises(MaskError, match=r"m\.mkv has 48 frames, but .*a\.mp4 has 24"):
        repair_video(Job(source, tmp_path / "b.mp4", "video", Path("a.mp4")), config, Stages(config))
    assert names(tmp_path) == {"a.mp4", "m.mkv"}


def test_mask_video_too_short_is_refused(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=None)
    short = make_mask_video(tmp_path / "short.mkv", masks_for(10, (96, 80), range(10)))
    with pytest.raises(FaceInpaintError, match="10 frames"):
        run(source, tmp_path / "out.mp4", box=(), mask=str(short))
    assert not (tmp_path / "out.mp4").exists()


# --- damage in the bitstream


def broken(tmp_path: Path, *numbers: int) -> Path:
    """A clip of three groups in which the second halves of these packets are zeroed."""
    source = make_clip(tmp_path / "broken.mp4", options={"bf": "0"}, size=(160, 128))
    data = bytearray(source.read_bytes())
    packets = video_packets(source)
    for number in numbers:
        packet = packets[number]
        at = bytes(data).index(packet) + len(packet) // 2
        data[at : at + len(packet) // 2] = bytes(len(packet) // 2)
    source.write_bytes(data)
    return source


def test_damage_is_found_and_mended_and_clean_groups_are_copied(tmp_path):
    source, output = broken(tmp_path, 10), tmp_path / "out.mp4"
    config = RunConfig(preset="ultrafast")
    shown = Shown()
    result = repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config, shown), None)
    assert result.method == "in-loop" and result.audit["ok"], result.audit
    assert result.frames == 24 and 1 <= result.frames_damaged <= 8
    assert result.audit["render"] == "smart" and result.audit["frames_copied"] == 16
    assert result.audit["damage"]["damaged"] and result.audit["damage"]["mended"]
    numbers = [number for number, *_ in shown.pictures]
    assert numbers and set(numbers) <= set(range(8, 16))
    assert set(np.flatnonzero(shown.strip[1])) <= set(range(8, 16))
    assert_same_file_around(source, output)
    p, q = video_packets(source), video_packets(output)
    assert p[:8] == q[:8] and p[16:] == q[16:] and p[10] != q[10]


def test_lost_packets_are_put_back_in_time(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", options={"bf": "0"}, size=(160, 128))
    source, output = tmp_path / "lost.mp4", tmp_path / "out.mp4"
    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        streams = {s.index: b.add_stream_from_template(s, opaque=True) for s in a.streams}
        number = 0
        for packet in a.demux():
            if packet.size:
                number += packet.stream.type == "video"
                if packet.stream.type == "video" and number == 12:
                    continue
                packet.stream = streams[packet.stream_index]
                b.mux(packet)
    assert len(read_back(source).times) == 23
    config = RunConfig(preset="ultrafast")
    result = repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config), None)
    assert result.frames == 24 and result.audit["ok"], result.audit
    assert read_back(output).times == read_back(whole).times
    assert read_back(output).packets == read_back(whole).packets


def test_a_damaged_raw_stream_is_copied_with_advice(tmp_path, caplog):
    source, output = make_clip(tmp_path / "a.h264", audio=None, size=(160, 128)), tmp_path / "out.h264"
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    source.write_bytes(data)
    config = RunConfig()
    result = repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config), None)
    assert "is damaged" in caplog.text and "put it into a container" in caplog.text
    assert result.method == "none" and result.frames_damaged > 0 and result.audit["damage"]["not_mended"]
    assert output.read_bytes() == source.read_bytes()


def test_pictures_hidden_by_an_edit_list_stay_hidden_and_the_others_in_time(tmp_path):
    def cut(number: int | None) -> Path:
        """The clip from its seventh picture on, without encoding; the second half of this packet zeroed."""
        path = tmp_path / f"cut{number}.mp4"
        with av.open(str(whole)) as a, av.open(str(path), "w") as b:
            stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
            for i, packet in enumerate(p for p in a.demux(video=0) if p.size):
                data = bytes(packet)
                copy = av.Packet(data if i != number else data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
                copy.pts, copy.dts, copy.duration = packet.pts - 6 * 512, packet.dts - 6 * 512, packet.duration
                copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                b.mux(copy)
        return path

    whole = make_clip(tmp_path / "whole.mp4", options={"bf": "2"}, size=(160, 128), audio=None, gop=16, frames=32)
    source, output = cut(20), tmp_path / "out.mp4"
    config = RunConfig(preset="ultrafast", crf=10)
    result = repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config), None)
    assert result.audit["damage"]["damaged"] and result.audit["damage"]["frames"] == result.frames == 26
    a, b = read_back(cut(None)), read_back(output)
    assert len(a.times) == len(b.times) == 26
    assert all(np.abs(x[0].astype(int) - y[0]).mean() < 2 for x, y in zip(a.planes[:10], b.planes, strict=False))


def test_a_clean_clip_is_copied_without_what_only_repairs_need(tmp_path):
    """Importing those takes longer than decoding a short clip."""
    source, output = make_clip(tmp_path / "a.mp4"), tmp_path / "out.mp4"
    command = [sys.executable, "-X", "importtime", "-m", "faceinpaint_cli", "run", str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert output.read_bytes() == source.read_bytes()
    assert "av" in modules and not modules & {"torch", "cv2", "PIL", "torchmetrics"}


def test_without_any_keyframe_all_pictures_are_shown(tmp_path):
    """A usual player shows nothing of such a file."""
    whole = make_clip(tmp_path / "whole.mp4", gop=40)
    source, output = tmp_path / "a.mkv", tmp_path / "out.mkv"
    with av.open(str(whole)) as a, av.open(str(source), "w") as b:
        copies = {s.index: b.add_stream_from_template(s, opaque=True) for s in a.streams}
        for packet in (p for p in a.demux() if p.size):
            if not (packet.stream.type == "video" and packet.is_keyframe):
                packet.stream = copies[packet.stream_index]
                b.mux(packet)
    assert not read_back(source).times
    config = RunConfig(preset="ultrafast")
    result = repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config), None)
    assert result.audit["ok"] and result.audit["damage"]["onsets"][0]["signs"][0] == "no keyframe"
    assert len(read_back(output).times) == 23
    assert read_back(output).packets == read_back(source).packets


@pytest.mark.parametrize(("codec", "options", "name", "sets"), [
    ("libx265", {"x265-params": "log-level=none", "preset": "ultrafast"}, b"hvcC", range(45, 75)),
    ("libx264", {}, b"avcC", range(4, 34)),
])
def test_an_unreadable_parameter_set_of_the_container_is_one_error(codec, options, name, sets, tmp_path):
    source = make_clip(tmp_path / "a.mp4", codec=codec, options=options)
    data = bytearray(source.read_bytes())
    record = data.find(name)
    for place in sets:
        data[record + place] ^= 0x5A
    source.write_bytes(data)
    config = RunConfig()
    with pytest.raises(FaceInpaintError, match="no picture"):
        repair_video(Job(source, tmp_path / "out.mp4", "video", Path(source.name)), config, Stages(config), None)
    assert not (tmp_path / "out.mp4").exists()
