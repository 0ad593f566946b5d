"""Between pictures and crops: cut out what the generator is shown, paste what it drew without a seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faceinpaint_cli.faces.alignment import corners, side_of
from faceinpaint_cli.fill.classical import hole_regions
from faceinpaint_cli.types import Crop

RING = 3
"""Width in pixels of the known rim around a hole that the fill is matched to."""

RELAX = 4
"""Steps of relaxation at each size of pull-push, which take its steps and stripes away."""

CONTEXT_PRIORITY = 0.02
"""Weight of a crop without a face where it meets one with a face."""


@dataclass(frozen=True)
class Cut:
    """A crop as the generator sees it: `image` (S, S, 3) float32 in [0, 1], `hole` (S, S) bool (what is to be
    drawn, and all that lies beyond the picture)."""

    image: np.ndarray
    hole: np.ndarray


def cut(image: np.ndarray, mask: np.ndarray, crop: Crop) -> Cut:
    """The crop of `image` (HWC uint8 or uint16) and `mask` (HW bool)."""
    top, bottom, left, right = crop_bounds(crop, mask.shape, margin=4)
    part = image[top:bottom, left:right].astype(np.float32) / np.iinfo(image.dtype).max
    hole = mask[top:bottom, left:right].astype(np.float32)
    matrix = _shifted(crop.matrix, left, top)
    if _is_shift(matrix):
        soft, threshold = hole, 0.5
    else:
        part, hole, matrix = _reduced(part, hole, matrix, side_of(crop) / crop.size)
        # what the interpolation mixes from inside the hole is not known either
        soft, threshold = cv2.dilate(hole, np.ones((3, 3), np.uint8)), 0.02
    size = (crop.size, crop.size)
    # reflection would never come to an end in a picture one pixel wide
    pixels = cv2.warpAffine(part, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    holes = cv2.warpAffine(soft, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=1)
    return Cut(np.clip(pixels, 0, 1), holes > threshold)


def crop_bounds(crop: Crop, shape: tuple[int, ...], margin: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the part of the picture that a crop touches; at least one pixel."""
    points = corners(crop)
    low = np.floor(points.min(0)).astype(int) - margin
    high = np.ceil(points.max(0)).astype(int) + margin
    left, top = (int(np.clip(v, 0, n - 1)) for v, n in zip(low, shape[1::-1], strict=True))
    right, bottom = (int(np.clip(v, 1, n)) for v, n in zip(high, shape[1::-1], strict=True))
    return top, max(bottom, top + 1), left, max(right, left + 1)


def _shifted(matrix: np.ndarray, left: int, top: int) -> np.ndarray:
    """The map (2, 3) of a picture as one of its part that begins at (left, top)."""
    result = matrix.copy()
    result[:, 2] += matrix[:, :2] @ (left, top)
    return result


def _is_shift(matrix: np.ndarray) -> bool:
    """Whether a map only moves by whole pixels."""
    whole = np.round(matrix)
    return bool((whole[:, :2] == np.eye(2)).all()) and np.allclose(matrix, whole, atol=1e-6)


def _reduced(part: np.ndarray, hole: np.ndarray, matrix: np.ndarray,
             factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduce by `factor` where it is above 1, so that the warp that follows need not. A pixel becomes the
    mean of what is known of it, and a hole where less than half of it is."""
    if factor <= 1.05:
        return part, hole, matrix
    height, width = hole.shape
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    known = cv2.resize(1 - hole, size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(part * (1 - hole)[..., None], size, interpolation=cv2.INTER_AREA)
    small /= np.maximum(known, 1e-3)[..., None]
    scale = np.array([width / size[0], height / size[1]])
    smaller = matrix.copy()
    smaller[:, :2] *= scale
    smaller[:, 2] += matrix[:, :2] @ (scale - 1) / 2
    return small, (known < 0.5).astype(np.float32), smaller


def match_rim(prediction: np.ndarray, seen: Cut) -> np.ndarray:
    """The prediction (S, S, 3), moved smoothly inside the hole so that it meets what is known at its rim.

    The difference at the rim is carried inwards by pull-push (Gortler et al., The Lumigraph, 1996), a quick
    stand-in for the membrane of gradient-domain pasting (Perez et al., 2003).
    """
    rim = _rim(seen.hole, RING)
    if not rim.any():
        return prediction
    weight = rim.astype(np.float32)
    difference = (seen.image - prediction) * weight[..., None]
    return prediction + pull_push(difference, weight)


def _rim(hole: np.ndarray, width: int) -> np.ndarray:
    """The known pixels within `width` of a hole (HW bool)."""
    return cv2.dilate(hole.astype(np.uint8), np.ones((2 * width + 1,) * 2, np.uint8)).astype(bool) & ~hole


def pull_push(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Spread values (H, W, 3), given times their weight (H, W) in [0, 1], to where the weight is 0."""
    height, width = weight.shape
    if min(height, width) <= 2:
        return np.broadcast_to(values.sum((0, 1)) / max(float(weight.sum()), 1e-6), values.shape)
    size = ((width + 1) // 2, (height + 1) // 2)
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    full = np.minimum(1, 4 * small_weight)
    gain = full / np.maximum(small_weight, 1e-6)
    coarse = pull_push(small * gain[..., None], full)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    unknown = (1 - weight)[..., None]
    for _ in range(RELAX):
        smooth = cv2.blur(values + smooth * unknown, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return values + smooth * unknown


def composite(image: np.ndarray, mask: np.ndarray, crops: Sequence[Crop], predictions: Sequence[np.ndarray],
              feather: int) -> np.ndarray:
    """A copy of `image` (HWC uint8 or uint16) with `mask` (HW bool) filled from predictions (S, S, 3) float32
    in [0, 1] of the crops. Where crops overlap, the one in whose middle a pixel lies counts most. What is
    left of the difference at the rim fades out over `feather` pixels, inside the mask; of the crop where that is
    enlarged, for then it is the crop's pixels that do not meet what is known."""
    result = image.copy()
    top_value = np.iinfo(image.dtype).max
    most = max((side_of(crop) / crop.size for crop in crops), default=1.0)
    for rows, columns in hole_regions(mask, RING + round(feather * max(1.0, most))):
        hole = mask[rows, columns]
        known = image[rows, columns].astype(np.float32) / top_value
        total, weight, enlarged = _blend(hole, (columns.start, rows.start), crops, predictions)
        sure = weight > 0
        fill = total / np.maximum(weight, 1e-12)[..., None]
        fill = _complete(fill, known, hole, sure)
        if feather:
            fill += _rim_residual(known - fill, hole, sure, round(feather * enlarged))
        if _is_grey(known[~hole]):
            fill[:] = fill.mean(2, keepdims=True)
        pixels = np.round(np.clip(fill[hole], 0, 1) * top_value).astype(image.dtype)
        result[rows, columns][hole] = pixels
    return result


def _blend(hole: np.ndarray, origin: tuple[int, int], crops: Sequence[Crop],
           predictions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted sum (H, W, 3) and sum of weights (H, W) of the predictions, in a region at `origin` (x, y), and how
    much they are enlarged in its hole (H, W) bool on average; at least 1."""
    shape = hole.shape
    total = np.zeros((*shape, 3), np.float32)
    weight = np.zeros(shape, np.float32)
    parts, enlarged = 0.0, 0.0
    for crop, prediction in zip(crops, predictions, strict=True):
        top, bottom, left, right = crop_bounds(crop, (10**9, 10**9), margin=1)
        top, left = max(top - origin[1], 0), max(left - origin[0], 0)
        bottom, right = min(bottom - origin[1], shape[0]), min(right - origin[0], shape[1])
        if top >= bottom or left >= right:
            continue
        matrix = _shifted(crop.matrix, origin[0] + left, origin[1] + top)
        size = (right - left, bottom - top)
        factor = crop.size / side_of(crop)
        if factor > 1.05:  # the picture is coarser than the crop: take what it can hold
            prediction = cv2.GaussianBlur(prediction, (0, 0), 0.5 * np.sqrt(factor**2 - 1))
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_CUBIC if factor < 1.05 else cv2.INTER_LINEAR)
        drawn = cv2.warpAffine(prediction, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        share = _share(crop, matrix, size)
        total[top:bottom, left:right] += drawn * share[..., None]
        weight[top:bottom, left:right] += share
        part = float(share[hole[top:bottom, left:right]].sum())
        parts += part
        enlarged += part * max(1.0, 1 / factor)
    return total, weight, enlarged / parts if parts > 0 else 1.0


def crop_share(crop: Crop, rows: slice, columns: slice) -> np.ndarray:
    """Weight of a crop (H, W) at each pixel of a part of the picture; 0 outside the crop."""
    matrix = _shifted(crop.matrix, columns.start, rows.start)
    return _share(crop, matrix, (columns.stop - columns.start, rows.stop - rows.start))


def _share(crop: Crop, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weight of a crop at each pixel of a region of `size` (width, height): the cube of the nearness to its
    middle, so that seams between crops are soft but narrow; 0 outside."""
    px, py = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    x = np.float32(matrix[0, 0]) * px + np.float32(matrix[0, 1]) * py + np.float32(matrix[0, 2] + 0.5)
    y = np.float32(matrix[1, 0]) * px + np.float32(matrix[1, 1]) * py + np.float32(matrix[1, 2] + 0.5)
    near = 2 * np.minimum(np.minimum(x, crop.size - x), np.minimum(y, crop.size - y)) / crop.size
    priority = 1.0 if crop.face is not None else CONTEXT_PRIORITY
    return np.where(near > 0, np.float32(priority) * (near**3 + np.float32(1e-6)), np.float32(0))


def _complete(fill: np.ndarray, known: np.ndarray, hole: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Spread the fill and the known pixels over what no crop reaches (rounding at a crop's edge)."""
    if (sure | ~hole).all():
        return fill
    weight = (sure | ~hole).astype(np.float32)
    values = np.where((sure & hole)[..., None], fill, known) * weight[..., None]
    return np.where((hole & ~sure)[..., None], pull_push(values, weight), fill)


def _rim_residual(difference: np.ndarray, hole: np.ndarray, sure: np.ndarray, feather: int) -> np.ndarray:
    """What is still missing at the rim, carried `feather` pixels inwards and fading out there (H, W, 3)."""
    rim = (_rim(hole, 2) & sure).astype(np.float32)
    sigma = max(1.0, feather / 2)
    kernel = (2 * (feather + 2) + 1,) * 2
    near = cv2.GaussianBlur(rim, kernel, sigma)
    carried = cv2.GaussianBlur(difference * rim[..., None], kernel, sigma) / np.maximum(near, 1e-6)[..., None]
    if hole.all():
        return np.zeros_like(difference)
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    fade = np.clip(1 - (depth - 0.5) / (feather + 0.5), 0, 1)
    return carried * (fade * fade * (3 - 2 * fade) * (near > 1e-6))[..., None]


def _is_grey(pixels: np.ndarray) -> bool:
    """Whether pixels (N, 3) have equal channels throughout (and there are any)."""
    return bool(len(pixels)) and bool((np.ptp(pixels, axis=1) == 0).all())
