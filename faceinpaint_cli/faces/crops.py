"""Which squares of a picture the generator is shown, so that every hole is filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from faceinpaint_cli.faces.alignment import corners, face_crop, is_square, side_of, square_crop
from faceinpaint_cli.types import Crop, Face

GRID = 512
"""Longer side of the reduced mask that crops are planned on."""

WHOLE_TOLERANCE = 0.1
"""A square picture whose corners are within this share of its side of a face's crop is itself taken as the
crop: it was cropped before, and what is not resampled stays sharp."""

SURE_MARGIN = 0.06
"""A hole pixel nearer than this share of the side to the crop's edge is another crop's, or simple."""

MOST_HOLE = 0.62
"""A face's crop with a larger share of hole shows too little; it is widened."""

THIN = 0.02
"""Damage thinner than this share of a crop (5 pixels of 256) is filled as well without the generator: on scratched
CelebA pictures Navier-Stokes is as good up to there, and does it at full resolution."""


@dataclass(frozen=True)
class Plan:
    """How a picture's hole is filled: `crops` for the generator, and `simple` (HW bool), the part of the hole that
    has nothing to do with a face and is left to a classical method."""

    crops: list[Crop]
    simple: np.ndarray


def plan_crops(mask: np.ndarray, faces: Sequence[Face], size: int = 256) -> Plan:
    """Crops of `size` pixels a side that together cover every true pixel of `mask` (HW bool), less the simple.

    Faces near a hole get their aligned crop. What these leave of a hole is simple, and so is a hole away from all
    faces: a generator of faces would draw one there. Only of a picture of which nothing is known it is shown all.
    """
    if not mask.any():
        return Plan([], mask)
    if mask.all():
        height, width = mask.shape
        side = max(height, width)
        return Plan([square_crop((width - side) // 2, (height - side) // 2, side, size)], np.zeros_like(mask))
    grid = _Grid(mask)
    crops = [_widened(_face_or_whole(face, mask, size), grid) for face in faces]
    near = [grid.weight(crop) > SURE_MARGIN for crop in crops]
    touched = np.array([grid.labels_in(cells) for cells in near], bool).reshape(len(crops), grid.count)
    sides = np.array([side_of(crop) for crop in crops]).reshape(-1, 1)
    simple_labels = ((grid.thickness() < THIN * sides) | ~touched).all(0)
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
    return Plan(kept, mask & grid.enlarged(simple | left))


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
    if is_square(mask.shape):
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
