"""Damage of old prints: each kind, how much of a picture it takes, and that it is seeded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceinpaint_cli.synthesis.prints import LAYERS, age


def smooth(height: int = 200, width: int = 260) -> np.ndarray:
    ramp = np.linspace(90, 150, width)[None, :, None] + np.zeros((height, 1, 3))
    return ramp.astype(np.uint8)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_covers_little_and_not_nothing(kind):
    layer = LAYERS[kind][0]
    shares = []
    for seed in range(12):
        covered = layer(200, 260, np.random.default_rng(seed))
        assert covered.shape == (200, 260) and covered.dtype == np.float32
        assert covered.min() >= 0 and covered.max() <= 1
        shares.append(float((covered > 0.3).mean()))
    assert max(shares) < 0.25 and np.median(shares) > 0.0005


@pytest.mark.parametrize("kind", ["scratches", "strokes", "creases", "hairs"])
def test_lines_are_thin(kind):
    covered = LAYERS[kind][0](300, 300, np.random.default_rng(3)) > 0.5
    depth = cv2.distanceTransform(np.pad(covered, 1).astype(np.uint8), cv2.DIST_L2, 3)
    assert 0.5 < np.percentile(depth[depth > 0], 90) < 7


def test_ageing_is_seeded_and_leaves_what_is_not_covered():
    picture = smooth()
    changed = 0
    for seed in range(8):
        aged, covered = age(picture, np.random.default_rng(seed))
        again, _ = age(picture, np.random.default_rng(seed))
        assert aged.dtype == np.uint8 and np.array_equal(aged, again)
        assert np.array_equal(aged[covered == 0], picture[covered == 0])
        changed += int((np.abs(aged.astype(int) - picture).max(2) > 20).any())
    assert changed >= 7
