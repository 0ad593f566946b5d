"""The bytes of a TIFF file: its first page's fields, and its strips or tiles one by one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from faceinpaint_cli.media import image_samples as samples
from faceinpaint_cli.media.tiff_tags import DECODING, LAYOUT, SINGLE, Tag

BIG = (b"II+\0", b"MM\0+")
_RAW, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS, _LZMA, _ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
_PACKERS = {_LZW: "tiff_lzw", _PACKBITS: "packbits", _LZMA: "lzma", _ZSTD: "zstd"}
"""Compressions of plain bytes, by the names that Pillow gives to libtiff's coders."""
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I"}
_SHORT, _LONG = 3, 4
_UNSIGNED, _UNDEFINED = 1, 4
_HORIZONTAL = 2
_MOST_CHANNELS = 16


class UnlimitedTiff(TiffImagePlugin.TiffImageFile):
    """Pillow's decoder without its warning of large pictures: the size is checked before."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


@dataclass(frozen=True)
class Segment:
    """One strip or tile: `area` of the picture (rows, columns, channels) that it holds; its padded size."""

    number: int
    area: tuple[slice, slice, slice]
    rows: int
    columns: int
    channels: int


@dataclass(frozen=True)
class _Field:
    kind: int
    count: int
    entry: int
    """Place of the 12-byte entry in the file."""


class TiffFile:
    """Reads fields of the first page of `data`; ValueError or struct.error where they make no sense."""

    def __init__(self, data: bytes) -> None:
        if data.startswith(BIG):
            raise ValueError("it is a BigTIFF, made for files of more than 4 GB; convert it to plain TIFF")
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self._page, = self._unpack("I", 4)
        count, = self._unpack("H", self._page)
        self._fields: dict[int, _Field] = {}
        for entry in range(self._page + 2, self._page + 2 + 12 * count, 12):
            tag, kind, values = self._unpack("HHI", entry)
            self._fields.setdefault(tag, _Field(kind, values, entry))
        self._end = self._page + 2 + 12 * count
        self.width, self.height = self.number(Tag.WIDTH), self.number(Tag.HEIGHT)
        self.channels = self.number(Tag.CHANNELS, 1)
        if not (self.width and self.height and self.channels):
            raise ValueError("it has no pixels")
        if self.channels > _MOST_CHANNELS:
            raise ValueError(f"it has {self.channels} channels; convert it to grey or RGB")

    def _unpack(self, form: str, place: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + form, self.data, place)

    def numbers(self, tag: Tag) -> list[int]:
        """The values of a field of whole numbers; empty where it is absent."""
        field = self._fields.get(tag)
        if field is None:
            return []
        form = _FORMATS.get(field.kind)
        if form is None:
            raise ValueError(f"its field {tag.name} is not made of whole numbers")
        return list(self._unpack(f"{field.count}{form}", self._place(field)))

    def number(self, tag: Tag, default: int | None = None) -> int:
        values = self.numbers(tag)
        if values:
            return values[0]
        if default is None:
            raise ValueError(f"its field {tag.name} is missing")
        return default

    def profile(self) -> bytes | None:
        """The ICC profile."""
        field = self._fields.get(Tag.PROFILE)
        if field is None:
            return None
        place = self._place(field)
        return self.data[place: place + field.count]

    def _place(self, field: _Field) -> int:
        if field.count * _TYPE_SIZES.get(field.kind, 1) <= 4:
            return field.entry + 8
        return self._unpack("I", field.entry + 8)[0]

    @property
    def bits(self) -> int:
        return self.number(Tag.BITS, 1)

    @property
    def predictor(self) -> int:
        return self.number(Tag.PREDICTOR, 1)

    def page_count(self) -> int:
        seen: set[int] = set()
        page = self._page
        while page and page not in seen:
            seen.add(page)
            count, = self._unpack("H", page)
            page, = self._unpack("I", page + 2 + 12 * count)
        return len(seen)

    def is_plain(self) -> bool:
        """Whether the samples can be taken out of the strips or tiles here, and put back."""
        bits = set(self.numbers(Tag.BITS) or [1])
        packed = self.number(Tag.COMPRESSION, _RAW)
        small = self.bits < 8
        return (len(bits) == 1 and self.bits in (1, 2, 4, 8, 16) and self.whole_numbers()
                and (packed in (_RAW, _DEFLATE, _OLD_DEFLATE) or packed in _PACKERS)
                and self.number(Tag.FILL_ORDER, 1) == 1
                and (self.predictor == 1 or (self.predictor == _HORIZONTAL and not small))
                and (bool(self.numbers(Tag.STRIP_OFFSETS)) or bool(self.numbers(Tag.TILE_OFFSETS))))

    def whole_numbers(self) -> bool:
        """Whether all samples are unsigned and of 16 bits at most."""
        formats = set(self.numbers(Tag.SAMPLE_FORMAT) or [_UNSIGNED])
        return formats <= {_UNSIGNED, _UNDEFINED} and max(self.numbers(Tag.BITS) or [1]) <= 16

    @property
    def _tiled(self) -> bool:
        return Tag.TILE_OFFSETS in self._fields

    def segments(self) -> Iterator[Segment]:
        """All strips or tiles in the order of the file's own lists."""
        if self._tiled:
            rows, columns = self.number(Tag.TILE_HEIGHT), self.number(Tag.TILE_WIDTH)
        else:
            rows, columns = min(self.number(Tag.ROWS_PER_STRIP, self.height), self.height), self.width
        if not rows or not columns:
            raise ValueError("its strips or tiles have no size")
        if rows * columns > 4 * self.width * self.height + 2**24:
            raise ValueError("its tiles are far larger than the picture")
        apart = self.channels > 1 and self.number(Tag.PLANAR, 1) == 2
        number = 0
        for channel in range(self.channels if apart else 1):
            part = slice(channel, channel + 1) if apart else slice(None)
            for y in range(0, self.height, rows):
                for x in range(0, self.width, columns):
                    area = (slice(y, min(y + rows, self.height)), slice(x, min(x + columns, self.width)),
                            part)
                    # A tile is stored whole at the border, a strip is cut.
                    stored = rows if self._tiled else min(rows, self.height - y)
                    yield Segment(number, area, stored, columns, 1 if apart else self.channels)
                    number += 1

    def _tables(self) -> tuple[Tag, Tag]:
        return (Tag.TILE_OFFSETS, Tag.TILE_LENGTHS) if self._tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_LENGTHS)

    def segment_bytes(self, segment: Segment) -> bytes:
        """The bytes of a strip or tile as they are in the file, compressed."""
        offsets, lengths = (self.numbers(tag) for tag in self._tables())
        if segment.number >= len(offsets) or (lengths and segment.number >= len(lengths)):
            raise ValueError("it lists fewer strips or tiles than its size needs")
        start = offsets[segment.number]
        end = start + lengths[segment.number] if lengths else len(self.data)
        if end > len(self.data):
            raise ValueError("it is cut short")
        return self.data[start:end]

    def put_segments(self, out: bytearray, replaced: dict[int, bytes]) -> None:
        """Write new strips or tiles over the old ones where they fit, else at the end of `out`."""
        offset_tag, length_tag = self._tables()
        offsets, lengths = self.numbers(offset_tag), self.numbers(length_tag)
        moved = False
        for number, packed in replaced.items():
            if not lengths or len(packed) > lengths[number]:
                offsets[number] = _append(out, packed)
                moved = True
            else:
                out[offsets[number]: offsets[number] + len(packed)] = packed
            if lengths:
                lengths[number] = len(packed)
        if moved:
            self.put_numbers(out, offset_tag, offsets)
        if lengths:
            self.put_numbers(out, length_tag, lengths)

    def put_numbers(self, out: bytearray, tag: Tag, values: list[int]) -> None:
        """Overwrite a field of `out`, with 4-byte values where they no longer fit into the old ones."""
        field = self._fields[tag]
        form = _FORMATS[field.kind]
        if field.count == len(values) and max(values) < 1 << 8 * struct.calcsize(form):
            struct.pack_into(f"{self.order}{len(values)}{form}", out, self._place(field), *values)
            return
        out[field.entry: field.entry + 12] = self._entry(out, tag, _LONG, values)

    def _entry(self, out: bytearray, tag: int, kind: int, values: list[int]) -> bytes:
        body = struct.pack(f"{self.order}{len(values)}{_FORMATS[kind]}", *values)
        where = body.ljust(4, b"\0") if len(body) <= 4 else struct.pack(self.order + "I", _append(out, body))
        return struct.pack(self.order + "HHI", tag, kind, len(values)) + where

    def for_decoding(self) -> bytes:
        """The file with no field but those that the pixels need, so that nothing else reaches a decoder."""
        entries = []
        for tag in sorted(DECODING & self._fields.keys()):
            field = self._fields[tag]
            size = field.count * _TYPE_SIZES.get(field.kind, 1)
            if self._place(field) + size > len(self.data) or (tag in SINGLE and field.count != 1):
                raise ValueError(f"its field {Tag(tag).name} is damaged")
            entries.append(self.data[field.entry: field.entry + 12])
        out = bytearray(self.data)
        directory = struct.pack(self.order + "H", len(entries)) + b"".join(entries) + bytes(4)
        struct.pack_into(self.order + "I", out, 4, _append(out, directory))
        return bytes(out)

    def with_new_pixels(self, pixels: bytes, fields: dict[Tag, list[int]], rows: int = 64) -> bytes:
        """The file with a new directory for the first page: deflated strips of `pixels` (rows of whole bytes,
        top down), `fields` set, and those that described the old pixels dropped."""
        out = bytearray(self.data)
        row = len(pixels) // self.height
        strips = [zlib.compress(pixels[y * row: (y + rows) * row]) for y in range(0, self.height, rows)]
        offsets = [_append(out, strip) for strip in strips]
        entries = {tag: self.data[f.entry: f.entry + 12] for tag, f in self._fields.items()
                   if tag not in LAYOUT and tag not in fields}
        for tag, values in fields.items():
            entries[tag] = self._entry(out, tag, _SHORT, values)
        for tag, values in ((Tag.STRIP_OFFSETS, offsets), (Tag.STRIP_LENGTHS, [len(s) for s in strips]),
                            (Tag.ROWS_PER_STRIP, [rows])):
            entries[tag] = self._entry(out, tag, _LONG, values)
        following = self.data[self._end: self._end + 4].ljust(4, b"\0")
        directory = struct.pack(self.order + "H", len(entries))
        directory += b"".join(entries[tag] for tag in sorted(entries)) + following
        struct.pack_into(self.order + "I", out, 4, _append(out, directory))
        return bytes(out)


def unpack(file: TiffFile, segment: Segment) -> np.ndarray:
    """The samples of a strip or tile: (rows, columns, channels), uint16 for 16 bits, else uint8."""
    bits, values = file.bits, segment.columns * segment.channels
    row = -(-values * bits // 8)
    data = _decompress(file.number(Tag.COMPRESSION, _RAW), file.segment_bytes(segment), segment.rows, row)
    if len(data) < segment.rows * row:
        raise ValueError("it is cut short")
    rows = np.frombuffer(data, np.uint8, segment.rows * row).reshape(segment.rows, row)
    if bits == 16:
        flat = rows.view(file.order + "u2").astype(np.uint16)
    else:
        flat = samples.unpack_bits(rows, bits, values)
    array = flat.reshape(segment.rows, segment.columns, segment.channels)
    if file.predictor == _HORIZONTAL:
        array = np.cumsum(array, axis=1, dtype=array.dtype)
    return array


def pack(file: TiffFile, segment: Segment, picture: np.ndarray) -> bytes:
    """The inverse of `unpack`, from the whole picture's samples (H, W, channels)."""
    array = picture[segment.area]
    missing = segment.rows - array.shape[0], segment.columns - array.shape[1]
    array = np.pad(array, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    if file.predictor == _HORIZONTAL:
        array = np.diff(array, axis=1, prepend=array.dtype.type(0))
    rows = array.reshape(segment.rows, -1)
    if file.bits == 16:
        rows = rows.astype(file.order + "u2").view(np.uint8)
    else:
        rows = samples.pack_bits(rows, file.bits)
    return _compress(file.number(Tag.COMPRESSION, _RAW), np.ascontiguousarray(rows))


def _decompress(compression: int, data: bytes, rows: int, row: int) -> bytes:
    if compression == _RAW:
        return data
    if compression in (_DEFLATE, _OLD_DEFLATE):
        return zlib.decompressobj().decompress(data, rows * row)
    # libtiff's coders work on bytes, whatever these mean: hand them over as a grey picture of one strip.
    fields = [(Tag.WIDTH, row), (Tag.HEIGHT, rows), (Tag.BITS, 8), (Tag.COMPRESSION, compression),
              (Tag.PHOTOMETRIC, 1), (Tag.STRIP_OFFSETS, 8 + 2 + 12 * 9 + 4), (Tag.CHANNELS, 1),
              (Tag.ROWS_PER_STRIP, rows), (Tag.STRIP_LENGTHS, len(data))]
    page = b"".join(struct.pack("<HHII", tag, _LONG, 1, value) for tag, value in fields)
    whole = struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + page + bytes(4) + data
    with UnlimitedTiff(io.BytesIO(whole)) as image:
        return image.tobytes()


def _compress(compression: int, rows: np.ndarray) -> bytes:
    if compression == _RAW:
        return rows.tobytes()
    if compression in (_DEFLATE, _OLD_DEFLATE):
        return zlib.compress(rows.tobytes())
    out = io.BytesIO()
    Image.fromarray(rows).save(out, "TIFF", compression=_PACKERS[compression],
                               tiffinfo={int(Tag.ROWS_PER_STRIP): len(rows)})
    packed = TiffFile(out.getvalue())
    return b"".join(packed.segment_bytes(segment) for segment in packed.segments())


def _append(out: bytearray, part: bytes) -> int:
    """Put `part` at the end of `out`, on an even offset as TIFF asks; returns the offset."""
    out += bytes(len(out) % 2)
    place = len(out)
    out += part
    return place
