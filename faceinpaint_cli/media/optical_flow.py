"""Dense motion between planes of two pictures, and what follows from it.

Fields are HW2 float32, in pixels: `field[y, x]` points from a pixel of one picture to where it stands in the other.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

Planes = tuple[np.ndarray, ...]
"""Y, U, V (HW uint8 or uint16) of one picture, whole coded size."""
ANOTHER_SCENE = 8.0
"""Mean grey levels that remain between two pictures after the best motion, from which on neither tells of the other."""


def eight_bit(luma: np.ndarray) -> np.ndarray:
    """Luma as uint8, scaled by the depth that its values need."""
    if luma.dtype == np.uint8:
        return luma
    depth = max(9, int(luma.max()).bit_length())
    return (luma >> (depth - 8)).astype(np.uint8)


def peak(plane: np.ndarray) -> int:
    """The largest value that a sample can have, by the depth that those of the plane need."""
    return 255 if plane.dtype == np.uint8 else (1 << max(9, int(plane.max()).bit_length())) - 1


def reduced(plane: np.ndarray, times: int) -> np.ndarray:
    """A plane so many times smaller, HW uint8."""
    if times == 1:
        return eight_bit(plane)
    return cv2.resize(eight_bit(plane), None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)


def _dis(preset: int) -> cv2.DISOpticalFlow:
    """A new one for each field, which costs nothing: one that has seen a small picture is fifteen times as slow for all
    that follow (OpenCV lowers its finest scale and leaves it so), and it keeps what it computes in itself, which
    threads must not share."""
    return cv2.DISOpticalFlow_create(preset)


def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dense flow (DIS, medium): pixel x of `a` stands at x + flow in `b`; both HW uint8."""
    return _dis(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(np.ascontiguousarray(a), np.ascontiguousarray(b), None)


def quick_flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As `flow`, a few times quicker and not as exact."""
    return _dis(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(np.ascontiguousarray(a), np.ascontiguousarray(b), None)


def quick_flow_from(start: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As `quick_flow`, for motion that is near `start` and may be large. (DIS takes a field to start with as well, and
    has been seen to read beyond its picture then: OpenCV 5.0.)"""
    rest = quick_flow(a, warp(b, start))
    return rest + carried(start, rest)


@lru_cache(maxsize=4)
def plain_grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of each pixel, HW float32 both."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return columns, rows


def warp(plane: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Samples of a plane taken where the field points (bicubic, the edge repeated); chroma planes scale it."""
    height, width = plane.shape
    field = field.astype(np.float32)
    if field.shape[:2] != plane.shape:
        scale = np.array([width / field.shape[1], height / field.shape[0]], np.float32)
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA) * scale
    columns, rows = plain_grid(height, width)
    return cv2.remap(plane, columns + field[..., 0], rows + field[..., 1], cv2.INTER_CUBIC,
                     borderMode=cv2.BORDER_REPLICATE)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What is left of the difference of two luma planes after the best motion, in grey levels; all HW uint8."""
    return left_over(a, b, flow(a, b))


def left_over(a: np.ndarray, b: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """As `remainder`, after the motion (HW2 float32) from `a` to `b`."""
    return cv2.absdiff(a, warp(b, motion))


def carried(field: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The field's values at the places where `along` points."""
    columns, rows = plain_grid(*field.shape[:2])
    along = along.astype(np.float32)
    return cv2.remap(field.astype(np.float32), columns + along[..., 0], rows + along[..., 1], cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def grown(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
