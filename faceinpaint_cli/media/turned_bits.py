"""The same file with some bits of its packets turned, whatever the container."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.media.video_reader import read_packets

SLACK = 4096
"""Bytes that a container may put between those of a packet and before them."""
WINDOWS = (48, 24, 12)
"""A byte is found in the file by so many around it: fewer where a container's own stand between them."""


Bit = tuple[int, int]
"""Which byte of the data, and which of its bits, 0 the lowest."""


def turned(data: bytes, bits: Iterable[Bit]) -> bytes:
    """The data with these bits turned."""
    changed = bytearray(data)
    for byte, bit in bits:
        changed[byte] ^= 1 << bit
    return bytes(changed)


def copy_with_turned_bits(source: Path, target: Path, bits: Mapping[int, Sequence[Bit]]) -> list[int]:
    """Copy `source` to `target` with bits of some packets of its video stream turned, by the packet's number in the
    file. The numbers of those packets for which that was possible.

    Raises OSError where the copy cannot be written.
    """
    wanted: dict[int, bytes] = {}
    places: list[tuple[int, int]] = []
    """Where in the file, and which bit."""
    with open_video(source) as container, source.open("rb") as file:
        for number, packet in enumerate(read_packets(container, video_stream(container, source))):
            if number not in bits or packet.pos is None or packet.pos < 0:
                continue
            data = bytes(packet)
            file.seek(packet.pos)
            stretch = file.read(len(data) * 5 // 4 + SLACK)
            for byte, bit in bits[number]:
                place = _find(stretch, data, byte)
                if place is not None:
                    places.append((packet.pos + place, bit))
            wanted[number] = turned(data, bits[number])
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for place, bit in places:
            file.seek(place)
            value = file.read(1)[0] ^ 1 << bit
            file.seek(place)
            file.write(bytes([value]))
    with open_video(target) as container:
        packets = enumerate(read_packets(container, video_stream(container, target)))
        return [number for number, packet in packets if number in wanted and bytes(packet) == wanted[number]]


def _find(stretch: bytes, data: bytes, byte: int) -> int | None:
    """Where byte number `byte` of `data` stands in a stretch of the file that holds them, whole or in pieces."""
    for length in WINDOWS:
        for begin in range(max(0, byte - length + 1), min(byte, len(data) - length) + 1):
            piece = data[begin : begin + length]
            found = stretch.find(piece)
            if found >= 0 and stretch.find(piece, found + 1) < 0:
                return found + byte - begin
    return None
