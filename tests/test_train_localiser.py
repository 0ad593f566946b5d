"""Training of the localiser: samples, loss and a short run that learns."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from faceinpaint_train.distributed import Team
from faceinpaint_train.faces import FaceSet
from faceinpaint_train.fit import fit
from faceinpaint_train.localiser import LocaliserPlan, loss_of, make_batch, wider_views
from faceinpaint_train.run import train_localiser_run
from faceinpaint_train.trainer import Trainer
from media_factory import make_clip
from PIL import Image
from safetensors.torch import load_file
from test_train_run import small_recipe

from faceinpaint_cli.errors import DataError, ModelError, UsageError
from faceinpaint_cli.models.networks.localiser import Localiser

torch.set_num_threads(1)


def canvases(count: int) -> np.ndarray:
    small = np.random.default_rng(1).integers(40, 200, (count, 7, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(s, (178, 218), interpolation=cv2.INTER_CUBIC) for s in small])


def test_samples_are_seeded_and_partly_clean():
    faces = canvases(6)
    plan = LocaliserPlan(sizes=[128], count=10)
    images, masks = make_batch(faces, plan, 3)
    again = make_batch(faces, plan, 3)
    assert torch.equal(images, again[0]) and torch.equal(masks, again[1])
    clean = (~masks.flatten(1).any(1)).float().mean()
    assert 0.2 < clean < 0.7 and images.shape == (40, 3, 128, 128)


def test_a_share_of_the_samples_are_parts_of_wider_views():
    plan = LocaliserPlan(sizes=[64], count=4, clean=1.0, reduced=0.0, scenes=0.5)
    black = [np.zeros((300, 500, 3), np.uint8), np.zeros((500, 300, 3), np.uint8)]
    images, _ = make_batch(canvases(6), plan, 0, black)
    flat = (images.flatten(1).float().std(1) < 1).float().mean()
    assert 0.3 < flat < 0.7


def test_views_come_from_videos(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", size=(640, 360), frames=25)
    views = wider_views([clip])
    assert [v.shape for v in views] == [(288, 512, 3)] * 3


def test_views_come_from_photographs_whole_and_in_parts(tmp_path):
    ramp = np.broadcast_to(np.arange(1200, dtype=np.float32)[:, None, None] / 5, (1200, 1800, 3)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "wide.png")
    views = wider_views([], [tmp_path / "wide.png"])
    assert [v.shape for v in views] == [(512, 768, 3)] + [(400, 600, 3)] * 9
    assert views[1].max() < views[-1].min() and np.ptp(views[0]) > 230
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"text.jpg is not a readable picture"):
        wider_views([], [tmp_path / "text.jpg"])


def test_loss_falls_with_the_error():
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    good, bad = (truth * 2 - 1) * 5, (1 - truth * 2) * 5
    assert loss_of(good, truth) < 0.02 < 5 < loss_of(bad, truth)


def test_a_short_run_learns(tmp_path):
    plan = LocaliserPlan(sizes=[64], count=1, clean=0.0, shapes={"center": 1.0}, patches={"white": 1.0})

    def batch(step):
        images, masks = make_batch(canvases(6), plan, step)
        return images.float() / 127.5 - 1, masks

    net = fit(Localiser(), batch, loss_of, tmp_path, 0, 5e-3, steps=40)
    images, truth = batch(10_000)
    with torch.inference_mode():
        learned, fresh = loss_of(net(images), truth), loss_of(Localiser()(images), truth)
    assert learned < 0.8 * fresh


def test_a_run_of_another_kind_is_not_gone_on_with(tmp_path):
    torch.save({"net": {}, "ema": {}, "optimiser": {}, "step": 1, "elapsed": 1.0}, tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match="holds a run of another recipe"):
        fit(Localiser(), lambda step: (), loss_of, tmp_path, 0, 5e-3, steps=40)
    with pytest.raises(UsageError, match="holds a run of a finder"):
        Trainer(small_recipe(), FaceSet(canvases(20), canvases(4), {}), tmp_path, Team(), begin=False).resume()
    (tmp_path / "last.ckpt").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"last\.ckpt"):
        fit(Localiser(), lambda step: (), loss_of, tmp_path, 0, 5e-3, steps=40)


def test_a_run_leaves_the_weights(tmp_path):
    (tmp_path / "faces").mkdir()
    for i, face in enumerate(canvases(20)):
        Image.fromarray(face).save(tmp_path / "faces" / f"{i + 1:06d}.png")
    clip = make_clip(tmp_path / "clip.mp4")
    photograph = tmp_path / "wide.png"
    Image.fromarray(canvases(1)[0]).save(photograph)
    facts = train_localiser_run([tmp_path / "faces", clip, photograph], tmp_path / "run", 0.005)
    assert json.loads(json.dumps(facts))["train"] >= 16
    Localiser().load_state_dict({k: v.float() for k, v in load_file(tmp_path / "run/localiser.safetensors").items()})
