"""What an enlarged drawing lacks is copied from around it: as strong as there, where it belongs, or not at all."""

import cv2
import numpy as np
import pytest
from skimage import data

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.faces.alignment import face_crop, side_of, square_crop
from faceinpaint_cli.fill.compositing import composite, crop_share, cut
from faceinpaint_cli.fill.detail import BLOCK, OVERLAP, add_detail, add_grain
from faceinpaint_cli.pipeline.image import repair_pictures
from faceinpaint_cli.pipeline.stages import Stages

SIDE = 560
HOLE = (slice(180, 380), slice(170, 390))


def scene(grain, seed=0):
    """A smooth picture (SIDE, SIDE, 3) uint8, dark at the left and light at the right, with grain of a strength (in
    grey levels) at each of the two sides; and the same without grain."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    smooth = np.stack([80 + 100 * x, 70 + 80 * x + 20 * y, 60 + 60 * x], 2)
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE, 3))
    strength = np.where(x < 0.5, *grain)[..., None]
    return (np.clip(np.round(picture), 0, 255).astype(np.uint8) for picture in (smooth + noise * strength, smooth))


def mask():
    hole = np.zeros((SIDE, SIDE), bool)
    hole[HOLE] = True
    return hole


def filled(image, truth, hole, crop):
    """As from a generator that draws the truth, as well as its crop can hold it."""
    drawn = cut(truth, np.zeros(hole.shape, bool), crop).image
    return composite(np.where(hole[..., None], np.uint8(255), image), hole, [crop], [drawn], 4)


def grain_of(image, rows, columns):
    """Spread of what a blur takes away, in grey levels."""
    part = image[rows, columns].astype(np.float32)
    return float((part - cv2.GaussianBlur(part, (0, 0), 2)).std())


@pytest.mark.parametrize("side", [400, 512, 540])
def test_grain_inside_is_as_outside(side):
    image, _ = scene((6, 6))
    hole, crop = mask(), square_crop(280 - side / 2, 280 - side / 2, side, 256)
    before = filled(image, image, hole, crop)
    after = add_detail(before, hole, ~hole, [crop])
    inner = (slice(190, 370), slice(180, 380))
    outside = grain_of(image, slice(0, 170), slice(0, SIDE))
    assert grain_of(before, *inner) < 0.75 * outside
    assert grain_of(after, *inner) == pytest.approx(outside, rel=0.2)
    for edge in (np.s_[180:186, 170:390], np.s_[374:380, 170:390], np.s_[180:380, 170:176], np.s_[180:380, 384:390]):
        assert grain_of(after, *edge) > 0.75 * outside  # also along the rim
    assert np.array_equal(after[~hole], before[~hole])
    means = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 8)[inner] for picture in (before, after)]
    assert np.abs(means[0] - means[1]).max() < 3  # the fill itself is kept


def test_grain_follows_the_tone():
    image, _ = scene((2, 9))
    hole, crop = mask(), square_crop(20, 20, 520, 256)
    after = add_detail(filled(image, image, hole, crop), hole, ~hole, [crop])
    dark, light = grain_of(after, slice(190, 370), slice(180, 260)), grain_of(after, slice(190, 370), slice(300, 380))
    assert light > 3 * dark
    assert light == pytest.approx(grain_of(image, slice(0, 170), slice(300, 550)), rel=0.3)


def test_no_pattern_of_blocks():
    image, smooth = scene((6, 6))
    hole, crop = mask(), square_crop(24, 24, 512, 256)
    before = filled(smooth, smooth, hole, crop)
    before[~hole] = image[~hole]
    added = (add_detail(before, hole, ~hole, [crop]).astype(np.float32) - before)[HOLE]
    step = 2 * (BLOCK - OVERLAP)
    for lag in (step, 2 * step):
        for first, second in ((added[lag:], added[:-lag]), (added[:, lag:], added[:, :-lag])):
            assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.15


def test_nothing_to_copy_nothing_added():
    _, smooth = scene((0, 0))
    hole, crop = mask(), square_crop(24, 24, 512, 256)
    before = filled(smooth, smooth, hole, crop)
    assert np.array_equal(add_detail(before, hole, ~hole, [crop]), before)
    assert np.array_equal(add_detail(before, hole, np.zeros_like(hole), [crop]), before)  # nothing known


@pytest.mark.parametrize("side", [120, 256, 264])
def test_what_is_not_enlarged_stays(side):
    image, _ = scene((6, 6))
    hole = np.zeros((SIDE, SIDE), bool)
    hole[260:300, 250:310] = True
    crop = square_crop(280 - side / 2, 280 - side / 2, side, 256)
    before = filled(image, image, hole, crop)
    assert np.array_equal(add_detail(before, hole, ~hole, [crop]), before)


def test_only_where_the_enlarged_crop_counts_most():
    image, _ = scene((6, 6))
    hole = mask()
    large, small = square_crop(24, 24, 512, 256), square_crop(130, 190, 180, 256)
    before = filled(image, image, hole, large)
    after = add_detail(before, hole, ~hole, [large, small])
    changed = (after != before).any(2)
    whole = slice(0, SIDE)
    wins = crop_share(small, whole, whole) > crop_share(large, whole, whole)
    assert wins[hole].sum() > 1000 and not changed[wins].any()
    assert changed[hole & ~wins].mean() > 0.9


def test_the_same_each_time_and_at_every_depth():
    image, _ = scene((6, 6))
    hole, crop = mask(), square_crop(24, 24, 512, 256)
    grey = np.repeat(image[..., :1], 3, 2)
    before = filled(grey, grey, hole, crop)
    after = add_detail(before, hole, ~hole, [crop])
    assert np.array_equal(after, add_detail(before, hole, ~hole, [crop]))
    assert (np.ptp(after, axis=2) == 0).all()
    deep = add_detail(before.astype(np.uint16) * 257, hole, ~hole, [crop])
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - after).max() <= 0.6


@pytest.mark.parametrize("shape", [(9, 700), (700, 9), (12, 12)])
def test_pictures_of_next_to_no_cells(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    hole = np.zeros(shape, bool)
    hole[2:5, 2:5] = True
    crop = square_crop(0, 0, 700, 256)
    result = add_detail(image, hole, ~hole, [crop])
    assert np.array_equal(result[~hole], image[~hole])


def test_a_large_face_through_the_whole_chain():
    portrait = cv2.resize(data.astronaut()[20:220, 120:320], (900, 900), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 7, portrait.shape)
    portrait = np.clip(portrait + noise, 0, 255).astype(np.uint8)
    hole = np.zeros(portrait.shape[:2], bool)
    hole[420:560, 330:520] = True
    broken = np.where(hole[..., None], np.uint8(255), portrait)
    stages = Stages(RunConfig(device="cpu"))
    [repaired] = repair_pictures([broken], [hole], stages)
    assert (repaired.image[~hole] == broken[~hole]).all()
    assert repaired.faces and side_of(face_crop(repaired.faces[0], 256)) > 1.5 * 256
    [plain] = stages.fill([broken], [hole], [repaired.faces])
    inner, outer = (slice(430, 550), slice(340, 510)), (slice(570, 650), slice(340, 510))
    true = grain_of(portrait, *inner)
    assert grain_of(plain, *inner) < 0.5 * true
    assert grain_of(repaired.image, *inner) == pytest.approx(grain_of(portrait, *outer), rel=0.3)


@pytest.mark.parametrize("grain", [(8, 8), (5, 12)])
def test_a_drawing_without_grain_gets_that_of_places_as_light(grain):
    image, smooth = scene(grain)
    hole = mask()
    before = np.where(hole[..., None], smooth, image)
    after = add_grain(before, hole, ~hole)
    assert np.array_equal(after[~hole], before[~hole])
    for columns, around in ((slice(170, 270), slice(60, 160)), (slice(290, 390), slice(400, 500))):
        rows = slice(185, 375)
        assert grain_of(before, rows, columns) < 1
        assert grain_of(after, rows, columns) == pytest.approx(grain_of(image, rows, around), rel=0.25)
    soft = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 8)[HOLE] for picture in (before, after)]
    assert np.abs(soft[0] - soft[1]).max() < 3, "light and colours stay"


def test_grain_that_is_there_or_cannot_be_seen_is_not_added():
    hole = mask()
    image, smooth = scene((9, 9))
    np.testing.assert_array_equal(add_grain(smooth, hole, ~hole), smooth)
    faint, _ = scene((1, 1))
    faint = np.where(hole[..., None], smooth, faint)
    np.testing.assert_array_equal(add_grain(faint, hole, ~hole), faint)
    twice = add_grain(image, hole, ~hole)
    assert grain_of(twice, slice(185, 375), slice(180, 380)) < 1.15 * grain_of(image, slice(0, 170), slice(0, SIDE))
    np.testing.assert_array_equal(add_grain(image, np.ones_like(hole), np.zeros_like(hole)), image)


def test_thin_holes_and_sixteen_bits_get_grain_too():
    image, smooth = scene((9, 9))
    hole = np.zeros((SIDE, SIDE), bool)
    hole[100:460, 200:207] = True
    deep = np.where(hole[..., None], smooth, image).astype(np.uint16) * 257
    after = add_grain(deep, hole, ~hole)
    assert after.dtype == np.uint16 and np.array_equal(after[~hole], deep[~hole])
    assert (after.astype(float) - deep)[hole].std() / 257 == pytest.approx(8, rel=0.3)


def test_a_small_face_of_a_grainy_picture_is_repaired_with_grain():
    picture = cv2.resize(data.astronaut()[20:220, 110:310], (256, 256), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).standard_normal((256, 256, 1)) * 9
    grainy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    hole = np.zeros((256, 256), bool)
    hole[90:150, 110:175] = True
    [repaired] = repair_pictures([grainy], [hole], Stages(RunConfig(device="cpu")))
    cheek = (slice(120, 148), slice(112, 135))
    assert grain_of(repaired.image, *cheek) > 0.6 * grain_of(grainy, *cheek)  # 0.34 as drawn
