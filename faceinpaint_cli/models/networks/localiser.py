"""A small network that says where a picture has been stamped over."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.models.networks.blocks import Attention, Residual, u_net


class Localiser(nn.Module):
    """forward(image (N, 3, H, W) in [-1, 1]) to logits (N, 1, H, W) of "this pixel was stamped on".

    H and W are multiples of 32. A U-Net after space-to-depth by 4; the coarsest grid is 1/32 of the picture, with
    self-attention: that a piece belongs to another picture is seen only from all of this one.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.enter = nn.Conv2d(48, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Residual(w) for w in widths[:-1])
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)
        )
        deepest = widths[-1]
        self.middle = nn.Sequential(
            Residual(deepest), Attention(deepest), Residual(deepest, dilation=2), Attention(deepest), Residual(deepest)
        )
        self.widen = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Residual(w) for w in widths[:-1])
        self.leave = nn.Conv2d(widths[0], 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.enter(F.pixel_unshuffle(image, 4))
        x = u_net(x, self.down, self.shrink, self.middle, self.widen, self.up)
        return F.pixel_shuffle(self.leave(F.silu(x)), 4)


def probability(net: nn.Module, image: Tensor) -> Tensor:
    """`image` (N, 3, H, W) in [-1, 1], any size, to (N, 1, H, W) in [0, 1]; padded inside to the multiple of 32."""
    height, width = image.shape[2:]
    padded = F.pad(image, (0, -width % 32, 0, -height % 32), mode="replicate")
    return torch.sigmoid(net(padded)[..., :height, :width].float())
