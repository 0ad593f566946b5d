"""In-loop repair of VP9: what a failed picture should have become is written into the decoder's references.

A VP9 picture whose data are damaged fails and never comes out, and the references that it should have become stay
what they were: all that follows is predicted from the wrong picture. Its residuals are intact, though, and encoders
seldom let their probabilities depend on the picture before. So the picture is filled and written into the memory of
those references. How much of it is intact is seen when more data are given than there are: then it does not fail.

One group at a time, decoded several times over: each fill has to prove itself on the pictures that follow, best of all
on the last one, which the next keyframe tells.

Where a packet is missing, or its header is, so are the probabilities that it set, and what follows is mostly read
wrong: if the next keyframe shows that, it is left out up to there.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import av
import numpy as np

from faceinpaint_cli.damage.evidence import Diagnosis
from faceinpaint_cli.damage.extent import lost_part
from faceinpaint_cli.fill.motion import Lost, Neighbour, composed
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.optical_flow import Planes, eight_bit, flow, remainder
from faceinpaint_cli.media.planes import copy_frame, overwrite, planes_of
from faceinpaint_cli.media.vp9_headers import Heading, headings
from faceinpaint_cli.pipeline.course import STEPS, jumps, keyframe_tells
from faceinpaint_cli.pipeline.inloop_group import Fill, Mended, fill_by_consensus
from faceinpaint_cli.pipeline.inplace import Problem
from faceinpaint_cli.pipeline.stand_ins import Numbered

SUPERBLOCK = 64
"""Side of VP9's largest blocks in pixels."""
PADDING = 1 << 16
"""Bytes, all zero, that are more than any picture reads past its end: zeros code the likeliest blocks."""
ASTRAY = 2.0
"""What follows a missing packet is read wrong where the group's last picture is so many times as far from the next
keyframe as the picture before the missing one is. (Of 50 groups of which 41 were better left out this finds 36, and in
none of the other nine more than a decibel is lost.)"""
WORTH = 0.95
"""A fill has to lower the difference that it is judged by to this."""

Fills = Mapping[int, Planes]


@dataclass(frozen=True)
class _Seen:
    """What a decode of the group shows around a hit picture: up to two pictures `before` it (nearest first), what
    stands `there`, what `follows`, and how far the group's last picture is from the next keyframe (`misfit`, grey
    levels; not a number where there is none)."""

    before: list[Neighbour]
    there: Planes
    follows: list[Neighbour]
    misfit: float

    @cached_property
    def course(self) -> float:
        """Grey levels by which these pictures differ from one to the next."""
        pictures = [*(n.planes for n in reversed(self.before)), self.there, *(n.planes for n in self.follows)]
        return jumps([eight_bit(planes[0]) for planes in pictures])


class InReferences:
    """The pictures of a damaged VP9 stream, mended. `mended` tells what was done so far."""

    def __init__(self, diagnosis: Diagnosis, stream: av.VideoStream, fill: Fill | None = None) -> None:
        self._stream, self._fill = stream, fill or fill_by_consensus
        self._hit = {onset.packet for group in diagnosis.groups for onset in group.onsets}
        self._missing = {missing.before for group in diagnosis.groups for missing in group.missing}
        self.mended: list[Mended] = []

    def frames(self, packets: Iterable[av.Packet], first: int, context: Sequence[av.Packet],
               problem: Problem) -> Iterator[av.VideoFrame]:
        """The frames of a run of packets that begins with number `first`, at a keyframe, in order of display.

        A picture that fails is what it was filled with, or the one before it; those that are read wrong are left out.
        `context` are the packets of the group before. Errors go to `problem`, with the packet's place in the run.
        """
        decoder, references = self._open(), References()
        for packet in context:
            references.follow(packet, tolerant.decode_one(decoder, packet)[0])
        for group, key in _groups(packets, first):
            lost = self._goes_astray(group, key)
            fills = {} if lost is not None else self._fills(group, key)
            due = Counter(packet.pts for _, packet in group)
            for number, packet in group[:lost]:
                shown, error = tolerant.decode_one(decoder, packet)
                if error is not None:
                    problem(number - first, error)
                for frame in references.follow(packet, shown, fills.get(number)):
                    if due[frame.pts]:  # else it comes late, and the one before stands there already
                        due[frame.pts] -= 1
                        yield frame

    def _open(self) -> av.VideoCodecContext:
        return tolerant.open_decoder(self._stream, threads=False)

    def _fills(self, group: Sequence[Numbered], key: av.Packet | None) -> Fills:
        """What to put in the place of the group's hit pictures, by number; later ones are filled from earlier ones.

        Nothing where the keyframe is hit: what follows needs more of it than its pixels.
        """
        fills: dict[int, Planes] = {}
        hits = [number for number, _ in group if number in self._hit]
        if not hits or hits[0] == group[0][0]:
            return fills
        truth = self._luma(key)
        for number in hits:
            best = self._seen(group, fills, number, truth)
            torn = self._torn(group, fills, number)
            if best is None or torn is None:
                continue
            found = None
            for picture in _pictures(best, torn, group, number):
                planes, how = self._fill(picture)
                seen = self._seen(group, fills | {number: planes}, number, truth)
                if seen is not None and _fits_better(seen, best):
                    best, found = seen, (planes, how, picture)
            if found is not None:
                planes, how, picture = found
                fills[number] = planes
                assert self._stream.time_base is not None
                self.mended.append(Mended(picture.time * self._stream.time_base, how, float(picture.lost.mean())))
        return fills

    def _goes_astray(self, group: Sequence[Numbered], key: av.Packet | None) -> int | None:
        """The place in the group from which on its pictures are read wrong, because one is missing there; None where
        they are not."""
        lost = next((place for place, (number, packet) in enumerate(group) if place and (
            number in self._missing or (number in self._hit and not _has_header(packet)))), None)
        if lost is None:
            return None
        before = last = None
        for number, frame in self._decoded(self._open(), group, {}):
            last = frame
            if number < group[lost][0]:
                before = frame
        truth = self._luma(key)
        if before is None or last is None:
            return None
        if truth is None:
            return lost if any(number in self._hit for number, _ in group[lost:]) else None
        there, then = (eight_bit(planes_of(frame)[0]) for frame in (before, last))
        if not there.shape == then.shape == truth.shape:
            return None
        return lost if remainder(truth, then).mean() > ASTRAY * remainder(truth, there).mean() else None

    def _decoded(self, decoder: av.VideoCodecContext, group: Iterable[Numbered],
                 fills: Fills) -> Iterator[tuple[int, av.VideoFrame]]:
        """(number, frame) of the group with these fills, for a fresh decoder."""
        references = References()
        for number, packet in group:
            shown, _ = tolerant.decode_one(decoder, packet)
            for frame in references.follow(packet, shown, fills.get(number)):
                yield number, frame

    def _seen(self, group: Sequence[Numbered], fills: Fills, number: int, truth: np.ndarray | None) -> _Seen | None:
        """None where nothing stands before or at the picture. `truth` is luma of the next keyframe."""
        before: list[Neighbour] = []
        there: Planes | None = None
        follows: list[Neighbour] = []
        frame: av.VideoFrame | None = None
        for place, frame in self._decoded(self._open(), group, fills):
            if frame.pts is None or len(follows) > STEPS or place < number - 2:
                continue
            picture = planes_of(frame)
            if place < number:
                before = [Neighbour(frame.pts, picture), *before][:2]
            elif place == number:
                there = picture
            else:
                follows.append(Neighbour(frame.pts, picture))
        if not before or there is None or frame is None:
            return None
        last = eight_bit(planes_of(frame)[0])
        told = truth is not None and truth.shape == last.shape
        return _Seen(before, there, follows, float(remainder(truth, last).mean()) if told else math.nan)

    def _torn(self, group: Sequence[Numbered], fills: Fills, number: int) -> Planes | None:
        """The picture that fails, as far as its data go; None where it fails nevertheless.

        What the decoder learns from the rest would harm the pictures that follow, so it is one for this alone.
        """
        decoder = self._open()
        deque(self._decoded(decoder, ((place, packet) for place, packet in group if place < number), fills), maxlen=0)
        packet = next(packet for place, packet in group if place == number)
        longer = av.Packet(bytes(packet) + bytes(PADDING))
        longer.pts, longer.time_base = packet.pts, packet.time_base
        shown, _ = tolerant.decode_one(decoder, longer)
        return planes_of(shown[-1]) if shown else None

    def _luma(self, key: av.Packet | None) -> np.ndarray | None:
        shown = [] if key is None else tolerant.decode_one(self._open(), key)[0]
        return eight_bit(planes_of(shown[-1])[0]) if shown else None


class References:
    """The memory of a VP9 decoder's references, as far as its pictures were shown."""

    def __init__(self) -> None:
        self._memory: dict[int, av.VideoFrame] = {}
        self._latest: av.VideoFrame | None = None

    def follow(self, packet: av.Packet, shown: Sequence[av.VideoFrame],
               fill: Planes | None = None) -> list[av.VideoFrame]:
        """The frames `shown` for a packet, in memory of their own. Where there are none and should be, the one before
        in their place, or the `fill`, which becomes what the decoder refers to."""
        try:
            found = headings(bytes(packet))
        except ValueError:
            found = [Heading(True, (0,))]  # the one that nearly every picture becomes
        if shown:
            for heading in found:
                for number in heading.replaced:
                    if heading.shown:
                        self._memory[number] = shown[-1]
                    else:
                        self._memory.pop(number, None)
            self._latest = shown[-1]
            return [copy_frame(frame) for frame in shown]
        if self._latest is None or not any(heading.shown for heading in found):
            return []
        self._latest = copy_frame(self._latest)
        self._latest.pts, self._latest.time_base = packet.pts, packet.time_base
        if fill is not None:
            for number in {n for heading in found for n in heading.replaced} & self._memory.keys():
                overwrite(self._memory[number], fill)
            overwrite(self._latest, fill)
        return [copy_frame(self._latest)]


def _has_header(packet: av.Packet) -> bool:
    try:
        return bool(headings(bytes(packet)))
    except ValueError:
        return False


def _groups(packets: Iterable[av.Packet], first: int) -> Iterator[tuple[list[Numbered], av.Packet | None]]:
    """The packets from one keyframe to the next, numbered, each time with that next one."""
    group: list[Numbered] = []
    for number, packet in enumerate(packets, first):
        if packet.is_keyframe and group and _has_header(packet):
            yield group, packet
            group = []
        group.append((number, packet))
    yield group, None


def _pictures(now: _Seen, torn: Planes, group: Sequence[Numbered], number: int) -> list[Lost]:
    """The hit picture as something to fill, in two ways: with what its data gave as one of the guesses at the rest, and
    with the picture before instead."""
    time = next(packet.pts for place, packet in group if place == number)
    if time is None or torn[0].shape != now.before[0].planes[0].shape:
        return []
    lost = lost_part(torn, [n.planes for n in now.before], SUPERBLOCK)
    if not lost.any():
        return []
    after = [n for n in now.follows[:1] if n.planes[0].shape == lost.shape]
    if after:
        # It refers to what stands there in place of the lost picture: the flow between them is the motion itself.
        motion = -flow(eight_bit(now.there[0]), eight_bit(after[0].planes[0]))
        after = [Neighbour(after[0].time, after[0].planes, None, motion)]
    return [Lost(time, decoded, lost, now.before, [], after) for decoded in (torn, composed(torn, now.there, lost))]


def _fits_better(new: _Seen, old: _Seen) -> bool:
    """Whether the group fits better to the keyframe that follows it; where that does not tell, whether its pictures fit
    better to each other."""
    if keyframe_tells(old.misfit, new.misfit):
        return new.misfit < WORTH * old.misfit
    return new.course < WORTH * old.course
