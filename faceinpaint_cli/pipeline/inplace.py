"""In-loop repair for decoders that give each picture at once: it is mended in the decoder's own memory.

A decoder set to hold nothing back gives a picture out before the next packet goes in, and what it gives is the
memory that later pictures will refer to. So a hit picture is filled from its neighbours and written over, and the
decoder mends what follows. Nothing is put into the stream, so no syntax has to be written: MPEG-1, MPEG-2, MPEG-4
and HEVC, and Motion JPEG, where nothing follows. (H.264 is repaired in the stream instead, see `inloop`, and VP9 in
the decoder's references, see `inloop_vp9`.)
"""

from __future__ import annotations

import heapq
import logging
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from faceinpaint_cli.damage.evidence import Diagnosis, Onset
from faceinpaint_cli.damage.extent import lost_part, lost_rows
from faceinpaint_cli.fill.motion import Lost, Neighbour
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.coded_size import with_whole_macroblocks
from faceinpaint_cli.media.h264_nal import length_size
from faceinpaint_cli.media.hevc_sps import crops_left_or_top, unordered_packet
from faceinpaint_cli.media.optical_flow import ANOTHER_SCENE, Planes, eight_bit, flow, remainder
from faceinpaint_cli.media.planes import copy_frame, overwrite, planes_of
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.media.video_reader import read_packets, with_data
from faceinpaint_cli.pipeline.course import STEPS, WORTH, Course
from faceinpaint_cli.pipeline.inloop_group import Fill, Mended, fill_by_consensus
from faceinpaint_cli.pipeline.stand_ins import HevcStandIns, IntraStandIns, Numbered, StandIns

log = logging.getLogger(__name__)

CODED_ROW = {"mpeg1video": 16, "mpeg2video": 16, "mpeg4": 16, "hevc": 64, "mjpeg": 16}
"""The codecs that this works for, and the height of a row of their largest coded blocks in pixels."""
MPEG = frozenset(("mpeg1video", "mpeg2video", "mpeg4"))
RESUME = frozenset(("mpeg1video", "mpeg2video"))
"""Codecs whose every row of blocks begins with a code that can be found again."""
SELF_CONTAINED = frozenset(("mjpeg",))
"""Codecs whose pictures refer to none: those after a hit one are as true as those before it."""
BESIDE = 2
"""Pictures of such a codec that are looked at on each side of a hit one."""
KEPT = 8
"""Pictures kept behind the one that is decoded: enough for two before and one after it in order of display."""
AHEAD = 6
"""Packets that a second decoder is ahead, for the motion of what follows a hit picture."""
REACH = 64
"""Packets that are read ahead, to see how a group goes on and whether a keyframe follows that can tell."""
JUDGED = 8
"""Fills of one group that are likened to the decoder's concealment: each time it is decoded twice, from its start."""

Problem = Callable[[int, Exception], None]


class InPlace:
    """The pictures of a damaged stream, mended. `mended` tells what was done so far."""

    def __init__(self, diagnosis: Diagnosis, stream: av.VideoStream, fill: Fill | None = None) -> None:
        self._stream, self._fill = stream, fill or fill_by_consensus
        self._codec = diagnosis.codec
        self._prefix = length_size("hevc", stream.codec_context.extradata) if self._codec == "hevc" else 0
        self._stand_ins: StandIns | None = None
        if self._codec == "hevc":
            self._stand_ins = HevcStandIns(diagnosis, stream)
        elif self._codec not in SELF_CONTAINED:
            self._stand_ins = IntraStandIns(diagnosis, stream)
        self._hit = {self._number(o.packet): o for group in diagnosis.groups for o in group.onsets}
        if self._stand_ins:
            self._hit.update(self._stand_ins.onsets())
        self._hit_times = {onset.pts for onset in self._hit.values()}
        self._path = Path(diagnosis.path)
        starts = ((self._number(group.first), group.first) for group in diagnosis.groups)
        self._starts = [(number, first) for number, first in starts if number not in self._hit]
        # What is hidden beyond the edge is referred to all the same, so it must be filled too.
        self._whole = self._codec in MPEG or (
            self._codec == "hevc" and not crops_left_or_top(stream.codec_context.extradata))
        self._group: list[Numbered] = []  # from the last keyframe on
        self._written: dict[int, Planes] = {}  # what was put into hit pictures of that group, by number
        self.mended: list[Mended] = []

    def frames(self, packets: Iterable[av.Packet], first: int, context: Sequence[av.Packet],
               problem: Problem) -> Iterator[av.VideoFrame]:
        """The frames of a run of packets that begins with number `first`, at a keyframe, in order of display.

        `context` are the packets of the group before: hit pictures at the start are filled from it, and where HEVC's
        decoder finds nothing, it leaves what it had in memory. Errors go to `problem`, with the packet's place in the
        run.
        """
        decoder, scout = self._open(vectors=False), self._open(vectors=True)
        past: deque[tuple[int, av.VideoFrame]] = deque(maxlen=KEPT)
        for _, packet in self._numbered(context, first - len(context)):
            past.extend((f.pts, self._kept(f)) for f in tolerant.decode_one(decoder, packet)[0] if f.pts is not None)
            tolerant.decode_one(scout, packet)
        held: list[tuple[int, int, av.VideoFrame]] = []
        for following, coming in self._with_coming(scout, self._numbered(packets, first)):
            number, packet = following[0]
            least = min((p.pts for _, p in following[1:] if p.pts is not None), default=np.iinfo(np.int64).max)
            if packet.is_keyframe:
                self._group, self._written = [], {}
            self._group.append((number, packet))
            shown, error = tolerant.decode_one(decoder, packet)
            if error is not None:
                problem(number - self._number(first), error)
            while shown:
                kept = self._finished(shown.pop(0), past, coming, following)
                if kept.pts is not None:
                    past.append((kept.pts, kept))
                    heapq.heappush(held, (kept.pts, number, kept))
            while held and held[0][0] < least:
                yield self._visible(heapq.heappop(held)[2])
        for _, _, frame in sorted(held, key=lambda item: item[:2]):
            yield self._visible(frame)

    def _finished(self, frame: av.VideoFrame, past: deque[tuple[int, av.VideoFrame]], coming: dict[int, Neighbour],
                  following: Sequence[Numbered]) -> av.VideoFrame:
        """The frame, filled in the decoder's memory if it is hit, as it is held on to."""
        number, packet = following[0]
        if number in self._hit and frame.pts is not None and frame.pts == packet.pts:
            if not past:
                past.extend(self._next_key(number))
            self._mend(frame, self._hit[number], past, coming, following)
        return self._kept(frame)

    def _number(self, packet: int) -> int:
        """The number of a packet of the file among those that are decoded."""
        return self._stand_ins.number(packet) if self._stand_ins else packet

    def _numbered(self, packets: Iterable[av.Packet], first: int) -> Iterator[Numbered]:
        """The packets from number `first` of the file on, as they are decoded."""
        put_in = self._stand_ins.put_in(packets, first) if self._stand_ins else enumerate(packets, first)
        return ((number, self._readied(packet)) for number, packet in put_in)

    def _is_stand_in(self, number: int) -> bool:
        return self._stand_ins is not None and number in self._stand_ins.made

    def _kept(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, to be held on to. HEVC's decoder gives a picture that it finds nothing for the memory of an
        earlier one: whatever is let go soon is near in time, as in a player, and what is held is not there for it."""
        return copy_frame(frame) if self._codec == "hevc" else frame

    def _visible(self, frame: av.VideoFrame) -> av.VideoFrame:
        size = (self._stream.codec_context.width, self._stream.codec_context.height)
        return copy_frame(frame, size) if self._whole and (frame.width, frame.height) != size else frame

    def _with_coming(
        self, scout: av.VideoCodecContext, packets: Iterator[Numbered]
    ) -> Iterator[tuple[list[Numbered], dict[int, Neighbour]]]:
        """Each packet with those that follow it (the first of the list is the packet itself), and what a second decoder
        says of the pictures from a hit one on (by time)."""
        coming: dict[int, Neighbour] = {}
        latest: tuple[int, Planes] | None = None
        last_hit = seen = -2 * AHEAD
        for following in windows(packets, REACH):
            for number, packet in following[: AHEAD + 1]:
                if number <= seen:
                    continue
                if number in self._hit:
                    last_hit = number
                frames, _ = tolerant.decode_one(scout, packet)
                for frame in frames:
                    if frame.pts is None:
                        continue
                    if latest is not None and frame.pts == packet.pts and self._is_stand_in(number):
                        overwrite(frame, latest[1])  # then the motion of what refers to it is seen
                    if self._stand_ins and (latest is None or latest[0] < frame.pts):
                        latest = frame.pts, planes_of(frame)
                    if number - last_hit <= AHEAD:
                        coming[frame.pts] = Neighbour(frame.pts, planes_of(frame), tolerant.vectors_of(frame))
                seen = number
            yield following, coming
            if seen - last_hit > 2 * AHEAD:
                coming.clear()

    def _readied(self, packet: av.Packet) -> av.Packet:
        """The packet, without leave to hold pictures back, or to hide a part of them."""
        if self._codec not in ("hevc", *MPEG):
            return packet
        data = bytes(packet)
        try:
            changed = (unordered_packet(data, self._prefix) if self._codec == "hevc"
                       else with_whole_macroblocks(data, self._codec))
        except ValueError:  # a parameter set that is itself damaged
            return packet
        if changed == data:
            return packet
        return with_data(packet, changed)

    def _open(self, vectors: bool) -> av.VideoCodecContext:
        context = tolerant.open_decoder(self._stream, threads=False, vectors=vectors, whole=self._whole, at_once=True)
        if self._codec in MPEG and context.extradata:
            context.extradata = with_whole_macroblocks(context.extradata, self._codec)
        return context

    def _next_key(self, number: int) -> list[tuple[int, av.VideoFrame]]:
        """The first picture of the next group that begins with an intact one: all there is for the start of a file."""
        start = next((first for place, first in self._starts if place > number), None)
        if start is None:
            return []
        with open_video(self._path) as container:
            packets = islice(read_packets(container, video_stream(container, self._path)), start, start + 1)
            decoder = self._open(vectors=False)
            return [(f.pts, f) for p in packets for f in tolerant.decode_one(decoder, self._readied(p))[0]
                    if f.pts is not None]

    def _mend(self, frame: av.VideoFrame, onset: Onset, past: Iterable[tuple[int, av.VideoFrame]],
              coming: dict[int, Neighbour], following: Sequence[Numbered]) -> None:
        """Fill what is lost of `frame`, in its own memory."""
        assert frame.pts is not None
        time = frame.pts
        own = planes_of(frame)
        nothing = self._is_stand_in(following[0][0])
        near = {t: f for t, f in past if same_shape(f, frame)}  # of those that share a time one
        before = [Neighbour(t, planes_of(near[t])) for t in sorted(near, reverse=True) if t < time][:2]
        behind = [Neighbour(t, planes_of(near[t])) for t in sorted(near) if t > time][:2]
        beside = before + behind
        if not beside:
            log.warning("%s: nothing to fill the picture at %s from", self._path, self._seconds(time))
            return
        lost = np.ones(own[0].shape, bool) if nothing else self._lost(own, onset, [n.planes for n in beside[:2]])
        if not lost.any():
            return
        taken = {t for t, _ in past}
        after = [n for t, n in sorted(coming.items()) if t > time and t not in taken]
        if self._codec in SELF_CONTAINED:
            behind, after = [n for n in after if n.time not in self._hit_times][:BESIDE], []
        if after and after[0].vectors is None and time in coming:
            # Both damaged alike, and the one refers to the other: the flow between them is the motion itself.
            motion = flow(eight_bit(coming[time].planes[0]), eight_bit(after[0].planes[0]))
            after[0] = Neighbour(after[0].time, after[0].planes, None, -motion)
        picture = Lost(time, None if nothing else own, lost, before, behind, after)
        planes, how = self._fill(picture)
        if nothing:
            if len(self._written) < JUDGED:
                planes, how = self._best(frame, following, (planes, how), before[:1])
            self._written[following[0][0]] = planes
        elif picture.concealed and self._codec not in SELF_CONTAINED and len(self._written) < JUDGED:
            if self._course(following, time, planes).is_worse_than(self._course(following, time, own)):
                planes, how = own, "concealed"
            self._written[following[0][0]] = planes
        overwrite(frame, planes)
        self.mended.append(Mended(self._seconds(time), how, float(lost.mean())))

    def _best(self, frame: av.VideoFrame, following: Sequence[Numbered], filled: tuple[Planes, str],
              before: Sequence[Neighbour]) -> tuple[Planes, str]:
        """What is put where nothing of a picture is left: as it was `filled`; the picture before it, where the group
        does better with that, as decoders conceal it; or the next keyframe, where the group shows that it began that
        one's scene, for what is before a cut tells nothing of what is after it."""
        assert frame.pts is not None
        courses = [self._course(following, frame.pts, filled[0])]
        for still in before:
            courses.append(self._course(following, frame.pts, still.planes))
            if not courses[0].is_better_than(courses[1], frame.pts):
                filled = still.planes, "still"
        if min(course.misfit for course in courses) > ANOTHER_SCENE:
            for _, key in self._next_key(following[0][0]):
                if same_shape(key, frame):
                    begun = planes_of(key)
                    other = self._course(following, frame.pts, begun)
                    if all(other.misfit < course.misfit / WORTH
                           and other.jumps_after(frame.pts) < course.jumps_after(frame.pts) for course in courses):
                        return begun, "later"
        return filled

    def _course(self, following: Sequence[Numbered], time: int, planes: Planes) -> Course:
        """How the group goes on if its picture at `time`, the first of `following`, is made to be `planes`."""
        stop = next((place for place, (_, packet) in enumerate(following) if place and packet.is_keyframe), None)
        key = None if stop is None or following[stop][0] in self._hit else following[stop]
        group = [*self._group, *following[1:stop]]
        written = {**self._written, following[0][0]: planes}
        times = sorted(packet.pts for _, packet in group if packet.pts is not None)
        near = times[max(0, bisect_left(times, time) - 1) :][: STEPS + 2]
        lumas: dict[int, np.ndarray] = {}
        last: tuple[int, av.VideoFrame] | None = None
        truth: av.VideoFrame | None = None
        decoder = self._open(vectors=False)
        for number, packet in [*group, *([key] if key else [])]:
            for frame in tolerant.decode_one(decoder, packet)[0]:
                if frame.pts is None:
                    continue
                if number in written and frame.pts == packet.pts:
                    overwrite(frame, written[number])
                if key is not None and frame.pts == key[1].pts:
                    truth = frame
                elif last is None or last[0] < frame.pts:
                    last = frame.pts, frame
                if frame.pts in near:
                    lumas[frame.pts] = eight_bit(planes_of(frame)[0])
        if truth is None or last is None or not same_shape(truth, last[1]):
            return Course(math.nan, lumas)
        then, there = (eight_bit(planes_of(picture)[0]) for picture in (last[1], truth))
        return Course(float(remainder(there, then).mean()), lumas, (then, there))

    def _lost(self, own: Planes, onset: Onset, beside: Sequence[Planes]) -> np.ndarray:
        """HW bool: what looks lost, and what the decoder says that it made up."""
        row = CODED_ROW[self._codec]
        lost = lost_rows(own, beside) if self._codec in RESUME else lost_part(own, beside, row)
        if onset.concealed:
            height, width = lost.shape
            across, down = -(-width // row), -(-height // row)
            first, last = max(0, across * down - onset.concealed) // across, down
            if onset.first_error and onset.first_error[1] < first:  # it found its way again before the end
                first = max(0, onset.first_error[1] - 1)
                last = first + -(-onset.concealed // across) + 2
            lost[first * row : last * row] = True
        return lost

    def _seconds(self, time: int) -> Fraction:
        assert self._stream.time_base is not None
        return time * self._stream.time_base


def windows(packets: Iterable[Numbered], length: int) -> Iterator[list[Numbered]]:
    """Each packet with those that follow it, so many in all; fewer at the end."""
    window: deque[Numbered] = deque()
    for packet in packets:
        window.append(packet)
        if len(window) == length:
            yield list(window)
            window.popleft()
    while window:
        yield list(window)
        window.popleft()


def same_shape(a: av.VideoFrame, b: av.VideoFrame) -> bool:
    return (a.width, a.height, a.format.name) == (b.width, b.height, b.format.name)
