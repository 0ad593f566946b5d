"""What is stamped over a hole: textures, and damage as a broken decoder leaves it. Pictures HWC uint8 RGB."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np

Rng: TypeAlias = np.random.Generator
Patch: TypeAlias = Callable[[np.ndarray, Rng, Sequence[np.ndarray]], np.ndarray]


def white(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    return np.full_like(image, 255)


def solid(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """One colour; half of the time black, grey or white."""
    colour = rng.integers(0, 256, 3) if rng.random() < 0.5 else rng.choice([0, 64, 128, 192, 255])
    return np.full_like(image, 0) + np.uint8(colour)


def paper(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """What shows where a print is scratched or has come off: the light carrier, seldom something dark, a little yellow,
    with faint grain and stains."""
    light = rng.uniform(190, 255) if rng.random() < 0.7 else rng.uniform(5, 60)
    colour = light - np.array([0, rng.uniform(0, 12), rng.uniform(0, 35)])
    height, width = image.shape[:2]
    stain = rng.standard_normal((max(2, height // 24), max(2, width // 24))).astype(np.float32)
    relief = rng.uniform(0, 9) * cv2.resize(stain, (width, height), interpolation=cv2.INTER_CUBIC)
    relief += rng.uniform(0, 6) * rng.standard_normal((height, width))
    return np.clip(colour + relief[..., None], 0, 255).astype(np.uint8)


def noise(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """Uniform or normal noise, coloured or grey, of grains of 1 to 6 pixels."""
    grain = int(rng.integers(1, 7))
    height, width = -(-image.shape[0] // grain), -(-image.shape[1] // grain)
    channels = 3 if rng.random() < 0.6 else 1
    if rng.random() < 0.5:
        small = rng.integers(0, 256, (height, width, channels))
    else:
        small = np.clip(rng.normal(rng.uniform(60, 200), rng.uniform(20, 80), (height, width, channels)), 0, 255)
    full = np.kron(small.astype(np.uint8), np.ones((grain, grain, 1), np.uint8))
    return np.ascontiguousarray(np.broadcast_to(full, (*full.shape[:2], 3))[: image.shape[0], : image.shape[1]])


def _two_colours(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    first = rng.integers(0, 256, 3)
    return first, (first + rng.integers(70, 187, 3)) % 256


def stripes(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """Bars of two colours at any angle, hard or sinusoidal, with a period of 3 to 40 pixels."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    angle = rng.uniform(0, np.pi)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / rng.uniform(3, 40))
    share = (wave > 0).astype(float) if rng.random() < 0.6 else 0.5 + 0.5 * wave
    first, second = _two_colours(rng)
    return (first + (second - first) * share[..., None]).astype(np.uint8)


def checker(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """A checkerboard of two colours, fields of 2 to 24 pixels."""
    side = int(rng.integers(2, 25))
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    first, second = _two_colours(rng)
    return np.where(((y // side + x // side) % 2)[..., None] > 0, first, second).astype(np.uint8)


def gradient(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """A ramp from one colour to another at any angle."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = x * np.cos(angle) + y * np.sin(angle)
    share = (ramp - ramp.min()) / max(np.ptp(ramp), 1e-6)
    first, second = _two_colours(rng)
    return (first + (second - first) * share[..., None]).astype(np.uint8)


def clouds(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """Noise whose amplitude falls with frequency as 1 / f^a, a from 0.5 to 2, as in textures of nature; in grey
    or in three colours."""
    height, width = image.shape[:2]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    channels = 3 if rng.random() < 0.6 else 1
    white_noise = np.fft.rfft2(rng.standard_normal((height, width, channels)), axes=(0, 1))
    field = np.fft.irfft2(white_noise / frequency[..., None] ** rng.uniform(0.5, 2), (height, width), axes=(0, 1))
    field = field / max(field.std(), 1e-6)
    return np.clip(rng.uniform(40, 215, 3) + rng.uniform(15, 70) * field, 0, 255).astype(np.uint8)


def text(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """Lines of letters on a flat ground."""
    first, second = _two_colours(rng)
    canvas = np.full_like(image, 0) + first.astype(np.uint8)
    letters = np.array(list(string.ascii_letters + string.digits + "   "))
    scale = float(rng.uniform(0.3, 1.2))
    step = max(8, int(28 * scale))
    colour = tuple(int(c) for c in second)
    for y in range(step, image.shape[0] + step, step):
        line = "".join(rng.choice(letters, 200))
        start = (-int(rng.integers(0, 40)), y)
        cv2.putText(canvas, line, start, int(rng.integers(0, 5)), scale, colour, 1 + (scale > 0.8))
    return canvas


def other(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """A piece of another picture, enlarged up to four times; noise where there is none."""
    if not len(others):
        return noise(image, rng, others)
    source = others[int(rng.integers(len(others)))]
    height, width = source.shape[:2]
    share = rng.uniform(0.25, 1)
    h, w = max(2, int(height * share)), max(2, int(width * share))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    return cv2.resize(source[y : y + h, x : x + w], image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _by_blocks(image: np.ndarray, change: Callable[[np.ndarray, int, int, int], np.ndarray]) -> np.ndarray:
    done = image.copy()
    for y in range(0, image.shape[0], 16):
        for x in range(0, image.shape[1], 16):
            block = change(image, y, x, 16)
            done[y : y + 16, x : x + 16] = block[: done.shape[0] - y, : done.shape[1] - x]
    return done


def macroblocks(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """Blocks of 16 pixels as a decoder that lost data shows them: shifted, repeated, flat, smeared or of a
    wrong colour, each kind over the whole picture."""
    height, width = image.shape[:2]
    kind = rng.choice(["shifted", "repeated", "flat", "smeared", "colour"])
    if kind == "shifted":
        reach = max(2, min(height, width) // 3)
        offset = rng.integers(-reach, reach + 1, 2)

        def change(source: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
            dy, dx = offset + rng.integers(-3, 4, 2)
            rows, columns = np.arange(y + dy, y + dy + side), np.arange(x + dx, x + dx + side)
            return source[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]

    elif kind == "repeated":
        top, left = int(rng.integers(0, max(1, height - 15))), int(rng.integers(0, max(1, width - 15)))

        def change(source: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
            rows, columns = np.arange(top, top + side), np.arange(left, left + side)
            return source[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]

    elif kind == "flat":

        def change(source: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
            mean = source[y : y + side, x : x + side].mean((0, 1)) + rng.normal(0, 12, 3)
            return np.broadcast_to(np.clip(mean, 0, 255).astype(np.uint8), (side, side, 3))

    elif kind == "smeared":
        down = rng.random() < 0.5

        def change(source: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
            part = source[y : y + 1, x : x + side] if down else source[y : y + side, x : x + 1]
            return np.broadcast_to(np.resize(part, (1, side, 3) if down else (side, 1, 3)), (side, side, 3))

    else:
        shift = rng.integers(40, 140, 3) * rng.choice([-1, 1], 3)

        def change(source: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
            block = source[y : y + side, x : x + side].astype(int)
            return np.pad(
                np.clip(block + shift, 0, 255).astype(np.uint8),
                ((0, side - block.shape[0]), (0, side - block.shape[1]), (0, 0)),
            )

    return _by_blocks(image, change)


def jpeg5(image: np.ndarray, rng: Rng, others: Sequence[np.ndarray]) -> np.ndarray:
    """The picture itself, compressed as JPEG of quality 5."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 5])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


PATCHES: Mapping[str, Patch] = {
    "white": white,
    "solid": solid,
    "paper": paper,
    "noise": noise,
    "stripes": stripes,
    "checker": checker,
    "gradient": gradient,
    "clouds": clouds,
    "text": text,
    "other": other,
    "macroblocks": macroblocks,
    "jpeg5": jpeg5,
}


def stamp(
    image: np.ndarray,
    mask: np.ndarray,
    rng: Rng,
    shares: Mapping[str, float],
    others: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """`image` (HWC uint8 RGB) with a patch of a kind drawn by `shares` over `mask` (HW bool); a new array."""
    kinds = list(shares)
    weight = np.array([shares[k] for k in kinds], float)
    kind = kinds[rng.choice(len(kinds), p=weight / weight.sum())]
    return np.where(mask[..., None], PATCHES[kind](image, rng, others), image)
