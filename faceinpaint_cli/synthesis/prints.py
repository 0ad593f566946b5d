"""What years do to a print or a film: scratches, creases, hairs, dust and places where it has come off.

Unlike the shapes and patches that are stamped for the generator, these are drawn as a scan shows them: with soft rims,
of uneven width, broken off and half transparent. Pictures HWC uint8 RGB; a layer is HW float32 in [0, 1], the share of
each pixel that the damage covers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import cv2
import numpy as np

Rng: TypeAlias = np.random.Generator
Layer: TypeAlias = Callable[[int, int, Rng], np.ndarray]

Span: TypeAlias = tuple[float, float]
"""Least and most."""

FINE = 3
"""Bits of a pixel's fraction that lines are drawn with (`shift` of OpenCV)."""
THICKEST = 7
"""Of lines, in pixels of what is looked at."""


def _line(canvas: np.ndarray, points: np.ndarray, thick: float) -> None:
    """A line through `points` (N, 2) in pixels; one thinner than a pixel covers only a part of it."""
    drawn = np.zeros(canvas.shape, np.uint8)
    fine = [np.rint(points * (1 << FINE)).astype(np.int32)]
    cv2.polylines(drawn, fine, False, 255, max(1, round(thick)), cv2.LINE_AA, FINE)
    np.maximum(canvas, drawn * np.float32(min(1.0, thick) / 255), out=canvas)


def _way(start: np.ndarray, angle: float, length: float, bend: float, shake: float, rng: Rng) -> np.ndarray:
    """A way of `length` pixels in steps of 5 that turns by `bend` and at random by `shake` (radians a step)."""
    steps = max(2, int(length / 5))
    angles = angle + bend * np.arange(steps) + np.cumsum(rng.normal(0, shake, steps))
    moves = 5 * np.column_stack([np.cos(angles), np.sin(angles)])
    return np.vstack([start, start + np.cumsum(moves, 0)])


def _broken(layer: np.ndarray, rng: Rng) -> np.ndarray:
    """The layer, missing here and there, as where a nail has jumped."""
    height, width = layer.shape
    cell = rng.uniform(8, 40)
    noise = rng.standard_normal((max(2, round(height / cell)), max(2, round(width / cell)))).astype(np.float32)
    field = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return layer * np.clip((field + rng.uniform(0.2, 1.2)) * 3, 0, 1)


def scratches(height: int, width: int, rng: Rng) -> np.ndarray:
    """One to ten long lines, nearly straight, half of the time side by side as transport leaves them on film."""
    layer = np.zeros((height, width), np.float32)
    side = min(height, width)
    together = rng.uniform(0, np.pi) if rng.random() < 0.3 else np.pi / 2 + rng.normal(0, 0.1)
    alike = rng.random() < 0.6
    thick = np.exp(rng.uniform(np.log(0.6), np.log(4)))
    for _ in range(rng.integers(1, 11)):
        angle = together + rng.normal(0, 0.12) if alike else rng.uniform(0, 2 * np.pi)
        length = side * np.exp(rng.uniform(np.log(0.12), np.log(1.6)))
        middle = rng.uniform(-0.1, 1.1, 2) * (width, height)
        start = middle - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        points = _way(start, angle, length, rng.normal(0, 0.01), rng.uniform(0, 0.08), rng)
        _line(layer, points, min(THICKEST, thick * rng.uniform(0.5, 1.8)))
    return _broken(layer, rng) if rng.random() < 0.35 else layer


def _winding(height: int, width: int, rng: Rng, most: int, length: Span, bend: float, shake: Span,
             thick: Span) -> np.ndarray:
    """One to `most` lines that wind: `length` as shares of the shorter side, `bend` and `shake` as of `_way`, `thick`
    in pixels."""
    layer = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, most + 1)):
        start = rng.uniform(0, 1, 2) * (width, height)
        pixels = min(height, width) * rng.uniform(*length)
        points = _way(start, rng.uniform(0, 2 * np.pi), pixels, rng.normal(0, bend), rng.uniform(*shake), rng)
        _line(layer, points, rng.uniform(*thick))
    return layer


def strokes(height: int, width: int, rng: Rng) -> np.ndarray:
    """One to four lines of a pen or a brush."""
    return _winding(height, width, rng, 4, (0.2, 1.5), 0.05, (0.05, 0.35), (1.5, THICKEST))


def creases(height: int, width: int, rng: Rng) -> np.ndarray:
    """One or two folds from edge to edge, cracked: of a width that changes all along."""
    layer = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 3)):
        angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25)
        length = 2.0 * max(height, width)
        start = rng.uniform(0.1, 0.9, 2) * (width, height) - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        points = _way(start, angle, length, 0, 0.015, rng)
        points += np.cumsum(rng.normal(0, 0.15, points.shape), 0)
        thick = np.exp(np.cumsum(rng.normal(0, 0.25, len(points))) * 0.4)
        thick = np.clip(rng.uniform(0.8, 3) * thick, 0.4, THICKEST)
        for i in range(len(points) - 1):
            if (np.abs(points[i] - (width / 2, height / 2)) < (width, height)).all():
                _line(layer, points[i : i + 2], float(thick[i]))
    return _broken(layer, rng) if rng.random() < 0.5 else layer


def hairs(height: int, width: int, rng: Rng) -> np.ndarray:
    """One to five hairs and threads that lay on the scanner."""
    return _winding(height, width, rng, 5, (0.08, 0.4), 0.12, (0.02, 0.2), (0.7, 2))


def dust(height: int, width: int, rng: Rng) -> np.ndarray:
    """Ten to eighty specks, seldom round."""
    layer = np.zeros((height, width), np.float32)
    size = rng.uniform(0.8, 3.5)
    scale = 1 << FINE
    for _ in range(rng.integers(10, 81)):
        drawn = np.zeros((height, width), np.uint8)
        middle = rng.uniform(0, 1, 2) * (width, height) * scale
        axes = size * np.exp(rng.normal(0, 0.5, 2)) * scale
        cv2.ellipse(drawn, np.rint(middle).astype(int).tolist(), np.rint(axes).clip(scale // 2).astype(int).tolist(),
                    float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA, FINE)
        np.maximum(layer, drawn / np.float32(255), out=layer)
    return layer


def flakes(height: int, width: int, rng: Rng) -> np.ndarray:
    """Where the picture has come off its carrier: ragged regions, 0.2 to 6 % of the area, in clusters."""
    side = min(height, width)
    field = np.zeros((height, width), np.float32)
    for cells, weight in ((rng.uniform(3, 14), 1.0), (rng.uniform(25, 60), rng.uniform(0.1, 0.4))):
        grid = (max(2, round(height / side * cells)), max(2, round(width / side * cells)))
        field += weight * cv2.resize(rng.standard_normal(grid).astype(np.float32), (width, height),
                                     interpolation=cv2.INTER_CUBIC)
    level = np.quantile(field, 1 - rng.uniform(0.002, 0.06))
    return np.clip((field - level) * rng.uniform(4, 20) + 0.5, 0, 1).astype(np.float32)


LAYERS: Mapping[str, tuple[Layer, float]] = {
    "scratches": (scratches, 0.4),
    "strokes": (strokes, 0.14),
    "creases": (creases, 0.14),
    "hairs": (hairs, 0.1),
    "dust": (dust, 0.1),
    "flakes": (flakes, 0.12),
}
"""What is drawn, and its share of all."""


def _colour(height: int, width: int, rng: Rng) -> np.ndarray:
    """What shows: light carrier seven times in ten, else dark, or what is left of the layers of colour film; with faint
    relief. (H, W, 3) float32."""
    chance = rng.random()
    if chance < 0.65:
        colour = rng.uniform(185, 255) - np.array([0, rng.uniform(0, 10), rng.uniform(0, 32)])
    elif chance < 0.9:
        colour = rng.uniform(0, 60) + rng.uniform(0, 12, 3)
    else:
        colour = rng.uniform(0, 255, 3)
    stain = rng.standard_normal((max(2, height // 20), max(2, width // 20))).astype(np.float32)
    relief = rng.uniform(0, 8) * cv2.resize(stain, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(colour + relief[..., None], 0, 255).astype(np.float32)


def age(picture: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """A picture with one to three kinds of damage (HWC uint8), and the share of each pixel that it covers (HW float32).
    """
    height, width = picture.shape[:2]
    kinds = list(LAYERS)
    weights = np.array([share for _, share in LAYERS.values()])
    aged = picture.astype(np.float32)
    covered = np.zeros((height, width), np.float32)
    for kind in rng.choice(kinds, rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]), replace=False, p=weights / weights.sum()):
        layer = LAYERS[kind][0](height, width, rng)
        if rng.random() < 0.5:
            layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.4, 1.1))
        share = (layer * (1.0 if rng.random() < 0.5 else rng.uniform(0.4, 1.0)))[..., None]
        aged += (_colour(height, width, rng) - aged) * share
        covered = np.maximum(covered, layer)
    return np.rint(aged).clip(0, 255).astype(np.uint8), covered
