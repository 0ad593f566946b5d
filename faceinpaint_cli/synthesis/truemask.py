"""The true mask of a damaged file: where its pictures differ from those of the undamaged one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from faceinpaint_cli.errors import InputError
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.video_index import location

THRESHOLD = 15
"""Difference of 8-bit luma above which a pixel counts as damaged: well above what the eye sees as equal."""
GROWTH = 9
"""Side in pixels of the square by which the damaged pixels are grown, so that small islands join."""
REORDERED = 16
"""Distances between pictures by which one may be shown earlier or later than its time says."""


def luma(frame: av.VideoFrame) -> np.ndarray:
    """The luma plane as HW uint8 (deeper pictures are scaled down)."""
    if frame.format.name not in ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"):
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return pixels[:, : plane.width]


def damaged_pixels(clean: np.ndarray, damaged: np.ndarray | None) -> np.ndarray:
    """HW bool: true where the luma (HW uint8) of a picture is damaged; all true where it is missing."""
    if damaged is None or damaged.shape != clean.shape:
        return np.ones(clean.shape, bool)
    far = cv2.absdiff(clean, damaged) > THRESHOLD
    return cv2.dilate(far.astype(np.uint8), np.ones((GROWTH, GROWTH), np.uint8)) > 0


def frames_in_time(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(time in seconds, frame) of the first video stream, as many as the decoder gives, concealed by it."""
    try:
        container = av.open(location(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: expected a video, cannot be opened ({error})") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path}: expected a video, has no video stream")
        stream = container.streams.video[0]
        context = tolerant.open_decoder(stream, threads=False)
        packets = (packet for packet in container.demux(stream) if packet.size)
        for _, frames, _ in tolerant.decode(context, packets):
            for frame in frames:
                if frame.pts is not None:
                    yield frame.pts * stream.time_base, frame


def true_masks(reference: Path, damaged: Path) -> Iterator[tuple[Fraction, np.ndarray]]:
    """(time, HW bool mask) for each picture of `reference`, in order of display.

    A picture of the damaged file belongs to the reference's picture whose time is within a third of the least distance
    between pictures; a time given twice keeps the first. Times need not ascend: AVI gives those of decoding.
    """
    found = frames_in_time(damaged)
    near: dict[Fraction, av.VideoFrame] = {}
    step, last = Fraction(0), Fraction(-1)
    clean = frames_in_time(reference)
    current = next(clean, None)
    while current is not None:
        following = next(clean, None)
        time, frame = current
        if following is not None and following[0] != time:
            step = min(step or abs(following[0] - time), abs(following[0] - time))
        reach = REORDERED * (step or Fraction(1, 25))
        while last < time + reach:
            other = next(found, None)
            if other is None:
                break
            last = max(last, other[0])
            near.setdefault(*other)
        near = {t: f for t, f in near.items() if t >= time - reach}
        partner = min(near.items(), key=lambda other: abs(other[0] - time), default=None)
        if partner is not None and abs(partner[0] - time) > (step or Fraction(3, 100)) / 3:
            partner = None
        yield time, damaged_pixels(luma(frame), luma(partner[1]) if partner else None)
        current = following


def write_mask_video(reference: Path, damaged: Path, target: Path) -> tuple[int, int]:
    """Write the masks as lossless gray video (FFV1, white = damaged), one frame for each of `reference`.

    Returns how many frames there are, and how many have damage.
    """
    frames = hurt = 0
    pts = None
    with av.open(location(reference)) as source:
        stream = source.streams.video[0]
        rate, time_base = stream.average_rate or Fraction(25), stream.time_base
    with av.open(location(target), "w") as out:
        video: av.VideoStream | None = None
        for time, mask in true_masks(reference, damaged):
            if video is None:
                video = out.add_stream("ffv1", rate=rate)
                video.height, video.width = mask.shape
                video.pix_fmt, video.codec_context.time_base = "gray", time_base
            frame = av.VideoFrame.from_ndarray(mask.astype(np.uint8) * 255, format="gray")
            pts = int(time / time_base) if pts is None else max(pts + 1, int(time / time_base))
            frame.pts, frame.time_base = pts, time_base
            for packet in video.encode(frame):
                out.mux(packet)
            frames, hurt = frames + 1, hurt + bool(mask.any())
        if video is not None:
            for packet in video.encode():
                out.mux(packet)
    return frames, hurt
