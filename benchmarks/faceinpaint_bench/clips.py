"""Clips for suite `video`: encoding them anew, damaging them, and reading several files in step."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from faceinpaint_bench.sources import bundled_samples
from faceinpaint_cli.errors import DataError, FaceInpaintError, UsageError
from faceinpaint_cli.media.planes import ToRgb
from faceinpaint_cli.media.video_index import location
from faceinpaint_cli.synthesis.bitstream import BRANCHES, Corruption
from faceinpaint_cli.synthesis.truemask import frames_in_time

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".webm"})

GROUP = 48
"""Pictures of a group in the BSCV benchmark."""


@dataclass(frozen=True)
class Coding:
    """How a clip is encoded: by `encoder` in groups of `group` pictures, else as `options` and the encoder say.
    `as_it_is`: a clip that is of this codec already is not encoded anew."""

    encoder: str
    options: Mapping[str, str]
    group: int = GROUP
    as_it_is: bool = False


_X264, _NO_B = {"crf": "23", "threads": "1"}, {"bf": "0"}
_X265 = {"crf": "26", "x265-params": "log-level=none:pools=1:frame-threads=1"}
CODECS = {
    "h264": Coding("libx264", _X264, as_it_is=True),
    "hevc": Coding("libx265", _X265, as_it_is=True),
    "mpeg4": Coding("mpeg4", {"qscale": "5", "threads": "1"}, as_it_is=True),
    "h264-gop48": Coding("libx264", _X264),
    "h264-gop48-nob": Coding("libx264", _X264 | _NO_B),
    "h264-gop16": Coding("libx264", _X264, 16),
    "h264-gop16-nob": Coding("libx264", _X264 | _NO_B, 16),
    "hevc-gop16": Coding("libx265", _X265, 16),
    "mpeg2": Coding("mpeg2video", {"qscale": "5", "threads": "1", "strict": "experimental"}),
    "mjpeg": Coding("mjpeg", {"qscale": "4", "threads": "1"}),
    "vp9": Coding("libvpx-vp9", {"crf": "31", "b": "0", "deadline": "realtime", "cpu-used": "7", "threads": "1"}),
    "av1": Coding("libsvtav1", {"crf": "35", "preset": "10", "svtav1-params": "lp=1"}),
}
"""Codecs by name; -gop and -nob say how long groups are, and that there are no B pictures."""
STANDARD = ("h264", "hevc", "mpeg4")

DAMAGES: dict[str, Corruption] = {
    **{name: Corruption("bscv", fraction=b.fraction, position=b.position, bytes=b.count)
       for name, b in BRANCHES.items()},
    "zero-512": Corruption("zero", block=512),
    "zero-4096": Corruption("zero", block=4096),
    "zero-index": Corruption("zero", block=512, spare_index=False),
    "flip": Corruption("flip"),
    "drop": Corruption("drop"),
    "ts": Corruption("ts"),
    "ts-burst": Corruption("ts", burst=8),
}
"""Kinds of damage by name: the seven branches of the BSCV benchmark, and what disks and networks do."""


def open_clips(paths: tuple[Path, ...]) -> list[Path]:
    """All clips in the folders, or the files named, by name; none given: the bundled one."""
    found: list[Path] = []
    for path in paths or (bundled_samples(),):
        if not path.exists():
            raise DataError(f"DATA: {path} does not exist")
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"DATA: no clips ({', '.join(sorted(SUFFIXES))}) in {path}")
        found += inside
    return found


def names_of(paths: Sequence[Path]) -> list[str]:
    """What each clip is called in a report: its file's name, after as many of its folders as tell it apart from the
    others of that name. DataError where a clip is there twice."""
    places = [path.parent.resolve() / path.name for path in paths]
    twice = [place for place, count in Counter(places).items() if count > 1]
    if twice:
        raise DataError(f"DATA: {twice[0]} is there twice; give each clip once")
    names, depth = [place.name for place in places], 1
    while shared := {name for name, count in Counter(names).items() if count > 1}:
        depth += 1
        names = [Path(*place.parts[-depth:]).as_posix() if name in shared else name
                 for place, name in zip(places, names, strict=True)]
    return names


def choose(names: tuple[str, ...], known: Mapping[str, object], flag: str, default: tuple[str, ...]) -> list[str]:
    unknown = [n for n in names if n not in known]
    if unknown:
        raise UsageError(f"{flag}: {', '.join(unknown)} unknown; known: {', '.join(known)}")
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"{flag} names {', '.join(twice)} twice; name each once")
    return list(names or default)


def encode(source: Path, codec: str, target: Path, frames: int | None = None) -> None:
    """Write the pictures of `source`, or the first `frames`, as `codec`, without sound."""
    with av.open(location(source)) as container:
        if not container.streams.video:
            raise DataError(f"{source} has no video stream")
        stream = container.streams.video[0]
        name, rate = stream.codec_context.name, stream.average_rate or Fraction(25)
        width, height = stream.width, stream.height
    how = CODECS[codec]
    if how.as_it_is and frames is None and name == codec and source.suffix == target.suffix:
        shutil.copyfile(source, target)
        return
    layout = "yuvj420p" if how.encoder == "mjpeg" else "yuv420p"
    try:
        with av.open(location(target), "w") as out:
            video: av.VideoStream = out.add_stream(how.encoder,  # type: ignore[assignment]
                                                   rate=rate, options=dict(how.options))
            video.width, video.height, video.pix_fmt = width & ~1, height & ~1, layout
            video.codec_context.gop_size = how.group
            for number, (_, frame) in enumerate(islice(frames_in_time(source), frames)):
                frame = frame.reformat(width & ~1, height & ~1, layout)
                frame.pts, frame.time_base, frame.pict_type = number, 1 / rate, av.video.frame.PictureType.NONE
                out.mux(video.encode(frame))
            out.mux(video.encode())
    except (av.FFmpegError, ValueError) as error:
        raise FaceInpaintError(f"{source}: cannot be encoded as {codec} ({error})") from None


def rgb_in_time(path: Path) -> Iterator[tuple[Fraction, np.ndarray]]:
    """(time in seconds, HWC uint8 RGB) of each picture that the decoder gives, concealed by it."""
    to_rgb = ToRgb()
    for time, frame in frames_in_time(path):
        rgb = to_rgb(frame)
        yield time, rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)


class InStep:
    """A file read beside its reference. `missing` counts times at which it had no picture, `extra` pictures
    that belong to no time of the reference."""

    def __init__(self, path: Path) -> None:
        self._pictures = rgb_in_time(path)
        self._next = next(self._pictures, None)
        self._last: np.ndarray | None = None
        self.missing = self.extra = 0

    def at(self, time: Fraction, near: Fraction, like: np.ndarray) -> np.ndarray:
        """The picture within `near` seconds of `time`; where there is none, the last one goes on being shown
        (before the first: black)."""
        while self._next is not None and self._next[0] < time - near:
            self.extra += 1
            self._next = next(self._pictures, None)
        if self._next is not None and self._next[0] <= time + near:
            picture = self._next[1]
            self._next = next(self._pictures, None)
            if picture.shape == like.shape:
                self._last = picture
                return picture
        self.missing += 1
        return np.zeros_like(like) if self._last is None else self._last

    def finish(self) -> None:
        """Count what is left over at the end."""
        while self._next is not None:
            self.extra += 1
            self._next = next(self._pictures, None)


def reference_in_time(path: Path) -> Iterator[tuple[Fraction, Fraction, np.ndarray]]:
    """(time, tolerance, picture) of the reference: a third of the distance to the next picture counts as near."""
    pictures = rgb_in_time(path)
    current = next(pictures, None)
    near = Fraction(1, 100)
    while current is not None:
        following = next(pictures, None)
        if following is not None:
            near = abs(following[0] - current[0]) / 3
        yield current[0], near, current[1]
        current = following
