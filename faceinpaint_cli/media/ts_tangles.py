"""Transport streams as recorders and networks leave them: packets that come twice or change places, bytes between them
that are none, and times that begin anew where recordings are joined (ISO/IEC 13818-1, 2.4.3).

Readers take all of that for damage, or lose step. Here it is found by the counters of the packets and undone in a copy.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from faceinpaint_cli.media.ts_programs import PACKET, SYNC, TIMED_PACKET, packing

BLOCK = 1 << 16
"""Packets that are looked at together."""
NOTHING_PID = 0x1FFF
LONG_AGO = 15
"""Packets of a stream after which its counter, of four bits, is the same again."""
BACK = 45_000
"""Ticks of 1/90000 s by which times go back where another recording begins; less is what reordered packets do."""
CYCLE = 1 << 33
"""Ticks after which times begin anew by themselves."""
TIMED_STREAMS = (0xBD, *range(0xC0, 0xF0))
"""Kinds of elementary streams that have times: private ones, audio, video (2.4.3.7)."""
VIDEO_STREAMS = range(0xE0, 0xF0)


@dataclass
class Tangles:
    """What is wrong with a file whose packets are `step` bytes apart, by places in it: `runs` are places of first
    packets and numbers of those that follow in step, `doubled` came before, in place of `moved` ones others stand;
    `resumed` are places from which on the times of a stream, by PID, are so many ticks too early. `stray` counts bytes
    that are no packets."""

    step: int
    runs: list[tuple[int, int]] = field(default_factory=list)
    doubled: set[int] = field(default_factory=set)
    moved: dict[int, int] = field(default_factory=dict)
    resumed: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    stray: int = 0

    @property
    def misleading(self) -> bool:
        """Whether readers take a whole video for damaged."""
        return bool(self.doubled or self.moved or self.stray)

    @property
    def joints(self) -> int:
        """How often times begin anew."""
        return max((len(places) for places in self.resumed.values()), default=0)

    def __str__(self) -> str:
        told = [(len(self.doubled), "packets came twice"), (len(self.moved), "packets changed places"),
                (self.stray, "bytes are no packets"), (self.joints, "recordings begin anew in it")]
        return ", ".join(f"{count} {what}" for count, what in told if count)


def find_tangles(path: Path) -> Tangles | None:
    """None where the file is in order, or no transport stream."""
    with path.open("rb") as file:
        head = file.read(PACKET * 16)
        step, start = packing(head)
        if len(head) < 5 * step or any(head[start + step * i] != SYNC for i in range(2)):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _Walk(data, step, start).tangles()
    return found if found.misleading or found.resumed else None


def copy_untangled(source: Path, target: Path, tangles: Tangles) -> None:
    """Copy `source` to `target` in order. Raises OSError where the copy cannot be written."""
    step = tangles.step
    lead = TIMED_PACKET - PACKET if step == TIMED_PACKET else 0
    with source.open("rb") as file, target.open("wb") as out:
        for start, count in tangles.runs:
            file.seek(start - lead)
            rows = np.zeros((count, step), np.uint8)
            data = np.frombuffer(file.read(count * step), np.uint8)
            rows.reshape(-1)[: len(data)] = data
            packets = rows[:, lead : lead + PACKET]
            packets[:, 0] = SYNC
            places = range(start, start + count * step, step)
            for number in [i for i, place in enumerate(places) if place in tangles.moved]:
                file.seek(tangles.moved[places[number]])
                packets[number] = np.frombuffer(file.read(PACKET), np.uint8)
            if tangles.resumed:
                _continue_times(packets, places, tangles.resumed)
            kept = np.array([place not in tangles.doubled for place in places])
            out.write(rows[kept, : lead + PACKET].tobytes())


def _continue_times(packets: np.ndarray, places: Sequence[int], resumed: Mapping[int, list[tuple[int, int]]]) -> None:
    """Set the times in packets (N x 188 bytes), in place, later as they should be."""
    timed = (packets[:, 1] & 0x40 > 0) | (packets[:, 3] & 0x20 > 0)
    for number in np.flatnonzero(timed).tolist():
        packet = packets[number].tobytes()
        place, pid = places[number], (packet[1] & 31) << 8 | packet[2]
        late = sum(ticks for since, ticks in resumed.get(pid, ()) if since <= place)
        if late:
            packets[number] = np.frombuffer(_later(packet, late), np.uint8)


class _Walk:
    def __init__(self, data: mmap.mmap, step: int, start: int) -> None:
        self._data, self._start = data, start
        self._bytes = np.frombuffer(data, np.uint8)
        self._found = Tangles(step)
        self._tails: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._times: dict[int, list[tuple[int, int]]] = {}
        self._video: int | None = None

    def tangles(self) -> Tangles:
        try:
            for start, count in self._runs():
                self._found.runs.append((start, count))
                self._look(start, count)
            self._find_joints()
        finally:
            del self._bytes  # the map cannot be closed before
        return self._found

    def _runs(self) -> Iterator[tuple[int, int]]:
        """(place, number of packets) of what is in step, in pieces of a block at most."""
        step, size, at = self._found.step, len(self._data), self._start
        self._found.stray = at if step != TIMED_PACKET else 0
        while at + PACKET <= size:
            marks = self._bytes[at : min(size - PACKET + 1, at + BLOCK * step) : step] == SYNC
            count = len(marks) if marks.all() else int(np.argmin(marks))
            if count:
                yield at, count
            at += count * step
            if count < len(marks):
                following = self._resumes(at + 1)
                if following == at + step:  # its first byte alone may be wrong
                    self._found.stray += 1
                    yield at, 1
                else:
                    self._found.stray += following - at
                at = following

    def _resumes(self, start: int) -> int:
        """Where packets are in step again from `start` on; the end of the file where they never are."""
        step, size = self._found.step, len(self._data)
        at = self._data.find(bytes([SYNC]), start)
        while at >= 0:
            if all(place >= size or self._data[place] == SYNC for place in (at + step, at + 2 * step, at + 3 * step)):
                return at
            at = self._data.find(bytes([SYNC]), at + 1)
        return size

    def _look(self, start: int, count: int) -> None:
        step = self._found.step
        rows = np.lib.stride_tricks.as_strided(self._bytes[start:], (count, 4), (step, 1))
        pids = (rows[:, 1].astype(np.int32) & 31) << 8 | rows[:, 2]
        places = start + step * np.arange(count, dtype=np.int64)
        filled = rows[:, 3] & 0x10 > 0
        for pid in np.unique(pids[filled]).tolist():
            if pid == NOTHING_PID:
                continue
            mine = filled & (pids == pid)
            begun = places[mine & (rows[:, 1] & 0x40 > 0)].tolist()
            if pid not in self._times:  # tables are said again as they are
                if not any(_is_timed(self._data[place : place + PACKET]) for place in begun):
                    continue
                self._times[pid] = []
            self._follow(pid, places[mine], rows[mine, 3] & 15)
            for place in begun:
                if place not in self._found.doubled:
                    self._take_time(pid, place)
        del rows

    def _follow(self, pid: int, places: np.ndarray, counts: np.ndarray) -> None:
        """The packets of one stream: which of them came before, and which changed places."""
        old_places, old_counts = self._tails.get(pid, (places[:0], counts[:0]))
        places, counts = np.concatenate([old_places, places]), np.concatenate([old_counts, counts])
        self._tails[pid] = places[-2 * LONG_AGO :], counts[-2 * LONG_AGO :]
        steps = np.diff(counts.astype(np.int16)) & 15
        at = 0
        for broken in (np.flatnonzero(steps != 1) + 1).tolist():
            if broken < max(at, len(old_places)):
                continue
            at = broken
            while at < len(places) and self._came_before(places, counts, at):
                self._found.doubled.add(int(places[at]))
                at += 1
            if at == broken:
                self._put_in_order(places, counts, at)

    def _came_before(self, places: np.ndarray, counts: np.ndarray, at: int) -> bool:
        for earlier in range(at - 1, max(-1, at - 2 * LONG_AGO), -1):
            if counts[earlier] == counts[at] and int(places[earlier]) not in self._found.doubled:
                a, b = (self._data[p : p + PACKET] for p in (int(places[earlier]), int(places[at])))
                return a[:4] == b[:4] and a[12:] == b[12:]  # between them may be a clock, which goes on
        return False

    def _put_in_order(self, places: np.ndarray, counts: np.ndarray, at: int) -> None:
        """Where the packets that are missing before the one at `at` come soon after it, and fill the gap."""
        if at == 0:
            return
        first = (int(counts[at - 1]) + 1) & 15
        missing = (int(counts[at]) - first) & 15
        for late in range(at + 1, min(len(counts) - missing, at + LONG_AGO + 1)):
            order = [*range(late, late + missing), *range(at, late)]
            wanted = [(first + i) & 15 for i in range(len(order) + 1)]
            if [int(counts[i]) for i in (*order, late + missing)][: len(wanted)] == wanted:
                for slot, taken in zip(range(at, late + missing), order, strict=True):
                    self._found.moved[int(places[slot])] = int(places[taken])
                return

    def _take_time(self, pid: int, place: int) -> None:
        """The time of decoding of a packet of an elementary stream that begins there."""
        packet = self._data[place : place + PACKET]
        if not _is_timed(packet):
            return
        at = _payload(packet)
        told = packet[at + 7] >> 6
        if told & 2:
            self._times[pid].append((place, _time(packet, at + 9 + 5 * (told == 3))))
            if packet[at + 3] in VIDEO_STREAMS and self._video is None:
                self._video = pid

    def _find_joints(self) -> None:
        """Where the times of the first video go back for good, and then of the streams beside it."""
        if self._video is None:
            return
        joints = list(_joints(self._times[self._video]))
        for pid, times in self._times.items() if joints else ():
            own = [place for place, _ in _joints(times)]
            self._found.resumed[pid] = [(min(own, key=lambda p: abs(p - place), default=place), late)
                                        for place, late in joints]


def _joints(times: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(place, ticks by which what begins there is too early) in a stream of (place, time)."""
    steps = [_signed(b[1] - a[1]) for a, b in pairwise(times)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    for i, step in enumerate(steps):
        goes_on = steps[i + 1 : i + 3]
        if step < -BACK and len(goes_on) == 2 and all(0 <= s < BACK for s in goes_on):
            yield times[i + 1][0], usual - step


def _signed(ticks: int) -> int:
    return (ticks + CYCLE // 2) % CYCLE - CYCLE // 2


def _is_timed(packet: bytes) -> bool:
    """Whether a packet begins one of an elementary stream that may have a time."""
    at = _payload(packet)
    return packet[at : at + 3] == b"\0\0\1" and len(packet) >= at + 19 and packet[at + 3] in TIMED_STREAMS


def _payload(packet: bytes) -> int:
    return 5 + packet[4] if packet[3] & 0x20 else 4


def _time(packet: bytes, at: int) -> int:
    a, b, c, d, e = packet[at : at + 5]
    return (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1


def _later(packet: bytes, ticks: int) -> bytes:
    """A packet with its clock and its times so much later."""
    changed = bytearray(packet)
    if packet[3] & 0x20 and packet[4] >= 7 and packet[5] & 0x10:
        clock = int.from_bytes(packet[6:12], "big")
        base = ((clock >> 15) + ticks) % CYCLE
        changed[6:12] = (base << 15 | clock & 0x7FFF).to_bytes(6, "big")
    at = _payload(packet)
    if packet[1] & 0x40 and _is_timed(packet):
        for number in range({2: 1, 3: 2}.get(packet[at + 7] >> 6, 0)):
            place = at + 9 + 5 * number
            time = (_time(packet, place) + ticks) % CYCLE
            changed[place : place + 5] = bytes((packet[place] & 0xF1 | time >> 29 & 0xE, time >> 22 & 255,
                                                time >> 14 & 0xFE | 1, time >> 7 & 255, time << 1 & 0xFE | 1))
    return bytes(changed)
