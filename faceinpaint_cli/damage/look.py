"""A look at a picture through a small network, reduced to a size that the network has learned."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import nn

from faceinpaint_cli.models.networks.localiser import probability


@torch.inference_mode()
def look(image: np.ndarray, side: int, net: nn.Module, doubt: float, judge: Callable[[np.ndarray], np.ndarray],
         grown: float) -> np.ndarray:
    """What `judge` makes (HW float32 in [0, 1], 0 for nothing) of the answer of `net` for a picture (H, W, 3) uint8
    RGB, reduced to at most `side` pixels along its longer side, in the picture's own size.

    Where the answer is above `doubt` somewhere, the mirrored picture is asked too, and the mean is judged. What was
    found in a reduced picture is grown by `grown` of its pixels.
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    seen = image
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        seen = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    batch = torch.tensor(seen).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)
    likely = probability(net, batch)
    if (likely > doubt).any():  # a second opinion, where the first has something to say
        likely = (likely + probability(net, batch.flip(3)).flip(3)) / 2
    found = judge(likely[0, 0].numpy())
    if scale == 1:
        return found
    if not found.any():
        return np.zeros((height, width), np.float32)
    reach = int(np.ceil(grown / scale))
    found = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.dilate(found, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).clip(0, 1)
