"""The measures against independent implementations, and the statistics against what is known of them."""

import importlib.util
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from faceinpaint_cli import metrics
from faceinpaint_cli.errors import DataError, ModelError

SHARED = Path(os.environ.get("FACEINPAINT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture
def pair():
    truth = astronaut()[0:96, 170:266].copy()
    mask = np.zeros(truth.shape[:2], bool)
    mask[24:72, 30:70] = True
    rng = np.random.default_rng(0)
    result = truth.copy()
    result[mask] = np.clip(result[mask] + rng.integers(-40, 40, result[mask].shape), 0, 255).astype(np.uint8)
    return result, truth, mask


def test_psnr_is_that_of_scikit_image(pair):
    result, truth, mask = pair
    assert metrics.psnr(result, truth) == pytest.approx(peak_signal_noise_ratio(truth, result), abs=1e-5)
    hole = peak_signal_noise_ratio(truth[mask], result[mask], data_range=255)
    assert metrics.psnr(result, truth, mask) == pytest.approx(hole, abs=1e-5)
    assert metrics.psnr(result, truth) - hole == pytest.approx(10 * math.log10(mask.size / mask.sum()))


def test_ssim_is_that_of_scikit_image(pair):
    result, truth, mask = pair
    _, full = structural_similarity(truth / 255, result / 255, channel_axis=2, data_range=1.0,
                                    gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                    full=True)
    whole, hole = metrics.ssim_both(result, truth, mask)
    assert whole == pytest.approx(full.mean(), abs=1e-4)  # the damage does not reach the border
    assert hole == pytest.approx(full.mean(2)[mask].mean(), abs=1e-4)
    assert hole < whole
    assert metrics.ssim(result, truth, mask) == hole and metrics.ssim(result, truth) == whole


def test_equal_pictures(pair):
    _, truth, mask = pair
    assert metrics.psnr(truth, truth) == pytest.approx(148.13, abs=0.01)
    assert metrics.ssim_both(truth, truth, mask) == pytest.approx((1, 1), abs=1e-6)


def test_bad_input(pair):
    result, truth, mask = pair
    with pytest.raises(DataError, match="one size"):
        metrics.psnr(result[1:], truth)
    with pytest.raises(DataError, match="mask must have"):
        metrics.psnr(result, truth, mask[1:])
    for measure in (metrics.psnr, metrics.ssim):
        with pytest.raises(DataError, match="mask is empty"):
            measure(result, truth, np.zeros_like(mask))
    with pytest.raises(DataError, match="at least 11"):
        metrics.ssim(result[:8, :8], truth[:8, :8])


def test_warping_error_is_zero_for_a_pan_and_the_flicker_otherwise():
    wide = astronaut()[100:164, 100:200]
    previous, current = wide[:, 4:68], wide[:, 0:64]
    flow = np.zeros((64, 64, 2), np.float32)
    flow[..., 0] = -4  # the pixel at x was at x - 4 in the frame before
    valid = np.zeros((64, 64), bool)
    valid[:, 4:] = True
    assert metrics.warping_error(current, previous, flow, valid) == pytest.approx(0, abs=1e-3)
    brighter = np.clip(current.astype(int) + 10, 0, 255).astype(np.uint8)
    assert metrics.warping_error(brighter, previous, flow, valid & (current.max(2) < 245)) == \
        pytest.approx(10, abs=0.01)
    assert math.isnan(metrics.warping_error(current, previous, flow, np.zeros_like(valid)))


ALEXNET = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]


@pytest.fixture(scope="module")
def lpips_file(tmp_path_factory):
    """AlexNet's shape with made-up weights."""
    torch.manual_seed(0)
    state = {}
    for i, (out, into, side) in enumerate(ALEXNET):
        state[f"conv{i}.weight"] = torch.randn(out, into, side, side) / (into * side * side) ** 0.5
        state[f"conv{i}.bias"] = torch.zeros(out)
        state[f"lin{i}"] = torch.rand(out) / out
    path = tmp_path_factory.mktemp("lpips") / "alex.safetensors"
    save_file(state, path)
    return path


def test_lpips_grows_with_the_damage(pair, lpips_file):
    result, truth, _ = pair
    lpips = metrics.Lpips(lpips_file)
    little = ((result.astype(int) + 7 * truth.astype(int)) // 8).astype(np.uint8)
    assert lpips.name == "alex"
    assert lpips(truth, truth) == 0
    assert 0 < lpips(little, truth) < lpips(result, truth)


def test_lpips_refuses_what_is_not_its_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    for name in ("a", "b", "missing"):
        with pytest.raises(ModelError, match="--lpips"):
            metrics.Lpips(tmp_path / f"{name}.safetensors")


@pytest.mark.slow
def test_agreement_with_the_independent_measures(pair):
    """PSNR, SSIM and LPIPS, whole and hole, to 1e-4."""
    path = SHARED / "acceptance" / "measure.py"
    if not path.exists():
        pytest.skip("no shared data folder")
    spec = importlib.util.spec_from_file_location("measure", path)
    measure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measure)
    result, truth, mask = pair
    expected = measure.report([pair])
    lpips = metrics.Lpips(SHARED / "weights" / "lpips_alexnet_fp16.safetensors")
    whole, hole = metrics.ssim_both(result, truth, mask)
    ours = {"psnr": metrics.psnr(result, truth), "psnr_hole": metrics.psnr(result, truth, mask),
            "ssim": whole, "ssim_hole": hole, "lpips": lpips(result, truth)}
    for name, value in ours.items():
        assert value == pytest.approx(float(expected[name]), abs=1e-4), name
    vgg = metrics.Lpips(SHARED / "weights" / "lpips_vgg16_fp16.safetensors")
    assert vgg.name == "vgg16" and 0 < vgg(result, truth) < 1


def test_identity_is_one_for_the_same_picture(pair, tmp_path):
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    save_file(InceptionResnetV1(classify=False).state_dict(), tmp_path / "face.safetensors")
    identity = metrics.Identity(tmp_path / "face.safetensors")
    _, truth, _ = pair
    assert identity(truth, truth) == pytest.approx(1, abs=1e-6)
    assert identity(255 - truth, truth) < identity(truth, truth) - 1e-5  # an untrained net sees little
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="--identity"):
        metrics.Identity(tmp_path / "other.safetensors")


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(200):
        low, high = metrics.bootstrap_interval(rng.normal(3, 1, 40), seed=i, resamples=400)
        hits += low <= 3 <= high
    assert 0.88 < hits / 200 < 0.99
    assert metrics.bootstrap_interval([1.0, 2.0, 4.0], 5) == metrics.bootstrap_interval([1.0, 2.0, 4.0], 5)
    with pytest.raises(DataError):
        metrics.bootstrap_interval([])


def test_paired_differences_see_what_means_hide():
    rng = np.random.default_rng(0)
    hard = rng.normal(20, 5, 50)  # pictures differ by much more than methods
    other = hard + 0.2 + rng.normal(0, 0.05, 50)
    difference = metrics.paired_difference(other, hard)
    assert difference["mean"] == pytest.approx(0.2, abs=0.03)
    assert difference["ci95"][0] > 0.15
    low, high = metrics.bootstrap_interval(hard)
    assert low < other.mean() < high
    with pytest.raises(DataError, match="same pictures"):
        metrics.paired_difference([1.0], [1.0, 2.0])


def test_scores_and_summary():
    scores = metrics.Scores()
    for value in (1.0, 2.0, 6.0):
        scores.add({"psnr": value, "lpips": math.nan})
    assert len(scores) == 3 and scores.mean("psnr") == 3 and scores.mean("lpips") is None
    found = metrics.summary(range(101))
    assert (found["mean"], found["median"], found["p5"]) == (50, 50, 5)
    assert 40 < found["ci95"][0] < 50 < found["ci95"][1] < 60
