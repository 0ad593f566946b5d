"""Where a picture has been stamped over, found by looking: a small network, and what it must be sure of. (What is too
thin for it, as scratches and dust are, another one finds: see `prints`.)"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from faceinpaint_cli.damage.look import look
from faceinpaint_cli.damage.prints import locate_print_damage
from faceinpaint_cli.models.checkpoint import load_bundled
from faceinpaint_cli.models.networks.localiser import Localiser

WORKING_SIDE = 512
"""Longer side of what the network looks at; larger pictures are reduced to it."""
SURE = 0.97
"""A region counts only where the network gives this or more on average over its surer half (the edges are unsure
everywhere, and thin strokes are mostly edge), if it does not hold a corner of the picture, as frames, letter boxes and
the borders that turning a picture leaves do ..."""
LEAST_AREA = 0.0004
"""... and only from this share of the picture on: a false alarm costs more than a speck that stays."""


LARGE, THICK, EDGE, SURE_INSIDE = 0.01, 0.6, 3, 0.95
"""A region of this share of the picture, of which so much is farther from its edge than so many pixels, must be as sure
as that all over there: of a large thing that only looks pasted on, such as a flower, one half may well be."""

LIKELY, REACH = 0.8, 8
"""Of a region only what is so likely counts, and what is so many pixels beside it: a face may be half believed to be
pasted on where it touches a stain."""

CLOSER, CLOSE_SIDE, LEAST_CROP, NEARLY_ALL = 1.8, 256, 96, 0.8
"""Around each face a square so many times as wide as it is looked at again, of at most so many pixels a side, if it has
so many at least and is not more than that share of the picture's longer side: what the network has learned are faces,
and beside a whole figure or a crowd it is not sure. (Prints with flakes and scratches made of photographs, 33, in the
faces' boxes and a little around: 38 % of the area found for 19 %, and no more touched in vain.)"""


def locate_damage(
    images: Sequence[np.ndarray], faces: Sequence[Sequence[np.ndarray]] | None = None
) -> list[np.ndarray]:
    """Soft maps (H, W) float32 in [0, 1] of what is stamped over, or damaged in the print, for pictures (H, W, 3) uint8
    RGB of any size; `faces` are the boxes (XYXY in pixels) of the faces in each, for a closer look.

    Regions of which the networks are not sure are 0 in the map. Where a picture is reduced to be looked at the edges of
    a region are as exact as that allows, and it is grown by that. Raises ModelError where the weights are missing.
    """
    net = bundled_localiser()
    return [np.maximum(_locate(image, boxes, net), locate_print_damage(image))
            for image, boxes in zip(images, faces or [()] * len(images), strict=True)]


def _locate(image: np.ndarray, boxes: Sequence[np.ndarray], net: Localiser) -> np.ndarray:
    soft = _look(image, WORKING_SIDE, net)
    height, width = soft.shape
    for box in boxes:
        side = CLOSER * max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
        rows, columns = slice(max(0, int(y)), int(y + side)), slice(max(0, int(x)), int(x + side))
        part = image[rows, columns]
        if min(part.shape[:2]) >= LEAST_CROP and side <= NEARLY_ALL * max(height, width):
            soft[rows, columns] = np.maximum(soft[rows, columns], _look(part, CLOSE_SIDE, net))
    return soft


@lru_cache(maxsize=1)
def bundled_localiser() -> Localiser:
    return load_bundled(Localiser(), "localiser", "say what to fill with --mask or --box")


def _look(image: np.ndarray, side: int, net: Localiser) -> np.ndarray:
    """The soft map of a picture that is looked at with at most `side` pixels along its longer side."""
    return look(image, side, net, 0.5, sure_regions, grown=1)


def sure_regions(soft: np.ndarray) -> np.ndarray:
    """`soft` (H, W) in [0, 1] with every connected region above 0.5 that is too small, unsure or at a corner set to 0,
    what is far from all that is likely in the kept ones, and everything below 0.5 outside of them."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((soft > 0.5).astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA * soft.size
    keep[labels[[0, 0, -1, -1], [0, -1, 0, -1]]] = False
    for index in np.flatnonzero(keep):
        x, y, w, h = stats[index, :4]
        region, likely = labels[y : y + h, x : x + w] == index, soft[y : y + h, x : x + w]
        inside = np.sort(likely[region])
        keep[index] = inside[len(inside) // 2 :].mean() >= SURE
        core = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_C, 3)[1:-1, 1:-1] > EDGE
        if len(inside) >= LARGE * soft.size and core.sum() >= THICK * len(inside):
            keep[index] &= likely[core].mean() >= SURE_INSIDE
    keep[0] = False
    if not keep.any():
        return np.zeros_like(soft, np.float32)
    kept = keep[labels]
    around = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    near = cv2.dilate((kept & (soft > LIKELY)).astype(np.uint8), around) > 0
    return np.where(kept & near, soft, 0).astype(np.float32)
