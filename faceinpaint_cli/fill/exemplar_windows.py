"""What the fills that copy from the rest of the picture share: its windows, and exact sums of squared
differences.

All sums are of whole numbers below 2^24, which single precision adds without rounding in any order. So the
choice of the best window, and with it the fill, is the same on every machine and with any number of
threads.
"""

from __future__ import annotations

import cv2
import numpy as np

EXACT = 2**24


def working_area(mask: np.ndarray, window: int) -> tuple[slice, slice]:
    """Rows and columns of the holes of `mask` (HW bool, some True) with enough known picture around to copy
    from: as much on each side as the hole is long, and three windows at least."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return _grown(rows, mask.shape[0], window), _grown(columns, mask.shape[1], window)


def _grown(where: np.ndarray, length: int, window: int) -> slice:
    first, last = int(where[0]), int(where[-1]) + 1
    margin = max(last - first, 3 * window)
    return slice(max(first - margin, 0), min(last + margin, length))


def windows_at(padded: np.ndarray, rows: np.ndarray, columns: np.ndarray, window: int) -> np.ndarray:
    """The windows (N, window, window, ...) whose top left corners in `padded` are given; a copy."""
    view = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(0, 1))
    found = view[rows, columns]
    return np.moveaxis(found, 1, -1) if padded.ndim == 3 else found


def known_corners(known: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the top left corners of all windows that lie wholly in `known` (HW bool)."""
    h, w = known.shape
    if min(h, w) < window:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    inside = cv2.erode(known.astype(np.uint8), np.ones((window, window), np.uint8), anchor=(0, 0),
                       borderType=cv2.BORDER_CONSTANT, borderValue=1)
    rows, columns = np.nonzero(inside[:h - window + 1, :w - window + 1])
    return rows, columns


def choose(corners: tuple[np.ndarray, np.ndarray], most: int,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of the corners, drawn evenly where there are more, in their order."""
    rows, columns = corners
    if rows.size > most:
        picked = np.sort(rng.choice(rows.size, most, replace=False))
        rows, columns = rows[picked], columns[picked]
    return rows, columns
