"""Headers of MPEG-4 part 2 pictures, as far as the rounding of their motion compensation (ISO/IEC 14496-2, 6.2.5).

They have no number, but encoders turn the rounding with each predicted picture, so that its errors do not add up: where
two in a row round alike, an odd number of them is missing between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from faceinpaint_cli.media.h264_bits import BitReader

PICTURE, LAYERS = b"\0\0\1\xb6", range(0x20, 0x30)
"""Start codes of a picture and of layers' headers (table 6-3)."""
HEADER_BYTES = 32
INTRA, PREDICTED, BIDIRECTIONAL, SPRITE = range(4)
"""vop_coding_type (table 6-20)."""
EXTENDED_ASPECT, RECTANGLE = 15, 0
SIDE_BITS = 13
"""Of a side of the pictures in a layer's header."""


@dataclass(frozen=True)
class Vop:
    """A picture's kind and, of a predicted one, how it rounds; None where that is not written."""

    kind: int
    rounding: bool | None


class Mpeg4Headers:
    """Takes packets in decoding order, or their first few kilobytes; `extradata` as of the stream."""

    def __init__(self, extradata: bytes | None) -> None:
        self._time_bits: int | None = None
        self._take(extradata or b"")

    def of(self, packet: bytes) -> Vop | None:
        """None where there is no picture header that can be read."""
        place = packet.find(PICTURE)
        if place < 0:
            return None
        self._take(packet[:place])
        if self._time_bits is None:
            return None
        r = BitReader(packet[place + 4 : place + 4 + HEADER_BYTES])
        try:
            kind = r.bits(2)
            while r.flag():  # seconds
                pass
            r.bits(1 + self._time_bits + 1)
            coded = r.flag()
            return Vop(kind, r.flag() if coded and kind in (PREDICTED, SPRITE) else None)
        except ValueError:
            return None

    def _take(self, headers: bytes) -> None:
        """Remember how long times are; a damaged header is left out."""
        for place in layers(headers):
            with suppress(ValueError):
                resolution = time_resolution(BitReader(headers[place : place + HEADER_BYTES]))
                self._time_bits = None if resolution is None else _bits_below(resolution)


def layers(headers: bytes) -> Iterator[int]:
    """Where headers of video object layers begin, behind their start codes."""
    place = headers.find(b"\0\0\1")
    while place >= 0:
        if headers[place + 3 : place + 4] and headers[place + 3] in LAYERS:
            yield place + 4
        place = headers.find(b"\0\0\1", place + 3)


def _bits_below(limit: int) -> int:
    """Bits of a number below a limit."""
    return max(1, (limit - 1).bit_length())


def time_resolution(r: BitReader) -> int | None:
    """Units of time in a second, as a video object layer says (6.2.3), read up to the size of its pictures (a marker
    and SIDE_BITS for each side); None where these have shapes."""
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
    resolution = r.bits(16)
    r.bits(1)
    if r.flag():
        r.bits(_bits_below(resolution))
    return resolution
