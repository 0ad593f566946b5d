"""Which part of a hit picture is not its own, where the decoder does not say: found by looking.

Up to the first lost byte a picture is as it should be, and follows its neighbour along some motion; from there on
it does not. Row by row, what remains after the best motion is compared with what remains between clean pictures;
lost is all from the first row of blocks on from which the ratio is higher by `STEP` than above it. That is rather too
much than too little: what is filled without need follows the neighbours too, but what is left damaged spreads.
(Three clips in HEVC, PSNR over their damaged pictures: 44.4 dB; with the split of least squares 41.3; all lost 43.2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch

from faceinpaint_cli.media.optical_flow import Planes, eight_bit, flow, remainder, warp
from faceinpaint_cli.models.checkpoint import load_bundled
from faceinpaint_cli.models.networks.video_localiser import CELL, VideoLocaliser

LOST = 0.4
"""A cell is lost from this probability on."""
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


def lost_cells(own: Planes, beside: Sequence[Planes]) -> np.ndarray:
    """HW bool, the pixels of a picture that are lost, by the video localiser; as in `observed`."""
    lost = (damaged_cells(own, beside) > LOST).repeat(CELL, 0).repeat(CELL, 1)
    return lost[: own[0].shape[0], : own[0].shape[1]]


def _cells(plane: np.ndarray, grid: tuple[int, int], side: int) -> np.ndarray:
    """A plane at `side` x `side` samples for each cell of `grid` (rows, columns): (side^2, rows, columns) uint8."""
    rows, columns = grid[0] * side, grid[1] * side
    plane = eight_bit(plane)
    if plane.shape[0] > rows or plane.shape[1] > columns:
        plane = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA)
    plane = np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="edge")
    return plane.reshape(grid[0], side, grid[1], side).transpose(1, 3, 0, 2).reshape(side * side, *grid)


def lost_part(
    own: np.ndarray, anchor: np.ndarray, earlier: np.ndarray | None, unit: int, resumes: bool
) -> np.ndarray:
    """HW bool, the rows of `own` that are lost; all arguments luma, HW uint8. `anchor` is its neighbour, `earlier` a
    clean picture beside that, if there is one, as a measure of what clean pictures differ by. `unit` is the height
    of a row of coded blocks in pixels; `resumes`: the stream can be read again from the next row on (MPEG-1, 2)."""
    now = _differences(own, anchor)
    usual = np.ones_like(now) if earlier is None else _differences(anchor, earlier)
    ratio = np.log((now + NOISE) / (usual + NOISE))
    lost = np.zeros(own.shape, bool)
    if resumes:
        bad = ratio > max(0.0, float(np.median(ratio))) + ALL
        rows = bad | np.roll(bad, 1) & (np.arange(len(bad)) > 0)
        return np.repeat(rows, ROW)[: own.shape[0], None] | lost
    lost[ROW * step_up(ratio, unit // ROW) :] = True
    return lost


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
