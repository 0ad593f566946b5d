"""In-loop repair of H.264: a damaged picture is filled once and put back into the stream, and the decoder mends
the rest.

Later pictures spread the damage only because they refer to the damaged one; their own residuals are intact. So
each hit picture (an onset) is filled from its neighbours, written as a picture of raw samples with the same
header, and takes the damaged packet's place: the decoder then rebuilds what follows from true data. Pictures
whose packets are missing are put back the same way, with the header that their neighbours imply.

Packets go through in decoding order, one group at a time: groups without damage as they are, of damaged
ones the compressed packets are held, never all the decoded pictures.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from faceinpaint_cli.damage.evidence import Diagnosis
from faceinpaint_cli.media.h264_substitute import Substituter
from faceinpaint_cli.media.untimed import timed
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.pipeline.inloop_decoder import Coded
from faceinpaint_cli.pipeline.inloop_group import Fill, Group, Mended, fill_by_consensus

LONGEST_GROUP = 240
"""Pictures; a group is decoded several times for each hit one in it, so that long ones are cut where that can be."""
UNTIMED = "its packets have no times; put it into a container that gives them first, as mkvmerge -o OUT.mkv IN does"


def why_not(diagnosis: Diagnosis) -> str | None:
    """Why this file's pictures cannot be repaired in the loop; None where they can."""
    if diagnosis.codec != "h264":
        return f"{diagnosis.codec} pictures cannot be put back into the stream"
    if any(p.pts is None for p in diagnosis.pictures):
        return UNTIMED
    with open_video(Path(diagnosis.path)) as container:
        stream = video_stream(container, Path(diagnosis.path))
        substituter = Substituter(stream.codec_context.extradata)
        for packet in islice((p for p in container.demux(stream) if p.size), 250):
            heading = substituter.heading(bytes(packet))
            if heading is not None:
                return substituter.refusal(heading)
    return "no readable picture header"


class InLoop:
    """The packets of a damaged H.264 file's video stream, mended.

    Use as a context manager; `packets` may be asked for ascending, separate ranges. `mended` tells what was done
    so far. `fill` turns a lost picture into planes (for tests and measurements); by default from the guesses
    of `candidates` by `fill_lost`.
    """

    def __init__(self, diagnosis: Diagnosis, fill: Fill | None = None) -> None:
        self.diagnosis, self._fill = diagnosis, fill or fill_by_consensus
        self.mended: list[Mended] = []
        self._opened = open_video(Path(diagnosis.path))

    def __enter__(self) -> InLoop:
        container = self._opened.__enter__()
        self._stream = video_stream(container, Path(self.diagnosis.path))
        self._substituter = Substituter(self._stream.codec_context.extradata)
        self._groups = self._read_groups(container)
        self._next: list[Coded] | None = next(self._groups, None)
        self._last: list[Coded] = []
        return self

    def __exit__(self, *exception: Any) -> None:
        self._groups.close()
        self._opened.__exit__(*exception)

    def packets(self, first: int, last: int) -> Iterator[av.Packet]:
        """Packets `first` to `last` (exclusive) of the file, damaged ones replaced and missing ones put back.

        Both ends must be ends of closed groups (no picture of one refers to another).
        """
        while self._next:
            numbers = [c.number for c in self._next if c.number is not None]
            if numbers[0] >= last:
                return
            group = self._next
            self._next = next(self._groups, None)
            if numbers[0] >= first:
                if any(c.hit for c in group):
                    self.mended += Group(self._stream, self._substituter, self._fill, group, self._last,
                                         self._next or []).repair()
                yield from (c.packet(self._stream.time_base) for c in group if c.data)
            self._last = group

    def _read_groups(self, container: av.container.InputContainer) -> Generator[list[Coded], None, None]:
        """The file's packets cut into groups, with the missing ones in their places."""
        pictures = self.diagnosis.pictures
        onsets = {o.packet: o for g in self.diagnosis.groups for o in g.onsets}
        missing = [m for g in self.diagnosis.groups for m in g.missing]
        packets = (p for p in timed(container.demux(self._stream), container) if p.size)
        for first, last in pairwise(group_edges([(p.starts, p.pts or 0) for p in pictures])):
            damaged = any(first <= n < last for n in onsets) or any(first < m.before <= last for m in missing)
            group: list[Coded] = []
            for number, packet in zip(range(first, last), packets, strict=False):
                data = bytes(packet)
                coded = Coded(number, packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, data,
                              number in onsets, onsets.get(number))
                if damaged or coded.keyframe:
                    coded.heading = self._substituter.heading(data)
                group += [_absent(m.pts, packet) for m in missing if m.before == number and number > first]
                group.append(coded)
            if group:
                end = [_absent(m.pts, packet) for m in missing if m.before == last]
                yield [*group, *end]


def _absent(pts: int, following: av.Packet) -> Coded:
    return Coded(None, pts, None, following.duration or 0, False, b"", True)


def group_edges(pictures: Sequence[tuple[bool, int]], longest: int = LONGEST_GROUP) -> list[int]:
    """Edges of groups, for (keyframe, pts) in decoding order: cut before each keyframe that is shown after all that
    come before it and before all that follow.

    Where such keyframes are farther apart than `longest` pictures, also before some that open groups begin with:
    pictures that follow those and are shown before them refer to the group before, but to no other.
    """
    times = np.array([t for _, t in pictures], np.int64)
    before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(times)[:-1]])
    after = np.minimum.accumulate(times[::-1])[::-1]
    keys = np.array([k for k, _ in pictures], bool)
    edges = [0]
    for place in np.flatnonzero(keys & (before < times)).tolist():
        if place and (after[place] == times[place] or place - edges[-1] >= longest):
            edges.append(place)
    return sorted({*edges, len(pictures)})
