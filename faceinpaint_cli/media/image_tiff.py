"""TIFF (revision 6.0), repaired in place: only strips or tiles that hold changed pixels are written anew.

Everything else in the file (tags, further pages, profiles, makers' notes with offsets of their own) stays
where it is, byte for byte. A new strip that is longer than the old goes to the end of the file.

Coded any other way than samples of 1 to 16 bits, raw or losslessly packed (JPEG inside TIFF, fax codes), the
page gets new deflated strips with the pixels as decoded, and keeps its other tags.
"""

from __future__ import annotations

import io

import numpy as np

from faceinpaint_cli.media import image_samples as samples
from faceinpaint_cli.media.inks import Inks
from faceinpaint_cli.media.tiff_file import BIG, TiffFile, UnlimitedTiff, pack, unpack
from faceinpaint_cli.media.tiff_tags import Tag

MAGIC = (b"II*\0", b"MM\0*", *BIG)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
_PREMULTIPLIED, _ALPHA = 1, 2
_DEFLATE = 8


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the first page states them."""
    file = TiffFile(data)
    return file.number(Tag.WIDTH), file.number(Tag.HEIGHT)


class TiffPicture:
    """The decoded first page of a TIFF file; `rgb` (H, W, 3) and `alpha` (H, W) or None, uint8 or uint16, as
    stored (not turned). Further pages are kept as they are.

    Raises ValueError or OSError for a file that is damaged, and for samples that are no unsigned integers.
    """

    def __init__(self, data: bytes) -> None:
        file = TiffFile(data)
        self.pages = file.page_count()
        if not file.is_plain() or file.number(Tag.PHOTOMETRIC) not in _COLOURS:
            data = _deflated(file)
            file = TiffFile(data)
        self._file = file
        self._bits, self._photometric = file.bits, file.number(Tag.PHOTOMETRIC)
        self._colours = _COLOURS[self._photometric]
        if file.channels < self._colours:
            raise ValueError(f"it has {file.channels} channels where its kind of colour needs {self._colours}")
        self.orientation = min(max(file.number(Tag.ORIENTATION, 1), 1), 8)
        extra = file.numbers(Tag.EXTRA_SAMPLES)
        self._alpha_kind = extra[0] if extra and extra[0] in (_PREMULTIPLIED, _ALPHA) else None
        if self._photometric == _CMYK and self._bits != 8:
            raise ValueError(f"it is CMYK of {self._bits} bits; convert it to 8 bits or to RGB")
        kind = np.uint16 if self._bits == 16 else np.uint8
        self._raw = np.zeros((file.height, file.width, file.channels), kind)
        for segment in file.segments():
            rows, columns = self._raw[segment.area].shape[:2]
            self._raw[segment.area] = unpack(file, segment)[:rows, :columns]
        self.alpha = None
        if self._alpha_kind is not None:
            self.alpha = samples.scale_bits(self._raw[..., self._colours], self._bits)
        self._inks = Inks(file.profile() if self._photometric == _CMYK else None)
        self.rgb = self._view()

    def _view(self) -> np.ndarray:
        raw = self._raw[..., : self._colours]
        if self._photometric == _PALETTE:
            return self._palette()[raw[..., 0]]
        if self._photometric == _CMYK:
            return self._inks.to_rgb(raw)
        colours = samples.scale_bits(raw, self._bits)
        if self._photometric == _WHITE_IS_ZERO:
            colours = samples.full(raw.dtype) - colours
        if self._alpha_kind == _PREMULTIPLIED and self.alpha is not None:
            white = samples.full(raw.dtype)
            divisor = np.maximum(self.alpha, 1)[..., None].astype(np.uint32)
            colours = np.minimum((colours.astype(np.uint32) * white + divisor // 2) // divisor, white)
        return np.broadcast_to(colours, (*colours.shape[:2], 3)).astype(self._raw.dtype)

    def _palette(self) -> np.ndarray:
        """(2 ** bits, 3) uint8."""
        table = np.array(self._file.numbers(Tag.COLOUR_MAP)).reshape(3, -1).T
        return (table >> 8 if table.max() > 255 else table).astype(np.uint8)  # some writers forget to scale

    def encode(self, rgb: np.ndarray, changed: np.ndarray, opaque: bool) -> bytes:
        """The file with the pixels of `rgb` where `changed` (H, W); `opaque`: and made opaque there."""
        raw, out = self._raw.copy(), bytearray(self._file.data)
        alpha = None if self.alpha is None else self.alpha[changed]
        if opaque and alpha is not None:
            alpha = np.full_like(alpha, samples.full(alpha.dtype))
            raw[changed, self._colours] = samples.reduce_bits(alpha, self._bits)
        if self._photometric == _PALETTE:
            raw[..., 0], palette = samples.into_palette(raw[..., 0], self._palette(), rgb[changed], changed,
                                                        size=2**self._bits)
            self._file.put_numbers(out, Tag.COLOUR_MAP, (palette.T.astype(int) * 257).ravel().tolist())
        else:
            raw[changed, : self._colours] = self._as_stored(rgb[changed], alpha)
        replaced = {}
        for segment in self._file.segments():
            if changed[segment.area[:2]].any():
                replaced[segment.number] = pack(self._file, segment, raw)
        self._file.put_segments(out, replaced)
        return bytes(out)

    def _as_stored(self, rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        """(N, 3) to (N, colours)."""
        if self._photometric == _CMYK:
            return self._inks.to_cmyk(rgb)
        new = rgb if self._photometric == _RGB else samples.grey_of(rgb)[:, None]
        if self._alpha_kind == _PREMULTIPLIED and alpha is not None:
            white = samples.full(new.dtype)
            new = ((new.astype(np.uint64) * alpha[:, None] + white // 2) // white).astype(new.dtype)
        if self._photometric == _WHITE_IS_ZERO:
            new = samples.full(new.dtype) - new
        return samples.reduce_bits(new, self._bits)


def _deflated(file: TiffFile) -> bytes:
    """The file with its first page's pixels, as Pillow decodes them, in deflated strips."""
    if not file.whole_numbers():
        raise ValueError("its pixels are floating point, signed or of more than 16 bits; convert to 8 or 16 bits of "
                         "grey or RGB")
    with UnlimitedTiff(io.BytesIO(file.for_decoding())) as image:
        mode = {"1": "L", "YCbCr": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
        if mode not in ("L", "RGB", "RGBA", "CMYK"):
            raise ValueError(f"its pixels are of a kind that is not supported ({image.mode}); convert to 8 "
                             "or 16 bits of grey or RGB")
        pixels = np.asarray(image.convert(mode))
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    fields: dict[Tag, list[int]] = {
        Tag.BITS: [8] * channels, Tag.COMPRESSION: [_DEFLATE], Tag.CHANNELS: [channels], Tag.PLANAR: [1],
        Tag.PHOTOMETRIC: [{"L": _BLACK_IS_ZERO, "CMYK": _CMYK}.get(mode, _RGB)],
    }
    if mode == "RGBA":
        fields[Tag.EXTRA_SAMPLES] = [_ALPHA]
    return file.with_new_pixels(np.ascontiguousarray(pixels).tobytes(), fields)
