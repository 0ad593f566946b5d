"""Every registered generator: shapes, gradients, checkpoints and what is said of broken files."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from faceinpaint_cli.errors import ModelError
from faceinpaint_cli.models.checkpoint import bundled_models, load_generator, read_header, save_checkpoint
from faceinpaint_cli.models.mixed import blurred
from faceinpaint_cli.models.networks.base import carried_in, without_mesh
from faceinpaint_cli.models.networks.prior import FacePrior
from faceinpaint_cli.models.registry import GENERATORS, ModelSpec, build_generator, generator_spec, register

torch.set_num_threads(1)


def some_input(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, size, size, generator=rng) * 2 - 1
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    return image, mask


def wake(module: torch.nn.Module) -> None:
    """Give parameters that start at zero a value, so that gradients pass through what they scale."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))


@pytest.mark.parametrize("name", list(GENERATORS))
def test_every_parameter_gets_a_gradient(name):
    net = build_generator(name).train()
    wake(net)
    image, mask = some_input(max(128, generator_spec(name).multiple))
    out = net(image, mask)
    assert out.shape == image.shape
    out.square().mean().backward()
    dead = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize("name", list(GENERATORS))
def test_output_does_not_depend_on_hidden_pixels(name):
    net = build_generator(name).eval()
    wake(net)
    image, mask = some_input(max(128, generator_spec(name).multiple))
    other = torch.where(mask > 0, torch.full_like(image, 0.7), image)
    with torch.inference_mode():
        torch.testing.assert_close(net(image, mask), net(other, mask), atol=1e-4, rtol=0)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="already registered"):
        register("base", ModelSpec(torch.nn.Identity, "", 1))


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ModelError, match="choose one of base"):
        build_generator("nonesuch")
    with pytest.raises(ModelError, match="has no option 'nonesuch'"):
        build_generator("base", nonesuch=1)


def test_checkpoint_round_trip(tmp_path):
    net = build_generator("base", refine_depth=1).eval()
    wake(net)
    config = {"options": {"refine_depth": 1}, "note": "é"}
    save_checkpoint(tmp_path / "a.safetensors", net.state_dict(), "base", config, torch.float32)
    loaded = load_generator(tmp_path / "a.safetensors", fidelity=0.3)
    assert (loaded.name, loaded.config, len(loaded.sha256)) == ("base", config, 64)
    image, mask = some_input(64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(image, mask), net(image, mask), atol=1e-5, rtol=0)


def test_a_network_trained_blind_is_kept_from_the_mask(tmp_path):
    net = build_generator("patchgan-inpaint", width=4, blocks=2)
    save_checkpoint(tmp_path / "net.safetensors", net.state_dict(), "patchgan-inpaint",
                    {"options": {"width": 4, "blocks": 2}, "told": False, "size": 128}, torch.float32)
    loaded = load_generator(tmp_path / "net.safetensors")
    assert loaded.size == 128 and not loaded.told
    image, mask = some_input(64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(image, mask), net.eval()(image, torch.zeros_like(mask)))
        assert not torch.allclose(loaded.module(image, mask), net(image, mask))


@pytest.mark.parametrize("name, options, last", [
    ("pix2pix", {"width": 4}, "up.7.1"), ("cyclegan-attn", {"width": 4, "blocks": 1}, "body.19")])
def test_a_closed_gate_leaves_the_picture_alone(name, options, last):
    net = build_generator(name, **options, gated=True).eval()
    image, mask = torch.rand(1, 3, 256, 256) * 2 - 1, torch.zeros(1, 1, 256, 256)
    layer = net.get_submodule(last)
    with torch.no_grad():
        layer.bias[3] = -1000.0
        assert torch.equal(net(image, mask), image)
        layer.bias[3] = 1000.0
        assert (net(image, mask) - image).abs().mean() > 0.05


def test_half_precision_file_is_half_as_large(tmp_path):
    net = build_generator("base")
    for name, dtype in (("a", torch.float16), ("b", torch.float32)):
        save_checkpoint(tmp_path / name, net.state_dict(), "base", {"options": {}}, dtype)
    assert (tmp_path / "a").stat().st_size < 0.51 * (tmp_path / "b").stat().st_size
    assert (tmp_path / "a").stat().st_size < 20e6


def test_missing_foreign_and_broken_files(tmp_path):
    with pytest.raises(ModelError, match="no model file"):
        load_generator(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match="no bundled model"):
        load_generator("nonesuch")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match="no readable safetensors"):
        load_generator(broken)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign)
    assert read_header(foreign) is None
    with pytest.raises(ModelError, match="holds no faceinpaint generator"):
        load_generator(foreign)
    wrong = tmp_path / "wrong.safetensors"
    save_checkpoint(wrong, {"w": torch.zeros(2)}, "base", {"options": {}})
    with pytest.raises(ModelError, match="does not fit"):
        load_generator(wrong)
    whole = tmp_path / "whole.safetensors"
    save_checkpoint(whole, build_generator("base").state_dict(), "base", {"options": {}})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:200_000])
    with pytest.raises(ModelError, match="no readable safetensors"):
        load_generator(cut)


@pytest.mark.parametrize("config, message", [
    ([], r"odd header \(config must be an object, not \[\]\)"),
    (None, "config must be an object, not None"),
    ({"options": [1]}, "options must be an object"),
    ({"options": {}, "told": "no"}, "told must be true or false, not 'no'"),
    ({"options": {}, "size": "big"}, "size must be a number of pixels, not 'big'"),
    ({"options": {}, "size": 0}, "size must be a number of pixels, not 0"),
    ({"options": {"widths": "abc"}}, "widths takes a list of 3 whole numbers from 1 to 1024, not 'abc'"),
    ({"options": {"widths": []}}, "widths takes a list of 3 whole numbers"),
    ({"options": {"widths": [-1, 8, 8]}}, r"not \[-1, 8, 8\]"),
    ({"options": {"widths": [8, 12, 8]}}, "does not take these options together: num_channels"),
    ({"options": {"": 1}}, "has no option '': it takes widths, refine_width"),
])
def test_an_odd_config_is_one_clear_line(config, message, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_checkpoint(path, {"w": torch.zeros(2)}, "base", config)
    with pytest.raises(ModelError, match=message) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, options, message", [
    ("pix2pix", {"width": 0}, "width takes a whole number from 1 to 256, not 0"),
    ("pix2pix", {"width": 10**6}, "from 1 to 256"),
    ("pix2pix", {"width": 2.5}, "not 2.5"),
    ("pix2pix", {"width": True}, "not True"),
    ("pix2pix", {"depth": 9}, "from 1 to 8, not 9"),
    ("pix2pix", {"dropout": float("nan")}, "dropout takes a number from 0 to 0.95, not nan"),
    ("pix2pix", {"attention": [0]}, "attention takes a list of whole numbers from 1 to 8"),
    ("pix2pix-attn", {"depth": 6, "attention": [7]}, "attention is at levels up to depth, 6"),
    ("cyclegan-attn", {"blocks": 0}, "blocks takes a whole number from 1 to 64"),
    ("cyclegan-attn", {"dilations": []}, "dilations needs one"),
    ("cyclegan-attn", {"attention": 1}, "attention takes true or false, not 1"),
    ("base", {"mirrored": 7}, "mirrored takes true or false"),
    ("base", {"deeper": [-1, 0]}, "deeper takes a list of 2 whole numbers from 0 to 64"),
    ("base", {"prior_rank": 0}, "prior_rank takes a whole number from 1 to 3072"),
])
def test_an_option_out_of_range_is_told_from_a_network_of_no_channels(name, options, message):
    with pytest.raises(ModelError, match=message):
        build_generator(name, **options)


def test_prior_recovers_what_it_can_express():
    rng = torch.Generator().manual_seed(2)
    prior = FacePrior(size=8, rank=4, noise=1e-4, steps=24)
    prior.mean.copy_(0.2 * torch.randn(192, generator=rng))
    prior.basis.copy_(0.3 * torch.randn(192, 4, generator=rng))
    face = (prior.basis @ torch.randn(4, generator=rng) + prior.mean).view(1, 3, 8, 8)
    seen = torch.ones(1, 1, 8, 8)
    seen[..., 2:6, 2:6] = 0
    torch.testing.assert_close(prior(face * seen, seen), face, atol=5e-3, rtol=0)
    hidden = prior(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    torch.testing.assert_close(hidden.flatten(), prior.mean)


def test_prior_fit_finds_the_directions():
    rng = torch.Generator().manual_seed(3)
    true = torch.randn(1, 3, 8, 8, generator=rng)
    true = true + true.flip(3)
    faces = 0.1 + torch.randn(200, 1, 1, 1, generator=rng) * true
    prior = FacePrior(size=8, rank=2)
    prior.fit(faces)
    found = prior.basis[:, 0]
    cosine = torch.nn.functional.cosine_similarity(found, true.flatten(), dim=0).abs()
    assert cosine > 0.999


def test_the_pictures_of_a_bundled_pair_are_mixed(tmp_path, monkeypatch):
    """At the ends one network alone, whatever its options; in between both, by coarse and fine parts."""
    options = {"widths": [8, 8, 8], "refine_width": 8, "refine_depth": 1, "prior_rank": 4}
    (tmp_path / "weights").mkdir()
    for seed, (end, depth) in enumerate((("realism", 1), ("fidelity", 0))):
        torch.manual_seed(seed)
        net = build_generator("base", **options | {"refine_depth": depth})
        torch.nn.init.normal_(net.coarse.leave.bias, std=0.2)
        path = tmp_path / "weights" / f"pair-{end}.safetensors"
        save_checkpoint(path, net.state_dict(), "base", {"options": options | {"refine_depth": depth}}, torch.float32)
    monkeypatch.setattr("faceinpaint_cli.models.checkpoint.resources.files", lambda _: tmp_path)
    assert list(bundled_models()) == ["pair"]
    image, mask = torch.rand(1, 3, 256, 256) * 0.4 - 0.2, torch.zeros(1, 1, 256, 256)
    mask[..., 64:192, 64:192] = 1
    with torch.inference_mode():
        made = {f: load_generator("pair", f).module(image, mask) for f in (0.0, 0.25, 0.5, 0.75, 1.0, None)}
    assert torch.equal(made[1.0], made[None]) and not torch.equal(made[0.0], made[1.0])
    difference = made[0.0] - made[1.0]
    low = blurred(difference, 2.0)
    torch.testing.assert_close(made[0.75], made[1.0] + 0.75 * (difference - low) + 0.25 * low)
    # the coarse part is made at half the size there: nearly the same
    assert (made[0.5] - (made[1.0] + difference - 0.5 * low)).abs().mean() < 0.1 * low.abs().mean()
    torch.testing.assert_close(made[0.25], (made[0.0] + made[0.5]) / 2)
    assert len({load_generator("pair", f).sha256 for f in (0.0, 0.5, 1.0)}) == 3
    with pytest.raises(ModelError, match="--fidelity must be from 0 to 1"):
        load_generator("pair", 1.5)


def test_blurred_keeps_slow_changes_and_sums():
    ramp = torch.linspace(-1, 1, 64).expand(1, 2, 64, 64)
    torch.testing.assert_close(blurred(ramp, 2.0)[..., 8:-8], ramp[..., 8:-8])
    dot = torch.zeros(1, 1, 33, 33)
    dot[..., 16, 16] = 1
    spread = blurred(dot, 2.0)[0, 0]
    across = torch.arange(33.0) - 16
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(0) * across**2).sum().item() == pytest.approx(4, rel=0.05)
    torch.testing.assert_close(spread, spread.T)


def test_a_mirrored_first_stage_answers_alike_for_the_mirror_image():
    torch.manual_seed(1)
    net = build_generator("base", widths=(8, 8, 8), refine_depth=0, prior_rank=4, mirrored=True).eval()
    wake(net)
    plain = build_generator("base", widths=(8, 8, 8), refine_depth=0, prior_rank=4).eval()
    plain.load_state_dict(net.state_dict())
    image, mask = some_input(64)
    with torch.inference_mode():
        made, turned = net(image, mask), net(image.flip(3), mask.flip(3)).flip(3)
        torch.testing.assert_close(made, turned, atol=1e-4, rtol=0)
        assert not torch.allclose(plain(image, mask), plain(image.flip(3), mask.flip(3)).flip(3), atol=1e-3)
    net.train()
    torch.testing.assert_close(net(image, mask), plain.train()(image, mask))


def test_no_mesh_is_left_of_what_repeats_from_cell_to_cell():
    phases = torch.zeros(1, 12, 16, 16)
    phases[:, 1::4] = 0.5  # one of the four phases of each of three channels is brighter
    even = torch.nn.functional.pixel_shuffle(without_mesh(phases, 2), 2)
    torch.testing.assert_close(even, torch.full_like(even, 0.125))
    step = torch.zeros(1, 3, 32, 32)
    step[..., 17:] = 1.0
    kept = torch.nn.functional.pixel_shuffle(without_mesh(torch.nn.functional.pixel_unshuffle(step, 2), 2), 2)
    assert (kept[..., 17] - kept[..., 16]).min() > 0.75


def test_what_is_visible_is_carried_into_the_hole():
    """A constant error at the rim is taken out near it; far inside nothing is carried."""
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 16:112, 16:112] = 1
    carried = carried_in(torch.full((1, 3, 128, 128), 0.25), mask, 3)
    assert torch.equal(carried[..., :16, :], torch.full((1, 3, 16, 128), 0.25))
    inward = carried[0, 0, 64, 15:28]
    assert inward[1] > 0.05 and (inward.diff() <= 1e-6).all() and carried[0, 0, 64, 64].abs() < 1e-6
    thin = torch.zeros(1, 1, 128, 128)
    thin[..., 61:63] = 1
    everywhere = torch.full((1, 3, 128, 128), 0.25)
    torch.testing.assert_close(carried_in(everywhere, thin, 3), everywhere)


def test_a_folder_of_the_same_name_does_not_hide_a_bundled_model(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_generator("base").name == "base"


def test_the_package_has_base():
    assert "base" in bundled_models() and "localiser" not in bundled_models()
    for fidelity in (0.0, 1.0):
        loaded = load_generator("base", fidelity)
        assert loaded.name == "base" and loaded.size % loaded.multiple == 0
    image, mask = some_input(64)
    with torch.inference_mode():
        out = loaded.module(image, mask)
    assert out.abs().max() <= 1 and out.std() > 0.01
