"""HEVC pictures that are lost whole: told by what others refer to, put in, and filled in the decoder's loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, remuxed, scene

from faceinpaint_cli.damage.evidence import Diagnosis, diagnose
from faceinpaint_cli.damage.gaps import CodedPicture
from faceinpaint_cli.damage.references import absent_references
from faceinpaint_cli.fill.motion import Lost
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.coded_size import with_whole_macroblocks
from faceinpaint_cli.media.h264_nal import length_size
from faceinpaint_cli.media.hevc_headers import Header, HevcHeaders
from faceinpaint_cli.media.mpeg4_headers import BIDIRECTIONAL, INTRA, Clock, Mpeg4Headers
from faceinpaint_cli.media.optical_flow import Planes
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_reader import DecodeLog, with_data
from faceinpaint_cli.pipeline.course import Course
from faceinpaint_cli.pipeline.inplace import InPlace
from faceinpaint_cli.pipeline.video_damage import MendedFrames

SIZE = (144, 176)
QUIET = "log-level=none:pools=1:frame-threads=1"
CASES = {
    "no B": f"{QUIET}:bframes=0:keyint=20:min-keyint=20:scenecut=0",
    "open groups": f"{QUIET}:keyint=20:min-keyint=20:scenecut=0",
    "closed groups": f"{QUIET}:keyint=20:min-keyint=20:scenecut=0:open-gop=0",
    "no filters": f"{QUIET}:keyint=20:sao=0:no-deblock=1:wpp=0:weightp=0:ref=2",
}


def make_clip(folder: Path, case: str, suffix: str = ".mp4", motion: bool = True) -> Path:
    options = CASES[case] + ("" if motion else ":temporal-mvp=0")
    return encode(folder / f"clean{suffix}", "libx265", (scene(i, *SIZE) for i in range(40)), 20,
                  options={"x265-params": options})


def headers(path: Path) -> tuple[list[CodedPicture], list[Header | None]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata
        reader = HevcHeaders(extradata, length_size("hevc", extradata))
        packets = [p for p in container.demux(stream) if p.size]
        return ([CodedPicture(i, p.pts, p.dts, p.duration or 0, p.is_keyframe) for i, p in enumerate(packets)],
                [reader.of(bytes(p)) for p in packets])


def without(clip: Path, lost: Iterable[int]) -> Path:
    return remuxed(clip, clip.with_stem("dropped"), lambda n, data: None if n in lost else data)


def destroyed(clip: Path, lost: Iterable[int]) -> Path:
    return remuxed(clip, clip.with_stem("zeroed"), lambda n, data: bytes(len(data)) if n in lost else data)


def referred(clip: Path, key: bool = False) -> list[int]:
    """Packets inside of the file that later ones refer to."""
    found = headers(clip)[1]
    return [i for i, header in enumerate(found) if header is not None and 3 < i < 30 and header.is_key == key
            and any(later is not None and header.count in (later.refers or ()) for later in found[i + 1 : i + 6])]


def mended(path: Path, diagnosis: Diagnosis, fill: Callable[[Lost], tuple[Planes, str]] | None) -> dict[int, Planes]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = (p for p in container.demux(stream) if p.size)
        frames = InPlace(diagnosis, stream, fill).frames(packets, 0, [], lambda place, error: None)
        return {f.pts: planes_of(f) for f in frames}


def whole(path: Path) -> dict[int, Planes]:
    frames = MendedFrames.of(index_video(path), diagnose(path))
    spans = [(0, frames.source.frames)]
    return {int(frames.source.times[n]): planes_of(f) for n, f in frames.read(spans, DecodeLog())}


def psnr(a: Planes, b: Planes) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a[0].astype(float) - b[0]) ** 2), 1e-9)))


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_missing_in_a_whole_stream_nor_before_its_beginning(tmp_path: Path, case: str) -> None:
    clip = make_clip(tmp_path, case)
    pictures, found = headers(clip)
    assert all(h is not None and h.keeps is not None for h in found)
    assert absent_references(pictures, found) == ([], set())
    key = [p.index for p in pictures if p.keyframe][1]
    assert absent_references(*headers(without(clip, range(key)))) == ([], set())


@pytest.mark.parametrize("lose", [without, destroyed])
@pytest.mark.parametrize("case", CASES)
def test_a_lost_picture_is_told_and_the_true_one_makes_the_rest_exact(
    tmp_path: Path, case: str, lose: Callable[[Path, Iterable[int]], Path]
) -> None:
    clip = make_clip(tmp_path, case, motion=False)
    clean = decoded(clip)
    pictures, found = headers(clip)
    hit = referred(clip)[3]
    damaged = lose(clip, {hit})
    diagnosis = diagnose(damaged)
    missing = [m for g in diagnosis.groups for m in g.missing]
    onsets = [o for g in diagnosis.groups for o in g.onsets]
    assert [(h.pts, h.order) for h in (*missing, *onsets)] == [(pictures[hit].pts, found[hit].count)], "nothing else"
    shown = mended(damaged, diagnosis, lambda picture: (clean[picture.time], "true"))
    assert list(shown) == sorted(clean), "in order of display"
    assert all((a == b).all() for t in clean for a, b in zip(clean[t], shown[t], strict=True))


@pytest.mark.parametrize("case", ["open groups", "closed groups"])
def test_a_lost_keyframe_is_put_in(tmp_path: Path, case: str) -> None:
    clip = make_clip(tmp_path, case, motion=False)
    clean = decoded(clip)
    (key,) = referred(clip, key=True)
    for damaged in (without(clip, {key}), destroyed(clip, {key})):
        shown = mended(damaged, diagnose(damaged), lambda picture: (clean[picture.time], "true"))
        assert list(shown) == sorted(clean)
        assert all((a == b).all() for t in clean for a, b in zip(clean[t], shown[t], strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_fill_is_far_better_than_grey_and_than_a_still(tmp_path: Path, case: str) -> None:
    clip = make_clip(tmp_path, case)
    clean = decoded(clip)
    times, grey, still, after = sorted(clean), [], [], []
    for hit in referred(clip)[2:8:2]:
        damaged = without(clip, {hit})
        plain, shown = decoded(damaged), whole(damaged)
        assert list(shown) == times, "as many as there were"
        hurt = [t for t in times if t not in plain or psnr(clean[t], plain[t]) < 45]
        last = max(t for t in times if t < hurt[0])
        grey += [psnr(clean[t], plain[max(p for p in plain if p <= t)]) for t in hurt]
        still += [psnr(clean[t], clean[last]) for t in hurt]
        after += [min(psnr(clean[t], shown[t]), 60) for t in hurt]
    assert np.mean(after) > max(np.mean(grey), np.mean(still)) + 5


def test_a_picture_that_begins_a_scene_is_not_filled_from_the_one_before(tmp_path: Path) -> None:
    pictures = [scene(i, *SIZE) if i < 26 else 255 - scene(60, *SIZE) for i in range(60)]
    clip = encode(tmp_path / "clean.mp4", "libx265", pictures, 20, options={"x265-params": CASES["no B"]})
    clean = decoded(clip)
    times = sorted(clean)
    damaged = without(clip, {26})
    plain, shown = decoded(damaged), whole(damaged)
    hurt = [t for t in times[27:40] if psnr(clean[t], plain[t]) < 45]
    assert np.mean([psnr(clean[t], shown[t]) for t in hurt]) > np.mean([psnr(clean[t], plain[t]) for t in hurt]) + 5


def test_lost_references_are_found_where_the_rate_varies(tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "no B")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "varies.mkv"), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            packet.pts = packet.dts = packet.pts + packet.duration * (number // 3)
            packet.stream = copy
            out.mux(packet)
    times = sorted(decoded(tmp_path / "varies.mkv"))
    assert not diagnose(tmp_path / "varies.mkv").damaged
    (missing,) = [m for g in diagnose(without(tmp_path / "varies.mkv", {10})).groups for m in g.missing]
    assert missing.order == 10 and times[9] < missing.pts < times[11]


def test_damaged_headers_are_read_as_nothing_or_as_something_never_worse(tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "open groups")
    rng = np.random.default_rng(0)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata
        packets = [bytes(p)[:200] for p in container.demux(stream) if p.size]
    for _ in range(200):
        reader = HevcHeaders(extradata, length_size("hevc", extradata))
        for data in packets[:10]:
            hurt = bytearray(data)
            for place in rng.integers(0, 30, 4):
                hurt[place] = rng.integers(0, 256)
            header = reader.of(bytes(hurt))
            if header is not None:
                reader.stand_in(bytes(hurt), header, int(rng.integers(-9, 300)), {0, 4, header.count})


MPEG = {"mpeg4": ("mpeg4", {"qscale": "3"}), "mpeg2": ("mpeg2video", {"qscale": "3"}),
        "mpeg1": ("mpeg1video", {"qscale": "3"})}


def make_mpeg(folder: Path, case: str) -> Path:
    codec, options = MPEG[case]
    return encode(folder / "clean.mkv", codec, (scene(i, *SIZE) for i in range(40)), 20, options=options)


@pytest.mark.parametrize("lost", [[9], [5, 31]])
@pytest.mark.parametrize("case", MPEG)
def test_mpeg_goes_on_from_the_true_picture_where_one_is_lost(tmp_path: Path, case: str, lost: list[int]) -> None:
    clip = make_mpeg(tmp_path, case)
    clean = decoded(clip)
    damaged = without(clip, lost)
    diagnosis = diagnose(damaged)
    assert len([m for g in diagnosis.groups for m in g.missing]) == len(lost)
    shown = mended(damaged, diagnosis, lambda picture: (clean[picture.time], "true"))
    assert list(shown) == sorted(clean)
    assert all((a == b).all() for t in clean for a, b in zip(clean[t], shown[t], strict=True))
    plain, filled = decoded(damaged), whole(damaged)
    hurt = [t for t in clean if t not in plain or psnr(clean[t], plain[t]) < 45]
    before = np.mean([psnr(clean[t], plain[max(p for p in plain if p <= t)]) for t in hurt])
    assert np.mean([min(psnr(clean[t], filled[t]), 60) for t in hurt]) > before + 1


def with_hidden(path: Path) -> dict[int, Planes]:
    """As `decoded`, with what is hidden beyond the edge."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context.codec.canonical_name
        context = tolerant.open_decoder(stream, threads=False, whole=True)
        context.extradata = with_whole_macroblocks(stream.codec_context.extradata or b"", codec)
        packets = (with_data(p, with_whole_macroblocks(bytes(p), codec)) for p in container.demux(stream) if p.size)
        return {f.pts: planes_of(f) for _, frames, _ in tolerant.decode(context, packets) for f in frames}


@pytest.mark.parametrize("case", ["mpeg1", "mpeg2"])
def test_what_is_hidden_beyond_the_edge_is_mended_too(tmp_path: Path, case: str) -> None:
    codec, options = MPEG[case]
    clip = encode(tmp_path / "clean.mkv", codec, (scene(i, 138, 170) for i in range(20)), 20, options=options)
    clean, all_of_it = decoded(clip), with_hidden(clip)
    assert all(a[0].shape == (138, 170) and b[0].shape == (144, 176) and (b[0][:138, :170] == a[0]).all()
               for a, b in zip(clean.values(), all_of_it.values(), strict=True))
    damaged = destroyed(clip, {9})
    shown = mended(damaged, diagnose(damaged), lambda picture: (all_of_it[picture.time], "true"))
    assert list(shown) == sorted(clean)
    assert all((a == b).all() for t in clean for a, b in zip(clean[t], shown[t], strict=True))


def test_a_header_that_cannot_be_read_keeps_its_size() -> None:
    for codec, data in [("mpeg4", b"\0\0\1\x20\x08"), ("mpeg2video", b"\0\0\1\xb3\x0b"), ("mpeg4", b"")]:
        assert with_whole_macroblocks(data, codec) == data


@pytest.mark.parametrize("pictures", ["0", "2"])
def test_what_is_put_into_mpeg4_is_shown_when_the_lost_picture_was(tmp_path: Path, pictures: str) -> None:
    clip = encode(tmp_path / "clean.mkv", "mpeg4", (scene(i, *SIZE) for i in range(60)), 60,
                  options={"qscale": "3", "bf": pictures})
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        extradata, time_base = stream.codec_context.extradata, stream.time_base
        packets = [(bytes(p), p.pts) for p in container.demux(stream) if p.size]
    reader = Mpeg4Headers(extradata)
    references = [i for i, (data, _) in enumerate(packets) if reader.of(data).kind != BIDIRECTIONAL]
    assert any(reader.of(packets[i][0]).seconds for i in references[1:]), "one begins another second"
    for lost in references[1:]:
        clock = Clock(extradata, time_base)
        for data, pts in packets[:lost]:
            clock.see(data, pts)
        data, pts = packets[lost]
        made, true = reader.of(clock.reference_at(packets[0][0], pts)), reader.of(data)
        assert (made.kind, made.seconds, made.ticks) == (INTRA, true.seconds, true.ticks)


def test_pictures_across_a_lost_mpeg4_reference_come_out(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clean.mkv", "mpeg4", (scene(i, *SIZE) for i in range(40)), 40,
                  options={"qscale": "3", "bf": "2"})
    clean = decoded(clip)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        packets = [(bytes(p), p.pts) for p in container.demux(stream) if p.size]
        reader = Mpeg4Headers(stream.codec_context.extradata)
    references = [i for i, (data, _) in enumerate(packets) if reader.of(data).kind != BIDIRECTIONAL]
    for lost in references[2:9]:
        damaged = destroyed(clip, {lost})
        shown = mended(damaged, diagnose(damaged), lambda picture: (
            clean[picture.time] if picture.decoded is None else picture.decoded, "true"))
        assert list(shown) == sorted(clean)
        following = packets[references[references.index(lost) + 1]][1]
        crossing = [t for t in clean if packets[lost][1] < t < following]
        assert all(psnr(clean[t], shown[t]) > 35 for t in crossing)


def test_the_picture_before_stays_unless_another_proves_itself() -> None:
    pictures = [scene(i, *SIZE) for i in range(5)]
    true = dict(enumerate(pictures))
    aside = {**true, 2: np.roll(pictures[2], 9, 1), 3: np.roll(pictures[3], 9, 1)}
    key = pictures[4]
    assert Course(1.0, true, (pictures[3], key)).is_better_than(Course(1.0, aside, (aside[3], key)), 1)
    assert not Course(1.0, aside, (aside[3], key)).is_better_than(Course(1.0, true, (pictures[3], key)), 1)
    assert not Course(1.0, true, (pictures[3], key)).is_better_than(Course(1.0, true, (pictures[3], key)), 1)
    assert not Course(math.nan, true).is_better_than(Course(math.nan, true), 1)


def test_a_first_mpeg4_keyframe_of_which_nothing_is_left_is_filled_from_the_next(tmp_path: Path) -> None:
    pictures = (scene(i // 10, *SIZE) for i in range(40))
    clip = encode(tmp_path / "clean.mkv", "mpeg4", pictures, 20, options={"qscale": "3"})
    clean = decoded(clip)
    damaged = destroyed(clip, {0})
    plain, shown = decoded(damaged), whole(damaged)
    assert list(shown) == sorted(clean)
    hurt = sorted(clean)[:20]
    grey = np.mean([psnr(clean[t], plain.get(t, plain[min(plain)])) for t in hurt])
    assert np.mean([psnr(clean[t], shown[t]) for t in hurt]) > grey + 1
