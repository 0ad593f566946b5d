"""Headers of lost H.264 pictures, as the pictures around them imply.

The pictures after a gap refer to some before it by their numbers, so that what is put into the gap must count on as
what was lost did: how many references there were, in which order, and whether the count began anew at a refresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from faceinpaint_cli.media.h264_headers import SliceHeader
from faceinpaint_cli.media.h264_substitute import Heading


@dataclass(frozen=True)
class Placed:
    """A picture of a stream, in order of decoding: `time` of its display and, where it could be read, its header."""

    time: int
    header: SliceHeader | None


def first_heading(template: Heading) -> Heading:
    """Header of an instantaneous refresh at the start of a group, made from a later picture's."""
    header = replace(template.header, idr=True, ref_idc=3, first_mb=0, type="I", frame_num=0, poc=0,
                     poc_deltas=tuple(0 for _ in template.header.poc_deltas), marking=(("flag", 0), ("flag", 0)))
    return replace(template, header=header, starts=(0,))


def implied_headings(before: Heading, after: Heading | None, steps: Sequence[int], end: int,
                     references: float | Sequence[bool] = 1.0) -> list[Heading]:
    """Headers of lost pictures that follow `before` in decoding order.

    `steps`: the distance of each one's picture order count from that of `before`, `end`: that of `after`, the picture
    that follows them; None where there is none. `references`: which of them others refer to, or how many mostly do in
    this stream (0 to 1). They carry no marking commands, so that references leave the decoder's buffer in their order
    (sliding window).
    """
    refresh = _lost_refresh(before, after, steps, end, references)
    if refresh is not None:
        start = first_heading(before)
        rest = references if isinstance(references, float) else references[refresh + 1 :]
        return [*_counted(before, steps[:refresh], [False] * refresh), start,
                *implied_headings(start, after, [s - steps[refresh] for s in steps[refresh + 1 :]],
                                  end - steps[refresh], rest)]
    if isinstance(references, float):
        references = _spread(before, after, len(steps), references)
    return _counted(before, steps, references)


def course_of(known: Sequence[Placed], before: Placed, after: Placed, times: Sequence[int],
              modulus: int) -> list[tuple[int, bool]] | None:
    """(time, whether others refer to it) of lost pictures in order of decoding, as elsewhere in the stream; None where
    there is no such place.

    `known`: the stream's pictures in decoding order; `times`: when the lost ones are shown, ascending; `modulus`: that
    of frame_num.
    """
    if before.header is None or after.header is None:
        return None
    count, span = len(times), after.time - before.time
    for first in range(len(known) - count - 1):
        run = known[first : first + count + 2]
        shift = before.time - run[0].time
        if run[-1].time - run[0].time != span or sorted(p.time + shift for p in run[1:-1]) != list(times):
            continue
        headers = [p.header for p in run if p.header is not None and not (p.header.idr and p is not run[0])]
        if len(headers) == len(run) and headers[0].is_reference == before.header.is_reference and (
                headers[-1].frame_num - headers[0].frame_num - after.header.frame_num + before.header.frame_num
                ) % modulus == 0:
            return [(p.time + shift, h.is_reference) for p, h in zip(run[1:-1], headers[1:-1], strict=True)]
    return None


def _lost_refresh(before: Heading, after: Heading | None, steps: Sequence[int], end: int,
                  references: float | Sequence[bool]) -> int | None:
    """Which of the lost pictures began the count anew; None where none did."""
    if after is None or after.header.idr:
        return None
    if before.sps.poc_type == 0:
        modulus = 1 << before.sps.poc_bits
        if (before.header.poc + end - after.header.poc) % modulus == 0:
            return None
        since = end - after.header.poc
        return next((i for i in reversed(range(len(steps))) if (since - steps[i]) % modulus == 0), None)
    skipped = (after.header.frame_num - _following(before)) % (1 << before.sps.frame_num_bits)
    since = len(steps) - after.header.frame_num
    every = references == 1.0 if isinstance(references, float) else all(references)
    whole = not every or skipped == len(steps) % (1 << before.sps.frame_num_bits)
    return None if whole or not 0 <= since < len(steps) else since


def _following(heading: Heading) -> int:
    """frame_num of the picture after this one."""
    return (heading.header.frame_num + heading.header.is_reference) % (1 << heading.sps.frame_num_bits)


def _spread(before: Heading, after: Heading | None, count: int, usual: float) -> list[bool]:
    """Which of `count` lost pictures others refer to: as many as frame_num tells, evenly spread, the last one among
    them, for what comes after follows that one."""
    number = count
    if after is not None and not after.header.idr:
        modulus = 1 << before.sps.frame_num_bits
        skipped = (after.header.frame_num - _following(before)) % modulus
        number = min(range(skipped, count + 1, modulus), key=lambda n: abs(n - usual * count), default=count)
    chosen = {-(-count * (i + 1) // number) - 1 for i in range(number)}
    return [i in chosen for i in range(count)]


def _counted(before: Heading, steps: Sequence[int], references: Sequence[bool]) -> list[Heading]:
    headings, last = [], before
    for step, reference in zip(steps, references, strict=True):
        sps = before.sps
        header = replace(
            before.header, idr=False, ref_idc=2 if reference else 0, first_mb=0, type="P", frame_num=_following(last),
            poc=(before.header.poc + step) % (1 << sps.poc_bits) if sps.poc_type == 0 else 0,
            marking=(("flag", 0),) if reference else ())
        last = Heading(header, sps, before.pps)
        headings.append(last)
    return headings
