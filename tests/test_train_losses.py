"""The terms of the losses against what the papers' formulas give by hand."""

import math

import pytest
import torch
from faceinpaint_train import losses
from torch import nn

from faceinpaint_cli.errors import ModelError


def test_l1_weighs_hole_and_rest():
    whole, target = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert losses.l1(whole, target, mask, hole=2.0, rest=0.5).item() == pytest.approx(2.0 / 4 + 0.5)


@pytest.mark.parametrize(
    ("kind", "made", "judged"),
    [
        ("vanilla", math.log1p(math.exp(-0.5)), math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))),
        ("lsgan", 0.25, 0.5 * (1 + 0.25)),
        ("hinge", -0.5, 0 + 1.5),
    ],
)
def test_adversarial_terms(kind, made, judged):
    real, fake = torch.full((2, 1, 3, 3), 2.0), torch.full((2, 1, 3, 3), 0.5)
    assert losses.generator_loss(kind, fake).item() == pytest.approx(made, abs=1e-6)
    assert losses.discriminator_loss(kind, real, fake).item() == pytest.approx(judged, abs=1e-6)


def test_r1_is_half_the_squared_slope():
    real = torch.randn(4, 3, 5, 5, requires_grad=True)
    scores = (3 * real).flatten(1).sum(1)
    assert losses.r1_penalty(scores, real).item() == pytest.approx(0.5 * 9 * 75)


def test_hole_crop_is_centred_and_stays_inside():
    picture = torch.arange(64.0).view(1, 1, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 0, 0] = 1
    (corner,) = losses.hole_crop([picture], mask, 4)
    assert torch.equal(corner, picture[:, :, :4, :4])
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 3:6, 4:7] = 1
    (middle,) = losses.hole_crop([picture], mask, 4)
    assert torch.equal(middle, picture[:, :, 2:6, 3:7])


def test_perceptual_grows_with_the_difference_and_has_a_gradient(vgg):
    network = losses.PerceptualVgg16(vgg, layers=4)
    target = torch.rand(1, 3, 32, 32) * 2 - 1
    noise = torch.randn_like(target)
    near, far = (network(target + s * noise, target).item() for s in (0.05, 0.5))
    assert network(target, target).item() == 0 < near < far
    made = (target + 0.1 * noise).requires_grad_()
    network(made, target).backward()
    assert made.grad.abs().max() > 0
    assert not list(network.parameters()), "the judge is not trained"


def test_perceptual_takes_torchvisions_weights_where_no_file_is_named(monkeypatch):
    class Spec:
        def __init__(self) -> None:
            torch.manual_seed(1)
            self.features = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))

    monkeypatch.setattr("torchvision.models.vgg16", lambda weights: Spec())  # the real one is a download
    network = losses.PerceptualVgg16(None, layers=2)
    assert torch.equal(network.conv0_weight, Spec().features[0].weight)
    assert torch.allclose(network.lin0, torch.full((64,), 1 / 64))


def test_perceptual_without_weights_says_what_to_set(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"loss\.perceptual_weights"):
        losses.PerceptualVgg16(tmp_path / "none.safetensors")

    def offline(weights):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.vgg16", offline)
    with pytest.raises(ModelError, match=r"loss\.perceptual_weights"):
        losses.PerceptualVgg16(None)
