"""JPEG, written back with the source's tables, sampling and metadata, so that what did not change stays put.

Going through RGB would disturb the whole picture: its colours are rounded and clipped, and its chroma is
interpolated up and averaged down again. So the planes are taken as the file holds them, the changed pixels
are put in, and the encoder gets chroma that averages to exactly what it was. Requantised with the same
tables, an unchanged block comes out as it went in but for rounding. That holds at the right and lower border
too, because the blocks there are decoded and encoded whole, with what lies beyond the border.
"""

from __future__ import annotations

import io
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from faceinpaint_cli.media import image_samples as samples
from faceinpaint_cli.media.exif import orientation_of, with_thumbnail_of
from faceinpaint_cli.media.inks import Inks

_APP0, _APP1, _APP2, _APP14, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
_SOS, _EOI = 0xDA, 0xD9
_ROOM = threading.Lock()
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_MOST_BYTES = 8
"""Encoded bytes of a pixel at most: noise at the finest tables takes 4 to 6."""
_SAMPLING = {(1, 1): 0, (2, 1): 1, (2, 2): 2}
"""Pillow's number for the sampling factors of luma that it can write; others become (1, 1): no loss."""


class _Segment(NamedTuple):
    marker: int
    body: bytes


class _Frame(NamedTuple):
    bits: int
    height: int
    width: int
    sampling: tuple[tuple[int, int], ...]
    """(horizontal, vertical) factors of each component."""


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the frame header states them."""
    for segment, _ in _segments(data):
        if segment.marker in _FRAMES:
            frame = _frame(segment.body)
            return frame.width, frame.height
    raise ValueError("it has no frame header")


class JpegPicture:
    """A decoded JPEG file; `rgb` (H, W, 3) uint8 as stored (not turned); `alpha` is None.

    Raises ValueError or OSError for a file that is damaged.
    """

    alpha: np.ndarray | None = None

    def __init__(self, data: bytes) -> None:
        self._metadata: list[_Segment] = []
        frame, scan, together = None, len(data), True
        for segment, place in _segments(data):
            if segment.marker in _FRAMES:
                frame, together = _frame(segment.body), segment.marker not in _PROGRESSIVE
            elif 0xE0 <= segment.marker <= 0xEF or segment.marker == _COM:
                self._metadata.append(segment)
            elif segment.marker == _SOS:
                scan = place
                together &= frame is not None and segment.body[0] == len(frame.sampling)
                break
        if frame is None or scan == len(data):
            raise ValueError("it is cut short")
        if frame.bits != 8:
            raise ValueError(f"it has {frame.bits} bits a sample; convert it to 8-bit JPEG or 16-bit PNG")
        self._sampling = _SAMPLING.get(frame.sampling[0], 0)
        self._whole = _whole_blocks(frame, together)
        self._plain = _without_metadata(data)
        self._trailing = data[_end_of_image(data, scan):]
        self.orientation = next((orientation_of(s.body) for s in self._metadata
                                 if s.marker == _APP1 and s.body[:4] == b"Exif"), 1)
        with JpegImagePlugin.JpegImageFile(io.BytesIO(self._plain)) as image:
            self._mode = image.mode
            self._options: dict[str, Any] = {"progressive": bool(image.info.get("progressive"))}
            self._tables = image.quantization
            self._is_rgb = image.mode == "RGB" and _stores_rgb(image, data)
            self._inks = Inks(self._profile() if image.mode == "CMYK" else None)
            stored = np.array(image)
            self.rgb = self._inks.to_rgb(stored) if image.mode == "CMYK" else np.array(image.convert("RGB"))

    def encode(self, rgb: np.ndarray, changed: np.ndarray, opaque: bool) -> bytes:
        """The file with the pixels of `rgb` where `changed` (H, W); `opaque` means nothing without alpha."""
        height, width = changed.shape
        whole = np.where(changed[..., None], rgb, self.rgb)
        beyond = (0, self._whole.height - height), (0, self._whole.width - width)
        rgb = np.pad(rgb, (*beyond, (0, 0)), mode="edge")
        changed = np.pad(changed, beyond, mode="edge")
        sampling = self._sampling
        tables: Any = self._tables
        if self._mode == "L":
            pixels = self._draft("L")
            pixels[changed] = samples.grey_of(rgb[changed])
        elif self._mode == "CMYK":
            pixels = self._draft("CMYK")
            pixels[changed] = self._inks.to_cmyk(rgb[changed])
            sampling, tables = 0, [self._tables[0]]
        elif self._is_rgb:
            pixels = self._draft("RGB")
            pixels[changed] = rgb[changed]
            sampling, self._options["keep_rgb"] = 0, True
        else:
            pixels = self._draft("YCbCr")
            pixels[..., 1:] = self._settled_chroma(pixels[..., 1:], sampling)
            pixels[changed] = np.asarray(Image.fromarray(rgb[changed][None]).convert("YCbCr"))[0]
        out = io.BytesIO()
        mode = {"L": "L", "CMYK": "CMYK"}.get(self._mode, "RGB" if self._is_rgb else "YCbCr")
        image = Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels))
        with _room_for(2 * len(self._plain) + _MOST_BYTES * int(changed.sum())):
            image.save(out, "JPEG", qtables=tables, subsampling=sampling, optimize=True, **self._options)
        return self._with_metadata(_with_size(out.getvalue(), width, height), whole)

    def _profile(self) -> bytes:
        """The ICC profile, whose parts say their number and how many there are (ICC.1, annex B.4)."""
        parts = [s.body for s in self._metadata if s.marker == _APP2 and s.body[:12] == b"ICC_PROFILE\0"]
        return b"".join(part[14:] for part in sorted(parts, key=lambda part: part[12]))

    def _draft(self, mode: str, divide: int = 1) -> np.ndarray:
        """The planes without conversion of colour, (H, W[, C]) uint8 in whole blocks, at full or half size."""
        data = _with_size(self._plain, self._whole.width, self._whole.height)
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
            image.draft(mode, (image.width // divide, image.height // divide))
            return np.array(image)

    def _settled_chroma(self, chroma: np.ndarray, sampling: int) -> np.ndarray:
        """Chroma (H, W, 2) whose averages over each coded sample are the samples in the file.

        libjpeg interpolates chroma up when it decodes; averaged down again that would blur it a little.
        """
        height, width = chroma.shape[:2]
        if sampling == 2 and min(height, width) > 1:
            # At half size libjpeg scales luma and leaves 2 x 2 subsampled chroma as it is in the file.
            coded = self._draft("YCbCr", 2)[..., 1:]
            return coded.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
        if sampling == 1 and width > 3:
            return _undo_wide_interpolation(chroma)
        return chroma

    def _with_metadata(self, encoded: bytes, rgb: np.ndarray) -> bytes:
        """The encoder's tables and scan behind the source's own segments, in their order; a thumbnail in them
        is drawn anew from `rgb`."""
        own = [s for s, _ in _segments(encoded) if s.marker == _APP14]
        # The encoder's Adobe segment says how it coded the colours; a different one in the source would lie.
        # The index of further pictures (MPF) holds offsets into the file, which have changed.
        kept = [s for s in self._metadata
                if not (s.marker == _APP14 and own) and not (s.marker == _APP2 and s.body[:4] == b"MPF\0")]
        kept = [s._replace(body=with_thumbnail_of(s.body, rgb)) if s.body[:4] == b"Exif" else s for s in kept]
        place = next((i for i, s in enumerate(kept) if s.marker != _APP0), len(kept))
        kept[place:place] = own
        parts = [b"\xff\xd8"]
        parts += (struct.pack(">BBH", 0xFF, s.marker, len(s.body) + 2) + s.body for s in kept)
        return b"".join([*parts, _without_metadata(encoded, own_adobe=False)[2:], self._trailing])


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """Let Pillow's encoder write `size` bytes at once: optimised and progressive files need one buffer for all of
    it, and by itself Pillow gives them 2 bytes a pixel, too few for grain at quality 100."""
    with _ROOM:
        before, ImageFile.MAXBLOCK = ImageFile.MAXBLOCK, max(ImageFile.MAXBLOCK, size)
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before


def _segments(data: bytes) -> Iterator[tuple[_Segment, int]]:
    """Header segments up to and with the first start of scan, each with the place where it ends."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            raise ValueError("its header is damaged")
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        length, = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if end > len(data):
            break
        yield _Segment(marker, data[place + 4: end]), end
        if marker in (_SOS, _EOI):
            return
        place = end
    raise ValueError("it is cut short")


def _frame(body: bytes) -> _Frame:
    bits, height, width, count = struct.unpack_from(">BHHB", body)
    factors = tuple((body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(count))
    return _Frame(bits, height, width, factors)


def _whole_blocks(frame: _Frame, together: bool) -> _Frame:
    """The frame enlarged to the blocks that the file holds, so that none is added or missing.

    With all components `together` in one scan these come in units of blocks of each (ITU-T T.81, A.2.3);
    else only the blocks that the picture needs are there (A.2.2), as in a progressive file, where only the scan of
    the means has all components.
    """
    across = max(h for h, _ in frame.sampling)
    down = max(v for _, v in frame.sampling)
    if not together or len(frame.sampling) == 1 or (across, down) not in _SAMPLING:
        across = down = 1
    return frame._replace(height=-(-frame.height // (8 * down)) * 8 * down,
                          width=-(-frame.width // (8 * across)) * 8 * across)


def _with_size(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its frame header."""
    for segment, end in _segments(data):
        if segment.marker in _FRAMES:
            place = end - len(segment.body) + 1
            return data[:place] + struct.pack(">HH", height, width) + data[place + 4:]
    raise ValueError("it has no frame header")


def _without_metadata(data: bytes, own_adobe: bool = True) -> bytes:
    """The file with no APPn but what decoding needs (JFIF, Adobe), so that nothing else reaches a decoder."""
    parts, rest = [data[:2]], 2
    for segment, end in _segments(data):
        rest = end
        app = 0xE0 <= segment.marker <= 0xEF or segment.marker == _COM
        wanted = own_adobe and (segment.marker == _APP14 or segment.body[:5] == b"JFIF\0")
        if not app or wanted:
            parts.append(struct.pack(">BBH", 0xFF, segment.marker, len(segment.body) + 2) + segment.body)
    return b"".join([*parts, data[rest:]])


def _end_of_image(data: bytes, scan: int) -> int:
    """Where the picture ends; what follows is not part of it (a motion photo's video, say)."""
    for match in re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]").finditer(data, scan):
        if match.group()[1] == _EOI:
            return match.end()
    return len(data)


def _stores_rgb(image: JpegImagePlugin.JpegImageFile, data: bytes) -> bool:
    """Whether the three components are R, G, B, decided as libjpeg does."""
    if "adobe_transform" in image.info:
        return image.info["adobe_transform"] == 0
    ids = next(bytes(s.body[6 + 3 * i] for i in range(3)) for s, _ in _segments(data) if s.marker in _FRAMES)
    return "jfif" not in image.info and ids == b"RGB"


def _undo_wide_interpolation(chroma: np.ndarray) -> np.ndarray:
    """(H, W, 2) interpolated by libjpeg from half the width, back to the coded samples, each twice.

    Its filter gives, between the coded samples p and q, (3p + q) / 4 and (p + 3q) / 4; so p = (3a - b) / 2.
    """
    width = chroma.shape[1]
    c = np.pad(chroma.astype(np.float32), ((0, 0), (0, width % 2), (0, 0)), mode="edge")
    even, odd = c[:, 0::2], c[:, 1::2]
    coded = (even + odd) / 2
    from_right = (3 * odd[:, :-1] - even[:, 1:]) / 2
    from_left = (3 * even[:, 1:] - odd[:, :-1]) / 2
    coded[:, 0], coded[:, -1] = even[:, 0], odd[:, -1]
    coded[:, 1:-1] = (from_right[:, 1:] + from_left[:, :-1]) / 2
    return np.clip(np.rint(coded), 0, 255).astype(np.uint8).repeat(2, axis=1)[:, :width]
