"""Where a new scene begins."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIZE = (64, 36)
"""Width and height of the picture that scenes are compared in."""

ALIKE = 0.15
"""Correlation of the gradients of two frames below which they are two scenes. Measured on fifteen clips of
faces: cuts have 0.05 and less, the fastest gestures 0.2, stage lights and flashes 0.5 and more."""

CHANGED = 8.0
"""Mean change of a pixel, of 255, that a cut brings at least; it keeps noise on flat pictures from being one."""

FLAT = 8.0
"""Root mean square of a gradient (3 x 3 Sobel sum, of 255) that counts for nothing."""


@dataclass(frozen=True)
class Sketch:
    """A frame reduced: `grey` (36, 64) float32, `gradient` (36, 64, 2) float32, `known` (36, 64) bool."""

    grey: np.ndarray
    gradient: np.ndarray
    known: np.ndarray


def scene_sketch(image: np.ndarray, mask: np.ndarray) -> Sketch:
    """What `is_cut` compares, of a frame (HWC uint8 RGB) and its damage (HW bool), which must not look like a
    new scene."""
    grey = cv2.cvtColor(cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    grey = grey.astype(np.float32)
    gradient = np.stack([cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))], 2)
    damage = cv2.resize(mask.astype(np.float32), SIZE, interpolation=cv2.INTER_AREA) > 0.1
    return Sketch(grey, gradient, cv2.dilate(damage.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)


def is_cut(before: Sketch, after: Sketch) -> bool:
    """Whether neighbouring frames are of two scenes: nothing that has an edge in one has it in the other.

    Edges stay where they are when the light changes, and nearly so in motion. Where almost nothing is known of
    either frame, they are taken to be of one scene.
    """
    both = before.known & after.known
    if both.sum() < 0.1 * both.size or np.abs(before.grey - after.grey)[both].mean() < CHANGED:
        return False
    a, b = before.gradient[both], after.gradient[both]
    strength = (np.sqrt((a * a).mean()) + FLAT) * (np.sqrt((b * b).mean()) + FLAT)
    return float((a * b).mean() / strength) < ALIKE
