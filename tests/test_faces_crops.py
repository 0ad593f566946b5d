"""Alignment and the plan of crops: geometry, so no network is needed."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from faceinpaint_cli.faces.alignment import (
    TEMPLATE,
    corners,
    covered,
    face_crop,
    fit_similarity,
    side_of,
    square_crop,
)
from faceinpaint_cli.faces.crops import crop_weight, plan_crops
from faceinpaint_cli.types import Face


def make_face(centre, side, angle=0.0):
    """A face whose aligned crop is the square of `side` around `centre`, turned by `angle` degrees."""
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    marks = (TEMPLATE - 0.5) * side @ rotation.T + centre
    low, high = marks.min(0) - 0.1 * side, marks.max(0) + 0.1 * side
    return Face(np.concatenate([low, high]), marks - 0.5, 0.99)


def reach(crops, mask):
    """The largest weight that any crop has, at each pixel of `mask`."""
    y, x = np.nonzero(mask)
    best = np.zeros(len(x))
    for crop in crops:
        m = crop.matrix
        u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] + 0.5) / crop.size
        v = (m[1, 0] * x + m[1, 1] * y + m[1, 2] + 0.5) / crop.size
        best = np.maximum(best, crop_weight(u, v))
    return best


@pytest.mark.parametrize("angle", [0, 20, -75])
def test_similarity_is_recovered(angle):
    face = make_face((200, 120), 90, angle)
    crop = face_crop(face, 256)
    assert side_of(crop) == pytest.approx(90)
    assert np.allclose(corners(crop).mean(0), (200, 120))
    ones = np.concatenate([face.landmarks, np.ones((5, 1))], 1)
    assert np.allclose(ones @ crop.matrix.T + 0.5, TEMPLATE * 256)


def test_landmarks_in_the_hole_count_little():
    face = make_face((128, 128), 200)
    wrong = face.landmarks.copy()
    wrong[0] += (20, -15)
    mask = np.zeros((256, 256), bool)
    x, y = np.round(wrong[0]).astype(int)
    mask[y - 5 : y + 5, x - 5 : x + 5] = True
    guess = Face(face.box, wrong, 0.95)
    assert covered(wrong, mask).tolist() == [True, False, False, False, False]
    truth = corners(face_crop(face, 256))
    careful, trusting = (np.abs(corners(crop) - truth).max()
                         for crop in (face_crop(guess, 256, mask), face_crop(guess, 256)))
    assert careful < 0.6 * trusting
    carried = face_crop(replace(guess, source="tracked"), 256, mask)
    assert np.abs(corners(carried) - truth).max() == pytest.approx(trusting)


def test_similarity_of_one_point_is_a_shift():
    assert np.allclose(fit_similarity(np.zeros((1, 2)), np.array([[3.0, 4.0]]), np.ones(1)), [[1, 0, 3], [0, 1, 4]])


def test_square_crop_of_its_own_size_is_the_identity():
    assert np.array_equal(square_crop(0, 0, 256, 256).matrix, np.eye(2, 3))
    half = square_crop(10, 20, 128, 256)
    assert np.allclose(corners(half), [[10, 20], [138, 20], [138, 148], [10, 148]])
    picture = np.zeros((200, 200), np.float32)
    picture[84, 74] = 1
    warped = cv2.warpAffine(picture, half.matrix, (256, 256))
    y, x = np.indices(warped.shape)
    assert (x * warped).sum() / warped.sum() == pytest.approx(128.5, abs=0.1)
    assert (y * warped).sum() / warped.sum() == pytest.approx(128.5, abs=0.1)


def test_centre_quarter_of_a_face_crop_is_not_resampled():
    mask = np.zeros((256, 256), bool)
    mask[64:192, 64:192] = True
    near = make_face((130, 127), 250, 2)
    [crop] = plan_crops(mask, (near,)).crops
    assert np.array_equal(crop.matrix, np.eye(2, 3)) and crop.face is near


CASES = {
    "small hole": ((300, 400), [(100, 110, 200, 215)], 1),
    "corner": ((300, 400), [(0, 12, 0, 9)], 1),
    "far corner": ((300, 400), [(290, 300, 380, 400)], 1),
    "everything": ((300, 400), [(0, 300, 0, 400)], 1),
    "long scratch": ((300, 2000), [(150, 155, 0, 2000)], 20),
    "scratch over a large photograph": ((3000, 2000), [(0, 3000, 700, 712)], 30),
    "two far apart": ((800, 800), [(10, 30, 10, 30), (700, 790, 700, 790)], 2),
    "tiny picture": ((20, 20), [(5, 10, 5, 10)], 1),
    "narrow picture": ((8, 500), [(0, 8, 100, 160)], 4),
    "large hole": ((1200, 1600), [(200, 1000, 300, 1300)], 4),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("with_face", [False, True])
def test_every_damaged_pixel_is_in_a_crop_or_simple(name, with_face):
    shape, boxes, most = CASES[name]
    mask = np.zeros(shape, bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    faces = [make_face((shape[1] / 2, shape[0] / 2), 0.6 * min(shape), 10)] if with_face else []
    plan = plan_crops(mask, faces)
    assert not (plan.simple & ~mask).any()
    assert (reach(plan.crops, mask & ~plan.simple) > 0).all()
    assert plan.crops or plan.simple.any()
    assert len(plan.crops) <= most + len(faces)
    assert all(crop.size == 256 for crop in plan.crops)


def test_hole_far_from_the_face_is_simple():
    mask = np.zeros((600, 900), bool)
    mask[450:550, 750:850] = True
    plan = plan_crops(mask, [make_face((150, 150), 180)])
    assert plan.crops == []
    assert np.array_equal(plan.simple, mask)


def test_without_any_face_every_hole_is_simple():
    """A generator of faces would draw one there."""
    mask = np.zeros((600, 900), bool)
    mask[350:550, 650:850] = mask[100:110, 100:500] = True
    plan = plan_crops(mask, ())
    assert plan.crops == []
    assert np.array_equal(plan.simple, mask)


def test_what_leaves_the_face_is_simple():
    face = make_face((300, 300), 250)
    mask = np.zeros((600, 900), bool)
    mask[250:330, 250:700] = True
    plan = plan_crops(mask, [face])
    assert [crop.face for crop in plan.crops] == [face]
    assert np.array_equal(plan.simple[:, 430:], mask[:, 430:])
    assert not plan.simple[:, :400].any()
    mask[:] = False
    mask[300:304] = True
    mask[280:320, 280:320] = True
    plan = plan_crops(mask, [face])
    assert [crop.face for crop in plan.crops] == [face]
    assert plan.simple[:, 500:].sum() == mask[:, 500:].sum()
    assert not plan.simple[:, 250:350].any()


def test_hole_in_one_of_two_faces_is_shown_in_its_own_crop():
    left, right = make_face((200, 200), 220), make_face((360, 200), 220)
    mask = np.zeros((400, 600), bool)
    mask[190:210, 345:375] = True
    [crop] = plan_crops(mask, [left, right]).crops
    assert crop.face is right


def test_thin_scratch_on_a_huge_face_is_simple():
    face = make_face((1000, 1000), 1400)
    mask = np.zeros((2000, 2000), bool)
    mask[900:910, 800:1200] = True
    plan = plan_crops(mask, [face])
    assert plan.crops == []
    assert np.array_equal(plan.simple, mask)
    mask[800:1300, 700:1300] = True
    assert plan_crops(mask, [face]).crops[0].face is face


def test_a_crop_that_is_all_hole_is_widened():
    face = make_face((400, 300), 200)
    mask = np.zeros((600, 800), bool)
    mask[190:410, 290:510] = True
    [crop] = [crop for crop in plan_crops(mask, [face]).crops if crop.face is face]
    assert 270 < side_of(crop) < 420
    assert np.allclose(corners(crop).mean(0), (400, 300))


def test_no_damage_no_crops():
    plan = plan_crops(np.zeros((50, 50), bool), [make_face((25, 25), 30)])
    assert plan.crops == []
    assert not plan.simple.any()


def test_thousands_of_specks_are_planned_at_once():
    mask = np.zeros((1024, 1024), bool)
    mask[4::12, 4::12] = True
    start = time.perf_counter()
    plan = plan_crops(mask, [make_face((500, 500), 600), make_face((200, 200), 150)])
    assert time.perf_counter() - start < 2
    assert np.array_equal(plan.simple, mask) or plan.crops
