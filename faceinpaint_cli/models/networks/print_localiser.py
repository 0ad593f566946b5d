"""A small network that says where a print is scratched, creased, dusty or has come off."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.models.networks.blocks import Residual, u_net


class PrintLocaliser(nn.Module):
    """forward(image (N, 3, H, W) in [-1, 1]) to logits (N, 1, H, W) of "the print is damaged here".

    H and W are multiples of 32. A U-Net after space-to-depth by 2, so that it tells lines of a pixel from edges, which
    the localiser of what is stamped on, with its cells of 4, does not; the coarsest grid is 1/16 of the picture, where
    dilated convolutions see 10 cells to each side: that a line runs on across all that the picture shows is what tells
    it from the picture.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 24, 32, 48)) -> None:
        super().__init__()
        self.enter = nn.Conv2d(12, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Residual(w) for w in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.middle = nn.Sequential(*(Residual(widths[-1], dilation=d) for d in (1, 2, 4)))
        self.widen = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Residual(w) for w in widths[:-1])
        self.leave = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.enter(F.pixel_unshuffle(image, 2))
        x = u_net(x, self.down, self.shrink, self.middle, self.widen, self.up)
        return F.pixel_shuffle(self.leave(F.silu(x)), 2)
