"""The stages that the pipelines share, each made when first needed and kept for the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.types import Face, Job

if TYPE_CHECKING:
    from faceinpaint_cli.damage.masks import MaskSource
    from faceinpaint_cli.faces.detector import FaceDetector
    from faceinpaint_cli.fill.filler import Filler


class Show(Protocol):
    """Shows what was done, for the HTML report."""

    def add(self, job: Job, frame: int, before: np.ndarray, mask: np.ndarray, after: np.ndarray) -> None:
        """A picture before (HWC uint8 RGB), its mask (HW bool) and the picture after (HWC uint8)."""

    def add_strip(self, job: Job, pictures: Sequence[np.ndarray], damaged: np.ndarray, seconds: float) -> None:
        """A whole video of so many seconds: pictures (HWC uint8 RGB) evenly through it, and which frames (bool each)
        were damaged or masked."""


def spread(numbers: np.ndarray, wanted: int) -> list[int]:
    """At most so many of the numbers (ascending), evenly chosen: what is shown of many."""
    places = np.linspace(0, len(numbers) - 1, min(wanted, len(numbers))).astype(int)
    return sorted(set(numbers[places].tolist()))


class Stages:
    """Mask sources, face detector, damage localiser and fill, as the settings ask for them.

    What a stage needs is imported when it is first asked for: a video without damage is copied without torch, OpenCV
    or the image readers, whose import takes longer than a short clip.
    `show`, if given, is given a few before/mask/after pictures of each job (for the HTML report).
    """

    def __init__(self, config: RunConfig, show: Show | None = None) -> None:
        self.config = config
        self.show = show

    @cached_property
    def masks(self) -> MaskSource:
        from faceinpaint_cli.damage.masks import MaskSource

        return MaskSource.from_config(self.config)

    @cached_property
    def detector(self) -> FaceDetector:
        from faceinpaint_cli.faces.detector import FaceDetector

        return FaceDetector(self.config.device, min_face=self.config.min_face)

    @cached_property
    def filler(self) -> Filler:
        from faceinpaint_cli.fill.filler import Filler

        return Filler(self.config)

    def fill(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray],
             faces: Sequence[Sequence[Face]], detail: bool = False) -> list[np.ndarray]:
        """Pictures (HWC uint8 or uint16 RGB) filled together where their masks (HW bool) are true; `detail` as in
        `Filler.fill`."""
        from faceinpaint_cli.fill.filler import FillItem

        return self.filler.fill([FillItem(*item) for item in zip(images, masks, faces, strict=True)], detail)

    def locate_damage(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Blind localiser of stamped-on patches, with a closer look at the faces: HWC uint8 RGB pictures to HW float32
        maps in [0, 1]."""
        from faceinpaint_cli.damage.localiser import locate_damage

        return locate_damage(images, [[face.box for face in faces] for faces in self.detector.detect(images)])

    def can_fill(self, mask: np.ndarray) -> bool:
        """Whether the method fills a hole (HW bool) that leaves nothing of the picture: only the generator draws from
        nothing, classical fills give the picture back."""
        return self.config.method == "generator" or not mask.all()

    @property
    def needs_faces(self) -> bool:
        """Only the generator works on faces; classical fills need none."""
        return self.config.method == "generator"
