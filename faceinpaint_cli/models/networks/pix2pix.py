"""pix2pix (Isola et al. 2017): the U-Net generator, with self-attention as an option."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceinpaint_cli.models.networks.blocks import SaganAttention


def masked_input(image: Tensor, mask: Tensor) -> Tensor:
    """(N, 4, H, W): the picture without what is hidden, and the mask. A mask of zeros tells nothing (blind)."""
    return torch.cat([image * (1 - mask), mask], 1)


def drawn_over(values: Tensor, image: Tensor) -> Tensor:
    """The last layer's `values` (N, 3 or 4, H, W) as a picture in [-1, 1]. A fourth channel is a gate: where its
    sigmoid is 0, `image` is left as it is, so that a network that is told no mask can say where it has nothing to draw
    (the attention masks of GANimation, Pumarola et al. 2018)."""
    picture = torch.tanh(values[:, :3].to(image.dtype))
    if values.shape[1] == 3:
        return picture
    return torch.lerp(image, picture, torch.sigmoid(values[:, 3:].to(image.dtype)))


class Down(nn.Sequential):
    """LeakyReLU, 4 x 4 convolution of stride 2, norm: half the size."""

    def __init__(self, enters: int, leaves: int, norm: bool = True, activate: bool = True) -> None:
        layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if activate else []
        layers.append(nn.Conv2d(enters, leaves, 4, stride=2, padding=1, bias=not norm))
        if norm:
            layers.append(nn.InstanceNorm2d(leaves, affine=True))
        super().__init__(*layers)


class Up(nn.Sequential):
    """ReLU, transposed convolution of stride 2, norm, dropout as an option: twice the size.

    The paper's kernel of 4 x 4 is made of 3 x 3 and the mean of 2 x 2, which keeps flat ground flat where the free one
    draws a checkerboard (Odena et al. 2016, "Deconvolution and checkerboard artifacts").
    """

    def __init__(self, enters: int, leaves: int, norm: bool = True, dropout: float = 0.0) -> None:
        layers: list[nn.Module] = [
            nn.ReLU(),
            nn.ConvTranspose2d(enters, leaves, 3, stride=2, bias=not norm),
            nn.AvgPool2d(2, stride=1),
        ]
        if norm:
            layers.append(nn.InstanceNorm2d(leaves, affine=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class Pix2Pix(nn.Module):
    """U-Net of `depth` halvings with skip connections, `width` channels at the finest level, at most 8 times.

    The paper's has depth 8 and width 64. Instance norm stands for its batch norm of batches of one.
    `attention` lists the levels (1 = after the first halving) that end in SAGAN's self-attention, on the way
    down. With `gated` it also says where it draws at all (`drawn_over`). forward(image (N, 3, H, W),
    mask (N, 1, H, W)) to (N, 3, H, W) in [-1, 1]; H, W multiples of 2^depth.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        dropout: float = 0.5,
        attention: tuple[int, ...] = (),
        gated: bool = False,
    ) -> None:
        super().__init__()
        if any(level > depth for level in attention):
            raise ValueError(f"attention is at levels up to depth, {depth}, not {list(attention)}")
        widths = [width * min(8, 2**level) for level in range(depth)]
        self.down = nn.ModuleList()
        self.attend = nn.ModuleDict({str(level): SaganAttention(widths[level - 1]) for level in attention})
        before = 4
        for level, channels in enumerate(widths):
            self.down.append(Down(before, channels, norm=0 < level < depth - 1, activate=level > 0))
            before = channels
        self.up = nn.ModuleList()
        for level in reversed(range(depth)):
            enters = widths[level] if level == depth - 1 else 2 * widths[level]
            if level == 0:
                self.up.append(Up(enters, 3 + gated, norm=False))
            else:
                wide = widths[level - 1]
                self.up.append(Up(enters, wide, dropout=dropout if depth - 4 <= level < depth - 1 else 0.0))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = masked_input(image, mask)
        kept = []
        for level, layer in enumerate(self.down, start=1):
            x = layer(x)
            if str(level) in self.attend:
                x = self.attend[str(level)](x)
            kept.append(x)
        kept.pop()
        for layer in self.up:
            x = layer(x)
            if kept:
                x = torch.cat([x, kept.pop()], 1)
        return drawn_over(x, image)
