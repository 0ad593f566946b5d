"""The classical fills, by name. The generator is not here: it needs a model and works in batches."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.fill import classical

FillFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes an image (HWC uint8 RGB) and a mask (HW bool, True = fill); returns a new HWC uint8 RGB image that
differs from the input only inside the mask. An empty mask returns a copy; with a full mask nothing is known,
and the input comes back as it was."""

FILLS: dict[str, FillFunction] = {}


def register(name: str, function: FillFunction) -> None:
    """Add a method; a name that is taken is refused with ValueError."""
    if name in FILLS:
        raise ValueError(f"a fill named {name!r} is registered already")
    FILLS[name] = function


def get_fill(name: str) -> FillFunction:
    """The function of a method; UsageError names those there are."""
    try:
        return FILLS[name]
    except KeyError:
        names = ", ".join(["generator", *FILLS])
        raise UsageError(f"--method must be one of {names}, not {name!r}") from None


def lazy(module: str, function: str) -> FillFunction:
    """A method whose module is imported at its first use, so that the others do not pay for it."""

    def fill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return getattr(import_module(module), function)(image, mask)

    return fill


def require(module: str, extra: str, method: str) -> ModuleType:
    """Import what one method alone needs; where it is missing, UsageError names the extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(f"--method {method} needs {module.split('.')[0]}, which is not installed: "
                         f'pip install ".[{extra}]" ({error})') from None


register("ns", classical.ns)
register("telea", classical.telea)
register("efros-leung", lazy("faceinpaint_cli.fill.efros_leung", "efros_leung"))
register("patchmatch", lazy("faceinpaint_cli.fill.patchmatch", "patchmatch"))
register("hybrid", lazy("faceinpaint_cli.fill.exemplar", "hybrid"))
register("biharmonic", lazy("faceinpaint_cli.fill.biharmonic", "biharmonic"))
