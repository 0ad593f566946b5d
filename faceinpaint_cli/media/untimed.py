"""Pictures of a transport stream whose times are lost with their first packet, while later slices of them are left.

A reader gives them without times, in the middle of others. They belong into the gap that they leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

Times = dict[int, tuple[int, int]]
"""(time of display, time of decoding) by the number of the packet in its stream."""


def timed(packets: Iterable[av.Packet], container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets of a file, from its start on; to those of transport streams that have no times, but others around
    them do, their times are given."""
    if container.format.name != "mpegts":
        yield from packets
        return
    path = Path(container.name)
    stamp = path.stat()
    missing = _missing_times(str(path), stamp.st_size, stamp.st_mtime_ns)
    numbers: Counter[int] = Counter()
    for packet in packets:
        if packet.size and packet.stream_index in missing:
            times = missing[packet.stream_index].get(numbers[packet.stream_index])
            numbers[packet.stream_index] += 1
            if times is not None:
                packet.pts, packet.dts = times
        yield packet


@lru_cache(maxsize=8)
def _missing_times(name: str, size: int, changed: int) -> dict[int, Times]:
    """The times to be given, by stream; of video streams that lack some."""
    read: dict[int, list[tuple[int | None, int | None]]] = {}
    with av.open(name, metadata_errors="replace") as container:
        try:
            for packet in container.demux(*container.streams.video) if container.streams.video else ():
                if packet.size:
                    read.setdefault(packet.stream_index, []).append((packet.pts, packet.dts))
        except av.FFmpegError:  # what is behind it is not read at all
            pass
    found = {stream: completed(times) for stream, times in read.items() if any(pts is None for pts, _ in times)}
    return {stream: times for stream, times in found.items() if times}


def completed(given: list[tuple[int | None, int | None]]) -> Times:
    """Times for the packets that have none, from those (display, decoding) of all of a stream, in its order; empty
    where times are not even, or most are missing."""
    known = [(i, pts, dts) for i, (pts, dts) in enumerate(given) if pts is not None and dts is not None]
    if len(known) < 0.8 * len(given):
        return {}
    steps = Counter(b[2] - a[2] for a, b in pairwise(known) if b[0] == a[0] + 1)
    step = steps.most_common(1)[0][0] if steps else 0
    if step <= 0:
        return {}
    ahead = {pts - dts for _, pts, dts in known}
    shown = np.array(sorted(pts for _, pts, _ in known))
    found: Times = {}
    for (first, _, start), (last, _, end) in pairwise([(-1, 0, None), *known, (len(given), 0, None)]):
        lost = range(first + 1, last)
        if not lost:
            continue
        if start is not None and end is not None and round((end - start) / step) <= len(lost):
            return {}  # there is no room for them
        for number in lost:  # what follows them is whole: they are next to it
            dts = (start or 0) + step * (number - first) if end is None else end - step * (last - number)
            pts = dts + min(ahead)
            if len(ahead) > 1:  # reordered: the first free place from then on
                while np.abs(shown - pts).min() < step / 2:
                    pts += step
                shown = np.append(shown, pts)
            found[number] = pts, dts
    return found
