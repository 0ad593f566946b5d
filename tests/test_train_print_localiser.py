"""Training of the localiser of damaged prints: samples, loss and a short run."""

from __future__ import annotations

import copy

import numpy as np
import torch
from faceinpaint_train.fit import fit
from faceinpaint_train.print_localiser import COUNT, SIZE, loss_of, make_batch
from faceinpaint_train.run import train_print_localiser_run
from media_factory import make_clip
from PIL import Image
from safetensors.torch import load_file
from test_train_localiser import canvases

from faceinpaint_cli.models.networks.print_localiser import PrintLocaliser

torch.set_num_threads(1)


def test_samples_are_seeded_and_partly_clean():
    views = [np.full((300, 500, 3), 128, np.uint8)]
    images, truth = make_batch(canvases(6), views, 1, 3)
    again = make_batch(canvases(6), views, 1, 3)
    assert torch.equal(images, again[0]) and torch.equal(truth, again[1])
    assert images.shape == (COUNT, 3, SIZE, SIZE) and truth.shape == (COUNT, 2, SIZE, SIZE)
    damaged, counts = truth[:, 0], truth[:, 1]
    assert not (damaged & ~counts).any() and 0 < damaged.float().mean() < 0.1
    assert 0 < damaged.flatten(1).any(1).sum() < COUNT


def test_what_is_not_learned_from_costs_nothing():
    truth = torch.zeros(1, 2, 10, 10, dtype=torch.bool)
    truth[:, 0, :2] = True
    truth[:, 1, :6] = True
    sure = (truth[:, :1].float() * 2 - 1) * 5
    wrong = sure.clone()
    wrong[:, :, 6:] = 5
    assert torch.equal(loss_of(sure, truth), loss_of(wrong, truth))
    assert loss_of(-sure, truth) > 50 * loss_of(sure, truth)


def test_a_short_run_learns(tmp_path):
    def batch(step: int):
        images, truth = make_batch(canvases(6), (), 1, step)
        return images[:4].float() / 127.5 - 1, truth[:4]

    torch.manual_seed(1)
    fresh = PrintLocaliser()
    net = fit(copy.deepcopy(fresh), batch, loss_of, tmp_path, 0, 5e-3, steps=40)
    images, truth = batch(10_000)
    with torch.inference_mode():
        assert loss_of(net(images), truth) < 0.85 * loss_of(fresh(images), truth)


def test_a_run_leaves_the_weights(tmp_path):
    (tmp_path / "faces").mkdir()
    for i, face in enumerate(canvases(20)):
        Image.fromarray(face).save(tmp_path / "faces" / f"{i + 1:06d}.png")
    facts = train_print_localiser_run([tmp_path / "faces", make_clip(tmp_path / "clip.mp4")], tmp_path / "run", 0.005)
    assert facts["train"] >= 16
    kept = load_file(tmp_path / "run" / "print-localiser.safetensors")
    PrintLocaliser().load_state_dict({k: v.float() for k, v in kept.items()})
