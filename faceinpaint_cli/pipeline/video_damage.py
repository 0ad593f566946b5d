"""A video that is damaged in its bitstream: its frames, mended in the loop, as many as there should be."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import chain, groupby, islice, pairwise
from operator import itemgetter
from typing import Any

import av
import numpy as np

from faceinpaint_cli.damage.evidence import Diagnosis
from faceinpaint_cli.fill.consensus import other_scene
from faceinpaint_cli.fill.flicker import MENDED, frames_without_flicker, repaired_part
from faceinpaint_cli.fill.motion import Neighbour, on_the_way
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.planes import can_paste, copy_frame, luma_array, overwrite, planes_of
from faceinpaint_cli.media.video_index import Group, VideoIndex, nth_video, open_video, with_missing
from faceinpaint_cli.media.video_reader import (
    DecodeLog,
    Span,
    check_size,
    decoded,
    joined_groups,
    numbered,
    read_packets,
)
from faceinpaint_cli.pipeline.drawn import Drawing
from faceinpaint_cli.pipeline.inloop import UNTIMED, InLoop
from faceinpaint_cli.pipeline.inloop import why_not as why_not_in_loop
from faceinpaint_cli.pipeline.inloop_group import Mended
from faceinpaint_cli.pipeline.inloop_vp9 import InReferences
from faceinpaint_cli.pipeline.inplace import BESIDE, CODED_ROW, SELF_CONTAINED, InPlace
from faceinpaint_cli.pipeline.stages import Stages

log = logging.getLogger(__name__)

IN_MEMORY = frozenset((*CODED_ROW, "vp9"))
"""Codecs whose pictures are mended in the decoder's memory."""
LONGEST_WAY = 64
"""Missing frames in a row up to which they are made from the frames beside them. (The farther these are apart, the less
straight is the way, but the last one shown again is worse by 3 to 5 dB, all the way up to 48 frames: 8 clips.)"""


@dataclass
class MendedFrames:
    """The frames of a damaged video.

    `source` has the missing frames put back; `damaged` (bool per frame) are those that are hit or refer to one
    that is. `why_not` says why pictures cannot be mended in the loop; then they stay as the decoder conceals them.
    `stages` draw what no picture shows; without them that stays as it is concealed.
    """

    diagnosis: Diagnosis
    source: VideoIndex
    damaged: np.ndarray
    why_not: str | None
    stages: Stages | None = None
    mended: list[Mended] = field(default_factory=list)
    repeated: int = 0

    @classmethod
    def of(cls, source: VideoIndex, diagnosis: Diagnosis, stages: Stages | None = None) -> MendedFrames:
        if source.exact:
            missing = [m.pts for g in diagnosis.groups for m in g.missing]
            source = with_missing(source, [t for t in missing if t > source.times[0]])
            damaged = np.isin(source.times, sorted(diagnosis.damaged_times()))
        else:
            damaged = np.ones(source.frames, bool)
        return cls(diagnosis, source, damaged, why_not(diagnosis), stages)

    def read(self, spans: Sequence[Span], problems: DecodeLog) -> Iterator[tuple[int, av.VideoFrame]]:
        """(number, frame) of every frame in `spans` (ascending, apart), in order of display.

        A frame that the decoder does not give lies between those beside it, or is the one before it, shown again: so
        sound stays in step.
        """
        if self.why_not is not None:
            frames = self._read_plain(spans, problems)
        elif self.diagnosis.codec in IN_MEMORY:
            frames = self._without_flicker(self._read_in_place(spans, problems), spans)
        else:
            frames = self._without_flicker(self._read_in_loop(spans, problems), spans)
        for number, frame in frames:
            if any(a <= number < b for a, b in spans):
                check_size(self.source, frame, number)
                yield number, frame

    def _without_flicker(self, mended: Iterator[tuple[int, av.VideoFrame]],
                  spans: Sequence[Span]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Mended frames whose repaired parts agree with the frames beside them.

        What was repaired is what the decoder alone shows otherwise, so all of it is decoded once more.
        """
        alone = replace(self, mended=[], repeated=0)
        streams = (((n, False, f) for n, f in alone._read_plain(spans, DecodeLog())),
                   ((n, True, f) for n, f in mended))

        def together() -> Iterator[tuple[int, av.VideoFrame, np.ndarray]]:
            for number, shown in groupby(merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
                frames = {is_mended: frame for _, is_mended, frame in shown}
                if True in frames:
                    yield number, frames[True], _repaired_part(frames[True], frames.get(False))
                elif number >= spans[-1][1] + BESIDE:
                    return
                elif any(number in (a - 1, b) for a, b in spans):
                    yield number, frames[False], _repaired_part(frames[False], None)

        return frames_without_flicker(together(), MENDED)

    def _read_in_place(self, spans: Sequence[Span], problems: DecodeLog) -> Iterator[tuple[int, av.VideoFrame]]:
        """Each picture mended in the decoder's memory; the group before each run is kept for its first picture."""
        with open_video(self.source.path) as container:
            stream = nth_video(container, self.source.stream)
            codec = self.diagnosis.codec
            how = InReferences if codec == "vp9" else InPlace
            loop = how(self.diagnosis, stream, self._fill(stream))
            packets = read_packets(container, stream)
            place = 0
            # with the picture after each span, up to which missing ones are made
            wanted = _widened(spans) if codec in SELF_CONTAINED else [(a, b + 1) for a, b in spans]
            for run in joined_groups(self.source, wanted):
                first, last = run.packets
                start = self._group_before(run).packets[0]
                deque(islice(packets, max(0, start - place)), maxlen=0)
                before = list(islice(packets, first - max(start, place)))
                frames = self._shown(loop.frames(islice(packets, last - first), first, before, problems.add))
                place = last
                yield from self._complete(numbered(self.source, frames, run.frames[0]), run.frames)
            self.mended += loop.mended

    def _read_in_loop(self, spans: Sequence[Span], problems: DecodeLog) -> Iterator[tuple[int, av.VideoFrame]]:
        """Packets mended in the stream and then decoded."""
        with open_video(self.source.path) as container:
            stream = nth_video(container, self.source.stream)
            with InLoop(self.diagnosis, self._fill(stream)) as loop:
                for run in joined_groups(self.source, spans):
                    start = self._start_of(run)
                    packets = loop.packets(start.packets[0], run.packets[1])
                    yield from self._decoded(stream, packets, start, run, problems)
                self.mended += loop.mended

    def _read_plain(self, spans: Sequence[Span], problems: DecodeLog) -> Iterator[tuple[int, av.VideoFrame]]:
        """Packets decoded as they are; with the frames beside the spans."""
        with open_video(self.source.path) as container:
            stream = nth_video(container, self.source.stream)
            plain = read_packets(container, stream)
            place = 0
            for run in joined_groups(self.source, _widened(spans)):
                start = self._start_of(run)
                packets = islice(plain, start.packets[0] - place, run.packets[1] - place)
                place = run.packets[1]
                yield from self._decoded(stream, packets, start, run, problems)

    def _decoded(self, stream: av.VideoStream, packets: Iterator[av.Packet], start: Group, run: Group,
                 problems: DecodeLog) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames of a run, of packets that begin with those of `start`."""
        # frame by frame: several at once lose whole pictures beside one that fails
        context = tolerant.open_decoder(stream, threads=False)
        frames = numbered(self.source, self._shown(decoded(context, packets, 0, problems)), start.frames[0])
        if self.diagnosis.codec == "av1":
            frames = self._without_stale(frames)
        yield from self._complete((f for f in frames if f[0] >= run.frames[0]), run.frames)

    def _without_stale(self, frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames without those of AV1 that are not what they should be: a packet may only say which picture in
        memory is to be shown (show_existing_frame), and where that was lost one stands there that was shown before."""
        shown: set[bytes] = set()
        for number, frame in frames:
            digest = hashlib.sha256(luma_array(frame).tobytes()).digest()
            if digest in shown and number < len(self.damaged) and self.damaged[number]:
                continue
            if frame.key_frame:
                shown.clear()
            shown.add(digest)
            yield number, frame

    def _start_of(self, run: Group) -> Group:
        """Where a decoder begins: the group before where the run's first picture is hit."""
        hit = any(onset.packet == run.packets[0] for group in self.diagnosis.groups for onset in group.onsets)
        return self._group_before(run) if hit else run

    def _fill(self, stream: av.VideoStream) -> Drawing | None:
        return Drawing(self.stages, stream) if self.stages is not None else None

    def _group_before(self, run: Group) -> Group:
        """The group before a run, which a decoder conceals the run's first picture from; the run where there is none.
        """
        return next((g for g in reversed(self.source.groups) if g.packets[0] < run.packets[0]), run)

    def _shown(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Without what the container hides: a packet that is made anew cannot say so."""
        hidden = {p.pts for p in self.diagnosis.pictures if p.discard and p.pts is not None}
        return (frame for frame in frames if frame.pts not in hidden)

    def _complete(self, found: Iterator[tuple[int, av.VideoFrame]],
                  frames: Span) -> Iterator[tuple[int, av.VideoFrame]]:
        """All numbers of a run; the missing ones between the frames beside them where they are few, else the nearest
        one before, or the first."""
        expected = frames[0]
        earlier: av.VideoFrame | None = None  # with `last` the two before a gap, without one between them
        last: av.VideoFrame | None = None
        for (number, frame), later in pairwise(chain(found, [(frames[1], None)])):
            if number >= frames[1]:
                break
            if last is not None and self._has_way(last, frame, number - expected):
                beside = later[1] if later[0] == number + 1 else None
                yield from self._between(last, frame, range(expected, number), earlier, beside)
            else:
                for gap in range(expected, number):
                    self.repeated += 1
                    yield gap, copy_frame(frame if last is None else last)
            yield number, frame
            earlier, last = last if expected == number else None, frame
            expected = number + 1
        if last is None:
            return
        for gap in range(expected, frames[1]):
            self.repeated += 1
            yield gap, copy_frame(last)

    def _has_way(self, a: av.VideoFrame, b: av.VideoFrame, count: int) -> bool:
        """Whether `count` frames between two can be made from both."""
        if not self.source.exact or a.pts is None or b.pts is None or a.pts >= b.pts:
            return False
        if not 0 < count <= LONGEST_WAY or not can_paste(a.format.name) or len(a.planes) < 3:
            return False
        if (a.width, a.height, a.format.name) != (b.width, b.height, b.format.name):
            return False
        return not other_scene(planes_of(a), planes_of(b))

    def _between(self, a: av.VideoFrame, b: av.VideoFrame, numbers: range, earlier: av.VideoFrame | None,
                 later: av.VideoFrame | None) -> Iterator[tuple[int, av.VideoFrame]]:
        """(number, frame) on the way from one to the next; `earlier` and `later` are those beside them, if these come
        out and tell how fast all moves."""
        before = _as_neighbour(earlier) if earlier is not None and self._has_way(earlier, a, 1) else None
        behind = _as_neighbour(later) if later is not None and self._has_way(b, later, 1) else None
        times = [int(self.source.times[number]) for number in numbers]
        made_of = on_the_way(_as_neighbour(a), _as_neighbour(b), times, before, behind)
        for number, time, planes in zip(numbers, times, made_of, strict=True):
            made = copy_frame(a)
            made.pts = time
            overwrite(made, planes)
            self.mended.append(Mended(time * self.source.time_base, "between", 1.0))
            yield number, made

    def report(self) -> dict[str, Any]:
        """What was found and done, for the report."""
        found = self.diagnosis.to_dict()
        if self.why_not:
            found["not_mended"] = self.why_not
        if self.repeated:
            found["frames_repeated"] = self.repeated
        found["mended"] = [{"seconds": float(m.time), "how": m.how, "area": round(m.lost, 4)} for m in self.mended]
        return found


def _repaired_part(frame: av.VideoFrame, concealed: av.VideoFrame | None) -> np.ndarray:
    """How far each pixel of a frame may be changed (HW float32): not at all where nothing tells what was repaired."""
    if concealed is not None and concealed.format.name == frame.format.name and can_paste(frame.format.name):
        luma, beside = luma_array(frame), luma_array(concealed)
        if luma.shape == beside.shape:
            return repaired_part(luma, beside)
    return np.zeros((frame.height, frame.width), np.float32)


def _as_neighbour(frame: av.VideoFrame) -> Neighbour:
    assert frame.pts is not None
    return Neighbour(frame.pts, planes_of(frame))


def _widened(spans: Sequence[Span]) -> list[Span]:
    """The spans with the pictures beside them that a fill may take from."""
    return [(max(0, a - BESIDE), b + BESIDE) for a, b in spans]


def why_not(diagnosis: Diagnosis) -> str | None:
    """Why this file's pictures cannot be repaired in the decoder's loop; None where they can."""
    if diagnosis.codec not in IN_MEMORY:
        return why_not_in_loop(diagnosis)
    return UNTIMED if any(p.pts is None for p in diagnosis.pictures) else None
