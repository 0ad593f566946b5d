"""Discriminators: pictures with their condition in, a grid of scores and the features on the way out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from faceinpaint_cli.models.networks.blocks import SaganAttention

Scores = tuple[Tensor, list[Tensor]]


class PatchGan(nn.Module):
    """PatchGAN (Isola et al. 2017): `layers` = 3 judges patches of 70 x 70 pixels.

    forward(picture (N, 3, H, W), mask (N, 1, H, W)) to scores (N, 1, h, w) and the list of features before
    them. `attention` adds SAGAN's self-attention before the last layers, `spectral` normalises the weights.
    """

    def __init__(
        self, width: int = 64, layers: int = 3, attention: bool = False, spectral: bool = False
    ) -> None:
        super().__init__()
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else lambda layer: layer
        stages: list[nn.Module] = [nn.Sequential(wrap(nn.Conv2d(4, width, 4, 2, 1)), nn.LeakyReLU(0.2))]
        channels = width
        for level in range(1, layers + 1):
            after = width * min(8, 2**level)
            stride = 2 if level < layers else 1
            parts: list[nn.Module] = [wrap(nn.Conv2d(channels, after, 4, stride, 1))]
            if not spectral:
                parts.append(nn.InstanceNorm2d(after, affine=True))
            parts.append(nn.LeakyReLU(0.2))
            if attention and level == layers - 1:
                parts.append(SaganAttention(after))
            stages.append(nn.Sequential(*parts))
            channels = after
        self.stages = nn.ModuleList(stages)
        self.score = wrap(nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, picture: Tensor, mask: Tensor) -> Scores:
        x = torch.cat([picture, mask], 1)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.score(x), features


class GlobalAndLocal(nn.Module):
    """Two PatchGANs (Yuan et al. 2019): one sees the whole picture, one the square around the hole.

    The square is the hole's bounding box, enlarged to half the picture's side; scores and features of both are
    returned one after the other, the scores flattened to (N, 1, 1, positions).
    """

    def __init__(self, width: int = 64, spectral: bool = False) -> None:
        super().__init__()
        self.whole = PatchGan(width, 3, spectral=spectral)
        self.local = PatchGan(width, 2, spectral=spectral)

    def forward(self, picture: Tensor, mask: Tensor) -> Scores:
        near = around_hole(torch.cat([picture, mask], 1), mask)
        first, features = self.whole(picture, mask)
        second, more = self.local(near[:, :3], near[:, 3:])
        return torch.cat([first.flatten(2), second.flatten(2)], 2).unsqueeze(2), features + more


def around_hole(picture: Tensor, mask: Tensor) -> Tensor:
    """The bounding box of each picture's hole, resampled to half the sides; the whole picture without a hole."""
    height, width = mask.shape[2:]
    theta = []
    for hole in mask[:, 0] > 0.5:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        if len(rows) == 0:
            theta.append(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
            continue
        top, bottom = int(rows[0]) / height, int(rows[-1] + 1) / height
        left, right = int(columns[0]) / width, int(columns[-1] + 1) / width
        theta.append(((right - left, 0.0, left + right - 1), (0.0, bottom - top, top + bottom - 1)))
    grid = nn.functional.affine_grid(
        torch.tensor(theta, dtype=picture.dtype, device=picture.device),
        [len(picture), picture.shape[1], height // 2, width // 2],
        align_corners=False,
    )
    return nn.functional.grid_sample(picture, grid, align_corners=False, padding_mode="border")
