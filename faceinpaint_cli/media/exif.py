"""The one field of EXIF that changes how a picture is read: its orientation (EXIF 2.32, 4.6.4 A)."""

from __future__ import annotations

import struct

import numpy as np

_ORIENTATION = 0x0112


def orientation_of(exif: bytes) -> int:
    """1 to 8 from an EXIF block (with or without its "Exif" prefix); 1 where it is absent or damaged."""
    tiff = exif[6:] if exif[:6] in (b"Exif\0\0", b"Exif\0\xff") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        place, = struct.unpack_from(order + "I", tiff, 4)
        count, = struct.unpack_from(order + "H", tiff, place)
        for i in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, place + 2 + 12 * i)
            if tag == _ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


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
