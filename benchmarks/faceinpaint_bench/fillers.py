"""Simple repairs of video, frame by frame, that the true mask is given to: what `run` must beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from faceinpaint_cli import metrics
from faceinpaint_cli.fill.registry import get_fill

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes a damaged frame (HWC uint8 RGB) and its mask (HW bool), in order; returns the repaired frame."""


class Freeze:
    """Damaged pixels keep what they showed before."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def __call__(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        result = frame
        if self._last is not None and mask.any():
            result = np.where(mask[..., None], self._last, frame)
        self._last = result
        return result


class PerFrame:
    """One of the fills for single pictures."""

    def __init__(self, method: str) -> None:
        self._fill = get_fill(method)

    def __call__(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self._fill(frame, mask) if mask.any() else frame


class FlowPropagation:
    """Damaged pixels are moved on from the frame before, by its own motion carried forward (DIS optical flow)."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._frames: list[np.ndarray] = []

    def __call__(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        result = frame
        if mask.any() and self._frames:
            result = np.where(mask[..., None], self._moved(), frame)
        self._frames = [*self._frames[-1:], result]
        return result

    def _moved(self) -> np.ndarray:
        last = self._frames[-1]
        if len(self._frames) < 2:
            return last
        flow = flow_back(self._dis, last, self._frames[0])
        y, x = np.mgrid[:last.shape[0], :last.shape[1]].astype(np.float32)
        return cv2.remap(last, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_REPLICATE)


def flow_back(dis: cv2.DISOpticalFlow, current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32: where in `previous` each pixel of `current` comes from, as an offset in pixels."""
    grey = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (current, previous)]
    return np.asarray(dis.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32)))


@dataclass(frozen=True)
class Steadiness:
    """Flow (HW2) of an undamaged frame to the one before it, the pixels that are damaged in both and whose flow holds
    both ways (HW bool), and their warping error, which is that of the clean clip."""

    flow: np.ndarray
    where: np.ndarray
    clean: float


class Flicker:
    """How much the damaged part of undamaged pictures changes against its motion, to set a repair's jumps against."""

    INCONSISTENT = 1.0  # pixels between going and coming back

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def step(self, picture: np.ndarray, mask: np.ndarray) -> Steadiness | None:
        """What the frame (HWC uint8), damaged where the mask (HW bool) is, has in common with the one before it; None
        at the first, and where no damage goes on."""
        if self._last is None:
            self._last = picture, mask
            return None
        (last, mask_before), self._last = self._last, (picture, mask)
        if not (mask.any() and mask_before.any()):
            return None
        back, forth = flow_back(self._dis, picture, last), flow_back(self._dis, last, picture)
        h, w = picture.shape[:2]
        y, x = np.mgrid[:h, :w].astype(np.float32)
        there_x, there_y = x + back[..., 0], y + back[..., 1]
        returned = back + cv2.remap(forth, there_x, there_y, cv2.INTER_LINEAR)
        inside = (there_x >= 0) & (there_x < w) & (there_y >= 0) & (there_y < h)
        damaged_there = cv2.remap(mask_before.astype(np.uint8), there_x, there_y, cv2.INTER_NEAREST) > 0
        where = mask & damaged_there & inside & (np.linalg.norm(returned, axis=2) < self.INCONSISTENT)
        return Steadiness(back, where, metrics.warping_error(picture, last, back, where)) if where.any() else None
