"""Whole files damaged on purpose, each with its true mask beside it."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from faceinpaint_cli.errors import InputError, OutputError
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt
from faceinpaint_cli.synthesis.shapes import draw_mask
from faceinpaint_cli.synthesis.truemask import write_mask_video

PATCH_SHAPES = {"square": 1.0, "rectangles": 1.0, "ellipses": 1.0, "polygons": 1.0, "strokes": 1.0}


@dataclass(frozen=True)
class Outcome:
    """What was written: the damaged file, its mask, and the figures to print."""

    damaged: Path
    mask: Path
    facts: dict[str, Any]


def mask_path(target: Path, kind: str) -> Path:
    """Where the true mask of a damaged file stands: `x.mp4` -> `x.mask.mkv`, `x.jpg` -> `x.mask.png`."""
    return target.with_name(target.stem + (".mask.png" if kind == "image" else ".mask.mkv"))


def damage_video(source: Path, target: Path, how: Corruption) -> Outcome:
    """Damage a video and write beside it the mask video (FFV1 gray, one frame for each clean picture).

    A transport stream is written for kind "ts", whatever the suffix of `target`.
    """
    if how.kind == "ts":
        target = target.with_suffix(".ts")
    mask = mask_path(target, "video")
    with tempfile.TemporaryDirectory() as scratch, atomic_path(target) as damaged, atomic_path(mask) as masks:
        done = corrupt(source, damaged, how, Path(scratch))
        frames, hurt = write_mask_video(done.reference, damaged, masks)
    facts = {"frames": frames, "frames_damaged": hurt, "hits": [asdict(hit) for hit in done.hits]}
    return Outcome(target, mask, facts)


def damage_image(source: Path, target: Path, seed: int) -> Outcome:
    """Stamp a flat patch on a picture, and write its mask as PNG.

    The patch depends on the seed and on the file's name, so that a folder gets different patches.
    """
    try:
        with Image.open(source) as image:
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{source}: expected a picture, cannot be read ({error})") from error
    rng = np.random.default_rng([seed, zlib.crc32(source.name.encode())])
    hole = draw_mask(pixels.shape[0], pixels.shape[1], rng, PATCH_SHAPES)
    pixels[hole] = rng.integers(0, 256, 3) if rng.random() < 0.5 else rng.choice([0, 255])
    mask = mask_path(target, "image")
    try:
        with atomic_path(target) as path:
            Image.fromarray(pixels).save(path, **({"quality": 95} if _is_jpeg(target) else {}))
        with atomic_path(mask) as path:
            Image.fromarray(hole.astype(np.uint8) * 255).save(path)
    except (ValueError, KeyError) as error:
        raise OutputError(f"{target}: cannot be written ({error}); give -o a picture's suffix") from error
    return Outcome(target, mask, {"mask_fraction": round(float(hole.mean()), 4)})


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")


def summary(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The outcomes as plain values, ready for JSON."""
    return [{"damaged": str(o.damaged), "mask": str(o.mask), **o.facts} for o in outcomes]
