"""Pictures whose packets are not in the file at all, as H.264 headers and time stamps together tell.

Neither alone is proof: a clean file of variable rate has gaps in time, and an encoder may number its pictures
as it likes. Where both have a gap at the same place a picture was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from faceinpaint_cli.media.h264_headers import SliceHeader, Sps

LONGEST_GAP = 64
"""Pictures; a longer hole in time is taken for a cut of the file, not filled."""


@dataclass(frozen=True)
class CodedPicture:
    """A packet of the stream: times in units of the stream's time base, in decoding order; `discard` where
    the container says that it is decoded and not shown."""

    index: int
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    discard: bool = False


@dataclass(frozen=True)
class Missing:
    """A picture whose packet is lost: it belongs before packet `before` in decoding order."""

    before: int
    pts: int
    reference: bool


Slices = Sequence["tuple[SliceHeader, Sps] | None"]


def missing_pictures(pictures: Sequence[CodedPicture], slices: Slices) -> list[Missing]:
    """Lost pictures of an H.264 stream; none for other codecs (`slices` empty) or where times are missing."""
    if not slices or any(p.pts is None or p.dts is None for p in pictures):
        return []
    step = _usual_step([p.dts or 0 for p in pictures])
    times = sorted(p.pts or 0 for p in pictures)
    if not step or _usual_step(times) != step:
        return []
    holes = _holes(times, step)
    found: list[Missing] = []
    for before, count, references in _gaps(pictures, slices, step):
        near = sorted(holes, key=lambda t: abs(t - (pictures[before].pts or 0)))[:count]
        for number, pts in enumerate(sorted(near)):
            found.append(Missing(before, pts, number < references))
            holes.remove(pts)
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


def _gaps(pictures: Sequence[CodedPicture], slices: Slices, step: int) -> list[tuple[int, int, int]]:
    """(packet before which pictures are missing, how many, how many of them references)."""
    gaps = []
    for index in range(1, len(pictures)):
        now, last = slices[index], slices[index - 1]
        if now is None or last is None:
            continue
        late = (pictures[index].dts or 0) - (pictures[index - 1].dts or 0)
        count = round(late / step) - 1
        if not 0 < count <= LONGEST_GAP:
            continue
        skipped = frames_skipped(last[0], now[0], now[1])
        if skipped == 0 and not _order_skips(slices, index):
            continue  # the numbering is whole: the file just pauses here
        gaps.append((index, count, min(skipped, count)))
    return gaps


def frames_skipped(last: SliceHeader, now: SliceHeader, sps: Sps) -> int:
    """References missing between two pictures in a row (frame_num, 7.4.3); an IDR picture hides them."""
    if now.idr:
        return 0
    modulus = 1 << sps.frame_num_bits
    expected = (last.frame_num + 1) % modulus if last.is_reference else last.frame_num
    return (now.frame_num - expected) % modulus


def _order_skips(slices: Slices, index: int) -> bool:
    """Whether the picture order counts of the group around a packet leave one out near it."""
    starts = [i for i, entry in enumerate(slices) if entry is not None and entry[0].idr]
    if index in starts:
        return False
    first = max((i for i in starts if i < index), default=0)
    last = min((i for i in starts if i > index), default=len(slices))
    orders: list[int] = []
    previous = 0
    for entry in slices[first:last]:
        if entry is None:
            continue
        header, sps = entry
        if sps.poc_type != 0:
            return False
        modulus = 1 << sps.poc_bits
        turns = round((previous - header.poc) / modulus)
        orders.append(header.poc + turns * modulus)
        if header.is_reference:
            previous = orders[-1]
    orders.sort()
    steps = Counter(b - a for a, b in pairwise(orders))
    usual = steps.most_common(1)[0][0] if steps else 0
    return usual > 0 and any(s > usual for s in steps)
