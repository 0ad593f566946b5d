"""Where pictures of HEVC and MPEG-2 stand in the order of display, as their own headers count them.

Read from the first slice header (ITU-T H.265, 7.3.6.1) and from the picture header (ITU-T H.262, 6.2.3): the count
tells where a picture is missing that no packet speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass

from faceinpaint_cli.media.h264_bits import BitReader
from faceinpaint_cli.media.h264_nal import split, unescape
from faceinpaint_cli.media.hevc_sps import record_units

HEADER_BYTES = 64
"""A parameter set or header is read no farther than what is needed here."""
SPS, PPS = 33, 34
LAST_SLICE = 21
FIRST_KEY, LAST_RESERVED_KEY = 16, 23
BLA = (16, 17, 18)
IDR = (19, 20)
LEADING = (6, 7, 8, 9)  # RADL and RASL
"""nal_unit_type (H.265, table 7-1)."""
TURN = 1024
"""temporal_reference counts modulo so many (H.262, 6.3.9)."""
PICTURE, GROUP = b"\0\0\1\0", b"\0\0\1\xb8"


@dataclass(frozen=True)
class Order:
    """A picture's place in the order of display, counted from the last picture that `starts` a count."""

    count: int
    starts: bool


class HevcOrder:
    """Takes packets in decoding order, or their first few kilobytes, and tells their pictures' order counts;
    `extradata` and `prefix` as of the stream."""

    def __init__(self, extradata: bytes | None, prefix: int) -> None:
        self._prefix = prefix
        self._sps: dict[int, tuple[bool, int]] = {}
        """Whether planes are coded apart, and the bits of a count."""
        self._pps: dict[int, tuple[int, bool, int]] = {}
        """The sequence's set, whether output flags are there, and how many bits stand before the slice's type."""
        self._last = 0
        for unit in record_units(extradata, prefix):
            self._take(unit)

    def of(self, packet: bytes) -> Order | None:
        """None where there is no slice header that can be read."""
        for unit in split(packet, self._prefix):
            if len(unit.data) < 3:
                continue
            kind = unit.data[0] >> 1 & 63
            if kind > LAST_SLICE:
                self._take(unit.data)
                continue
            try:
                return self._order(unit.data, kind)
            except (ValueError, KeyError):  # a damaged header, or the number of a set that is not there
                return None
        return None

    def _order(self, unit: bytes, kind: int) -> Order | None:
        r = BitReader(unescape(unit[:HEADER_BYTES])[2:])
        if not r.flag():  # the first slice is lost
            return None
        if FIRST_KEY <= kind <= LAST_RESERVED_KEY:
            r.flag()
        sps, output_flags, extra = self._pps[r.unsigned(63)]
        planes_apart, bits = self._sps[sps]
        r.bits(extra)
        r.unsigned(2)
        r.bits(output_flags + 2 * planes_apart)
        if kind in IDR:
            self._last = 0
            return Order(0, True)
        count = r.bits(bits)
        if kind not in BLA:
            count += round((self._last - count) / (1 << bits)) * (1 << bits)
        # 8.3.1: what no other picture of its layer refers to is not counted from
        if unit[1] & 7 == 1 and kind not in LEADING and (kind >= FIRST_KEY or kind & 1):
            self._last = count
        return Order(count, kind in BLA)

    def _take(self, unit: bytes) -> None:
        """Remember a parameter set; a damaged one is left out."""
        kind = unit[0] >> 1 & 63 if unit else 0
        r = BitReader(unescape(unit)[2:])
        try:
            if kind == SPS:
                number, *told = _sps(r)
                self._sps[number] = told[0] == 1, told[1]
            elif kind == PPS:
                number, sps = r.unsigned(63), r.unsigned(15)
                r.flag()
                self._pps[number] = sps, r.flag(), r.bits(3)
        except ValueError:
            return


def _sps(r: BitReader) -> tuple[int, int, int]:
    """(number, whether planes are coded apart, bits of a count) of a sequence parameter set (7.3.2.2.1)."""
    r.bits(4)
    layers = r.bits(3)
    r.bits(1 + 88 + 8)
    told = [(r.bits(1), r.bits(1)) for _ in range(layers)]
    r.bits(2 * (8 - layers) if layers else 0)
    for profile, level in told:
        r.bits(88 * profile + 8 * level)
    number = r.unsigned(15)
    apart = r.bits(1) if r.unsigned(3) == 3 else 0
    for _ in range(2):  # width, height
        r.unsigned()
    for _ in range(4 * r.bits(1) + 2):  # the window, and bit depths
        r.unsigned()
    return number, apart, r.unsigned(12) + 4


class Mpeg2Order:
    """The same of MPEG-1 and -2."""

    def __init__(self) -> None:
        self._last = 0

    def of(self, packet: bytes) -> Order | None:
        """None where there is no picture header."""
        place = packet.find(PICTURE)
        if place < 0 or place + 6 > len(packet):
            return None
        starts = 0 <= packet.find(GROUP) < place
        count = int.from_bytes(packet[place + 4 : place + 6], "big") >> 6
        if not starts:
            count += round((self._last - count) / TURN) * TURN
        self._last = count
        return Order(count, starts)
