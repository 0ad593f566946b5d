"""BMP: changed pixels are put into the file where they stand, so headers and profiles stay as they are.

16-bit and run-length coded files are decoded by Pillow and written as 24 bits, with the same pixels.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import BmpImagePlugin

from faceinpaint_cli.media import image_samples as samples

_CORE_HEADER = 12
_PLAIN, _BIT_FIELDS = 0, 3


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the header states them."""
    header = _Header(data)
    return header.width, header.height


class _Header:
    def __init__(self, data: bytes) -> None:
        self.pixels, size = struct.unpack_from("<II", data, 10)
        self.palette_place, self.entry_size, self.palette_length = 14 + size, 4, 0
        self.masks: tuple[int, ...] = ()
        if size == _CORE_HEADER:
            self.width, height, _, self.bits = struct.unpack_from("<HHHH", data, 18)
            self.compression, self.entry_size = _PLAIN, 3
        else:
            self.width, height, _, self.bits, self.compression = struct.unpack_from("<iiHHI", data, 18)
            self.palette_length, = struct.unpack_from("<I", data, 46)
            if self.compression == _BIT_FIELDS:
                self.masks = struct.unpack_from("<4I" if size >= 56 else "<3I", data, 54)
        self.height, self.upwards = abs(height), height > 0
        if self.width < 1 or self.height < 1:
            raise ValueError("it has no pixels")
        if self.bits <= 8:
            self.palette_length = self.palette_length or 2**self.bits
        self.row = (self.width * self.bits + 31) // 32 * 4

    def channels(self) -> list[int] | None:
        """For each of R, G, B and, where there is one, A the byte of a pixel that holds it; None where the
        pixels are not made of whole bytes."""
        if self.compression == _PLAIN and self.bits in (24, 32):
            return [2, 1, 0]
        if self.compression == _BIT_FIELDS and self.bits == 32:
            masks = [mask for mask in self.masks if mask]
            places = [(mask.bit_length() - 1) // 8 for mask in masks]
            if len(masks) >= 3 and all(m == 255 << 8 * p for m, p in zip(masks, places, strict=True)):
                return places
        return None

    @property
    def plain(self) -> bool:
        return self.channels() is not None or (self.compression == _PLAIN and self.bits in (1, 4, 8))


class BmpPicture:
    """A decoded BMP file; `rgb` (H, W, 3) and `alpha` (H, W) or None, uint8.

    Raises ValueError, struct.error or OSError for a file that is damaged.
    """

    orientation = 1

    def __init__(self, data: bytes) -> None:
        header = _Header(data)
        if not header.plain:
            with BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as image:
                out = io.BytesIO()
                dpi = {"dpi": image.info["dpi"]} if image.info.get("dpi") else {}
                image.convert("RGB").save(out, "BMP", **dpi)
            data = out.getvalue()
            header = _Header(data)
        if len(data) < header.pixels + header.row * header.height:
            raise ValueError("it is cut short")
        self._data, self._header = data, header
        self.alpha: np.ndarray | None = None
        channels = header.channels()
        if channels is None:
            indices = self._indices(self._rows(data))
            palette = self._palette()
            if int(indices.max()) >= len(palette):
                raise ValueError("it uses colours that its palette does not have")
            self.rgb = palette[indices]
        else:
            pixels = self._pixels(self._rows(data))
            self.rgb = pixels[..., channels[:3]]
            self.alpha = pixels[..., channels[3]] if len(channels) == 4 else None

    def _rows(self, data: bytes | bytearray) -> np.ndarray:
        """(H, bytes) uint8 from the top down; a view, which writes through into a bytearray."""
        header = self._header
        rows = np.frombuffer(data, np.uint8, header.row * header.height, header.pixels)
        rows = rows.reshape(header.height, header.row)
        return rows[::-1] if header.upwards else rows

    def _pixels(self, rows: np.ndarray) -> np.ndarray:
        """(H, W, bytes of a pixel), a view."""
        size = self._header.bits // 8
        return rows[:, : self._header.width * size].reshape(len(rows), self._header.width, size)

    def _indices(self, rows: np.ndarray) -> np.ndarray:
        return samples.unpack_bits(rows, self._header.bits, self._header.width)

    def _palette(self) -> np.ndarray:
        """(N, 3) uint8."""
        header = self._header
        length = min(header.palette_length, (header.pixels - header.palette_place) // header.entry_size)
        table = np.frombuffer(self._data, np.uint8, length * header.entry_size, header.palette_place)
        return table.reshape(length, header.entry_size)[:, 2::-1]

    def encode(self, rgb: np.ndarray, changed: np.ndarray, opaque: bool) -> bytes:
        """The file with the pixels of `rgb` where `changed` (H, W); `opaque`: and made opaque there."""
        out = bytearray(self._data)
        rows, header, channels = self._rows(out), self._header, self._header.channels()
        if channels is None:
            palette = self._palette()
            indices, new = samples.into_palette(self._indices(rows), palette, rgb[changed], changed,
                                                size=len(palette))
            packed = samples.pack_bits(indices, header.bits)
            rows[:, : packed.shape[1]] = packed
            table = np.frombuffer(out, np.uint8, len(palette) * header.entry_size, header.palette_place)
            table.reshape(len(palette), header.entry_size)[: len(new), 2::-1] = new
        else:
            pixels = self._pixels(rows)
            for channel, place in enumerate(channels[:3]):
                pixels[..., place][changed] = rgb[..., channel][changed]
            if opaque and len(channels) == 4:
                pixels[..., channels[3]][changed] = 255
        return bytes(out)
