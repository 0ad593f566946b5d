"""Pictures whose packets are not in the file at all, as headers and time stamps together tell.

Neither alone is proof: a clean file of variable rate has gaps in time, and an encoder may number its pictures
as it likes. Where both have a gap at the same place a picture was lost; so it was where a gap in time stands beside a
packet that is damaged itself, or that a transport stream's counters say is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, takewhile

import numpy as np

from faceinpaint_cli.media.h264_headers import SliceHeader, Sps
from faceinpaint_cli.media.hevc_headers import Header
from faceinpaint_cli.media.mpeg4_headers import BIDIRECTIONAL, INTRA, Vop
from faceinpaint_cli.media.picture_order import Order

REACH = 16
"""Pictures by which one may be shown away from where it is decoded: the most that a decoder of H.264 or HEVC holds."""
LONGEST_GAP = 64
"""Pictures; a longer hole in time is taken for a cut of the file, not filled."""


@dataclass(frozen=True)
class CodedPicture:
    """A packet of the stream: times in units of the stream's time base, in decoding order; `discard` where
    the container says that it is decoded and not shown. A keyframe that `refreshes` is one in name: from there on
    pictures become whole bit by bit (intra refresh), and refer to what was before."""

    index: int
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    discard: bool = False
    refreshes: bool = False

    @property
    def starts(self) -> bool:
        """Whether it is a keyframe that shows nothing of what was before."""
        return self.keyframe and not self.refreshes


@dataclass(frozen=True)
class Missing:
    """A picture whose packet is lost: it belongs before packet `before` in decoding order. `order` is the order count
    that others refer to it by, where that is known (HEVC)."""

    before: int
    pts: int
    order: int | None = None


Slices = Sequence["tuple[SliceHeader, Sps] | None"]
Orders = Sequence["Order | Header | None"]
Headers = Sequence["Order | Header | Vop | None"]
MOST_PARTS = 60
"""Of a unit of the time base, that a step between pictures may be a multiple of (59.94 a second: 1001/60 ms)."""
HALF = Fraction(1, 2)
TURNING = 0.9
"""Share of a stream's pictures that must round the other way than the one before, for one that does not to tell."""


def missing_pictures(pictures: Sequence[CodedPicture], slices: Slices, headers: Headers,
                     damaged: Set[int], lacks: bool = False, spreads: bool = False) -> list[Missing]:
    """Lost pictures of a stream; none where times are missing, or rates vary.

    `slices` are the headers of H.264, `headers` what HEVC, MPEG-1, 2 and 4 and AV1 say, per packet, both empty for
    other codecs; `damaged` are the packets that speak of damage, those beside lost ones among them, or, where a lost
    picture `spreads` (each picture's probabilities come from those before), those that follow soon. Of a file that is
    known to lack parts (`lacks`) every gap in time is a loss.
    """
    if any(p.pts is None for p in pictures):
        return []
    own = [p.pts or 0 for p in pictures]
    step, timed = usual_step(sorted(own)), all(p.dts is not None for p in pictures)
    if not step or (timed and abs(usual_step([p.dts or 0 for p in pictures]) - step) > 1):
        return []
    if lacks:
        damaged = set(range(len(pictures)))
    if slices:
        found = _missing_by_number(pictures, slices, damaged, step) if timed else _missing_by_order(own, slices, step)
    else:
        vops = [h for h in headers if isinstance(h, Vop)]
        orders = [None if isinstance(h, Vop) else h for h in headers]
        found = _missing_by_rounding(own, headers, step) if vops else _missing_by_count(own, orders, step)
        if timed:
            found += _missing_beside(pictures, damaged, step, {m.pts for m in found}, spreads)
    if lacks and not timed:
        found += _placed(sorted({*_holes(sorted(own), step)} - {m.pts for m in found}), own)
    on_grid = grid(own)
    return sorted((replace(m, pts=on_grid(m.pts)) for m in found), key=lambda m: m.before)


def _missing_by_number(pictures: Sequence[CodedPicture], slices: Slices, damaged: Set[int],
                       step: int) -> list[Missing]:
    """Lost pictures of H.264 where gaps in decoding time and in the numbers of references meet, or damage."""
    times = sorted(p.pts or 0 for p in pictures)
    holes = _holes(times, step)
    found: list[Missing] = []
    for before, count in _gaps(pictures, slices, damaged, step):
        time = pictures[before].pts or 0
        near = sorted(holes, key=lambda t: abs(t - time))[:count]
        holes = [t for t in holes if t not in near]
        if times[-1] - time < REACH * step:  # what is shown last leaves no hole
            near += [times[-1] + step * (k + 1) for k in range(count - len(near))]
        found += [Missing(before, t) for t in sorted(near)]
    return found


def usual_step(times: Sequence[int]) -> int:
    """The step that most neighbours share; 0 where fewer than four in five of them do."""
    steps = Counter(b - a for a, b in pairwise(times))
    if not steps:
        return 0
    step, count = steps.most_common(1)[0]
    near = sum(n for s, n in steps.items() if abs(s - step) <= 1)  # rounded to the time base
    return step if step > 0 and near >= 0.8 * steps.total() and count else 0


def grid(times: Sequence[int]) -> Callable[[int], int]:
    """What moves a time by at most one unit to where a picture belongs beside those at `times`, at a constant rate:
    they are rounded to the time base, so that the ones next to it do not tell exactly."""
    ordered = sorted(times)
    step = usual_step(ordered)
    if not step:
        return lambda time: time
    places = np.concatenate([[0], np.cumsum([max(1, round((b - a) / step)) for a, b in pairwise(ordered)])])
    slope, start = (Fraction(float(number)) for number in np.polyfit(places, ordered, 1))
    for parts in range(1, MOST_PARTS + 1):
        even = Fraction(round(slope * parts), parts)
        if all(math.floor(ordered[0] + even * int(n) + HALF) == t for n, t in zip(places, ordered, strict=True)):
            slope, start = even, Fraction(ordered[0])
            break

    def on_grid(time: int) -> int:
        exact = math.floor(start + slope * round((time - start) / slope) + HALF)
        return exact if abs(exact - time) <= 1 else time

    return on_grid


def _holes(times: Sequence[int], step: int) -> list[int]:
    """Times on the usual grid at which nothing is shown."""
    holes = []
    for a, b in pairwise(times):
        count = round((b - a) / step) - 1
        if 0 < count <= LONGEST_GAP:
            holes += [a + round((b - a) * (k + 1) / (count + 1)) for k in range(count)]
    return holes


def _gaps(pictures: Sequence[CodedPicture], slices: Slices, damaged: Set[int], step: int) -> list[tuple[int, int]]:
    """(packet before which pictures are missing, how many)."""
    gaps = []
    for index in range(1, len(pictures)):
        count = _left_out(pictures, index, step)
        now, last = slices[index], slices[index - 1]
        if not count:
            continue
        skips = joins = False
        if now is not None and last is not None:
            skips = frames_skipped(last[0], now[0], now[1]) > 0 or _order_skips(slices, index)
            joins = now[1] != last[1]  # another recording begins
        if skips or (_is_beside(index, damaged) and not joins):  # else the numbering is whole: the file just pauses
            gaps.append((index, count))
    return gaps


def _left_out(pictures: Sequence[CodedPicture], index: int, step: int) -> int:
    """How many pictures fit between the decoding times of a packet and the one before it; 0 where it is a cut."""
    late = (pictures[index].dts or 0) - (pictures[index - 1].dts or 0)
    count = round(late / step) - 1
    return count if 0 < count <= LONGEST_GAP else 0


def _is_beside(index: int, damaged: Set[int]) -> bool:
    """Whether a packet or those before it speak of damage. (A reader of transport streams learns late that a packet is
    hit, and says it of the one before.)"""
    return not damaged.isdisjoint((index - 2, index - 1, index))


def frames_skipped(last: SliceHeader, now: SliceHeader, sps: Sps) -> int:
    """References missing between two pictures in a row (frame_num, 7.4.3); an IDR picture hides them."""
    if now.idr:
        return 0
    modulus = 1 << sps.frame_num_bits
    expected = (last.frame_num + 1) % modulus if last.is_reference else last.frame_num
    return (now.frame_num - expected) % modulus


def _missing_by_order(times: Sequence[int], slices: Slices, step: int) -> list[Missing]:
    """Lost pictures where decoding times are a reader's guess from the times of display, as of Matroska: they have
    their gaps elsewhere. Here the numbers of references must have a gap near that in time, or the picture order counts
    leave out as many pictures as time does; `times` are per packet."""
    told = _told(times, (_orders(slices, first, last) for first, last in _refreshed(slices)), step)
    holes = _holes(sorted(times), step) if step else []
    reach = max(abs(times[index] - time) for index, time in enumerate(sorted(times)))
    found: list[Missing] = []
    for index in range(1, len(slices)):
        now, last_seen = slices[index], slices[index - 1]
        if now is None or last_seen is None:
            continue
        skipped = frames_skipped(last_seen[0], now[0], now[1])
        near = [t for t in sorted(holes, key=lambda t: abs(t - times[index]))[:skipped]
                if abs(t - times[index]) <= reach + skipped * step]
        found += [Missing(index, t) for t in sorted(near)]
        holes = [t for t in holes if t not in near]
    found += _placed((t for t in holes if t in told), times)
    return sorted(found, key=lambda m: m.before)


def _missing_by_count(times: Sequence[int], orders: Orders, step: int) -> list[Missing]:
    """Lost pictures where the counts of pictures and their times leave out as many; both are per packet."""
    starts = sorted({0, *(i for i, order in enumerate(orders) if order is not None and order.starts), len(orders)})
    spans = ({i: order.count for i, order in enumerate(orders[a:b], a) if order is not None}
             for a, b in pairwise(starts))
    unread = [times[i] for i, order in enumerate(orders) if order is None]
    told = (t for t in _told(times, spans, step) if all(abs(t - u) > step / 2 for u in unread))
    return sorted(_placed(sorted(told), times), key=lambda m: m.before)


def _missing_by_rounding(times: Sequence[int], headers: Headers, step: int) -> list[Missing]:
    """Lost pictures of MPEG-4: gaps at which the rounding does not turn, although it does everywhere else, or with
    which there are as many bidirectional pictures between references as everywhere else; `times` are per packet. A gap
    of an even number of references does not show so: it is one as well where others are, and none is not."""
    vops = [h if isinstance(h, Vop) else None for h in headers]
    references = [i for i, vop in enumerate(vops) if vop is None or vop.kind != BIDIRECTIONAL]
    turns = {b: _turns(vops[a], vops[b]) for a, b in pairwise(references)}
    holes = _holes(sorted(times), step)
    gaps = {b: holes[bisect_left(holes, times[a]) : bisect_left(holes, times[b])] for a, b in pairwise(references)}
    known = [t for t in turns.values() if t is not None]
    if sum(known) < TURNING * len(known):
        return []
    told = {turns[i] for i, between in gaps.items() if len(between) % 2} - {None}
    # of what is told by nothing else: all gaps or none
    lost = [i for i, between in gaps.items() if between and (
        turns[i] is False if len(between) % 2 and turns[i] is not None else told == {False})]
    found = [Missing(i, time) for i in lost for time in gaps[i]]
    crossing = sorted(t for t, vop in zip(times, vops, strict=True) if vop is not None and vop.kind == BIDIRECTIONAL)
    shown = {b: bisect_left(crossing, times[b]) - bisect_left(crossing, times[a]) for a, b in pairwise(references)}
    whole = Counter(shown[i] for i, between in gaps.items() if not between)
    (usual, alike), = whole.most_common(1) or [(0, 0)]
    if usual and alike >= TURNING * whole.total():
        for i, between in gaps.items():
            # as many as belong between two references, or to more of them than are there
            if between and i not in lost and shown[i] != usual and (shown[i] + len(between) + 1) % (usual + 1) == 0:
                found += [Missing(i + (shown[i] < usual), time) for time in between]
    return found


def _turns(before: Vop | None, now: Vop | None) -> bool | None:
    """Whether a predicted picture rounds the other way than the one before; None where that cannot be said. The first
    one after an intra picture rounds down (as if that had rounded up)."""
    if before is None or now is None or now.rounding is None:
        return None
    if before.kind == INTRA:
        return now.rounding
    return None if before.rounding is None else before.rounding != now.rounding


def _missing_beside(pictures: Sequence[CodedPicture], damaged: Set[int], step: int, known: Set[int],
                    spreads: bool) -> list[Missing]:
    """Lost pictures of which no header tells: gaps in decoding time beside packets that speak of damage, or before
    where it `spreads` (not always: there, where half of the gaps are told so, all are); without those at `known` times.
    """
    holes = [t for t in _holes(sorted(p.pts or 0 for p in pictures), step) if t not in known]
    gaps = {index: count for index in range(1, len(pictures)) if (count := _left_out(pictures, index, step))}
    told = [i for i in gaps if _is_beside(i, damaged) or (spreads and not damaged.isdisjoint(_behind(pictures, i)))]
    found: list[Missing] = []
    for index in gaps if spreads and told and 2 * len(told) >= len(gaps) else told:
        count, time = gaps[index], pictures[index].pts or 0
        reach = (count + 1 + REACH) * step
        near = [t for t in sorted(holes, key=lambda t: abs(t - time))[:count] if abs(t - time) <= reach]
        found += [Missing(index, t) for t in sorted(near)]
        holes = [t for t in holes if t not in near]
    return found


def _behind(pictures: Sequence[CodedPicture], index: int) -> Iterator[int]:
    """Packet `index` and those that soon follow, up to the next keyframe."""
    return (p.index for p in takewhile(lambda p: not p.keyframe, pictures[index : index + REACH]))


def _told(times: Sequence[int], spans: Iterable[dict[int, int]], step: int) -> set[int]:
    """Times at which nothing is shown although the pictures' order counts have a place for it; `spans` are the counts
    from one beginning to the next, by packet."""
    told: set[int] = set()
    for orders in spans:
        usual = _usual_order(orders.values()) if orders and step else 0
        for a, b in pairwise(sorted(orders, key=lambda i: times[i]) if usual else []):
            between = _holes([times[a], times[b]], step)
            if orders[b] - orders[a] == usual * (len(between) + 1):
                told.update(between)
    return told


def _placed(holes: Iterable[int], times: Sequence[int]) -> Iterator[Missing]:
    """Pictures to which nothing refers, as far as is known: they belong after what is shown before them, and after one
    they may refer to."""
    reordered = any(a > b for a, b in pairwise(times))
    for hole in holes:
        before = max(i for i, t in enumerate(times) if t < hole) + 1
        behind = next(i for i, t in enumerate(times) if t > hole) + 1
        yield Missing(max(before, behind) if reordered else before, hole)


def packets_after_gaps(slices: Slices) -> list[int]:
    """Packets before which references are missing by their numbers, in streams that say that none are left out
    (7.4.3): for where there are no times to tell."""
    readable = [(i, *entry) for i, entry in enumerate(slices) if entry is not None]
    return [i for (_, last, _), (i, now, sps) in pairwise(readable)
            if not sps.gaps_allowed and frames_skipped(last, now, sps)]


def _refreshed(slices: Slices) -> Iterator[tuple[int, int]]:
    """Packets from one instantaneous refresh up to, without, the next: picture order counts begin anew there."""
    starts = [i for i, entry in enumerate(slices) if entry is not None and entry[0].idr]
    return pairwise(sorted({0, *starts, len(slices)}))


def _order_skips(slices: Slices, index: int) -> bool:
    """Whether the picture order counts of the group around a packet leave one out near it."""
    first, last = next((a, b) for a, b in _refreshed(slices) if a <= index < b)
    if index == first:
        return False
    orders = sorted(_orders(slices, first, last).values())
    usual = _usual_order(orders)
    return usual > 0 and any(b - a > usual for a, b in pairwise(orders))


def _orders(slices: Slices, first: int, last: int) -> dict[int, int]:
    """Picture order count, without its modulus, of each packet from `first` to `last` whose header is readable; empty
    where the stream does not write it."""
    orders: dict[int, int] = {}
    previous = 0
    for index in range(first, last):
        entry = slices[index]
        if entry is None:
            continue
        header, sps = entry
        if sps.poc_type != 0:
            return {}
        modulus = 1 << sps.poc_bits
        orders[index] = header.poc + round((previous - header.poc) / modulus) * modulus
        if header.is_reference:
            previous = orders[index]
    return orders


def _usual_order(orders: Iterable[int]) -> int:
    """What neighbours in the order of display mostly differ by; 0 where there are none."""
    steps = Counter(b - a for a, b in pairwise(sorted(orders)))
    return steps.most_common(1)[0][0] if steps else 0
