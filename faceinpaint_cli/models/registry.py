"""Every generator by name, with what it needs of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from faceinpaint_cli.errors import ModelError


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
    except TypeError as error:
        raise ModelError(f"generator {name!r} does not take these options: {error}") from None


def _register_all() -> None:
    from faceinpaint_cli.models.networks.base import Base

    register(
        "base", ModelSpec(Base, "face prior, coarse U-Net at 64 px, refinement at full size", multiple=4)
    )


_register_all()
