"""Between the planes of a video frame and RGB: the region that changed goes back, the rest stays as it was.

Y'CbCr as in ITU-R BT.601, BT.709 and BT.2020: with Kr, Kb of the matrix and Kg = 1 - Kr - Kb,
Y = Kr R + Kg G + Kb B, Cb = (B - Y) / (2 - 2 Kb), Cr = (R - Y) / (2 - 2 Kr); in limited range Y takes 16-235 and
Cb, Cr 16-240 of 8 bits, deeper samples the same shifted up; in full range all codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

LIMITED_RANGE, FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
                9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""(Kr, Kb) by AVColorSpace (ITU-T H.273, table 4)."""
UNTAGGED = 5
"""The matrix of a video that names none: BT.601, as most software assumes."""
PACKED_RGB = {"rgb24": (0, 1, 2), "bgr24": (2, 1, 0), "rgba": (0, 1, 2), "rgb0": (0, 1, 2), "bgra": (2, 1, 0),
              "bgr0": (2, 1, 0), "argb": (1, 2, 3), "0rgb": (1, 2, 3), "abgr": (3, 2, 1), "0bgr": (3, 2, 1)}
"""Where R, G and B stand among the bytes of a pixel."""


def eight_bit(image: np.ndarray) -> np.ndarray:
    """HWC uint8 of a uint8 or uint16 picture."""
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


def can_paste(pixel_format: str) -> bool:
    """Whether `paste` works on frames of this format."""
    if pixel_format in PACKED_RGB:
        return True
    f = av.VideoFormat(pixel_format, 16, 16)
    if not f.components:  # a surface of a graphics card
        return False
    one_each = len({c.plane for c in f.components}) == len(f.components)
    deep = max(c.bits for c in f.components)
    return one_each and not (f.has_palette or f.is_bit_stream or f.is_bayer or (deep > 8 and f.is_big_endian)
                             or deep > 16 or f.name.startswith(("gbrpf", "grayf", "xyz")) or f.name.endswith("msble"))


def depth(pixel_format: str) -> int:
    """Bits of the deepest component."""
    return max(c.bits for c in av.VideoFormat(pixel_format, 16, 16).components)


def has_alpha(pixel_format: str) -> bool:
    """Whether pictures of this format may be transparent, each by itself or by its palette."""
    f = av.VideoFormat(pixel_format, 16, 16)
    return f.has_palette or any(c.is_alpha for c in f.components)


def alpha_of(frame: av.VideoFrame) -> np.ndarray | None:
    """HW uint8, 0 = transparent; None where a frame has no alpha."""
    if not has_alpha(frame.format.name):
        return None
    return frame.reformat(format="rgba", interpolation="POINT").to_ndarray()[..., 3]


def is_rgb(pixel_format: str) -> bool:
    f = av.VideoFormat(pixel_format, 16, 16)
    return f.is_rgb or f.has_palette


def known_matrix(colorspace: int) -> int:
    """An AVColorSpace, or BT.601 where it is none that is known here."""
    return int(colorspace) if int(colorspace) in LUMA_WEIGHTS else UNTAGGED


def matrix_of(frame: av.VideoFrame) -> int:
    """The frame's AVColorSpace, or BT.601 where it names none that is known here."""
    return known_matrix(frame.colorspace)


def takes_all_codes(pixel_format: str, color_range: int) -> bool:
    """Whether samples of this format and AVColorRange are of full range."""
    return color_range == FULL_RANGE or pixel_format.startswith(("yuvj", "gray", "ya")) or is_rgb(pixel_format)


def is_full_range(frame: av.VideoFrame) -> bool:
    return takes_all_codes(frame.format.name, int(frame.color_range))


SAID_WITH_A_FRAME = frozenset(("A53_CC", "AFD", "S12M_TIMECODE", "DYNAMIC_HDR_PLUS"))
"""What encoders write of what stands beside a frame: captions, the part to be shown, time code, tone curves."""
GRID = 4
"""The coarsest chroma has one sample for 4 x 4 pixels (yuv410p)."""
ROWS = 2 * GRID
"""Of an interlaced picture one such sample stands for pixels of every second row."""


class ToRgb:
    """Turns frames into RGB; one object serves one thread, and keeps the converter between frames."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """HWC uint8 RGB, or uint16 (0-65535) where the frame is deeper than 8 bits."""
        target = "rgb48le" if depth(frame.format.name) > 8 else "rgb24"  # interlaced pictures field by field
        matrix, full = matrix_of(frame), is_full_range(frame)
        height, width = frame.height, frame.width
        if width % GRID or height % GRID:
            frame = _padded(frame)
        converted = self._reformatter.reformat(
            frame, format=target, src_colorspace=matrix, dst_colorspace=matrix,
            src_color_range=2 if full else 1, dst_color_range=2,
            # Each chroma sample repeated over its block: the mean that `paste` takes gives it back exactly.
            # (Bilinear to 16 bits is also wrong altogether at odd sizes in some builds of the library.)
            interpolation="POINT")
        return converted.to_ndarray()[:height, :width]


def plane_array(frame: av.VideoFrame, index: int, dtype: type = np.uint8) -> np.ndarray:
    """The samples of a plane, (rows, samples) without the padding at the end of the lines; a view."""
    plane = frame.planes[index]
    size = plane.height * plane.line_size
    lines = np.frombuffer(memoryview(plane), np.uint8)[:size].reshape(plane.height, plane.line_size)
    return lines.view(dtype)[:, : _samples(frame, index)]


def luma_array(frame: av.VideoFrame) -> np.ndarray:
    """The first plane of a frame, HW uint8 or uint16; a view."""
    return plane_array(frame, 0, np.uint16 if _wide(frame) else np.uint8)


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """Copies of a frame's planes, HW uint8 or uint16."""
    dtype = np.uint16 if _wide(frame) else np.uint8
    return tuple(plane_array(frame, i, dtype).copy() for i in range(len(frame.planes)))


def overwrite(frame: av.VideoFrame, planes: Sequence[np.ndarray]) -> None:
    """Put samples (HW, of the frame's depth) into the frame's own memory, which may be the decoder's as well."""
    for index, plane in enumerate(planes):
        plane_array(frame, index, plane.dtype.type)[:] = plane


def _says_something(frame: av.VideoFrame) -> bool:
    """Whether there is side data that a copy has to take along. A tiny picture made of the frame is asked: in PyAV a
    frame and the list of its side data hold each other, and a decoder gets the memory back when garbage is collected.
    """
    tiny = frame.reformat(width=16, height=16, format="gray", interpolation="POINT")
    return any(data.type.name in SAID_WITH_A_FRAME for data in tiny.side_data)


def copy_frame(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> av.VideoFrame:
    """A frame of its own memory: the decoder still needs that of the one it gave. With `size` (width, height) only
    its upper left part."""
    width, height = size or (frame.width, frame.height)
    copy = _blank(frame, width, height, size is None and _says_something(frame))
    dtype = np.uint16 if _wide(frame) else np.uint8
    for i in range(len(frame.planes)):
        target = plane_array(copy, i, dtype)
        target[:] = plane_array(frame, i, dtype)[: target.shape[0], : target.shape[1]]
    copy.pts = frame.pts
    if frame.time_base is not None:
        copy.time_base = frame.time_base
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    copy.color_trc, copy.color_primaries = frame.color_trc, frame.color_primaries
    return copy


def _blank(frame: av.VideoFrame, width: int, height: int, with_side_data: bool = False) -> av.VideoFrame:
    """A frame of that format whose samples are still to be written, with the field order of `frame`: encoders go by
    it."""
    if not (with_side_data or frame.interlaced_frame):
        return av.VideoFrame(width, height, frame.format.name)
    between = "gray" if frame.format.name != "gray" else "yuv420p"  # the only way to take these along
    return frame.reformat(width, height, between, interpolation="POINT").reformat(format=frame.format.name)


def same_samples(a: av.VideoFrame, b: av.VideoFrame) -> bool:
    """Whether two frames are of one size and format and equal in every sample."""
    if (a.width, a.height, a.format.name) != (b.width, b.height, b.format.name):
        return False
    dtype = np.uint16 if _wide(a) else np.uint8
    return all(np.array_equal(plane_array(a, i, dtype), plane_array(b, i, dtype)) for i in range(len(a.planes)))


def conform(frame: av.VideoFrame, pixel_format: str, colorspace: int, color_range: int) -> av.VideoFrame:
    """The frame in another pixel format, of samples as these tags (AVColorSpace, AVColorRange) say."""
    matrix, full = known_matrix(colorspace), takes_all_codes(pixel_format, color_range)
    same = is_rgb(pixel_format) or (LUMA_WEIGHTS[matrix] == LUMA_WEIGHTS[matrix_of(frame)]
                                    and full == is_full_range(frame))
    if frame.format.name == pixel_format and same:
        return frame
    converted = frame.reformat(format=pixel_format, src_colorspace=matrix_of(frame), dst_colorspace=matrix,
                               src_color_range=2 if is_full_range(frame) else 1, dst_color_range=2 if full else 1)
    converted.colorspace, converted.color_range = colorspace, color_range
    return converted


def _padded(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with its last row and column repeated to whole chroma blocks, where the library is exact."""
    up = _blank(frame, frame.width + -frame.width % GRID, frame.height + -frame.height % GRID)
    dtype = np.uint16 if _wide(frame) else np.uint8
    for i in range(len(frame.planes)):
        source, target = plane_array(frame, i, dtype), plane_array(up, i, dtype)
        pixel = _samples(frame, i) // frame.planes[i].width  # bytes of a packed pixel, else 1
        source = source.reshape(*source.shape[:1], -1, pixel)
        missing = (target.shape[0] - source.shape[0], target.shape[1] // pixel - source.shape[1])
        target[:] = np.pad(source, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge").reshape(target.shape)
    return up


def paste(frame: av.VideoFrame, rgb: np.ndarray, mask: np.ndarray, opaque: bool = False) -> av.VideoFrame:
    """A copy of `frame` that shows `rgb` (HWC uint8 or uint16) where `mask` (HW bool) is true.

    A luma sample outside the mask stays as it is. A chroma sample that stands for several pixels is made anew
    where the mask touches one of them, from `rgb` over all of them (which outside the mask is the frame's own
    picture), and stays as it is elsewhere. The fields of an interlaced frame are each a picture of their own in this.
    Alpha is not touched, but to be `opaque` where the mask is true.
    """
    result = copy_frame(frame)
    if opaque:
        _make_opaque(result, mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return result
    top, left = rows[0] // ROWS * ROWS, columns[0] // GRID * GRID
    box = (slice(top, rows[-1] // ROWS * ROWS + ROWS), slice(left, columns[-1] // GRID * GRID + GRID))
    pixels = rgb[box].astype(np.float32) / (65535 if rgb.dtype == np.uint16 else 255)
    inside = mask[box]
    if frame.format.name in PACKED_RGB:
        view = plane_array(result, 0).reshape(frame.height, frame.width, -1)
        for channel, at in enumerate(PACKED_RGB[frame.format.name]):
            view[box][..., at][inside] = _quantised(pixels[..., channel][inside] * 255, 8, np.uint8)
        return result
    dtype = np.uint16 if _wide(frame) else np.uint8
    for index, bits, values in _components(frame, pixels):
        plane = plane_array(result, index, dtype)
        across, down = -(-frame.width // plane.shape[1]), -(-frame.height // plane.shape[0])
        part = (slice(box[0].start // down, -(-min(box[0].stop, frame.height) // down)),
                slice(box[1].start // across, -(-min(box[1].stop, frame.width) // across)))
        by_field = frame.interlaced_frame and down > 1
        for lines in (slice(0, None, 2), slice(1, None, 2)) if by_field else (slice(None),):
            target, touched, small = plane[part][lines], inside[lines], values[lines]
            if down * across > 1:
                touched = _blocks(touched, down, across).max((1, 3))[: len(target)]
                small = _blocks(small, down, across).mean((1, 3))[: len(target)]
            target[touched] = _quantised(small[touched], bits, dtype)
    return result


def _make_opaque(frame: av.VideoFrame, mask: np.ndarray) -> None:
    """Set the alpha of a frame that `paste` works on, where `mask` is true."""
    alpha = next((c for c in frame.format.components if c.is_alpha), None)
    if alpha is None:
        return
    if frame.format.name in PACKED_RGB:
        at = ({0, 1, 2, 3} - set(PACKED_RGB[frame.format.name])).pop()
        plane_array(frame, 0).reshape(frame.height, frame.width, 4)[..., at][mask] = 255
    else:
        plane_array(frame, alpha.plane, np.uint16 if _wide(frame) else np.uint8)[mask] = 2**alpha.bits - 1


def _components(frame: av.VideoFrame, pixels: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """(plane, bits, HW float32 code values at full resolution) of each component but alpha."""
    components = frame.format.components
    bits = components[0].bits
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if frame.format.is_rgb:
        for component, channel in zip(components, (red, green, blue), strict=False):
            yield component.plane, component.bits, channel * (2**component.bits - 1)
        return
    kr, kb = LUMA_WEIGHTS[matrix_of(frame)]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    top, step = 2**bits - 1, 2 ** (bits - 8)
    full = is_full_range(frame)
    yield components[0].plane, bits, luma * top if full else (16 + 219 * luma) * step
    if len(components) < 3:
        return
    for component, channel, k in ((components[1], blue, kb), (components[2], red, kr)):
        difference = (channel - luma) / (2 - 2 * k)
        scale = top if full else 224 * step
        yield component.plane, bits, 128 * step + scale * difference


def _blocks(values: np.ndarray, down: int, across: int) -> np.ndarray:
    """(h, w) -> (h / down, down, w / across, across); an incomplete last block repeats the edge."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % down), (0, -width % across)), mode="edge")
    return padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)


def _quantised(values: np.ndarray, bits: int, dtype: type) -> np.ndarray:
    return np.clip(np.rint(values), 0, 2**bits - 1).astype(dtype)


def _wide(frame: av.VideoFrame) -> bool:
    return depth(frame.format.name) > 8


def _samples(frame: av.VideoFrame, index: int) -> int:
    """Samples in a line of a plane."""
    if frame.format.name in PACKED_RGB:
        return frame.width * (3 if frame.format.name in ("rgb24", "bgr24") else 4)
    return frame.planes[index].width
