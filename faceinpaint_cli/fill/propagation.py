"""What a hole in a frame hides, taken from the frames around it in which it is seen.

For each frame some earlier and later ones are moved onto it by optical flow, each sampled once (a chain of small steps
smears), the motion inside the hole carried in from around it. What they miss at the hole's rim, in light as in place,
tells how far each is to be trusted beside it: the difference is carried into the hole as a correction, and what is left
of it as the error to expect. Where that is too large, or the thing is hidden all the time, the generator draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from faceinpaint_cli.fill.compositing import pull_push
from faceinpaint_cli.media.optical_flow import grown, left_over, plain_grid, quick_flow, quick_flow_from
from faceinpaint_cli.media.planes import eight_bit

OFFSETS = (-1, 1, -2, 2, -4, 4, -8, 8, -16, 16)
"""Frames away from the one that is filled, nearest first."""
WINDOW_PIXELS = 64_000_000
"""Frames that are held at once have no more pixels together."""
FLOW_SIDE = 640
"""Longer side in pixels of the pictures that the motion is measured on."""
RIM = 12
"""Width in small pixels of the rim around a hole at which the other frames are judged."""
FARTHEST = 96
"""Width in small pixels of what is looked at around a hole, and so the farthest that anything moves."""
BETTER = 0.8
"""Twice the motion to half-way leads to the motion where that leaves so much less of the difference: it finds large
motion, and is less exact for small."""
LIMIT, DISPUTED, RAGGED = 10.0, 0.4, 13
"""Grey levels of expected error from which on the generator draws. Where the frames differ among each other, that times
DISPUTED is to be expected at least; and so many pixels around what is to be drawn are drawn as well."""
MOSTLY, NEARBY = 0.4, 0.15
"""Where more than MOSTLY of the hole is to be drawn, within about NEARBY times the side of a square as large as the
hole, all of it is: scraps carried over into what is drawn fit neither each other nor that, and show as specks."""
AGE = 0.1
"""Grey levels added to the error of a frame for each frame that it is away."""
SOFT = 4.0
"""Sigma in pixels of what is a change of light at the rim; the rest is error."""
FLOOR, SHARPNESS = 0.5, 4
"""Frames are weighed by (error + FLOOR) to the power of -SHARPNESS."""
STEADY = 0.7
"""Share of what was drawn in the frame before, moved along, in what is drawn."""


class _Frame:
    """A frame of the window: `image` HWC uint8 or uint16 RGB, `mask` HW bool. It is reduced when it is first asked
    for: far from all holes it never is."""

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        self.image, self.mask = image, mask

    @property
    def luma(self) -> np.ndarray:
        """(h, w) uint8, the hole filled smoothly."""
        return self._reduced[0]

    @property
    def hidden(self) -> np.ndarray:
        """(h, w) bool."""
        return self._reduced[1]

    @property
    def times(self) -> int:
        """How many times smaller the reduced picture is."""
        return max(1, round(self.mask.shape[1] / self._size[0]))

    @cached_property
    def beside_hole(self) -> np.ndarray:
        """HW bool: the hole and what an interpolation mixes with it."""
        return grown(self.mask, 5)

    @property
    def _size(self) -> tuple[int, int]:
        """Width and height of the reduced picture."""
        height, width = self.mask.shape
        scale = min(1.0, FLOW_SIDE / max(height, width))
        return max(16, round(width * scale)), max(16, round(height * scale))

    @cached_property
    def _reduced(self) -> tuple[np.ndarray, np.ndarray]:
        size = self._size
        grey = cv2.cvtColor(eight_bit(self.image), cv2.COLOR_RGB2GRAY)
        luma = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        if not self.mask.any():
            return luma, np.zeros(luma.shape, bool)
        hidden = grown(cv2.resize(self.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0, 5)
        part = _around(hidden, RIM)
        known = (~hidden[part]).astype(np.float32)
        smooth = pull_push(luma[part][..., None].repeat(3, 2) * known[..., None], known)[..., 0]
        luma[part] = np.where(hidden[part], np.rint(np.clip(smooth, 0, 255)), luma[part])
        return luma, grown(hidden, 9)


@dataclass(frozen=True)
class Carried:
    """A frame with what could be carried over: `image`, and `left` (HW bool) of its hole to be drawn. `back`: where
    what is drawn stands in the frame before, if that is known."""

    image: np.ndarray
    left: np.ndarray
    back: Field | None = None


@dataclass(frozen=True)
class Field:
    """For each pixel of the part `box` (rows, columns) of a frame its place `x`, `y` (h, w) float32 in another;
    `motion` (HW2 float32) is what that comes from, in small pixels."""

    box: tuple[slice, slice]
    x: np.ndarray
    y: np.ndarray
    motion: np.ndarray


class Window:
    """The frames around those that are filled, by number."""

    def __init__(self) -> None:
        self._frames: dict[int, _Frame] = {}

    def add(self, number: int, image: np.ndarray, mask: np.ndarray) -> None:
        """A frame (HWC uint8 or uint16 RGB) and what is to be filled of it (HW bool)."""
        self._frames[number] = _Frame(image, mask)

    def forget(self, before: int) -> None:
        """Drop the frames with lower numbers."""
        for number in [n for n in self._frames if n < before]:
            del self._frames[number]

    def carried(self, number: int) -> Carried:
        """The frame of that number, with what the others show of its hole, which is not empty."""
        frame = self._frames[number]
        box = _around(frame.mask, 2 * RIM * frame.times)
        hole = frame.mask[box]
        total, squares = np.zeros((*hole.shape, 3), np.float32), np.zeros((*hole.shape, 3), np.float32)
        weights = np.zeros(hole.shape, np.float32)
        least = np.full(hole.shape, np.inf, np.float32)
        fields: dict[int, Field] = {}
        for offset in OFFSETS:
            other = self._frames.get(number + offset)
            half = fields.get(int(offset / 2))
            motion = None if other is None else _motion(frame, other, box, half)
            if other is None or motion is None:
                continue
            fields[offset] = motion
            seen = _seen(frame, other.image, other.beside_hole, motion)
            if seen is None:
                continue
            colours, error = seen
            error += AGE * abs(offset)
            weight = (error + FLOOR) ** -SHARPNESS
            total += weight[..., None] * colours
            squares += weight[..., None] * colours**2
            weights += weight
            least = np.minimum(least, error)
        image, left = frame.image.copy(), frame.mask.copy()
        top = np.iinfo(image.dtype).max
        mean = total / np.maximum(weights, 1e-9)[..., None]
        apart = np.sqrt(np.maximum(squares / np.maximum(weights, 1e-9)[..., None] - mean**2, 0)).mean(2) * (255 / top)
        left[box] = _without_scraps(hole & grown(hole & (np.maximum(least, DISPUTED * apart) >= LIMIT), RAGGED), hole)
        known = hole & ~left[box]
        image[box][known] = np.rint(np.clip(mean[known], 0, top)).astype(image.dtype)
        return Carried(image, left, fields.get(-1))


def steadied(drawn: np.ndarray, left: np.ndarray, back: Field, previous: np.ndarray) -> np.ndarray:
    """What was drawn (HWC, all of a frame) mixed, where it was drawn (`left`, HW bool), with what stands in its place
    in the frame before, `previous`, as that was filled."""
    seen = _seen(_Frame(drawn, left), previous, np.zeros_like(left), back)
    if seen is None:
        return drawn
    colours, error = seen
    share = np.where(left[back.box] & (error < LIMIT), STEADY, 0.0)[..., None].astype(np.float32)
    result = drawn.copy()
    part = result[back.box].astype(np.float32)
    top = np.iinfo(drawn.dtype).max
    result[back.box] = np.rint(np.clip(part + share * (colours - part), 0, top)).astype(drawn.dtype)
    return result


def reach(pixels: int) -> int:
    """How many frames of so many pixels each are looked at on either side."""
    affordable = WINDOW_PIXELS // (2 * max(1, pixels))
    return max((abs(offset) for offset in OFFSETS if abs(offset) <= affordable), default=0)


def _motion(frame: _Frame, other: _Frame, box: tuple[slice, slice], half: Field | None) -> Field | None:
    """Where the pixels of the part `box` of a frame stand in another, those of holes as what is around them; None
    where the two have nothing to do with each other. `half`: where they stand half-way there, in case that helps."""
    if other.image.shape != frame.image.shape:
        return None
    scale = np.float32(frame.luma.shape[::-1]) / np.float32(frame.mask.shape[::-1])
    small = _around(frame.hidden, FARTHEST)
    here, there = frame.luma[small], other.luma[small]
    motion = quick_flow(here, there)
    if half is not None:
        led = quick_flow_from(2 * half.motion, here, there)
        known = ~frame.hidden[small]
        if left_over(here, there, led)[known].mean() < BETTER * left_over(here, there, motion)[known].mean():
            motion = led
    columns, rows = (grid[small] for grid in plain_grid(*frame.luma.shape))
    hidden_there = cv2.remap(other.hidden.astype(np.uint8), columns + motion[..., 0], rows + motion[..., 1],
                             cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1) > 0
    sure = (~(frame.hidden[small] | hidden_there)).astype(np.float32)
    if not sure.any():
        return None
    motion = pull_push(motion * sure[..., None], sure)
    columns, rows = (grid[box] for grid in plain_grid(*frame.mask.shape))
    # pixel centres of the one grid in the other
    x = (columns + 0.5) * scale[0] - 0.5 - small[1].start
    y = (rows + 0.5) * scale[1] - 0.5 - small[0].start
    away = cv2.remap(motion, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) / scale
    return Field(box, columns + away[..., 0], rows + away[..., 1], motion)


def _seen(frame: _Frame, image: np.ndarray, gone: np.ndarray, motion: Field) -> tuple[np.ndarray, np.ndarray] | None:
    """Another frame (`image`, and HW bool what is `gone` in it) moved onto this one, in its light: colours (h, w, 3)
    float32, and the error to expect (h, w) float32 in grey levels, infinite where it is gone. None where it shows
    nothing."""
    hole = frame.mask[motion.box]
    hidden = cv2.remap(gone.astype(np.uint8), motion.x, motion.y, cv2.INTER_NEAREST,
                       borderMode=cv2.BORDER_CONSTANT, borderValue=1) > 0
    rim = (~grown(hole, 3) & ~hidden & grown(hole, 2 * RIM * frame.times + 1)).astype(np.float32)
    if not rim.any() or not (hole & ~hidden).any():
        return None
    colours = cv2.remap(image, motion.x, motion.y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    missed = (frame.image[motion.box].astype(np.float32) - colours) * rim[..., None]
    soft = cv2.GaussianBlur(rim, (0, 0), SOFT)
    light = cv2.GaussianBlur(missed, (0, 0), SOFT) / np.maximum(soft, 1e-6)[..., None]
    wrong = np.abs(missed - light * rim[..., None]) * (255 / np.iinfo(image.dtype).max)
    error = pull_push(cv2.GaussianBlur(wrong, (0, 0), SOFT), soft).mean(2)
    error[hidden] = np.inf
    return colours + pull_push(missed, rim), error


def _without_scraps(left: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """What is to be drawn of a hole (both HW bool), and the rest of it where most around is to be drawn."""
    if not left.any() or left.sum() == hole.sum():
        return left
    sigma = NEARBY * float(hole.sum()) ** 0.5
    step = max(1, int(sigma / 4))
    size = -(-hole.shape[1] // step), -(-hole.shape[0] // step)
    drawn, whole = (cv2.GaussianBlur(cv2.resize(part.astype(np.float32), size, interpolation=cv2.INTER_AREA), (0, 0),
                                     max(sigma / step, 0.5)) for part in (left, hole))
    mostly = (drawn > MOSTLY * whole).astype(np.uint8)
    return left | hole & (cv2.resize(mostly, hole.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0)


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the mask's bounding box, so much larger on every side."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
            slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1))
