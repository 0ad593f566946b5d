"""The shape of pixels in the header of a Matroska or WebM file, which the library's Python side cannot tell its muxer.

A mark in the name of the track makes room; in the finished header (RFC 8794, RFC 9559) the display size takes its
place, and every byte after the header stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

MARK = "room for the display size of the pictures"
SEGMENT, TRACKS, TRACK, VIDEO, NAME = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0", b"\x53\x6e"
CRC, VOID = b"\xbf", b"\xec"
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"


def write_aspect(path: Path, size: tuple[int, int], aspect: Fraction) -> None:
    """Give the track whose name ends in MARK pixels of this aspect; `size` is (width, height) of its pictures."""
    shape = Fraction(size[0] * aspect.numerator, size[1] * aspect.denominator)
    times = max(1, round(size[1] / shape.denominator))
    shown = shape.numerator * times, shape.denominator * times
    with path.open("r+b") as file:
        at, length = _find(file, TRACKS)
        file.seek(at)
        elements = _elements(file.read(length))
        checked = elements[0][0] == CRC
        tracks = [(kind, _with_size(data, shown) if kind == TRACK else data) for kind, data in elements if kind != CRC]
        made = _joined(tracks)
        room = length - len(made) - 6 * checked
        made += void_head(room).ljust(room, b"\0")
        if checked:
            made = _element(CRC, crc32(made).to_bytes(4, "little")) + made
        file.seek(at)
        file.write(made)


def _with_size(track: bytes, shown: tuple[int, int]) -> bytes:
    """A track's elements; where its name bears the mark without it, and with the display size in its video."""
    elements = _elements(track)
    names = [data for kind, data in elements if kind == NAME and data.endswith(MARK.encode())]
    if not names:
        return track
    name = names[0][: -len(MARK)]
    made = [(NAME, name)] if name else []
    for kind, data in elements:
        if kind == VIDEO:
            kept = [e for e in _elements(data) if e[0] not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT)]
            data = _joined([*kept, (DISPLAY_WIDTH, shown[0].to_bytes(4, "big")),
                            (DISPLAY_HEIGHT, shown[1].to_bytes(4, "big"))])
        if kind != NAME:
            made.append((kind, data))
    return _joined(made)


def _find(file: BinaryIO, wanted: bytes) -> tuple[int, int]:
    """(start, length) of the content of an element at the top of the file or in its segment."""
    at = 0
    while True:
        file.seek(at)
        kind, size, content = element_head(file.read(12))
        if kind == wanted:
            return at + content, size
        at += content if kind == SEGMENT else content + size


def _elements(data: bytes) -> list[tuple[bytes, bytes]]:
    """(identifier, content) of the elements that stand one after another."""
    found, at = [], 0
    while at < len(data):
        kind, size, content = element_head(data[at : at + 12])
        found.append((kind, data[at + content : at + content + size]))
        at += content + size
    return found


def element_head(data: bytes) -> tuple[bytes, int, int]:
    """(identifier, length of the content, length of both numbers)."""
    first = 9 - data[0].bit_length()
    count = 9 - data[first].bit_length()
    size = int.from_bytes(data[first : first + count], "big") & (1 << 7 * count) - 1
    return data[:first], size, first + count


def _joined(elements: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(_element(kind, data) for kind, data in elements)


def void_head(length: int) -> bytes:
    """The head of an element that means nothing, of so many bytes in all (two at least); its content may be anything.
    """
    if length < 129:
        return VOID + bytes([0x80 | length - 2])
    return VOID + (1 << 56 | length - 9).to_bytes(8, "big")


def _element(kind: bytes, data: bytes) -> bytes:
    count = next(n for n in range(1, 9) if len(data) < (1 << 7 * n) - 1)
    return kind + (len(data) | 1 << 7 * count).to_bytes(count, "big") + data
