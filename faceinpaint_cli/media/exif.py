"""What in EXIF depends on the pixels: how they are to be turned, and their thumbnail (EXIF 2.32, 4.6.4-4.6.6)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin

_ORIENTATION, _THUMBNAIL, _THUMBNAIL_LENGTH = 0x0112, 0x0201, 0x0202
_SHORT, _LONG = 3, 4
_PREFIX = 6


class _Entry(NamedTuple):
    directory: int
    tag: int
    kind: int
    value: int
    place: int
    """Of the value, in the block without its prefix."""


def _body(exif: bytes) -> bytes:
    return exif[_PREFIX:] if exif[:_PREFIX] in (b"Exif\0\0", b"Exif\0\xff") else exif


def _entries(tiff: bytes) -> Iterator[_Entry]:
    """The single numbers of the first two directories: the picture's and its thumbnail's. Ends early where the
    block is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return
    try:
        start, = struct.unpack_from(order + "I", tiff, 4)
        for directory in (0, 1):
            count, = struct.unpack_from(order + "H", tiff, start)
            for place in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind, _ = struct.unpack_from(order + "HHI", tiff, place)
                if kind in (_SHORT, _LONG):
                    value, = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), tiff, place + 8)
                    yield _Entry(directory, tag, kind, value, place + 8)
            start, = struct.unpack_from(order + "I", tiff, start + 2 + 12 * count)
            if not start:
                return
    except struct.error:
        return


def orientation_of(exif: bytes) -> int:
    """1 to 8 from an EXIF block (with or without its "Exif" prefix); 1 where it is absent or damaged."""
    for entry in _entries(_body(exif)):
        if (entry.directory, entry.tag) == (0, _ORIENTATION):
            return entry.value if entry.kind == _SHORT and 1 <= entry.value <= 8 else 1
    return 1


def with_thumbnail_of(exif: bytes, rgb: np.ndarray) -> bytes:
    """The EXIF block with its thumbnail, if it has one, drawn anew from `rgb` (H, W, 3) uint8 as stored: file
    managers show it, and it should not go on showing the damage.

    It takes the old one's place and at most its length, so no offset in the block moves.
    """
    tiff = _body(exif)
    found = {entry.tag: entry for entry in _entries(tiff) if entry.directory == 1}
    if _THUMBNAIL not in found or _THUMBNAIL_LENGTH not in found:
        return exif
    start, length = found[_THUMBNAIL].value, found[_THUMBNAIL_LENGTH].value
    old = tiff[start: start + length]
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(old)) as image:
            size = image.size
    except (OSError, SyntaxError, ValueError):  # not a JPEG: whatever it is, it stays
        return exif
    new = _packed(_fitted(rgb, size), length)
    if new is None:
        return exif
    out = bytearray(tiff)
    out[start: start + length] = new.ljust(length, b"\0")
    entry = found[_THUMBNAIL_LENGTH]
    order = "<" if tiff[:2] == b"II" else ">"
    struct.pack_into(order + ("H" if entry.kind == _SHORT else "I"), out, entry.place, len(new))
    return exif[: len(exif) - len(tiff)] + bytes(out)


def _fitted(rgb: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Reduced to fit into `size`, on black where the shapes differ, as cameras do."""
    picture = Image.fromarray(rgb)
    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    canvas = Image.new("RGB", size)
    canvas.paste(picture.resize(inner, Image.Resampling.BOX, reducing_gap=2),
                 ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return canvas


def _packed(image: Image.Image, length: int) -> bytes | None:
    """The best JPEG of at most `length` bytes."""
    for quality in range(90, 0, -10):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= length:
            return out.getvalue()
    return None


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) as stored to as it is meant to be seen."""
    if orientation in (2, 3, 4):
        array = {2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1]}[orientation]
    elif orientation >= 5:
        turned = array.swapaxes(0, 1)
        array = {5: turned, 6: turned[:, ::-1], 7: turned[::-1, ::-1], 8: turned[::-1]}[orientation]
    return np.ascontiguousarray(array)


def as_stored(array: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `upright`."""
    return upright(array, {6: 8, 8: 6}.get(orientation, orientation))
