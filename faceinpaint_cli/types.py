"""The values that travel between the stages: plain, frozen, and free of heavy imports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["image", "video"]
Status = Literal["done", "failed", "skipped"]


@dataclass(frozen=True)
class Job:
    """One input and the output it becomes.

    `relative` is the path below the folder that was given (or the bare name), used to match masks by stem. `error`
    says why it cannot be done where that is known beforehand (an input that is not there or may not be read).
    """

    input: Path
    output: Path
    kind: Kind
    relative: Path
    error: str | None = None


@dataclass(frozen=True)
class Face:
    """A face in one picture: `box` XYXY in pixels (4,), `landmarks` (5, 2) in pixels ordered left eye, right
    eye, nose, left and right corner of the mouth as seen in the picture, `score` in [0, 1].

    `source` says how it is known: "detected" in the picture as it is, "hidden" on a fill of the hole or from what
    is around it, "tracked" carried from another frame. `track` is the number of its track in a video.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    source: Literal["detected", "hidden", "tracked"] = "detected"
    track: int | None = None


@dataclass(frozen=True)
class Crop:
    """A square region handed to the generator.

    `matrix` (2, 3) maps source pixels to crop pixels, `size` is the side of the crop in pixels. `face` is the
    face that it is aligned to, None for a crop of all of a picture of which nothing is known.
    """

    matrix: np.ndarray
    size: int
    face: Face | None = None


@dataclass(frozen=True)
class JobResult:
    """What became of one job; the fields of one entry of `jobs` in the report (DESIGN: Command line)."""

    input: str
    output: str
    kind: Kind
    status: Status
    error: str | None = None
    frames: int = 0
    frames_damaged: int = 0
    frames_filled: int = 0
    faces: int = 0
    tracks: int = 0
    mask_fraction: float = 0.0
    method: str = ""
    seconds: float = 0.0
    fps: float = 0.0
    audit: dict[str, Any] = field(default_factory=dict)
