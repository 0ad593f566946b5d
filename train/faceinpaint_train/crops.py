"""Crops of aligned faces, moved about a little, at the size that a network is trained at."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CANVAS = (178, 218)
"""Width and height of an aligned face picture (CelebA's)."""
CROP = (0, 20, 178, 178)
"""x, y, width, height of the face crop in the canvas (protocol celeba-center25)."""
TIGHT = ((89.3, 124.8, 85.1, 114.2), (7.3, 3.0, 6.0, 8.7))
"""Mean and standard deviation of the box that MTCNN finds in CelebA's canvases: middle x, y, width, height
(320 pictures of the train partition)."""


@dataclass(frozen=True)
class Jitter:
    """How far crops are moved: scale and shift as shares of the crop's side, rotation in degrees, colour as
    the share by which brightness, contrast and the channels' gains vary; flips are always even odds.
    """

    scale: float = 0.06
    shift: float = 0.03
    rotate: float = 5.0
    colour: float = 0.06
    share: float = 0.5
    """The share of samples that are moved at all; the others are cropped exactly as the protocols do."""
    tight: float = 0.0
    """The share of samples cut to a box such as MTCNN finds (protocol celeba-white-square), whatever `share`."""


def cut(face: np.ndarray, size: int, rng: np.random.Generator | None, jitter: Jitter) -> np.ndarray:
    """The crop of an aligned canvas (218, 178, 3) uint8 as (size, size, 3) uint8; exact where `rng` is None."""
    x, y, width, height = CROP
    moved = rng is not None and rng.random() < jitter.share
    if rng is not None and rng.random() < 0.5:
        face = face[:, ::-1]
    if rng is not None and jitter.tight and rng.random() < jitter.tight:
        return colour(_tight(face, size, rng), rng, jitter) if moved else _tight(face, size, rng)
    if not moved or rng is None:
        exact = face[y : y + height, x : x + width]
        way = cv2.INTER_AREA if size <= width else cv2.INTER_CUBIC
        return cv2.resize(np.ascontiguousarray(exact), (size, size), interpolation=way)
    zoom = 1 + jitter.scale * rng.uniform(-1, 1)
    angle = jitter.rotate * rng.uniform(-1, 1)
    matrix = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle, zoom)
    shift = jitter.shift * width * rng.uniform(-1, 1, 2)
    to_crop = np.array([[size / width, 0, 0], [0, size / height, 0]])
    matrix[:, 2] += shift - (x, y)
    matrix = to_crop[:, :2] @ matrix
    matrix[:, 2] += 0.5 * (size / width - 1)  # pixel centres
    way = cv2.INTER_LINEAR if size <= width else cv2.INTER_CUBIC
    crop = cv2.warpAffine(
        np.ascontiguousarray(face), matrix, (size, size), flags=way, borderMode=cv2.BORDER_REFLECT_101
    )
    return colour(crop, rng, jitter)


def _tight(face: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A box drawn as MTCNN's are, stretched to the square."""
    x, y, width, height = rng.normal(*TIGHT)
    scale = np.array([size / width, size / height])
    corner = np.array([x - width / 2, y - height / 2])
    matrix = np.diag(scale) @ np.array([[1.0, 0.0, -corner[0]], [0.0, 1.0, -corner[1]]])
    matrix[:, 2] += 0.5 * (scale - 1)  # pixel centres
    way = cv2.INTER_LINEAR if size <= width else cv2.INTER_CUBIC
    return cv2.warpAffine(
        np.ascontiguousarray(face), matrix, (size, size), flags=way, borderMode=cv2.BORDER_REFLECT_101
    )


def colour(crop: np.ndarray, rng: np.random.Generator, jitter: Jitter) -> np.ndarray:
    """Brightness, contrast and the channels' gains varied within `jitter.colour`."""
    if not jitter.colour:
        return crop
    gain = (1 + jitter.colour * rng.uniform(-1, 1)) * (1 + 0.5 * jitter.colour * rng.uniform(-1, 1, 3))
    offset = 128 * (1 - gain) + 255 * jitter.colour * rng.uniform(-0.5, 0.5)
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(crop, table[None])
