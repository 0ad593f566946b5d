"""Make everything in this folder from two public-domain photographs: python samples/make_samples.py

Needs scikit-image and matplotlib, whose packages carry the photographs (pip install '.[test]'). Seeded: equal
seeds give equal damage.
"""

from __future__ import annotations

import math
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib import cbook
from PIL import Image
from skimage import data

HERE = Path(__file__).resolve().parent
SEED = 7
RATE, SECONDS = 20, 3
CLIP_SIZE = (384, 288)
SOUND_RATE = 44100


def main() -> None:
    for folder in ("whole", "damaged", "masks"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    rng = np.random.default_rng(SEED)
    astronaut = data.astronaut()
    hopper = np.asarray(Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))
    portrait, face = astronaut[:384, 30:414], hopper[60:380, 105:425]
    save("whole/astronaut.png", portrait)
    save("whole/hopper.jpg", hopper)
    save("whole/hopper-face.png", face)
    small = cv2.resize(face, (256, 256), interpolation=cv2.INTER_AREA)
    pair = np.concatenate([astronaut[16:272, 96:352], small], axis=1)
    save("whole/two.webp", pair)

    damage("astronaut.png", portrait, *scratches(portrait, (100, 10, 270, 240), rng))
    damage("hopper.jpg", hopper, *stains(hopper, (160, 110, 370, 350), rng))
    damage("hopper-face.png", face, *white_square(face, (98, 128)))
    damage("two.webp", pair, *stamps(pair, [(104, 84), (350, 134)], rng))
    clips(astronaut, hopper)


def save(name: str, picture: np.ndarray) -> None:
    options = {".jpg": {"quality": 92}, ".webp": {"quality": 92}, ".png": {"optimize": True}}
    path = HERE / name
    Image.fromarray(picture).save(path, **options[path.suffix])


def damage(name: str, picture: np.ndarray, damaged: np.ndarray, mask: np.ndarray) -> None:
    """Save the damaged picture and its mask, a little larger for lossy formats, which smear the rim."""
    assert damaged.shape == picture.shape
    save(f"damaged/{name}", damaged)
    reach = 1 if name.endswith(".png") else 5
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) * 255
    save(f"masks/{Path(name).stem}.png", grown)


Damaged = tuple[np.ndarray, np.ndarray]
"""The damaged picture (HWC uint8 RGB) and where it is damaged (HW bool)."""


def scratches(picture: np.ndarray, box: tuple[int, int, int, int], rng: np.random.Generator) -> Damaged:
    """Bright and dark scratches across `box` (XYXY), each a slightly bent line."""
    damaged, mask = picture.copy(), np.zeros(picture.shape[:2], np.uint8)
    x0, y0, x1, y1 = box
    for i in range(7):
        start = x0 + (x1 - x0) * (i + rng.uniform(0.2, 0.8)) / 7
        xs = np.linspace(start, start + rng.normal(0, 45), 24)
        bend = rng.normal(0, 9) * np.sin(np.linspace(0, math.pi, 24)) + np.cumsum(rng.normal(0, 0.7, 24))
        line = np.stack([xs + bend, np.linspace(y0 - 10, y1 + 10, 24)], axis=1).astype(np.int32)
        colour = (245, 240, 228) if i % 3 else (28, 24, 20)
        width = int(rng.integers(1, 4))
        cv2.polylines(damaged, [line], False, colour, width, cv2.LINE_AA)
        cv2.polylines(mask, [line], False, 1, width + 3)
    return damaged, mask > 0


def stains(picture: np.ndarray, box: tuple[int, int, int, int], rng: np.random.Generator) -> Damaged:
    """Patches where the print has come off, with a ragged rim, within `box` (XYXY)."""
    x0, y0, x1, y1 = box
    field = cv2.GaussianBlur(rng.normal(size=picture.shape[:2]), (0, 0), 14)
    inside = np.zeros_like(field)
    inside[y0:y1, x0:x1] = 1
    field = field / field.std() * cv2.GaussianBlur(inside, (0, 0), 10)
    field += 0.12 * rng.normal(size=field.shape)
    field = cv2.GaussianBlur(field, (0, 0), 1.2)
    mask = field > 1.05
    paper = 226 + cv2.GaussianBlur(rng.normal(0, 18, field.shape), (0, 0), 1.5)
    paper = np.clip(np.stack([paper, paper - 8, paper - 26], axis=2), 0, 255).astype(np.uint8)
    return np.where(mask[..., None], paper, picture), mask


def white_square(picture: np.ndarray, corner: tuple[int, int]) -> Damaged:
    """A white square of a third of the side."""
    side = picture.shape[0] // 3
    mask = np.zeros(picture.shape[:2], bool)
    mask[corner[1]: corner[1] + side, corner[0]: corner[0] + side] = True
    return np.where(mask[..., None], np.uint8(255), picture), mask


def stamps(picture: np.ndarray, places: list[tuple[int, int]], rng: np.random.Generator) -> Damaged:
    """Discs of noise and of stripes stamped on at `places` (x, y)."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    patterns = np.zeros_like(picture)
    for i, (x, y) in enumerate(places):
        disc = np.zeros_like(mask)
        cv2.circle(disc, (x, y), 30, 1, -1)
        columns = np.arange(picture.shape[1])[None, :, None] + np.arange(picture.shape[0])[:, None, None]
        stripes = np.where(columns // 6 % 2, (200, 30, 40), (240, 220, 40))
        noise = np.kron(rng.integers(0, 256, (picture.shape[0] // 4, picture.shape[1] // 4, 3)),
                        np.ones((4, 4, 1), int))
        patterns[disc > 0] = (stripes if i % 2 else noise)[disc > 0]
        mask |= disc
    return np.where(mask[..., None] > 0, patterns, picture), mask > 0


def clips(astronaut: np.ndarray, hopper: np.ndarray) -> None:
    """A clip of both photographs (a slow zoom, a cut, a pan) with a tone, whole and with a bar that moves
    over the faces, and the mask of the bar as a video."""
    whole, damaged, masks = [], [], []
    count = RATE * SECONDS
    for i in range(count):
        first = i < count * 3 // 5
        t = i / (count * 3 // 5) if first else (i - count * 3 // 5) / (count * 2 // 5)
        if first:
            frame = view(astronaut, (225 + 20 * t, 140 + 8 * math.sin(4 * t)), 1.35 + 0.35 * t)
            corner = int(100 + 60 * t), int(105 + 30 * math.sin(5 * t))
        else:
            frame = view(hopper, (240 + 40 * t, 235), 0.9)
            corner = int(190 - 70 * t), int(90 + 50 * t)
        mask = np.zeros(frame.shape[:2], bool)
        mask[corner[1]: corner[1] + 44, corner[0]: corner[0] + 76] = True
        whole.append(frame)
        damaged.append(np.where(mask[..., None], np.uint8((40, 180, 90)), frame))
        grown = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))) * 255
        masks.append(np.repeat(grown[..., None], 3, axis=2))
    write_clip("whole/clip.mp4", whole, crf=20, sound=True)
    write_clip("damaged/clip.mp4", damaged, crf=20, sound=True)
    write_clip("masks/clip.mp4", masks, crf=12, sound=False)


def view(photograph: np.ndarray, middle: tuple[float, float], zoom: float) -> np.ndarray:
    """What a camera sees that looks at `middle` (x, y) with `zoom` clip pixels to a pixel."""
    width, height = CLIP_SIZE
    matrix = np.array([[zoom, 0, width / 2 - zoom * middle[0]], [0, zoom, height / 2 - zoom * middle[1]]])
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(photograph, matrix, CLIP_SIZE, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def write_clip(name: str, frames: list[np.ndarray], crf: int, sound: bool) -> None:
    with av.open(str(HERE / name), "w") as container:
        options = {"crf": str(crf), "preset": "slow", "g": "20"}
        video = container.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt = *CLIP_SIZE, "yuv420p"
        video.time_base = Fraction(1, RATE)
        tone = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound else None
        if tone:
            tone.bit_rate = 32000
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if tone:
            for frame in sound_frames():
                container.mux(tone.encode(frame))
            container.mux(tone.encode(None))


def sound_frames() -> list[av.AudioFrame]:
    """A quiet tone that rises."""
    time = np.arange(SOUND_RATE * SECONDS) / SOUND_RATE
    wave = (0.1 * np.sin(2 * np.pi * (220 + 40 * time) * time)).astype(np.float32)
    frames = []
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start: start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        frames.append(frame)
    return frames


if __name__ == "__main__":
    main()
