"""NAL units of H.264 and HEVC packets: taking a packet apart and putting it together again.

Two packings exist: Annex B (start codes 00 00 01; TS, raw streams) and length-prefixed (ISO/IEC 14496-15;
mp4, mov, mkv). Both are read leniently: a length that points outside of the packet ends the reading, and what
is left counts as one last unit marked as cut, because damaged packets are read here too.
"""

from __future__ import annotations

from dataclasses import dataclass

START_CODE = b"\0\0\0\1"


@dataclass(frozen=True)
class Nal:
    """One unit with its header byte(s), emulation prevention still in; `whole` is false where it was cut."""

    data: bytes
    whole: bool = True


def length_size(codec: str, extradata: bytes | None) -> int:
    """Bytes of a unit's length prefix, 0 where the stream is Annex B.

    `codec` is "h264" or "hevc"; the configuration records are avcC and hvcC (ISO/IEC 14496-15, 5.3.3, 8.3.3).
    """
    if not extradata or len(extradata) < 7 or extradata[:3] == b"\0\0\1" or extradata[:4] == START_CODE:
        return 0
    if codec == "h264":
        return (extradata[4] & 3) + 1
    return (extradata[21] & 3) + 1 if len(extradata) > 21 else 4


def split(packet: bytes, prefix: int) -> list[Nal]:
    """The units of a packet; `prefix` as from `length_size`."""
    return _split_lengths(packet, prefix) if prefix else _split_start_codes(packet)


def join(units: list[bytes], prefix: int) -> bytes:
    """A packet of these units in the same packing."""
    if prefix:
        return b"".join(len(unit).to_bytes(prefix, "big") + unit for unit in units)
    return b"".join(START_CODE + unit for unit in units)


def _split_lengths(packet: bytes, prefix: int) -> list[Nal]:
    units, at = [], 0
    while at + prefix < len(packet):
        size = int.from_bytes(packet[at : at + prefix], "big")
        body = packet[at + prefix : at + prefix + size]
        if not size:
            break
        units.append(Nal(body, len(body) == size))
        at += prefix + size
    return units


def _split_start_codes(packet: bytes) -> list[Nal]:
    units, at = [], packet.find(b"\0\0\1")
    while at >= 0:
        following = packet.find(b"\0\0\1", at + 3)
        body = packet[at + 3 : following if following >= 0 else None]
        if following >= 0:
            body = body.rstrip(b"\0")  # trailing_zero_8bits and the first zero of a four-byte start code
        if body:
            units.append(Nal(body))
        at = following
    return units


def unescape(data: bytes) -> bytes:
    """Without emulation prevention bytes (ITU-T H.264, 7.3.1)."""
    pieces, at = [], 0
    while (hit := data.find(b"\0\0\3", at)) >= 0:
        pieces.append(data[at : hit + 2])
        at = hit + 3
    pieces.append(data[at:])
    return b"".join(pieces)


def escape(data: bytes) -> bytes:
    """With emulation prevention: no 00 00 followed by 00..03 remains (ITU-T H.264, 7.4.1)."""
    pieces, start, at = [], 0, data.find(b"\0\0")
    while at >= 0 and at + 2 < len(data):
        if data[at + 2] <= 3:
            pieces += [data[start : at + 2], b"\3"]
            start = at + 2
            at = data.find(b"\0\0", start)
        else:
            at = data.find(b"\0\0", at + 1)
    pieces.append(data[start:])
    return b"".join(pieces)
