"""A small network that says whether a hole hides a face, and where, from what stands around it."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.models.networks.blocks import Attention, Residual

SIDE = 64
"""Pixels of the square that the network is shown."""
POINTS = 5


class HiddenFace(nn.Module):
    """forward(seen (N, 4, SIDE, SIDE)) to (N, 1 + 2 * POINTS): a logit of "there is a face behind the hole", then x and
    y of its landmarks (the order of `types.Face`) in [0, 1] of the square, which mean nothing where there is none.

    The first three channels are the picture in [-1, 1], 0 where it is unknown; the fourth is 1 there.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 48, 64, 96)) -> None:
        super().__init__()
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise((4, *widths)))
        self.blocks = nn.ModuleList(Residual(width) for width in widths)
        self.attend = Attention(widths[2])
        self.leave = nn.Linear(widths[3] * (SIDE // 16) ** 2, 1 + 2 * POINTS)

    def forward(self, seen: Tensor) -> Tensor:
        x = seen
        for i, (shrink, block) in enumerate(zip(self.shrink, self.blocks, strict=True)):
            x = block(shrink(x if i == 0 else F.silu(x)))
            if i == 2:
                x = self.attend(x)
        return self.leave(F.silu(x).flatten(1))


def shown(picture: Tensor, unknown: Tensor) -> Tensor:
    """What the network is shown: `picture` (N, 3, SIDE, SIDE) in [0, 255] and where it is unknown (N, 1, SIDE, SIDE),
    bool."""
    hidden = unknown.to(picture.dtype)
    return torch.cat([(picture / 127.5 - 1) * (1 - hidden), hidden], 1)
