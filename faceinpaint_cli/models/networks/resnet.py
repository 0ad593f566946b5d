"""Generators of two halvings with residual blocks between: CycleGAN's, PatchGAN inpainting's and SAGAN's way."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from faceinpaint_cli.models.networks.blocks import SaganAttention
from faceinpaint_cli.models.networks.pix2pix import drawn_over, masked_input

Wrap = Callable[[nn.Module], nn.Module]


def unchanged(layer: nn.Module) -> nn.Module:
    return layer


class Block(nn.Module):
    """Two 3 x 3 convolutions with instance norm, added to the input (Zhu et al. 2017)."""

    def __init__(self, channels: int, dilation: int, wrap: Wrap) -> None:
        super().__init__()
        self.body = nn.Sequential(
            wrap(nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, padding_mode="reflect")),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            wrap(nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResnetGenerator(nn.Module):
    """7 x 7 convolution, two halvings, `blocks` residual blocks, two doublings, 7 x 7 convolution.

    `dilations` are repeated over the blocks: (1,) is CycleGAN's generator (Zhu et al. 2017), (1, 2, 4, 8) lets
    every position see over the hole. `attention` puts SAGAN's self-attention in the middle of the blocks,
    `spectral` normalises every convolution as SAGAN does, with `gated` it also says where it draws at all
    (`drawn_over`). forward(image (N, 3, H, W), mask (N, 1, H, W)) to (N, 3, H, W) in [-1, 1]; H and W are multiples
    of 4.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 9,
        dilations: tuple[int, ...] = (1,),
        attention: bool = False,
        spectral: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__()
        if not dilations:
            raise ValueError("dilations needs one at least")
        wrap: Wrap = spectral_norm if spectral else unchanged
        layers: list[nn.Module] = [
            wrap(nn.Conv2d(4, width, 7, padding=3, padding_mode="reflect")),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(),
        ]
        for factor in (1, 2):
            layers += [
                wrap(nn.Conv2d(width * factor, width * factor * 2, 3, stride=2, padding=1)),
                nn.InstanceNorm2d(width * factor * 2, affine=True),
                nn.ReLU(),
            ]
        for index in range(blocks):
            layers.append(Block(4 * width, dilations[index % len(dilations)], wrap))
            if attention and index == blocks // 2:
                layers.append(SaganAttention(4 * width))
        for factor in (4, 2):
            layers += [
                nn.Upsample(scale_factor=2, mode="nearest"),
                wrap(nn.Conv2d(width * factor, width * factor // 2, 3, padding=1)),
                nn.InstanceNorm2d(width * factor // 2, affine=True),
                nn.ReLU(),
            ]
        layers.append(wrap(nn.Conv2d(width, 3 + gated, 7, padding=3, padding_mode="reflect")))
        self.body = nn.Sequential(*layers)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return drawn_over(self.body(masked_input(image, mask)), image)
