"""Faces that a hole hides wholly, in real photographs: found where there is a head, not where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import astronaut, chelsea, coffee, rocket

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.faces.detector import FaceDetector, detect_hidden
from faceinpaint_cli.faces.hidden import find_hidden, square
from faceinpaint_cli.pipeline.image import repair_pictures
from faceinpaint_cli.pipeline.stages import Stages

torch.set_num_threads(1)
EYES = np.array([[205, 101], [245, 102]])
"""Of the astronaut."""


def hole(picture: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros(picture.shape[:2], bool)
    mask[y : y + height, x : x + width] = True
    return mask


def test_a_face_of_which_nothing_is_seen_is_found_from_hair_and_neck():
    picture = astronaut()
    mask = hole(picture, 178, 62, 92, 108)  # the face and no more
    painted = np.where(mask[..., None], np.uint8(0), picture)
    [face] = find_hidden(painted, mask, mask)
    assert face.source == "hidden"
    assert np.abs(face.landmarks[:2] - EYES).max() < 25
    assert (face.box[:2] < face.landmarks.min(0)).all() and (face.box[2:] > face.landmarks.max(0)).all()


@pytest.mark.parametrize("picture, x, y, side", [
    (rocket(), 400, 300, 110), (rocket(), 60, 40, 100), (coffee(), 30, 300, 90), (chelsea(), 20, 20, 80),
    (astronaut(), 330, 360, 90), (astronaut(), 75, 100, 80),
])
def test_holes_over_anything_else_hide_no_face(picture, x, y, side):
    mask = hole(picture, x, y, side, side)
    painted = np.where(mask[..., None], np.uint8(255), picture)
    found = detect_hidden(FaceDetector("cpu"), [painted], [mask])[0]
    assert not [face for face in found if mask[tuple(face.landmarks.mean(0).astype(int)[::-1])]]


def test_thin_holes_are_not_looked_at():
    picture = astronaut()
    mask = np.zeros(picture.shape[:2], bool)
    mask[:, ::40] = True
    assert find_hidden(picture, mask, mask) == []


def test_no_face_is_painted_into_the_sky():
    """What is filled by its surroundings is as dark and as even as they are."""
    picture = rocket()
    mask = hole(picture, 420, 60, 110, 110)
    repaired = repair_pictures([picture], [mask], Stages(RunConfig(device="cpu")))[0]
    assert repaired.faces == []
    assert np.abs(repaired.image[mask].astype(int) - picture[mask]).mean() < 6


def test_what_is_beyond_the_picture_is_unknown():
    picture = np.full((100, 80, 3), 9, np.uint8)
    mask = hole(picture, 0, 0, 10, 10)
    seen, unknown = square(picture, mask, np.array([0, 0]), 40, 20)
    assert seen.shape == (20, 20, 3) and unknown.shape == (20, 20)
    assert unknown[:10].all() and unknown[:, :10].all() and unknown[10:15, 10:15].all() and not unknown[16:, 16:].any()
    assert (seen[16:, 16:] == 9).all()
