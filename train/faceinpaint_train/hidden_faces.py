"""Training of the finder of hidden faces: holes over faces, and holes over anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from faceinpaint_cli.faces.alignment import TEMPLATE, fit_similarity
from faceinpaint_cli.faces.detector import FaceDetector
from faceinpaint_cli.faces.hidden import square
from faceinpaint_cli.models.networks.hidden_face import POINTS, SIDE, shown
from faceinpaint_train.batches import Batch
from faceinpaint_train.crops import CROP

RATE = 1.5e-3
COUNT = 64
SEEN_SIDE = 96
"""Pixels that a square half as wide again as SIDE is reduced to, before it is turned."""
FEWEST_HIDDEN = 3
"""Landmarks of a face that a hole must hide for the face to count as hidden; with fewer it is found without help."""
THICKNESS = (0.26, 0.64)
"""Of a hole over a face, as shares of the side of its aligned crop: from the features alone to the whole head."""
CONTEXT = (1.6, 2.8)
"""Side of the square over the thickness of the hole."""
BESIDE = 0.3
"""Least distance, in sides of the aligned crop, of the middle of a hole that hides no face from the middle of one."""
NARROWED, REACH = 0.65, (0.56, 2.4)
"""Share of the squares without a face in which the picture ends, and how wide it then is, in their sides: aligned faces
end so, and where the picture ends must not tell the two apart."""
POINT_LOSS = 20.0


@dataclass(frozen=True)
class View:
    """A picture (H, W, 3) uint8 and the landmarks (5, 2) of the faces in it, in pixels."""

    picture: np.ndarray
    faces: Sequence[np.ndarray]


def views_of(pictures: Sequence[np.ndarray], detector: FaceDetector) -> list[View]:
    """Wider views with the faces that are found in them."""
    found = detector.detect(pictures)
    return [View(picture, [face.landmarks for face in faces]) for picture, faces in zip(pictures, found, strict=True)]


def canvas_view(canvas: np.ndarray) -> View:
    """An aligned picture as the data set holds them (see `crops.CANVAS`)."""
    return View(canvas, [TEMPLATE * CROP[2:] + CROP[:2]])


def side_and_middle(landmarks: np.ndarray) -> tuple[float, np.ndarray]:
    """The side of the aligned crop of a face, in pixels, and the middle of its features."""
    matrix = fit_similarity(TEMPLATE, landmarks, np.ones(POINTS))
    return float(np.hypot(*matrix[:, 0])), landmarks.mean(0)


def _hole(rng: np.random.Generator, share: float) -> np.ndarray:
    """A hole (SEEN_SIDE, SEEN_SIDE) bool in the middle of the square, `share` of SIDE thick."""
    middle, thick = (SEEN_SIDE - 1) / 2, share * SIDE
    width, height = thick * rng.uniform(1, 1.4), thick
    if rng.random() < 0.5:
        width, height = height, width
    mask = np.zeros((SEEN_SIDE, SEEN_SIDE), np.uint8)
    kind = rng.choice(["box", "ellipse", "polygon", "bar"], p=[0.4, 0.25, 0.2, 0.15])
    if kind == "bar":
        width = 2 * SEEN_SIDE
    if kind in ("box", "bar"):
        corners = cv2.boxPoints(((middle, middle), (width, height), float(rng.choice([0, 0, rng.uniform(-90, 90)]))))
    else:
        count = 40 if kind == "ellipse" else int(rng.integers(6, 12))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count)) if kind == "polygon" else np.linspace(0, 2 * np.pi, count)
        reach = rng.uniform(0.75, 1.25, count) if kind == "polygon" else np.ones(count)
        corners = np.stack([width * np.cos(angles), height * np.sin(angles)], 1) / 2 * reach[:, None] + middle
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return mask > 0


def _sample(view: View, over: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(picture (SIDE, SIDE, 3), unknown (SIDE, SIDE), landmarks (5, 2) in [0, 1]) of a hole over face `over`, or over
    none; None where this try gave no such hole."""
    height, width = view.picture.shape[:2]
    places = [side_and_middle(face) for face in view.faces]
    if over is None:
        thick = rng.uniform(0.08, 0.45) * min(height, width)
        centre = rng.uniform((0, 0), (width, height))
        if any(np.hypot(*(centre - middle)) < BESIDE * side + thick / 4 for side, middle in places):
            return None
    else:
        side, middle = places[over]
        thick = rng.uniform(*THICKNESS) * side
        centre = middle + rng.normal(0, 0.06 * side, 2)
    side = thick * rng.uniform(*CONTEXT)
    shift = rng.uniform(-0.08, 0.08, 2) * side
    outside = np.zeros((height, width), bool)
    if rng.random() < (NARROWED if over is None else 1 - NARROWED):
        span = side * rng.uniform(*REACH) * np.array([1, height / width if height > width else 1.2])
        low, high = np.clip(centre + rng.uniform(-0.3, 0.3, 2) * span + np.outer([-0.5, 0.5], span), 0, (width, height))
        outside[:] = True
        outside[int(low[1]) : int(high[1]) + 1, int(low[0]) : int(high[0]) + 1] = False
    picture, beyond = square(view.picture, outside, centre + shift, side * SEEN_SIDE / SIDE, SEEN_SIDE)
    hole = _hole(rng, thick / side)
    hole = cv2.warpAffine(hole.astype(np.uint8), np.float32([[1, 0, -shift[0] * SIDE / side],
                                                             [0, 1, -shift[1] * SIDE / side]]), hole.shape[::-1]) > 0
    turn = cv2.getRotationMatrix2D(((SEEN_SIDE - 1) / 2,) * 2, rng.normal(0, 10), 1)
    turn[:, 2] -= (SEEN_SIDE - SIDE) / 2
    mirrored = rng.random() < 0.5
    if mirrored:
        turn = np.array([[-1, 0, SIDE - 1], [0, 1, 0]]) @ np.vstack([turn, [0, 0, 1]])
    seen = cv2.warpAffine(picture, turn, (SIDE, SIDE))
    unknown = cv2.warpAffine((beyond | hole).astype(np.uint8), turn, (SIDE, SIDE), borderValue=1) > 0
    faces = [(face - centre - shift) * SIDE / side + (SEEN_SIDE - 1) / 2 for face in view.faces]
    cells = [np.clip(np.round(face), 0, SEEN_SIDE - 1).astype(int) for face in faces]
    hides = [int(hole[y, x].sum()) for x, y in (c.T for c in cells)]
    if over is None:
        return None if any(hides) else (seen, unknown, np.zeros((POINTS, 2)))
    if hides[over] < FEWEST_HIDDEN:
        return None
    points = (faces[over] @ turn[:, :2].T + turn[:, 2] + 0.5) / SIDE
    return seen, unknown, points[[1, 0, 2, 4, 3]] if mirrored else points


def _other_light(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture in another light, sharper or softer and with grain: which data set it is from must not be seen."""
    if rng.random() < 0.35:
        small = int(rng.integers(20, SIDE))
        picture = cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    elif rng.random() < 0.45:
        blurred = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.5))
        amount = rng.uniform(0.3, 2.0)
        picture = cv2.addWeighted(picture, 1 + amount, blurred, -amount, 0)
    if rng.random() < 0.1:
        picture = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    changed = (picture.astype(np.float32) - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-35, 35)
    changed = changed * rng.uniform(0.9, 1.1, 3) + rng.normal(0, rng.uniform(0, 4), picture.shape)
    return np.clip(changed, 0, 255)


def make_batch(canvases: np.ndarray, views: Sequence[View], seed: int, step: int) -> Batch:
    """Batch `step`: what the network is shown (COUNT, 4, SIDE, SIDE) float32, and (COUNT, 1 + 2 * 5): 1 where the hole
    hides a face, and its landmarks."""
    rng = np.random.default_rng([seed, 5, step])
    with_faces = [view for view in views if view.faces]
    pictures: list[np.ndarray] = []
    unknowns: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    while len(pictures) < COUNT:
        hides = len(pictures) % 2 == 0
        of_view = len(with_faces if hides else views) > 0 and rng.random() < (0.5 if hides else 0.8)
        pool = with_faces if hides else views
        view = pool[rng.integers(len(pool))] if of_view else canvas_view(canvases[rng.integers(len(canvases))])
        sample = _sample(view, int(rng.integers(len(view.faces))) if hides else None, rng)
        if sample is None:
            continue
        pictures.append(_other_light(sample[0], rng))
        unknowns.append(sample[1])
        truths.append(np.concatenate([[hides], sample[2].ravel()]))
    picture = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return shown(picture, torch.from_numpy(np.stack(unknowns))[:, None]), torch.from_numpy(np.stack(truths)).float()


def loss_of(answer: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, and the distance of the landmarks (L1, in sides of the square) where there is a face."""
    hides = truth[:, 0]
    apart = (answer[:, 1:] - truth[:, 1:]).abs().mean(1)
    return F.binary_cross_entropy_with_logits(answer[:, 0], hides) + POINT_LOSS * (hides * apart).mean()
