"""Damage that a decoder does not tell of, found by looking, and mended."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, scene

from faceinpaint_cli.damage import evidence
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.damage.extent import damaged_cells, lost_part
from faceinpaint_cli.media.optical_flow import reduced
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.pipeline.inplace import InPlace
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt

SIZE = (192, 320)
HEVC = {"x265-params": "keyint=20:min-keyint=20:scenecut=0:log-level=none:pools=1:frame-threads=1"}


def halved(own, *beside):
    smaller = [tuple(reduced(plane, 2) for plane in picture) for picture in (own, *beside)]
    return smaller[0], smaller[1:]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    return encode(folder / "clean.mp4", "libx265", (scene(i, *SIZE) for i in range(40)), 20, options=HEVC)


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slow")
    return encode(folder / "clean.mp4", "libx265", (scene(i / 4, *SIZE) for i in range(40)), 20, options=HEVC)


def test_damage_without_a_word_is_seen(slow, tmp_path, monkeypatch):
    """A keyframe that is hit spreads to all of its group, and an HEVC decoder may say nothing of it."""
    clean, seen = decoded(slow), 0
    for seed in range(200):
        damaged = tmp_path / "damaged.mp4"
        done = corrupt(slow, damaged, Corruption("bscv", seed=seed, position=0.6, bytes=600, fraction=0.05), tmp_path)
        hits = [h.picture for h in done.hits]
        if 20 not in hits or 0 in hits:
            continue
        plain = decoded(damaged)
        with monkeypatch.context() as patch:
            patch.setattr(evidence, "WATCHED", frozenset())
            assert not any(o.packet == 20 for g in diagnose(damaged).groups for o in g.onsets), "the decoder tells"
        onset = next(o for g in diagnose(damaged).groups for o in g.onsets if o.packet == 20)
        assert onset.signs == ("looks damaged",)
        with av.open(str(damaged)) as container:
            loop = InPlace(diagnose(damaged), container.streams.video[0])
            packets = (p for p in container.demux(container.streams.video[0]) if p.size)
            shown = {f.pts: planes_of(f)[0] for f in loop.frames(packets, 0, [], lambda place, error: None)}
        last = sorted(clean)[20:]
        before = np.mean([psnr(clean[t][0], plain[t][0]) for t in last])
        assert np.mean([psnr(clean[t][0], shown[t]) for t in last]) > before + 10
        seen += 1
        if seen == 2:
            return
    raise AssertionError("no such damage")


def test_a_whole_keyframe_after_damage_is_left_alone(slow, tmp_path):
    """Where the first keyframe was hit, unseen, the next one looks changed: it must not be filled from the damage."""
    looked = 0
    for seed in range(200):
        damaged = tmp_path / "damaged.mp4"
        done = corrupt(slow, damaged, Corruption("bscv", seed=seed, position=0.6, bytes=600, fraction=0.026), tmp_path)
        if [h.picture for h in done.hits] != [0]:
            continue
        assert not any(o.packet == 20 for g in diagnose(damaged).groups for o in g.onsets)
        looked += 1
    assert looked


def test_a_first_keyframe_that_is_hit_without_a_word_is_seen(slow, tmp_path, monkeypatch):
    """Nothing changes when it comes: what follows it tells, when the next keyframe does not look like it."""
    clean, damaged = decoded(slow), tmp_path / "damaged.mp4"
    for seed in range(300):
        done = corrupt(slow, damaged, Corruption("bscv", seed=seed, position=0.4, bytes=600, fraction=0.026), tmp_path)
        if [h.picture for h in done.hits] != [0]:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(evidence, "WATCHED", frozenset())
            if diagnose(damaged).damaged:
                continue
        plain, found = decoded(damaged), diagnose(damaged)
        if not found.damaged:
            continue
        onsets = found.groups[0].onsets  # garbage that changes may be seen as well, later in the group
        assert (onsets[0].packet, onsets[0].signs) == (0, ("looks damaged",)) and not found.groups[1].damaged
        with av.open(str(damaged)) as container:
            loop = InPlace(found, container.streams.video[0])
            packets = (p for p in container.demux(container.streams.video[0]) if p.size)
            shown = {f.pts: planes_of(f)[0] for f in loop.frames(packets, 0, [], lambda place, error: None)}
        first = sorted(clean)[:20]
        before = np.mean([psnr(clean[t][0], plain[t][0]) for t in first])
        assert np.mean([psnr(clean[t][0], shown[t]) for t in first]) > before + 3
        return
    raise AssertionError("no such damage")


def test_motion_and_cuts_are_no_damage(clip, tmp_path):
    assert not diagnose(clip).damaged
    fast = encode(tmp_path / "fast.mp4", "libx265", (scene(7 * i, *SIZE) for i in range(30)), 20, options=HEVC)
    assert not diagnose(fast).damaged
    cut = (scene(i, *SIZE) if i < 13 else 255 - scene(3 * i + 40, *SIZE)[:, ::-1] for i in range(30))
    assert not diagnose(encode(tmp_path / "cut.mp4", "libx265", cut, 20, options=HEVC)).damaged


def test_what_is_not_its_own_is_seen():
    grey = np.full((96, 160), 128, np.uint8)
    own, *beside = [(scene(i, *SIZE), grey, grey) for i in (2, 1, 0)]
    assert damaged_cells(own, beside).shape == (24, 40)
    assert damaged_cells(own, beside).mean() < 0.02
    hurt = own[0].copy()
    hurt[96:] = np.random.default_rng(1).integers(0, 255, (6, 20)).repeat(16, 0).repeat(16, 1)
    for picture, clean in (((hurt, grey, grey), beside), ((hurt,), [p[:1] for p in beside])):
        likely = damaged_cells(picture, clean)
        assert likely[13:].mean() > 0.8 > 0.1 > likely[:10].mean()
    small = damaged_cells(*halved((hurt, grey, grey), *beside))
    assert small.shape == (12, 20) and small[7:].mean() > 0.7 > 0.2 > small[:4].mean()
    deep = tuple(plane.astype(np.uint16) * 4 for plane in (hurt, grey, grey))
    assert lost_part(deep, [tuple(p.astype(np.uint16) * 4 for p in c) for c in beside], 16)[100:].all()
