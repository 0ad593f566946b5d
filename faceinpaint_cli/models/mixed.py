"""Two generators of one pair at work together, as `--fidelity` asks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.models.networks.base import REACH, Base, visible_mean

BAND = 1 / 128
"""Standard deviation, as a share of the crop's side, of the blur that parts coarse from fine: 2 pixels of 256. Chosen
on validation faces: see train/EXPERIMENTS.md, where the means of the networks' weights and pictures are as well."""


class Mixed(nn.Module):
    """The faithful network's picture with what the realistic one draws otherwise, fine parts first.

    `fidelity` is the share of the faithful picture in what is coarse: the mean of both is nearer to the truth than
    either alone. The fine differences, which cost little PSNR and make the picture sharp, come in from 1 on, at first
    quickly, and are all there at a half. From there down only the coarse part of the faithful picture counts: its
    second stage, which draws the fine parts, is left out, and the rest made at half the size.
    """

    def __init__(self, realistic: Base, faithful: Base, fidelity: float) -> None:
        super().__init__()
        self.realistic, self.faithful = realistic, faithful
        self.fine, self.coarse = 1 - max(0.0, 2 * fidelity - 1) ** 2, 1 - fidelity

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        realistic, sigma = self.realistic(image, mask).float(), BAND * image.shape[-1]
        if self.fine < 1:
            faithful = self.faithful(image, mask).float()
            difference = realistic - faithful
            low = blurred(difference, sigma)
            mixed = faithful + self.fine * (difference - low) + self.coarse * low
        else:
            half, half_mask = visible_mean(image, mask, image.shape[-1] // 2)
            faithful = self.faithful.draft(half, half_mask, REACH - 1)[0].float()
            low = blurred(faithful - F.avg_pool2d(realistic, 2), sigma / 2)
            low = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
            mixed = realistic + (1 - self.coarse) * low
        return mixed.clamp(-1, 1)


def blurred(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, H, W) with the edges repeated."""
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(picture.shape[1], 1, 1, -1)
    with torch.autocast(picture.device.type, enabled=False):
        wide = F.pad(picture, (reach, reach, reach, reach), mode="replicate")
        rows = F.conv2d(wide, kernel, groups=picture.shape[1])
        return F.conv2d(rows, kernel.transpose(2, 3), groups=picture.shape[1])
