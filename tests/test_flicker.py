"""Repaired parts of a video agree with the pictures beside them; what was not repaired stays as it was."""

from pathlib import Path

import numpy as np
import pytest
from media_factory import decoded, encode, scene

from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.fill.flicker import MENDED, Moving, repaired_part, without_flicker
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_reader import DecodeLog
from faceinpaint_cli.metrics import psnr
from faceinpaint_cli.pipeline import video_damage
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt

H, W = 96, 128
LEFT = np.zeros((H, W), np.float32)
LEFT[:, : W // 2] = 1


def pictures(count: int = 9, deep: int = 0) -> list[tuple[np.ndarray, ...]]:
    """Planes (4:2:0) of a picture that pans by two pixels a frame."""
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(30, 220, (H // 8 + 1, W // 4)), np.ones((8, 8)))[:H].astype(np.uint16)
    found = []
    for i in range(count):
        luma = wide[:, 2 * i : 2 * i + W] << deep
        chroma = luma[::2, ::2]
        found.append(tuple(np.ascontiguousarray(p).astype(np.uint16 if deep else np.uint8)
                           for p in (luma, chroma, chroma)))
    return found


def with_flicker(planes: tuple[np.ndarray, ...], number: int, by: int = 5) -> tuple[np.ndarray, ...]:
    step = by * (1 if number % 2 else -1)
    return tuple(np.where(np.arange(p.shape[1]) < p.shape[1] // 2, p.astype(int) + step, p).astype(p.dtype)
                 for p in planes)


@pytest.mark.parametrize("deep", [0, 2])
def test_what_jumps_about_the_truth_comes_to_rest_on_it(deep):
    clean = pictures(deep=deep)
    given = [Moving(i, with_flicker(p, i, 5 << deep), LEFT) for i, p in enumerate(clean)]
    out = list(without_flicker(given, MENDED))
    assert [m.number for m in out] == list(range(9))
    for i in range(MENDED, 9 - MENDED):
        for plane, (was, now, true) in enumerate(zip(given[i].planes, out[i].planes, clean[i], strict=True)):
            half = true.shape[1] // 2
            inside = slice(4, half - 4)  # away from what pans out of the picture
            before, after = (np.abs(p[:, inside].astype(int) - true[:, inside]).mean() for p in (was, now))
            assert after < before / 2, (i, plane)
            assert np.array_equal(now[:, half:], was[:, half:]) and now.dtype == was.dtype


def test_nothing_changes_where_nothing_was_repaired_or_two_scenes_meet():
    one, other = pictures(6), [tuple(255 - p for p in planes[::-1]) for planes in pictures(6)]
    still = [Moving(i, with_flicker(p, i), np.zeros((H, W), np.float32)) for i, p in enumerate(one)]
    assert all(a is b for a, b in zip(still, without_flicker(still, MENDED), strict=True))
    cut = [one[0], tuple(255 - p for p in one[1]), one[2]]
    given = [Moving(i, p, LEFT) for i, p in enumerate(cut)]
    out = without_flicker(given, MENDED)
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(given, out, strict=True))
    apart = [Moving(2 * i, with_flicker(p, i), LEFT) for i, p in enumerate(other)]  # numbers that do not follow
    assert all(a is b for a, b in zip(apart, without_flicker(apart, MENDED), strict=True))


def test_grain_stays():
    """What intact parts show as well is no flicker."""
    rng = np.random.default_rng(1)
    clean = [tuple(p // 2 + 60 for p in planes) for planes in pictures()]
    grainy = [tuple(np.rint(p + rng.normal(0, 8, p.shape)).astype(np.uint8) for p in planes) for planes in clean]
    out = list(without_flicker([Moving(i, p, LEFT) for i, p in enumerate(grainy)], MENDED))
    kept = [np.std(out[i].planes[0][:, 4:60].astype(float) - clean[i][0][:, 4:60]) for i in range(3, 6)]
    assert min(kept) > 5.5


def test_the_repaired_part_is_what_the_repair_changed():
    concealed = pictures(1)[0][0]
    repaired = concealed.copy()
    repaired[40:60, 40:60] ^= 64
    loose = repaired_part(repaired, concealed)
    assert loose.dtype == np.float32 and loose[45:55, 45:55].min() == 1
    assert loose[:30].max() == 0 and loose[:, 70:].max() == 0 and 0 < loose[50, 37] < 1
    assert not repaired_part(concealed, concealed).any()


def test_a_repair_gone_astray_is_mended_by_its_neighbours():
    clean = pictures()
    given = [Moving(i, p, LEFT) for i, p in enumerate(clean)]
    wrong = clean[4][0].copy()
    wrong[30:50, 20:40] = 128
    given[4] = Moving(4, (wrong, *clean[4][1:]), LEFT)
    out = list(without_flicker(given, MENDED))
    hole = np.zeros((H, W), bool)
    hole[30:50, 20:40] = True
    grey = [np.repeat(p[..., None], 3, 2) for p in (wrong, out[4].planes[0], clean[4][0])]
    assert psnr(grey[1], grey[2], hole) > psnr(grey[0], grey[2], hole) + 2


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_of_a_damaged_video_change_only_where_they_were_repaired(codec, tmp_path: Path, monkeypatch):
    options = {"crf": "18", "bf": "0", "keyint_min": "15", "sc_threshold": "0"} if codec == "libx264" else {}
    clip = encode(tmp_path / "clean.mp4", codec, (scene(i, 144, 176) for i in range(45)), 15, "yuv420p", options)
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=2, bytes=600, spare_keyframes=True), tmp_path)
    alone = decoded(tmp_path / "damaged.mp4")

    def frames() -> dict[int, tuple[np.ndarray, ...]]:
        read = video_damage.MendedFrames.of(index_video(tmp_path / "damaged.mp4"), diagnose(tmp_path / "damaged.mp4"))
        spans = [g.frames for g in read.source.groups if read.damaged[slice(*g.frames)].any()]
        assert spans
        return {frame.pts: planes_of(frame) for _, frame in read.read(spans, DecodeLog())}

    steady = frames()
    monkeypatch.setattr(video_damage, "frames_without_flicker", lambda frames, _: ((f[0], f[1]) for f in frames))
    mended = frames()
    assert steady.keys() == mended.keys()
    changed = []
    for time, planes in mended.items():
        fixed = repaired_part(planes[0], alone[time][0]) == 0
        assert np.array_equal(steady[time][0][fixed], planes[0][fixed]), time
        changed.append(not np.array_equal(steady[time][0], planes[0]))
    assert any(changed) and not all(changed)
