"""Damage in VP8, VP9, AV1 and Motion JPEG: found, mended where that can be, never made worse or shorter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, remuxed, scene, video_packets

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.fill.motion import Lost
from faceinpaint_cli.media.optical_flow import Planes, eight_bit
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_reader import DecodeLog
from faceinpaint_cli.media.vp9_headers import REFERENCES, headings
from faceinpaint_cli.pipeline.inloop_vp9 import InReferences
from faceinpaint_cli.pipeline.video_damage import MendedFrames
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt

SIZE = (240, 320)
REALTIME = {"deadline": "realtime", "cpu-used": "6", "crf": "12", "b": "0"}


def vp9(folder: Path) -> Path:
    return encode(folder / "clean.webm", "libvpx-vp9", (scene(i, *SIZE) for i in range(48)), 16, options=REALTIME)


def held(pictures: dict[int, Planes], time: int) -> Planes:
    """As a player shows it: the latest picture there is."""
    return pictures[max((t for t in pictures if t <= time), default=min(pictures))]


def psnr(a: Planes, b: Planes) -> float:
    error = np.mean((a[0].astype(float) - b[0]) ** 2)
    return float(min(60, 10 * np.log10(255**2 / max(error, 1e-9))))


def mended_vp9(path: Path, fill: Callable[[Lost], tuple[Planes, str]] | None = None) -> tuple[dict, InReferences]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        loop = InReferences(diagnose(path), stream, fill)
        packets = (p for p in container.demux(stream) if p.size)
        return {f.pts: planes_of(f) for f in loop.frames(packets, 0, [], lambda place, error: None)}, loop


def whole(path: Path) -> tuple[dict[int, Planes], MendedFrames]:
    """All frames of a damaged file, as the repair reads them."""
    mended = MendedFrames.of(index_video(path), diagnose(path))
    spans = [(0, mended.source.frames)]
    return {int(mended.source.times[n]): planes_of(f) for n, f in mended.read(spans, DecodeLog())}, mended


def hit_vp9(clip: Path, folder: Path, count: int) -> list[Path]:
    """Damaged such that the decoder tells of every hit picture: small ones may go wrong without an error."""
    found: list[Path] = []
    for seed in range(60):
        how = Corruption("bscv", seed=seed, bytes=1000, fraction=1 / 16, spare_keyframes=True)
        done = corrupt(clip, folder / f"damaged-{seed}.webm", how, folder)
        told = {o.packet for g in diagnose(done.damaged).groups for o in g.onsets}
        found += [done.damaged] * (told == {h.picture for h in done.hits})
        if len(found) == count:
            return found
    raise AssertionError("too little damage that the decoder tells of")


def test_vp9_headers_say_what_each_picture_replaces(tmp_path: Path) -> None:
    with av.open(str(vp9(tmp_path))) as container:
        packets = [(p.is_keyframe, bytes(p)) for p in container.demux(video=0) if p.size]
    assert len(packets) == 48
    for key, data in packets:
        (found,) = headings(data)
        assert found.shown and 1 <= len(found.replaced) <= REFERENCES
        assert not key or found.replaced == tuple(range(REFERENCES))
    a, b = packets[0][1], packets[1][1]
    marker = bytes([0b11001001])  # two pictures, sizes of two bytes
    index = marker + len(a).to_bytes(2, "little") + len(b).to_bytes(2, "little") + marker
    assert headings(a + b + index) == headings(a) + headings(b)


@pytest.mark.parametrize("packet", [b"", b"\x00" * 20, b"\x82\x49"], ids=["empty", "zeros", "cut"])
def test_what_is_no_vp9_picture_is_an_error(packet: bytes) -> None:
    with pytest.raises(ValueError):
        headings(packet)


def test_vp9_goes_on_from_what_is_written_into_its_references(tmp_path: Path) -> None:
    clip = vp9(tmp_path)
    clean, before, after = decoded(clip), [], []
    for damaged in hit_vp9(clip, tmp_path, 3):
        plain = decoded(damaged)
        shown, loop = mended_vp9(damaged, lambda picture: (clean[picture.time], "true"))
        assert list(shown) == sorted(clean), "in order of display, none missing"
        assert loop.mended
        hurt = [t for t in clean if psnr(clean[t], held(plain, t)) < 45]
        before += [psnr(clean[t], held(plain, t)) for t in hurt]
        after += [psnr(clean[t], shown[t]) for t in hurt]
    # Not exact: the motion that a picture would take from the one before is lost with it.
    assert len(before) > 15 and np.mean(after) > np.mean(before) + 4


def test_vp9_fill_is_better_than_the_picture_before_and_hardly_ever_worse(tmp_path: Path) -> None:
    clip = vp9(tmp_path)
    clean, before, after = decoded(clip), [], []
    for damaged in hit_vp9(clip, tmp_path, 3):
        plain, (shown, _) = decoded(damaged), mended_vp9(damaged)
        hurt = [t for t in clean if psnr(clean[t], held(plain, t)) < 45]
        before += [psnr(clean[t], held(plain, t)) for t in hurt]
        after += [psnr(clean[t], shown[t]) for t in hurt]
    assert np.mean(after) > np.mean(before) + 1
    assert np.mean(np.array(after) < np.array(before) - 0.1) < 0.1


def test_a_vp9_fill_that_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    (damaged,) = hit_vp9(vp9(tmp_path), tmp_path, 1)

    def black(picture: Lost) -> tuple[Planes, str]:
        return tuple(np.zeros_like(p) for p in picture.before[0].planes), "black"

    shown, loop = mended_vp9(damaged, black)
    plain = decoded(damaged)
    assert not loop.mended
    assert all((a == b).all() for t in shown for a, b in zip(shown[t], held(plain, t), strict=True))


def test_a_hit_vp9_keyframe_leaves_no_frame_out(tmp_path: Path) -> None:
    clip = vp9(tmp_path)
    for seed in range(200):
        how = Corruption("bscv", seed=seed, bytes=2000, fraction=0.01)
        done = corrupt(clip, tmp_path / "damaged.webm", how, tmp_path)
        if 16 in {h.picture for h in done.hits}:
            break
    else:
        raise AssertionError("no seed hits the second keyframe")
    shown, _ = whole(done.damaged)
    assert list(shown) == sorted(decoded(clip))


@pytest.mark.parametrize("number", [20, 25])
def test_what_follows_a_lost_vp9_packet_is_left_out_where_it_is_read_wrong(tmp_path: Path, number: int) -> None:
    clip = vp9(tmp_path)
    damaged = remuxed(clip, tmp_path / "damaged.webm", lambda n, data: None if n == number else data)
    clean, plain = decoded(clip), decoded(damaged)
    shown, _ = whole(damaged)
    assert list(shown) == sorted(clean), "as many as there were"
    hurt = [t for t in clean if psnr(clean[t], held(plain, t)) < 45]
    still = clean[sorted(clean)[number - 1]]
    before, after, frozen = (np.mean([psnr(clean[t], p) for t, p in zip(hurt, pictures, strict=True)])
                             for pictures in ([held(plain, t) for t in hurt], [shown[t] for t in hurt],
                                              [still] * len(hurt)))
    assert len(hurt) > 5 and after > before and after >= frozen


def test_vp9_pictures_that_fail_beside_another_in_their_packet_do_not_stop_the_decoder(tmp_path: Path) -> None:
    clip = vp9(tmp_path)

    def with_nothing(number: int, data: bytes) -> bytes:
        if number != 20:
            return data
        marker = bytes([0b11001010])  # three pictures, sizes of two bytes
        sizes = b"".join(size.to_bytes(2, "little") for size in (99, 99, len(data)))
        return bytes(2 * 99) + data + marker + sizes + marker

    damaged = remuxed(clip, tmp_path / "damaged.webm", with_nothing)
    assert decoded(damaged).keys() == decoded(clip).keys()
    assert [o.packet for g in diagnose(damaged).groups for o in g.onsets] == [20]


def test_motion_jpeg_is_diagnosed_and_filled_from_both_sides(tmp_path: Path) -> None:
    pictures = (scene(i, *SIZE) for i in range(40))
    clip = encode(tmp_path / "clean.mov", "mjpeg", pictures, 1, "yuvj420p", {"q:v": "3"})
    done = corrupt(clip, tmp_path / "damaged.mov", Corruption("bscv", seed=3, fraction=0.15, bytes=400), tmp_path)
    hits = {h.picture for h in done.hits}
    clean, plain = decoded(clip), decoded(done.damaged)
    times = sorted(clean)
    assert {o.packet for g in diagnose(done.damaged).groups for o in g.onsets} == hits
    assert not diagnose(clip).damaged
    mended = MendedFrames.of(index_video(done.damaged), diagnose(done.damaged))
    spans = [(n, n + 1) for n in np.flatnonzero(mended.damaged).tolist()]
    shown = {n: planes_of(f) for n, f in mended.read(spans, DecodeLog())}
    assert shown.keys() == hits, "only what was asked for, of the few packets around it"
    inner = [n for n in hits if 2 <= n < 38]
    before = np.mean([psnr(clean[times[n]], plain[times[n]]) for n in inner])
    after = np.mean([psnr(clean[times[n]], shown[n]) for n in inner])
    assert len(inner) > 3 and before < 30 and after > before + 8


def test_pictures_of_an_intra_codec_that_never_come_out_are_made_from_those_beside_them(tmp_path: Path) -> None:
    pictures = (scene(i, *SIZE) for i in range(24))
    clip = encode(tmp_path / "damaged.mov", "prores_ks", pictures, 1, "yuv422p10le")
    clean, data, packets, lost = decoded(clip), bytearray(clip.read_bytes()), video_packets(clip), {0, 7, 8, 15, 23}
    for number in lost:
        at = bytes(data).index(packets[number])
        data[at + 8 : at + 200] = bytes(192)
    clip.write_bytes(data)
    mended = MendedFrames.of(index_video(clip), diagnose(clip))
    assert set(np.flatnonzero(mended.damaged).tolist()) == lost and not lost & decoded(clip).keys()
    shown = dict(mended.read([(n, n + 1) for n in sorted(lost)], DecodeLog()))
    times = sorted(clean)
    assert shown.keys() == lost and mended.repeated == 2, "the first and the last"
    assert all(psnr(*([eight_bit(p[0])] for p in (clean[times[n]], planes_of(shown[n])))) > 25 for n in lost - {0, 23})


def test_av1_pictures_that_never_come_out_are_made_from_those_beside_them(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clean.mkv", "libsvtav1", (scene(i, *SIZE) for i in range(48)), 16,
                  options={"crf": "25", "preset": "10", "svtav1-params": "lp=1"})
    clean, before, after = decoded(clip), [], []
    for seed in range(3):
        how = Corruption("bscv", seed=seed, bytes=200, spare_keyframes=True)
        damaged = corrupt(clip, tmp_path / f"damaged-{seed}.mkv", how, tmp_path).damaged
        assert diagnose(damaged).codec == "av1" and diagnose(damaged).damaged
        plain, (shown, mended) = decoded(damaged), whole(damaged)
        assert list(shown) == sorted(clean)
        assert mended.mended
        times = sorted(clean)
        alone = [b for a, b, c in zip(times, times[1:], times[2:], strict=False)
                 if b not in plain and all(psnr(clean[t], plain[t]) > 45 for t in (a, c) if t in plain)
                 and {a, c} <= plain.keys()]
        before += [psnr(clean[t], held(plain, t)) for t in alone]
        after += [psnr(clean[t], shown[t]) for t in alone]
    assert len(before) > 1 and np.mean(after) > np.mean(before) + 5


def test_av1_pictures_that_are_shown_from_memory_instead_of_lost_ones_are_made_anew(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clean.mkv", "libsvtav1", (scene(i, *SIZE) for i in range(48)), 16,
                  options={"crf": "25", "preset": "10", "svtav1-params": "lp=1"})
    clean = decoded(clip)
    assert len({planes[0].tobytes() for planes in clean.values()}) == len(clean)
    stale = 0
    for lost in range(17, 31):
        damaged = remuxed(clip, tmp_path / "damaged.mkv", lambda n, data, lost=lost: (
            bytes(len(data)) if n == lost else data))
        plain = decoded(damaged)
        wrong = [t for t in plain if t in clean and plain[t][0].tobytes() in
                 {p[0].tobytes() for other, p in clean.items() if other != t}]
        if not wrong or not diagnose(damaged).damaged:
            continue
        stale += len(wrong)
        mended = MendedFrames.of(index_video(damaged), diagnose(damaged))
        shown = {int(mended.source.times[n]): planes_of(f) for n, f in mended.read([(0, 48)], DecodeLog())}
        assert sorted(shown) == sorted(clean)
        assert all(psnr(clean[t], shown[t]) > psnr(clean[t], plain[t]) for t in wrong)
    assert stale


def test_vp8_is_filled_though_its_colours_are_told_by_its_decoder_alone(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.webm", "libvpx", (scene(i, *SIZE) for i in range(12)), 6,
                  options={"deadline": "realtime", "cpu-used": "6", "crf": "10", "b": "1M"})
    result = inpaint_video(clip, tmp_path / "out.webm", box=("20,20,40,40",), method="ns")
    assert result.frames_filled == 12
    assert decoded(tmp_path / "out.webm").keys() == decoded(clip).keys()
