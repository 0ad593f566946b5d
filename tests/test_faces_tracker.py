"""Tracks over moving pictures of a real face, through damage, cuts and gaps, with the real detector."""

import cv2
import numpy as np
import pytest
from skimage import data

from faceinpaint_cli.faces.cuts import is_cut, scene_sketch
from faceinpaint_cli.faces.detector import FaceDetector
from faceinpaint_cli.faces.motion import Flow, compose, face_motion, move, move_face, reduce
from faceinpaint_cli.faces.smoothing import smooth
from faceinpaint_cli.faces.tracker import TrackInput, merge, track_faces
from faceinpaint_cli.types import Face

WIDTH, HEIGHT = 280, 220
START = np.array([[1.0, 0, -100], [0, 1, -20]])
STEP = 1.5


class Counting:
    """The real detector, and how many pictures it was shown."""

    def __init__(self):
        self.real = FaceDetector("cpu", min_face=40)
        self.seen = 0

    def detect(self, images):
        self.seen += len(images)
        return self.real.detect(images)


@pytest.fixture(scope="module")
def detector():
    return Counting()


@pytest.fixture(scope="module")
def truth(detector):
    [[face]] = detector.detect([picture(0)])
    return face


def motion(t):
    """The map from the first frame to frame t: a slow pan with a little turn."""
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0.4 * t, 1)
    turn[:, 2] += (STEP * t, 0.5 * t)
    return turn


def picture(t):
    view = cv2.warpAffine(data.astronaut(), START, (WIDTH, HEIGHT))
    return cv2.warpAffine(view, motion(t), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101)


def clip(count, hole=None, first=0):
    """Frames with the hole (top, bottom, left, right) burnt in white from frame `first` on."""
    for t in range(count):
        image, mask = picture(t), np.zeros((HEIGHT, WIDTH), bool)
        if hole is not None and t >= first:
            mask[hole[0] : hole[1], hole[2] : hole[3]] = True
            image[mask] = 255
        yield TrackInput(t, image, mask)


def miss(output, truth):
    """Mean distance of the landmarks from where they moved, in pixels."""
    [face] = output.faces
    return float(np.linalg.norm(face.landmarks - move(truth.landmarks, motion(output.index)), axis=1).mean())


def test_a_moving_face_is_followed_between_detections(detector, truth):
    seen = detector.seen
    outputs = list(track_faces(clip(13, (200, 215, 5, 20)), detector, stride=6))
    assert [o.index for o in outputs] == list(range(13))
    assert {face.track for o in outputs for face in o.faces} == {0}
    assert max(miss(o, truth) for o in outputs) < 2.5
    assert detector.seen - seen <= 2 * 3  # each once as it is and once filled


def test_a_face_that_damage_hides_is_carried(detector, truth):
    x0, y0, x1, y1 = np.round(truth.box).astype(int)
    hole = (y0 - 5, y1 + 5, x0 - 10, x1 + 25)
    outputs = list(track_faces(clip(13, hole, first=4), detector, stride=3))
    assert {face.track for o in outputs for face in o.faces} == {0}
    assert [len(o.faces) for o in outputs] == [0] * 3 + [1] * 10  # the first span has no damage
    assert max(miss(o, truth) for o in outputs[3:]) < 8
    assert outputs[11].faces[0].source == "tracked"


def test_undamaged_frames_cost_no_detection(detector):
    seen = detector.seen
    outputs = list(track_faces(clip(9), detector, stride=4))
    assert detector.seen == seen
    assert all(o.faces == () for o in outputs)


def test_a_cut_ends_the_track(detector):
    def two_scenes():
        for given in clip(10, (0, 4, 0, 4)):
            flipped = given.index >= 5
            yield TrackInput(given.index, given.image[::-1, ::-1].copy() if flipped else given.image, given.mask)

    outputs = list(track_faces(two_scenes(), detector, stride=3))
    assert [len(o.faces) for o in outputs[:5]] == [1] * 5
    assert not {f.track for o in outputs[:5] for f in o.faces} & {f.track for o in outputs[5:] for f in o.faces}


def test_lengths_around_a_stride_and_bounded_look_ahead(detector):
    for count in (0, 1, 2, 4, 5, 6):
        outputs = list(track_faces(clip(count, (0, 3, 0, 3)), detector, stride=4))
        assert [o.index for o in outputs] == list(range(count))
        assert all(len(o.faces) == 1 for o in outputs)
    read = 0

    def counted():
        nonlocal read
        for given in clip(60):
            read += 1
            yield given

    stream = track_faces(counted(), detector, stride=4)
    next(stream)
    assert read <= 30


def test_change_of_size_is_a_cut(detector):
    frames = list(clip(4, (0, 3, 0, 3)))
    frames += [TrackInput(4 + f.index, f.image[:200], f.mask[:200]) for f in frames]
    assert [len(o.faces) for o in track_faces(frames, detector, stride=5)] == [1] * 8


def test_cuts_are_told_from_light_and_motion():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    a, moved = picture(0), picture(6)
    flash = np.clip(a.astype(int) * 1.5 + 40, 0, 255).astype(np.uint8)
    other = cv2.resize(data.coffee(), (WIDTH, HEIGHT))
    sketch = scene_sketch(a, mask)
    assert not is_cut(sketch, scene_sketch(moved, mask))
    assert not is_cut(sketch, scene_sketch(flash, mask))
    assert is_cut(sketch, scene_sketch(other, mask))
    mask[:, 20:] = True
    assert not is_cut(scene_sketch(a, mask), scene_sketch(other, mask))


def test_motion_is_read_around_a_hole(truth):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    x0, y0, x1, y1 = np.round(truth.box).astype(int)
    mask[y0:y1, x0:x1] = True
    frames = [picture(0), picture(2)]
    for frame in frames:
        frame[mask] = 0
    a, b = (reduce(frame, mask) for frame in frames)
    matrix = face_motion(truth, Flow().between(a, b), a, b)
    carried = move_face(truth, matrix)
    assert np.abs(carried.landmarks - move(truth.landmarks, motion(2))).max() < 1.5
    everything = np.ones_like(mask)
    a, b = (reduce(frame, everything) for frame in frames)
    assert np.array_equal(face_motion(truth, Flow().between(a, b), a, b), np.eye(2, 3))


def test_compose_is_one_after_the_other():
    a, b = motion(3), motion(-7)
    points = np.array([[3.0, 4], [50, 60]])
    assert np.allclose(move(points, compose(a, b)), move(move(points, a), b))


def test_smoothing_halves_jitter_and_does_not_lag():
    rng = np.random.default_rng(1)
    clean = [Face(np.array([t, 0, t + 10, 10.0]), np.full((5, 2), 2.0 * t + 0.05 * t * t), 1.0) for t in range(30)]
    noisy = [Face(f.box, f.landmarks + rng.normal(0, 1, (5, 2)), 1.0) for f in clean]
    at = range(8, 22)
    smoothed = [smooth(noisy[t - 8 : t + 9], 8) for t in at]
    before = np.std([noisy[t].landmarks - clean[t].landmarks for t in at])
    after = np.std([s.landmarks - clean[t].landmarks for s, t in zip(smoothed, at, strict=True)])
    assert after < 0.5 * before
    assert np.allclose(smooth(clean[:17], 8).landmarks, clean[8].landmarks)
    assert smooth([None, noisy[0], None], 1) is noisy[0]


def test_merge_trusts_what_is_visible():
    marks = np.array([[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]])
    carried = Face(np.array([0, 0, 40, 40.0]), marks + 3, 0.9, "tracked", 4)
    bad = marks.copy()
    bad[0] += 15
    seen = Face(np.array([0, 0, 40, 40.0]), bad, 0.95)
    mask = np.zeros((50, 50), bool)
    mask[20:30, 20:30] = True  # hides the first landmark's guess and the nose
    result = merge(carried, seen, mask)
    assert np.allclose(result.landmarks[1], marks[1])
    assert np.linalg.norm(result.landmarks[0] - marks[0]) < 2
    assert merge(carried, seen, np.ones_like(mask)).landmarks is carried.landmarks
    assert merge(carried, seen, np.zeros_like(mask)) is seen
