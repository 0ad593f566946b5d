"""In-loop repair in the decoder's own memory: MPEG-2, MPEG-4 and HEVC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, scene

from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.damage.extent import lost_part, lost_rows, step_up
from faceinpaint_cli.fill.motion import Lost
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_nal import length_size
from faceinpaint_cli.media.hevc_sps import unordered_extradata, unordered_packet
from faceinpaint_cli.media.optical_flow import Planes
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.pipeline.inplace import InPlace
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt

SIZE = (144, 176)
HEVC = "keyint=20:min-keyint=20:scenecut=0:log-level=none:pools=1:frame-threads=1"
CASES = {
    "mpeg2": ("mpeg2video", ".mkv", {"bf": "0", "qscale": "3"}),
    "mpeg2 with B pictures": ("mpeg2video", ".mkv", {"bf": "2", "qscale": "3"}),
    "mpeg4": ("mpeg4", ".mp4", {"qscale": "3"}),
    "mpeg4 with B pictures": ("mpeg4", ".mp4", {"bf": "2", "qscale": "3"}),
    "hevc": ("libx265", ".mp4", {"x265-params": f"{HEVC}:temporal-mvp=0"}),
    "hevc in a transport stream": ("libx265", ".ts", {"x265-params": f"{HEVC}:temporal-mvp=0"}),
}


def make_clip(folder: Path, case: str, pixels: str = "yuv420p") -> Path:
    codec, suffix, options = CASES[case]
    return encode(folder / f"clean{suffix}", codec, (scene(i, *SIZE) for i in range(40)), 20, pixels, options)


def hit(clip: Path, folder: Path, first_seed: int = 0) -> Path:
    """Damaged such that it spreads, and that the decoder tells of every hit picture."""
    damaged = folder / f"damaged{clip.suffix}"
    clean = decoded(clip)
    for seed in range(first_seed, first_seed + 40):
        done = corrupt(clip, damaged, Corruption("bscv", seed=seed, bytes=400, spare_keyframes=True), folder)
        plain = decoded(damaged)
        told = {o.packet for g in diagnose(damaged).groups for o in g.onsets}
        spread = sum(psnr(clean[t], plain[t]) < 45 for t in clean if t in plain)
        if spread > 5 and told == {h.picture for h in done.hits}:
            return damaged
    raise AssertionError("no damage that spreads")


def mended(path: Path, fill: Callable[[Lost], tuple[Planes, str]] | None = None) -> tuple[list, InPlace]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        loop = InPlace(diagnose(path), stream, fill)
        packets = (p for p in container.demux(stream) if p.size)
        errors: list[Exception] = []
        frames = loop.frames(packets, 0, [], lambda place, error: errors.append(error))
        return [(f.pts, planes_of(f)) for f in frames], loop


def psnr(a: Planes, b: Planes) -> float:
    error = np.mean((a[0].astype(float) - b[0]) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("case", CASES)
def test_the_true_picture_makes_the_rest_exact(tmp_path: Path, case: str) -> None:
    clip = make_clip(tmp_path, case)
    clean = decoded(clip)
    times = sorted(clean)
    shown, loop = mended(hit(clip, tmp_path), lambda picture: (clean[picture.time], "true"))
    assert [t for t, _ in shown] == times, "in order of display, none missing"
    assert loop.mended
    exact = [t for t, planes in shown if all((a == b).all() for a, b in zip(clean[t], planes, strict=True))]
    # Bidirectional pictures may take the motion of the hit picture itself, which nothing gives back.
    assert len(exact) >= (len(times) if "B" not in case else 0.9 * len(times))


@pytest.mark.parametrize("case", CASES)
def test_the_fill_is_better_than_the_decoders_concealment(tmp_path: Path, case: str) -> None:
    clip = make_clip(tmp_path, case)
    clean, before, after = decoded(clip), [], []
    for first_seed in (0, 100, 200):
        damaged = hit(clip, tmp_path, first_seed)
        plain, shown = decoded(damaged), dict(mended(damaged)[0])
        hurt = [t for t in clean if t not in plain or psnr(clean[t], plain[t]) < 45]
        before += [psnr(clean[t], plain[t]) if t in plain else 0.0 for t in hurt]
        after += [min(psnr(clean[t], shown[t]), 60) for t in hurt]
    assert len(before) > 15
    assert np.mean(after) > np.mean(before) + 1.5


@pytest.mark.parametrize("case", ["mpeg4", "mpeg2"])  # what HEVC's decoder leaves in memory may be no better
def test_a_fill_that_does_not_fit_to_what_follows_is_not_kept(tmp_path: Path, case: str) -> None:
    clip = make_clip(tmp_path, case)
    damaged, clean = hit(clip, tmp_path), decoded(clip)
    bars = np.where(np.arange(SIZE[1]) // 8 % 2, 40, 220).astype(np.uint8)
    bad, loop = mended(damaged, lambda picture: ((np.tile(bars, (SIZE[0], 1)), *clean[picture.time][1:]), "bars"))
    assert loop.mended and {m.how for m in loop.mended} == {"concealed"}
    plain = decoded(damaged)
    assert np.mean([psnr(clean[t], planes) - psnr(clean[t], plain[t]) for t, planes in bad if t in plain]) > -0.5


@pytest.mark.parametrize("case", ["mpeg2", "mpeg4", "hevc"])
def test_a_run_that_begins_in_the_file_knows_what_is_before_it(tmp_path: Path, case: str) -> None:
    clip, first = make_clip(tmp_path, case), 0
    for seed in range(0, 400, 40):
        damaged = hit(clip, tmp_path, seed)
        diagnosis = diagnose(damaged)
        first = min(o.packet for g in diagnosis.groups for o in g.onsets) - 1
        if first >= 2:
            break
    assert first >= 2
    times: list[list[int]] = []

    def fill(picture: Lost) -> tuple[Planes, str]:
        times.append([n.time for n in picture.before])
        assert picture.decoded is not None
        return picture.decoded, "left"

    with av.open(str(damaged)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        loop = InPlace(diagnosis, stream, fill)
        run = [f.pts for f in loop.frames(packets[first:], first, packets[:first], lambda *_: None)]
    assert run == sorted(p.pts for p in packets[first:]), "what comes before is not shown again"
    assert times and all(len(before) == 2 for before in times)


def test_pictures_that_share_a_time_are_one_neighbour(tmp_path: Path) -> None:
    damaged = hit(make_clip(tmp_path, "mpeg2"), tmp_path)
    diagnosis = diagnose(damaged)
    first = max(o.packet for g in diagnosis.groups for o in g.onsets)
    assert first >= 3
    with av.open(str(damaged)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        packets[first - 1].pts = packets[first - 2].pts
        loop = InPlace(diagnosis, stream)
        assert len(list(loop.frames(packets, 0, [], lambda *_: None))) == len(packets)
    assert loop.mended


def test_hevc_of_ten_bits(tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "hevc", "yuv420p10le")
    clean = decoded(clip)
    shown, loop = mended(hit(clip, tmp_path), lambda picture: (clean[picture.time], "true"))
    assert loop.mended
    assert all((a == b).all() for t, planes in shown for a, b in zip(clean[t], planes, strict=True))


def test_hevc_whose_coded_picture_is_larger_than_it_is_shown(tmp_path: Path) -> None:
    options = {"x265-params": f"{HEVC}:temporal-mvp=0"}
    clip = encode(tmp_path / "clean.mp4", "libx265", (scene(i, 138, 170) for i in range(40)), 20, options=options)
    damaged, clean = hit(clip, tmp_path), decoded(clip)
    shown, plain = dict(mended(damaged)[0]), decoded(damaged)
    assert all(planes[0].shape == (138, 170) for planes in shown.values())

    def edge(pictures: dict[int, Planes]) -> float:
        return float(np.mean([np.abs(clean[t][0][:, -12:].astype(int) - pictures[t][0][:, -12:]) for t in clean]))

    # The hidden columns were lost too: what the decoder's memory held there must not come in at the edge.
    assert edge(shown) < edge(plain)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_hevc_without_reordering_decodes_to_the_same_pictures_at_once(tmp_path: Path, suffix: str) -> None:
    clip = encode(tmp_path / f"clip{suffix}", "libx265", (scene(i, *SIZE) for i in range(24)), 12,
                  options={"x265-params": "log-level=none:keyint=12:bframes=4:b-pyramid=1"})
    clean = decoded(clip)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        context = tolerant.open_decoder(stream, threads=False, at_once=True)
        prefix = length_size("hevc", stream.codec_context.extradata)
        late, pictures = 0, {}
        for packet in (p for p in container.demux(stream) if p.size):
            again = av.Packet(unordered_packet(bytes(packet), prefix))
            again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
            frames, error = tolerant.decode_one(context, again)
            assert error is None
            late += [f.pts for f in frames] != [packet.pts]
            pictures |= {f.pts: planes_of(f) for f in frames}
    assert late == 0 and pictures.keys() == clean.keys()
    assert all((a == b).all() for t in clean for a, b in zip(clean[t], pictures[t], strict=True))


def test_parameter_sets_that_say_nothing_are_left_alone() -> None:
    assert unordered_extradata(None) is None
    assert unordered_packet(b"\0\0\0\1\x26\1\xaf", 0) == b"\0\0\0\1\x26\1\xaf"


def test_a_hit_first_picture_is_filled_from_the_next_group(tmp_path: Path) -> None:
    codec, _, options = CASES["mpeg4"]
    slow = (scene(i // 10, *SIZE) for i in range(40))  # the next group is 20 pictures away
    clip = encode(tmp_path / "clean.mp4", codec, slow, 20, options=options)
    for seed in range(400):
        how = Corruption("bscv", seed=seed, bytes=900, fraction=0.03)
        done = corrupt(clip, tmp_path / "damaged.mp4", how, tmp_path)
        if done.hits and done.hits[0].picture == 0 and all(h.picture < 20 for h in done.hits):
            break
    else:
        raise AssertionError("no seed hits only the first group, and its first picture")
    clean, plain = decoded(clip), decoded(done.damaged)
    shown = dict(mended(done.damaged)[0])
    first = min(clean)
    assert psnr(clean[first], plain[first]) < 40
    # 2.7 to 4 dB: the flow is searched in as many stripes as there are threads
    assert psnr(clean[first], shown[first]) > psnr(clean[first], plain[first]) + 2


def test_where_the_ratio_steps_up() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 32)
    assert step_up(noise + 2 * (np.arange(32) >= 12), 4) in (4, 8, 12), "rather too much than too little"
    assert step_up(noise, 4) == 32, "nothing is lost"
    assert step_up(noise + 1.0, 4) == 0, "all is lost"
    assert step_up(noise - (np.arange(32) >= 12), 4) == 32, "down is no damage"


def test_the_lost_part_is_seen() -> None:
    own, anchor, earlier = ((scene(i, 192, 176),) for i in (2, 1, 0))
    hurt = own[0].copy()
    hurt[96:] = np.random.default_rng(1).integers(0, 255, (6, 11)).repeat(16, 0).repeat(16, 1)
    lost = lost_part((hurt,), [anchor, earlier], 16)
    assert lost[96:].all() and not lost[:64].any()
    assert not lost_part(own, [anchor, earlier], 16).any()
    slightly = own[0].copy()
    slightly[150:170, 20:60] += 9  # too little for the network to be sure of
    assert lost_part((slightly,), [anchor], 16).shape == slightly.shape
    band = own[0].copy()
    band[64:80] = 255 - band[64:80]
    rows = np.flatnonzero(lost_rows((band,), [anchor, earlier]).any(1))
    assert rows.min() in (48, 64) and rows.max() < 112
