"""PNG, 1 to 16 bits, written back with every chunk but the pixels as it was (ISO/IEC 15948)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from PIL import PngImagePlugin

from faceinpaint_cli.media import image_samples as samples
from faceinpaint_cli.media.exif import orientation_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_ROWS_AT_ONCE = 256


class _Header(NamedTuple):
    width: int
    height: int
    bits: int
    colour: int
    compression: int = 0
    filter: int = 0
    interlace: int = 0


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the header states them."""
    width, height = struct.unpack(">II", data[16:24])
    return width, height


class PngPicture:
    """A decoded PNG file; `rgb` (H, W, 3) and `alpha` (H, W) or None, uint8 or uint16, as stored, not turned.

    Raises ValueError or OSError for a file that is damaged, and for an animation.
    """

    def __init__(self, data: bytes) -> None:
        self._chunks = list(_chunks(data))
        kinds = [kind for kind, _ in self._chunks]
        if b"acTL" in kinds:
            raise ValueError("it is an animation; convert it to a video or to single pictures first")
        found = dict(self._chunks)
        self._header = _Header(*struct.unpack(">IIBBBBB", found[b"IHDR"]))
        self._transparent = found.get(b"tRNS")
        self.orientation = orientation_of(found.get(b"eXIf", b""))
        self._raw = self._decode()
        bits, colour = self._header.bits, self._header.colour
        if colour == _PALETTE:
            self._palette = np.frombuffer(found[b"PLTE"], np.uint8).reshape(-1, 3)
            if int(self._raw.max()) >= len(self._palette):
                raise ValueError("it uses colours that its palette does not have")
            self.rgb = self._palette[self._raw[..., 0]]
        else:
            colours = self._raw[..., : 1 if colour in (_GREY, _GREY_ALPHA) else 3]
            self.rgb = samples.scale_bits(colours, bits)
            if self.rgb.shape[2] == 1:
                self.rgb = np.broadcast_to(self.rgb, (*colours.shape[:2], 3))
        self.alpha = self._alpha()

    def _decode(self) -> np.ndarray:
        """(H, W, channels) as stored, uint8 or uint16, values below 2 ** bits."""
        header = self._header
        if header.bits == 16 and header.colour in (_RGB, _RGBA):
            plain = np.frombuffer(self._plain(header), np.uint8)
            bgr = cv2.imdecode(plain, cv2.IMREAD_UNCHANGED)
            if bgr is None or bgr.dtype != np.uint16:
                raise ValueError("its pixels are damaged")
            return bgr[..., [2, 1, 0, 3][: bgr.shape[2]]]
        if header.bits == 16:
            # Pillow reads 16-bit grey with alpha as 8-bit; two 8-bit channels have the same bytes.
            twin = _RGBA if header.colour == _GREY_ALPHA else _GREY_ALPHA
            pairs = _pillow(self._plain(header._replace(bits=8, colour=twin)))
            return np.ascontiguousarray(pairs).view(">u2").astype(np.uint16)
        raw = _pillow(self._plain(header))
        if raw.ndim == 2:
            raw = raw[..., None]
        if raw.dtype == bool:
            return raw.astype(np.uint8)
        return samples.reduce_bits(raw, header.bits) if header.colour == _GREY else raw

    def _plain(self, header: _Header) -> bytes:
        """The file with no chunk but those that the pixels need, so that nothing else reaches a decoder."""
        needed = [(b"IHDR", struct.pack(">IIBBBBB", *header))]
        needed += [chunk for chunk in self._chunks if chunk[0] in (b"PLTE", b"IDAT", b"IEND")]
        return _join(needed)

    def _key(self) -> np.ndarray | None:
        """The colour, as stored, that counts as transparent."""
        if self._transparent is None or self._header.colour not in (_GREY, _RGB):
            return None
        return np.frombuffer(self._transparent, ">u2")[: self._raw.shape[2]].astype(self._raw.dtype)

    def _alpha(self) -> np.ndarray | None:
        if self._header.colour in (_GREY_ALPHA, _RGBA):
            return self._raw[..., -1]
        key = self._key()
        if key is not None:
            opaque = (self._raw != key).any(axis=2)
            return opaque.astype(self._raw.dtype) * np.array(samples.full(self._raw.dtype), self._raw.dtype)
        if self._transparent is not None and self._header.colour == _PALETTE:
            return self._alpha_table()[self._raw[..., 0]]
        return None

    def _alpha_table(self) -> np.ndarray:
        table = np.full(len(self._palette), 255, np.uint8)
        given = np.frombuffer(self._transparent or b"", np.uint8)[: len(table)]
        table[: len(given)] = given
        return table

    def encode(self, rgb: np.ndarray, changed: np.ndarray, opaque: bool) -> bytes:
        """The file with the pixels of `rgb` where `changed` (H, W); `opaque`: and made opaque there."""
        header, raw = self._header._replace(interlace=0), self._raw.copy()
        if self.alpha is not None and not opaque and self._header.colour in (_GREY, _RGB, _PALETTE):
            changed = changed & (self.alpha > 0)  # these modes have no colour where they are transparent
        replaced: dict[bytes, bytes] = {}
        if header.colour == _PALETTE:
            raw, replaced = self._encode_palette(rgb, changed, opaque)
            header = header._replace(bits=8 if len(replaced[b"PLTE"]) // 3 > 2**header.bits else header.bits)
        else:
            new = rgb[changed]
            if header.colour in (_GREY, _GREY_ALPHA):
                new = samples.reduce_bits(samples.grey_of(new), header.bits)[:, None]
            key = self._key()
            if key is not None:
                hit = (new == key).all(axis=1)
                new[hit, 0] ^= 1  # one level off, lest the fill turn transparent
            raw[changed, : new.shape[1]] = new
            if opaque and header.colour in (_GREY_ALPHA, _RGBA):
                raw[changed, -1] = samples.full(raw.dtype)
        return self._write(header, raw, replaced)

    def _encode_palette(self, rgb: np.ndarray, changed: np.ndarray,
                        opaque: bool) -> tuple[np.ndarray, dict[bytes, bytes]]:
        palette, new = self._palette, rgb[changed]
        if self.alpha is not None:
            palette = np.column_stack([palette, self._alpha_table()])
            alpha = np.full(len(new), 255, np.uint8) if opaque else self.alpha[changed]
            new = np.column_stack([new, alpha])
        indices, palette = samples.into_palette(self._raw[..., 0], palette, new, changed)
        replaced = {b"PLTE": palette[:, :3].tobytes()}
        if self.alpha is not None:
            replaced[b"tRNS"] = palette[:, 3].tobytes()
        return indices[..., None], replaced

    def _write(self, header: _Header, raw: np.ndarray, replaced: dict[bytes, bytes]) -> bytes:
        chunks: list[tuple[bytes, bytes]] = [(b"IHDR", struct.pack(">IIBBBBB", *header))]
        pixels_done = False
        for kind, body in self._chunks[1:]:
            if kind != b"IDAT":
                chunks.append((kind, replaced.get(kind, body)))
            elif not pixels_done:
                chunks += ((b"IDAT", part) for part in _compress(header, raw))
                pixels_done = True
        return _join(chunks)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE)
    view = memoryview(data)
    while True:
        if place + 12 > len(data):
            raise ValueError("it is cut short")
        length, kind = struct.unpack_from(">I4s", data, place)
        if place + 12 + length > len(data):
            raise ValueError("it is cut short")
        body = bytes(view[place + 8: place + 8 + length])
        stated, = struct.unpack_from(">I", data, place + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != stated:
            raise ValueError(f"its {kind.decode('latin-1')} chunk is damaged")
        yield kind, body
        if kind == b"IEND":
            return
        place += 12 + length


def _join(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [SIGNATURE]
    for kind, body in chunks:
        checksum = zlib.crc32(body, zlib.crc32(kind))
        parts += [struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)]
    return b"".join(parts)


def _pillow(data: bytes) -> np.ndarray:
    # Not Image.open: it would warn of large pictures, whose size is checked before.
    with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
        return np.array(image)  # writable: asarray is not, and torch warns of that


def _compress(header: _Header, raw: np.ndarray) -> Iterator[bytes]:
    """IDAT bodies: each row filtered as leaves the smallest sum of differences (ISO/IEC 15948, 12.8)."""
    if header.bits == 16:
        rows = raw.astype(">u2").reshape(len(raw), -1).view(np.uint8)
    elif header.bits == 8:
        rows = raw.reshape(len(raw), -1)
    else:
        rows = samples.pack_bits(raw[..., 0], header.bits)
    distance = max(1, header.bits * _CHANNELS[header.colour] // 8)
    filters = header.bits >= 8 and header.colour != _PALETTE  # differences of indices mean nothing
    compressor = zlib.compressobj(6)
    above = np.zeros((1, rows.shape[1]), np.uint8)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start: start + _ROWS_AT_ONCE]
        if filters:
            filtered = _filter(np.concatenate([above, block]), distance)
        else:
            filtered = np.pad(block, ((0, 0), (1, 0)))
        above = block[-1:]
        part = compressor.compress(filtered.tobytes())
        if part:
            yield part
    yield compressor.flush()


def _filter(rows: np.ndarray, distance: int) -> np.ndarray:
    """(1 + H, bytes), the first row the one above, to (H, 1 + bytes) with the filter's number in front."""
    x, up = rows[1:], rows[:-1]
    left = np.pad(x, ((0, 0), (distance, 0)))[:, : x.shape[1]]
    corner = np.pad(up, ((0, 0), (distance, 0)))[:, : x.shape[1]]
    mean = ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)
    a, b, c = left.astype(np.int16), up.astype(np.int16), corner.astype(np.int16)
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, up, corner))
    candidates = np.stack([x, x - left, x - up, x - mean, x - paeth])
    cost = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    return np.column_stack([best.astype(np.uint8), candidates[best, np.arange(len(x))]])
