"""Single wrong bits in H.264, found by decoding and set right in the file itself."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, scene

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.bit_trials import find_wrong_bits
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.damage.unread import unread_pictures
from faceinpaint_cli.gallery import Gallery
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_expendable import expendable
from faceinpaint_cli.media.h264_headers import ParameterSets, is_slice
from faceinpaint_cli.media.h264_nal import join, length_size, split
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.turned_bits import copy_with_turned_bits, turned
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.pipeline.video_show import STRIP, WORST
from faceinpaint_cli.types import Job


def make_clip(path: Path, **options: str) -> Path:
    """Three groups of eight."""
    noise = np.random.default_rng(3).integers(0, 5, (144, 176))
    pictures = ((scene(i, 144, 176) * 0.9 + noise).astype(np.uint8) for i in range(24))
    fixed = {"crf": "16", "keyint_min": "8", "sc_threshold": "0", "threads": "1"}
    return encode(path, "libx264", pictures, 8, options=fixed | options)


def packets_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]


def with_packets(source: Path, target: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """The clip with other data in its packets."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        packets = (p for p in container.demux(container.streams.video[0]) if p.size)
        for number, packet in enumerate(packets):
            other = av.Packet(change(number, bytes(packet)))
            other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
            other.time_base, other.is_keyframe, other.stream = packet.time_base, packet.is_keyframe, stream
            out.mux(other)
    return target


CODINGS = [{}, {"x264-params": "cabac=0"}, {"bf": "0", "refs": "4"}, {"slices": "3"}]


@pytest.mark.parametrize("options", CODINGS, ids=str)
def test_an_expendable_picture_is_the_same_and_leaves_no_trace(tmp_path: Path, options: dict[str, str]) -> None:
    clip = make_clip(tmp_path / "clip.mp4", **options)
    true = decoded(clip)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        prefix = length_size("h264", stream.codec_context.extradata)
        sets = ParameterSets.from_extradata(stream.codec_context.extradata)
        packets = [p for p in container.demux(stream) if p.size]
        for place in (3, 4, 8, 13):
            units = [u.data for u in split(bytes(packets[place]), prefix)]
            trial = av.Packet(join([expendable(u, sets)[1](u) if is_slice(u) else u for u in units], prefix))
            trial.pts = packets[place].pts
            for following in ([], packets[place:]):
                context = tolerant.open_decoder(stream, threads=False)
                shown: dict[int, np.ndarray] = {}
                for packet in [*packets[:place], *[trial] * (1 if not following else 40), *following, None]:
                    frames, error = tolerant.decode_one(context, packet)
                    assert error is None
                    shown |= {f.pts: planes_of(f)[0] for f in frames}
                assert trial.pts in shown and len(shown) >= place  # of doubles some are never shown
                assert all(np.array_equal(luma, true[time][0]) for time, luma in shown.items())


@pytest.mark.parametrize("options", [{}, {"x264-params": "cabac=0", "bf": "0"}, {"slices": "2", "bf": "0"}], ids=str)
def test_a_wrong_bit_is_found(tmp_path: Path, options: dict[str, str]) -> None:
    clip = make_clip(tmp_path / "clip.mp4", **options)
    hit = 8
    byte = len(packets_of(clip)[hit]) // 4
    damaged = with_packets(clip, tmp_path / "damaged.mp4",
                           lambda n, data: turned(data, [(byte, 4)]) if n == hit else data)
    found = diagnose(damaged)
    assert [o.packet for g in found.groups for o in g.onsets] == [hit]
    wrong = find_wrong_bits(found)
    assert [(w.packet, w.bits, w.sure) for w in wrong] == [(hit, ((byte, 4),), True)]


def test_slices_of_a_few_bytes_beside_a_hit_one_are_no_error(tmp_path: Path) -> None:
    still = np.concatenate([scene(0, 144, 176)[:96] // 2, np.full((48, 176), 90, np.uint8)])
    moving = [np.concatenate([scene(i, 144, 176)[:96], still[96:]]) for i in range(24)]
    options = {"slices": "3", "bf": "0", "crf": "16", "threads": "1", "x264-params": "weightp=0"}
    clip = encode(tmp_path / "clip.mp4", "libx264", moving, 8, options=options)
    with av.open(str(clip)) as container:
        prefix = length_size("h264", container.streams.video[0].codec_context.extradata)
    slices = [u.data for u in split(packets_of(clip)[12], prefix)]
    assert len(slices[-1]) < 14 < len(slices[0]), "the last slice only says that nothing moves"
    byte = prefix + len(slices[0]) // 4
    damaged = with_packets(clip, tmp_path / "damaged.mp4",
                           lambda n, data: turned(data, [(byte, 4)]) if n == 12 else data)
    assert find_wrong_bits(diagnose(damaged)) == [], "too little of the slice follows to prove a bit"


def test_lost_bytes_are_no_wrong_bit(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")

    def shorter(number: int, data: bytes) -> bytes:
        if number % 8 != 3:
            return data
        return (len(data) - 104).to_bytes(4, "big") + data[4:80] + data[180:]

    found = diagnose(with_packets(clip, tmp_path / "damaged.mp4", shorter))
    assert sum(len(g.onsets) for g in found.groups) >= 2
    assert find_wrong_bits(found) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi", ".flv"])
def test_bits_are_turned_in_any_container(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"clip{suffix}", bf="0")
    before = packets_of(clip)
    places = {n: [(len(before[n]) * (n + 1) // 30, n % 8)] for n in (0, 5, 17, 23)}
    target = tmp_path / f"other{suffix}"
    assert copy_with_turned_bits(clip, target, places) == sorted(places)
    assert target.stat().st_size == clip.stat().st_size
    after = packets_of(target)
    for number, data in enumerate(before):
        assert after[number] == (turned(data, places[number]) if number in places else data)
    assert copy_with_turned_bits(target, tmp_path / f"again{suffix}", places) == sorted(places)
    assert (tmp_path / f"again{suffix}").read_bytes() == clip.read_bytes()


def test_a_file_with_one_wrong_bit_comes_back_as_it_was(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    sizes = [len(data) for data in packets_of(clip)]
    hit = 8
    damaged, output = tmp_path / "damaged.mp4", tmp_path / "out" / "whole.mp4"
    assert copy_with_turned_bits(clip, damaged, {hit: [(sizes[hit] // 4, 4)]}) == [hit]
    config = RunConfig(device="cpu")
    result = repair_video(Job(damaged, output, "video", Path("damaged.mp4")), config, Stages(config))
    assert output.read_bytes() == clip.read_bytes()
    assert (result.method, result.frames, result.frames_filled) == ("bits", 24, 0)
    assert 0 < result.frames_damaged <= 8
    damage = result.audit["damage"]
    assert damage["damaged"] and [m["how"] for m in damage["mended"]] == ["bit"]
    assert list(output.parent.iterdir()) == [output]


def test_what_is_not_a_wrong_bit_is_mended_beside_one(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", bf="0")
    sizes = [len(data) for data in packets_of(clip)]

    def hurt(number: int, data: bytes) -> bytes:
        if number == 8:
            return turned(data, [(sizes[8] // 4, 4)])
        return data[: len(data) * 4 // 10] + bytes(len(data) - len(data) * 4 // 10) if number == 18 else data

    damaged, output = with_packets(clip, tmp_path / "damaged.mp4", hurt), tmp_path / "whole.mp4"
    found = find_wrong_bits(diagnose(damaged))
    assert [(w.packet, w.bits) for w in found] == [(8, ((sizes[8] // 4, 4),))]
    config = RunConfig(device="cpu")
    result = repair_video(Job(damaged, output, "video", Path("damaged.mp4")), config, Stages(config))
    assert result.method == "in-loop" and result.audit["ok"]
    assert result.audit["damage"]["mended"][0]["how"] == "bit"
    true, own = decoded(clip), decoded(output)
    assert all(np.array_equal(true[t][0], own[t][0]) for t in sorted(true)[:16])
    assert not np.array_equal(true[sorted(true)[18]][0], own[sorted(true)[18]][0])


def test_other_codecs_are_left_alone(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", "mpeg4", (scene(i, 144, 176) for i in range(12)))
    size = len(packets_of(clip)[4])
    damaged = with_packets(clip, tmp_path / "damaged.mp4",
                           lambda n, data: data[: size // 3] + bytes(size - size // 3) if n == 4 else data)
    found = diagnose(damaged)
    assert found.damaged and find_wrong_bits(found) == []


def test_the_page_shows_where_the_damage_was(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    damaged, page = tmp_path / "damaged.mp4", tmp_path / "page.html"
    copy_with_turned_bits(clip, damaged, {8: [(len(packets_of(clip)[8]) // 4, 1)]})
    config = RunConfig(device="cpu")
    job = Job(damaged, tmp_path / "whole.mp4", "video", Path("damaged.mp4"))
    with Gallery(page) as gallery:
        repair_video(job, config, Stages(config, gallery))
    rows = page.read_text().split("<figure>")[1:]
    assert 1 <= len(rows) - 1 <= WORST and all(row.count("<img") == 3 for row in rows[:-1])
    assert rows[-1].count("<img") == STRIP and "8 of 24 frames damaged" in rows[-1]
    assert '<rect x="33.333" width="33.333"' in rows[-1] and "0.32 s to 0.64 s" in rows[-1]


@pytest.mark.parametrize("options", CODINGS, ids=str)
def test_whole_slices_are_needed_to_their_ends(tmp_path: Path, options: dict[str, str]) -> None:
    assert unread_pictures(make_clip(tmp_path / "clip.mp4", **options)) == []


def test_pictures_are_seen_that_decode_to_something_else_without_a_word(tmp_path: Path) -> None:
    """Where the decoder notices other damage; a file in which it notices none is not searched."""
    clip = make_clip(tmp_path / "clip.mp4", bf="0")

    def hurt(*numbers: int) -> Callable[[int, bytes], bytes]:
        def change(number: int, data: bytes) -> bytes:
            third = len(data) // 3
            return data[:third] + bytes(40) + data[third + 40 :] if number in numbers else data

        return change

    silent = [n for n in range(1, 24) if not diagnose(with_packets(clip, tmp_path / "one.mp4", hurt(n))).damaged]
    told = [n for n in range(1, 24) if n not in silent and n % 8]
    unread = [n for n in silent if unread_pictures(with_packets(clip, tmp_path / "one.mp4", hurt(n))) == [n]]
    assert len(unread) >= 3 and told
    hit = next(n for n in unread if n // 8 != told[0] // 8)
    found = diagnose(with_packets(clip, tmp_path / "two.mp4", hurt(hit, told[0])))
    signs = {o.packet: o.signs for g in found.groups for o in g.onsets}
    assert signs[hit] == ("its slice ends before its data",) and told[0] in signs
