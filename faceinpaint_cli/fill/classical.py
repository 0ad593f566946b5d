"""OpenCV's two fills, applied to the surroundings of each hole only."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

RADIUS = 3
"""Neighbourhood of a filled pixel, in pixels; what OpenCV's own examples use."""

MARGIN = 8
"""Known pixels kept around a hole. Both methods look RADIUS + 1 pixels far, so more changes nothing."""

MANY = 64
"""Above so many groups of holes one call for the whole picture is quicker than one for each."""


def ns(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Navier-Stokes inpainting (Bertalmio, Bertozzi, Sapiro, CVPR 2001). See `registry.FillFunction`; uint16 too."""
    return _opencv(image, mask, cv2.INPAINT_NS)


def telea(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fast marching inpainting (Telea, J. Graphics Tools 2004). See `registry.FillFunction`; uint16 too."""
    return _opencv(image, mask, cv2.INPAINT_TELEA)


def _opencv(image: np.ndarray, mask: np.ndarray, method: int) -> np.ndarray:
    result = image.copy()
    if mask.all():
        return result
    for rows, columns in hole_regions(mask, MARGIN):
        part, hole = np.ascontiguousarray(image[rows, columns]), mask[rows, columns]
        if image.dtype == np.uint8:
            filled = cv2.inpaint(part, hole.astype(np.uint8), RADIUS, method)
        else:  # OpenCV takes deeper pictures one channel at a time
            channels = [cv2.inpaint(c, hole.astype(np.uint8), RADIUS, method) for c in cv2.split(part)]
            filled = cv2.merge(channels)
        result[rows, columns][hole] = filled[hole]
    return result


def hole_regions(mask: np.ndarray, margin: int) -> Iterator[tuple[slice, slice]]:
    """Rectangles (rows, columns) that hold every hole of `mask` (HW bool) with `margin` known pixels around.

    Holes nearer to each other than two margins share a rectangle, so none is cut. Where there are very many,
    one rectangle holds them all.
    """
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    if count == 1:
        return
    boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:].tolist()]
    if count > MANY:
        boxes = [(min(b[0] for b in boxes), min(b[1] for b in boxes),
                  max(b[2] for b in boxes), max(b[3] for b in boxes))]
    for x0, y0, x1, y1 in boxes:
        yield slice(y0, y1), slice(x0, x1)
