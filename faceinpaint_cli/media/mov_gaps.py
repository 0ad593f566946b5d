"""Stretches of a fragmented mp4 or mov that are none of its boxes: where a disk or a line lost data (ISO/IEC 14496-12,
8.8).

A reader ends at the first of them and says nothing. Here the next whole fragment is looked for, and in a copy what
stands before it becomes a box that readers get past.
"""

from __future__ import annotations

import mmap
import shutil
from dataclasses import dataclass
from pathlib import Path

TOP = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"ssix", b"mfra",
                 b"emsg", b"prft", b"pdin", b"meta", b"uuid"))
"""Boxes that stand on their own. What else is one leads to one of these."""
HEAD = 8


@dataclass(frozen=True)
class Boxed:
    """Bytes of a file from `start` up to, without, `stop` that are to be a box of this `kind`."""

    start: int
    stop: int
    kind: bytes


def find_destroyed(path: Path) -> list[Boxed]:
    """What is to be made a box of; nothing where the file is whole, or is none of fragments that can be read from its
    start."""
    with path.open("rb") as file:
        if file.read(HEAD)[4:] not in TOP:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _destroyed(data)


def copy_boxed(source: Path, target: Path, boxes: list[Boxed]) -> None:
    """Copy `source` to `target`, of the same size and with all that is whole in its place. Raises OSError where the
    copy cannot be written."""
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for box in boxes:
            size = box.stop - box.start
            file.seek(box.start)
            file.write(size.to_bytes(4, "big") + box.kind if size < 1 << 32
                       else b"\0\0\0\1" + box.kind + size.to_bytes(8, "big"))


def _destroyed(data: mmap.mmap) -> list[Boxed]:
    found: list[Boxed] = []
    at, last, begun = 0, b"", 0  # the box before, and where its content begins
    fragmented = False
    while at + HEAD <= len(data):
        kind, content, stop = _box(data, at)
        known = kind in TOP or (kind.isalnum() and (stop == len(data) or _box(data, stop)[0] in TOP))
        if known and content <= stop <= len(data) and (kind != b"moof" or _is_fragment(data, content, stop)):
            fragmented |= kind == b"moov" and data.find(b"mvex", at, stop) >= 0
            at, last, begun = stop, kind, content
            continue
        if not fragmented:
            return []
        start = at
        if last == b"mdat":  # which may be shorter than it says
            start, following = begun - HEAD, _next_fragment(data, begun)
            start = at if following >= at else start
        else:
            following = _next_fragment(data, at + 1)
        if following == len(data) and kind in TOP and stop > len(data):
            break  # it only breaks off
        if following - start >= HEAD:
            found.append(Boxed(start, following, b"mdat" if last == b"moof" or start < at else b"free"))
        at, last, begun = following, b"", following
    return found if any(box.stop < len(data) for box in found) else []


def _next_fragment(data: mmap.mmap, start: int) -> int:
    """Where the next whole fragment begins; the end of the file where there is none."""
    place = data.find(b"moof", start)
    while place >= 0:
        _, content, stop = _box(data, place - 4)
        if content <= stop <= len(data) and _is_fragment(data, content, stop):
            return place - 4
        place = data.find(b"moof", place + 1)
    return len(data)


def _is_fragment(data: mmap.mmap, at: int, end: int) -> bool:
    """Whether the content of a moof is its number and then whole tracks."""
    kinds = []
    while at + HEAD <= end:
        kind, content, stop = _box(data, at)
        if not content <= stop <= end or (kind == b"traf" and _box(data, content)[0] != b"tfhd"):
            return False
        kinds.append(kind)
        at = stop
    return at == end and kinds[:1] == [b"mfhd"] and b"traf" in kinds


def _box(data: mmap.mmap, at: int) -> tuple[bytes, int, int]:
    """(kind, where its content begins, where it says it ends) of what may be a box."""
    head = data[at : at + 16]
    size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], at + HEAD
    if size == 1:
        size, content = int.from_bytes(head[8:], "big"), at + 16
    return kind, content, at + size if size else len(data)
