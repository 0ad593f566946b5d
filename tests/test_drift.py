"""What the next keyframe tells of a mended picture's place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceinpaint_cli.fill.drift import Drift, Guessed

SIZE = (96, 128)
LOST = np.arange(SIZE[0])[:, None] >= np.full(SIZE[1], 32)
INNER = np.s_[56:84, 24:104]


def at(shift: float, seed: int = 1) -> np.ndarray:
    """A texture that has moved `shift` pixels to the left, HW uint8."""
    small = np.random.default_rng(seed).integers(30, 220, (22, 45)).astype(np.float32)
    texture = cv2.resize(small, (360, 176), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[1, 0, -40 - shift], [0, 1, -40]], np.float32)
    return cv2.warpAffine(texture, matrix, SIZE[::-1], flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def shown(shifts: list[float], aside: float, onset: int) -> Drift:
    """Pictures that have moved by `shifts`; from `onset` on the lost part stands `aside` pixels too far right."""
    drift = Drift([Guessed(onset, LOST, onset - 1)])
    for time, shift in enumerate(shifts):
        luma = at(shift)
        drift.see(time, np.where(LOST, at(shift - aside), luma) if time >= onset else luma)
    return drift


SLOWING = [0.0, 2.0, 4.0, 4.5, 5.0, 5.5, 6.0]
"""The motion changes at picture 3, where a guess is unsure; it is even around the end."""


@pytest.mark.parametrize("aside", [1.5, -1.5])
def test_the_drift_is_found_where_the_guess_was_unsure(aside: float) -> None:
    found = shown(SLOWING, aside, 3).found((7, at(6.5)), (8, at(7.0)))
    assert found is not None and len(found) == 1
    assert np.median(found[0][INNER][..., 0]) == pytest.approx(-aside, abs=0.6)
    assert np.abs(np.median(found[0][INNER][..., 1])) < 0.2


def test_without_drift_nothing_is_moved() -> None:
    found = shown(SLOWING, 0.0, 3).found((7, at(6.5)), (8, at(7.0)))
    assert found is not None and np.abs(found[0][INNER]).mean() < 0.15


def test_a_keyframe_of_another_scene_tells_nothing() -> None:
    assert shown(SLOWING, 1.5, 3).found((7, at(0, seed=5)), (8, at(0.5, seed=5))) is None


def test_where_nothing_was_seen_nothing_is_told() -> None:
    assert Drift([Guessed(3, LOST, 2)]).found((4, at(0)), None) is None
