"""Stretches of a Matroska or WebM file that are none: where a disk or a line lost data between and across its elements.

A reader that meets such a stretch goes on at the next cluster, and leaves out up to five seconds of whole blocks. Here
the next whole block is looked for, and in a copy the stretch before it becomes a Void element, which readers pass over
(RFC 8794, RFC 9559).
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faceinpaint_cli.media.matroska_aspect import void_head

Stretch = tuple[int, int]
"""Bytes of a file from, up to without."""
EBML, SEGMENT, CLUSTER, TRACKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B
SIMPLE_BLOCK, BLOCK_GROUP, BLOCK, VOID, CRC, TIMESTAMP = 0xA3, 0xA0, 0xA1, 0xEC, 0xBF, 0xE7
TOP = frozenset((CLUSTER, TRACKS, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, VOID, CRC))
"""Elements of a segment: clusters, tracks, seek head, info, cues, attachments, chapters, tags."""
INNER = frozenset((SIMPLE_BLOCK, BLOCK_GROUP, VOID, CRC, TIMESTAMP, 0xA7, 0xAB, 0x5854, 0xAF))
"""Elements of a cluster: blocks, its time and position, the size of the one before, silent tracks, encrypted blocks."""
LONGEST = {TIMESTAMP: 8, 0xA7: 8, 0xAB: 8, CRC: 4}
"""Bytes of the content of such small elements at most."""
BACK = 300
"""Ticks of time, milliseconds as a rule, by which a block lies before the last one of its track at most: where it is
more, the head of a cluster with the time that blocks count from is lost between them."""
NOTHING = 16
"""A block of which so many bytes after the number of its track are zero has lost its time."""
SMALLEST_VOID = 2


@dataclass(frozen=True)
class _Element:
    kind: int
    begin: int
    """Where its content begins."""
    end: int | None
    """Where it ends, None where that is not said."""


@dataclass(frozen=True)
class Gaps:
    """What is wrong with a file: `stretches` are no elements, `open` are the sizes of clusters that do not end where
    they say."""

    stretches: tuple[Stretch, ...]
    open: tuple[Stretch, ...]


def find_gaps(path: Path) -> Gaps | None:
    """None where the file is whole, or no Matroska file that can be read from its start."""
    with path.open("rb") as file:
        if file.read(4) != EBML.to_bytes(4, "big"):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            gaps = _Walk(data).gaps()
    return gaps if gaps is not None and gaps.stretches else None


def copy_without_gaps(source: Path, target: Path, gaps: Gaps) -> None:
    """Copy `source` to `target`, of the same size and with every block in its place; readers pass over the gaps.

    Raises OSError where the copy cannot be written.
    """
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for start, stop in gaps.stretches:
            file.seek(start)
            file.write(void_head(stop - start))
        for start, stop in gaps.open:
            length = stop - start
            file.seek(start)
            file.write(((1 << 7 * length + 1) - 1).to_bytes(length, "big"))  # all ones: unknown


class _Walk:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._size = data, len(data)
        self._tracks: frozenset[int] = frozenset()
        self._times: dict[int, int] = {}
        """Of each track the time of its last block in this cluster."""

    def gaps(self) -> Gaps | None:
        head = self._element(0)
        segment = self._element(head.end) if head is not None and head.end is not None else None
        if segment is None or segment.kind != SEGMENT:
            return None
        stretches: list[Stretch] = []
        opened: list[Stretch] = []
        cluster: tuple[int, _Element] | None = None
        at = segment.begin
        while at < self._size:
            element = self._element(at)
            inner = cluster is not None and element is not None and self._fits_inner(element)
            if element is None or not (inner or self._fits_top(element)):
                if not self._tracks:  # what is lost is the head of the file
                    return None
                following = self._next(at + SMALLEST_VOID, cluster[1] if cluster else None)
                stretches += [(at, following)] if following < self._size else []
                at = following
                continue
            if not inner and cluster is not None:
                opened += self._misjudged(*cluster, at)
                cluster = None
            following = element.end if element.kind != CLUSTER and element.end is not None else element.begin
            if cluster is not None and not self._follows(following):
                resumed = self._next(at + SMALLEST_VOID, cluster[1])
                if resumed < following:  # it is not so long as it says
                    following = resumed
                    stretches.append((at, following))
            elif inner and self._begins_in_nothing(element):
                stretches.append((at, following))
                at = following
                continue
            elif element.kind == CLUSTER:
                cluster, self._times = (at, element), {}
            elif element.kind == TRACKS:
                self._tracks = frozenset(self._track_numbers(element))
                if not self._tracks:
                    return None
            if inner and following == element.end and (block := self._block_head(element)) is not None:
                self._times[block[0]] = block[1]
            at = following
        if cluster is not None:
            opened += self._misjudged(*cluster, self._size)
        return Gaps(tuple(stretches), tuple(opened) if stretches else ())

    def _misjudged(self, start: int, cluster: _Element, end: int) -> list[Stretch]:
        """Where the size of a cluster stands that is said and does not lead to its end."""
        return [] if cluster.end in (None, end) else [(start + 4, cluster.begin)]

    def _element(self, at: int) -> _Element | None:
        """What may be an element, with an end in the file."""
        first = self._data[at] if at < self._size else 0
        length = 9 - first.bit_length()
        if not first or length > 4 or at + length >= self._size:
            return None
        kind = int.from_bytes(self._data[at : at + length], "big")
        place = at + length
        width = 9 - self._data[place].bit_length()
        if width > 8 or place + width > self._size:
            return None
        coded = int.from_bytes(self._data[place : place + width], "big")
        size, unknown = coded & (1 << 7 * width) - 1, coded == (1 << 7 * width + 1) - 1
        begin = place + width
        if unknown:
            return _Element(kind, begin, None) if kind in (SEGMENT, CLUSTER) else None
        if begin + size > self._size and kind not in (SEGMENT, CLUSTER):
            return None
        return _Element(kind, begin, begin + size)

    def _fits_top(self, element: _Element) -> bool:
        if element.kind == CLUSTER:
            inner = self._element(element.begin)
            return inner is not None and inner.kind in INNER
        return element.kind in TOP and element.end is not None

    def _fits_inner(self, element: _Element) -> bool:
        """Whether it may stand in a cluster."""
        if element.kind not in INNER or element.end is None:
            return False
        if element.end - element.begin > LONGEST.get(element.kind, self._size):
            return False
        block = self._block_head(element)
        return element.kind not in (SIMPLE_BLOCK, BLOCK_GROUP) or (block is not None and block[0] in self._tracks)

    def _block_head(self, element: _Element) -> tuple[int, int] | None:
        """(number of the track, time after that of the cluster) of a block, or of that in a group."""
        if element.kind == BLOCK_GROUP:
            at = element.begin
            while element.end is not None and at < element.end:
                inner = self._element(at)
                if inner is None or inner.end is None or inner.end > element.end:
                    return None
                if inner.kind == BLOCK:
                    element = inner
                    break
                at = inner.end
        if element.kind not in (SIMPLE_BLOCK, BLOCK) or element.end is None:
            return None
        first = self._data[element.begin] if element.begin < self._size else 0
        length = 9 - first.bit_length()
        if length > 2 or element.begin + length + 3 > element.end:
            return None
        track = int.from_bytes(self._data[element.begin : element.begin + length], "big") & (1 << 7 * length) - 1
        place = element.begin + length
        return track, int.from_bytes(self._data[place : place + 2], "big", signed=True)

    def _begins_in_nothing(self, element: _Element) -> bool:
        """Whether a block's time and the first of its data are zero, though blocks of its track came before it."""
        block = self._block_head(element)
        return (element.kind == SIMPLE_BLOCK and block is not None and self._times.get(block[0], 0) > 0
                and not any(self._data[element.begin + 1 : element.begin + NOTHING]))

    def _follows(self, at: int) -> bool:
        """Whether something that is whole begins there, or the file ends."""
        element = self._element(at)
        return at == self._size or (element is not None and (self._fits_top(element) or self._fits_inner(element)))

    def _next(self, start: int, cluster: _Element | None) -> int:
        """Where the next block of the cluster begins, itself followed by something whole, or else the next cluster; the
        end of the file where there is none."""
        for at in self._candidates(start, blocks=cluster is not None):
            element = self._element(at)
            if element is None:
                continue
            if element.kind == CLUSTER:
                if self._fits_top(element):
                    return at
            elif cluster is not None and element.end is not None and self._fits_inner(element):
                block = self._block_head(element)
                if block is None or not self._follows(element.end):
                    continue
                if at >= (cluster.end or self._size) or block[1] < self._times.get(block[0], block[1]) - BACK:
                    cluster = None  # it belongs to one whose head is lost
                else:
                    return at
        return self._size

    def _candidates(self, start: int, blocks: bool) -> Iterator[int]:
        """Where clusters, and if wished blocks, may begin, from `start` on."""
        marks: Sequence[bytes] = (CLUSTER.to_bytes(4, "big"), *((b"\xa3", b"\xa0") if blocks else ()))
        places = [self._data.find(mark, start) for mark in marks]
        while any(place >= 0 for place in places):
            at = min(place for place in places if place >= 0)
            yield at
            places = [self._data.find(mark, at + 1) if place == at else place
                      for mark, place in zip(marks, places, strict=True)]

    def _track_numbers(self, tracks: _Element) -> Iterator[int]:
        entry, number = 0xAE, 0xD7
        at = tracks.begin
        while tracks.end is not None and at < tracks.end:
            track = self._element(at)
            if track is None or track.end is None:
                return
            inner = track.begin
            while track.kind == entry and inner < track.end:
                element = self._element(inner)
                if element is None or element.end is None:
                    return
                if element.kind == number:
                    yield int.from_bytes(self._data[element.begin : element.end], "big")
                inner = element.end
            at = track.end
