"""Steps where blocks meet: what a decoder makes of garbage has them."""

from __future__ import annotations

import numpy as np

from faceinpaint_cli.media.optical_flow import eight_bit


def block_steps(luma: np.ndarray) -> float:
    """By how many grey levels more neighbours differ across the edges of 8 x 8 blocks than within them, in the mean of
    a plane (HW uint8 or uint16)."""
    picture, total = eight_bit(luma).astype(np.float32), 0.0
    for axis in (0, 1):
        difference = np.abs(np.diff(picture, axis=axis))
        across = np.arange(difference.shape[axis]) % 8 == 7
        total += float(difference.compress(across, axis).mean() - difference.compress(~across, axis).mean())
    return total
