"""Masks that come one a frame: a mask video, or a folder of numbered pictures."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from faceinpaint_cli.errors import InputError, MaskError
from faceinpaint_cli.media.discover import kind_of
from faceinpaint_cli.media.image_samples import grey_of
from faceinpaint_cli.media.images import read_image
from faceinpaint_cli.media.video_index import location

log = logging.getLogger(__name__)

MOST_GREY = 0.25
"""A mask of which a larger share is neither nearly black nor nearly white is likely another picture."""


class FrameMasks(Protocol):
    def at(self, index: int) -> np.ndarray:
        """HW bool of frame `index`, upright; MaskError where there is none."""

    def left_over(self, count: int) -> int:
        """How many there are after those of `count` frames."""

    def close(self) -> None: ...


def load_mask(path: Path) -> np.ndarray:
    """HW bool, upright: True where the picture is lighter than half. In one that is partly transparent, what is not
    seen is not meant: a layer of strokes. In one that is transparent all over, alpha says nothing."""
    try:
        picture = read_image(path)
    except InputError as e:
        raise MaskError(f"mask: {e}") from e
    half = np.iinfo(picture.rgb.dtype).max // 2
    grey = grey_of(picture.rgb)
    white = grey > half
    if picture.alpha is not None and (seen := picture.alpha > half).any():
        white &= seen
    if ((grey > half // 4) & (grey < 2 * half - half // 4)).mean() > MOST_GREY:
        log.warning("mask %s is not black and white: is it a mask? What is lighter than half is filled", path)
    return white


def numbered_frames(folder: Path) -> list[tuple[int, Path]]:
    """The pictures of `folder` by number, if their names differ in nothing else (000001.png, frame-2.png);
    empty if they are anything but the frames of one video."""
    series = _series(folder)
    return sorted(next(iter(series.values()))) if len(series) == 1 and None not in series else []


def stray_picture(folder: Path) -> Path | None:
    """The one picture that keeps those of `folder` from being the frames of one video."""
    series = sorted(_series(folder).values(), key=len)
    return series[0][0][1] if len(series) == 2 and len(series[0]) == 1 < len(series[1]) else None


def _series(folder: Path) -> dict[str | None, list[tuple[int, Path]]]:
    """The pictures of `folder` with their numbers, by what stands before these; under None those without a number."""
    series: dict[str | None, list[tuple[int, Path]]] = defaultdict(list)
    for path in folder.iterdir():
        if kind_of(path) == "image" and not path.name.startswith("."):
            name = re.fullmatch(r"(.*?)(\d+)", path.stem)
            series[name and name.group(1)].append((int(name.group(2)) if name else 0, path))
    return series


class NumberedMasks:
    """Pictures numbered without gap, the lowest number being the first frame."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder, self._source = folder, source
        frames = numbered_frames(folder)
        first = frames[0][0]
        for expected, (number, path) in enumerate(frames, first):
            if number < expected:
                raise MaskError(f"{path} has the number of another mask in {folder}; use each number once")
            if number > expected:
                raise MaskError(f"mask {expected} is missing in {folder} ({first} to {frames[-1][0]} found); "
                                "give one for each frame, black where nothing is to be filled")
        self._paths = [path for _, path in frames]

    def require(self, count: int) -> None:
        if len(self._paths) < count:
            raise _too_few(self._folder, len(self._paths), self._source, count)

    def at(self, index: int) -> np.ndarray:
        if index >= len(self._paths):
            raise _too_few(self._folder, len(self._paths), self._source, index + 1)
        return load_mask(self._paths[index])

    def left_over(self, count: int) -> int:
        return max(0, len(self._paths) - count)

    def close(self) -> None:
        """Nothing is held open."""


class MaskVideo:
    """A video as long as its input, decoded in step; only one of its frames is held."""

    def __init__(self, path: Path, source: Path) -> None:
        self._path, self._source = path, source
        self._next = 0
        self._last: np.ndarray | None = None
        self._frames = self._decode()

    def at(self, index: int) -> np.ndarray:
        if index < self._next - 1:
            self._rewind()
        while self._next <= index:
            frame = next(self._frames, None)
            if frame is None:
                raise _too_few(self._path, self._next, self._source, index + 1)
            self._next += 1
            if self._next > index:
                grey = frame.to_ndarray(format="gray")
                self._last = np.ascontiguousarray(np.rot90(grey >= 128, frame.rotation // 90))
        assert self._last is not None
        return self._last

    def left_over(self, count: int) -> int:
        if self._next > count:
            self._rewind()
        more = max(0, self._next + sum(1 for _ in self._frames) - count)
        self._rewind()
        return more

    def close(self) -> None:
        self._frames.close()

    def _rewind(self) -> None:
        self.close()
        self._next, self._frames = 0, self._decode()

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        try:
            with av.open(location(self._path)) as container:
                if not container.streams.video:
                    raise MaskError(f"mask {self._path} has no video stream")
                container.streams.video[0].thread_type = "FRAME"
                yield from container.decode(video=0)
        except (av.FFmpegError, OSError) as e:
            raise MaskError(f"cannot decode mask {self._path} after frame {self._next}: {e}") from e


def _too_few(masks: Path, count: int, source: Path, wanted: int) -> MaskError:
    return MaskError(f"mask {masks} has {count} frames, but {source} has {wanted} or more; give one for each "
                     "frame")
