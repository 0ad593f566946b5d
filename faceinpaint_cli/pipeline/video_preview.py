"""A video of before, mask and after side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction

import av
import cv2
import numpy as np

from faceinpaint_cli.damage.masks import VideoMask
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.media.planes import ToRgb, alpha_of, eight_bit
from faceinpaint_cli.media.video_index import VideoIndex, index_video, location
from faceinpaint_cli.media.video_reader import DecodeLog, Span, read_frames
from faceinpaint_cli.pipeline.image import side_by_side
from faceinpaint_cli.pipeline.overlap import ahead
from faceinpaint_cli.types import Job

CHANGED = 12
"""Where no mask was given, pixels that differ by more (of 255) are shown as changed."""
PANEL_WIDTH = 1280
"""Wider pictures are made smaller, so that three beside each other still play."""


def write_preview(job: Job, source: VideoIndex, masks: VideoMask | None) -> None:
    """Write NAME.SUFFIX.preview.mp4 (h264, without sound) beside the finished output: before, mask in red, after.

    Made from the two files, so that it is also whole where a run went on from an earlier one.
    """
    target = job.output.with_name(job.output.name + ".preview.mp4")
    with atomic_path(target) as temporary, av.open(location(temporary), "w") as out:
        stream = out.add_stream("libx264", rate=source.rate.limit_denominator(60000))
        stream.codec_context.options = {"crf": "18", "preset": "fast"}
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_type = "AUTO"
        started = False
        pictures = triples(source, index_video(job.output), masks, [(0, source.frames)])
        for number, (_, before, mask, after) in enumerate(pictures):
            picture = _even(_reduced(side_by_side(before, mask, after)))
            if not started:
                stream.height, stream.width = picture.shape[:2]
                started = True
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / stream.codec_context.framerate
            out.mux(stream.encode(frame))
        if started:
            out.mux(stream.encode(None))


def triples(source: VideoIndex, repaired: VideoIndex, masks: VideoMask | None,
            spans: Sequence[Span]) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(number, before, mask, after), upright, HWC uint8 and HW bool, of each frame in `spans` that both files have.
    Without masks the pixels that differ are marked."""
    offset = (int(repaired.shown[0]) * repaired.time_base - int(source.shown[0]) * source.time_base)
    to_rgb = ToRgb(), ToRgb()
    turns = source.rotation // 90
    with closing(ahead(_timed(source, spans, Fraction(0)), 2)) as befores, \
            closing(ahead(_timed(repaired, spans, offset), 2)) as afters:
        after = next(afters, None)
        for number, time, frame in befores:
            while after is not None and after[1] < time - 1 / source.rate / 2:
                after = next(afters, None)
            if after is None:
                return
            if abs(after[1] - time) * source.rate < Fraction(1, 2):
                before, repaired_rgb = to_rgb[0](frame), eight_bit(to_rgb[1](after[2]))
                if masks is not None:
                    mask = masks.at(number, before, alpha_of(frame) if masks.needs_alpha else None)
                else:
                    mask = cv2.absdiff(eight_bit(before), repaired_rgb).max(2) > CHANGED
                yield (number, np.rot90(eight_bit(before), turns), np.rot90(mask, turns),
                       np.rot90(repaired_rgb, turns))


def _timed(source: VideoIndex, spans: Sequence[Span],
           offset: Fraction) -> Generator[tuple[int, Fraction, av.VideoFrame]]:
    for number, frame in read_frames(source, spans, DecodeLog()):
        yield number, int(source.shown[number]) * source.time_base - offset, frame


def _reduced(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if width <= 3 * PANEL_WIDTH:
        return picture
    return cv2.resize(picture, (3 * PANEL_WIDTH, round(height * 3 * PANEL_WIDTH / width)), interpolation=cv2.INTER_AREA)


def _even(picture: np.ndarray) -> np.ndarray:
    """With an odd last row or column twice: the codec's chroma stands for 2 x 2 pixels."""
    return np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
