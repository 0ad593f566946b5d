"""Pictures whose packets are not in the file at all, as headers and time stamps together tell.

Neither alone is proof: a clean file of variable rate has gaps in time, and an encoder may number its pictures
as it likes. Where both have a gap at the same place a picture was lost; so it was where a gap in time stands beside a
packet that is damaged itself, or that a transport stream's counters say is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from faceinpaint_cli.media.h264_headers import SliceHeader, Sps
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
    """A picture whose packet is lost: it belongs before packet `before` in decoding order."""

    before: int
    pts: int


Slices = Sequence["tuple[SliceHeader, Sps] | None"]


def missing_pictures(pictures: Sequence[CodedPicture], slices: Slices, orders: Sequence[Order | None],
                     damaged: Set[int], lacks: bool = False) -> list[Missing]:
    """Lost pictures of a stream; none where times are missing, or rates vary.

    `slices` are the headers of H.264, `orders` what HEVC and MPEG-2 count, per packet, empty for other codecs;
    `damaged` are the packets that speak of damage, those beside lost ones among them. Of a file that is known to
    lack parts (`lacks`) every gap in time is a loss.
    """
    if any(p.pts is None for p in pictures):
        return []
    times = sorted(p.pts or 0 for p in pictures)
    if any(p.dts is None for p in pictures):
        step, own = _usual_step(times), [p.pts or 0 for p in pictures]
        found = _missing_by_order(own, slices, step) if slices else _missing_by_count(own, orders, step)
        rest = [t for t in _holes(times, step) if t not in {m.pts for m in found}] if lacks and step else []
        return sorted([*found, *_placed(rest, own)], key=lambda m: m.before)
    step = _usual_step([p.dts or 0 for p in pictures])
    if not step or _usual_step(times) != step:
        return []
    if not slices:
        by_count = _missing_by_count([p.pts or 0 for p in pictures], orders, step)
        beside = range(len(pictures)) if lacks else damaged
        return sorted([*by_count, *_missing_beside(pictures, set(beside), step, {m.pts for m in by_count})],
                      key=lambda m: m.before)
    holes = _holes(times, step)
    found = []
    for before, count in _gaps(pictures, slices, set(range(len(pictures))) if lacks else damaged, step):
        time = pictures[before].pts or 0
        near = sorted(holes, key=lambda t: abs(t - time))[:count]
        holes = [t for t in holes if t not in near]
        if times[-1] - time < REACH * step:  # what is shown last leaves no hole
            near += [times[-1] + step * (k + 1) for k in range(count - len(near))]
        found += [Missing(before, t) for t in sorted(near)]
    return found


def _usual_step(times: Sequence[int]) -> int:
    """The step that most neighbours share; 0 where fewer than four in five of them do."""
    steps = Counter(b - a for a, b in pairwise(times))
    if not steps:
        return 0
    step, count = steps.most_common(1)[0]
    near = sum(n for s, n in steps.items() if abs(s - step) <= 1)  # rounded to the time base
    return step if step > 0 and near >= 0.8 * steps.total() and count else 0


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


def _missing_by_count(times: Sequence[int], orders: Sequence[Order | None], step: int) -> list[Missing]:
    """Lost pictures where the counts of pictures and their times leave out as many; both are per packet."""
    starts = sorted({0, *(i for i, order in enumerate(orders) if order is not None and order.starts), len(orders)})
    spans = ({i: order.count for i, order in enumerate(orders[a:b], a) if order is not None}
             for a, b in pairwise(starts))
    return sorted(_placed(sorted(_told(times, spans, step)), times), key=lambda m: m.before)


def _missing_beside(pictures: Sequence[CodedPicture], damaged: Set[int], step: int, known: Set[int]) -> list[Missing]:
    """Lost pictures of which no header tells: gaps in decoding time beside packets that speak of damage; without those
    at `known` times."""
    holes = [t for t in _holes(sorted(p.pts or 0 for p in pictures), step) if t not in known]
    found: list[Missing] = []
    for index in range(1, len(pictures)):
        count = _left_out(pictures, index, step)
        if not count or not _is_beside(index, damaged):
            continue
        time, reach = pictures[index].pts or 0, (count + 1 + REACH) * step
        near = [t for t in sorted(holes, key=lambda t: abs(t - time))[:count] if abs(t - time) <= reach]
        found += [Missing(index, t) for t in sorted(near)]
        holes = [t for t in holes if t not in near]
    return found


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
