"""Where a new scene begins."""

from __future__ import annotations

import cv2
import numpy as np

SIZE = (64, 36)
"""Width and height of the picture that scenes are compared in."""

BINS = 16
CHANGED = 24.0
"""Mean change of a pixel, of 255, that motion inside a scene seldom reaches."""

ALIKE = 0.75
"""Share of the colours that two pictures of one scene have in common at least, however they move."""


def scene_sketch(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `is_cut` compares: the picture (HWC uint8 RGB) reduced, (36, 64, 3) float32, and the share of each
    pixel that is known, (36, 64) float32. Damage must not look like a new scene."""
    small = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    known = 1 - cv2.resize(mask.astype(np.float32), SIZE, interpolation=cv2.INTER_AREA)
    return small, (known > 0.9).astype(np.float32)


def is_cut(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether two sketches of neighbouring frames are of two scenes: the pixels changed and the colours too.

    Colours alone change with a flash, pixels alone with fast motion; false alarms only cost a detection.
    """
    both = before[1] * after[1] > 0
    if both.sum() < 0.1 * both.size:
        return False
    a, b = before[0][both], after[0][both]
    if np.abs(a - b).mean() < CHANGED:
        return False
    common = 1.0
    for channel in range(3):
        counts = [np.histogram(x[:, channel], BINS, (0, 256))[0] / len(x) for x in (a, b)]
        common = min(common, float(np.minimum(*counts).sum()))
    return common < ALIKE
