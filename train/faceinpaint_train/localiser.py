"""Training of the damage localiser: photographs, some stamped over, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from faceinpaint_cli.errors import DataError
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.synthesis.patches import stamp
from faceinpaint_cli.synthesis.shapes import draw_mask
from faceinpaint_train.batches import Batch
from faceinpaint_train.faces import decode

RATE = 1.5e-3
STEP, VIEW = 12, 512
"""Frames from one wider view of a video to the next, and pixels of its longer side."""
PHOTO_VIEW, PHOTO_PARTS = 768, 3
"""Pixels of the longer side of the views of a photograph, and rows and columns of its parts that are views as well:
what is sharp in one is of all sizes, down to the texture of cloth and leaves."""
SEEN = 0.25
"""From this share of a stamp on in a pixel, it counts as stamped."""


@dataclass(frozen=True)
class LocaliserPlan:
    """What is learned from: pictures of one of `sizes` pixels, each batch its own, `count` of 256 pixels or as many
    larger or smaller ones as cost the same; the share `clean` untouched, the share `twice` of the others stamped two
    times; the share `reduced` stamped at twice the size and then reduced, as large photographs are looked at; the share
    `soft` of the stamps with a soft rim; the share `scenes` parts of wider views, where there are some; the share
    `crisp` sharpened, and as many with grain, before they are stamped or after: photographs of millions of pixels are
    as sharp and as grainy where they are looked at, faces of training, enlarged, are not."""

    sizes: Sequence[int] = (128, 160, 192, 256, 384, 512)
    count: int = 10
    seed: int = 1
    clean: float = 0.45
    twice: float = 0.25
    reduced: float = 0.3
    soft: float = 0.5
    scenes: float = 0.4
    crisp: float = 0.3
    shapes: Mapping[str, float] = field(
        default_factory=lambda: {
            "square": 0.17,
            "center": 0.03,
            "rectangles": 0.14,
            "ellipses": 0.07,
            "polygons": 0.07,
            "strokes": 0.17,
            "scratches": 0.19,
            "flakes": 0.08,
            "spots": 0.04,
            "blobs": 0.03,
            "edge": 0.01,
        }
    )
    patches: Mapping[str, float] = field(
        default_factory=lambda: {
            "white": 0.1,
            "solid": 0.12,
            "paper": 0.17,
            "noise": 0.07,
            "stripes": 0.06,
            "checker": 0.05,
            "text": 0.06,
            "gradient": 0.07,
            "clouds": 0.07,
            "other": 0.26,
            "macroblocks": 0.1,
        }
    )


def wider_views(videos: Sequence[Path], photographs: Sequence[Path] = ()) -> list[np.ndarray]:
    """Every STEPth frame of videos, and each photograph as a whole and in parts: (H, W, 3) uint8 RGB. Raises
    DataError for a photograph that cannot be read."""
    views: list[np.ndarray] = []
    for path in videos:
        with open_video(path) as container:
            for frame in islice(container.decode(video_stream(container, path)), 0, None, STEP):
                views.append(_reduced(frame.to_ndarray(format="rgb24"), VIEW))
    for path in photographs:
        picture = decode(path.read_bytes())
        if picture is None:
            raise DataError(f"{path} is not a readable picture: leave it out, or give a folder, zip or tar of faces")
        views.append(_reduced(picture, PHOTO_VIEW))
        for rows in np.array_split(np.arange(picture.shape[0]), PHOTO_PARTS):
            for columns in np.array_split(np.arange(picture.shape[1]), PHOTO_PARTS):
                part = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                views.append(_reduced(part, PHOTO_VIEW))
    return views


def _reduced(picture: np.ndarray, side: int) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def photograph(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a picture at a random scale, mirrored at even odds: (size, size, 3) uint8."""
    height, width = picture.shape[:2]
    whole = min(height, width)
    side = rng.uniform(0.45, 1.0) * whole if rng.random() < 0.5 else whole
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    part = picture[int(y) : int(y + side), int(x) : int(x + side)]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    way = cv2.INTER_AREA if size < side else rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])
    picture = cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=int(way))
    gain = 1 + 0.2 * rng.uniform(-1, 1)
    picture = np.clip(picture * gain + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
    if rng.random() < 0.08:
        picture = np.ascontiguousarray(np.broadcast_to(picture.mean(2, keepdims=True), picture.shape), np.uint8)
    return picture


def _other_light(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another picture's piece as it may be pasted: in grey one time in three, in another contrast and brightness."""
    if rng.random() < 0.33:
        picture = np.broadcast_to(picture.mean(2, keepdims=True), picture.shape)
    changed = (picture.astype(np.float32) - 128) * rng.uniform(0.5, 1.6) + 128 + rng.uniform(-50, 50)
    return np.clip(changed, 0, 255).astype(np.uint8)


def _soft_rim(
    picture: np.ndarray, stamped: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`stamped` over `picture`, fading over a pixel or two at the rim of `mask` (HW bool); and where it is seen."""
    stamped = np.where(mask[..., None], stamped, cv2.dilate(np.where(mask[..., None], stamped, 0), np.ones((5, 5))))
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.4, 1.2))
    return np.rint(picture + (stamped - picture.astype(np.float32)) * share[..., None]).astype(np.uint8), share > SEEN


def crisp(picture: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The picture, sharpened by an unsharp mask for the given share of pictures, and with grain for the same share."""
    if rng.random() < share:
        blurred = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.6))
        amount = rng.uniform(0.5, 2.5)
        picture = cv2.addWeighted(picture, 1 + amount, blurred, -amount, 0)
    if rng.random() < share:
        channels = 1 if rng.random() < 0.5 else 3
        grain = rng.uniform(1, 9) * rng.standard_normal((*picture.shape[:2], channels), np.float32)
        if rng.random() < 0.5:
            grain = cv2.GaussianBlur(grain, (0, 0), 0.7).reshape(grain.shape)
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return picture


def make_batch(faces: np.ndarray, plan: LocaliserPlan, step: int, views: Sequence[np.ndarray] = ()) -> Batch:
    """Batch `step`: images (B, 3, S, S) uint8 and where they are stamped (B, 1, S, S) bool."""
    rng = np.random.default_rng([plan.seed, 3, step])
    size = int(rng.choice(plan.sizes))
    images, masks = [], []
    count = max(1, round(plan.count * (256 / size) ** 2))
    for index in rng.integers(0, len(faces), count):
        side = 2 * size if rng.random() < plan.reduced else size
        wide = len(views) > 0 and rng.random() < plan.scenes
        picture = photograph(views[rng.integers(len(views))] if wide else faces[index], side, rng)
        first = rng.random() < 0.7
        picture = crisp(picture, plan.crisp, rng) if first else picture
        mask = np.zeros(picture.shape[:2], bool)
        stamps = 0 if rng.random() < plan.clean else 1 + (rng.random() < plan.twice)
        for _ in range(stamps):
            hole = draw_mask(side, side, rng, plan.shapes)
            foreign = len(views) > 0 and rng.random() < 0.5
            other = views[rng.integers(len(views))] if foreign else faces[rng.integers(len(faces))]
            stamped = stamp(picture, hole, rng, plan.patches, [_other_light(photograph(other, side, rng), rng)])
            picture, hole = _soft_rim(picture, stamped, hole, rng) if rng.random() < plan.soft else (stamped, hole)
            mask |= hole
        picture = picture if first else crisp(picture, plan.crisp, rng)
        if side != size:
            picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) > SEEN
        if rng.random() < 0.4:
            quality = int(rng.integers(55, 98))
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        images.append(picture)
        masks.append(mask)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(masks))[:, None]


def loss_of(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, over all pixels, and a quarter as much over the hardest tenth of each picture; `logits` and
    where it is stamped (bool), (B, 1, S, S) both."""
    each = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none").flatten(1)
    hardest = each.topk(each.shape[1] // 10, dim=1).values
    return each.mean() + 0.25 * hardest.mean()
