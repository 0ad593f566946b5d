"""What the user says is to be filled: mask files, a colour, transparency, boxes."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import cv2
import numpy as np

from faceinpaint_cli.config import RunConfig, parse_box, parse_color
from faceinpaint_cli.damage import mask_frames
from faceinpaint_cli.damage.mask_frames import FrameMasks, MaskVideo, NumberedMasks, load_mask
from faceinpaint_cli.errors import MaskError, UsageError
from faceinpaint_cli.media.discover import kind_of
from faceinpaint_cli.media.images import Picture
from faceinpaint_cli.types import Job

log = logging.getLogger(__name__)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class MaskSource:
    """All mask options of a run. A mask is HW bool, True = fill; sources are joined by OR, then grown.

    Masks and boxes are meant for the picture as it is seen (turned as EXIF or the video's rotation says).
    """

    path: Path | None = None
    colour: tuple[int, int, int] | None = None
    tolerance: int = 0
    alpha: bool = False
    resize: bool = False
    boxes: tuple[Box, ...] = ()
    dilate: int = 0

    @classmethod
    def from_config(cls, config: RunConfig) -> MaskSource:
        """Raises UsageError for a --mask that is not there, may not be read or is no picture, video or folder."""
        path = None if config.mask is None else Path(config.mask)
        if path is not None:
            try:
                if not path.exists():
                    raise UsageError(f"--mask {path} does not exist")
                if not path.is_dir() and (kind_of(path) is None or not path.is_file()):
                    raise UsageError(f"--mask {path} must be a picture, a video or a folder")
                with os.scandir(path) if path.is_dir() else path.open("rb"):  # or each input fails by it
                    pass
            except OSError as e:
                raise UsageError(f"cannot read --mask {path}: {e.strerror}; allow reading it, or give another") from e
        colour = None if config.mask_color is None else parse_color(config.mask_color)
        return cls(path, colour, config.mask_tolerance, config.mask_alpha, config.mask_resize,
                   tuple(parse_box(text) for text in config.box), config.dilate)

    @property
    def explicit(self) -> bool:
        """Whether the user gave any source."""
        return bool(self.path or self.colour or self.alpha or self.boxes)

    def for_image(self, job: Job, picture: Picture) -> np.ndarray:
        """HW bool for a picture, upright. All False where nothing matches --mask-color or --mask-alpha.

        Raises MaskError for a mask that is not there, cannot be read or has another size, or a box outside.
        """
        mask = np.zeros(picture.rgb.shape[:2], bool)
        if self.path is not None:
            found = self._file_for(job)
            if found.is_dir() or kind_of(found) == "video":
                raise MaskError(f"the mask of {job.input} is {found}, but a picture needs a picture as mask")
            mask |= self._fit(self._picture_mask(found), picture.width, picture.height, found, job.input)
        mask = self.with_marked(mask, picture.rgb, picture.alpha, job.input)
        if mask.all():
            log.warning("the mask of %s covers all of it: nothing is left to go by", job.input)
        return mask

    def with_marked(self, mask: np.ndarray, rgb: np.ndarray, alpha: np.ndarray | None, source: Path) -> np.ndarray:
        """`mask` (HW bool) joined with the boxes, the colour in `rgb` (HWC) and what is transparent in `alpha` (HW),
        grown. Raises MaskError for a box outside `source`."""
        mask = mask | self._boxes(rgb.shape[1], rgb.shape[0], source)
        if self.colour is not None:
            mask |= self._of_colour(rgb)
        if self.alpha and alpha is not None:
            mask |= _transparent(alpha)
        return self.grown(mask)

    def for_video(self, job: Job, width: int, height: int, frame_count: int | None = None,
                  rotation: int = 0) -> VideoMask:
        """Masks for the frames of a video, one by one.

        `width` and `height` are those of the decoded frames; `rotation` is the number of degrees that these
        must be turned counter-clockwise to be seen upright (`frame.rotation` of PyAV). With `frame_count` a
        mask of fewer frames is refused at once, else when it runs out. Raises MaskError as `for_image` does.
        """
        turns = _quarter_turns(rotation, job.input)
        seen = (height, width) if turns % 2 else (width, height)
        fixed = self._boxes(*seen, job.input)
        frames: FrameMasks | None = None
        found: Path | None = None
        fit: Callable[[np.ndarray], np.ndarray] = lambda mask: mask  # noqa: E731
        if self.path is not None:
            found = self._file_for(job)
            fit = lambda mask: self._fit(mask, *seen, found, job.input)  # noqa: E731
            if found.is_dir():
                frames = NumberedMasks(found, job.input)
            elif kind_of(found) == "video":
                frames = MaskVideo(found, job.input)
            else:
                fixed |= fit(self._picture_mask(found))
        if isinstance(frames, NumberedMasks) and frame_count is not None:
            frames.require(frame_count)
        coded = np.rot90(fixed, -turns)
        return VideoMask(self, np.ascontiguousarray(coded), frames, found, fit, turns)

    def _file_for(self, job: Job) -> Path:
        """The mask of one input: a picture, a video, or a folder of numbered frames."""
        assert self.path is not None
        if not self.path.is_dir():
            return self.path
        matches = [m for m in self._index.get(_stem(job.relative), []) if m.resolve() != job.input.resolve()]
        if job.kind == "image":
            matches = [m for m in matches if kind_of(m) == "image"]
        same = [m for m in matches if m.suffix.lower() == job.relative.suffix.lower()]
        if len(matches) > 1:
            matches = same or matches
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = " and ".join(str(m) for m in matches[:2])
            raise MaskError(f"{job.input} has several masks, {names}; keep one")
        stray: Path | None = None
        if job.kind == "video":
            folders = [f for f in (self.path / job.relative.with_suffix(""), self.path) if f.is_dir()]
            for folder in folders:
                if mask_frames.numbered_frames(folder):
                    return folder
            stray = next(filter(None, map(mask_frames.stray_picture, folders)), None)
        wanted = self.path / job.relative.with_suffix(".png")
        frames = f"; or take {stray} away, which is none of the numbered masks beside it" if stray else ""
        raise MaskError(f"no mask for {job.input} in --mask {self.path}; expected a file such as {wanted}{frames}")

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """Mask files of the folder by relative path without suffix."""
        assert self.path is not None
        index: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.path.rglob("*")):
            if kind_of(path) and not path.name.startswith(".") and path.is_file():
                index[_stem(path.relative_to(self.path))].append(path)
        return dict(index)

    def _picture_mask(self, path: Path) -> np.ndarray:
        if path == self.path:  # one for all inputs
            return self._single
        return load_mask(path)

    @cached_property
    def _single(self) -> np.ndarray:
        assert self.path is not None
        return load_mask(self.path)

    def _fit(self, mask: np.ndarray, width: int, height: int, path: Path, source: Path) -> np.ndarray:
        if mask.shape == (height, width):
            return mask
        if not self.resize:
            raise MaskError(f"mask {path} is {mask.shape[1]} x {mask.shape[0]}, but {source} is {width} x "
                            f"{height}; give a mask of that size, or add --mask-resize")
        return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0

    def _boxes(self, width: int, height: int, source: Path) -> np.ndarray:
        mask = np.zeros((height, width), bool)
        for x, y, w, h in self.boxes:
            if x >= width or y >= height or x + w <= 0 or y + h <= 0:
                raise MaskError(f"--box {x},{y},{w},{h} lies outside {source}, which is {width} x {height}")
            mask[max(y, 0): y + h, max(x, 0): x + w] = True
        return mask

    def _of_colour(self, rgb: np.ndarray) -> np.ndarray:
        """Pixels within the tolerance of the colour in every channel."""
        scale = np.iinfo(rgb.dtype).max // 255
        colour = np.array(self.colour, np.int32) * scale
        reach = self.tolerance * scale
        low, high = np.clip([colour - reach, colour + reach], 0, np.iinfo(rgb.dtype).max)
        return ((rgb >= low.astype(rgb.dtype)) & (rgb <= high.astype(rgb.dtype))).all(axis=2)

    def grown(self, mask: np.ndarray) -> np.ndarray:
        """`mask` (HW bool) with `dilate` pixels more on each side."""
        if not self.dilate or not mask.any():
            return mask
        square = np.ones((2 * self.dilate + 1,) * 2, np.uint8)
        return cv2.dilate(mask.astype(np.uint8), square) > 0


class VideoMask:
    """The masks of one video. `constant` is the mask of every frame (HW bool), or None where they differ;
    `needs_rgb` and `needs_alpha` say what of the frame `at` must be given. A context manager; not for several threads.
    """

    def __init__(self, source: MaskSource, fixed: np.ndarray, frames: FrameMasks | None, path: Path | None,
                 fit: Callable[[np.ndarray], np.ndarray], turns: int) -> None:
        self._source, self._frames, self._fit, self._turns = source, frames, fit, turns
        self._fixed, self._path = fixed, path
        self.needs_rgb = source.colour is not None
        self.needs_alpha = source.alpha
        self.constant = None if frames is not None or self.needs_frame else source.grown(fixed)

    @property
    def needs_frame(self) -> bool:
        return self.needs_rgb or self.needs_alpha

    def at(self, index: int, rgb: np.ndarray | None = None, alpha: np.ndarray | None = None) -> np.ndarray:
        """The mask (HW bool) of frame `index` as decoded (not turned), counted from 0 in display order. `alpha` (HW) is
        None where the frame has none.

        Mask videos are decoded in step: cheapest asked for in rising order. Raises MaskError where the mask
        has no such frame.
        """
        if self.constant is not None:
            return self.constant
        mask = self._fixed
        if self._frames is not None:
            mask = mask | np.rot90(self._fit(self._frames.at(index)), -self._turns)
        if self.needs_rgb:
            if rgb is None:
                raise ValueError("a mask by colour needs the frame")
            mask = mask | self._source._of_colour(rgb)
        if self.needs_alpha and alpha is not None:
            mask = mask | _transparent(alpha)
        return self._source.grown(mask)

    def require_as_many(self, count: int, source: Path, damaged: Callable[[], bool]) -> None:
        """MaskError where there are masks for more than `count` frames: they were made for another video. If the source
        is `damaged` (asked only then) frames may be missing, and it is a warning. Cheapest after the last frame was
        asked for."""
        more = 0 if self._frames is None else self._frames.left_over(count)
        if not more:
            return
        said = f"mask {self._path} has {count + more} frames, but {source} has {count}"
        if not damaged():
            raise MaskError(f"{said}; give one for each frame, of the same rate")
        log.warning("%s, which is damaged: the last %d are not used; see whether the others fit", said, more)

    def close(self) -> None:
        if self._frames is not None:
            self._frames.close()

    def __enter__(self) -> VideoMask:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _transparent(alpha: np.ndarray) -> np.ndarray:
    return alpha < np.iinfo(alpha.dtype).max // 2 + 1


def _stem(relative: PurePath) -> str:
    return relative.with_suffix("").as_posix()


def _quarter_turns(rotation: int, source: Path) -> int:
    if rotation % 90:
        raise MaskError(f"{source} is to be shown turned by {rotation} degrees; masks need a multiple of 90")
    return rotation // 90 % 4
