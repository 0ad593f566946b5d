"""Faces of which a hole leaves nothing to be detected: told from hair, neck and shoulders around it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
import torch

from faceinpaint_cli.faces.alignment import TEMPLATE, is_square
from faceinpaint_cli.models.checkpoint import load_bundled
from faceinpaint_cli.models.networks.hidden_face import POINTS, SIDE, HiddenFace, shown
from faceinpaint_cli.types import Face

LEAST_THICK = 24.0
"""Thinner holes, in pixels, hide no face that would be looked for."""
CONTEXTS = (1.7, 2.2, 2.7)
"""Sides of the squares that are looked at around a place of a hole, over the hole's thickness there; what the network
says of them, and of their mirror images, is averaged."""
SURE, LIKELY, LARGE = 0.4, 0.15, 0.3
"""On average over the looks, from SURE on there is a face; from LIKELY on where the hole is thicker than this share of
the picture's shorter side: what a portrait loses is its face."""
NEARLY_ALL = 0.8
"""A face that takes so much of a square picture takes all of it."""
STRIDE, MOST_PLACES = 0.5, 40
"""Looks along a long hole: shares of its thickness from one to the next, and their number at most."""
DEEP = 0.85
"""Places of a hole count that are so deep in it, as a share of the deepest."""


def find_hidden(picture: np.ndarray, mask: np.ndarray, holes: np.ndarray) -> list[Face]:
    """The faces that `holes` (HW bool), some of the holes of `mask` (HW bool) in a picture (HWC uint8 RGB), hide
    wholly; their landmarks are half the network's guess, half those of a face in the middle of the hole. At most one
    for each place, the surest first.

    Raises ModelError where the network's weights are missing.
    """
    places = list(_places(holes))
    if not places:
        return []
    looks, mirrored = [], []
    for x, y, thick in places:
        for context in CONTEXTS:
            seen, unknown = square(picture, mask, np.array([x, y]), context * thick, SIDE)
            colours = torch.from_numpy(seen).permute(2, 0, 1)[None].float()
            looks.append(shown(colours, torch.from_numpy(unknown)[None, None]))
            mirrored.append(looks[-1].flip(3))
    with torch.inference_mode():
        answers, flipped = (_network()(torch.cat(batch)).float().numpy() for batch in (looks, mirrored))
    points, other = (a[:, 1:].reshape(-1, POINTS, 2) for a in (answers, flipped))
    other = other[:, [1, 0, 2, 4, 3]] * (-1, 1) + (1, 0)
    chance = (1 / (1 + np.exp(-answers[:, 0])) + 1 / (1 + np.exp(-flipped[:, 0]))) / 2
    chance = chance.reshape(len(places), len(CONTEXTS)).mean(1)
    sides = np.array([context * thick for _, _, thick in places for context in CONTEXTS])[:, None, None]
    middles = np.array([(x, y) for x, y, _ in places for _ in CONTEXTS])[:, None]
    marks = (middles + ((points + other) / 2 - 0.5) * sides).reshape(len(places), len(CONTEXTS), POINTS, 2).mean(1)
    marks = (marks + np.array([_in_the_middle(*place, mask.shape) for place in places])) / 2
    found: list[Face] = []
    for index in np.argsort(-chance):
        face = Face(_box(marks[index]), marks[index], float(chance[index]), "hidden")
        least = LIKELY if places[index][2] >= LARGE * min(mask.shape) else SURE
        if chance[index] >= least and all(_apart(face, other) for other in found):
            found.append(face)
    return found


def square(picture: np.ndarray, mask: np.ndarray, middle: np.ndarray, side: float,
           size: int) -> tuple[np.ndarray, np.ndarray]:
    """The square of `side` pixels around `middle` (XY) of a picture (HWC uint8), as (size, size, 3) uint8, and where it
    is unknown, (size, size) bool: under `mask` (HW bool) or beyond the picture."""
    span = max(2, round(side))
    x, y = np.round(middle - span / 2).astype(int)
    height, width = picture.shape[:2]
    (top, bottom), (left, right) = np.clip([y, y + span], 0, height), np.clip([x, x + span], 0, width)
    part = np.zeros((span, span, 3), np.uint8)
    unknown = np.ones((span, span), np.float32)
    inside = (slice(top - y, bottom - y), slice(left - x, right - x))
    part[inside] = picture[top:bottom, left:right]
    unknown[inside] = mask[top:bottom, left:right]
    way = cv2.INTER_AREA if span > size else cv2.INTER_LINEAR
    return cv2.resize(part, (size, size), interpolation=way), cv2.resize(unknown, (size, size), interpolation=way) > 0


@lru_cache(maxsize=1)
def _network() -> HiddenFace:
    return load_bundled(HiddenFace(), "hidden-face", "fill with another --method")


def _places(holes: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """(x, y, thickness) of places to look at, in pixels: the deepest of each hole, and others as deep along it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(holes.astype(np.uint8), connectivity=8)
    depth = cv2.distanceTransform(np.pad(holes, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    for label in range(1, count):
        x, y, width, height = stats[label, :4]
        box = (slice(y, y + height), slice(x, x + width))
        deep = np.where(labels[box] == label, depth[box], 0)
        thick = 2 * float(deep.max())
        if thick < LEAST_THICK:
            continue
        rows, columns = np.nonzero(deep >= DEEP * deep.max())
        cells = np.stack([columns, rows], 1) // max(1.0, STRIDE * thick)
        _, first = np.unique(cells, axis=0, return_index=True)
        for index in first[:: max(1, -(-len(first) // MOST_PLACES))]:
            yield float(columns[index] + x), float(rows[index] + y), thick


def _in_the_middle(x: float, y: float, thick: float, shape: tuple[int, ...]) -> np.ndarray:
    """Landmarks (5, 2) of a face whose aligned crop is twice as wide as the hole is thick at (x, y), inside the
    picture, and all of it where that is nearly a crop itself: holes are mostly put over the features of a face."""
    height, width = shape[:2]
    side = min(2 * thick, max(height, width))
    if is_square(shape) and side > NEARLY_ALL * width:
        side = max(height, width)
    corner = [(length - side) / 2 if side >= length else np.clip(at - side / 2, 0, length - side)
              for at, length in ((x, width), (y, height))]
    return np.array(corner) + TEMPLATE * side - 0.5


def _box(marks: np.ndarray) -> np.ndarray:
    """The box that a detector would give a face with these landmarks (5, 2): as wide and high beside them as MTCNN's
    boxes are in CelebA."""
    low, high = marks.min(0), marks.max(0)
    span = high - low
    return np.concatenate([low - (0.6, 1.15) * span, high + (0.6, 0.65) * span])


def _apart(a: Face, b: Face) -> bool:
    reach = max(np.ptp(a.box[::2]), np.ptp(b.box[::2]))
    return bool(np.hypot(*(a.landmarks.mean(0) - b.landmarks.mean(0))) > 0.6 * reach)
