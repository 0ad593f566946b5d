"""Smooth fill that solves the biharmonic equation (Damelin and Hoang 2018), from scikit-image."""

from __future__ import annotations

import numpy as np

from faceinpaint_cli.fill.registry import require


def biharmonic(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """See `registry.FillFunction`. UsageError where scikit-image is missing."""
    restoration = require("skimage.restoration", "bench", "biharmonic")
    if not mask.any() or mask.all():
        return image.copy()
    filled = restoration.inpaint_biharmonic(image, mask, channel_axis=-1)
    result = image.copy()
    result[mask] = np.clip(np.rint(filled[mask] * 255), 0, 255).astype(np.uint8)
    return result
