"""Reading a picture and writing it back in its own format with only the repaired pixels changed."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from faceinpaint_cli.config import IMAGE_SIZE_LIMIT
from faceinpaint_cli.errors import InputError, OutputError
from faceinpaint_cli.media import exif, image_bmp, image_jpeg, image_png, image_tiff, image_webp
from faceinpaint_cli.media.atomic import atomic_path

log = logging.getLogger(__name__)

_DAMAGE = (ValueError, OSError, SyntaxError, KeyError, IndexError, struct.error, zlib.error, EOFError)
"""What decoders raise on a file that is not as it should be."""


class StoredPicture(Protocol):
    """A decoded file: pixels as stored, before the turn that EXIF asks for, and how to put new ones in."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    orientation: int

    def encode(self, rgb: np.ndarray, changed: np.ndarray, opaque: bool) -> bytes: ...


@dataclass(frozen=True)
class _Codec:
    name: str
    magic: tuple[bytes, ...]
    size_of: Callable[[bytes], tuple[int, int]]
    decode: Callable[[bytes], StoredPicture]


_CODECS = (
    _Codec("JPEG", (b"\xff\xd8\xff",), image_jpeg.size_of, image_jpeg.JpegPicture),
    _Codec("PNG", (image_png.SIGNATURE,), image_png.size_of, image_png.PngPicture),
    _Codec("WebP", (b"RIFF",), image_webp.size_of, image_webp.WebpPicture),
    _Codec("TIFF", image_tiff.MAGIC, image_tiff.size_of, image_tiff.TiffPicture),
    _Codec("BMP", (b"BM",), image_bmp.size_of, image_bmp.BmpPicture),
)


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen (turned as its EXIF says).

    `rgb` (H, W, 3) uint8, or uint16 where the file has 16 bits a channel; do not write into it. `alpha`
    (H, W) of the same type, 0 = transparent, None where the file has none. `format` is its encoding's name.
    """

    path: Path
    format: str
    rgb: np.ndarray
    alpha: np.ndarray | None
    stored: StoredPicture

    @property
    def width(self) -> int:
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        return self.rgb.shape[0]


def read_image(path: Path, max_pixels: int = IMAGE_SIZE_LIMIT) -> Picture:
    """Decode a JPEG, PNG, WebP, TIFF or BMP, told by its first bytes whatever its name.

    The size is read from the header first and a picture of more than `max_pixels` is refused before memory is
    taken for it. Raises InputError, one line, for that and for a file that is missing, empty, damaged, cut
    short, animated or of another kind.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        remedy = "look at its name" if isinstance(e, FileNotFoundError) else "allow reading it, or leave it out"
        raise InputError(f"cannot read {path}: {e.strerror}; {remedy}") from e
    if not data:
        raise InputError(f"cannot read {path}: it is empty (0 bytes); get it again")
    codec = next((c for c in _CODECS if data.startswith(c.magic)), None)
    if codec is None:
        raise InputError(f"cannot read {path}: it is no JPEG, PNG, WebP, TIFF or BMP, whatever its name says; "
                         "convert it or leave it out")
    try:
        width, height = codec.size_of(data)
        if width * height > max_pixels:
            raise InputError(f"{path} is {width} x {height}, more than the limit of {max_pixels} pixels; "
                             "make it smaller or cut it in parts")
        stored = codec.decode(data)
    except _DAMAGE as e:
        raise InputError(f"cannot read {path} as {codec.name}: {_reason(e)}") from e
    if isinstance(stored, image_tiff.TiffPicture) and stored.pages > 1:
        log.warning("%s: of its %d pages only the first is repaired, the others are kept", path, stored.pages)
    turn = stored.orientation
    alpha = None if stored.alpha is None else exif.upright(stored.alpha, turn)
    return Picture(path, codec.name, exif.upright(stored.rgb, turn), alpha, stored)


def write_image(picture: Picture, rgb: np.ndarray, changed: np.ndarray, path: Path,
                opaque: bool = False) -> None:
    """Write `picture` to `path` (whole or not at all) in its own format, with the pixels of `rgb` where
    `changed`; everywhere else, in lossless formats, the file's own pixels, bit for bit.

    `rgb` is like `picture.rgb` in shape and type, `changed` (H, W) bool, both upright. Kept: depth, grey,
    palette, CMYK, compression, orientation, EXIF, ICC, XMP, resolution, text, and alpha, unless `opaque`
    (for holes that were the transparent pixels): then changed pixels become opaque. Grey pictures take the
    luma of the fill; palettes its nearest colours, new ones where there is room; 1-bit ones black or white.
    Lossy files are encoded again with their own quantisation (JPEG) or at high quality (WebP).

    Raises OutputError if `path` cannot be written.
    """
    expected = picture.rgb
    if rgb.shape != expected.shape or rgb.dtype != expected.dtype or changed.shape != rgb.shape[:2]:
        raise ValueError(f"expected {expected.shape} {expected.dtype}, got {rgb.shape} {rgb.dtype} and "
                         f"changed {changed.shape}")
    turn = picture.stored.orientation
    try:
        data = picture.stored.encode(exif.as_stored(rgb, turn), exif.as_stored(changed, turn), opaque)
    except OSError as e:
        raise OutputError(f"cannot encode {path} as {picture.format}: {e}") from e
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _reason(e: BaseException) -> str:
    """What is wrong, and what to do: our own errors say so where there is more than to get the file again."""
    text = str(e).splitlines()[0] if str(e) else type(e).__name__
    if isinstance(e, (KeyError, IndexError, struct.error, zlib.error, EOFError, SyntaxError)):
        text = f"it is damaged or cut short ({text})"
    return text if ";" in text else f"{text}; get it again or leave it out"
