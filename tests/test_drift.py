"""What the next keyframe tells of a mended picture's place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceinpaint_cli.fill.drift import Drift, Guessed
from faceinpaint_cli.media.optical_flow import flow

SIZE = (96, 128)
LOST = np.arange(SIZE[0])[:, None] >= np.full(SIZE[1], 32)
INNER = np.s_[56:84, 24:104]


def at(shift: float, seed: int = 1) -> np.ndarray:
    """A texture that has moved `shift` pixels to the left, HW uint8."""
    small = np.random.default_rng(seed).integers(30, 220, (22, 45)).astype(np.float32)
    texture = cv2.resize(small, (360, 176), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[1, 0, -40 - shift], [0, 1, -40]], np.float32)
    return cv2.warpAffine(texture, matrix, SIZE[::-1], flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def found(shifts: list[float], aside: float, onset: int, key: np.ndarray, after: np.ndarray) -> list[np.ndarray] | None:
    """The drift of pictures that have moved by `shifts`; from `onset` on the lost part stands `aside` pixels too far
    right."""
    drift = Drift([Guessed(onset, LOST, onset - 1)])
    for time, shift in enumerate(shifts):
        luma = at(shift)
        last = np.where(LOST, at(shift - aside), luma) if time >= onset else luma
        drift.see(time, last)
    return drift.found((len(shifts), key), (len(shifts) + 1, after), flow(key, last))


SLOWING = [0.0, 2.0, 4.0, 4.5, 5.0, 5.5, 6.0]
"""The motion changes at picture 3, where a guess is unsure; it is even around the end."""


@pytest.mark.parametrize("aside", [1.5, -1.5])
def test_the_drift_is_found_where_the_guess_was_unsure(aside: float) -> None:
    fields = found(SLOWING, aside, 3, at(6.5), at(7.0))
    assert fields is not None and len(fields) == 1
    assert np.median(fields[0][INNER][..., 0]) == pytest.approx(-aside, abs=0.6)
    assert np.abs(np.median(fields[0][INNER][..., 1])) < 0.2


def test_without_drift_nothing_is_moved() -> None:
    fields = found(SLOWING, 0.0, 3, at(6.5), at(7.0))
    assert fields is not None and np.abs(fields[0][INNER]).mean() < 0.15


def test_a_keyframe_of_another_scene_tells_nothing() -> None:
    assert found(SLOWING, 1.5, 3, at(0, seed=5), at(0.5, seed=5)) is None


def test_where_nothing_was_seen_nothing_is_told() -> None:
    assert Drift([Guessed(3, LOST, 2)]).found((4, at(0)), None, np.zeros((*SIZE, 2), np.float32)) is None
