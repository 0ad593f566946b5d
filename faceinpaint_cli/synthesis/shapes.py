"""Mask shapes, drawn from a seeded generator: HW bool, True = hole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np

Rng: TypeAlias = np.random.Generator
Count: TypeAlias = Sequence[int]
"""Fewest and most, both among them, drawn evenly."""
Span: TypeAlias = Sequence[float]
"""Least and most, as shares of the picture, drawn evenly."""

COUNTS: Mapping[str, Count] = {
    "rectangles": (1, 3), "ellipses": (1, 3), "polygons": (1, 2), "strokes": (1, 6), "scratches": (1, 8),
    "spots": (3, 30),
}
"""How many of a kind are in one mask, where it is not always one."""
SIZES: Mapping[str, Span] = {
    "rectangles": (0.12, 0.62), "ellipses": (0.06, 0.32), "polygons": (0.12, 0.4), "strokes": (0.01, 0.12),
    "scratches": (0.004, 0.03), "flakes": (0.005, 0.08), "spots": (0.005, 0.03), "blobs": (0.05, 0.5),
    "edge": (0.2, 0.5),
}
"""How large they are: sides of rectangles, half axes of ellipses, radii of polygons and spots and widths of strokes and
scratches as shares of the picture's side; what an edge takes of it; flakes and blobs as shares of the area."""


def center(height: int, width: int, rng: Rng) -> np.ndarray:
    """The middle quarter of the area (protocol celeba-center25)."""
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return mask


def square(height: int, width: int, rng: Rng) -> np.ndarray:
    """A square of a quarter of the area anywhere inside (protocol celeba-white-square)."""
    side = min(height, width) // 2
    y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    mask = np.zeros((height, width), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def _number(rng: Rng, count: Count) -> int:
    return int(rng.integers(count[0], count[1] + 1))


def rectangles(
    height: int, width: int, rng: Rng, count: Count = COUNTS["rectangles"], size: Span = SIZES["rectangles"]
) -> np.ndarray:
    """Rectangles anywhere inside."""
    mask = np.zeros((height, width), bool)
    for _ in range(_number(rng, count)):
        h, w = int(height * rng.uniform(*size)), int(width * rng.uniform(*size))
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        mask[y : y + h, x : x + w] = True
    return mask


def ellipses(
    height: int, width: int, rng: Rng, count: Count = COUNTS["ellipses"], size: Span = SIZES["ellipses"]
) -> np.ndarray:
    """Ellipses at any angle."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(_number(rng, count)):
        middle = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (max(1, int(width * rng.uniform(*size))), max(1, int(height * rng.uniform(*size))))
        cv2.ellipse(canvas, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return canvas.astype(bool)


def polygons(
    height: int, width: int, rng: Rng, count: Count = COUNTS["polygons"], size: Span = SIZES["polygons"]
) -> np.ndarray:
    """Star-shaped polygons of 3 to 9 corners, which come to half of the radius or more."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(_number(rng, count)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 10)))
        radius = min(height, width) * rng.uniform(*size) * rng.uniform(0.5, 1, len(angles))
        middle = rng.uniform(0.15, 0.85, 2) * (width, height)
        points = middle + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
    return canvas.astype(bool)


def strokes(
    height: int, width: int, rng: Rng, count: Count = COUNTS["strokes"], size: Span = SIZES["strokes"]
) -> np.ndarray:
    """Brush strokes that turn at random, as free-form masks (Yu et al. 2019) and scratches are."""
    canvas = np.zeros((height, width), np.uint8)
    side = min(height, width)
    for _ in range(_number(rng, count)):
        point = rng.uniform(0, 1, 2) * (width, height)
        angle = rng.uniform(0, 2 * np.pi)
        thick = max(1, int(side * rng.uniform(*size)))
        for _ in range(rng.integers(2, 9)):
            angle += rng.uniform(-1.2, 1.2)
            step = side * rng.uniform(0.05, 0.3)
            after = point + step * np.array([np.cos(angle), np.sin(angle)])
            start, end = (int(point[0]), int(point[1])), (int(after[0]), int(after[1]))
            cv2.line(canvas, start, end, 1, thick)
            cv2.circle(canvas, end, thick // 2, 1, -1)
            point = after
    return canvas.astype(bool)


def scratches(
    height: int, width: int, rng: Rng, count: Count = COUNTS["scratches"], size: Span = SIZES["scratches"]
) -> np.ndarray:
    """Thin lines, nearly straight, up to the whole length of the picture."""
    canvas = np.zeros((height, width), np.uint8)
    side = min(height, width)
    together = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else None  # they often run one way
    for _ in range(_number(rng, count)):
        angle = rng.uniform(0, 2 * np.pi) if together is None else together + rng.normal(0, 0.15)
        bend = rng.normal(0, 0.04)
        thick = max(1, round(side * rng.uniform(*size)))
        points = [rng.uniform(0, 1, 2) * (width, height)]
        for _ in range(rng.integers(5, 40)):
            points.append(points[-1] + side * 0.04 * np.array([np.cos(angle), np.sin(angle)]))
            angle += bend + rng.normal(0, 0.08)
        cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, 1, thick)
    return canvas.astype(bool)


def flakes(height: int, width: int, rng: Rng, size: Span = SIZES["flakes"]) -> np.ndarray:
    """Where the print has come off: ragged regions."""
    side = min(height, width)
    field = np.zeros((height, width), np.float32)
    for cells, weight in ((rng.uniform(5, 14), 1.0), (rng.uniform(30, 60), 0.15)):
        grid = (max(2, round(height / side * cells)), max(2, round(width / side * cells)))
        noise = rng.standard_normal(grid).astype(np.float32)
        field += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return field > np.quantile(field, 1 - rng.uniform(*size))


def spots(height: int, width: int, rng: Rng, count: Count = COUNTS["spots"], size: Span = SIZES["spots"]) -> np.ndarray:
    """Round specks."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(_number(rng, count)):
        middle = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(canvas, middle, max(1, round(min(height, width) * rng.uniform(*size))), 1, -1)
    return canvas.astype(bool)


def blobs(height: int, width: int, rng: Rng, size: Span = SIZES["blobs"]) -> np.ndarray:
    """Irregular regions: smooth noise above a level that leaves `size` of the area."""
    cells = int(rng.integers(3, 10))
    noise = rng.standard_normal((cells, cells)).astype(np.float32)
    field = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return field > np.quantile(field, 1 - rng.uniform(*size))


def edge(height: int, width: int, rng: Rng, size: Span = SIZES["edge"]) -> np.ndarray:
    """A part of the picture lost from one side on."""
    mask = np.zeros((height, width), bool)
    cut = rng.uniform(*size)
    if rng.random() < 0.5:
        mask[: int(height * cut)] = True
    else:
        mask[:, : int(width * cut)] = True
    return mask[::-1, ::-1].copy() if rng.random() < 0.5 else mask


SHAPES: Mapping[str, Callable[..., np.ndarray]] = {
    "center": center,
    "square": square,
    "rectangles": rectangles,
    "ellipses": ellipses,
    "polygons": polygons,
    "strokes": strokes,
    "scratches": scratches,
    "flakes": flakes,
    "spots": spots,
    "blobs": blobs,
    "edge": edge,
}


def draw_mask(
    height: int,
    width: int,
    rng: Rng,
    shares: Mapping[str, float],
    counts: Mapping[str, Count] = COUNTS,
    sizes: Mapping[str, Span] = SIZES,
) -> np.ndarray:
    """One mask of a kind drawn by `shares` (kind to relative frequency), as many and as large as `counts` and `sizes`
    have of that kind; HW bool, at least one pixel True."""
    kinds = list(shares)
    weight = np.array([shares[k] for k in kinds], float)
    while True:
        kind = kinds[rng.choice(len(kinds), p=weight / weight.sum())]
        asked = {"count": counts.get(kind), "size": sizes.get(kind)}
        mask = SHAPES[kind](height, width, rng, **{key: value for key, value in asked.items() if value is not None})
        if mask.any():
            return mask
