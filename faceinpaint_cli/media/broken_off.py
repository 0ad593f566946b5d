"""Files that end before their own headers say: a download or a recording that broke off, a disk that was full.

Readers take the end of such a file for the end of the video, and say nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from faceinpaint_cli.media.matroska_aspect import SEGMENT, element_head
from faceinpaint_cli.media.mov_boxes import boxes

EBML = b"\x1a\x45\xdf\xa3"
FIRST_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"))
COUNTED_BOXES = frozenset((b"moov", b"mdat", b"moof"))
"""What else stands at the end of an mp4 may be anything."""


def broken_off(path: Path) -> list[str]:
    """One line where Matroska, WebM, mp4, mov or AVI lacks a part at its end; none where it is whole or does not say
    how long it is (streams do not)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(EBML):
            stated = _of_matroska(file)
        elif head[4:8] in FIRST_BOXES:
            stated = max((end for kind, _, end in boxes(file, 0, size) if kind in COUNTED_BOXES), default=0)
        elif head[:4] == b"RIFF" and head[8:] == b"AVI ":
            stated = _of_riff(file, size)
        else:
            return []
    if stated <= size:
        return []
    return [f"it breaks off: {stated - size:,} of its {stated:,} bytes are not there, nor is what they held in the "
            "output; get the file again if it can be had"]


def _of_matroska(file: BinaryIO) -> int:
    at = 0
    for _ in range(2):  # the header, then the segment, which holds everything else
        file.seek(at)
        data = file.read(12)
        if len(data) < 12:
            return 0
        kind, size, content = element_head(data)
        if kind == SEGMENT:
            unknown = size == (1 << 7 * (content - len(kind))) - 1
            return 0 if unknown else at + content + size
        at += content + size
    return 0


def _of_riff(file: BinaryIO, size: int) -> int:
    """AVI of more than a gigabyte is several chunks one after another."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return 0
        length = int.from_bytes(head[4:], "little")
        at += 8 + length + length % 2
    return at
