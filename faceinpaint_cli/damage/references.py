"""HEVC pictures that others refer to and that are not there, known by what those others say of them.

A picture's header names all pictures that it refers to (ITU-T H.265, 8.3.2). One that no packet before it holds was
lost: with its packet, or with its own header in a packet that is still there. That needs no gap in time for proof, and
the pictures that refer to it are not damaged themselves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from faceinpaint_cli.damage.gaps import REACH, CodedPicture, grid
from faceinpaint_cli.media.hevc_headers import RASL, Header

Headers = Sequence["Header | None"]


@dataclass(frozen=True)
class Absent:
    """A picture that is not there: its order `count`, the packet `before` which a decoder needs it, and when it would
    be shown, give or take its `tolerance`; `packet` is what is left of it, None where nothing is."""

    count: int
    before: int
    pts: int
    tolerance: float
    packet: int | None


def absent_references(pictures: Sequence[CodedPicture], headers: Headers) -> tuple[list[Absent], set[int]]:
    """Pictures that are not there, in decoding order, and the packets that refer to one for which there is no room in
    time; `headers` are per packet."""
    times = [p.pts for p in pictures if p.pts is not None]
    if len(times) < len(pictures):
        return [], set()
    ordered = sorted(times)
    step = median(b - a for a, b in pairwise(ordered)) if len(ordered) > 1 else 0
    rate, on_grid = _rate(times, headers), grid(times)
    found: list[Absent] = []
    stray: set[int] = set()
    used: set[int] = set()
    for first, last in _spans(times, headers):
        known = sorted((h.count, times[i]) for i, h in enumerate(headers[first:last], first) if h is not None)
        for count, (before, referring) in _not_there(pictures, headers, first, last).items():
            least, pts, most = _between(known, count, rate)
            pts = on_grid(pts)
            left = [i for i in range(max(0, first - REACH), before)
                    if headers[i] is None and i not in used and least < times[i] < most]
            packet = min(left, key=lambda i: abs(times[i] - pts), default=None)
            near = bisect_left(ordered, pts)
            if packet is not None:
                used.add(packet)
                found.append(Absent(count, before, times[packet], 0, packet))
            elif all(abs(t - pts) > step / 2 for t in ordered[max(0, near - 1) : near + 1]):
                found.append(Absent(count, before, pts, step / 2, None))
            else:
                stray.add(referring)
    return sorted(found, key=lambda a: (a.before, a.count)), stray


def _spans(times: Sequence[int], headers: Headers) -> Iterator[tuple[int, int]]:
    """Packets from one beginning of the order counts up to, without, the next; also where the picture that begins them
    is not there: then counts go back although time does not."""
    starts = [0]
    recent: list[tuple[int, int]] = []
    for i, header in enumerate(headers):
        if header is None:
            continue
        back = any(count > header.count and time < times[i] for count, time in recent)
        if header.starts or (back and header.keeps and not {c for c, _ in recent} & {*header.keeps}):
            starts.append(i)
            recent = []
        recent = [*recent[-15:], (header.count, times[i])]
    return pairwise(sorted({*starts, len(headers)}))


def _not_there(pictures: Sequence[CodedPicture], headers: Headers, first: int,
               last: int) -> dict[int, tuple[int, int]]:
    """Counts of pictures that are not there, with the first packet that names each and the first that refers to it."""
    begun = first > 0 or (bool(pictures) and pictures[0].keyframe and headers[0] is None)
    there: set[int] = set()
    named: dict[int, int] = {}
    found: dict[int, tuple[int, int]] = {}
    leading_refer = False  # those of the first key picture refer to what was before, and are not shown
    for i in range(first, last):
        header = headers[i]
        if header is None or header.keeps is None or header.refers is None:
            continue
        if header.is_key:
            leading_refer = begun and not header.starts
            begun = True
        if not begun or (header.kind in RASL and not leading_refer):
            continue
        for count in header.keeps:
            if count not in there:
                named.setdefault(count, i)
        for count in header.refers:
            if count not in there and count not in found:
                found[count] = named[count], i
                there.add(count)
        there = there & {*header.keeps} | {header.count}
    return found


def _between(known: Sequence[tuple[int, int]], count: int, rate: float) -> tuple[float, int, float]:
    """(earliest, likely, latest) time of a picture, from counts and times of others."""
    place = bisect_left(known, (count, 0))
    below, above = known[place - 1] if place else None, known[place] if place < len(known) else None
    if below and above:
        share = (count - below[0]) / (above[0] - below[0])
        return below[1], round(below[1] + share * (above[1] - below[1])), above[1]
    if above:
        time = round(above[1] - rate * (above[0] - count))
        return time - rate, time, above[1]
    if below:
        time = round(below[1] + rate * (count - below[0]))
        return below[1], time, time + rate
    return 0, 0, 0


def _rate(times: Sequence[int], headers: Headers) -> float:
    """Time per order count."""
    rates = [(times[i] - times[i - 1]) / (b.count - a.count) for i, (a, b) in enumerate(pairwise(headers), 1)
             if a is not None and b is not None and not b.starts and a.count != b.count]
    return median(rates) if rates else 0.0
