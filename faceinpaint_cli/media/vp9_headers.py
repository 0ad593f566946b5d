"""What a VP9 packet says of the pictures in it: which of the decoder's eight references each one replaces.

After the VP9 bitstream and decoding process specification, version 0.6: superframes (annex B) and
uncompressed_header (6.2, 7.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from faceinpaint_cli.media.h264_bits import BitReader

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
    if not packet:
        raise ValueError("an empty packet")
    return [_heading(part) for part in pictures(packet)]


def pictures(packet: bytes) -> list[bytes]:
    """The packet, which is not empty, or the pictures that its superframe index names."""
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


def _heading(data: bytes) -> Heading:
    bits = BitReader(data[:16])
    if bits.bits(2) != 2:
        raise ValueError("not a VP9 picture")
    profile = bits.bits(1) | bits.bits(1) << 1
    if profile == 3:
        bits.bits(1)
    if bits.bits(1):  # show_existing_frame
        return Heading(True, ())
    key, shown, resilient = not bits.bits(1), bool(bits.bits(1)), bits.bits(1)
    if key:
        _sync(bits)
        return Heading(shown, tuple(range(REFERENCES)))
    intra_only = not shown and bits.bits(1)
    if not resilient:
        bits.bits(2)  # reset_frame_context
    if intra_only:
        _sync(bits)
        if profile > 0:
            _colours(bits, profile)
    flags = bits.bits(REFERENCES)
    return Heading(shown, tuple(i for i in range(REFERENCES) if flags >> i & 1))


def _sync(bits: BitReader) -> None:
    if bits.bits(24) != _SYNC:
        raise ValueError("a header without its sync code")


def _colours(bits: BitReader, profile: int) -> None:
    if profile >= 2:
        bits.bits(1)  # ten_or_twelve_bit
    if bits.bits(3) != _SRGB:
        bits.bits(1)  # color_range
        if profile in (1, 3):
            bits.bits(3)  # subsampling, reserved
    elif profile in (1, 3):
        bits.bits(1)
