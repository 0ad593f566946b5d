"""The real MTCNN on a real portrait."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

from faceinpaint_cli.errors import DeviceError
from faceinpaint_cli.faces.detector import (
    FaceDetector,
    detect_again,
    detect_behind,
    detect_hidden,
    overlap,
    unexplained,
)
from faceinpaint_cli.models.device import resolve_device, resolve_precision, threads

FACE = np.array([180, 60, 268, 172])


@pytest.fixture(scope="module")
def detector():
    return FaceDetector("cpu", min_face=40)


@pytest.fixture(scope="module")
def portrait():
    return data.astronaut()


def test_finds_the_face_and_its_landmarks(detector, portrait):
    [[face]] = detector.detect([portrait])
    assert overlap(face.box, FACE) > 0.8
    assert face.score > 0.99
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]


def test_batches_of_mixed_sizes_with_and_without_faces(detector, portrait):
    blank = np.zeros_like(portrait)
    noise = np.random.default_rng(0).integers(0, 256, portrait.shape, np.uint8)
    tiny, flat = portrait[:10, :10], portrait[:20]
    found = detector.detect([blank, portrait, noise, tiny, portrait[40:240, 120:330], flat])
    assert [len(faces) for faces in found] == [0, 1, 0, 0, 1, 0]
    assert detector.detect([]) == []
    assert np.allclose(found[4][0].landmarks, found[1][0].landmarks - (120, 40), atol=4)


def test_a_batch_that_the_network_fails_on_is_taken_apart(detector, portrait, monkeypatch):
    real = detector._network.detect

    def fails_on_batches(batch, landmarks):
        if len(batch) > 1:
            raise RuntimeError("torch.cat(): expected a non-empty list of Tensors")
        return real(batch, landmarks=landmarks)

    monkeypatch.setattr(detector._network, "detect", fails_on_batches)
    small = portrait[20:240, 100:340]
    assert [len(faces) for faces in detector.detect([small, np.zeros_like(small)])] == [1, 0]


def test_large_pictures_are_reduced_and_faces_come_back_in_their_pixels(detector, portrait):
    large = np.kron(portrait, np.ones((4, 4, 1), np.uint8))
    [[face]] = detector.detect([large])
    assert overlap(face.box / 4, FACE) > 0.8


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_landmarks_of_a_face_at_the_border(detector, portrait, side, scale):
    [[whole]] = detector.detect([portrait])
    x0, y0, x1, y1 = whole.box.round().astype(int)
    quarter = (x1 - x0) // 4
    left, top = quarter + x0 if side == "left" else 0, quarter + y0 if side == "top" else 0
    right, bottom = x1 - quarter if side == "right" else 512, y1 - quarter if side == "bottom" else 512
    cut = np.kron(portrait[top:bottom, left:right], np.ones((scale, scale, 1), np.uint8))
    face = detector.detect([cut])[0][0]
    wrong = np.linalg.norm(face.landmarks / scale + (left, top) - whole.landmarks, axis=1).mean()
    assert wrong < 0.08 * (x1 - x0)


def test_a_hidden_face_is_found_on_a_quick_fill(detector, portrait):
    mask = np.zeros(portrait.shape[:2], bool)
    for x in range(120, 330, 16):
        mask[15:250, x : x + 12] = True
    broken = portrait.copy()
    broken[mask] = [0, 255, 0]
    assert detector.detect([broken]) == [[]]
    [[face]] = detect_hidden(detector, [broken], [mask])
    assert face.source == "hidden"
    assert overlap(face.box, FACE) > 0.6


def test_what_is_in_the_hole_is_not_looked_at(detector, portrait):
    """Another face pasted over this one is not the face that is looked for."""
    [true] = detector.detect([portrait])[0]
    mask = np.zeros(portrait.shape[:2], bool)
    mask[115:165, 190:262] = True
    pasted = portrait.copy()
    pasted[mask] = portrait[60:110, 190:262][::-1].reshape(-1, 3)
    smeared = portrait.copy()
    smeared[115:165, 190:262] = portrait[114, 190:262]
    answers = [detect_hidden(detector, [picture], [mask])[0] for picture in (pasted, smeared)]
    for (face,) in answers:
        assert np.abs(face.landmarks - true.landmarks)[:2].max() < 4  # the eyes, which are seen
    np.testing.assert_array_equal(answers[0][0].landmarks, answers[1][0].landmarks)


def test_visible_faces_are_not_looked_for_twice(detector, portrait):
    mask = np.zeros(portrait.shape[:2], bool)
    mask[100:110, 190:200] = True
    assert not unexplained(mask, detector.detect([portrait])[0]).any()
    mask[400:420, 20:60] = True
    alone = unexplained(mask, detector.detect([portrait])[0])
    assert alone[400:420, 20:60].all() and alone.sum() == 800
    [faces] = detect_hidden(detector, [portrait], [mask])
    assert [face.source for face in faces] == ["detected"]


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_precision("fp32", torch.device("cpu")) is torch.float32
    assert resolve_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cuda:1 needs a CUDA device"):
            resolve_device("cuda:1")
    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_filled_picture_tells_more_of_a_hidden_face_than_the_painted_one(detector, portrait):
    """White paint draws the landmarks aside; a good fill (here the best there is) does not."""
    true = detector.detect([portrait])[0][0]
    mask = np.zeros(portrait.shape[:2], bool)
    mask[105:175, 195:255] = True
    painted = np.where(mask[..., None], np.uint8(255), portrait)
    [known] = detect_hidden(detector, [painted], [mask])
    [[face]] = detect_behind(detector, [painted], [mask], lambda images, masks, faces: [portrait], 1)
    assert face.source == "hidden"
    assert np.abs(face.landmarks - true.landmarks).max() < 1
    assert not known or np.abs(known[0].landmarks - true.landmarks).max() > 3


def no_fill(images, masks, faces):
    raise AssertionError("nothing is hidden")


def test_looking_again_leaves_what_was_seen_and_loses_no_face(detector, portrait):
    [known] = detector.detect([portrait])
    beside, over = (np.zeros(portrait.shape[:2], bool) for _ in range(2))
    beside[300:400, 300:400] = True
    over[105:175, 195:255] = True
    assert detect_again(detector, [portrait], [beside], [known])[0][0] is known[0]
    assert detect_again(detector, [np.zeros_like(portrait)], [over], [known]) == [known]
    assert detect_behind(detector, [portrait], [beside], no_fill, 1)[0][0].source == "detected"


def test_a_face_that_stands_still_is_not_looked_at_again(detector, portrait):
    mask = np.zeros(portrait.shape[:2], bool)
    mask[105:175, 195:255] = True
    fills = []

    def still(images, masks, faces):
        fills.append(faces)
        return [portrait]

    def moving(images, masks, faces):
        fills.append(faces)
        return [np.roll(portrait, 6 * len(fills), axis=1)]

    detect_behind(detector, [portrait], [mask], still, 6)
    assert len(fills) == 2
    fills.clear()
    detect_behind(detector, [portrait], [mask], moving, 4)
    assert len(fills) == 4
    all_of_it = np.zeros(portrait.shape[:2], bool)
    all_of_it[50:180, 170:275] = True
    fills.clear()
    detect_behind(detector, [portrait], [all_of_it], moving, 4)
    assert len(fills) == 2, "nothing that is seen holds it"


def test_a_head_has_one_face(detector, portrait, monkeypatch):
    """Of two faces that were drawn into one head the one that is partly seen stays."""
    [true] = detector.detect([portrait])[0]
    mask = np.zeros(portrait.shape[:2], bool)
    mask[112:260, 170:400] = True
    down = np.array([0, 0.45 * np.ptp(true.box[1::2])])
    below = replace(true, box=true.box + np.tile(down, 2), landmarks=true.landmarks + down, score=1.0)
    aside = np.array([80, 0])
    beside = replace(below, box=below.box + np.tile(aside, 2), landmarks=below.landmarks + aside, score=0.95)
    monkeypatch.setattr(detector, "detect", lambda images: [[below, true, beside]])
    known = [replace(face, source="hidden") for face in (below, true, beside)]
    [faces] = detect_again(detector, [portrait], [mask], [known])
    assert [face.landmarks[0].tolist() for face in faces] == [f.landmarks[0].tolist() for f in (true, beside)]


def test_candidates_come_in_few_sizes_and_answers_stay(detector):
    """What a CPU prepares for each size of batch is kept: over a long video it must not add up."""
    stage = detector._network.rnet
    sizes = set()
    hook = stage.network.register_forward_pre_hook(lambda _, arguments: sizes.add(len(arguments[0])))
    batch = torch.rand(150, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    try:
        with torch.inference_mode():
            answers = {count: stage(batch[:count]) for count in range(1, 151)}
    finally:
        hook.remove()
    assert len(sizes) <= 10
    with torch.inference_mode():
        for count in (1, 9, 150):
            for answer, alone in zip(answers[count], stage.network(batch[:count]), strict=True):
                torch.testing.assert_close(answer, alone)
