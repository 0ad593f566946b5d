"""Holes that have nothing to do with a face, in pictures: continued by what is around them.

Texture synthesis (see `efros_leung`) continues lines and textures where smooth fills leave a blur. Its cost grows with
the hole, so large ones are synthesised in a reduced picture; each pixel of that tells where its like is, and the fine
detail of the fill is that place's.
"""

from __future__ import annotations

import cv2
import numpy as np

from faceinpaint_cli.fill.efros_leung import WINDOW, grow

THICK = 8.0
"""Pixels of thickness from which on a hole is synthesised; thinner ones are left to a smooth fill."""
MOST_PIXELS = 3500
"""A hole with more pixels is synthesised in a reduced picture."""
CANDIDATES = 20
"""Windows compared with, for each pixel of the hole, within the limits below."""
FEWEST, MOST = 600, 3000
MOST_UNKNOWN, MOST_OF_PICTURE, RIM_KNOWN = 0.5, 0.25, 0.5
"""Of the surroundings, of the picture in one hole, and, at least, of the hole's rim, to which the picture's own edges
and what is drawn over a face count as unknown; with less to go by the synthesis goes astray."""


def fill_background(image: np.ndarray, mask: np.ndarray, holes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`image` (HWC uint8 or uint16) with those of `holes` (HW bool) filled that are thick enough, and which these are;
    what is under `mask` (HW bool, holes among it) is unknown. Equal input gives equal fills."""
    result, done = image.copy(), np.zeros_like(holes)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(holes.astype(np.uint8), connectivity=8)
    thickness = 2 * cv2.distanceTransform(np.pad(holes, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    for label in range(1, count):
        x, y, width, height, area = stats[label]
        box = (slice(y, y + height), slice(x, x + width))
        hole = labels[box] == label
        if thickness[box][hole].max() < THICK or area > MOST_OF_PICTURE * mask.size:
            continue
        if _rim_known(hole, mask, y, x) < RIM_KNOWN:
            continue
        scale = max(1, int(np.ceil(np.sqrt(area / MOST_PIXELS))))
        margin = max(max(width, height) // 2, 3 * WINDOW * scale)
        rows, columns = _around(y, height, margin, scale, len(image)), _around(x, width, margin, scale, image.shape[1])
        near = labels[rows, columns] == label
        filled = _synthesised(result[rows, columns], mask[rows, columns] & ~done[rows, columns], near, scale)
        if filled is not None:
            result[rows, columns][near] = filled[near]
            done[rows, columns] |= near
    return result, done


def _rim_known(hole: np.ndarray, mask: np.ndarray, y: int, x: int) -> float:
    """Share of the pixels around a hole (hw bool, from row `y` and column `x` on) that are in the picture and not under
    `mask` (HW bool)."""
    inside = np.pad(hole, 1)
    unknown = np.pad(mask, 1, constant_values=True)[y : y + inside.shape[0], x : x + inside.shape[1]]
    rim = (cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
    return float((rim & ~unknown).sum() / rim.sum())


def _around(start: int, length: int, margin: int, scale: int, limit: int) -> slice:
    """The stretch with so much on both sides, as far as there is; a whole number of cells of `scale` pixels."""
    first = max(0, start - margin)
    last = min(limit, start + length + margin)
    return slice(first, first + (last - first) // scale * scale if last < limit else last)


def _synthesised(image: np.ndarray, unknown: np.ndarray, hole: np.ndarray, scale: int) -> np.ndarray | None:
    """The part of a picture with `hole` filled; None where too little of it is known."""
    eight = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    size = (-(-image.shape[1] // scale), -(-image.shape[0] // scale))
    pad = ((0, size[1] * scale - image.shape[0]), (0, size[0] * scale - image.shape[1]))
    whole = np.pad(eight, (*pad, (0, 0)), mode="edge")
    reduced = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    blocked, wanted = (_any(np.pad(m, pad, mode="edge"), scale) for m in (unknown, hole))
    if blocked.mean() > MOST_UNKNOWN:
        return None
    rng = np.random.default_rng(0)
    most = int(np.clip(CANDIDATES * wanted.sum(), FEWEST, MOST))
    # what is unknown and not wanted stays out of the library, and of the comparison
    small = reduced.copy()
    sources = grow(small, ~blocked, blocked, rng, most)
    if scale == 1 and image.dtype == np.uint8:
        return small
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    source = sources[rows // scale, columns // scale] * scale + np.stack([rows % scale, columns % scale], -1)
    source = np.minimum(source, np.array(image.shape[:2]) - 1)
    if scale == 1:
        return image[source[..., 0], source[..., 1]]
    smooth, before = (_enlarged(picture, scale, image) for picture in (small, reduced))
    detail = (image - before)[source[..., 0], source[..., 1]]
    return np.clip(np.rint(smooth + detail), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def _enlarged(picture: np.ndarray, scale: int, like: np.ndarray) -> np.ndarray:
    """A reduced picture (uint8) as float32 with the size and the range of the full one."""
    full = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return full[: like.shape[0], : like.shape[1]].astype(np.float32) * (np.iinfo(like.dtype).max / 255)


def _any(mask: np.ndarray, scale: int) -> np.ndarray:
    return mask.reshape(mask.shape[0] // scale, scale, mask.shape[1] // scale, scale).any((1, 3))
