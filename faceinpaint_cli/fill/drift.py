"""How far mended pictures lie beside where they were, told by the next keyframe, which is true.

A lost picture is filled with pixels of an earlier one along a motion that is guessed; what is wrong with the guess
goes on unchanged through all pictures that follow, for their own vectors are intact: they look whole, a little aside
from where they were. At the next keyframe it shows: from the last mended picture to the keyframe the pixels seem to
move by the true motion of that step and the drift together. The step's motion is known from both sides, from the
pictures before it (which drift alike) and from those after it (which are true), so the rest is the drift; it is carried
back along the motion of the mended pictures.

Every guess on a pixel's way, and that of the last step, has its part in what shows at the end: as much as it is
unsure, which is where the motion before and the motion after it do not agree. What is known at both ends and unsure
between is set straight as a Brownian bridge is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from faceinpaint_cli.fill.motion import KNOWN_AT_LEAST, carried_down
from faceinpaint_cli.media.optical_flow import carried, flow, grown, plain_grid, quick_flow

STEP_CELL = 8
"""Side in pixels of the cells in which the motion of each step is kept."""
SURE = 0.02
"""Square of pixels by which a motion is unsure at least."""
SMOOTH = 6.0
"""Pixels over which the drift is averaged (standard deviation of a Gaussian)."""
NOISE = 0.05
"""Square of pixels of drift that is no more than noise."""
SCENE = 0.5
"""Share of the last picture that must be found in the keyframe: within a scene it was 0.56 to 0.96, over cuts at most
0.45."""
REPEATED = 0.1
"""A picture repeats the one before it where it differs by this share of what pictures mostly differ by."""
LIKE = 12.0
"""Grey levels between a pixel and where it was followed to, from which on the way is hardly trusted."""


@dataclass(frozen=True)
class Guessed:
    """A mended picture: at `time`, `lost` (HW bool) filled from the picture at `anchor`."""

    time: int
    lost: np.ndarray
    anchor: int


class Drift:
    """Shown the pictures of a mended group in order of display, then what follows it; tells each one's drift."""

    def __init__(self, guessed: Sequence[Guessed]) -> None:
        self._guessed = sorted(guessed, key=lambda g: g.time)
        self._where: list[np.ndarray] = []
        self._begun: list[np.ndarray] = []
        self._last: list[tuple[int, np.ndarray]] = []
        self._times: list[int] = []
        self._steps: list[np.ndarray] = []
        self._changes: list[float] = []

    def see(self, time: int, luma: np.ndarray) -> None:
        """The next picture, HW uint8."""
        if self._last:
            self._changes.append(float(cv2.absdiff(self._last[-1][1], luma).mean()))
            step = quick_flow(self._last[-1][1], luma)
            self._where = [where + carried(step, where) for where in self._where]
            self._steps.append(_coarse(step) / max(1, time - self._last[-1][0]))  # frames may share a time
        self._times.append(time)
        while len(self._where) < len(self._guessed) and self._guessed[len(self._where)].time <= time:
            self._where.append(np.zeros((*luma.shape, 2), np.float32))
            self._begun.append(luma)
        self._last = [*self._last[-1:], (time, luma)]

    def found(self, key: tuple[int, np.ndarray], after: tuple[int, np.ndarray] | None,
              back: np.ndarray) -> list[np.ndarray] | None:
        """For each of `guessed`, in order of time, HW2 float32: the pixel that is at y belongs at y + drift.

        `key` is (time, luma) of the keyframe that follows, `after` of the picture after that, `back` the motion (HW2
        float32) from the keyframe to the last picture seen. None where too little was seen, where the keyframe shows
        another scene, or where pictures repeat (in clips brought to a higher rate): no step is like the next then.
        """
        if len(self._last) < 2 or len(self._where) < len(self._guessed):
            return None
        ends = [self._last[-1][1], key[1], *([after[1]] if after else [])]
        changes = self._changes + [float(cv2.absdiff(a, b).mean()) for a, b in pairwise(ends)]
        if min(changes) < REPEATED * float(np.median(changes)):
            return None
        (time0, luma0), (time1, luma1) = self._last
        time2, luma2 = key
        there = flow(luma1, luma2)
        before = -flow(luma1, luma0) * ((time2 - time1) / (time1 - time0))
        step, unsure = before, np.square(before).sum(2)
        if after is not None:
            later = carried(flow(luma2, after[1]) * ((time2 - time1) / (after[0] - time2)), there)
            step, unsure = (before + later) / 2, np.square(before - later).sum(2) / 4
        unsure = SURE + cv2.GaussianBlur(unsure, (0, 0), SMOOTH)
        trust = np.exp(-np.square(there + carried(back, there)).sum(2))
        trust *= _alike(luma1, _at(luma2, there))
        if trust.mean() < SCENE:
            return None
        known = ~self._reached(luma1.shape)
        if known.mean() > KNOWN_AT_LEAST:
            step = step + carried_down(there - step, known)
        drift = np.dstack([(there - step) * trust[..., None], trust])
        parts = [g.lost * self._unsure(g) for g in self._guessed]
        found = []
        for number, (where, begun) in enumerate(zip(self._where, self._begun, strict=True)):
            share = sum(parts[: number + 1]) / (sum(parts) + carried(unsure, where))
            here = carried(drift, where)
            here *= _alike(begun, _at(luma1, where))[..., None]
            here = cv2.GaussianBlur(here, (0, 0), SMOOTH)
            here = here[..., :2] / (here[..., 2:] + 0.1) * share[..., None]
            square = np.square(here).sum(2)
            found.append(here * (np.maximum(square - NOISE, 0) / (square + 1e-6))[..., None])
        return found

    def _unsure(self, guessed: Guessed) -> np.ndarray:
        """By how much a guessed motion may be wrong, HW float32 in square pixels."""
        height, width = guessed.lost.shape
        here, anchor = (bisect_left(self._times, time) for time in (guessed.time, guessed.anchor))
        steps = [self._steps[n] for n in (anchor - 1, here) if 0 <= n < len(self._steps)]
        if not steps:
            return np.full((height, width), SURE, np.float32)
        apart = np.square(steps[0] - steps[1]).sum(2) / 4 if len(steps) > 1 else np.square(steps[0]).sum(2)
        apart = cv2.GaussianBlur(apart * (guessed.time - guessed.anchor) ** 2, (0, 0), SMOOTH / STEP_CELL)
        return SURE + cv2.resize(apart, (width, height))

    def _reached(self, shape: tuple[int, ...]) -> np.ndarray:
        """HW bool: where in the last picture pixels may come from what was lost."""
        reached = np.zeros(shape, bool)
        columns, rows = plain_grid(*shape)
        for guessed, where in zip(self._guessed, self._where, strict=True):
            x = np.clip(np.rint(columns + where[..., 0]), 0, shape[1] - 1).astype(int)[guessed.lost]
            y = np.clip(np.rint(rows + where[..., 1]), 0, shape[0] - 1).astype(int)[guessed.lost]
            reached[y, x] = True
        return grown(reached, 17)


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far two pictures show the same, 0 to 1, HW float32."""
    return np.exp(-np.square(cv2.GaussianBlur(cv2.absdiff(a, b).astype(np.float32), (0, 0), 2.0) / LIKE))


def _coarse(field: np.ndarray) -> np.ndarray:
    height, width = field.shape[:2]
    return cv2.resize(field, (max(1, width // STEP_CELL), max(1, height // STEP_CELL)), interpolation=cv2.INTER_AREA)


def _at(luma: np.ndarray, where: np.ndarray) -> np.ndarray:
    columns, rows = plain_grid(*luma.shape)
    return cv2.remap(luma, columns + where[..., 0], rows + where[..., 1], cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)
