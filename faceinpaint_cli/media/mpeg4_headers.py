"""Headers of MPEG-4 part 2 pictures, as far as their time and the rounding of their motion compensation (ISO/IEC
14496-2, 6.2.5).

They have no number, but encoders turn the rounding with each predicted picture, so that its errors do not add up: where
two in a row round alike, an odd number of them is missing between. Their time matters to the pictures that cross them:
it scales motion vectors, and decoders leave out one that is not between its references.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from faceinpaint_cli.media.h264_bits import BitReader, BitWriter

PICTURE, GROUP, LAYERS = b"\0\0\1\xb6", b"\0\0\1\xb3", range(0x20, 0x30)
"""Start codes of a picture, of a group of them and of layers' headers (table 6-3)."""
HEADER_BYTES = 32
INTRA, PREDICTED, BIDIRECTIONAL, SPRITE = range(4)
"""vop_coding_type (table 6-20)."""
EXTENDED_ASPECT, RECTANGLE = 15, 0


@dataclass(frozen=True)
class Vop:
    """A picture's kind and, of a predicted one, how it rounds; None where that is not written. Its time is `ticks` of
    the layer's units, after so many whole `seconds` behind those that the reference before it began with."""

    kind: int
    rounding: bool | None
    seconds: int = 0
    ticks: int = 0


class Mpeg4Headers:
    """Takes packets in decoding order, or their first few kilobytes; `extradata` as of the stream."""

    def __init__(self, extradata: bytes | None) -> None:
        self.resolution: int | None = None
        """Units of time in a second; None where it is not known."""
        self._take(extradata or b"")

    def of(self, packet: bytes) -> Vop | None:
        """None where there is no picture header that can be read."""
        place = packet.find(PICTURE)
        if place < 0:
            return None
        self._take(packet[:place])
        if self.resolution is None:
            return None
        r = BitReader(packet[place + 4 : place + 4 + HEADER_BYTES])
        try:
            kind, seconds, ticks = _timed(r, self.resolution)
            coded = r.flag()
            return Vop(kind, r.flag() if coded and kind in (PREDICTED, SPRITE) else None, seconds, ticks)
        except ValueError:
            return None

    def _take(self, headers: bytes) -> None:
        """Remember how long times are; a damaged header is left out."""
        for place in _layers(headers):
            with suppress(ValueError):
                self.resolution = _time_resolution(BitReader(headers[place : place + HEADER_BYTES]))


class Clock:
    """The time of a stream's references as their headers tell it, for what is put in between them. Takes packets in
    decoding order, with their time in units of `time_base`."""

    def __init__(self, extradata: bytes | None, time_base: Fraction) -> None:
        self._headers, self._time_base = Mpeg4Headers(extradata), time_base
        self._seconds = 0  # whole ones, as of the last reference
        self._last: tuple[int, int] | None = None  # when that is shown, by its packet and by its header

    def see(self, packet: bytes, pts: int | None) -> None:
        vop = self._headers.of(packet)
        group = packet.find(GROUP, 0, packet.find(PICTURE) + 1)
        if group >= 0:
            with suppress(ValueError):
                r = BitReader(packet[group + 4 : group + 8])
                hours, minutes, _, seconds = r.bits(5), r.bits(6), r.bits(1), r.bits(6)
                self._seconds = (hours * 60 + minutes) * 60 + seconds
        if vop is not None and vop.kind != BIDIRECTIONAL and self._headers.resolution is not None:
            self._seconds += vop.seconds
            self._last = None if pts is None else (pts, self._seconds * self._headers.resolution + vop.ticks)

    def reference_at(self, packet: bytes, pts: int | None) -> bytes:
        """The packet of a reference, made one that is shown at `pts`; as it is where that cannot be told. What is
        aligned to bytes in it may come to stand elsewhere."""
        place, resolution = packet.find(PICTURE), self._headers.resolution
        if self._last is None or pts is None or pts <= self._last[0] or place < 0 or resolution is None:
            return packet
        time = self._last[1] + round((pts - self._last[0]) * self._time_base * resolution)
        r, w = BitReader(packet[place + 4 :]), BitWriter()
        kind = _timed(r, resolution)[0]
        w.bits(kind, 2)
        for _ in range(time // resolution - self._seconds):
            w.flag(True)
        w.bits(0b01, 2)
        w.bits(time % resolution, _bits_below(resolution))
        w.flag(True)
        left = r.left
        w.bits(r.bits(left), left)
        self._seconds, self._last = time // resolution, (pts, time)
        group = packet.find(GROUP, 0, place)
        return packet[: place if group < 0 else group] + PICTURE + w.to_bytes()


def _timed(r: BitReader, resolution: int) -> tuple[int, int, int]:
    """(kind, seconds, ticks) of a picture, read up to whether it is coded."""
    kind, seconds = r.bits(2), 0
    while r.flag():
        seconds += 1
    r.bits(1)
    ticks = r.bits(_bits_below(resolution))
    r.bits(1)
    return kind, seconds, ticks


def _layers(headers: bytes) -> Iterator[int]:
    """Where headers of video object layers begin, behind their start codes."""
    place = headers.find(b"\0\0\1")
    while place >= 0:
        if headers[place + 3 : place + 4] and headers[place + 3] in LAYERS:
            yield place + 4
        place = headers.find(b"\0\0\1", place + 3)


def _bits_below(limit: int) -> int:
    """Bits of a number below a limit."""
    return max(1, (limit - 1).bit_length())


def _time_resolution(r: BitReader) -> int | None:
    """Units of time in a second, as a video object layer says (6.2.3); None where its pictures have shapes."""
    r.bits(1 + 8)
    if r.flag():
        r.bits(4 + 3)
    if r.bits(4) == EXTENDED_ASPECT:
        r.bits(8 + 8)
    if r.flag():
        r.bits(2 + 1)
        if r.flag():
            r.bits(79)
    if r.bits(2) != RECTANGLE:
        return None
    r.bits(1)
    return r.bits(16)
