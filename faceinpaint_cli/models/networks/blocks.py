"""Building blocks that more than one network uses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def silence(layer: nn.Conv2d) -> None:
    """Let `layer` begin with nothing to say."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Residual(nn.Module):
    """Two 3 x 3 convolutions before their activations, added at half strength: (N, C, H, W) to the same.

    Without normalisation, so that colour is never shifted by what else is in the picture. With `idle` it begins as
    the identity, so that a trained network can be made deeper without a change of what it draws.
    """

    def __init__(self, channels: int, dilation: int = 1, idle: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        if idle:
            silence(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.second(F.silu(self.first(F.silu(x))))


def u_net(
    x: Tensor, down: Iterable[nn.Module], shrink: Iterable[nn.Module], middle: nn.Module,
    widen: Iterable[nn.Module], up: Iterable[nn.Module],
) -> Tensor:
    """A U-Net's way (Ronneberger et al. 2015): `down` on each grid and `shrink` to the next, `middle` on the coarsest,
    then back, `widen` to the channels of the finer grid, doubled and added to what was there, and `up`; each from the
    finest grid on. (N, C, H, W) to the same."""
    kept: list[Tensor] = []
    for block, smaller in zip(down, shrink, strict=True):
        kept.append(block(x))
        x = smaller(F.silu(kept[-1]))
    x = middle(x)
    for fine, wider, block in reversed(list(zip(kept, widen, up, strict=True))):
        x = block(fine + F.interpolate(wider(x), scale_factor=2, mode="nearest"))
    return x


class Attention(nn.Module):
    """Multi-head self-attention over positions (Vaswani et al. 2017), group-normalised, residual; `idle` as above."""

    def __init__(self, channels: int, heads: int = 4, idle: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        if idle:
            silence(self.out)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).transpose(3, 4)
        query, key, value = qkv.unbind(1)
        seen = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(seen.transpose(2, 3).reshape(n, c, h, w))


class SaganAttention(nn.Module):
    """Self-attention of SAGAN (Zhang et al. 2019): 1 x 1 convolutions f, g (C/8 channels) and h (C channels),
    softmax over positions, y = gamma * o + x with gamma learned from 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.g = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.h = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        f, g, h = (layer(x).flatten(2) for layer in (self.f, self.g, self.h))
        weight = torch.softmax(f.transpose(1, 2) @ g, dim=1)  # (N, from, to), sums to 1 over "from"
        return self.gamma * (h @ weight).reshape(n, c, height, width) + x
