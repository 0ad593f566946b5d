"""Pictures that are not there get another in their place, so that a decoder has memory to fill for them.

In HEVC that is one of nothing with the order count that others refer to. MPEG-1, 2 and 4 refer to whatever came last,
so there it is a keyframe of the same stream, in MPEG-4 with its own time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import av

from faceinpaint_cli.damage.evidence import NO_FRAME, Diagnosis, Onset
from faceinpaint_cli.damage.gaps import Missing
from faceinpaint_cli.media.h264_nal import length_size
from faceinpaint_cli.media.hevc_headers import Header, HevcHeaders
from faceinpaint_cli.media.mpeg4_headers import Clock
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.media.video_reader import read_packets, with_data

Numbered = tuple[int, av.Packet]


class StandIns:
    """The packets of a damaged stream with those that are `missing` put in, by the packet that each stands before;
    `made` are the numbers of the pictures that stand for others.

    Packets are given in decoding order, in runs that each begin at a keyframe, and are numbered with those that are put
    in.
    """

    def __init__(self, missing: Iterable[Missing]) -> None:
        self._missing: dict[int, list[Missing]] = {}
        for picture in missing:
            self._missing.setdefault(picture.before, []).append(picture)
        self._places = sorted(before for before, put_in in self._missing.items() for _ in put_in)
        self.made: set[int] = set()

    def number(self, packet: int) -> int:
        """The number of a packet of the file."""
        return packet + bisect_right(self._places, packet)

    def onsets(self) -> Iterator[tuple[int, Onset]]:
        """The pictures that are put in as hit ones, with their numbers."""
        for before in self._missing:
            for number, missing in self._numbered(before):
                yield number, Onset(before, missing.pts, None, None, ("picture missing",), missing.order)

    def put_in(self, packets: Iterable[av.Packet], first: int) -> Iterator[Numbered]:
        """The packets, of which the first is number `first` of the file, with those that are put in."""
        raise NotImplementedError

    def _numbered(self, before: int) -> Iterator[tuple[int, Missing]]:
        """What is missing before a packet, with its numbers."""
        put_in = self._missing.get(before, [])
        return enumerate(put_in, self.number(before) - len(put_in))

    def _made(self, number: int, packet: av.Packet, data: bytes, pts: int | None) -> Numbered:
        self.made.add(number)
        stands = with_data(packet, data)
        stands.pts = pts
        return number, stands


class HevcStandIns(StandIns):
    """Of HEVC: each keeps in the decoder what the picture after it keeps."""

    def __init__(self, diagnosis: Diagnosis, stream: av.VideoStream) -> None:
        super().__init__(m for group in diagnosis.groups for m in group.missing if m.order is not None)
        extradata = stream.codec_context.extradata
        self._headers = HevcHeaders(extradata, length_size("hevc", extradata))
        self._left = {onset.packet: onset.order for group in diagnosis.groups for onset in group.onsets
                      if onset.order is not None}
        self._there: set[int] = set()

    def put_in(self, packets: Iterable[av.Packet], first: int) -> Iterator[Numbered]:
        unread: list[tuple[int, av.Packet]] = []
        for place, packet in enumerate(packets, first):
            header = self._headers.of(bytes(packet))
            if header is None:
                unread.append((place, packet))
                continue
            for earlier, left in unread:
                number = self.number(earlier)
                yield self._of(number, left, self._left.get(earlier), left.pts, header) or (number, left)
            unread = []
            for number, missing in self._numbered(place):
                made = self._of(number, packet, missing.order, missing.pts, header)
                if made is not None:
                    made[1].is_keyframe = False
                    yield made
            if header.keeps is not None:
                self._there = self._there & {*header.keeps} | {header.count}
            yield self.number(place), packet
        yield from ((self.number(place), packet) for place, packet in unread)

    def _of(self, number: int, packet: av.Packet, count: int | None, pts: int | None,
            following: Header) -> Numbered | None:
        """One with this order count, with the parameter sets of `packet`; None where it is not known or cannot be
        made."""
        data = None
        if count is not None:
            data = self._headers.stand_in(bytes(packet), following, count, self._there)
        if count is None or data is None:
            return None
        self._there = self._there & {*(following.keeps or ())} | {count}
        return self._made(number, packet, data, pts)


class IntraStandIns(StandIns):
    """Of MPEG-1, 2 and 4: the last keyframe that is whole, or the next one. Pictures that no other refers to need none;
    where pictures are reordered it is not known where a missing one belongs."""

    def __init__(self, diagnosis: Diagnosis, stream: av.VideoStream) -> None:
        assert stream.time_base is not None
        self._clock = Clock(stream.codec_context.extradata, stream.time_base) if diagnosis.codec == "mpeg4" else None
        times = [p.pts or 0 for p in diagnosis.pictures]
        ordered = all(a <= b for a, b in pairwise(times))
        super().__init__(m for group in diagnosis.groups for m in group.missing if ordered)
        latest = [0, *accumulate(times, max)]
        self._left = {o.packet for group in diagnosis.groups for o in group.onsets
                      if NO_FRAME in o.signs and (o.packet == 0 or times[o.packet] > latest[o.packet])}
        hit = {o.packet for group in diagnosis.groups for o in group.onsets}
        self._keys = [p.index for p in diagnosis.pictures if p.keyframe and p.index not in hit]
        self._path = Path(diagnosis.path)
        self._key: bytes | None = None

    def put_in(self, packets: Iterable[av.Packet], first: int) -> Iterator[Numbered]:
        for place, packet in enumerate(packets, first):
            if self._missing.get(place) or place in self._left:
                self._key = self._key or self._next(place)
            for number, missing in self._numbered(place):
                if self._key is not None:
                    made = self._made(number, packet, self._at(self._key, missing.pts), missing.pts)
                    made[1].is_keyframe = False
                    yield made
            if place in self._left and self._key is not None:
                yield self._made(self.number(place), packet, self._at(self._key, packet.pts), packet.pts)
                continue
            if place in self._keys:
                self._key = bytes(packet)
            if self._clock is not None:
                self._clock.see(bytes(packet), packet.pts)
            yield self.number(place), packet

    def _at(self, key: bytes, pts: int | None) -> bytes:
        return key if self._clock is None else self._clock.reference_at(key, pts)

    def _next(self, packet: int) -> bytes | None:
        """The next keyframe's data."""
        number = next((key for key in self._keys if key > packet), None)
        if number is None:
            return None
        with open_video(self._path) as container:
            packets = read_packets(container, video_stream(container, self._path))
            return next((bytes(p) for place, p in enumerate(packets) if place == number), None)
