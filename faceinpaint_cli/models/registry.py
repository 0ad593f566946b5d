"""Every generator by name, with what it needs of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from faceinpaint_cli.errors import ModelError
from faceinpaint_cli.models.networks.base import Base
from faceinpaint_cli.models.networks.discriminators import GlobalAndLocal, PatchGan
from faceinpaint_cli.models.networks.pix2pix import Pix2Pix
from faceinpaint_cli.models.networks.resnet import ResnetGenerator


@dataclass(frozen=True)
class ModelSpec:
    """A generator: forward(image (N, 3, H, W) in [-1, 1], mask (N, 1, H, W) in [0, 1]) to (N, 3, H, W).

    H and W must be multiples of `multiple`; `size` is the side of the crops that it is trained on;
    `summary` is one line for `faceinpaint models list`.
    """

    build: Callable[..., nn.Module]
    summary: str
    multiple: int
    size: int = 256
    channels: int = 3


GENERATORS: dict[str, ModelSpec] = {}
WRONG_OPTIONS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What layers raise that are asked for with options of another type, or of a size that cannot be."""


def register(name: str, spec: ModelSpec) -> None:
    """Add a generator; a name that is taken is a programming error."""
    if name in GENERATORS:
        raise ValueError(f"a generator named {name!r} is already registered")
    GENERATORS[name] = spec


def generator_spec(name: str) -> ModelSpec:
    if name not in GENERATORS:
        raise ModelError(f"no generator is named {name!r}: choose one of {', '.join(GENERATORS)}")
    return GENERATORS[name]


def build_generator(name: str, **options: Any) -> nn.Module:
    """A new generator with fresh weights; `options` as in its config."""
    spec = generator_spec(name)
    try:
        return spec.build(**options)
    except WRONG_OPTIONS as error:
        raise ModelError(f"generator {name!r} does not take these options: {_brief(error)}") from None


def _brief(error: Exception) -> str:
    """One line: layers that are asked for with the wrong types list all that they take."""
    return " ".join(str(error).split())[:200]


def build_discriminator(name: str, **options: Any) -> nn.Module:
    """A new discriminator: forward(picture, mask) to (scores, features)."""
    if name not in DISCRIMINATORS:
        raise ModelError(f"no discriminator is named {name!r}: choose one of {', '.join(DISCRIMINATORS)}")
    try:
        return DISCRIMINATORS[name](**options)
    except WRONG_OPTIONS as error:
        raise ModelError(f"discriminator {name!r} does not take these options: {_brief(error)}") from None


register("base", ModelSpec(Base, "face prior, U-Net at 64 px, refinement at full size", multiple=4))
register("pix2pix", ModelSpec(Pix2Pix, "U-Net of Isola et al. 2017", multiple=256))
register(
    "pix2pix-attn",
    ModelSpec(
        partial(Pix2Pix, attention=(3,)), "the same with self-attention (Zhang et al. 2019)", multiple=256
    ),
)
register(
    "patchgan-inpaint",
    ModelSpec(
        partial(ResnetGenerator, width=48, blocks=8, dilations=(1, 2, 4, 8)),
        "dilated residual generator for global and local PatchGANs (after Yuan et al. 2019)",
        multiple=4,
    ),
)
register(
    "cyclegan-attn",
    ModelSpec(
        partial(ResnetGenerator, attention=True), "ResNet of Zhu et al. 2017, with attention", multiple=4
    ),
)
register(
    "sagan-inpaint",
    ModelSpec(
        partial(ResnetGenerator, width=48, blocks=6, attention=True, spectral=True),
        "attention with spectral normalisation (after Zhang et al. 2019)",
        multiple=4,
    ),
)

DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {
    "patchgan": PatchGan,
    "patchgan-attn": partial(PatchGan, attention=True),
    "patchgan-spectral": partial(PatchGan, spectral=True),
    "patchgan-spectral-attn": partial(PatchGan, spectral=True, attention=True),
    "global-local": GlobalAndLocal,
}
