"""The project's own generator: a face prior, a coarse U-Net at 64 pixels, refinement at full size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.models.networks.blocks import Attention, Residual, silence
from faceinpaint_cli.models.networks.prior import FacePrior

REACH = 5
"""Halvings over which the error at visible pixels is carried into the hole: 32 pixels of 256."""


def visible_mean(image: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Shrink to `size` x `size` by area, of visible pixels only: image (N, 3, S, S), mask (N, 1, S, S)."""
    small_mask = F.interpolate(mask, size=(size, size), mode="area")
    seen = F.interpolate(image * (1 - mask), size=(size, size), mode="area")
    return seen / (1 - small_mask).clamp(min=1 / 64), small_mask


def without_mesh(phases: Tensor, side: int) -> Tensor:
    """(N, C side^2, h, w), about to be shuffled to (N, C, side h, side w), without what repeats every `side` pixels.

    Around each cell all phases get the same mean over 5 x 5 cells: an even mesh is gone, edges stay.
    """
    n, channels, height, width = phases.shape
    around = F.avg_pool2d(phases, 5, stride=1, padding=2, count_include_pad=False).view(n, -1, side**2, height, width)
    mesh = around - around.mean(2, keepdim=True)
    return phases - mesh.view(n, channels, height, width)


def carried_in(residual: Tensor, mask: Tensor, reach: int) -> Tensor:
    """What visible pixels differ by (N, 3, H, W), carried into the hole over `reach` halvings of the size.

    Push and pull (Gortler et al. 1996): each pixel takes the mean of the smallest neighbourhood of which enough is
    visible; beyond the largest nothing is carried.
    """
    levels = [(residual * (1 - mask), 1 - mask)]
    for _ in range(reach):
        size = [-(-side // 2) for side in levels[-1][0].shape[2:]]
        levels.append(tuple(F.interpolate(part, size=size, mode="area") for part in levels[-1]))  # type: ignore[arg-type]
    carried = torch.zeros_like(levels[-1][0])
    for total, seen in reversed(levels):
        carried = F.interpolate(carried, size=total.shape[2:], mode="bilinear", align_corners=False)
        trust = (seen / 0.5).clamp(max=1)
        carried = torch.lerp(carried, total / seen.clamp(min=1e-3), trust)
    return carried


class Coarse(nn.Module):
    """U-Net on grids of 32, 16 and 8 that corrects the prior's guess at 64 pixels.

    `deeper` blocks are added to each half of the middle grid and to the coarsest one.
    """

    def __init__(self, widths: tuple[int, int, int], deeper: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        a, b, c = widths
        more = [Residual(b, idle=True) for _ in range(2 * deeper[0])]
        deepest = [layer(c, idle=True) for _ in range(deeper[1]) for layer in (Attention, Residual)]
        self.enter = nn.Conv2d(4 * 7, a, 3, padding=1)
        self.down0 = Residual(a)
        self.shrink0 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.down1 = nn.Sequential(Residual(b), Attention(b), Residual(b), *more[: deeper[0]])
        self.shrink1 = nn.Conv2d(b, c, 3, stride=2, padding=1)
        self.middle = nn.Sequential(Residual(c), Attention(c), Residual(c), Attention(c), Residual(c), *deepest)
        self.widen1 = nn.Conv2d(c, b, 1)
        self.up1 = nn.Sequential(Residual(b), Attention(b), Residual(b), *more[deeper[0] :])
        self.widen0 = nn.Conv2d(b, a, 1)
        self.up0 = Residual(a)
        self.leave = nn.Conv2d(a, 4 * 3, 3, padding=1)
        silence(self.leave)

    def forward(self, image: Tensor, mask: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 64, 64) whole picture and (N, widths[0], 32, 32) features."""
        x = F.pixel_unshuffle(torch.cat([image * (1 - mask), mask, guess], 1), 2)
        fine = self.down0(self.enter(x))
        mid = self.down1(self.shrink0(fine))
        deep = self.middle(self.shrink1(mid))
        mid = self.up1(mid + F.interpolate(self.widen1(deep), scale_factor=2, mode="nearest"))
        fine = self.up0(fine + F.interpolate(self.widen0(mid), scale_factor=2, mode="nearest"))
        fine = F.silu(fine)
        return guess + F.pixel_shuffle(without_mesh(self.leave(fine), 2), 2), fine


class Refine(nn.Module):
    """Residual convolutions on a grid of a quarter of the picture that add what 64 pixels cannot hold."""

    def __init__(self, width: int, depth: int, features: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(16 * 7, width, 1)
        self.inform = nn.Conv2d(features, width, 1)
        self.body = nn.Sequential(*(Residual(width, dilation=(1, 2, 4)[i % 3]) for i in range(depth)))
        self.leave = nn.Conv2d(width, 16 * 3, 3, padding=1)
        silence(self.leave)

    def forward(self, image: Tensor, mask: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
        """`image`, `mask` and the enlarged `coarse` at full size to the whole picture at full size."""
        x = self.enter(F.pixel_unshuffle(torch.cat([image * (1 - mask), mask, coarse], 1), 4))
        told = F.interpolate(self.inform(features), size=x.shape[2:], mode="bilinear", align_corners=False)
        x = self.body(x + told)
        return coarse + F.pixel_shuffle(without_mesh(self.leave(F.silu(x)), 4), 4)


class Base(nn.Module):
    """forward(image (N, 3, H, W) in [-1, 1], mask (N, 1, H, W) in [0, 1], 1 = fill) to (N, 3, H, W), whole.

    H and W are multiples of 4; the network was trained on crops of 256 x 256 with the face aligned as in
    CelebA, and always looks at the whole crop at 64 x 64 first. Damaged pixels come in as they are and count
    by 1 - mask. With `mirrored` the first stage sees the mirrored picture as well, in evaluation, and the mean of
    both is its answer: 0.09 dB for a third more time. The coarse picture, enlarged and brought into line with what is
    visible, is all with `refine_depth` 0. The output is limited to [-1, 1] in evaluation only, where no gradient is
    lost by it.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 96, 256),
        refine_width: int = 64,
        refine_depth: int = 5,
        prior_rank: int = 256,
        deeper: tuple[int, int] = (1, 2),
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.prior = FacePrior(rank=prior_rank)
        self.coarse = Coarse(widths, deeper)
        self.refine = Refine(refine_width, refine_depth, widths[0]) if refine_depth else None

    def coarse_picture(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The first stage alone: (N, 3, 64, 64) and its features."""
        if self.mirrored and not self.training:
            both, features = self._coarse_picture(*(torch.cat([x, x.flip(3)]) for x in (image, mask)))
            seen, turned = both.chunk(2)
            return (seen + turned.flip(3)) / 2, features[: len(image)]
        return self._coarse_picture(image, mask)

    def _coarse_picture(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        small, small_mask = visible_mean(image, mask, 64)
        tiny, tiny_mask = visible_mean(image, mask, self.prior.size)
        guess = self.prior(tiny, 1 - tiny_mask)
        guess = F.interpolate(guess, size=(64, 64), mode="bilinear", align_corners=False)
        return self.coarse(small, small_mask, guess)

    def draft(self, image: Tensor, mask: Tensor, reach: int = REACH) -> tuple[Tensor, Tensor]:
        """The coarse picture at full size (N, 3, H, W), in line with what is visible up to `reach` halvings away;
        features of the first stage."""
        coarse, features = self.coarse_picture(image, mask)
        coarse = F.interpolate(coarse, size=image.shape[2:], mode="bicubic", align_corners=False)
        return coarse + carried_in(image - coarse, mask, reach), features

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        whole, features = self.draft(image, mask)
        if self.refine is not None:
            whole = self.refine(image, mask, whole, features)
        return whole if self.training else whole.clamp(-1, 1)
