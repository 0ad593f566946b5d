"""The packets of one H.264 group under repair, and what a decoder makes of them as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import av
import numpy as np

from faceinpaint_cli.damage.decoder_log import Messages, decode_logged, listening
from faceinpaint_cli.damage.evidence import Onset
from faceinpaint_cli.errors import InputError
from faceinpaint_cli.fill.motion import Neighbour
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_substitute import Heading
from faceinpaint_cli.media.optical_flow import eight_bit
from faceinpaint_cli.media.planes import planes_of

HISTORY = 6
"""Pictures kept before an onset, in order of display."""
AHEAD = 12
"""Packets decoded beyond an onset, for the motion of what follows."""


@dataclass
class Coded:
    """A packet on its way: `number` in the file (None for one that was missing there), times in units of the
    stream's time base; `hit` where it is to be replaced."""

    number: int | None
    pts: int
    dts: int | None
    duration: int
    keyframe: bool
    data: bytes
    hit: bool = False
    onset: Onset | None = None
    heading: Heading | None = None

    def packet(self, time_base: Fraction) -> av.Packet:
        packet = av.Packet(self.data)
        packet.pts, packet.dts, packet.duration, packet.time_base = self.pts, self.dts, self.duration, time_base
        packet.is_keyframe = self.keyframe
        return packet


@dataclass(frozen=True)
class Seen:
    """What one decode of the group gave: the pictures around a place (`shown`, by time), what the decoder `said` about
    the packet there, and luma (HW uint8) of the group's `last` picture and of the true keyframe behind it."""

    shown: dict[int, Neighbour] = field(default_factory=dict)
    said: Messages = field(default_factory=Messages)
    last: np.ndarray | None = None
    key: np.ndarray | None = None


class GroupDecoder:
    """Decodes one group, whose packets `coded` may change between calls, with what is around it."""

    def __init__(self, stream: av.VideoStream, coded: Sequence[Coded], previous: Sequence[Coded],
                 following: Sequence[Coded]) -> None:
        self._stream, self._coded, self._previous = stream, coded, previous
        self.following = following[:AHEAD]
        self._tail: list[Neighbour] | None = None
        self._size: tuple[int, int] | None = None

    @property
    def key(self) -> Coded | None:
        """The undamaged keyframe that the next group begins with, if it does."""
        first = self.following[0] if self.following else None
        return first if first is not None and first.keyframe and not first.hit else None

    def look(self, place: int | None) -> Seen:
        """Decode the group, repaired as far as it is, to the keyframe behind it; pictures are kept around the packet at
        `place`, if one is named."""
        reach = len(self._coded) if place is None else place + 1 + AHEAD
        ahead = [c for c in self.following if c.data][: max(0, reach - len(self._coded))]
        near = set()
        if place is not None:
            near = _near(sorted(c.pts for c in [*self._coded[:reach], *ahead]), self._coded[place].pts)
        coded = [*(self._coded if self.key else self._coded[:reach]), *(ahead or ([self.key] if self.key else []))]
        shown: dict[int, Neighbour] = {}
        said = Messages()
        last: av.VideoFrame | None = None
        end: av.VideoFrame | None = None
        context = self._decoder(vectors=place is not None)
        with listening():
            for number, item in enumerate([*coded, None]):
                if item is None:
                    frames = self._frames(context, None)
                elif not item.data:
                    continue
                elif number == place:
                    frames, _, said = decode_logged(context, item.packet(self._time_base))
                    self._of_one_size(frames)
                else:
                    frames = self._frames(context, item.packet(self._time_base))
                for frame in frames:
                    if frame.pts in near:
                        shown[frame.pts] = Neighbour(frame.pts, planes_of(frame), tolerant.vectors_of(frame))
                    if self.key is None or frame.pts is None:
                        continue
                    if frame.pts == self.key.pts:
                        end = frame
                    elif frame.pts < self.key.pts and (last is None or frame.pts > (last.pts or 0)):
                        last = frame
        return Seen(shown, said, *(eight_bit(planes_of(f)[0]) if f is not None else None for f in (last, end)))

    def own(self, place: int) -> Neighbour | None:
        """The picture of the packet at `place` alone."""
        context = self._decoder()
        for item in [*self._coded, *self.following, None]:
            if item is not None and not item.data:
                continue
            for frame in self._frames(context, item.packet(self._time_base) if item else None):
                if frame.pts == self._coded[place].pts:
                    return Neighbour(frame.pts, planes_of(frame))
        return None

    def lumas(self) -> Iterator[tuple[int, np.ndarray]]:
        """(time, HW uint8) of the pictures of the group and of the beginning of the next, as they come out."""
        context = self._decoder()
        for item in [*(c for c in [*self._coded, *self.following] if c.data), None]:
            for frame in self._frames(context, item.packet(self._time_base) if item else None):
                if frame.pts is not None:
                    yield frame.pts, eight_bit(planes_of(frame)[0])

    def tail(self) -> list[Neighbour]:
        """The last pictures of the group before, nearest first."""
        if self._tail is None:
            self._tail = []
            wanted = set(sorted(c.pts for c in self._previous)[-HISTORY:])
            context = tolerant.open_decoder(self._stream, threads=False, whole=True)
            packets = [c.packet(self._time_base) for c in self._previous if c.data]
            for packet in [*packets, None]:
                self._tail += [Neighbour(f.pts, planes_of(f)) for f in self._frames(context, packet) if f.pts in wanted]
            self._tail.sort(key=lambda n: -n.time)
        return self._tail

    @cached_property
    def next_key(self) -> list[Neighbour]:
        """The picture that starts the next group, if it is whole: all there is for the first picture of a file."""
        if self.key is None:
            return []
        context = tolerant.open_decoder(self._stream, threads=False, whole=True)
        frames = [*self._frames(context, self.key.packet(self._time_base)), *self._frames(context, None)]
        return [Neighbour(f.pts, planes_of(f)) for f in frames[:1]]

    @property
    def _time_base(self) -> Fraction:
        assert self._stream.time_base is not None
        return self._stream.time_base

    def _decoder(self, vectors: bool = False) -> av.VideoCodecContext:
        """A decoder that is about to be given the group. Where its first picture is hit it has seen the group before,
        since a decoder conceals with what it showed last, and where pictures of the group refer to that."""
        context = tolerant.open_decoder(self._stream, threads=False, vectors=vectors, whole=True)
        if self._coded[0].hit or min(c.pts for c in self._coded) < self._coded[0].pts:
            for coded in self._previous:
                if coded.data:
                    self._frames(context, coded.packet(self._time_base))
        return context

    def _frames(self, context: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
        return self._of_one_size(tolerant.decode_one(context, packet)[0])

    def _of_one_size(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """The frames; InputError where they have not the size of those before: the groups around may be of another."""
        for frame in frames:
            size = (frame.width, frame.height)
            self._size = self._size or size
            if size != self._size:
                at = "" if frame.pts is None else f" at {float(frame.pts * self._time_base):.2f} s"
                raise InputError(f"{self._stream.container.name}: its picture changes from {self._size[0]} x "
                                 f"{self._size[1]} to {size[0]} x {size[1]}{at}; split it there, or convert it to one "
                                 "size")
        return frames


def _near(times: Sequence[int], time: int) -> set[int]:
    place = times.index(time)
    return set(times[max(0, place - HISTORY) : place + AHEAD])
