"""Training of the localiser of damaged prints: photographs, some aged, and where."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from faceinpaint_cli.synthesis.prints import age
from faceinpaint_train.batches import Batch
from faceinpaint_train.localiser import crisp, photograph

RATE = 2e-3
SIZE, COUNT = 256, 8
"""Pixels of a side, and pictures of a batch."""
CLEAN, REDUCED, SCENES, CRISP, JPEG = 0.45, 0.35, 0.6, 0.3, 0.5
"""Shares of pictures: untouched; aged at up to three times the size and then reduced, as large scans are looked at;
parts of wider views, where there are some; sharpened, and as many with grain; compressed."""
NATIVE = 0.6
"""Share of the wider views that are seen as sharp as they are, not reduced: the texture of cloth, leaves and hair is
what lines are mixed up with."""
COVERED, BARE, UNSEEN = 0.3, 0.06, 6.0
"""From this share of a pixel on it is damaged, up to that it is not, if it changed by so many grey levels at all: what
lies between, and what nobody can see, is not learned from."""


def _part(view: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a wider view, (size, size, 3) uint8, mirrored at even odds."""
    if min(view.shape[:2]) <= size or rng.random() > NATIVE:
        return photograph(view, size, rng)
    y, x = (int(rng.integers(0, length - size + 1)) for length in view.shape[:2])
    part = view[y : y + size, x : x + size]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def make_batch(faces: np.ndarray, views: Sequence[np.ndarray], seed: int, step: int) -> Batch:
    """Batch `step`: images (COUNT, 3, SIZE, SIZE) uint8, and (COUNT, 2, SIZE, SIZE) bool: what is damaged, and what
    is learned from."""
    rng = np.random.default_rng([seed, 7, step])
    images, truths = [], []
    for _ in range(COUNT):
        side = int(SIZE * rng.uniform(1.2, 3)) if rng.random() < REDUCED else SIZE
        wide = len(views) > 0 and rng.random() < SCENES
        if wide:
            picture = _part(views[rng.integers(len(views))], side, rng)
        else:
            picture = photograph(faces[rng.integers(len(faces))], side, rng)
        if rng.random() < 0.2:
            picture = np.repeat(picture.mean(2, keepdims=True), 3, 2).astype(np.uint8)
        first = rng.random() < 0.7
        picture = crisp(picture, CRISP, rng) if first else picture
        before = picture
        covered = np.zeros(picture.shape[:2], np.float32)
        if rng.random() >= CLEAN:
            picture, covered = age(picture, rng)
        change = np.abs(picture.astype(np.float32) - before).mean(2)
        picture = picture if first else crisp(picture, CRISP, rng)
        if side != SIZE:
            picture, covered, change = (
                cv2.resize(p, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for p in (picture, covered, change))
        if rng.random() < JPEG:
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 98))])
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        damaged = (covered >= COVERED) & (change >= UNSEEN)
        images.append(picture)
        truths.append(np.stack([damaged, damaged | (covered <= BARE)]))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(truths))


def loss_of(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over the pixels that are learned from, and a quarter as much over the hardest fiftieth of
    each picture; `logits` (B, 1, S, S), `truth` as `make_batch` gives it."""
    damaged, counts = truth[:, :1].float(), truth[:, 1:].float()
    each = (F.binary_cross_entropy_with_logits(logits, damaged, reduction="none") * counts).flatten(1)
    hardest = each.topk(each.shape[1] // 50, dim=1).values
    return each.mean() + 0.25 * hardest.mean()
