"""Which squares of a picture the generator is shown, so that every hole is filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from faceinpaint_cli.faces.alignment import corners, face_crop, side_of, square_crop
from faceinpaint_cli.types import Crop, Face

GRID = 512
"""Longer side of the reduced mask that crops are planned on."""

WHOLE_TOLERANCE = 0.1
"""A square picture whose corners are within this share of its side of a face's crop is itself taken as the
crop: it was cropped before, and what is not resampled stays sharp."""

SURE_MARGIN = 0.06
"""A hole pixel nearer than this share of the side to the crop's edge is also given a context crop."""

MOST_HOLE = 0.62
"""A face's crop with a larger share of hole shows too little; it is widened."""

THIN = 0.06
"""Damage thinner than this share of a face's crop (a scratch) needs no knowledge of the face: where the crop
would be reduced it is filled at full resolution instead."""

CONTEXT = 2.0
"""Side of a context crop over the thickness of its hole."""


def plan_crops(mask: np.ndarray, faces: Sequence[Face], size: int = 256) -> list[Crop]:
    """Crops of `size` pixels a side that together cover every true pixel of `mask` (HW bool).

    Faces near a hole get their aligned crop. What these leave gets context crops: a square twice as wide as
    the hole is thick, several of them along a long hole, at full resolution where the hole is small.
    """
    if not mask.any():
        return []
    grid = _Grid(mask)
    crops = [_face_or_whole(face, mask, size) for face in faces]
    crops = [_widened(crop, grid) for crop in crops]
    crops = [crop for crop in crops if grid.touches(crop)]
    left = grid.todo.copy()
    used: set[int] = set()
    for label, thickness in grid.holes():
        hole = grid.labels == label
        for i, crop in enumerate(crops):
            side = side_of(crop)
            if side > 1.5 * size and thickness < THIN * side:
                continue
            sure = hole & (grid.weight(crop) > SURE_MARGIN)
            if sure.any():
                left &= ~sure
                used.add(i)
    kept = _without_idle([crops[i] for i in sorted(used)], grid)
    for crop in kept:  # nothing lies beyond the picture: at its edge a crop's own edge takes nothing away
        left &= ~grid.at_picture_edge(crop)
    return kept + list(_context_crops(left, grid, size))


def crop_weight(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much a crop counts at points of it (x, y in [0, 1]): 1 in the middle, 0 at the edge and beyond."""
    return np.clip(2 * np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)), 0, 1)


class _Grid:
    """The mask at a size that planning can afford: a cell is damaged where any pixel in it is."""

    def __init__(self, mask: np.ndarray) -> None:
        self.shape = mask.shape
        self.step = max(1, -(-max(mask.shape) // GRID))
        rows, columns = (-(-n // self.step) for n in mask.shape)
        padded = np.zeros((rows * self.step, columns * self.step), bool)
        padded[: mask.shape[0], : mask.shape[1]] = mask
        self.todo = padded.reshape(rows, self.step, columns, self.step).any((1, 3))
        self.count, self.labels = cv2.connectedComponents(self.todo.astype(np.uint8))
        self.y, self.x = ((np.arange(n) + 0.5) * self.step for n in (rows, columns))

    def holes(self) -> Iterator[tuple[int, float]]:
        """Label and thickness (pixels; twice the largest distance to an edge) of every hole."""
        far = 2 * self.step * self.distance(self.todo)
        thickness = np.zeros(self.count)
        np.maximum.at(thickness, self.labels.ravel(), far.ravel())
        yield from ((label, float(thickness[label])) for label in range(1, self.count))

    @staticmethod
    def distance(holes: np.ndarray) -> np.ndarray:
        """Distance to the nearest cell that is whole; the picture's edge is no such cell."""
        if holes.all():
            return np.full(holes.shape, max(holes.shape) / 2, np.float32)
        return cv2.distanceTransform(holes.astype(np.uint8), cv2.DIST_L2, 3)

    def unit(self, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """Where each cell lies in the crop, x and y in [0, 1]."""
        m = crop.matrix
        px, py = self.x - 0.5, self.y[:, None] - 0.5
        return ((m[0, 0] * px + m[0, 1] * py + m[0, 2] + 0.5) / crop.size,
                (m[1, 0] * px + m[1, 1] * py + m[1, 2] + 0.5) / crop.size)

    def weight(self, crop: Crop) -> np.ndarray:
        return crop_weight(*self.unit(crop))

    def touches(self, crop: Crop) -> bool:
        return bool((self.todo & (self.weight(crop) > 0)).any())

    def at_picture_edge(self, crop: Crop) -> np.ndarray:
        """Cells inside the crop and near the picture's edge: there is nothing that the crop leaves out."""
        height, width = self.shape
        inside = self.weight(crop) > 0
        whole = corners(crop)
        if whole[:, 0].min() <= 1 and whole[:, 1].min() <= 1 and whole[:, 0].max() >= width - 1 \
                and whole[:, 1].max() >= height - 1:
            return inside
        edge = np.minimum(np.minimum(self.x, width - self.x), np.minimum(self.y, height - self.y)[:, None])
        return inside & (edge <= SURE_MARGIN * side_of(crop))


def _face_or_whole(face: Face, mask: np.ndarray, size: int) -> Crop:
    crop = face_crop(face, size, mask)
    height, width = mask.shape
    if abs(height - width) <= 0.02 * max(height, width):
        picture = np.array([[0, 0], [width, 0], [width, height], [0, height]])
        if np.abs(corners(crop) - picture).max() <= WHOLE_TOLERANCE * width:
            return replace(square_crop(0, 0, max(height, width), size), face=face)
    return crop


def _widened(crop: Crop, grid: _Grid) -> Crop:
    """The crop, made larger around its middle until enough of it is known (at most twice as wide)."""
    for _ in range(4):
        inside = grid.weight(crop) > 0
        cells = (side_of(crop) / grid.step) ** 2  # what is beyond the picture is unknown too
        known = (inside & ~grid.todo).sum()
        if known >= (1 - MOST_HOLE) * cells or cells > grid.todo.size:
            break
        centre = (crop.size - 1) / 2
        matrix = crop.matrix / 1.19
        matrix[:, 2] += centre * (1 - 1 / 1.19)
        crop = replace(crop, matrix=matrix)
    return crop


def _without_idle(crops: list[Crop], grid: _Grid) -> list[Crop]:
    """Leave out crops that count most nowhere in a hole: a neighbour's face shows it better."""
    if len(crops) < 2:
        return crops
    owner = np.argmax([grid.weight(crop)[grid.todo] for crop in crops], axis=0)
    return [crop for i, crop in enumerate(crops) if (owner == i).any()]


def _context_crops(left: np.ndarray, grid: _Grid, size: int) -> Iterator[Crop]:
    height, width = grid.shape
    low = min(size, max(64, min(height, width)))
    far = 2 * grid.step * grid.distance(grid.todo)
    # slivers that an earlier crop left are cheap to take together
    grown = cv2.dilate(left.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(grown)
    todo = left.copy()
    for label in range(1, count):
        hole = (labels == label) & todo
        if not hole.any():
            continue
        side = min(max(low, CONTEXT * float(far[hole].max())), max(low, height, width))
        for left_edge, top_edge in _tiles(hole, grid, side):
            crop = square_crop(left_edge, top_edge, side, size)
            inside = grid.weight(crop) > 0
            if (inside & todo & hole).any():
                todo &= ~((grid.weight(crop) > SURE_MARGIN) | grid.at_picture_edge(crop))
                yield crop


def _tiles(hole: np.ndarray, grid: _Grid, side: float) -> Iterator[tuple[float, float]]:
    """Top left corners of squares of `side` that cover the hole (cells): one if the hole fits into three
    quarters of it, so that known pixels are left around, else a grid at most half a side apart."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    spans = [(columns[0] * grid.step, (columns[-1] + 1) * grid.step, grid.shape[1]),
             (rows[0] * grid.step, (rows[-1] + 1) * grid.step, grid.shape[0])]
    starts = []
    for low, high, length in spans:
        high = min(high, length)
        count = 1 if high - low <= 0.75 * side else int(np.ceil((high - low) / (0.5 * side)))
        pitch = (high - low) / count
        starts.append([_inside(low + (i + 0.5) * pitch - side / 2, side, length) for i in range(count)])
    seen = set()
    for top in starts[1]:
        for left in starts[0]:
            if (left, top) not in seen:
                seen.add((left, top))
                yield left, top


def _inside(start: float, side: float, length: int) -> float:
    """Move a span of `side` into [0, length] where it fits, else centre it; on a whole pixel."""
    if side >= length:
        return float(np.floor((length - side) / 2))
    return float(np.clip(np.round(start), 0, int(length - side)))
