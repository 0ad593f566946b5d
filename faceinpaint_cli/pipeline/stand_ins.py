"""HEVC pictures that are not there get one of nothing in their place, so that a decoder has memory to fill for them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import av

from faceinpaint_cli.damage.evidence import Diagnosis, Onset
from faceinpaint_cli.damage.gaps import Missing
from faceinpaint_cli.media.h264_nal import length_size
from faceinpaint_cli.media.hevc_headers import Header, HevcHeaders
from faceinpaint_cli.media.video_reader import with_data

Numbered = tuple[int, av.Packet]


class StandIns:
    """The packets of a damaged HEVC stream with what others refer to put in; `made` are the numbers of those.

    Packets are given in decoding order, in runs that each begin at a keyframe, and are numbered with those that are put
    in.
    """

    def __init__(self, diagnosis: Diagnosis, stream: av.VideoStream) -> None:
        extradata = stream.codec_context.extradata
        self._headers = HevcHeaders(extradata, length_size("hevc", extradata))
        self._missing: dict[int, list[Missing]] = {}
        for missing in (m for group in diagnosis.groups for m in group.missing if m.order is not None):
            self._missing.setdefault(missing.before, []).append(missing)
        self._places = sorted(before for before, put_in in self._missing.items() for _ in put_in)
        self._left = {onset.packet: onset.order for group in diagnosis.groups for onset in group.onsets
                      if onset.order is not None}
        self._there: set[int] = set()
        self.made: set[int] = set()

    def number(self, packet: int) -> int:
        """The number of a packet of the file."""
        return packet + bisect_right(self._places, packet)

    def onsets(self) -> Iterator[tuple[int, Onset]]:
        """The pictures that are put in as hit ones, with their numbers."""
        for before, put_in in self._missing.items():
            for number, missing in enumerate(put_in, self.number(before) - len(put_in)):
                yield number, Onset(before, missing.pts, None, None, ("picture missing",), missing.order)

    def put_in(self, packets: Iterable[av.Packet], first: int) -> Iterator[Numbered]:
        """The packets, of which the first is number `first` of the file, with those that are put in."""
        unread: list[tuple[int, av.Packet]] = []
        for place, packet in enumerate(packets, first):
            data = bytes(packet)
            header = self._headers.of(data)
            if header is None:
                unread.append((place, packet))
                continue
            for earlier, left in unread:
                yield self._left_over(earlier, left, header)
            unread = []
            put_in = self._missing.get(place, [])
            for number, missing in enumerate(put_in, self.number(place) - len(put_in)):
                assert missing.order is not None
                made = self._headers.stand_in(b"", header, missing.order, self._there)
                if made is not None:
                    stands = with_data(packet, made)
                    stands.pts, stands.is_keyframe = missing.pts, False
                    self._made(number, missing.order, header)
                    yield number, stands
            if header.keeps is not None:
                self._there = self._there & {*header.keeps} | {header.count}
            yield self.number(place), packet
        yield from ((self.number(place), packet) for place, packet in unread)

    def _left_over(self, place: int, packet: av.Packet, following: Header) -> Numbered:
        """A packet without a header that can be read, before one that has one."""
        number, count = self.number(place), self._left.get(place)
        made = None if count is None else self._headers.stand_in(bytes(packet), following, count, self._there)
        if count is None or made is None:
            return number, packet
        self._made(number, count, following)
        return number, with_data(packet, made)

    def _made(self, number: int, count: int, following: Header) -> None:
        self._there = self._there & {*(following.keeps or ())} | {count}
        self.made.add(number)
