"""Training of the finder of hidden faces: samples, loss and a short run that learns."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from faceinpaint_train.fit import fit
from faceinpaint_train.hidden_faces import COUNT, View, canvas_view, loss_of, make_batch, side_and_middle
from faceinpaint_train.run import train_hidden_face_run
from media_factory import make_clip
from PIL import Image
from safetensors.torch import load_file

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.models.networks.hidden_face import SIDE, HiddenFace

torch.set_num_threads(1)


def canvases(count: int) -> np.ndarray:
    """Pictures with a bright head on a dark ground, where CelebA's faces are."""
    pictures = np.full((count, 218, 178, 3), 40, np.uint8)
    for i, picture in enumerate(pictures):
        cv2.ellipse(picture, (89, 125), (60 + i, 85), 0, 0, 360, (200, 170, 150), -1)
    return pictures


def test_the_aligned_crop_of_a_canvas_is_as_wide_as_the_canvas():
    [landmarks] = canvas_view(canvases(1)[0]).faces
    side, middle = side_and_middle(landmarks)
    assert side == pytest.approx(178) and np.allclose(middle, (89, 133.6), atol=0.5)


def test_half_of_the_holes_hide_a_face_and_its_landmarks_are_under_them():
    seen, truth = make_batch(canvases(4), [View(np.full((300, 400, 3), 90, np.uint8), [])], 1, 0)
    again = make_batch(canvases(4), [View(np.full((300, 400, 3), 90, np.uint8), [])], 1, 0)
    assert torch.equal(seen, again[0]) and torch.equal(truth, again[1])
    assert seen.shape == (COUNT, 4, SIDE, SIDE) and truth.shape == (COUNT, 11)
    assert truth[:, 0].tolist() == [1, 0] * (COUNT // 2)
    assert (seen[:, :3] * seen[:, 3:] == 0).all(), "what is unknown is not shown"
    for sample, row in zip(seen[::2], truth[::2], strict=True):
        points = (row[1:].reshape(5, 2) * SIDE).long().clamp(0, SIDE - 1)
        assert sample[3, points[:, 1], points[:, 0]].sum() >= 2
        assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0], "left is left, mirrored or not"


def test_loss_falls_with_the_error():
    truth = torch.zeros(2, 11)
    truth[0] = torch.tensor([1, *[0.4] * 10])
    right, wrong = truth.clone(), 1 - truth
    right[:, 0], wrong[:, 0] = torch.tensor([6.0, -6.0]), torch.tensor([-6.0, 6.0])
    assert loss_of(right, truth) < 0.01 < 6 < loss_of(wrong, truth)


def test_a_short_run_learns(tmp_path):
    views = [View(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8), [])]
    torch.manual_seed(0)
    net = fit(HiddenFace(), lambda step: make_batch(canvases(4), views, 1, step), loss_of, tmp_path, 0, 2e-3, steps=40)
    seen, truth = make_batch(canvases(4), views, 1, 10_000)
    with torch.inference_mode():
        assert loss_of(net(seen), truth) < 0.6 * loss_of(HiddenFace()(seen), truth)


def test_a_run_leaves_the_weights_and_needs_more_than_faces(tmp_path):
    (tmp_path / "faces").mkdir()
    for i, face in enumerate(canvases(20)):
        Image.fromarray(face).save(tmp_path / "faces" / f"{i + 1:06d}.png")
    with pytest.raises(UsageError, match="give videos or single pictures"):
        train_hidden_face_run([tmp_path / "faces"], tmp_path / "none", 0.005)
    clip = make_clip(tmp_path / "clip.mp4")
    facts = train_hidden_face_run([tmp_path / "faces", clip], tmp_path / "run", 0.005)
    assert json.loads(json.dumps(facts))["train"] >= 16
    kept = load_file(tmp_path / "run/hidden-face.safetensors")
    HiddenFace().load_state_dict({key: value.float() for key, value in kept.items()})
