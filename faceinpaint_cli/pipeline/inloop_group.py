"""One group of an H.264 stream with damaged pictures: each is filled, put back and, at the end, set straight."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby, pairwise

import av
import numpy as np

from faceinpaint_cli.damage.decoder_log import Messages
from faceinpaint_cli.damage.evidence import Onset
from faceinpaint_cli.damage.extent import hurt_cells, with_unnoticed
from faceinpaint_cli.fill.consensus import fill_lost
from faceinpaint_cli.fill.drift import Drift, Guessed
from faceinpaint_cli.fill.motion import Lost, Neighbour, Stretch, candidates, composed
from faceinpaint_cli.media.h264_implied import Placed, course_of, first_heading, implied_headings
from faceinpaint_cli.media.h264_substitute import Heading, Substituter
from faceinpaint_cli.media.optical_flow import Planes, eight_bit, flow, left_over, warp
from faceinpaint_cli.pipeline.course import STEPS, Course, keyframe_tells
from faceinpaint_cli.pipeline.inloop_decoder import Coded, GroupDecoder, Seen

log = logging.getLogger(__name__)

LONG_STRETCH = 3
"""Pictures in a row without packets, from which on the motion before them does not tell all of them."""

Fill = Callable[[Lost], "tuple[Planes, str]"]


def fill_by_consensus(picture: Lost) -> tuple[Planes, str]:
    return fill_lost(picture, candidates(picture))


@dataclass(frozen=True)
class Mended:
    """What was done to one picture: `time` in seconds, `how` it was filled, `lost` share of its area."""

    time: Fraction
    how: str
    lost: float
    lost_mask: np.ndarray | None = None


class _State:
    """The group as it stood at some time. What it is judged by is computed once, when it is asked for."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    @cached_property
    def back(self) -> np.ndarray | None:
        """Motion (HW2 float32) from the next keyframe to the group's last picture; None where there is no such
        keyframe."""
        if self.seen.key is None or self.seen.last is None:
            return None
        return flow(self.seen.key, self.seen.last)

    @cached_property
    def misfit(self) -> float:
        """How far the group's last picture is from the next keyframe, which is true: grey levels that remain after
        the best motion. Not a number where there is no such keyframe."""
        if self.back is None or self.seen.key is None or self.seen.last is None:
            return math.nan
        return float(left_over(self.seen.key, self.seen.last, self.back).mean())


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
        self._decoder = GroupDecoder(stream, coded, previous, following)
        self._path = stream.container.name
        self._starts: dict[int, Neighbour] = {}
        """The last picture before each long stretch without packets, by its first place."""
        self._guessed: list[_Filled] = []
        self._mended: list[Mended] = []

    def repair(self) -> list[Mended]:
        """Replace the data of each hit packet, in decoding order: later ones are filled from earlier repairs."""
        self._imply_headings()
        places = [place for place, coded in enumerate(self._coded) if coded.hit and self._can_be_put_back(coded)]
        if not places:
            return []
        now = _State(self._decoder.look(places[0]))
        for place, after in zip(places, [*places[1:], None], strict=True):
            now = self._mend(place, now, after)
        if self._guessed:
            self._set_straight(now)
        return self._mended

    def _can_be_put_back(self, coded: Coded) -> bool:
        if coded.heading is None:
            return False
        reason = self._substituter.refusal(coded.heading)
        if reason:
            log.warning("%s: a damaged picture stays as it is (%s)", self._path, reason)
        return reason is None

    def _mend(self, place: int, now: _State, after: int | None) -> _State:
        """Fill the picture at `place`, with the group decoded as it stands; what it is then, seen around `after`."""
        coded = self._coded[place]
        assert coded.heading is not None
        picture = self._look(place, coded.heading, now.seen)
        if not picture.before and not picture.behind and picture.decoded is None:
            log.warning("%s: nothing to fill the picture at %s from", self._path,
                        float(coded.pts * self._stream.time_base))
            return _State(self._decoder.look(after))
        planes, how = self._fill(picture)
        damaged, coded.data = coded.data, self._substituter.packet(coded.data, coded.heading, planes)
        filled = _State(self._decoder.look(after))
        if picture.concealed and self._is_worse(place, now, filled):
            coded.data, how = damaged, "concealed"
            filled = now if after is None else _State(self._decoder.look(after))
        if how == "onward":
            anchor = (picture.before or picture.behind)[0].time
            self._guessed.append(_Filled(place, damaged, planes, Guessed(coded.pts, picture.lost, anchor)))
        self._mended.append(Mended(coded.pts * self._stream.time_base, how, float(picture.lost.mean())))
        return filled

    def _is_worse(self, place: int, now: _State, filled: _State) -> bool:
        """Whether the group does better with the picture at `place` as the decoder conceals it (`now`)."""
        if keyframe_tells(now.misfit, filled.misfit):
            lumas: list[dict[int, np.ndarray]] = [{}, {}]
        else:
            end = max(c.pts for c in self._coded)
            seen = (now.seen.shown, self._decoder.look(place).shown)
            times = [t for t in sorted(seen[0].keys() & seen[1].keys()) if t <= end]
            # from the picture before on: flat grey that is carried on does not jump, but it is one jump from what was
            first = bisect_left(times, self._coded[place].pts)
            start = max(0, first - 1)
            lumas = [{t: eight_bit(s[t].planes[0]) for t in times[start : start + STEPS + 2]} for s in seen]
            tail = self._decoder.tail()[:1] if first == 0 else []  # in the group before
            lumas = [{**{n.time: eight_bit(n.planes[0]) for n in tail}, **near} for near in lumas]
        concealed, mended = Course(now.misfit, lumas[0]), Course(filled.misfit, lumas[1])
        return mended.is_worse_than(concealed)

    def _set_straight(self, now: _State) -> None:
        """Move what was filled by the drift that the next keyframe shows."""
        key = self._decoder.key
        if key is None or now.back is None:
            return
        drift = Drift([f.guessed for f in self._guessed])
        times = sorted(c.pts for c in self._coded)
        # a hit first keyframe is filled from what comes after it, and must be seen itself
        first = bisect_left(times, min(min(f.guessed.anchor, f.guessed.time) for f in self._guessed))
        start = times[max(0, first - 1)]
        after: dict[int, np.ndarray] = {}
        clean = [c.pts for c in self._decoder.following if not c.hit]
        for time, luma in self._decoder.lumas():
            if start <= time < key.pts:
                drift.see(time, luma)
            elif time in clean and len(after) < 2:
                after[time] = luma
        if key.pts not in after:
            return
        found = drift.found((key.pts, after.pop(key.pts)), next(iter(after.items()), None), now.back)
        if found is None:
            return
        by_time = sorted(self._guessed, key=lambda f: f.guessed.time)
        fields = {f.place: field for f, field in zip(by_time, found, strict=True)}
        for filled in self._guessed:
            coded = self._coded[filled.place]
            assert coded.heading is not None
            moved = tuple(warp(p, -fields[filled.place]) for p in filled.planes)
            coded.data = filled.damaged
            own = self._decoder.own(filled.place)
            planes = composed(own.planes if own else None, moved, filled.guessed.lost)
            coded.data = self._substituter.packet(filled.damaged, coded.heading, planes)

    def _look(self, place: int, heading: Heading, seen: Seen) -> Lost:
        """The picture at `place` with what is known around it; pictures of another size (where joined streams meet)
        tell nothing."""
        coded = self._coded[place]
        shown, said = seen.shown, seen.said
        decoded = shown.get(coded.pts)
        earlier = {c.pts for c in self._coded[:place]}
        before = [n for t, n in sorted(shown.items(), reverse=True) if t < coded.pts and t in earlier]
        if len(before) < 2:
            before += self._decoder.tail()
        behind = [n for t, n in sorted(shown.items()) if t > coded.pts and t in earlier]
        after = [n for t, n in sorted(shown.items()) if t > coded.pts and t not in earlier]
        between = [n for t, n in sorted(shown.items()) if t < coded.pts and t not in earlier]
        if not before and not behind:
            behind = self._decoder.next_key
        size = (heading.sps.mb_height * 16, heading.sps.mb_width * 16)
        before, behind, after, between = (
            [n for n in near if n.planes[0].shape == size] for near in (before, behind, after, between))
        planes = decoded.planes if decoded and decoded.planes[0].shape == size else None
        lost = np.ones(size, bool)
        if planes is not None and coded.onset is not None:
            macroblocks = lost_macroblocks(heading, coded.onset, said)
            beside = [n.planes for n in (before or behind)[:2]]
            # later pictures differ from their neighbours by what their references have lost as well
            if place == 0 and beside and not macroblocks.all():
                hurt = in_coding_order(hurt_cells(planes, beside), heading)
                macroblocks = with_unnoticed(macroblocks, hurt, heading.starts, heading.sps.mb_width)
            lost = np.kron(in_rows(macroblocks, heading), np.ones((16, 16), bool))
        stretch = self._stretch(place, before) if planes is None else None
        return Lost(coded.pts, planes, lost, before, behind, after, between, stretch)

    def _stretch(self, place: int, before: Sequence[Neighbour]) -> Stretch | None:
        """The stretch of pictures without packets that the one at `place` is in; None where it is short. `before` are
        the pictures shown before it, nearest first."""
        first = last = place
        while first and self._coded[first - 1].number is None:
            first -= 1
        while last + 1 < len(self._coded) and self._coded[last + 1].number is None:
            last += 1
        if last - first + 1 < LONG_STRETCH or not before:
            return None
        start = self._starts.setdefault(first, before[0])
        key = self._decoder.next_key
        end = key[0] if key and key[0].planes[0].shape == start.planes[0].shape else None
        inside = sorted(c.pts for c in self._coded[first : last + 1])
        return Stretch(start, end, bisect_left(inside, self._coded[place].pts) + 1)

    def _imply_headings(self) -> None:
        """Give each hit packet without a readable header the one that its neighbours imply."""
        known = [c.heading for c in self._coded if c.heading is not None]
        if not known:
            return
        placed = [Placed(c.pts, c.heading.header if c.heading else None) for c in self._coded]
        rate, usual = _order_rate(self._coded), sum(h.header.is_reference for h in known) / len(known)
        for unread, run in groupby(range(len(placed)), lambda i: placed[i].header is None):
            start, stop = (places := list(run))[0], places[-1] + 1
            if not unread:
                continue
            lost, after = self._coded[start:stop], self._coded[stop] if stop < len(placed) else None
            if start == 0:
                lost[0].heading = first_heading(known[0])
                start, lost = 1, lost[1:]
            before = self._coded[start - 1]
            assert before.heading is not None
            references: float | list[bool] = usual
            if after is not None and all(c.number is None for c in lost):
                course = course_of(placed, placed[start - 1], placed[stop], sorted(c.pts for c in lost),
                                   1 << before.heading.sps.frame_num_bits)
                if course is not None:
                    references = [reference for _, reference in course]
                    for coded, (time, _) in zip(lost, course, strict=True):
                        coded.pts = time
            steps = [round((c.pts - before.pts) * rate) for c in lost]
            end = round((after.pts - before.pts) * rate) if after is not None else 0
            headings = implied_headings(before.heading, after.heading if after else None, steps, end, references)
            for coded, heading in zip(lost, headings, strict=True):
                coded.heading = heading if coded.hit else None


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
    """The macroblocks that are not the picture's own, bool, in the order in which they are coded.

    A slice is lost from its first bad macroblock to its end: with one bad slice the decoder's count of concealed
    macroblocks tells where that is. Where it is not told, the whole slice, or the whole picture.
    """
    total, width = heading.macroblocks, heading.sps.mb_width
    lost = np.ones(total, bool)
    concealed = said.concealed or onset.concealed
    if concealed and concealed < total:
        place = said.first_error or onset.first_error
        edges = [*heading.starts, total]
        address = total - 1
        if place and heading.sps.pairs:
            address = (place[1] // 2 * width + place[0]) * 2 + place[1] % 2
        elif place:
            address = place[1] * width + place[0]
        end = next((edge for edge in edges if edge > address), total)
        if end - concealed >= max((e for e in edges if e < end), default=0):
            lost[:] = False
            lost[end - concealed : end] = True
    return lost


def in_rows(macroblocks: np.ndarray, heading: Heading) -> np.ndarray:
    """A value for each macroblock in the order in which they are coded, as (rows, columns)."""
    width = heading.sps.mb_width
    if heading.sps.pairs:
        return macroblocks.reshape(-1, width, 2).swapaxes(1, 2).reshape(-1, width)
    return macroblocks.reshape(-1, width)


def in_coding_order(rows: np.ndarray, heading: Heading) -> np.ndarray:
    """The other way round."""
    width = heading.sps.mb_width
    if heading.sps.pairs:
        return rows.reshape(-1, 2, width).swapaxes(1, 2).reshape(-1)
    return rows.reshape(-1)
