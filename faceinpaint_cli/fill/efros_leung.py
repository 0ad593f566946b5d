"""Texture synthesis by non-parametric sampling (Efros and Leung, ICCV 1999), grown into holes."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from faceinpaint_cli.fill.exemplar_windows import EXACT, choose, known_corners, windows_at, working_area

WINDOW = 11
"""Side of the neighbourhood in pixels; the paper's one parameter (it shows 5 to 23)."""

TOLERANCE = 0.1
"""epsilon of the paper: drawn among the windows at most (1 + epsilon) times as far as the best."""

MOST_CANDIDATES = 9000
"""Windows compared with; all of those around a hole of 64 pixels. Larger surroundings are sampled evenly."""

AT_ONCE = 2048
"""Pixels matched in one matrix product, which bounds memory at 80 MB."""

LEVELS = 127
"""Brightness steps of the comparison, which keeps its sums exact (see exemplar_windows)."""


def efros_leung(image: np.ndarray, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fill pixel by pixel from the rim inwards, each by the middle of a window like its known surroundings.

    See `registry.FillFunction`. The distance is the Gaussian-weighted SSD of the paper (sigma = window /
    6.4, as in the authors' code). Within one layer of the rim, pixels at even and odd places are filled in
    four turns, so that each turn is one matrix product and sees the pixels of the turns before. Equal seeds
    give equal fills.
    """
    result = image.copy()
    if not mask.any() or mask.all():
        return result
    rng = np.random.default_rng(seed)
    rows, columns = working_area(mask, WINDOW)
    grow(result[rows, columns], ~mask[rows, columns], mask[rows, columns], rng)
    return result


def grow(image: np.ndarray, known: np.ndarray, mask: np.ndarray, rng: np.random.Generator,
         most: int = MOST_CANDIDATES) -> np.ndarray:
    """Fill `mask` (HW bool) of `image` (HWC uint8) in place, from windows of which all is `known` (HW bool), at most
    `most`; row and column that each pixel was taken from, HW2, its own where it was not filled."""
    window = WINDOW
    corners = known_corners(known, window)
    while not corners[0].size and window > 3:  # little is known: look at smaller neighbourhoods
        window -= 2
        corners = known_corners(known, window)
    if not corners[0].size:
        corners, window = known_corners(known, 1), 1
    half = window // 2
    corners = choose(corners, most, rng)
    values = ((image.astype(np.uint16) * LEVELS + 127) // 255).astype(np.float32)
    weights = _gaussian(window, image.shape[2])
    counted = np.flatnonzero(weights)  # the corners of the bell round to nothing
    weights = weights[counted]
    library = windows_at(values, *corners, window).reshape(corners[0].size, window * window, -1)[:, counted]
    plain = np.ascontiguousarray(library.reshape(len(library), -1).T)
    squares = np.ascontiguousarray(np.square(library).sum(2).T)
    places = np.stack(corners, -1) + half
    middles = image[places[:, 0], places[:, 1]]
    sources = np.stack(np.mgrid[: mask.shape[0], : mask.shape[1]], -1)

    padded = cv2.copyMakeBorder(values, half, half, half, half, cv2.BORDER_CONSTANT)
    done = np.pad(known, half)
    for ys, xs in _turns(mask):
        there = windows_at(done, ys, xs, window).reshape(len(ys), -1)[:, counted] * weights
        around = windows_at(padded, ys, xs, window).reshape(len(ys), window * window, -1)[:, counted]
        weighted = around * there[..., None]
        distance = weighted.reshape(len(ys), -1) @ plain
        distance *= -2
        distance += there @ squares
        distance += (weighted * around).sum((1, 2))[:, None]
        pick = _draw(distance, rng)
        image[ys, xs] = middles[pick]
        sources[ys, xs] = places[pick]
        padded[ys + half, xs + half] = values[places[pick, 0], places[pick, 1]]
        done[ys + half, xs + half] = True
    return sources


def _turns(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the pixels of `mask` in the order of filling: layers from the rim inwards, each
    in four turns of pixels that do not touch."""
    todo: np.ndarray = mask.astype(np.uint8)
    while todo.any():
        rest = cv2.erode(todo, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
        layer = todo - rest
        for y0, x0 in ((0, 0), (1, 1), (0, 1), (1, 0)):
            ys, xs = np.nonzero(layer[y0::2, x0::2])
            for i in range(0, len(ys), AT_ONCE):
                yield ys[i:i + AT_ONCE] * 2 + y0, xs[i:i + AT_ONCE] * 2 + x0
        todo = rest


def _draw(distance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each row of `distance` (pixels, candidates) a random column among those near its least."""
    limit = distance.min(1, keepdims=True) * np.float32(1 + TOLERANCE)
    within = distance <= limit
    row, column = np.nonzero(within)
    count = np.bincount(row, minlength=len(distance))
    first = np.cumsum(count) - count
    return column[first + (rng.random(len(distance)) * count).astype(np.intp)]


def _gaussian(window: int, channels: int) -> np.ndarray:
    """Weights (window^2,) in whole numbers, as fine as exact sums allow."""
    offset = np.arange(window) - window // 2
    sigma = window / 6.4
    bell = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigma**2)).ravel()
    return np.floor(bell * (EXACT / (LEVELS**2 * channels * bell.sum()))).astype(np.float32)
