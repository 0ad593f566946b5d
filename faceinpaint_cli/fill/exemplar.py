"""Hybrid fill: patches copied whole, in an order that continues lines (Criminisi, Perez and Toyama, IEEE
TIP 2004).

The order is the part that comes from the differential-equation methods: isophotes that meet the rim are
carried inwards first. The copying is texture synthesis.
"""

from __future__ import annotations

import cv2
import numpy as np

from faceinpaint_cli.fill.exemplar_windows import choose, known_corners, windows_at, working_area

WINDOW = 9
"""Side of a patch in pixels, as in the paper; 9 * 9 * 3 * 255^2 is the largest that sums exactly in
float32."""

MOST_CANDIDATES = 6000
"""Patches compared with; larger surroundings are sampled evenly."""

ONE = 1 << 20
"""Confidence 1 as a whole number: whole numbers make the order of filling the same on every machine."""


def hybrid(image: np.ndarray, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fill the holes patch by patch. See `registry.FillFunction`; `seed` draws the patches where there are
    more than MOST_CANDIDATES."""
    result = image.copy()
    if not mask.any() or mask.all():
        return result
    rows, columns = working_area(mask, WINDOW)
    _Exemplar(result[rows, columns], mask[rows, columns], np.random.default_rng(seed)).fill()
    return result


class _Exemplar:
    """The state of one fill: everything is padded by half a patch, which is neither known nor to be
    filled."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
        window = WINDOW
        corners = known_corners(~mask, window)
        while not corners[0].size:  # little is known: copy smaller patches
            window -= 2
            corners = known_corners(~mask, window)
        rows, columns = choose(corners, MOST_CANDIDATES, rng)
        self.window, self.half, self.target = window, window // 2, image
        h = self.half
        self.image = cv2.copyMakeBorder(image, h, h, h, h, cv2.BORDER_REPLICATE)
        self.known, self.todo = np.pad(~mask, h), np.pad(mask, h)
        self.confidence = self.known.astype(np.int64) * ONE
        patches = windows_at(image, rows, columns, window).reshape(rows.size, window**2, -1)
        self.patches = patches
        plain = patches.astype(np.float32)
        self.plain = np.ascontiguousarray(plain.reshape(rows.size, -1).T)
        self.squares = np.ascontiguousarray(np.square(plain).sum(2).T)

    def fill(self) -> None:
        h = self.half
        while self.todo.any():
            y, x, confidence = self._most_urgent()
            place = (slice(y - h, y + h + 1), slice(x - h, x + h + 1))
            hole = self.todo[place].copy()
            self.image[place][hole] = self._nearest(place).reshape(*hole.shape, -1)[hole]
            self.confidence[place][hole] = confidence
            self.known[place] |= hole
            self.todo[place] &= ~hole
        height, width = self.target.shape[:2]
        self.target[:] = self.image[h:h + height, h:h + width]

    def _nearest(self, place: tuple[slice, slice]) -> np.ndarray:
        """The patch (window^2, C) nearest to what is known at `place`."""
        there = self.known[place].reshape(-1).astype(np.float32)
        around = self.image[place].reshape(there.size, -1).astype(np.float32) * there[:, None]
        distance = there @ self.squares - 2 * (around.reshape(-1) @ self.plain)
        return self.patches[int(distance.argmin())]

    def _most_urgent(self) -> tuple[int, int, int]:
        """The middle of the next patch on the rim, and the confidence that its pixels get: the greatest
        product of confidence and data term (equations 1 and 2 of the paper)."""
        todo = self.todo.astype(np.uint8)
        rim = todo - cv2.erode(todo, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
        ys, xs = np.nonzero(rim)
        corner = ys - self.half, xs - self.half
        confidence = windows_at(self.confidence, *corner, self.window).sum((1, 2)) // self.window**2
        dx, dy = self._strongest_gradient(corner)
        normal_x, normal_y = (cv2.Sobel(todo, cv2.CV_32F, *order)[ys, xs] for order in ((1, 0), (0, 1)))
        length = np.sqrt(np.square(normal_x) + np.square(normal_y))
        # the isophote is the gradient turned by a right angle; a pixel without a normal keeps a small urgency
        data = np.abs(dx * normal_y - dy * normal_x) / np.maximum(length, 1) / 255
        best = int(np.argmax(confidence * (data.astype(np.float64) + 1e-3)))
        return int(ys[best]), int(xs[best]), int(confidence[best])

    def _strongest_gradient(self, corner: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Horizontal and vertical gradient of brightness at the place in each window where it is strongest,
        among the pixels whose neighbours are all known."""
        grey = self.image.sum(2, dtype=np.float32)  # three times the brightness
        dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        sure = cv2.erode(self.known.astype(np.uint8), np.ones((3, 3), np.uint8),
                         borderType=cv2.BORDER_CONSTANT, borderValue=0)
        dx, dy = dx * sure / 24, dy * sure / 24  # a Sobel kernel weighs 8
        strength = windows_at(np.square(dx) + np.square(dy), *corner, self.window).reshape(len(corner[0]), -1)
        row, column = np.divmod(strength.argmax(1), self.window)
        return dx[corner[0] + row, corner[1] + column], dy[corner[0] + row, corner[1] + column]
