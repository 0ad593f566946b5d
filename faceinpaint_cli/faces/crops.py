"""Which squares of a picture the generator is shown, so that every hole is filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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

THIN = 0.02
"""Damage thinner than this share of a crop (5 pixels of 256) is filled as well without the generator: on scratched
CelebA pictures Navier-Stokes is as good up to there, and does it at full resolution."""

HIDES_A_FACE = 1 / 8
"""A hole at least so thick, as a share of the picture's shorter side, may hide the face of a picture in which none
is found."""

CONTEXT = 2.0
"""Side of a context crop over the thickness of its hole: the share that hides the features of a face."""

LEAST_CONTEXT = 128.0
"""Smallest side of a context crop in pixels, in a picture that has as much."""


@dataclass(frozen=True)
class Plan:
    """How a picture's hole is filled: `crops` for the generator, and `simple` (HW bool), the part of the hole that
    has nothing to do with a face and is left to a classical method."""

    crops: list[Crop]
    simple: np.ndarray


def plan_crops(mask: np.ndarray, faces: Sequence[Face], size: int = 256) -> Plan:
    """Crops of `size` pixels a side that together cover every true pixel of `mask` (HW bool), less the simple.

    Faces near a hole get their aligned crop. Where these leave a part of a hole, it gets context crops: a square
    twice as wide as the hole is thick, several of them along a long hole. A hole away from all faces is simple,
    for a generator of faces would draw one there; in a picture without any face only a small or thin one is.
    """
    if not mask.any():
        return Plan([], mask)
    grid = _Grid(mask)
    crops = [_widened(_face_or_whole(face, mask, size), grid) for face in faces]
    near = [grid.weight(crop) > SURE_MARGIN for crop in crops]
    touched = np.array([grid.labels_in(cells) for cells in near], bool).reshape(len(crops), grid.count)
    sides = np.array([side_of(crop) for crop in crops]).reshape(-1, 1)
    thickness = grid.thickness()
    away = ~touched.any(0)
    too_small = np.full(grid.count, True) if faces else thickness < HIDES_A_FACE * min(mask.shape)
    scratch = ((thickness < THIN * sides) | ~touched).all(0)
    simple_labels = np.where(away, too_small, scratch)
    simple = grid.todo & simple_labels[grid.labels]
    left = grid.todo & ~simple
    used = []
    for i, cells in enumerate(near):
        mine = left & cells
        left = left & ~mine
        used += [i] * bool((touched[i] & ~simple_labels).any())
    kept = _without_idle([crops[i] for i in used], grid)
    for crop in kept:  # nothing lies beyond the picture: at its edge a crop's own edge takes nothing away
        left &= ~grid.at_picture_edge(crop)
    if kept:  # what a face's crop leaves of a scratch
        thin = left & ~_thick(grid.todo, THIN * min(map(side_of, kept)) / grid.step)
        simple |= thin
        left &= ~thin
    return Plan(kept + list(_context_crops(left, grid, size)), mask & grid.enlarged(simple))


def _thick(holes: np.ndarray, width: float) -> np.ndarray:
    """The parts of `holes` that a disc of this width fits into, and what touches them."""
    side = 2 * int(np.ceil(width / 2)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    padded = np.pad(holes.astype(np.uint8), side, mode="edge")  # what goes on beyond the picture is not thin
    core = cv2.dilate(cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc), disc)
    return (core[side:-side, side:-side] > 0) & holes


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

    def thickness(self) -> np.ndarray:
        """Of every hole, by label, in pixels: twice the largest distance to an edge."""
        far = 2 * self.step * self.distance(self.todo)[self.todo]
        thickness = np.zeros(self.count, far.dtype)
        np.maximum.at(thickness, self.labels[self.todo], far)
        return thickness

    def labels_in(self, cells: np.ndarray) -> np.ndarray:
        """Which holes, by label, have a cell among these."""
        found = np.bincount(self.labels[cells], minlength=self.count) > 0
        found[0] = False
        return found

    def enlarged(self, cells: np.ndarray) -> np.ndarray:
        """Cells as a mask of the picture's size (HW bool)."""
        full = cells.repeat(self.step, 0).repeat(self.step, 1)
        return full[: self.shape[0], : self.shape[1]]

    @staticmethod
    def distance(holes: np.ndarray) -> np.ndarray:
        """Distance to the nearest cell that is whole; the picture's edge is no such cell."""
        if holes.all():
            return np.full(holes.shape, max(holes.shape) / 2, np.float32)
        return cv2.distanceTransform(holes.astype(np.uint8), cv2.DIST_L2, 5)

    def unit(self, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """Where each cell lies in the crop, x and y in [0, 1]."""
        m = crop.matrix
        px, py = self.x - 0.5, self.y[:, None] - 0.5
        return ((m[0, 0] * px + m[0, 1] * py + m[0, 2] + 0.5) / crop.size,
                (m[1, 0] * px + m[1, 1] * py + m[1, 2] + 0.5) / crop.size)

    def weight(self, crop: Crop) -> np.ndarray:
        return crop_weight(*self.unit(crop))

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
    if _is_square(mask.shape):
        picture = np.array([[0, 0], [width, 0], [width, height], [0, height]])
        if np.abs(corners(crop) - picture).max() <= WHOLE_TOLERANCE * width:
            return replace(square_crop(0, 0, max(height, width), size), face=face)
    return crop


def _is_square(shape: tuple[int, int]) -> bool:
    return abs(shape[0] - shape[1]) <= 0.02 * max(shape)


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
    far = 2 * grid.step * grid.distance(grid.todo)
    # slivers that an earlier crop left are cheap to take together
    grown = cv2.dilate(left.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(grown)
    todo = left.copy()
    for label in range(1, count):
        hole = (labels == label) & todo
        if not hole.any():
            continue
        side = min(max(LEAST_CONTEXT, CONTEXT * float(far[hole].max())), max(height, width))
        if _is_square(grid.shape) and side > (1 - 2 * WHOLE_TOLERANCE) * width:
            side = max(height, width)
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
