"""One group of an H.264 stream with damaged pictures: each is filled, put back and, at the end, set straight."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from faceinpaint_cli.damage.decoder_log import Messages, decode_logged, listening
from faceinpaint_cli.damage.evidence import Onset
from faceinpaint_cli.fill.consensus import fill_lost
from faceinpaint_cli.fill.drift import Drift, Guessed
from faceinpaint_cli.fill.motion import Lost, Neighbour, Planes, candidates, composed, eight_bit, remainder, warp
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_headers import SliceHeader
from faceinpaint_cli.media.h264_substitute import Heading, Substituter, implied_heading
from faceinpaint_cli.media.planes import planes_of

log = logging.getLogger(__name__)

HISTORY = 6
"""Pictures kept before an onset, in order of display."""
AHEAD = 12
"""Packets decoded beyond an onset, for the motion of what follows."""
WORTH = 1.1
"""The decoder's own concealment stays where the fill makes the group's last picture so many times as unlike the next
keyframe. Fills of P pictures are nearly always the better one, so it takes more than a trifle."""


Fill = Callable[[Lost], "tuple[Planes, str]"]


def fill_by_consensus(picture: Lost) -> tuple[Planes, str]:
    return fill_lost(picture, candidates(picture))


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
class Mended:
    """What was done to one picture: `time` in seconds, `how` it was filled, `lost` share of its area."""

    time: Fraction
    how: str
    lost: float
    lost_mask: np.ndarray | None = None


@dataclass(frozen=True)
class _Filled:
    """A picture that was put in `place` of a group's packets, instead of `damaged`."""

    place: int
    damaged: bytes
    planes: Planes
    guessed: Guessed


class Group:
    """One damaged group under repair: its packets `coded`, changed in place, and those of the groups around it."""

    def __init__(self, stream: av.VideoStream, substituter: Substituter, fill: Fill, coded: list[Coded],
                 previous: Sequence[Coded], following: Sequence[Coded]) -> None:
        self._stream, self._substituter, self._fill, self._coded = stream, substituter, fill, coded
        self._previous, self._following = previous, following[:AHEAD]
        self._path = stream.container.name
        self._tail: list[Neighbour] | None = None
        self._guessed: list[_Filled] = []
        self._mended: list[Mended] = []

    def repair(self) -> list[Mended]:
        """Replace the data of each hit packet, in decoding order: later ones are filled from earlier repairs."""
        self._imply_headings()
        for place, coded in enumerate(self._coded):
            if not coded.hit or coded.heading is None:
                continue
            reason = self._substituter.refusal(coded.heading)
            if reason:
                log.warning("%s: a damaged picture stays as it is (%s)", self._path, reason)
                continue
            self._mend(place, coded, coded.heading)
        if self._guessed:
            self._set_straight()
        return self._mended

    def _mend(self, place: int, coded: Coded, heading: Heading) -> None:
        picture = self._look(place, heading)
        if not picture.before and not picture.behind and picture.decoded is None:
            log.warning("%s: nothing to fill the picture at %s from", self._path,
                        float(coded.pts * self._stream.time_base))
            return
        planes, how = self._fill(picture)
        damaged, coded.data = coded.data, self._substituter.packet(coded.data, heading, planes)
        if picture.decoded is not None:
            filled, concealed = self._misfit(), self._misfit((place, damaged))
            if filled is not None and concealed is not None and filled > WORTH * concealed:
                coded.data, how = damaged, "concealed"
        if how == "onward":
            anchor = (picture.before or picture.behind)[0].time
            self._guessed.append(_Filled(place, damaged, planes, Guessed(coded.pts, picture.lost, anchor)))
        self._mended.append(Mended(coded.pts * self._stream.time_base, how, float(picture.lost.mean())))

    def _set_straight(self) -> None:
        """Move what was filled by the drift that the next keyframe shows."""
        key = self._true_key()
        if key is None:
            return
        drift = Drift([f.guessed for f in self._guessed])
        times = sorted(c.pts for c in self._coded)
        anchor = bisect_left(times, min(f.guessed.anchor for f in self._guessed))
        start = times[max(0, anchor - 1)]
        after: dict[int, np.ndarray] = {}
        context = self._decoder()
        coming = [c.packet(self._stream.time_base) for c in [*self._coded, *self._following] if c.data]
        clean = [c.pts for c in self._following if not c.hit]
        for item in [*coming, None]:
            for frame in _frames(context, item):
                luma = eight_bit(planes_of(frame)[0])
                if frame.pts is None or frame.pts < start:
                    continue
                if frame.pts < key.pts:
                    drift.see(frame.pts, luma)
                elif frame.pts in clean and len(after) < 2:
                    after[frame.pts] = luma
        if key.pts not in after:
            return
        found = drift.found((key.pts, after.pop(key.pts)), next(iter(after.items()), None))
        if found is None:
            return
        by_time = sorted(self._guessed, key=lambda f: f.guessed.time)
        fields = {f.place: field for f, field in zip(by_time, found, strict=True)}
        for filled in self._guessed:
            coded = self._coded[filled.place]
            assert coded.heading is not None
            moved = tuple(warp(p, -fields[filled.place]) for p in filled.planes)
            coded.data = filled.damaged
            shown, _ = self._decode(filled.place)
            own = shown.get(coded.pts)
            planes = composed(own.planes if own else None, moved, filled.guessed.lost)
            coded.data = self._substituter.packet(filled.damaged, coded.heading, planes)

    def _true_key(self) -> Coded | None:
        """The undamaged keyframe that the next group begins with, if it does."""
        first = self._following[0] if self._following else None
        return first if first is not None and first.keyframe and not first.hit else None

    def _misfit(self, instead: tuple[int, bytes] | None = None) -> float | None:
        """How far the group's last picture is from the next keyframe, which is true: grey levels that remain after
        the best motion. `instead` replaces the data of one packet. None where there is no such keyframe."""
        key = self._true_key()
        if key is None:
            return None
        context = self._decoder()
        packets = [replace(c, data=instead[1]) if instead and n == instead[0] else c for n, c in enumerate(self._coded)]
        last: av.VideoFrame | None = None
        end: av.VideoFrame | None = None
        for item in [*(c.packet(self._stream.time_base) for c in [*packets, key] if c.data), None]:
            for frame in _frames(context, item):
                if frame.pts == key.pts:
                    end = frame
                elif frame.pts is not None and frame.pts < key.pts and (last is None or frame.pts > (last.pts or 0)):
                    last = frame
        if last is None or end is None:
            return None
        return float(remainder(eight_bit(planes_of(end)[0]), eight_bit(planes_of(last)[0])).mean())

    def _look(self, place: int, heading: Heading) -> Lost:
        """The picture at `place` with what is known around it; pictures of another size (where joined streams meet)
        tell nothing."""
        coded = self._coded[place]
        shown, said = self._decode(place)
        decoded = shown.get(coded.pts)
        earlier = {c.pts for c in self._coded[:place]}
        before = [n for t, n in sorted(shown.items(), reverse=True) if t < coded.pts and t in earlier]
        if len(before) < 2:
            before += self._context()
        behind = [n for t, n in sorted(shown.items()) if t > coded.pts and t in earlier]
        after = [n for t, n in sorted(shown.items()) if t > coded.pts and t not in earlier]
        between = [n for t, n in sorted(shown.items()) if t < coded.pts and t not in earlier]
        if not before and not behind:
            behind = self._next_key()
        lost = np.ones((heading.sps.mb_height * 16, heading.sps.mb_width * 16), bool)
        if decoded is not None and coded.onset is not None:
            lost = np.kron(lost_macroblocks(heading, coded.onset, said), np.ones((16, 16), bool))
        before, behind, after, between = (
            [n for n in near if n.planes[0].shape == lost.shape] for near in (before, behind, after, between))
        planes = decoded.planes if decoded and decoded.planes[0].shape == lost.shape else None
        return Lost(coded.pts, planes, lost, before, behind, after, between)

    def _decode(self, place: int) -> tuple[dict[int, Neighbour], Messages]:
        """Pictures around the packet at `place`, repaired as far as they are, and what the decoder says about it."""
        coded = self._coded[: place + 1 + AHEAD]
        ahead = [c for c in self._following if c.data][: max(0, place + 1 + AHEAD - len(self._coded))]
        near = _near(sorted(c.pts for c in [*coded, *ahead]), self._coded[place].pts)
        shown: dict[int, Neighbour] = {}
        said = Messages()
        context = self._decoder(vectors=True)

        def take(frames: Sequence[av.VideoFrame]) -> None:
            for frame in frames:
                if frame.pts in near:
                    shown[frame.pts] = Neighbour(frame.pts, planes_of(frame), tolerant.vectors_of(frame))

        with listening():
            for number, item in enumerate([*coded, *ahead]):
                if not item.data:
                    continue
                if number == place:
                    frames, _, said = decode_logged(context, item.packet(self._stream.time_base))
                    take(frames)
                else:
                    take(_frames(context, item.packet(self._stream.time_base)))
            take(_frames(context, None))
        return shown, said

    def _decoder(self, vectors: bool = False) -> av.VideoCodecContext:
        """A decoder that is about to be given the group. Where its first picture is hit it has seen the group before:
        a decoder conceals with what it showed last."""
        context = tolerant.open_decoder(self._stream, threads=False, vectors=vectors, whole=True)
        if self._coded[0].hit:
            for coded in self._previous:
                if coded.data:
                    _frames(context, coded.packet(self._stream.time_base))
        return context

    def _context(self) -> list[Neighbour]:
        """The last pictures of the group before, nearest first."""
        if self._tail is None:
            self._tail = []
            wanted = set(sorted(c.pts for c in self._previous)[-HISTORY:])
            context = tolerant.open_decoder(self._stream, threads=False, whole=True)
            packets = [c.packet(self._stream.time_base) for c in self._previous if c.data]
            for packet in [*packets, None]:
                self._tail += [Neighbour(f.pts, planes_of(f)) for f in _frames(context, packet) if f.pts in wanted]
            self._tail.sort(key=lambda n: -n.time)
        return self._tail

    def _next_key(self) -> list[Neighbour]:
        """The picture that starts the next group: all there is for the first picture of a file."""
        if not self._following or self._following[0].hit:
            return []
        context = tolerant.open_decoder(self._stream, threads=False, whole=True)
        packet = self._following[0].packet(self._stream.time_base)
        frames = [*_frames(context, packet), *_frames(context, None)]
        return [Neighbour(f.pts, planes_of(f)) for f in frames[:1]]

    def _imply_headings(self) -> None:
        """Give each hit packet without a readable header the one that its neighbours imply."""
        known = [(c.pts, c.heading) for c in self._coded if c.heading is not None]
        if not known:
            return
        for place, coded in enumerate(self._coded):
            if not coded.hit or coded.heading is not None:
                continue
            before = next((c for c in reversed(self._coded[:place]) if c.heading is not None), None)
            after = next((c for c in self._coded[place + 1 :] if c.heading is not None), None)
            if before is None or before.heading is None:
                coded.heading = _first_heading(known[0][1])
                continue
            step = round((coded.pts - before.pts) * _order_rate(self._coded))
            coded.heading = implied_heading(before.heading, after.heading if after else None, step)


def _near(times: Sequence[int], time: int) -> set[int]:
    place = times.index(time)
    return set(times[max(0, place - HISTORY) : place + AHEAD])


def _first_heading(template: Heading) -> Heading:
    """Header of an instantaneous refresh at the start of a group, made from a later picture's."""
    header: SliceHeader = replace(template.header, idr=True, ref_idc=3, first_mb=0, type="I", frame_num=0, poc=0,
                                  poc_deltas=tuple(0 for _ in template.header.poc_deltas),
                                  marking=(("flag", 0), ("flag", 0)))
    return replace(template, header=header, starts=(0,))


def _order_rate(group: Sequence[Coded]) -> Fraction:
    """Picture order count per unit of time, from neighbours whose headers are known."""
    rates = []
    for a, b in pairwise(c for c in group if c.heading is not None):
        assert a.heading is not None and b.heading is not None
        turn = 1 << a.heading.sps.poc_bits
        order = (b.heading.header.poc - a.heading.header.poc + turn // 2) % turn - turn // 2
        if a.pts != b.pts and order:
            rates.append(Fraction(order, b.pts - a.pts))
    return sorted(rates)[len(rates) // 2] if rates else Fraction(0)


def lost_macroblocks(heading: Heading, onset: Onset, said: Messages) -> np.ndarray:
    """The macroblocks that are not the picture's own, (rows, columns) bool.

    A slice is lost from its first bad macroblock to its end: with one bad slice the decoder's count of concealed
    macroblocks tells where that is. Where it is not told, the whole slice, or the whole picture.
    """
    total, width = heading.macroblocks, heading.sps.mb_width
    lost = np.ones(total, bool)
    concealed = said.concealed or onset.concealed
    if concealed and concealed < total:
        place = said.first_error or onset.first_error
        edges = [*heading.starts, total]
        address = place[1] * width + place[0] if place else total - 1
        end = next((edge for edge in edges if edge > address), total)
        if end - concealed >= max((e for e in edges if e < end), default=0):
            lost[:] = False
            lost[end - concealed : end] = True
    return lost.reshape(-1, width)


def _frames(context: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
    return tolerant.decode_one(context, packet)[0]
