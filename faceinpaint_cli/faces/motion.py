"""How a face moves from one frame to the next: optical flow on small grey pictures, summed up as a similarity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from faceinpaint_cli.faces.alignment import fit_similarity
from faceinpaint_cli.types import Face

FLOW_SIDE = 512
"""Longer side of the pictures that flow is computed on."""

SAMPLES = 14
"""Points a side of the grid on a face at which its motion is read."""

FEWEST = 12
"""With fewer known points the face is taken to stand still."""


@dataclass(frozen=True)
class Small:
    """A frame reduced for flow: `grey` (h, w) uint8, `unknown` (h, w) bool, `scale` (small over full size)."""

    grey: np.ndarray
    unknown: np.ndarray
    scale: float


def reduce(image: np.ndarray, mask: np.ndarray) -> Small:
    """From a frame (HWC uint8 RGB) and its mask (HW bool)."""
    height, width = mask.shape
    scale = min(1.0, FLOW_SIDE / max(height, width))
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    hole = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    # flow is smoothed over patches, so what moves in the damage also moves its rim
    return Small(grey, cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0, scale)


class Flow:
    """Dense inverse search (Kroeger et al., ECCV 2016) at its quickest setting."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def between(self, before: Small, after: Small) -> np.ndarray:
        """(h, w, 2) float32: where each pixel of `before` went, in small pixels."""
        return self._dis.calc(before.grey, after.grey, None)


def face_motion(face: Face, flow: np.ndarray, before: Small, after: Small) -> np.ndarray:
    """The similarity (2, 3) in full-size pixels that moves `face` from `before` to `after`.

    Read at known points of its box; where most of that is hidden, also around it, since head, hair and
    shoulders move alike. The identity where next to nothing is known.
    """
    for grow in (0.0, 0.3, 0.8):
        points = _grid(face.box, grow) * before.scale
        height, width = flow.shape[:2]
        x, y = np.round(points).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        x, y, points = x[inside], y[inside], points[inside]
        known = ~before.unknown[y, x]
        x, y, points = x[known], y[known], points[known]
        moved = points + flow[y, x]
        ends = np.round(moved).astype(int)
        seen = ((ends >= 0) & (ends < (width, height))).all(1)
        seen[seen] &= ~after.unknown[ends[seen][:, 1], ends[seen][:, 0]]
        if seen.sum() >= (0.4 * SAMPLES**2 if grow < 0.8 else FEWEST):
            return _robust(points[seen] / before.scale, moved[seen] / before.scale)
    return np.eye(2, 3)


def _grid(box: np.ndarray, grow: float) -> np.ndarray:
    margin = grow * (box[2:] - box[:2])
    low, high = box[:2] - margin, box[2:] + margin
    x, y = (np.linspace(a, b, SAMPLES) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(x, y), 2).reshape(-1, 2)


def _robust(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A similarity fitted three times, each time with less weight on what the last one missed (Cauchy)."""
    weights = np.ones(len(source))
    matrix = np.eye(2, 3)
    for _ in range(3):
        matrix = fit_similarity(source, target, weights)
        miss = np.linalg.norm(move(source, matrix) - target, axis=1)
        weights = 1 / (1 + (miss / max(0.3, float(np.median(miss)))) ** 2)
    return matrix


def move(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (N, 2) under a map (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def move_face(face: Face, matrix: np.ndarray) -> Face:
    """A face under a similarity: landmarks as they are, the box upright as before."""
    centre = move((face.box[:2] + face.box[2:])[None] / 2, matrix)[0]
    half = (face.box[2:] - face.box[:2]) / 2 * float(np.hypot(*matrix[:, 0]))
    box = np.concatenate([centre - half, centre + half])
    return replace(face, box=box, landmarks=move(face.landmarks, matrix), source="tracked")


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The map that does `first` and `then` after it."""
    return np.column_stack([then[:, :2] @ first[:, :2], then[:, :2] @ first[:, 2] + then[:, 2]])
