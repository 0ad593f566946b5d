"""The square that a face is shown to the generator in, as in the pictures that it was trained on."""

from __future__ import annotations

import numpy as np

from faceinpaint_cli.types import Crop, Face

TEMPLATE = np.array([[0.3895, 0.5178], [0.6105, 0.5178], [0.5, 0.6567], [0.4033, 0.7486], [0.5967, 0.7486]])
"""Eyes, nose and corners of the mouth (5, 2) in a crop of side 1: medians of what MTCNN finds in CelebA's
validation pictures, cropped as protocol celeba-center25 says, made symmetric."""

LANDMARK_WEIGHTS = np.array([1.0, 1.0, 0.2, 0.6, 0.6])
"""The nose moves most when a head turns, the eyes least: about the inverse of the spread in CelebA."""

COVERED_WEIGHT = 0.2
"""What is left of a landmark's weight inside a hole, where the detector only guesses: of .01 to 1 the best for
the corners of the crop, over CelebA faces with eyes, mouth or a half hidden."""


def face_crop(face: Face, size: int, mask: np.ndarray | None = None) -> Crop:
    """The aligned crop of a face, `size` pixels a side. Landmarks inside `mask` (HW bool) count little, unless
    they were carried there from where they were seen."""
    weights = LANDMARK_WEIGHTS.copy()
    if mask is not None and face.source != "tracked":
        weights[covered(face.landmarks, mask)] *= COVERED_WEIGHT
    return Crop(fit_similarity(face.landmarks + 0.5, TEMPLATE * size, weights, centres=True), size, face)


def covered(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Which points (N, 2) XY in pixels lie in a hole of `mask` (HW bool) or outside the picture."""
    height, width = mask.shape
    x, y = np.floor(points + 0.5).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return ~inside | mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray, *,
                   centres: bool = False) -> np.ndarray:
    """The rotation, uniform scale and shift (2, 3) that takes points (N, 2) nearest to others, in weighted
    least squares. No reflection: solved as a complex line, target = a * source + b.

    With `centres` the points are positions on the picture's plane (pixel centres at .5) and the matrix is for
    pixel indices (pixel centres at whole numbers), as cv2.warpAffine takes it.
    """
    w = weights / weights.sum()
    s, t = source @ (1, 1j), target @ (1, 1j)
    s_mean, t_mean = (w * s).sum(), (w * t).sum()
    spread = (w * abs(s - s_mean) ** 2).sum()
    a = (w * (s - s_mean).conj() * (t - t_mean)).sum() / spread if spread > 0 else 1.0 + 0j
    b = t_mean - a * s_mean
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return to_indices(matrix) if centres else matrix


def to_indices(matrix: np.ndarray) -> np.ndarray:
    """A map of the plane (pixel centres at .5) as a map of pixel indices (pixel centres at whole numbers)."""
    result = matrix.copy()
    result[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return result


def square_crop(left: float, top: float, side: float, size: int) -> Crop:
    """The axis-aligned square from (left, top), `side` pixels wide, as a crop of `size`; the identity where
    the square is on whole pixels and `side` is `size`."""
    scale = size / side
    return Crop(to_indices(np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])), size)


def is_square(shape: tuple[int, ...]) -> bool:
    """Whether a picture (height, width, ...) is square, but for a pixel or two."""
    return abs(shape[0] - shape[1]) <= 0.02 * max(shape[:2])


def corners(crop: Crop) -> np.ndarray:
    """The crop's corners (4, 2) on the picture's plane, clockwise from the top left one."""
    a = crop.matrix[:, :2]
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * crop.size - 0.5
    return (square - crop.matrix[:, 2]) @ np.linalg.inv(a).T + 0.5


def side_of(crop: Crop) -> float:
    """Side of the crop's square in the picture, in pixels."""
    return float(crop.size / np.hypot(*crop.matrix[:, 0]))
