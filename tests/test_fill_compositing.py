"""Cutting out and pasting back: what goes in comes out, and no seam is left."""

import cv2
import numpy as np
import pytest
from skimage import data

from faceinpaint_cli.faces.alignment import side_of, square_crop, to_indices
from faceinpaint_cli.faces.crops import plan_crops
from faceinpaint_cli.fill.compositing import Cut, composite, cut, match_rim, pull_push
from faceinpaint_cli.types import Crop


@pytest.fixture(scope="module")
def picture():
    return data.astronaut()[:300, 50:400].copy()


def turned(centre, side, angle):
    m = cv2.getRotationMatrix2D(centre, angle, 256 / side)
    m[:, 2] += 128 - np.array(centre)
    return Crop(to_indices(m), 256)


def hole_at(shape, top, bottom, left, right):
    mask = np.zeros(shape[:2], bool)
    mask[top:bottom, left:right] = True
    return mask


def whole(image, crop):
    """What a perfect generator would draw: the crop of the undamaged picture."""
    return cut(image, np.zeros(image.shape[:2], bool), crop).image


def test_a_crop_on_whole_pixels_is_exact(picture):
    mask = hole_at(picture.shape, 60, 90, 100, 180)
    crop = square_crop(30, 20, 256, 256)
    seen = cut(picture, mask, crop)
    assert np.array_equal(np.round(seen.image * 255).astype(np.uint8), picture[20:276, 30:286])
    assert np.array_equal(seen.hole, mask[20:276, 30:286])
    result = composite(picture, mask, [crop], [whole(picture, crop)], 4)
    assert np.array_equal(result, picture)


CROPS = {"tiny": turned((170, 120), 60, 10), "turned": turned((170, 120), 230, 35),
         "reduced": turned((170, 120), 420, -20), "beyond the corner": turned((170, 100), 330, 0)}


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_perfect_prediction_gives_the_picture_back(picture, name, kind):
    image = picture.astype(kind) * (257 if kind is np.uint16 else 1)
    mask = hole_at(picture.shape, 105, 135, 155, 185)
    crop = CROPS[name]
    broken = image.copy()
    broken[mask] = np.iinfo(kind).max
    result = composite(broken, mask, [crop], [match_rim(whole(image, crop), cut(broken, mask, crop))], 4)
    assert result.dtype == kind
    assert np.array_equal(result[~mask], image[~mask])
    error = np.abs(result.astype(float) - image)[mask].mean() * 255 / np.iinfo(kind).max
    assert error < (4 if side_of(crop) > 256 else 2)


def test_what_the_hole_holds_does_not_leak_into_what_is_known(picture):
    mask = hole_at(picture.shape, 100, 140, 150, 200)
    green = picture.copy()
    green[mask] = (0, 255, 0)
    for crop in CROPS.values():
        a, b = cut(picture, mask, crop), cut(green, mask, crop)
        assert np.array_equal(a.hole, b.hole)
        assert np.abs(a.image - b.image)[~a.hole].max() < 0.1
        assert a.hole.any() and not a.hole.all()


def test_beyond_the_picture_is_hole(picture):
    seen = cut(picture, np.zeros(picture.shape[:2], bool), square_crop(-64, -64, 256, 256))
    assert seen.hole[:63].all() and seen.hole[:, :63].all()
    assert not seen.hole[65:, 65:].any()


def test_a_wrong_tone_leaves_no_seam(picture):
    smooth = cv2.GaussianBlur(picture, (0, 0), 9)
    mask = hole_at(picture.shape, 100, 150, 120, 200)
    crop = turned((160, 125), 200, 5)
    wrong = whole(smooth, crop) * 0.8 + 0.15
    plain = composite(smooth, mask, [crop], [wrong], 0)
    matched = composite(smooth, mask, [crop], [match_rim(wrong, cut(smooth, mask, crop))], 4)
    feathered = composite(smooth, mask, [crop], [wrong], 4)

    def step(image):
        """Mean jump over the upper edge of the hole."""
        return np.abs(image[99, 125:195].astype(int) - image[100, 125:195]).mean()

    assert step(plain) > 8
    assert step(matched) < step(smooth) + 1.5
    assert step(feathered) < step(smooth) + 4
    assert np.array_equal(feathered[110:140, 130:190], plain[110:140, 130:190])  # only the rim is feathered


def test_pull_push_keeps_what_is_known_and_is_smooth():
    weight = np.zeros((61, 47), np.float32)
    weight[:, 0] = weight[:, -1] = 1
    values = np.zeros((61, 47, 3), np.float32)
    values[:, -1] = 1
    spread = pull_push(values, weight)
    assert np.allclose(spread[:, 0], 0) and np.allclose(spread[:, -1], 1)
    assert spread[30, 23] == pytest.approx(0.5, abs=0.15)
    assert np.abs(np.diff(spread[30, 1:-1, 0])).max() < 0.15
    assert pull_push(values * 0, weight * 0).max() == 0


def test_match_rim_without_a_rim_changes_nothing():
    prediction = np.full((16, 16, 3), 0.5, np.float32)
    for hole in (np.ones((16, 16), bool), np.zeros((16, 16), bool)):
        assert match_rim(prediction, Cut(np.zeros((16, 16, 3), np.float32), hole)) is prediction


def test_grey_pictures_stay_grey(picture):
    grey = np.repeat(picture.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    mask = hole_at(picture.shape, 100, 140, 150, 200)
    crop = square_crop(40, 20, 256, 256)
    result = composite(grey, mask, [crop], [whole(picture, crop)], 4)
    assert (np.ptp(result[mask], axis=1) == 0).all()
    assert np.ptp(composite(picture, mask, [crop], [whole(picture, crop)], 4)[mask], axis=1).max() > 0


def test_every_hole_pixel_is_filled_by_the_crops_that_cover_it(picture):
    mask = hole_at(picture.shape, 0, 60, 0, 50) | hole_at(picture.shape, 200, 250, 0, 350)
    mask |= hole_at(picture.shape, 250, 300, 300, 350)
    broken = picture.copy()
    broken[mask] = (255, 0, 255)
    crops = [square_crop(x, y, 256, 256) for x, y in ((-40, -40), (-40, 100), (140, 100))]
    result = composite(broken, mask, crops, [whole(picture, crop) for crop in crops], 4)
    assert np.abs(result.astype(int) - picture)[mask].max() < 40


def test_full_mask_is_filled_with_the_prediction():
    mask = np.ones((256, 256), bool)
    image = np.zeros((256, 256, 3), np.uint8)
    prediction = np.random.default_rng(0).random((256, 256, 3), np.float32)
    result = composite(image, mask, [square_crop(0, 0, 256, 256)], [prediction], 4)
    assert np.array_equal(result, np.round(prediction * 255).astype(np.uint8))


@pytest.mark.parametrize("shape", [(61, 1), (1, 40), (1, 1), (2, 3)])
def test_pictures_of_next_to_no_pixels(shape):
    image = np.full((*shape, 3), 90, np.uint8)
    plan = plan_crops(np.ones(shape, bool), ())
    seen = [cut(image, np.ones(shape, bool), crop) for crop in plan.crops]
    assert all(s.hole.all() for s in seen)
    drawn = [np.full((256, 256, 3), 0.6, np.float32)] * len(seen)
    result = composite(image, np.ones(shape, bool), plan.crops, drawn, 4)
    assert (result == 153).all()
