"""The detail that an enlarged drawing lacks: skin, hair and grain, copied from what is visible of the same face.

A crop has a fixed size, so what is drawn of a large face is enlarged, and holds nothing finer than a pixel of the
crop. The finer part is copied in blocks from around the hole: from where the coarser part is alike (Hertzmann et al.,
Image Analogies, 2001). Blocks overlap by weights whose squares sum to 1, which keeps the strength of what does not
match from block to block (Heitz and Neyret, High-Performance By-Example Noise, 2018); plain averaging would blur it
away again. Not for video: each frame would get a pattern of its own, and flicker.

Grain no generator draws, of whatever size the face is: it is the most likely picture without it. It is copied in the
same way, from the calmest places that are as light.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from faceinpaint_cli.faces.alignment import side_of
from faceinpaint_cli.fill.compositing import crop_bounds, crop_share
from faceinpaint_cli.types import Crop

ENLARGED = 1.05
"""Pixels of the picture for one of the crop, from which on a drawing lacks detail."""

BLOCK = 10
OVERLAP = 4
"""Side of a block and width of its soft edge, in cells. A cell is as large as a pixel of the crop, on whole pixels."""

AROUND = 2
"""Cells around a block that are compared as well."""

REACH = 64
"""How far from the hole detail may come, in cells: a quarter of the crop."""

POOL = 3000
GROUPS = 8
"""Each block is compared with a sample of so many places, one of so many samples that have no place in common:
neighbours that look alike do not all copy the same place, which would show as a pattern."""

NEAREST = 9
CALM = 3
"""Of so many most similar places, the one with so many calmer ones is taken: a line that the coarse part does not
tell of (a hair, a wrinkle) is no texture."""

DISTANCE = 0.06
"""Grey levels of difference that one cell of distance counts for."""

FLAT = 0.5 / 255
"""Strength of detail (root of the mean square, as a share of white) below which there is none to copy."""

GRAIN_BAND = 1.5
"""Standard deviation, in pixels, of the blur that parts grain from the picture."""
CALM_SHARE = 0.15
"""Share of the places around a hole, and in it, that are taken to hold grain alone: the calmest."""
LEAST_GRAIN = 2 / 255
"""Grain weaker than this (root of the mean square, as a share of white) is not seen."""
LIGHTS, MOST_RISE = 6, 2.5
"""Grain depends on how light a place is: the places are parted into so many groups by that, each with its own calmest;
these are no longer grain alone where they are so many times as strong as the calmest of all."""


def add_detail(image: np.ndarray, hole: np.ndarray, known: np.ndarray, crops: Sequence[Crop]) -> np.ndarray:
    """A copy of `image` (HWC uint8 or uint16 RGB), whose `hole` (HW bool) was filled from `crops`, with detail where a
    crop was enlarged; it is taken from `known` (HW bool). Equal to `image` everywhere else. Deterministic."""
    result = image.copy()
    top_value = np.iinfo(image.dtype).max
    for crop in crops:
        scale = side_of(crop) / crop.size
        if scale < ENLARGED:
            continue
        cell = max(1, round(scale))
        rows, columns = _region(crop, hole, REACH * cell)
        todo = hole[rows, columns] & _drawn_by(crop, crops, rows, columns)
        if not todo.any():
            continue
        part = image[rows, columns].astype(np.float32) / top_value
        detail = _detail(part, todo, known[rows, columns], scale, cell)
        pixels = np.clip(part[todo] + detail[todo], 0, 1)
        result[rows, columns][todo] = np.round(pixels * top_value).astype(image.dtype)
    return result


def add_grain(image: np.ndarray, hole: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A copy of `image` (HWC uint8 or uint16 RGB), whose `hole` (HW bool) was drawn, with as much grain in it as what
    is `known` (HW bool) around it has. Equal to `image` everywhere else. Deterministic."""
    result = image.copy()
    if not hole.any():
        return result
    top_value = np.iinfo(image.dtype).max
    x, y, width, height = cv2.boundingRect(hole.astype(np.uint8))
    rows = slice(max(0, y - REACH), min(hole.shape[0], y + height + REACH))
    columns = slice(max(0, x - REACH), min(hole.shape[1], x + width + REACH))
    todo = hole[rows, columns]
    part = image[rows, columns].astype(np.float32) / top_value
    grain = _grain(part, todo, known[rows, columns])
    pixels = np.clip(part[todo] + grain[todo], 0, 1)
    result[rows, columns][todo] = np.round(pixels * top_value).astype(image.dtype)
    return result


def _grain(image: np.ndarray, hole: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What to add to `image` (H, W, 3) float32 in [0, 1] inside `hole` (H, W) bool; 0 where grain is not missing."""
    result = np.zeros_like(image)
    light = cv2.boxFilter(image.mean(2), -1, (BLOCK, BLOCK), anchor=(0, 0))
    around, inside = (_grain_band(image, part) for part in (known, hole))
    places, strength = _blocks(around, known)
    drawn, squares = _blocks(inside, hole)
    if not len(places):
        return result
    weakest = _strength(strength[_calmest(strength)])
    there_is = _strength(squares[_calmest(squares)]) if len(drawn) else _strength(np.square(inside[hole]).mean(1))
    if weakest < LEAST_GRAIN or there_is >= weakest:
        return result
    lightness = light[places[:, 0], places[:, 1]]
    groups = [group for group in np.array_split(np.argsort(lightness, kind="stable"), LIGHTS) if len(group)]
    targets = _lattice(hole)
    at = np.clip(targets, 0, np.array(hole.shape) - 1)
    levels = np.array([lightness[group].mean() for group in groups])
    nearest = np.abs(light[at[:, 0], at[:, 1]][:, None] - levels).argmin(1)
    rng = np.random.default_rng(2)
    for number, group in enumerate(groups):
        mine = targets[nearest == number]
        calm = group[_calmest(strength[group])]
        grain = _strength(strength[calm])
        if len(mine) and grain > there_is:
            gain = min(1.0, MOST_RISE * weakest / grain) * np.sqrt(1 - (there_is / grain) ** 2)
            result += gain * _join(around, mine, places[rng.choice(calm, len(mine))], 1)
    return result


def _grain_band(image: np.ndarray, part: np.ndarray) -> np.ndarray:
    """What of a part (H, W) bool of the picture (H, W, 3) is finer than GRAIN_BAND, 0 elsewhere."""
    weight = part.astype(np.float32)
    near = cv2.GaussianBlur(weight, (0, 0), GRAIN_BAND)
    low = cv2.GaussianBlur(image * weight[..., None], (0, 0), GRAIN_BAND) / np.maximum(near, 1e-3)[..., None]
    return (image - low) * weight[..., None]


def _blocks(band: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top left pixels (n, 2) of the blocks that lie in a part (H, W) bool, and the mean square (n,) of `band` (H, W, 3)
    in each."""
    block = np.ones((BLOCK, BLOCK), np.uint8)
    places = np.argwhere(cv2.erode(part.astype(np.uint8), block, anchor=(0, 0), borderValue=0))
    squares = cv2.boxFilter(np.square(band).mean(2), -1, (BLOCK, BLOCK), anchor=(0, 0))
    return places, squares[places[:, 0], places[:, 1]]


def _calmest(squares: np.ndarray) -> np.ndarray:
    """Which of some blocks, by their mean squares (n,), are the calmest: numbers (m,), at least one."""
    return np.flatnonzero(squares <= np.quantile(squares, CALM_SHARE))


def _strength(squares: np.ndarray) -> float:
    """Root of the mean of mean squares, which rounding may have left below 0."""
    return float(np.sqrt(max(0.0, squares.mean())))


def _region(crop: Crop, hole: np.ndarray, reach: int) -> tuple[slice, slice]:
    """The part of the picture that the crop covers, no further than `reach` pixels from the hole in it."""
    top, bottom, left, right = crop_bounds(crop, hole.shape, margin=0)
    x, y, width, height = cv2.boundingRect(hole[top:bottom, left:right].astype(np.uint8))
    return (slice(max(top, top + y - reach), min(bottom, top + y + height + reach)),
            slice(max(left, left + x - reach), min(right, left + x + width + reach)))


def _drawn_by(crop: Crop, crops: Sequence[Crop], rows: slice, columns: slice) -> np.ndarray:
    """Where in a region (HW bool) the drawing of `crop` counts most."""
    others = [other for other in crops if other is not crop]
    most = np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
    if others:
        share = crop_share(crop, rows, columns)
        for other in others:
            most &= share > crop_share(other, rows, columns)
    return most


def _detail(image: np.ndarray, hole: np.ndarray, known: np.ndarray, scale: float, cell: int) -> np.ndarray:
    """What to add to `image` (H, W, 3) float32 in [0, 1] inside `hole` (H, W) bool; 0 where nothing can be had."""
    height, width = hole.shape
    rest = ((0, -height % cell), (0, -width % cell))
    image = np.pad(image, (*rest, (0, 0)), mode="edge")
    seen = np.pad(known, rest).astype(np.float32)
    known_cells = _cells(seen, cell) > 1 - 1e-3
    high = _high_band(image, seen, scale, cell)
    squares = cv2.transform(np.square(high), np.ones((1, 3), np.float32))
    sources = _places(known_cells)
    if not len(sources) or squares.mean() < 3 * FLAT**2 * seen.mean():
        return np.zeros((height, width, 3), np.float32)
    targets = _lattice(_cells(np.pad(hole, rest).astype(np.float32), cell) > 0)
    guide = _guide(_cells(image, cell), known_cells)
    chosen = _choose(guide, _cells(np.square(squares), cell), targets, sources)
    return _join(high, targets, chosen, cell)[:height, :width]


def _cells(values: np.ndarray, cell: int) -> np.ndarray:
    """The means (H / cell, W / cell, ...) of squares of `cell` pixels a side."""
    return cv2.resize(values, (values.shape[1] // cell, values.shape[0] // cell), interpolation=cv2.INTER_AREA)


def _high_band(image: np.ndarray, seen: np.ndarray, scale: float, cell: int) -> np.ndarray:
    """What of the known pixels an enlargement by `scale` cannot hold (H, W, 3), 0 elsewhere. The wider blur is done on
    cells, for speed; the variances of a cell's mean, of what follows and of the enlargement add up."""
    sigma = np.sqrt(max(scale**2 - 1 - (cell**2 - 1) / 6, 0.04)) / cell
    means = _cells(image * seen[..., None], cell)
    weight = cv2.GaussianBlur(_cells(seen, cell), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    means = cv2.GaussianBlur(means, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    means /= np.maximum(weight, 1e-3)[..., None]
    low = cv2.resize(means, seen.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (image - low) * seen[..., None]


def _guide(cells: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What is compared, in grey levels (h, w, 3): the cells, known and filled ones softened apart from each other,
    since a drawing is softer than a picture of its size."""
    weight = known.astype(np.float32)
    result = np.empty_like(cells)
    for part in (weight, 1 - weight):
        near = cv2.GaussianBlur(part, (0, 0), 1)
        soft = cv2.GaussianBlur(cells * part[..., None], (0, 0), 1) / np.maximum(near, 1e-3)[..., None]
        result[part > 0] = soft[part > 0]
    return result * 255


def _places(known: np.ndarray) -> np.ndarray:
    """Top left cells (n, 2) of blocks of which all is known, in an order of chance; no more than are looked at."""
    inner = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8))  # at the rim the low band leans on less
    whole = cv2.erode(inner, np.ones((BLOCK, BLOCK), np.uint8), anchor=(0, 0), borderValue=0)
    return np.random.default_rng(0).permutation(np.argwhere(whole))[: POOL * GROUPS]


def _lattice(hole: np.ndarray) -> np.ndarray:
    """Top left cells (n, 2) of the overlapping blocks that together cover a hole (h, w) bool."""
    step = BLOCK - OVERLAP
    rows, columns = (np.arange(-OVERLAP, n, step) for n in hole.shape)
    padded = np.pad(hole, ((OVERLAP, BLOCK), (OVERLAP, BLOCK))).astype(np.uint8)
    touched = cv2.dilate(padded, np.ones((BLOCK, BLOCK), np.uint8), anchor=(0, 0))
    needed = touched[np.ix_(rows + OVERLAP, columns + OVERLAP)] > 0
    y, x = np.nonzero(needed)
    return np.stack([rows[y], columns[x]], 1)


def _choose(guide: np.ndarray, strength: np.ndarray, targets: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """For each target block the place (n, 2) whose detail it gets."""
    wanted, offered = _features(guide, targets), _features(guide, sources)
    energy = cv2.boxFilter(strength, -1, (BLOCK, BLOCK), anchor=(0, 0))[sources[:, 0], sources[:, 1]]
    order = np.random.default_rng(1).permutation(len(targets))
    groups = max(1, min(GROUPS, len(sources) // POOL))
    chosen = np.empty_like(targets)
    for group in range(groups):
        mine, pool = order[group::groups], np.arange(group, len(sources), groups)
        distance = np.square(offered[pool]).sum(1) - 2 * wanted[mine] @ offered[pool].T
        count = min(NEAREST, len(pool))
        near = pool[np.argpartition(distance, count - 1, axis=1)[:, :count]]
        calm = np.argsort(energy[near], axis=1, kind="stable")[:, min(CALM, count - 1)]
        chosen[mine] = sources[near[np.arange(len(mine)), calm]]
    return chosen


def _features(guide: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """What blocks are compared by (n, F): every second cell in and around them, and where they are."""
    side = BLOCK + 2 * AROUND
    before, after = AROUND + OVERLAP, AROUND + BLOCK
    padded = cv2.copyMakeBorder(guide, before, after, before, after, cv2.BORDER_REPLICATE)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (0, 1))[..., ::2, ::2]
    cells = windows[blocks[:, 0] + OVERLAP, blocks[:, 1] + OVERLAP].reshape(len(blocks), -1)
    weight = DISTANCE * np.sqrt(cells.shape[1])
    return np.concatenate([cells, weight * blocks.astype(np.float32)], 1)


def _join(high: np.ndarray, targets: np.ndarray, chosen: np.ndarray, cell: int) -> np.ndarray:
    """The detail (H, W, 3) of the chosen places, at the targets."""
    side, soft = BLOCK * cell, OVERLAP * cell
    edge = np.ones(side, np.float32)
    edge[:soft] = np.sin((np.arange(soft) + 0.5) / soft * np.pi / 2)
    edge *= edge[::-1]
    window = np.outer(edge, edge)[..., None]
    height, width = high.shape[:2]
    joined = np.zeros((height + 2 * side, width + 2 * side, 3), np.float32)
    for (y, x), (from_y, from_x) in zip(targets * cell + side, chosen * cell, strict=True):
        joined[y : y + side, x : x + side] += window * high[from_y : from_y + side, from_x : from_x + side]
    return joined[side:-side, side:-side]
