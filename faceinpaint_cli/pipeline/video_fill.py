"""The pictures of a video on their way: tracked, filled from the frames around them, drawn in batches, pasted."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np

from faceinpaint_cli.fill.filler import FillItem
from faceinpaint_cli.fill.flicker import DRAWN, frames_without_flicker, softened
from faceinpaint_cli.fill.propagation import Carried, Window, reach, steadied
from faceinpaint_cli.media.fields import PROGRESSIVE
from faceinpaint_cli.media.planes import eight_bit, paste
from faceinpaint_cli.pipeline.overlap import heed
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.types import Face, Job

BATCH_FRAMES = 16
BATCH_PIXELS = 24_000_000
"""A batch of frames that is filled at once ends at either limit: so memory does not grow with the video."""


@dataclass
class Picture:
    """A frame on its way: `image` (RGB, HWC uint8 or uint16) and `mask` (HW bool) are upright, as it is seen;
    `image` is None where nothing needs it. `carried`: what the frames around it show of what is masked. `fields`: the
    field order of the frame in the source. `filled`: whether it has been filled."""

    number: int
    frame: av.VideoFrame
    mask: np.ndarray
    image: np.ndarray | None = None
    faces: Sequence[Face] = ()
    carried: Carried | None = None
    fields: str = PROGRESSIVE
    filled: bool = False


class VideoFill:
    """Fills pictures where they are masked. With a `detect_stride` faces are found and tracked, and what the frames
    around show is taken from there. `turns`: quarter turns from how frames are stored to how they are seen; pictures of
    the numbers `shown` go to the report."""

    def __init__(self, job: Job, stages: Stages, detect_stride: int, turns: int, shown: Collection[int]) -> None:
        self._job, self._stages, self._stride, self._turns, self._shown = job, stages, detect_stride, turns, shown
        self._previous: tuple[int, np.ndarray] | None = None

    def fill(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        """The pictures in order, their frames filled."""
        if not self._stride:
            yield from self._filled(pictures)
            return
        waiting: dict[int, Picture] = {}

        def frames() -> Iterator[tuple[int, av.VideoFrame, np.ndarray]]:
            for picture in self._filled(_with_carried(_tracked(pictures, self._stages, self._stride))):
                waiting[picture.number] = picture
                hole = picture.mask if picture.filled else np.zeros_like(picture.mask)
                yield picture.number, picture.frame, softened(np.rot90(hole, -self._turns))

        for number, frame in frames_without_flicker(frames(), DRAWN):
            picture = waiting.pop(number)
            picture.frame = frame
            yield picture

    def _filled(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """Each picture filled for itself."""
        for batch in _batches(pictures):
            heed()
            todo = [p for p in batch if p.image is not None and p.mask.any()]
            for picture, filled in zip(todo, self._stages.filler.fill([_item(p) for p in todo]), strict=True):
                self._put_in(picture, self._steady(picture, filled))
            yield from batch

    def _steady(self, picture: Picture, filled: np.ndarray) -> np.ndarray:
        """What was drawn, led on from the frame before."""
        carried, previous = picture.carried, self._previous
        if carried is None:
            return filled
        if previous is not None and previous[0] == picture.number - 1 and carried.back and carried.left.any():
            filled = steadied(filled, carried.left, carried.back, previous[1])
        self._previous = picture.number, filled
        return filled

    def _put_in(self, picture: Picture, filled: np.ndarray) -> None:
        assert picture.image is not None
        picture.filled = self._stages.can_fill(picture.mask)
        if self._stages.show and picture.number in self._shown:
            self._stages.show.add(self._job, picture.number, eight_bit(picture.image), picture.mask, eight_bit(filled))
        picture.frame = paste(picture.frame, np.rot90(filled, -self._turns), np.rot90(picture.mask, -self._turns),
                              opaque=self._stages.config.mask_alpha)


def _item(picture: Picture) -> FillItem:
    assert picture.image is not None
    if picture.carried is None:
        return FillItem(picture.image, np.ascontiguousarray(picture.mask), picture.faces)
    return FillItem(picture.carried.image, picture.carried.left, picture.faces)


def _with_carried(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """The same pictures with what those around them show of what they hide."""
    window = Window()
    waiting: deque[Picture] = deque()

    def done(beside: int) -> Picture:
        heed()
        picture = waiting.popleft()
        if picture.mask.any():
            picture.carried = window.carried(picture.number)
        window.forget(picture.number + 1 - beside)
        return picture

    beside = 0
    for picture in pictures:
        assert picture.image is not None
        beside = reach(picture.mask.size)
        window.add(picture.number, picture.image, picture.mask)
        waiting.append(picture)
        while picture.number - waiting[0].number >= beside:
            yield done(beside)
    while waiting:
        yield done(beside)


def _tracked(pictures: Iterable[Picture], stages: Stages, stride: int) -> Iterator[Picture]:
    """The same pictures with the faces in them."""
    from faceinpaint_cli.faces.tracker import TrackInput, track_faces

    waiting: dict[int, Picture] = {}

    def inputs() -> Iterator[TrackInput]:
        for picture in pictures:
            assert picture.image is not None
            waiting[picture.number] = picture
            yield TrackInput(picture.number, eight_bit(picture.image), np.ascontiguousarray(picture.mask))

    for tracked in track_faces(inputs(), stages.detector, stride):
        picture = waiting.pop(tracked.index)
        picture.faces = tracked.faces
        yield picture


def _batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Pictures in order, in batches with a bounded number of those to be filled."""
    batch: list[Picture] = []
    pixels = 0
    for picture in pictures:
        batch.append(picture)
        pixels += picture.mask.size
        if len(batch) == BATCH_FRAMES or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
