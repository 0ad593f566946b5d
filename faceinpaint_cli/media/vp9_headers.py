"""What a VP9 packet says of the pictures in it: which of the decoder's eight references each one replaces.

After the VP9 bitstream and decoding process specification, version 0.6: superframes (annex B) and
uncompressed_header (6.2, 7.2).
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCES = 8
_SYNC = 0x498342
_SRGB = 7


@dataclass(frozen=True)
class Heading:
    """`replaced`: numbers of the references that the picture becomes; `shown`: whether it is to be seen."""

    shown: bool
    replaced: tuple[int, ...]


def headings(packet: bytes) -> list[Heading]:
    """The pictures of a packet, in decoding order. Raises ValueError where a header cannot be read."""
    return [_heading(part) for part in _pictures(packet)]


def _pictures(packet: bytes) -> list[bytes]:
    """The packet, or the pictures that its superframe index names."""
    if not packet:
        raise ValueError("an empty packet")
    marker = packet[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    size = 2 + width * count
    if marker >> 5 != 0b110 or len(packet) < size or packet[-size] != marker:
        return [packet]
    index, parts, place = packet[-size + 1 : -1], [], 0
    for i in range(count):
        length = int.from_bytes(index[i * width : (i + 1) * width], "little")
        if length:
            parts.append(packet[place : place + length])
        place += length
    return parts


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def read(self, count: int) -> int:
        if self._place + count > 8 * len(self._data):
            raise ValueError("a header that ends too early")
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._place >> 3] >> (7 - (self._place & 7)) & 1
            self._place += 1
        return value


def _heading(data: bytes) -> Heading:
    bits = _Bits(data[:16])
    if bits.read(2) != 2:
        raise ValueError("not a VP9 picture")
    profile = bits.read(1) | bits.read(1) << 1
    if profile == 3:
        bits.read(1)
    if bits.read(1):  # show_existing_frame
        return Heading(True, ())
    key, shown, resilient = not bits.read(1), bool(bits.read(1)), bits.read(1)
    if key:
        _sync(bits)
        return Heading(shown, tuple(range(REFERENCES)))
    intra_only = not shown and bits.read(1)
    if not resilient:
        bits.read(2)  # reset_frame_context
    if intra_only:
        _sync(bits)
        if profile > 0:
            _colours(bits, profile)
    flags = bits.read(REFERENCES)
    return Heading(shown, tuple(i for i in range(REFERENCES) if flags >> i & 1))


def _sync(bits: _Bits) -> None:
    if bits.read(24) != _SYNC:
        raise ValueError("a header without its sync code")


def _colours(bits: _Bits, profile: int) -> None:
    if profile >= 2:
        bits.read(1)  # ten_or_twelve_bit
    if bits.read(3) != _SRGB:
        bits.read(1)  # color_range
        if profile in (1, 3):
            bits.read(3)  # subsampling, reserved
    elif profile in (1, 3):
        bits.read(1)
