"""faceinpaint: repair faces in pictures and video. The API that the command line itself uses is here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["RunConfig", "inpaint_image", "inpaint_video"]

if TYPE_CHECKING:
    from faceinpaint_cli.api import inpaint_image, inpaint_video
    from faceinpaint_cli.config import RunConfig

_HOMES = {"inpaint_image": "faceinpaint_cli.api", "inpaint_video": "faceinpaint_cli.api",
          "RunConfig": "faceinpaint_cli.config"}


def __getattr__(name: str) -> Any:  # the API needs torch, `faceinpaint --help` must not
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
