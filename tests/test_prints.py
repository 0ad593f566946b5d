"""The localiser of damaged prints in the package: scratches are found, pictures without any are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut, chelsea, coffee, rocket

from faceinpaint_cli.damage import prints
from faceinpaint_cli.damage.localiser import locate_damage
from faceinpaint_cli.damage.prints import THICKEST, locate_print_damage, sure_lines

torch.set_num_threads(1)
SAMPLES = Path(__file__).parent.parent / "samples"


def scratched(picture: np.ndarray, thick: int, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Five bent lines from top to bottom, and where they are (HW bool)."""
    height, width = picture.shape[:2]
    hurt, true = picture.copy(), np.zeros((height, width), np.uint8)
    rows = np.arange(0, height, 8)
    for i, x in enumerate(np.linspace(0.15, 0.85, 5) * width):
        line = np.stack([x + 0.03 * width * np.sin(rows / height * 4 + i), rows], 1).astype(np.int32)
        cv2.polylines(hurt, [line], False, colour, thick, cv2.LINE_AA)
        cv2.polylines(true, [line], False, 1, thick)
    return hurt, true > 0


def test_the_scratches_of_the_bundled_sample_are_found():
    hurt = np.ascontiguousarray(cv2.imread(str(SAMPLES / "damaged" / "astronaut.png"))[..., ::-1])
    true = cv2.imread(str(SAMPLES / "masks" / "astronaut.png"), cv2.IMREAD_GRAYSCALE) > 127  # and a pixel around
    found = locate_damage([hurt])[0] > 0.5
    assert (found & true).sum() > 0.35 * true.sum()
    assert (found & true).sum() > 0.95 * found.sum()


@pytest.mark.parametrize("thick", [2, 4])
def test_light_scratches_are_found_where_they_are(thick):
    hurt, true = scratched(astronaut(), thick, (240, 235, 225))
    soft = locate_print_damage(hurt)
    assert soft.shape == true.shape and soft.dtype == np.float32 and soft.min() >= 0 and soft.max() <= 1
    near = cv2.dilate(true.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    found = soft > 0.5
    assert (found & true).sum() > 0.5 * true.sum() and (found & near).sum() > 0.95 * found.sum()


def test_scratches_of_a_large_scan_are_found_in_its_own_pixels():
    large = cv2.resize(astronaut(), (2000, 2000), interpolation=cv2.INTER_CUBIC)
    hurt, true = scratched(large, 8, (240, 235, 225))
    found = locate_print_damage(hurt) > 0.5
    assert found.shape == true.shape and (found & true).sum() > 0.5 * true.sum()


def test_pictures_without_damage_are_left_alone():
    whole = [cv2.imread(str(path))[..., ::-1] for path in sorted((SAMPLES / "whole").glob("*.[pjw]*"))]
    assert len(whole) == 4
    for picture in (*whole, astronaut(), chelsea(), coffee(), rocket(), np.zeros((40, 1200, 3), np.uint8)):
        assert not locate_print_damage(np.ascontiguousarray(picture)).any()


def test_only_thin_regions_count_and_the_rest_only_beside_a_surer_one():
    soft = np.zeros((200, 200), np.float32)
    soft[20:180, 50:54] = 0.99  # a line that is surer
    soft[20:60, 100:103] = 0.85  # sure
    soft[80:120, 100:103] = 0.7  # not sure
    soft[100:140, 140:180] = 0.99  # thick
    soft[5:8, 5:8] = 0.99  # small
    soft[190:200, 190:200] = 0.99  # at a corner
    kept = sure_lines(soft)
    assert kept[100, 51] and kept[30, 101]
    assert THICKEST < 40 / 2 and (kept > 0).sum() == 160 * 4 + 40 * 3
    soft[20:180, 50:54] = 0.85
    assert not sure_lines(soft).any()


def test_weights_that_are_missing_are_told(monkeypatch, tmp_path):
    from faceinpaint_cli.errors import ModelError
    from faceinpaint_cli.models import checkpoint

    monkeypatch.setattr(checkpoint.resources, "files", lambda _: tmp_path)
    prints.bundled_print_localiser.cache_clear()
    with pytest.raises(ModelError, match=r"print-localiser\.safetensors are missing: say what to fill with --mask"):
        locate_print_damage(chelsea())
