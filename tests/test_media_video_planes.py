"""Planes to RGB and back: formulas, exactness outside the mask, every layout that encoders take."""

import gc

import av
import cv2
import numpy as np
import pytest
from media_factory import picture

from faceinpaint_cli.media import planes
from faceinpaint_cli.media.planes import ToRgb, can_paste, copy_frame, depth, paste, plane_array, same_samples

FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuva420p", "gray", "gray10le",
           "yuv420p10le", "yuv422p12le", "yuv444p16le", "gbrp", "gbrp10le", "rgb24", "bgra", "bgr0"]


def frame_of(pixel_format: str, width: int = 64, height: int = 48, matrix: int = 2) -> av.VideoFrame:
    rgb = cv2.blur(picture(3, width, height), (9, 9))
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    if matrix == 2:
        return frame.reformat(format=pixel_format)
    frame = frame.reformat(format=pixel_format, dst_colorspace=matrix)
    frame.colorspace = matrix
    return frame


def type_of(pixel_format: str) -> type:
    return np.uint16 if depth(pixel_format) > 8 else np.uint8


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_pasting_what_is_there_changes_next_to_nothing(pixel_format, size):
    frame = frame_of(pixel_format, *size)
    rgb = ToRgb()(frame)
    assert rgb.shape == (size[1], size[0], 3)
    mask = np.zeros(rgb.shape[:2], bool)
    mask[11:30, 13:40] = mask[-1, -1] = True
    dtype, step = type_of(pixel_format), 2 ** (depth(pixel_format) - 8)
    result = paste(frame, rgb, mask)
    for i in range(len(frame.planes)):
        before, after = (plane_array(f, i, dtype).astype(int) for f in (frame, result))
        assert np.abs(before - after).max() <= 2 * step


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_samples_that_touch_no_masked_pixel_stay(pixel_format, size):
    frame = frame_of(pixel_format, *size)
    kept = copy_frame(frame)
    rgb = ToRgb()(frame)
    mask = np.zeros(rgb.shape[:2], bool)
    mask[11:30, 13:40] = mask[-1, -1] = mask[0, 5] = True
    filled = rgb.copy()
    filled[mask] = np.iinfo(rgb.dtype).max - rgb[mask]
    result = paste(frame, filled, mask)
    assert same_samples(frame, kept), "the frame that the decoder still needs was written to"
    dtype = type_of(pixel_format)
    changed = 0
    for i, plane in enumerate(frame.planes):
        before, after = plane_array(frame, i, dtype), plane_array(result, i, dtype)
        if pixel_format in planes.PACKED_RGB:
            touched = np.repeat(mask, before.shape[1] // mask.shape[1], axis=1)
        else:
            across, down = -(-frame.width // plane.width), -(-frame.height // plane.height)
            padded = np.pad(mask, ((0, -mask.shape[0] % down), (0, -mask.shape[1] % across)))
            touched = padded.reshape(padded.shape[0] // down, down, -1, across).any((1, 3))
        assert np.array_equal(before[~touched], after[~touched])
        changed += int((before != after).sum())
    assert changed > 0


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(2, 0.299, 0.114), (5, 0.299, 0.114), (1, 0.2126, 0.0722),
                                                  (9, 0.2627, 0.0593)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le"])
def test_colours_follow_the_standard(matrix, kr, kb, pixel_format):
    """Pure colours, computed by hand from BT.601 / 709 / 2020, limited range."""
    frame = av.VideoFrame(16, 16, pixel_format)
    for i in range(3):
        plane_array(frame, i, type_of(pixel_format))[:] = 128 << depth(pixel_format) - 8
    frame.colorspace = matrix
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:] = (200, 40, 90)
    result = paste(frame, rgb, np.ones((16, 16), bool))
    r, g, b = 200 / 255, 40 / 255, 90 / 255
    y = kr * r + (1 - kr - kb) * g + kb * b
    expected = [16 + 219 * y, 128 + 224 * (b - y) / (2 - 2 * kb), 128 + 224 * (r - y) / (2 - 2 * kr)]
    step = 2 ** (depth(pixel_format) - 8)
    for i in range(3):
        values = plane_array(result, i, type_of(pixel_format))
        assert np.abs(values / step - expected[i]).max() <= 0.5
    back = ToRgb()(result)
    assert np.abs(back.astype(float) / (257 if step > 1 else 1) - (200, 40, 90)).max() <= 2.5


def test_full_range_uses_all_codes():
    frame = frame_of("yuvj420p")
    white = np.full((48, 64, 3), 255, np.uint8)
    assert plane_array(paste(frame, white, np.ones((48, 64), bool)), 0).max() == 255
    assert plane_array(paste(frame_of("yuv420p"), white, np.ones((48, 64), bool)), 0).max() == 235


def test_alpha_is_not_touched():
    frame = frame_of("yuva420p")
    plane_array(frame, 3)[:] = 77
    result = paste(frame, np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), bool))
    assert (plane_array(result, 3) == 77).all()


@pytest.mark.parametrize("pixel_format", ["yuva420p", "yuva444p10le", "gbrap", "rgba", "argb", "bgra"])
def test_what_is_filled_may_be_made_opaque(pixel_format):
    clear = np.zeros((48, 64, 4), np.uint8)
    clear[:, :9, 3] = 255
    frame = av.VideoFrame.from_ndarray(clear, format="rgba").reformat(format=pixel_format)
    mask = np.zeros((48, 64), bool)
    mask[10:20, 30:41] = True
    result = paste(frame, np.full((48, 64, 3), 90, np.uint8), mask, opaque=True)
    wanted = mask.copy()
    wanted[:, :9] = True
    assert np.array_equal(planes.alpha_of(result), wanted * 255)
    assert np.array_equal(planes.alpha_of(paste(frame, clear[..., :3], mask)), planes.alpha_of(frame))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24", "bgr0", "gray"])
def test_without_alpha_there_is_nothing_to_make_opaque(pixel_format):
    frame = frame_of(pixel_format)
    assert planes.alpha_of(frame) is None
    mask = np.ones((48, 64), bool)
    rgb = np.full((48, 64, 3), 90, np.uint8)
    assert same_samples(paste(frame, rgb, mask, opaque=True), paste(frame, rgb, mask))


def test_formats_that_cannot_be_pasted_are_known():
    assert not any(map(can_paste, ("nv12", "p010le", "yuyv422", "pal8", "yuv420p10be", "cuda", "gbrpf32le", "monow")))
    assert all(map(can_paste, FORMATS))


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv422", "p010le"])
def test_conform_loses_nothing_where_only_the_packing_differs(pixel_format):
    target = {"nv12": "yuv420p", "yuyv422": "yuv422p", "p010le": "yuv420p10le"}[pixel_format]
    frame = frame_of(target)
    packed = planes.conform(frame, pixel_format, 2, 0)
    assert same_samples(planes.conform(packed, target, 2, 0), frame)


@pytest.mark.parametrize("target", [("yuv444p", 1, 1), ("yuv444p", 5, 2), ("yuvj444p", 9, 2), ("yuv444p10le", 2, 0),
                                    ("gbrp", 0, 2), ("bgr0", 2, 0)])
@pytest.mark.parametrize("start", [("yuv444p", 5, 1), ("yuv444p", 1, 2), ("yuvj444p", 9, 2), ("gbrp", 0, 2)])
def test_conform_keeps_colours_whatever_the_tags(start, target):
    frame = planes.conform(av.VideoFrame.from_ndarray(np.full((16, 16, 3), (200, 40, 90), np.uint8)), *start)
    frame = planes.conform(frame, *target)
    rgb = ToRgb()(frame)
    assert np.abs(rgb / (257 if rgb.dtype == np.uint16 else 1) - (200, 40, 90)).max() <= 3


def test_a_copy_leaves_no_frame_to_the_garbage_collector(tmp_path):
    """Else a decoder gets its memory back late, and HEVC's gives lost pictures what is in there."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        copy = copy_frame(frame)
        del frame
        gc.collect()
        left = [(found.width, found.height) for found in gc.garbage if isinstance(found, av.VideoFrame)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert (64, 48) not in left
    assert copy.width == 64
