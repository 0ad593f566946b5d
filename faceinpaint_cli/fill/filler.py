"""Fill the holes of many pictures at once, by the method that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.fill.registry import FillFunction, get_fill
from faceinpaint_cli.types import Face


@dataclass(frozen=True)
class FillItem:
    """One picture to fill: `image` HWC uint8 or uint16 RGB, `mask` HW bool (True = fill), the faces in it."""

    image: np.ndarray
    mask: np.ndarray
    faces: Sequence[Face] = ()


class Filler:
    """The fill of one run."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def fill(self, items: Sequence[FillItem]) -> list[np.ndarray]:
        """The filled pictures, in order, of their input's shape and dtype, equal to it outside the mask."""
        function = get_fill(self.config.method)
        return [_fill_classical(function, item) for item in items]


def _fill_classical(function: FillFunction, item: FillItem) -> np.ndarray:
    if item.image.dtype == np.uint8:
        return function(item.image, item.mask)
    filled = function((item.image >> 8).astype(np.uint8), item.mask)
    result = item.image.copy()
    result[item.mask] = filled[item.mask].astype(np.uint16) * 257
    return result
