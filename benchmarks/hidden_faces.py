"""How often a hidden face is found, and one seen where there is none: python benchmarks/hidden_faces.py PHOTOS

PHOTOS is a folder (zip, tar) of photographs. Each face that MTCNN finds is hidden under its box, a little aside, as it
is and grown by 15 and 35 %; and 14 squares of 12 to 45 % of the shorter side are put where they touch no face. Told: in
how many of the first `faces.hidden.find_hidden` finds a face, how far its landmarks are from the true ones (mean, in
widths of the box), and in how many of the second it sees one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from faceinpaint_bench.sources import decode_rgb, open_source

from faceinpaint_cli.faces.detector import FaceDetector
from faceinpaint_cli.faces.hidden import find_hidden
from faceinpaint_cli.types import Face

SIDE = 1600
"""Larger pictures are reduced to it."""
SURE = 0.98
GROWN, ASIDE = (0.0, 0.15, 0.35), 0.12
SQUARES, SIDES = 14, (0.12, 0.45)
NEAR = 0.3
"""Squares keep so many widths away from the box of a face."""


def box_mask(shape: tuple[int, ...], box: np.ndarray) -> np.ndarray:
    """HW bool: True in a box XYXY in pixels."""
    left, top, right, bottom = np.clip(np.round(box), 0, None).astype(int)
    mask = np.zeros(shape[:2], bool)
    mask[top:bottom, left:right] = True
    return mask


def over_faces(
    shape: tuple[int, ...], faces: list[Face], rng: np.random.Generator
) -> Iterator[tuple[Face, np.ndarray]]:
    for face in faces:
        width = face.box[2] - face.box[0]
        for grown in GROWN:
            aside = np.tile(rng.uniform(-ASIDE, ASIDE, 2) * width, 2)
            yield face, box_mask(shape, face.box + np.array([-grown, -grown, grown, grown]) * width + aside)


def beside_faces(shape: tuple[int, ...], faces: list[Face], rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(SQUARES):
        half = rng.uniform(*SIDES) * min(shape[:2]) / 2
        middle = rng.uniform(0, 1, 2) * shape[1::-1]
        box = np.concatenate([middle - half, middle + half])
        reach = [NEAR * (face.box[2] - face.box[0]) for face in faces]
        if all(box[0] > f.box[2] + r or box[2] < f.box[0] - r or box[1] > f.box[3] + r or box[3] < f.box[1] - r
               for f, r in zip(faces, reach, strict=True)):
            yield box_mask(shape, box)


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
def main(photos: Path) -> None:
    """Two lines."""
    detector, rng = FaceDetector("cpu"), np.random.default_rng(0)
    found, hidden, far, seen, elsewhere = 0, 0, [], 0, 0
    for item in open_source(photos, "PHOTOS"):
        picture = decode_rgb(item.read(), item.name)
        scale = min(1.0, SIDE / max(picture.shape[:2]))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        faces = detector.detect([picture])[0]
        sure = [f for f in faces if f.score >= SURE and f.box[0] >= 0 and f.box[2] <= picture.shape[1]]
        for face, mask in over_faces(picture.shape, sure, rng):
            near = [np.abs(other.landmarks - face.landmarks).mean() / (face.box[2] - face.box[0])
                    for other in find_hidden(picture, mask, mask)]
            hidden, found = hidden + 1, found + bool(near)
            far += near[:1]
        for mask in beside_faces(picture.shape, faces, rng):
            elsewhere, seen = elsewhere + 1, seen + bool(find_hidden(picture, mask, mask))
    click.echo(f"Hidden faces found: {found} of {hidden}, landmarks {np.mean(far) if far else 0:.2f} box widths off")
    click.echo(f"Faces seen where there are none: {seen} of {elsewhere}")


if __name__ == "__main__":
    main()
