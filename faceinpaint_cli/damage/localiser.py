"""Where a picture has been stamped over, found by looking: a small network, and what it must be sure of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch

from faceinpaint_cli.models.checkpoint import load_bundled
from faceinpaint_cli.models.networks.localiser import Localiser, probability

WORKING_SIDE = 512
"""Longer side of what the network looks at; larger pictures are reduced to it."""
SURE = 0.98
"""A region counts only where the network gives this or more on average over its surer half (the edges are unsure
everywhere, and thin strokes are mostly edge), if it does not hold a corner of the picture, as frames, letter boxes and
the borders that turning a picture leaves do ..."""
LEAST_AREA = 0.0004
"""... and only from this share of the picture on: a false alarm costs more than a speck that stays."""


LARGE, THICK, EDGE, SURE_INSIDE = 0.01, 0.6, 3, 0.95
"""A region of this share of the picture, of which so much is farther from its edge than so many pixels, must be as sure
as that all over there: of a large thing that only looks pasted on, such as a flower, one half may well be."""


def locate_damage(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Soft maps (H, W) float32 in [0, 1] of what is stamped over, for pictures (H, W, 3) uint8 RGB of any size.

    Regions of which the network is not sure are 0 in the map. For pictures above 512 pixels the edges of a
    region are as exact as the reduction allows, and the region is grown by that. Raises ModelError where the
    weights are missing.
    """
    return [_locate(image, bundled_localiser()) for image in images]


@lru_cache(maxsize=1)
def bundled_localiser() -> Localiser:
    return load_bundled(Localiser(), "localiser", "say what to fill with --mask or --box")


@torch.inference_mode()
def _locate(image: np.ndarray, net: Localiser) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    seen = image
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        seen = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    batch = torch.tensor(seen).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)
    soft = sure_regions(probability(net, batch)[0, 0].numpy())
    if scale < 1 and soft.any():
        reach = int(np.ceil(1 / scale))
        soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.dilate(soft, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).clip(0, 1)
    return soft if scale == 1 else np.zeros((height, width), np.float32)


def sure_regions(soft: np.ndarray) -> np.ndarray:
    """`soft` (H, W) in [0, 1] with every connected region above 0.5 that is too small, unsure or at a corner set to 0,
    and everything below 0.5 outside the kept regions as well."""
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
    return np.where(keep[labels], soft, 0).astype(np.float32)
