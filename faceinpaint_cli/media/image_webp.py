"""WebP: lossless files stay so, lossy ones are written at high quality."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
from PIL import Image

from faceinpaint_cli.media.exif import orientation_of

_METADATA = {b"ICCP": "icc_profile", b"EXIF": "exif", b"XMP ": "xmp"}
_LOSSY_QUALITY = 95
"""Of 100, for lossy WebP: its quantiser cannot be read from a file, and this one is above what is common."""


class WebpPicture:
    """A decoded WebP file; `rgb` (H, W, 3) and `alpha` (H, W) or None, uint8, as stored (not turned).

    Raises ValueError or OSError for a file that is damaged, and for an animation.
    """

    def __init__(self, data: bytes) -> None:
        chunks = _riff_chunks(data)
        if b"ANIM" in chunks:
            raise ValueError("it is an animation; convert it to a video or to single pictures first")
        self._lossless = b"VP8L" in chunks
        self._info = {name: chunks[kind] for kind, name in _METADATA.items() if kind in chunks}
        self.orientation = orientation_of(chunks.get(b"EXIF", b""))
        # Not Pillow: it has a limit of its own for WebP.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("its pixels are damaged")
        self.rgb, self.alpha = pixels[..., 2::-1], pixels[..., 3] if pixels.shape[2] == 4 else None

    def encode(self, rgb: np.ndarray, changed: np.ndarray, opaque: bool) -> bytes:
        """The file with the pixels of `rgb` where `changed` (H, W); `opaque`: and made opaque there."""
        pixels = np.where(changed[..., None], rgb, self.rgb)
        if self.alpha is not None:
            pixels = np.dstack([pixels, np.where(changed & opaque, 255, self.alpha).astype(np.uint8)])
        options: dict[str, Any] = {"lossless": True, "quality": 80} if self._lossless else {
            "quality": _LOSSY_QUALITY, "alpha_quality": 100}
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "WEBP", method=4, exact=True, **options, **self._info)
        return out.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the header states them (RFC 9649)."""
    chunks = _riff_chunks(data)
    if b"VP8X" in chunks:
        x = chunks[b"VP8X"]
        return 1 + int.from_bytes(x[4:7], "little"), 1 + int.from_bytes(x[7:10], "little")
    if b"VP8L" in chunks:
        bits, = struct.unpack_from("<I", chunks[b"VP8L"], 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", chunks[b"VP8 "], 6)
    return width & 0x3FFF, height & 0x3FFF


def _riff_chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each kind."""
    found: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if place + 8 + length > len(data):
            raise ValueError("it is cut short")
        found.setdefault(kind, data[place + 8: place + 8 + length])
        place += 8 + length + length % 2
    if not found:
        raise ValueError("it is cut short")
    return found
