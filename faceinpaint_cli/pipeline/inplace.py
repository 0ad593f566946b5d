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
from faceinpaint_cli.media.h264_nal import length_size
from faceinpaint_cli.media.hevc_sps import crops_left_or_top, unordered_packet
from faceinpaint_cli.media.optical_flow import Planes, eight_bit, flow
from faceinpaint_cli.media.planes import copy_frame, overwrite, planes_of
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.media.video_reader import read_packets, with_data
from faceinpaint_cli.pipeline.inloop_group import Fill, Mended, fill_by_consensus

log = logging.getLogger(__name__)

CODED_ROW = {"mpeg1video": 16, "mpeg2video": 16, "mpeg4": 16, "hevc": 64, "mjpeg": 16}
"""The codecs that this works for, and the height of a row of their largest coded blocks in pixels."""
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

Problem = Callable[[int, Exception], None]


class InPlace:
    """The pictures of a damaged stream, mended. `mended` tells what was done so far."""

    def __init__(self, diagnosis: Diagnosis, stream: av.VideoStream, fill: Fill | None = None) -> None:
        self._stream, self._fill = stream, fill or fill_by_consensus
        self._codec = diagnosis.codec
        self._prefix = length_size("hevc", stream.codec_context.extradata) if self._codec == "hevc" else 0
        self._hit = {onset.packet: onset for group in diagnosis.groups for onset in group.onsets}
        self._hit_times = {onset.pts for onset in self._hit.values()}
        self._path = Path(diagnosis.path)
        self._starts = [group.first for group in diagnosis.groups if group.first not in self._hit]
        # What is hidden beyond the edge is referred to all the same, so it must be filled too.
        self._whole = self._codec == "hevc" and not crops_left_or_top(stream.codec_context.extradata)
        self.mended: list[Mended] = []

    def frames(self, packets: Iterable[av.Packet], first: int, context: Sequence[av.Packet],
               problem: Problem) -> Iterator[av.VideoFrame]:
        """The frames of a run of packets that begins with number `first`, at a keyframe, in order of display.

        `context` are the packets of the group before, for a hit picture at the start. Errors go to `problem`, with
        the packet's place in the run.
        """
        decoder = self._open(vectors=False)
        past: deque[tuple[int, av.VideoFrame]] = deque(maxlen=KEPT)
        held: list[tuple[int, int, av.VideoFrame]] = []
        for number, packet, coming, least in self._with_coming(packets, first):
            shown, error = tolerant.decode_one(decoder, packet)
            if error is not None:
                problem(number - first, error)
            for frame in shown:
                if frame.pts is None:
                    continue
                if number in self._hit and frame.pts == packet.pts:
                    if number == first and not past:
                        past.extend(self._tail(context) or self._next_key(number))
                    self._mend(frame, self._hit[number], past, coming)
                past.append((frame.pts, frame))
                heapq.heappush(held, (frame.pts, number, frame))
            while held and held[0][0] < least:
                yield self._visible(heapq.heappop(held)[2])
        for _, _, frame in sorted(held, key=lambda item: item[:2]):
            yield self._visible(frame)

    def _visible(self, frame: av.VideoFrame) -> av.VideoFrame:
        size = (self._stream.codec_context.width, self._stream.codec_context.height)
        return copy_frame(frame, size) if self._whole and (frame.width, frame.height) != size else frame

    def _with_coming(
        self, packets: Iterable[av.Packet], first: int
    ) -> Iterator[tuple[int, av.Packet, dict[int, Neighbour], int]]:
        """Each packet with its number, what a second decoder says of the pictures from a hit one on (by time), and
        the least time of all packets that follow within reach: earlier pictures may be shown."""
        scout = self._open(vectors=True)
        waiting: deque[tuple[int, av.Packet]] = deque()
        coming: dict[int, Neighbour] = {}
        last_hit = -AHEAD - 1

        def next_one() -> tuple[int, av.Packet, dict[int, Neighbour], int]:
            number, packet = waiting.popleft()
            times = [p.pts for _, p in waiting if p.pts is not None]
            return number, packet, coming, min(times, default=np.iinfo(np.int64).max)

        for number, packet in enumerate(map(self._unordered, packets), first):
            if number in self._hit:
                last_hit = number
            frames, _ = tolerant.decode_one(scout, packet)
            for frame in frames:
                if number - last_hit <= AHEAD and frame.pts is not None:
                    coming[frame.pts] = Neighbour(frame.pts, planes_of(frame), tolerant.vectors_of(frame))
            waiting.append((number, packet))
            if len(waiting) > AHEAD:
                yield next_one()
                if number - last_hit > 2 * AHEAD:
                    coming.clear()
        while waiting:
            yield next_one()

    def _unordered(self, packet: av.Packet) -> av.Packet:
        """The packet, without leave to hold pictures back."""
        if self._codec != "hevc":
            return packet
        data = bytes(packet)
        try:
            changed = unordered_packet(data, self._prefix)
        except ValueError:  # a parameter set that is itself damaged
            return packet
        if changed == data:
            return packet
        return with_data(packet, changed)

    def _open(self, vectors: bool) -> av.VideoCodecContext:
        return tolerant.open_decoder(self._stream, threads=False, vectors=vectors, whole=self._whole, at_once=True)

    def _tail(self, packets: Sequence[av.Packet]) -> list[tuple[int, av.VideoFrame]]:
        """The last two pictures of a group, as they are decoded."""
        decoder = self._open(vectors=False)
        found: deque[tuple[int, av.VideoFrame]] = deque(maxlen=KEPT)
        for packet in map(self._unordered, packets):
            found.extend((f.pts, f) for f in tolerant.decode_one(decoder, packet)[0] if f.pts is not None)
        return sorted(found, key=lambda item: item[0])[-2:]

    def _next_key(self, number: int) -> list[tuple[int, av.VideoFrame]]:
        """The first picture of the next group that begins with an intact one: all there is for the start of a file."""
        start = next((first for first in self._starts if first > number), None)
        if start is None:
            return []
        with open_video(self._path) as container:
            packets = islice(read_packets(container, video_stream(container, self._path)), start, start + 1)
            decoder = self._open(vectors=False)
            return [(f.pts, f) for p in packets for f in tolerant.decode_one(decoder, self._unordered(p))[0]
                    if f.pts is not None]

    def _mend(self, frame: av.VideoFrame, onset: Onset, past: Iterable[tuple[int, av.VideoFrame]],
              coming: dict[int, Neighbour]) -> None:
        """Fill what is lost of `frame`, in its own memory."""
        assert frame.pts is not None
        time = frame.pts
        own = planes_of(frame)
        near = [(t, f) for t, f in past if f.width == frame.width and f.height == frame.height
                and f.format.name == frame.format.name]
        before = [Neighbour(t, planes_of(f)) for t, f in sorted(near, key=lambda n: -n[0]) if t < time][:2]
        behind = [Neighbour(t, planes_of(f)) for t, f in sorted(near, key=lambda n: n[0]) if t > time][:2]
        beside = before + behind
        if not beside:
            log.warning("%s: nothing to fill the picture at %s from", self._path, self._seconds(time))
            return
        lost = self._lost(own, onset, [n.planes for n in beside[:2]])
        if not lost.any():
            return
        taken = {t for t, _ in past}
        after = [n for t, n in sorted(coming.items()) if t > time and t not in taken]
        if self._codec in SELF_CONTAINED:
            behind, after = [n for n in after if n.time not in self._hit_times][:BESIDE], []
        if after and after[0].vectors is None and time in coming:
            # Both damaged alike, and the one refers to the other: the flow between them is the motion itself.
            hit, following = eight_bit(coming[time].planes[0]), eight_bit(after[0].planes[0])
            after[0] = Neighbour(after[0].time, after[0].planes, None, -flow(hit, following))
        planes, how = self._fill(Lost(time, own, lost, before, behind, after))
        overwrite(frame, planes)
        self.mended.append(Mended(self._seconds(time), how, float(lost.mean())))

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
