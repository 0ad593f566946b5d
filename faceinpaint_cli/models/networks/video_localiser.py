"""A small network that says which parts of a coded picture are not its own."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.models.networks.blocks import Attention, Residual, u_net

CELL = 8
"""Side in pixels of the cells that are judged: the smallest block that all codecs share."""
LUMA, CHROMA = CELL**2, 2 * (CELL // 2) ** 2
"""Values of a cell: its luma samples, and its two times 4 x 4 chroma samples."""
CHANNELS = 2 * (LUMA + CHROMA) + 4 + 2
"""The picture, its neighbour along the motion, what clean neighbours differ by (2 x 2), and the motion (x, y)."""


class VideoLocaliser(nn.Module):
    """forward(observed (N, CHANNELS, H/8, W/8) uint8) to logits (N, 1, H/8, W/8) of "this cell is damaged".

    What is observed is put together by `faceinpaint_cli.damage.extent.observed`. A U-Net on cells, the coarsest grid
    a quarter of theirs, with self-attention: data that are lost are lost to the end of a slice, and a scene cut shows
    everywhere. Where a cell stands is told by its row and column, from -1 to 1.
    """

    def __init__(self, widths: tuple[int, int, int] = (48, 72, 96)) -> None:
        super().__init__()
        fine, middle, deepest = widths
        self.enter = nn.Conv2d(CHANNELS + LUMA + CHROMA + 2, fine, 1)
        self.down = nn.ModuleList(nn.Sequential(Residual(w), Residual(w)) for w in (fine, middle))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.deep = nn.Sequential(Residual(deepest), Attention(deepest), Residual(deepest), Attention(deepest))
        self.widen = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Residual(w) for w in (fine, middle))
        self.leave = nn.Conv2d(fine, 1, 3, padding=1)

    def forward(self, observed: Tensor) -> Tensor:
        height, width = observed.shape[2:]
        x = F.pad(observed.float() / 127.5 - 1, (0, -width % 4, 0, -height % 4), mode="replicate")
        own, neighbour = x[:, : LUMA + CHROMA], x[:, LUMA + CHROMA : 2 * (LUMA + CHROMA)]
        rows = torch.linspace(-1, 1, x.shape[2]).to(x).view(1, 1, -1, 1).expand(len(x), 1, -1, x.shape[3])
        columns = torch.linspace(-1, 1, x.shape[3]).to(x).view(1, 1, 1, -1).expand(len(x), 1, x.shape[2], -1)
        x = self.enter(torch.cat([x, (own - neighbour).abs(), rows, columns], 1))
        x = u_net(x, self.down, self.shrink, self.deep, self.widen, self.up)
        return self.leave(F.silu(x))[..., :height, :width]
