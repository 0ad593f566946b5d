"""Index, groups, decoding times, parameter sets, encoders and the queue between threads."""

import errno
import os
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import make_clip

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import OutputError, UsageError
from faceinpaint_cli.media.encoders import choose_encoder, fits
from faceinpaint_cli.media.segments import EncodedPacket, SegmentFacts, SegmentStore
from faceinpaint_cli.media.smart_render import SPS, Joiner, _parameter_sets, free_parameter_set
from faceinpaint_cli.media.video_index import decoding_times, index_video, reorder_delay, with_missing
from faceinpaint_cli.media.video_reader import DecodeLog, read_frames
from faceinpaint_cli.pipeline.overlap import ahead


def test_index_of_a_clip(tmp_path):
    index = index_video(make_clip(tmp_path / "a.mp4", options={"bf": "2"}))
    assert (index.codec, index.width, index.height, index.frames, index.exact) == ("h264", 96, 80, 24, True)
    assert [g.frames for g in index.groups] == [(0, 8), (8, 16), (16, 24)]
    assert index.rate == 25 and (np.diff(index.times) == Fraction(1, 25) / index.time_base).all()
    assert reorder_delay(index.pts) > 0
    assert (index.dts <= index.pts).all() and (np.diff(index.dts) > 0).all()


def test_matroska_gets_the_decoding_times_that_it_does_not_store(tmp_path):
    index = index_video(make_clip(tmp_path / "a.mkv", options={"bf": "3"}))
    assert (index.dts <= index.pts).all() and (np.diff(index.dts) > 0).all()


def test_open_groups_are_not_cut(tmp_path):
    """With open groups pictures shown before the key picture follow it and refer back: no cut there."""
    closed = index_video(make_clip(tmp_path / "a.mp4", frames=32, options={"bf": "3", "b-pyramid": "none"}))
    opened = index_video(make_clip(tmp_path / "b.mp4", frames=32, options={
        "bf": "3", "x264-params": "open-gop=1:b-adapt=0"}))
    assert len(closed.groups) == 4 and len(opened.groups) < 4
    assert opened.groups[0].packets[0] == 0 and opened.groups[-1].packets[1] == 32


@pytest.mark.parametrize("spans", [[(0, 24)], [(9, 11)], [(3, 5), (20, 24)], [(7, 9)], []])
def test_reader_gives_the_frames_asked_for(spans, tmp_path):
    index = index_video(make_clip(tmp_path / "a.mp4", options={"bf": "2"}))
    every = dict(read_frames(index, [(0, 24)], DecodeLog()))
    assert sorted(every) == list(range(24)) and all(f.pts == index.times[n] for n, f in every.items())
    part = {n: f.to_ndarray() for n, f in read_frames(index, spans, DecodeLog())}
    assert sorted(part) == [n for a, b in spans for n in range(a, b)]
    assert all(np.array_equal(part[n], every[n].to_ndarray()) for n in part)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 1, 4, 3], [0, 4, 2, 1, 3, 8, 6, 5, 7]])
def test_decoding_times_never_follow_display(order):
    pts = np.array(order, np.int64) * 40 + 7
    dts = decoding_times(np.sort(pts), reorder_delay(pts), 40)
    assert (dts <= pts).all() and (np.diff(dts) > 0).all()


def test_missing_frames_belong_to_the_group_that_they_end(tmp_path):
    source = make_clip(tmp_path / "a.mp4", times=[i if i < 8 else i + 1 for i in range(24)], time_base=Fraction(1, 25))
    index = index_video(source)
    gap = int(index.times[7] + (index.times[1] - index.times[0]))
    fuller = with_missing(index, [gap, int(index.times[3])])
    assert fuller.frames == 25 and fuller.times[8] == gap
    assert [g.frames for g in fuller.groups] == [(0, 9), (9, 17), (17, 25)]
    assert [g.packets for g in fuller.groups] == [(0, 8), (8, 16), (16, 24)]


def test_parameter_sets_get_a_free_number_and_stand_in_the_record(tmp_path):
    def extradata(**options):
        path = make_clip(tmp_path / "a.mp4", frames=2, audio=None, options=options)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return stream.codec_context.extradata, bytes(next(container.demux(stream)))

    record, packet = extradata()
    assert free_parameter_set(record, packet) == 5
    taken, packet = extradata(**{"x264-params": "sps-id=5"})
    assert free_parameter_set(taken, packet) == 6
    encoder = choose_encoder(RunConfig(), index_video(tmp_path / "a.mp4"), "mp4", tmp_path / "b.mp4")
    context = encoder.open(index_video(tmp_path / "a.mp4"), global_header=False)
    frame = av.VideoFrame(96, 80, "yuv420p")
    frame.pts = 0
    data = b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])
    joined = Joiner("h264", record).extradata(data)
    before, after = _parameter_sets(record), _parameter_sets(joined)
    assert len(after[0]) == len(before[0]) + 1 and len(after[1]) == len(before[1]) + 1 and after[2] == before[2]
    assert after[0][0] == before[0][0] and after[0][1][0] & 31 == SPS
    packed = Joiner("h264", record).pack(data)
    assert int.from_bytes(packed[:4], "big") < len(packed) and not packed.startswith(b"\0\0\0\1")


@pytest.mark.parametrize(("codec", "name", "pixel_format", "format_name", "expected"), [
    ("libx264", "a.mp4", "yuv420p", "mp4", "libx264"), ("libx264", "a.mp4", "yuv420p", "webm", "libvpx-vp9"),
    ("ffv1", "a.mkv", "yuv420p", "matroska", "ffv1"), ("ffv1", "a.mkv", "yuv420p", "mpegts", "libx264"),
    ("mpeg2video", "a.mpg", "yuv420p", "mpeg", "mpeg2video"),
])
def test_encoder_follows_source_and_container(codec, name, pixel_format, format_name, expected, tmp_path):
    index = index_video(make_clip(tmp_path / name, codec=codec, pixel_format=pixel_format, frames=2, audio=None))
    chosen = choose_encoder(RunConfig(), index, format_name, tmp_path / "out.x")
    assert (chosen.name, chosen.pixel_format) == (expected, pixel_format)


def test_crf_and_preset_reach_the_encoder(tmp_path):
    index = index_video(make_clip(tmp_path / "a.mp4", frames=2, audio=None))
    chosen = choose_encoder(RunConfig(crf=31, preset="fast"), index, "mp4", tmp_path / "b.mp4")
    assert chosen.options["crf"] == "31" and chosen.options["preset"] == "fast"
    assert choose_encoder(RunConfig(codec="mpeg4", crf=5), index, "mp4", tmp_path / "b.mp4").quantiser == 5
    with pytest.raises(UsageError, match="--codec x is not"):
        choose_encoder(RunConfig(codec="x"), index, "mp4", tmp_path / "b.mp4")
    assert fits("ffv1", "matroska") and not fits("ffv1", "webm") and not fits("ffv1", "mpegts")


def test_what_hevc_is_told_of_the_source_is_told_in_order_too(tmp_path):
    said = "log-level=error:interlace=bff"
    index = index_video(make_clip(tmp_path / "a.mkv", size=(96, 80), codec="libx265", audio=None, frames=4,
                                  options={"x265-params": f"{said}:bframes=0"}))
    chosen = choose_encoder(RunConfig(), index, "mxf", tmp_path / "b.mxf")
    assert chosen.options["x265-params"] == f"{said}:bframes=0"


@pytest.mark.parametrize("codec", ["mpeg4", "ffv1", "prores", "mjpeg"])
def test_a_preset_that_means_nothing_is_told(codec, tmp_path, caplog):
    index = index_video(make_clip(tmp_path / "a.mp4", frames=2, audio=None))
    chosen = choose_encoder(RunConfig(codec=codec, preset="nonsense"), index, "matroska", tmp_path / "b.mkv")
    assert f"--preset means nothing to the encoder {chosen.name} and is not used" in caplog.text
    assert "preset" not in chosen.options


@pytest.mark.parametrize(("codec", "crf", "said"), [
    (None, 51.5, "from 0 to 51 for the encoder libx264, not 51.5"), ("hevc", 63, "51 for the encoder libx265, not 63")])
def test_a_crf_that_the_encoder_does_not_take_is_one_clear_line(codec, crf, said, tmp_path):
    index = index_video(make_clip(tmp_path / "a.mp4", frames=2, audio=None))
    with pytest.raises(UsageError, match=said):
        choose_encoder(RunConfig(codec=codec, crf=crf), index, "mp4", tmp_path / "b.mp4")


@pytest.mark.parametrize("crf", [0, 0.5, 1, 51, 63])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "vp8", "vp9", "av1"])
def test_encoders_open_with_every_crf_that_they_take(codec, crf, tmp_path):
    if crf > 51 and codec.startswith("libx"):
        pytest.skip("refused")
    index = index_video(make_clip(tmp_path / "a.mp4", frames=2, audio=None, options={"profile": "high"}))
    assert index.look.profile == "High"
    chosen = choose_encoder(RunConfig(codec=codec, crf=crf), index, "matroska", tmp_path / "b.mkv")
    chosen.open(index, global_header=False)
    if codec == "libx264":
        assert ("profile" in chosen.options) == (crf >= 1)


def test_what_a_container_takes_is_known_before(tmp_path):
    assert fits("libvpx", "ogg") and fits("libvpx", "ogv") and not fits("libx264", "ogv")
    index = index_video(make_clip(tmp_path / "a.mp4", frames=2, audio=None))
    with pytest.raises(OutputError, match=r"in \.avi, or another"):
        choose_encoder(RunConfig(codec="utvideo"), index, "matroska", tmp_path / "b.mkv")


@pytest.mark.skipif(os.name != "posix", reason="needs file locks")
def test_two_runs_do_not_write_one_output(tmp_path):
    output = tmp_path / "out.mp4"
    with SegmentStore(output, {"a": 1}, keep=True) as store:
        store.add(SegmentFacts(0, 1, [0]), [EncodedPacket(0, True, b"x")])
        for keep in (False, True):
            with pytest.raises(OutputError, match="another run is at work on it; let it end"), \
                    SegmentStore(output, {"a": 1}, keep=keep):
                pytest.fail("must not come here")
        assert [p.data for p in store.packets(0)] == [b"x"]
    with SegmentStore(output, {"a": 1}, keep=False) as store:  # the first has ended
        assert not store.facts
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"), SegmentStore(tmp_path / "o.mp4", {"a": 1}, keep=True):
        pytest.fail("must not come here")
    assert not list(tmp_path.iterdir())


def test_unfinished_segments_do_not_count(tmp_path):
    packets = [EncodedPacket(3, True, b"abc"), EncodedPacket(4, False, b"")]

    def breaking():
        yield packets[0]
        raise RuntimeError

    output = tmp_path / "o.mp4"
    with pytest.raises(RuntimeError), SegmentStore(output, {"a": 1}, keep=True) as store:
        store.add(SegmentFacts(3, 5, [3, 4], "PP", 1), packets)
        store.add(SegmentFacts(5, 7), breaking())
    with pytest.raises(KeyError), SegmentStore(output, {"a": 1}, keep=True) as store:
        assert list(store.facts) == [3] and store.facts[3].delay == 1
        assert list(store.packets(3)) == packets
        raise KeyError
    with SegmentStore(output, {"a": 2}, keep=True) as store:
        assert not store.facts
    assert not store.folder.exists()


def test_an_interruption_keeps_what_is_encoded_though_nobody_asked(tmp_path):
    output = tmp_path / "o.mp4"
    with pytest.raises(KeyboardInterrupt), SegmentStore(output, {"a": 1}, keep=False) as store:
        store.add(SegmentFacts(0, 2, [0, 1]), [EncodedPacket(0, True, b"x")])
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError), SegmentStore(output, {"a": 1}, keep=True) as store:
        assert list(store.facts) == [0]
        raise RuntimeError
    with pytest.raises(RuntimeError), SegmentStore(output, {"a": 1}, keep=False) as store:
        assert not store.facts  # begun anew
        store.add(SegmentFacts(0, 2, [0, 1]), [EncodedPacket(0, True, b"x")])
        raise RuntimeError
    assert not store.folder.exists()



def test_ahead_keeps_order_and_bounds():
    made = []

    def numbers():
        for i in range(20):
            made.append(i)
            yield i

    seen = []
    for i in ahead(numbers(), 2):
        time.sleep(0.002)
        assert len(made) <= i + 5
        seen.append(i)
    assert seen == list(range(20))


def test_ahead_passes_errors_on_and_ends_its_threads():
    def failing():
        yield 1
        raise ValueError("in the thread")

    before = threading.active_count()
    chained = ahead(ahead(failing(), 1), 1)
    assert next(chained) == 1
    with pytest.raises(ValueError, match="in the thread"):
        next(chained)
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    stopped = ahead(endless(), 2)
    next(stopped)
    stopped.close()
    assert closed and closed[0] != threading.current_thread().name
    assert threading.active_count() == before


def test_ahead_loses_patience():
    def stuck():
        yield 1
        time.sleep(1.5)
        yield 2

    items = ahead(stuck(), 2, patience=0.2)
    assert next(items) == 1
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        next(items)
    assert time.monotonic() - start < 1.2
