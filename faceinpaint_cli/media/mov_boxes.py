"""What the boxes of an mp4 or mov say that the library does not (ISO/IEC 14496-12)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))


def index_comes_first(path: Path) -> bool:
    """Whether the index stands before the pictures, so that the file plays while it is loaded."""
    with path.open("rb") as file:
        kinds = (kind for kind, _, _ in boxes(file, 0, path.stat().st_size))
        return next((kind for kind in kinds if kind in (b"moov", b"mdat")), b"") == b"moov"


def sample_kinds(path: Path) -> dict[int, str]:
    """For each track, by its number, the code of its samples, such as avc1, tmcd or gpmd."""
    found: dict[int, str] = {}
    with path.open("rb") as file:
        _read_tracks(file, 0, path.stat().st_size, found)
    return found


def _read_tracks(file: BinaryIO, start: int, stop: int, found: dict[int, str]) -> None:
    for kind, at, end in boxes(file, start, stop):
        if kind in PARENTS:
            _read_tracks(file, at, end, found)
        elif kind == b"tkhd":
            file.seek(at)
            head = file.read(24)
            place = 20 if head[:1] == b"\1" else 12  # after two times of 64 or 32 bits
            found[int.from_bytes(head[place : place + 4], "big")] = ""
        elif kind == b"stsd" and found:
            file.seek(at + 12)
            found[next(reversed(found))] = file.read(4).decode("latin-1")


def boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of its content, end) of the boxes that stand one after another."""
    while start + 8 <= stop:
        file.seek(start)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, content = int.from_bytes(head[8:], "big"), start + 16
        size = size or stop - start
        if size < content - start:
            return
        yield kind, content, start + size
        start += size
