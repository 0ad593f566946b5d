"""Frames of a video, as its decoder gives them, with their numbers; damaged packets are passed over and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import av
import numpy as np

from faceinpaint_cli.errors import InputError
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.untimed import timed
from faceinpaint_cli.media.video_index import Group, VideoIndex, nth_video, open_video

log = logging.getLogger(__name__)

Span = tuple[int, int]
"""Frames from, up to without."""
KEPT_ERRORS = 20
WAITING = 4
"""Frames that wait at most for one that should be shown before them."""


@dataclass
class DecodeLog:
    """What went wrong while decoding: how often, and the first few messages."""

    errors: int = 0
    messages: list[str] = field(default_factory=list)

    def add(self, packet: int, error: Exception) -> None:
        self.errors += 1
        if len(self.messages) < KEPT_ERRORS:
            self.messages.append(f"packet {packet}: {error}")


def read_frames(source: VideoIndex, spans: Sequence[Span], problems: DecodeLog) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) of the frames in `spans` (ascending, apart), in order of display.

    Only the groups that the spans touch are decoded; the file is read from its start, so that packets are
    counted and not guessed from times. Frames that cannot be decoded are missing, and noted in `problems`.
    Raises InputError where the size of the picture changes.
    """
    with open_video(source.path) as container:
        stream = nth_video(container, source.stream)
        context = stream.codec_context
        tolerant.configure(context, threads=True)
        packets = read_packets(container, stream)
        read = 0
        for run in joined_groups(source, spans):
            frames = decoded(context, _between(packets, run.packets, read), run.packets[0], problems)
            for number, frame in numbered(source, frames, run.frames[0]):
                if any(a <= number < b for a, b in spans):
                    check_size(source, frame, number)
                    yield number, frame
            read = run.packets[1]
            context.flush_buffers()


def decoded(context: av.VideoCodecContext, packets: Iterator[av.Packet], first: int,
            problems: DecodeLog) -> Iterator[av.VideoFrame]:
    """The frames of `packets`, of which the first is number `first`; errors are noted in `problems`."""
    place = first - 1
    for packet, frames, error in tolerant.decode(context, packets):
        place += packet is not None
        if error is not None:
            problems.add(place, error)
        yield from frames


def numbered(source: VideoIndex, frames: Iterable[av.VideoFrame], first: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) in order of display, for frames of a decoder that begins with number `first` of the source.

    A decoder gives pictures in the order that the stream says, and a file may give two of them each other's times: a
    frame that comes early waits for up to WAITING others. Where times repeat, each frame takes the next number. The
    times of AVI are made up, packet by packet: there the order of the decoder counts.
    """
    waiting: dict[int, av.VideoFrame] = {}
    expected = first
    for frame in frames:
        number = expected
        if source.exact and frame.pts is not None:
            number = max(expected, int(np.searchsorted(source.times, frame.pts)))
        while number in waiting:
            number += 1
        waiting[number] = frame
        if source.format == "avi":
            waiting = dict(zip(sorted(waiting), waiting.values(), strict=True))
        while waiting and (expected in waiting or len(waiting) > WAITING):
            expected = min(waiting)
            yield expected, waiting.pop(expected)
            expected += 1
    yield from sorted(waiting.items())


def read_packets(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of these streams, up to the end or to where the file breaks off."""
    try:
        for packet in timed(container.demux(*streams), container):
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        log.warning("%s: reading stopped early (%s)", container.name, error)


def with_data(packet: av.Packet, data: bytes) -> av.Packet:
    """A packet like this one with other bytes."""
    changed = av.Packet(data)
    changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
    changed.time_base, changed.is_keyframe, changed.stream = packet.time_base, packet.is_keyframe, packet.stream
    return changed


def joined_groups(source: VideoIndex, spans: Sequence[Span]) -> list[Group]:
    """The groups that the spans touch, neighbours joined."""
    runs: list[Group] = []
    for group in source.groups:
        if not any(a < group.frames[1] and group.frames[0] < b for a, b in spans):
            continue
        if runs and runs[-1].packets[1] == group.packets[0]:
            first = runs.pop()
            group = Group((first.packets[0], group.packets[1]), (first.frames[0], group.frames[1]))
        runs.append(group)
    return runs


def _between(packets: Iterator[av.Packet], places: tuple[int, int], start: int) -> Iterator[av.Packet]:
    """Packets number places[0] to places[1], where the next one to be read is number `start`."""
    yield from islice(packets, places[0] - start, places[1] - start)


def check_size(source: VideoIndex, frame: av.VideoFrame, number: int) -> None:
    """InputError where a frame has not the size that the video began with."""
    if (frame.width, frame.height) != (source.width, source.height):
        raise InputError(f"{source.path}: its picture changes from {source.width} x {source.height} to {frame.width} x "
                         f"{frame.height} at frame {number}; split it there, or convert it to one size")
