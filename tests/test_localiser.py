"""The blind localiser in the package: stamped squares are found, untouched pictures are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, chelsea, coffee, rocket

from faceinpaint_cli.damage import localiser
from faceinpaint_cli.damage.localiser import locate_damage, sure_regions
from faceinpaint_cli.errors import ModelError
from faceinpaint_cli.faces.detector import FaceDetector
from faceinpaint_cli.models import checkpoint
from faceinpaint_cli.models.networks.localiser import Localiser, probability

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:256, 96:352])


def test_a_white_square_is_found_and_its_place_is_right(face):
    overlaps = []
    for y, x in ((100, 70), (20, 110), (120, 10)):
        stamped = face.copy()
        stamped[y : y + 128, x : x + 128] = 255
        true = np.zeros(face.shape[:2], bool)
        true[y : y + 128, x : x + 128] = True
        (soft,) = locate_damage([stamped])
        assert soft.shape == true.shape and soft.dtype == np.float32 and soft.min() >= 0 and soft.max() <= 1
        hit = soft > 0.5
        overlaps.append((hit & true).sum() / (hit | true).sum())
    assert min(overlaps) > 0.8 and np.median(overlaps) > 0.98


def test_bars_and_a_piece_of_another_picture_are_found(face):
    bars = np.zeros(face.shape[:2], bool)
    for x in (60, 120, 190):
        bars[30:220, x : x + 20] = True
    piece = np.zeros(face.shape[:2], bool)
    piece[60:180, 40:170] = True
    # of three bars along the picture's own lines one may be missed
    for true, content, least in ((bars, np.uint8([255, 255, 255]), 0.6), (piece, chelsea()[20:276, 100:356], 0.65)):
        stamped = np.where(true[..., None], content, face)
        hit = locate_damage([stamped])[0] > 0.5
        assert (hit & true).sum() / (hit | true).sum() > least


def test_what_has_come_off_a_print_is_found():
    """Most of the stains on the bundled sample, which has them on hat, face and hair."""
    samples = Path(__file__).parent.parent / "samples"
    stained = cv2.imread(str(samples / "damaged" / "hopper.jpg"))[..., ::-1]
    true = cv2.imread(str(samples / "masks" / "hopper.png"), cv2.IMREAD_GRAYSCALE) > 127
    hit = locate_damage([np.ascontiguousarray(stained)])[0] > 0.5
    assert (hit & true).sum() > 0.6 * true.sum() and (hit & ~true).sum() < 0.15 * hit.sum()


def test_what_looks_pasted_on_from_one_side_only_stays():
    """Beside the patch on this face its chin, above a dark collar, is marked unless the mirrored picture is asked."""
    samples = Path(__file__).parent.parent / "samples"
    stamped = np.asarray(Image.open(samples / "damaged" / "two.webp").convert("RGB"))
    true = cv2.imread(str(samples / "masks" / "two.png"), cv2.IMREAD_GRAYSCALE) > 127
    (faces,) = FaceDetector("cpu").detect([stamped])
    found = locate_damage([stamped], [[face.box for face in faces]])[0] > 0.5
    assert (found & true).sum() > 0.85 * true.sum()
    assert (found & true).sum() > 0.95 * found.sum()


def test_a_face_in_a_large_picture_is_looked_at_closely():
    picture = cv2.resize(coffee(), (1400, 1000))
    picture[300:720, 500:920] = astronaut()[:420, 60:480]
    box = np.array([605, 365, 725, 510])
    stain = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(stain, (690, 450), (26, 18), 30, 0, 360, 1, -1)
    stained = np.where(stain[..., None] > 0, np.uint8([232, 228, 214]), picture)
    assert not locate_damage([stained])[0].any()
    hit = locate_damage([stained], [[box]])[0] > 0.5
    assert hit[stain > 0].mean() > 0.9 and hit.sum() < 1.5 * stain.sum()
    assert not locate_damage([picture], [[box]])[0].any()
    two = locate_damage([picture, stained], [[], [box]])
    assert not two[0].any() and two[1].any()


def test_a_large_region_must_be_sure_inside():
    soft = np.zeros((100, 100), np.float32)
    soft[10:40, 10:40] = 0.90
    soft[10:26, 10:40] = 0.99  # its surer half is sure, the whole of it is not
    assert not sure_regions(soft).any()
    soft[10:40, 10:40] = 0.985
    assert sure_regions(soft).any()


def test_what_is_half_believed_beside_a_stain_stays():
    soft = np.zeros((200, 200), np.float32)
    soft[10:26, 10:26] = 0.99
    soft[26:40, 10:20] = 0.6
    kept = sure_regions(soft) > 0.5
    assert kept[10:26, 10:26].all() and not kept[34:].any()


def test_untouched_pictures_stay_untouched(face):
    for picture in (face, astronaut(), face[::-1, ::-1].copy(), chelsea(), coffee(), rocket()):
        assert not locate_damage([picture])[0].any()


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (900, 700)])
def test_any_size(size):
    rng = np.random.default_rng(0)
    (soft,) = locate_damage([rng.integers(0, 256, (*size, 3), dtype=np.uint8)])
    assert soft.shape == size


def test_unsure_and_tiny_regions_are_dropped():
    soft = np.zeros((100, 100), np.float32)
    soft[10:40, 10:40] = 0.99
    soft[60:90, 60:90] = 0.6
    soft[5, 95] = 1.0
    soft[95:, 50:] = 1.0  # sure, but at a corner: frames and letter boxes look like that
    kept = sure_regions(soft)
    assert (kept[10:40, 10:40] == np.float32(0.99)).all()
    assert kept.sum() == pytest.approx(900 * 0.99, rel=1e-5)


def test_the_network_is_small_and_every_weight_learns():
    net = Localiser()
    assert sum(p.numel() for p in net.parameters()) < 2_000_000
    net(torch.randn(1, 3, 64, 64)).square().mean().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert probability(net, torch.zeros(1, 3, 50, 70)).shape == (1, 1, 50, 70)


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.resources, "files", lambda _: tmp_path)
    localiser.bundled_localiser.cache_clear()
    try:
        with pytest.raises(ModelError, match="--mask"):
            localiser.bundled_localiser()
    finally:
        monkeypatch.undo()
        localiser.bundled_localiser.cache_clear()


def test_of_a_thin_region_the_surer_half_counts():
    soft = np.zeros((100, 100), np.float32)
    soft[20:80, 50:53] = (0.6, 0.99, 0.99)
    assert (sure_regions(soft) > 0).sum() == 180
    soft[20:80, 50:53] = (0.6, 0.8, 0.99)
    assert not sure_regions(soft).any()
