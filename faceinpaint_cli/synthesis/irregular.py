"""Masks from a collection of pictures, such as the irregular mask set of Liu et al. 2018."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from faceinpaint_cli.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def load_irregular(path: Path, side: int = 256) -> list[np.ndarray]:
    """Every mask picture in a folder, zip or tar as (side, side) bool, white = True, in name order."""
    masks = []
    for name, data in _pictures(path):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
        if image is None:
            raise DataError(f"{path}: mask {name} is no readable picture")
        masks.append(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) > 127)
    if not masks:
        raise DataError(f"{path} holds no mask pictures ({', '.join(SUFFIXES)})")
    return masks


def _pictures(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix.lower() in SUFFIXES:
                    yield str(file.relative_to(path)), file.read_bytes()
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.lower().endswith(SUFFIXES):
                        yield name, archive.read(name)
        else:
            with tarfile.open(path) as archive:
                for member in sorted((m for m in archive if m.isfile()), key=lambda m: m.name):
                    content = archive.extractfile(member)
                    if content is not None and member.name.lower().endswith(SUFFIXES):
                        yield member.name, content.read()
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"the masks at {path} cannot be read: {error}") from None


def draw_irregular(
    height: int, width: int, rng: np.random.Generator, masks: Sequence[np.ndarray]
) -> np.ndarray:
    """One of `masks`, turned by a multiple of 90 degrees and mirrored at random, (height, width) bool."""
    mask = np.rot90(masks[int(rng.integers(len(masks)))], int(rng.integers(4)))
    if rng.random() < 0.5:
        mask = mask[:, ::-1]
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
