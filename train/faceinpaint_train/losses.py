"""Losses of the generator; pictures NCHW in [-1, 1], masks N1HW, 1 = hole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from faceinpaint_cli.errors import ModelError


def l1(whole: Tensor, target: Tensor, mask: Tensor, hole: float, rest: float) -> Tensor:
    """Mean absolute difference, weighted `hole` inside the mask and `rest` everywhere."""
    return ((whole - target).abs() * (mask * hole + rest)).mean()


def generator_loss(kind: str, scores: Tensor) -> Tensor:
    """The adversarial term of the generator from the scores of its pictures; kind vanilla (Goodfellow et al.
    2014, non-saturating), lsgan (Mao et al. 2017) or hinge (Lim and Ye 2017)."""
    if kind == "vanilla":
        return F.softplus(-scores).mean()
    if kind == "lsgan":
        return (scores - 1).square().mean()
    return -scores.mean()


def discriminator_loss(kind: str, real: Tensor, made: Tensor) -> Tensor:
    """The discriminator's loss from its scores of real and of made pictures."""
    if kind == "vanilla":
        return F.softplus(-real).mean() + F.softplus(made).mean()
    if kind == "lsgan":
        return 0.5 * ((real - 1).square().mean() + made.square().mean())
    return F.relu(1 - real).mean() + F.relu(1 + made).mean()


def r1_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """Half the squared gradient of the scores by the real pictures (Mescheder et al. 2018)."""
    (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return 0.5 * slope.square().flatten(1).sum(1).mean()


def feature_matching(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's features (Wang et al. 2018)."""
    return torch.stack([(a - b.detach()).abs().mean() for a, b in zip(made, real, strict=True)]).mean()


def hole_crop(pictures: Sequence[Tensor], mask: Tensor, side: int) -> list[Tensor]:
    """The square of `side` pixels around each hole's centre, out of every batch of `pictures`."""
    height, width = mask.shape[2:]
    rows, columns = torch.arange(height, device=mask.device), torch.arange(width, device=mask.device)
    total = mask.sum((1, 2, 3)).clamp(min=1e-6)
    y = ((mask.sum((1, 3)) * rows).sum(1) / total).round().long().sub(side // 2).clamp(0, height - side)
    x = ((mask.sum((1, 2)) * columns).sum(1) / total).round().long().sub(side // 2).clamp(0, width - side)
    inside = torch.arange(side, device=mask.device)
    place = (torch.arange(len(mask), device=mask.device)[:, None, None],
             (y[:, None] + inside)[:, :, None], (x[:, None] + inside)[:, None, :])
    return [picture.movedim(1, -1)[place].movedim(-1, 1) for picture in pictures]


def vgg16_weights(path: Path | None) -> dict[str, Tensor]:
    """`conv{i}.weight/bias` in network order and `lin{0..4}` (C,) from a safetensors file; without a file
    torchvision's ImageNet weights (downloaded once), every channel weighted alike."""
    if path is not None:
        if not path.is_file():
            raise ModelError(f"the perceptual loss needs VGG16's weights, not at {path}: set loss.perceptual_weights")
        return load_file(path)
    from torchvision.models import VGG16_Weights, vgg16

    try:
        layers = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features
    except OSError as error:
        raise ModelError(
            f"torchvision's VGG16 cannot be fetched ({error}): set loss.perceptual_weights to a local file"
        ) from None
    weights: dict[str, Tensor] = {}
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for i, layer in enumerate(convolutions):
        weights |= {f"conv{i}.weight": layer.weight.detach(), f"conv{i}.bias": layer.bias.detach()}
    sizes = (64, 128, 256, 512, 512)
    return weights | {f"lin{i}": torch.full((size,), 1 / size) for i, size in enumerate(sizes)}


class PerceptualVgg16(nn.Module):
    """LPIPS on VGG16 (Zhang et al. 2018), over its first `layers` convolutions (7, 10 or 13 end a stage).

    Weights as `vgg16_weights` finds them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path | None, layers: int = 7) -> None:
        super().__init__()
        for key, value in vgg16_weights(path).items():
            if not key.startswith("conv") or int(key[4:].split(".")[0]) < layers:
                self.register_buffer(key.replace(".", "_"), value.float())
        self.layers = layers
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def features(self, x: Tensor) -> list[tuple[int, Tensor]]:
        x = (x - self.mean) / self.std
        found: list[tuple[int, Tensor]] = []
        index = 0
        for stage, count in enumerate((2, 2, 3, 3, 3)):
            if stage and index < self.layers:
                x = F.max_pool2d(x, 2)
            for _ in range(count):
                if index >= self.layers:
                    return found
                weight, bias = getattr(self, f"conv{index}_weight"), getattr(self, f"conv{index}_bias")
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
                index += 1
            found.append((stage, F.normalize(x.float(), dim=1, eps=1e-6)))
        return found

    def forward(self, whole: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        made = self.features(whole)
        total = whole.new_zeros(())
        with torch.autocast(whole.device.type, enabled=False):
            for (stage, a), (_, b) in zip(made, wanted, strict=True):
                total = total + ((a - b).square().movedim(1, -1) @ getattr(self, f"lin{stage}")).mean()
        return total
