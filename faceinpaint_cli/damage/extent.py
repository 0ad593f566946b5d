"""Which part of a hit picture is not its own, where the decoder does not say: found by looking.

Up to the first lost byte a picture is as it should be, and follows its neighbour along some motion; from there on it
does not. The video localiser says where, cell by cell, and what stands below the first row of blocks with such cells is
lost too: that is rather too much than too little, for what is filled without need follows the neighbours as well, but
what is left damaged spreads. Where it finds next to nothing, rows are compared by what remains after the best motion.
(PSNR over damaged pictures of 15 clips, rows alone and with the network: HEVC 25.2 and 25.7 dB, 30 runs; Motion JPEG
32.4 and 32.8, 60 runs; MPEG-4 30.9 and 31.1, 30 runs.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import torch

from faceinpaint_cli.media.optical_flow import Planes, eight_bit, flow, remainder, warp
from faceinpaint_cli.models.checkpoint import load_bundled
from faceinpaint_cli.models.networks.video_localiser import CELL, VideoLocaliser

LOST, BEGINS, FEWEST = 0.2, 0.3, 2
"""A cell is lost from the first probability on; the lost part begins in the first row of blocks with so many cells of
at least the second."""
UNNOTICED = 4
"""Rows of macroblocks that a decoder may make of garbage before it notices; up to three have been seen."""
SOMETHING = 0.02
"""A hit picture has lost at least so much of its area: where the network finds less, it does not see it."""
MOTION_STEPS = 4
"""Steps of the motion that the network is shown, for a pixel: up to 32 pixels either way."""
ROW = 16
"""Height in pixels of the rows that are judged: a macroblock."""
NOISE = 0.25
"""Grey levels added to both sides of the ratio, so that still pictures without noise do not decide."""
STEP = np.log(1.5)
"""A damaged part differs from its neighbour at least so many times as much as the rows above it (logarithm)."""
ALL = np.log(2.0)
"""All is lost where what is above the step, or all if there is none, differs so many times as much as clean pictures
do (logarithm)."""


def observed(own: Planes, beside: Sequence[Planes]) -> np.ndarray:
    """What the video localiser is shown of a picture: (CHANNELS, h, w) uint8, a cell for 8 x 8 pixels, h and w rounded
    up. `beside` are clean pictures near it, the one beside it first; the next tells what clean pictures differ by."""
    luma, anchor = eight_bit(own[0]), eight_bit(beside[0][0])
    motion = flow(luma, anchor)
    along = tuple(warp(eight_bit(plane), motion) for plane in beside[0])
    usual = remainder(anchor, eight_bit(beside[1][0])) if len(beside) > 1 else np.full_like(anchor, 255)
    height, width = (-(-side // CELL) for side in luma.shape)
    no_colour = (np.full((height * 4, width * 4), 128, np.uint8),) * (3 - len(own))
    parts = [_cells(plane, (height, width), side) for picture in (own, along)
             for plane, side in zip((*picture, *no_colour), (CELL, CELL // 2, CELL // 2), strict=True)]
    means = cv2.resize(motion, (width, height), interpolation=cv2.INTER_AREA)
    steps = np.clip(np.rint(means * MOTION_STEPS) + 128, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    return np.concatenate([*parts, _cells(usual, (height, width), 2), steps])


@lru_cache(maxsize=1)
def bundled_localiser() -> VideoLocaliser:
    return load_bundled(VideoLocaliser(), "video-localiser", "install the package again")


@torch.inference_mode()
def damaged_cells(own: Planes, beside: Sequence[Planes]) -> np.ndarray:
    """How likely each cell of 8 x 8 pixels of a picture is damaged, (h, w) float32 in [0, 1]; as in `observed`."""
    logits = bundled_localiser()(torch.from_numpy(observed(own, beside))[None])
    return torch.sigmoid(logits.float())[0, 0].numpy()


def lost_part(own: Planes, beside: Sequence[Planes], unit: int) -> np.ndarray:
    """HW bool, the pixels of a hit picture that are lost; `own` and `beside` as in `observed`, `unit` the height of a
    row of coded blocks in pixels."""
    likely = damaged_cells(own, beside)
    lost, step = likely > LOST, unit // CELL
    if lost.mean() < SOMETHING:
        now, usual = _rows_of(own, beside)
        return _from_row(ROW * step_up(np.log((now + NOISE) / (usual + NOISE)), unit // ROW), own)
    begins = (np.count_nonzero(likely[row : row + step] > BEGINS) >= FEWEST for row in range(0, len(lost), step))
    first = next((row for row, many in enumerate(begins) if many), len(lost))
    pixels = lost.repeat(CELL, 0).repeat(CELL, 1)[: own[0].shape[0], : own[0].shape[1]]
    return pixels | _from_row(first * unit, own)


def hurt_cells(own: Planes, beside: Sequence[Planes]) -> np.ndarray:
    """How many cells of each macroblock (rows, columns) of a hit picture look damaged; as in `observed`, with sides
    that are multiples of 16."""
    rows, columns = (side // ROW for side in own[0].shape)
    hurt = damaged_cells(own, beside) > BEGINS
    return hurt.reshape(rows, ROW // CELL, columns, ROW // CELL).sum((1, 3))


def with_unnoticed(lost: np.ndarray, hurt: np.ndarray, starts: Sequence[int], row: int) -> np.ndarray:
    """The lost macroblocks, and those before them that the decoder made of garbage without a word.

    It goes on reading behind the first wrong byte until something cannot be, and in a keyframe what it made of that
    stays in all pictures of the group. All in the order of coding: `lost` bool, `hurt` as of `hurt_cells`, `starts` of
    slices; `row` macroblocks make a row. From what is lost the way leads back, as long as there is something hurt in
    each row's worth; where that is so up to the start of the slice or for more than UNNOTICED rows, the picture differs
    from its neighbour by more than damage (a cut, fast motion), and nothing is told. (16 damaged files: one gained 10
    dB inside the damage, four .1 to 1.7, none lost more than .05.)
    """
    lost = lost.copy()
    for start, end in pairwise([*starts, len(lost)]):
        if not lost[start:end].any():
            continue
        place = first = start + int(lost[start:end].argmax())
        while place > start and first - place <= UNNOTICED * row:
            stretch = hurt[max(start, place - row) : place]
            if stretch.sum() < FEWEST:
                break
            place += int(np.flatnonzero(stretch)[0]) - len(stretch)
        if place > start and first - place <= UNNOTICED * row:
            lost[place:first] = True
    return lost


def _from_row(first: int, own: Planes) -> np.ndarray:
    return np.broadcast_to((np.arange(own[0].shape[0]) >= first)[:, None], own[0].shape).copy()


def _cells(plane: np.ndarray, grid: tuple[int, int], side: int) -> np.ndarray:
    """A plane at `side` x `side` samples for each cell of `grid` (rows, columns): (side^2, rows, columns) uint8."""
    rows, columns = grid[0] * side, grid[1] * side
    plane = eight_bit(plane)
    if plane.shape[0] > rows or plane.shape[1] > columns:
        plane = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA)
    plane = np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="edge")
    return plane.reshape(grid[0], side, grid[1], side).transpose(1, 3, 0, 2).reshape(side * side, *grid)


def lost_rows(own: Planes, beside: Sequence[Planes]) -> np.ndarray:
    """HW bool, the rows of blocks of a hit picture that are lost, where each row of the stream can be read again
    (MPEG-1, 2); as in `observed`."""
    now, usual = _rows_of(own, beside)
    ratio = np.log((now + NOISE) / (usual + NOISE))
    bad = ratio > max(0.0, float(np.median(ratio))) + ALL
    rows = bad | (np.roll(bad, 1) & (np.arange(len(bad)) > 0))
    return np.repeat(rows, ROW)[: own[0].shape[0], None] | np.zeros(own[0].shape, bool)


def _rows_of(own: Planes, beside: Sequence[Planes]) -> tuple[np.ndarray, np.ndarray]:
    """What each row of blocks differs by from the picture beside, and what clean pictures differ by there."""
    luma, anchor, *earlier = (eight_bit(picture[0]) for picture in (own, *beside[:2]))
    now = _differences(luma, anchor)
    return now, _differences(anchor, earlier[0]) if earlier else np.ones_like(now)


def step_up(ratio: np.ndarray, unit: int) -> int:
    """The first row, a multiple of `unit`, from which on `ratio` is higher; 0 where all of it is high, its length where
    none of it is."""
    above = next((split for split in range(unit, len(ratio), unit)
                  if ratio[split:].mean() - ratio[:split].mean() > STEP), len(ratio))
    return 0 if ratio[:above].mean() > ALL else above


def _differences(own: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """Mean difference per row of blocks after the best motion, in grey levels, (rows,) float64."""
    difference = remainder(own, neighbour).astype(np.float64).mean(1)
    edges = np.arange(0, len(difference), ROW)
    return np.add.reduceat(difference, edges) / np.diff([*edges, len(difference)])
