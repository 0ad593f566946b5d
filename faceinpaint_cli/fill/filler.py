"""Fill the holes of many pictures at once, by the method that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.faces.crops import plan_crops
from faceinpaint_cli.fill.background import fill_background
from faceinpaint_cli.fill.classical import ns, telea
from faceinpaint_cli.fill.compositing import composite, cut, match_rim
from faceinpaint_cli.fill.detail import add_detail, add_grain
from faceinpaint_cli.fill.registry import FillFunction, get_fill
from faceinpaint_cli.types import Face


@dataclass(frozen=True)
class FillItem:
    """One picture to fill: `image` HWC uint8 or uint16 RGB, `mask` HW bool (True = fill), the faces in it."""

    image: np.ndarray
    mask: np.ndarray
    faces: Sequence[Face] = ()


class Filler:
    """The fill of one run. Raises ModelError, DeviceError or UsageError where its method cannot be had."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._function: FillFunction | None = None
        if config.method == "generator":
            from faceinpaint_cli.fill.generator import Generator

            self._generator = Generator(config)
        else:
            self._function = get_fill(config.method)

    def fill(self, items: Sequence[FillItem], detail: bool = False) -> list[np.ndarray]:
        """The filled pictures, in order, of their input's shape and dtype, equal to it outside the mask.

        The generator is run on the crops of all pictures together, in batches. With `detail` its drawings get the grain
        of what is visible around them, those of large faces the detail as well, and holes away from faces the textures;
        for pictures, not for frames (see `fill.detail` and `fill.background`).
        """
        if self._function is not None:
            return [_fill_classical(self._function, item) for item in items]
        plans = [plan_crops(item.mask, item.faces, self._generator.size) for item in items]
        holes = [item.mask & ~plan.simple for item, plan in zip(items, plans, strict=True)]
        # what reaches out of a face goes on from its drawing: filled before, it would be shown as if it were known
        later = [plan.simple & _holes_with(hole, item.mask)
                 for item, hole, plan in zip(items, holes, plans, strict=True)]
        images = [_fill_simple(item.image, item.mask, plan.simple & ~rest, detail)
                  for item, plan, rest in zip(items, plans, later, strict=True)]
        cuts = [[cut(image, hole | rest, crop) for crop in plan.crops]
                for image, hole, rest, plan in zip(images, holes, later, plans, strict=True)]
        flat = [seen for seens in cuts for seen in seens]
        drawn = iter(self._generator.predict([seen.image for seen in flat], [seen.hole for seen in flat]))
        results = []
        for item, image, hole, rest, plan, seens in zip(items, images, holes, later, plans, cuts, strict=True):
            predictions = [match_rim(next(drawn), seen) for seen in seens]
            result = composite(image, hole | rest, plan.crops, predictions, self.config.feather)
            if detail:
                result = add_grain(add_detail(result, hole, ~item.mask, plan.crops), hole, ~item.mask)
            results.append(_fill_simple(result, rest, rest, detail))
        return results


def _holes_with(part: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The holes of `mask` (HW bool) that have a pixel of `part` (HW bool), HW bool."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    chosen = np.bincount(labels[part], minlength=count) > 0
    return chosen[labels]


def _fill_simple(image: np.ndarray, mask: np.ndarray, simple: np.ndarray, detail: bool) -> np.ndarray:
    """The picture with the simple part of its hole `mask` (both HW bool) filled; the rest of the hole does not leak in.
    With `detail` what is thick of it is continued by the textures around it: that takes longer, and would flicker."""
    if not simple.any():
        return image
    result, smooth = image.copy(), simple
    if detail:
        result, done = fill_background(image, mask, simple)
        smooth = simple & ~done
    if smooth.any():
        result[smooth] = ns(image, mask)[smooth]
    return result


def _fill_classical(function: FillFunction, item: FillItem) -> np.ndarray:
    if item.image.dtype == np.uint8 or function in (ns, telea):
        return function(item.image, item.mask)
    filled = function((item.image >> 8).astype(np.uint8), item.mask)
    result = item.image.copy()
    result[item.mask] = filled[item.mask].astype(np.uint16) * 257
    return result
