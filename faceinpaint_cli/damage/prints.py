"""Where a print is scratched, creased or dusty, or has come off: what is too thin for the localiser of patches."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from faceinpaint_cli.damage.look import look
from faceinpaint_cli.models.checkpoint import load_bundled
from faceinpaint_cli.models.networks.print_localiser import PrintLocaliser

WORKING_SIDE = 1024
"""Longer side of what the network looks at; larger pictures are reduced to it. With 512 a line of a pixel is lost."""
DAMAGED, LEAST = 0.5, 12
"""A connected region counts from this probability and so many pixels of what is looked at on, if it is sure as well."""
SURE, SURER = (0.8, 0.3), (0.95, 0.5)
"""A region is sure where a share of it so large (second) has that probability (first). Where one region of a picture is
surer, it is a damaged print, and all that are sure count; else none: a false alarm costs more than a speck that stays.
"""
LONG, LONG_SHARE, FEWEST_LONG = 150, 0.2, 2
"""A region with so many pixels of SURER's probability, and so large a share of them, is surer too, where so many that
are sure have so many pixels: long lines cross others, and edges of the picture, of which it is not so sure. One alone
may be the light on the rim of a plate."""
THICKEST = 6.5
"""Pixels from the middle of a region to its edge, at most: what is thicker is as often a star on a flag as a flake."""


@lru_cache(maxsize=1)
def bundled_print_localiser() -> PrintLocaliser:
    return load_bundled(PrintLocaliser(), "print-localiser", "say what to fill with --mask or --box")


def locate_print_damage(image: np.ndarray) -> np.ndarray:
    """Soft map (H, W) float32 in [0, 1] of what is damaged in the print that a picture (H, W, 3) uint8 RGB of any size
    shows; 0 where the network is not sure. Raises ModelError where the weights are missing."""
    return look(image, WORKING_SIDE, bundled_print_localiser(), SURER[0], sure_lines, grown=0.5)


def sure_lines(soft: np.ndarray) -> np.ndarray:
    """`soft` (H, W) in [0, 1] where its regions above DAMAGED count, which are neither too small nor too thick, and
    hold no corner of the picture; 0 elsewhere."""
    likely = soft > DAMAGED
    count, labels, stats, _ = cv2.connectedComponentsWithStats(likely.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    depth = cv2.distanceTransform(np.pad(likely, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    thick = np.unique(labels[depth > THICKEST])
    fits = area >= LEAST
    fits[thick] = False
    fits[labels[[0, 0, -1, -1], [0, -1, 0, -1]]] = False
    fits[0] = False
    likely_enough, surely = (np.bincount(labels[soft > least], minlength=count) for least, _ in (SURE, SURER))
    sure = fits & (likely_enough >= SURE[1] * area)
    surer = fits & (surely >= SURER[1] * area)
    if (sure & (area >= LONG)).sum() >= FEWEST_LONG:
        surer |= fits & (surely >= LONG) & (surely >= LONG_SHARE * area)
    if not surer.any():
        return np.zeros_like(soft, np.float32)
    return np.where(sure[labels], soft, 0).astype(np.float32)
