"""Every generator by name, with what it needs of its input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

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
LIMITS: Mapping[str, tuple[float, float]] = {
    "width": (1, 256),
    "widths": (1, 1024),
    "depth": (1, 8),
    "layers": (1, 8),
    "blocks": (1, 64),
    "dilations": (1, 64),
    "attention": (1, 8),  # of pix2pix, where it lists levels
    "dropout": (0, 0.95),
    "refine_width": (1, 1024),
    "refine_depth": (0, 64),
    "prior_rank": (1, 3072),  # the values of the prior's picture
    "deeper": (0, 64),
}
"""Least and most of the options that are numbers, of whichever network; of each number where there are several."""


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
    return _built(f"generator {name!r}", generator_spec(name).build, options)


def build_discriminator(name: str, **options: Any) -> nn.Module:
    """A new discriminator: forward(picture, mask) to (scores, features)."""
    if name not in DISCRIMINATORS:
        raise ModelError(f"no discriminator is named {name!r}: choose one of {', '.join(DISCRIMINATORS)}")
    return _built(f"discriminator {name!r}", DISCRIMINATORS[name], options)


def _built(what: str, build: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    known = inspect.signature(build, eval_str=True).parameters
    for key, value in options.items():
        if key not in known:
            raise ModelError(f"{what} has no option {key!r}: it takes {', '.join(known)}")
        if not _is_of(value, known[key].annotation, LIMITS.get(key)):
            raise ModelError(f"{what}: {key} takes {_wanted(known[key].annotation, LIMITS.get(key))}, not {value!r}")
    try:
        return build(**options)
    except (RuntimeError, ValueError) as error:  # of sizes that do not go together
        raise ModelError(f"{what} does not take these options together: {' '.join(str(error).split())[:200]}") from None


def _is_of(value: Any, kind: Any, limits: tuple[float, float] | None) -> bool:
    """Whether `value` is of a network's annotated `kind`: bool, int, float, or a tuple of them, which is a list in JSON
    and TOML and of any length where the annotation is tuple[X, ...]."""
    parts = get_args(kind)
    if parts:
        right = isinstance(value, (list, tuple)) and (Ellipsis in parts or len(value) == len(parts))
        return right and all(_is_of(each, parts[0], limits) for each in value)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else int) and (
        limits is None or limits[0] <= value <= limits[1])


def _wanted(kind: Any, limits: tuple[float, float] | None) -> str:
    """What `_is_of` asks for, in words."""
    parts = get_args(kind)
    one = parts[0] if parts else kind
    if one is bool:
        return "true or false"
    number = f"{'' if one is float else 'whole '}number"
    span = f" from {limits[0]:g} to {limits[1]:g}" if limits else ""
    if not parts:
        return f"a {number}{span}"
    count = "" if Ellipsis in parts else f"{len(parts)} "
    return f"a list of {count}{number}s{span}"


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
