"""The training loop: recipes, every model of the lineage, resume, stops and what a run leaves."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from faceinpaint_train.batches import make_batch
from faceinpaint_train.distributed import Team
from faceinpaint_train.faces import FaceSet
from faceinpaint_train.muon import Muon, is_filter, orthogonalise
from faceinpaint_train.objectives import build_objective
from faceinpaint_train.recipe import parse_override, read_recipe, recipe_names
from faceinpaint_train.run import mask_sheet, train
from faceinpaint_train.state import load_state, save_state
from faceinpaint_train.trainer import Trainer, batch_plan
from PIL import Image
from torch import nn

from faceinpaint_cli.errors import DataError, ModelError, OutputError, UsageError
from faceinpaint_cli.models.checkpoint import load_generator
from faceinpaint_cli.models.registry import GENERATORS, build_generator

torch.set_num_threads(1)

SMALL = {"base": {"widths": [8, 8, 8], "deeper": [0, 0], "refine_width": 8, "refine_depth": 1, "prior_rank": 4},
         "pix2pix": {"width": 4}, "pix2pix-attn": {"width": 4}}
TINY = {"width": 4, "blocks": 2}
LINEAGE = ["pix2pix", "pix2pix-attn", "patchgan-inpaint", "cyclegan-attn", "sagan-inpaint", "base-coarse", "base"]


def canvases(count: int) -> np.ndarray:
    """Smooth pictures that have most of what they show in common, as faces have."""
    rng = np.random.default_rng(1)
    common = rng.integers(0, 256, (7, 6, 3))
    small = ((3 * common + rng.integers(0, 256, (count, 7, 6, 3))) // 4).astype(np.uint8)
    return np.stack([cv2.resize(s, (178, 218), interpolation=cv2.INTER_CUBIC) for s in small])


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    everything = canvases(24)
    return FaceSet(everything[:20], everything[20:], {})


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for i, face in enumerate(canvases(24)):
        Image.fromarray(face).save(folder / f"{i + 1:06d}.png")
    return folder


def small_recipe(*overrides: str, **options):
    """`options` are of the network, besides or instead of SMALL's."""
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in (SMALL["base"] | options).items())
    settings = ["model.prior_faces=16", f"model.options={{{table}}}", "data.size=64", "data.batch=2", "run.steps=6",
                "run.minutes=0", "run.log_steps=1", "run.validate_steps=4", "run.precision=fp32", *overrides]
    return read_recipe("base-coarse", settings)


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_every_recipe_names_what_exists():
    assert set(LINEAGE) <= set(recipe_names())
    for name in recipe_names():
        assert read_recipe(name)["model"]["name"] in GENERATORS


def test_overrides_are_checked():
    assert read_recipe("pix2pix", ["data.batch=3", "optimiser.lr=1e-3"])["data"]["batch"] == 3
    assert parse_override("model.init=/a/b.ckpt") == {"model": {"init": "/a/b.ckpt"}}
    for text, message in (("data.bach=3", "unknown setting 'data.bach'"), ("data.batch=x", "takes a number, from 1 to"),
                          ("data.batch=2.5", "takes a int"),
                          ("data=3", "is a table"), ("nothing", "takes key=value"),
                          ("loss.adversarial=wgan", "takes one of hinge, lsgan, vanilla"),
                          ("loss.r1=-1", "takes a number, 0 or"), ("optimiser.lr=inf", "takes a number, 0 or"),
                          ("optimiser.betas=[0.5, 2]", "takes 2 numbers, from 0 to"),
                          ("optimiser.betas=0.5", "takes 2 numbers, from 0 to"),
                          ("data.sizes.strokes=[0.3, 0.1]", "takes 2 numbers, from 0.001 to 1, the least first"),
                          ("data.counts.spots=[1, 2.5]", "takes 2 whole numbers, from 1 to 1000"),
                          ("data.counts.square=[1, 2]", "unknown setting 'data.counts.square'")):
        with pytest.raises(UsageError, match=message):
            read_recipe("pix2pix", [text])
    with pytest.raises(UsageError, match=r"no recipe is named 'nonesuch'.* takes base, .*, hidden-face or a "):
        read_recipe("nonesuch")


@pytest.mark.parametrize(("recipe", "overrides", "message"), [
    ("pix2pix", ["data.irregular=masks.zip"], "'data.irregular' has no effect without data.irregular_share"),
    ("pix2pix", ["data.irregular_share=0.5"], "'data.irregular_share' has no effect without data.irregular"),
    ("base", ["loss.adversarial_weight=0.1"], "'loss.adversarial_weight' has no effect without discriminator.name"),
    ("base", ["loss.features=1"], "'loss.features' has no effect without discriminator.name and loss.adv"),
    ("base", ["discriminator.name=patchgan"], "'discriminator.name' has no effect without loss.adversarial_weight"),
    ("pix2pix", ["loss.adversarial_weight=0", "loss.r1=1"], "'loss.r1' has no effect without"),
    ("base", ["loss.perceptual_weights=vgg"], "'loss.perceptual_weights' has no effect without loss.perceptual"),
    ("pix2pix", ["data.counts.spots=[1,2]"], "'data.counts.spots' has no effect without a share in data.shapes.spots"),
    ("base", ["loss.judge_crop=64"], "'loss.judge_crop' has no effect without loss.perceptual or"),
    ("base", ["loss.identity=0.5"], "'loss.identity' has no effect without loss.cycle"),
    ("cyclegan-attn", ["loss.perceptual=1"], "'loss.perceptual' has no effect with loss.cycle"),
    ("base", ["model.init=a.ckpt", "model.prior_faces=9"], "'model.prior_faces' has no effect with model.init"),
])
def test_settings_without_effect_are_refused(recipe, overrides, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")) as caught:
        read_recipe(recipe, overrides)
    assert "\n" not in str(caught.value)


def test_settings_of_a_recipe_may_lose_their_effect_by_others(tmp_path):
    """What the recipe sets and the command line turns off, or the other way round, is what was wanted."""
    assert read_recipe("pix2pix-attn", ["model.init=a", "loss.adversarial_weight=0"])["discriminator"]["name"]
    assert read_recipe("sagan-inpaint", ["loss.adversarial_weight=0"])["loss"]["features"] == 0.1
    assert read_recipe("base", ["model.init=a.ckpt"])["model"]["prior_faces"] == 8000
    assert read_recipe("base", ["loss.features=0", "data.irregular=a", "data.irregular=''"])
    own = tmp_path / "own.toml"
    own.write_text("[loss]\nperceptual_layers = 10\n[data]\nirregular = 'masks.zip'\n")
    assert read_recipe(str(own), ["loss.perceptual=1", "data.irregular_share=0.5"])
    with pytest.raises(UsageError, match=r"'data\.irregular' has no effect"):
        read_recipe(str(own), ["loss.perceptual=1"])


def test_sizes_and_counts_of_holes_come_from_the_recipe(faces, tmp_path):
    """The same seed: a few thick strokes cover more than one thin one."""
    shares = []
    for count, size in (("[1, 1]", "[0.01, 0.02]"), ("[5, 6]", "[0.2, 0.2]")):
        recipe = small_recipe("data.shapes={strokes=1}", f"data.counts.strokes={count}", f"data.sizes.strokes={size}")
        shares.append(float(make_batch(faces.train, batch_plan(recipe, Team()), 0)[2].float().mean()))
    assert shares[0] < 0.1 and shares[1] > 0.25


@pytest.mark.parametrize(("override", "message"), [
    ("discriminator.name=foo", "no discriminator is named 'foo'"),
    ("model.name=pix2pix-attn", "multiples of 256"),
    ("model.options.foo=1", "has no option 'foo'"),
    ("model.options.refine_width=0", "refine_width takes a whole number from 1 to 1024, not 0"),
    ("discriminator.options.layers=6", "discriminator 'patchgan' takes no pictures of 128 x 128 pixels"),
    ("loss.judge_crop=12", "'loss.judge_crop' takes 0 or from 16 to 128, the side of what is drawn, not 12"),
    ("loss.judge_crop=200", "from 16 to 128"),
    ("data.size=8", "'data.size' takes a number, from 16 to 4096"),
    ("data.batch=100000", "'data.batch' takes a number, from 1 to 4096"),
    ("seed=9223372036854775808", "'seed' takes a number"),
    ("model.init=none.ckpt", "'model.init': there is no none.ckpt"),
])
def test_what_there_is_not_is_told_before_faces_are_read(override, message, tmp_path):
    more = ["discriminator.name=patchgan", "loss.adversarial_weight=1", "data.size=128"]
    with pytest.raises((ModelError, UsageError), match=message):
        train(read_recipe("base", [*more, override]), [tmp_path / "unread"], tmp_path / "run")


def test_no_clipping_is_no_standing_still(faces, tmp_path):
    """A longest gradient of 0 means none, as elsewhere; it must not scale every step to nothing."""
    trainer = Trainer(small_recipe("run.steps=1", "optimiser.clip=0"), faces, tmp_path, Team())
    before = [p.clone() for p in trainer.objective.generator.parameters()]
    trainer.run()
    after = trainer.objective.generator.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_run_from_before_a_setting_was_goes_on(faces, tmp_path):
    Trainer(small_recipe("run.steps=1"), faces, tmp_path, Team()).run()
    state = load_state(tmp_path / "last.ckpt")
    del state["recipe"]["data"]["counts"], state["recipe"]["data"]["sizes"]
    save_state(tmp_path / "last.ckpt", state)
    Trainer(small_recipe("run.steps=1"), faces, tmp_path, Team(), begin=False).resume()
    other = Trainer(small_recipe("run.steps=1", "data.counts.strokes=[1, 1]"), faces, tmp_path, Team(), begin=False)
    with pytest.raises(UsageError, match=r"data\.counts\.strokes"):
        other.resume()


def trained(objective) -> list[tuple[str, torch.nn.Parameter]]:
    named = [(f"{key}.{name}", p) for key, m in objective.modules.items() for name, p in m.named_parameters()]
    return [(key, p) for key, p in named if p.requires_grad]


@pytest.mark.parametrize("name", LINEAGE)
def test_every_model_of_the_lineage_takes_a_step(name):
    """One step with all terms of the recipe changes every weight of every network in it."""
    recipe = read_recipe(name, ["data.size=256" if "pix2pix" in name else "data.size=64"])
    gate = {key: value for key, value in recipe["model"]["options"].items() if key == "gated"}
    recipe["model"]["options"] = SMALL.get(recipe["model"]["name"], TINY) | gate
    if recipe["discriminator"]["name"]:
        recipe["discriminator"]["options"] = {"width": 8}
    recipe["loss"]["adversarial_from"] = 0.0
    torch.manual_seed(0)
    objective = build_objective(recipe, Team())
    for key, p in trained(objective):
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
        if key.endswith("score.bias"):
            p.data.fill_(1.5)  # where hinge is flat on one side; else both sides' gradients cancel
    before = {key: p.clone() for key, p in trained(objective)}
    size = recipe["data"]["size"]
    rng = torch.Generator().manual_seed(1)
    truth = torch.rand(2, 3, size, size, generator=rng) * 2 - 1
    mask = torch.zeros(2, 1, size, size)
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    objective.set_rates(1000, 0.2)
    figures = objective.step(truth, torch.where(mask > 0, 1.0, truth), mask, 1000, 0.2)
    assert all(math.isfinite(v) for v in figures.values())
    if recipe["discriminator"]["name"]:
        assert {"adversarial", "discriminator"} <= set(figures)
    assert not [key for key, p in trained(objective) if torch.equal(p, before[key])]


def test_a_run_leaves_what_it_promises_and_learns(data, tmp_path):
    out = tmp_path / "run"
    recipe = small_recipe("run.steps=30", "optimiser.warmup=1", "optimiser.lr=1e-2", "data.jitter.share=0",
                          "model.prior_faces=0", "data.shapes={center=1}", "optimiser.clip=100")
    facts = train(recipe, [data], out, device="cpu")
    assert not facts["stopped"] and facts["step"] == 30 and facts["samples"] == 60
    assert np.mean(losses(out)[-8:]) < 0.8 * np.mean(losses(out)[:4])
    for name in ("recipe.json", "last.ckpt", "best.ckpt", "model.safetensors", "model-fp32.safetensors",
                 "curves.png", "samples-0000000.png", "samples-0000030.png"):
        assert (out / name).stat().st_size > 0, name
    card = (out / "MODEL_CARD.md").read_text()
    assert "`base-coarse`" in card and "PSNR" in card and "Limits" in card
    loaded = load_generator(out / "model.safetensors")
    assert loaded.config["facts"]["step"] == 30
    with torch.inference_mode():
        assert loaded.module(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)).isfinite().all()
    with pytest.raises(UsageError, match="holds a run already"):
        train(recipe, [data], out, device="cpu")


def test_the_best_of_a_perceptual_run_is_the_nearest_by_that(data, vgg, tmp_path):
    out = tmp_path / "run"
    recipe = small_recipe("loss.perceptual=5", f"loss.perceptual_weights={vgg}", "loss.perceptual_layers=4",
                          "run.steps=16", "optimiser.warmup=1", "optimiser.lr=1e-2")
    train(recipe, [data], out, device="cpu")
    rows = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    distances = {row["step"]: row["perceptual"] for row in rows if "psnr" in row}
    assert len(distances) == 5 and len(set(distances.values())) > 1
    state = load_state(out / "best.ckpt")
    assert state["step"] == min(distances, key=distances.__getitem__) and state["best"] == -min(distances.values())


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_resumed_equals_uninterrupted(optimiser, faces, tmp_path):
    """Stopped after an odd step and resumed: every weight and figure is that of the run in one go."""
    judge = ("discriminator.name=patchgan", "discriminator.options={width=4}", "loss.adversarial_weight=0.1")
    recipe = small_recipe(*judge, f"optimiser.name={optimiser}")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = Trainer(recipe, faces, tmp_path / "a", Team())
    whole.run()
    first = Trainer(recipe, faces, tmp_path / "b", Team())

    def stop(step, share, figures):
        first.stop = step == 3

    first.run(stop)
    assert first.step == 3
    torch.manual_seed(99)
    second = Trainer(recipe, faces, tmp_path / "b", Team(), begin=False)
    second.resume()
    second.run()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    one, two = load_state(tmp_path / "a/last.ckpt"), load_state(tmp_path / "b/last.ckpt")
    for key in ("generator", "discriminator"):
        assert all(torch.equal(v, two["modules"][key][n]) for n, v in one["modules"][key].items())
    assert all(torch.equal(v, two["ema"][n]) for n, v in one["ema"].items())


@pytest.mark.slow  # a minute of C++ compiler
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", ["coarse", "whole"])
def test_compiled_is_compiled_and_trains_alike(part, faces, tmp_path):
    """The part that a recipe trains is what torch.compile gets: the first stage alone never goes by `forward`."""
    results = []
    for compiled in (False, True):
        recipe = small_recipe(f"run.compile={str(compiled).lower()}", f"model.part={part}")
        counted = torch._dynamo.utils.counters["frames"]["ok"]
        Trainer(recipe, faces, tmp_path / str(compiled), Team()).run()
        assert (torch._dynamo.utils.counters["frames"]["ok"] > counted) == compiled
        results.append(losses(tmp_path / str(compiled)))
    assert results[1] == pytest.approx(results[0], rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_recorded_steps_train_alike(faces, tmp_path):
    """Also once the discriminator comes in and the step is another one."""
    results = []
    for recorded in ("false", "true"):
        recipe = small_recipe(f"run.graph={recorded}", "model.part=whole", "discriminator.name=patchgan-spectral",
                              "discriminator.options={ width = 4 }", "loss.adversarial_weight=0.1",
                              "loss.adversarial_from=0.5", "optimiser.name=muon", "run.steps=24")
        Trainer(recipe, faces, tmp_path / recorded, Team(device=torch.device("cuda"))).run()
        results.append(losses(tmp_path / recorded))
    assert results[1] == pytest.approx(results[0], rel=1e-2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is for machines without CUDA")
def test_steps_are_recorded_on_cuda_alone(data, tmp_path):
    with pytest.raises(UsageError, match=r"run\.graph=true is for one CUDA device"):
        train(small_recipe("run.graph=true"), [data], tmp_path / "run", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()  # told before the faces are read


def test_figures_go_to_tensorboard(data, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(small_recipe(), [data], tmp_path / "run", cache=tmp_path / "cache")
    board = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    shown = [scalar.value for scalar in board.Scalars("loss")]
    assert shown == pytest.approx(losses(tmp_path / "run"), rel=1e-5) and len(shown) == 6
    assert "psnr_hole" in board.Tags()["scalars"]


def test_resume_with_other_settings_says_which(faces, tmp_path):
    Trainer(small_recipe("run.steps=1"), faces, tmp_path, Team()).run()
    other = Trainer(small_recipe("run.steps=1", "optimiser.lr=1e-5", "data.batch=3"), faces, tmp_path, Team())
    with pytest.raises(UsageError, match=r"data\.batch, optimiser\.lr"):
        other.resume()
    with pytest.raises(UsageError, match="no such run"):
        Trainer(small_recipe(), faces, tmp_path / "none", Team()).resume()
    (tmp_path / "last.ckpt").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"last\.ckpt"):
        other.resume()


def test_nan_stops_and_the_checkpoint_stays(faces, tmp_path):
    trainer = Trainer(small_recipe("run.save_minutes=0"), faces, tmp_path, Team())

    def spoil(step, share, figures):
        if step == 2:
            trainer.recipe["run"]["save_minutes"] = 1e9
            with torch.no_grad():
                next(trainer.objective.generator.coarse.parameters()).fill_(math.nan)

    with pytest.raises(ModelError, match="diverged at step 2"):
        trainer.run(spoil)
    state = load_state(tmp_path / "last.ckpt")
    assert state["step"] == 1 and all(v.isfinite().all() for v in state["ema"].values())


def test_a_failed_save_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    save_state(tmp_path / "last.ckpt", {"step": 1})

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        save_state(tmp_path / "last.ckpt", {"step": 2})
    assert load_state(tmp_path / "last.ckpt") == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_runs_without_end_and_wrong_sizes_are_refused(data, tmp_path):
    with pytest.raises(UsageError, match="--steps or --minutes"):
        train(small_recipe("run.steps=0"), [data], tmp_path / "a")
    with pytest.raises(ModelError, match="multiples of 256"):
        train(read_recipe("pix2pix", ["data.size=64"]), [data], tmp_path / "b")
    with pytest.raises(DataError, match="no training data"):
        train(small_recipe(), [tmp_path / "gone"], tmp_path / "c")


def test_a_deeper_network_begins_as_the_shallow_one(faces, tmp_path):
    Trainer(small_recipe("run.steps=2"), faces, tmp_path, Team()).run()
    shallow = load_state(tmp_path / "last.ckpt")["ema"]
    init, no_prior = f"model.init={tmp_path / 'last.ckpt'}", "model.prior_faces=0"
    deeper = Trainer(small_recipe(init, no_prior, deeper=[1, 1]), faces, tmp_path, Team())
    net = build_generator("base", **SMALL["base"])
    net.load_state_dict(shallow)
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    with torch.inference_mode():
        torch.testing.assert_close(deeper.average(image, mask), net.eval()(image, mask))
    assert len(deeper.average.state_dict()) > len(shallow)
    for name in ("none.ckpt", "none.safetensors"):
        with pytest.raises(UsageError, match=rf"no weights at .*{name}: set model\.init"):
            Trainer(small_recipe(f"model.init={tmp_path / name}", no_prior), faces, tmp_path, Team())
    torch.save({"ema": deeper.average.state_dict()}, tmp_path / "deeper.ckpt")
    with pytest.raises(ModelError, match="of another network: it has"):
        Trainer(small_recipe(f"model.init={tmp_path / 'deeper.ckpt'}", no_prior), faces, tmp_path, Team())
    with pytest.raises(ModelError, match="size mismatch"):
        Trainer(small_recipe(init, no_prior, refine_width=16), faces, tmp_path, Team())


def test_muon_takes_its_rate_from_the_device_as_well():
    """A recorded step reads it there."""
    moved = []
    for rate in (0.1, torch.tensor(0.1)):
        weight = nn.Parameter(torch.linspace(-1, 1, 72).reshape(4, 2, 3, 3))
        optimiser = Muon([weight], lr=0.0)
        optimiser.param_groups[0]["lr"] = rate
        weight.grad = torch.linspace(1, -1, 72).reshape(4, 2, 3, 3).cos()
        optimiser.step()
        moved.append(weight.detach())
    assert torch.allclose(moved[0], moved[1], atol=1e-6)


def test_muon_moves_filters_along_orthogonal_directions():
    torch.manual_seed(1)
    for shape in ((12, 40), (40, 12), (3, 12, 40)):
        matrices = torch.randn(shape)
        values = torch.linalg.svdvals(orthogonalise(matrices))
        assert values.min() > 0.6 and values.max() < 1.3
    assert (orthogonalise(matrices)[1] - orthogonalise(matrices[1])).abs().max() < 0.02
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    goal, optimiser = torch.randn_like(weight), Muon([weight], lr=0.15)
    before = (weight - goal).norm().item()
    for _ in range(60):
        optimiser.zero_grad()
        (weight - goal).square().sum().backward()
        optimiser.step()
    assert (weight - goal).norm().item() < 0.3 * before
    net = build_generator("base", **SMALL["base"])
    chosen = {name for name, p in net.coarse.named_parameters() if is_filter(name, p)}
    assert "down0.first.weight" in chosen and not {"enter.weight", "leave.weight", "down0.first.bias"} & chosen


def test_contact_sheet_of_masks(data, tmp_path):
    mask_sheet(small_recipe(), [data], tmp_path / "cache", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (8 * 64, 4 * 64)
    mask_sheet(small_recipe(), [data], tmp_path / "cache", tmp_path / "new" / "sheet.PNG")
    assert (tmp_path / "new" / "sheet.PNG").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"folder\.png: a folder of that name exists"):
        mask_sheet(small_recipe(), [data], tmp_path / "cache", tmp_path / "folder.png")
    with pytest.raises(OutputError, match=r"cannot write .*sheet\.png"):
        mask_sheet(small_recipe(), [data], tmp_path / "cache", tmp_path / "sheet.png" / "sheet.png")
    with pytest.raises(UsageError, match=r"writes a \.png file, not .*new$"):
        mask_sheet(small_recipe(), [data], tmp_path / "cache", tmp_path / "new")
    with pytest.raises(DataError, match="no training data"):
        mask_sheet(small_recipe(), [tmp_path / "none"], tmp_path / "cache", tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


PROCESS = """
import sys
from contextlib import nullcontext
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from test_train_run import small_recipe
from faceinpaint_train.distributed import join_team
from faceinpaint_train import run
from faceinpaint_train.trainer import Trainer
data, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = small_recipe("data.batch=1", "run.steps=6", "data.jitter.share=0", "run.log_steps=2")
with join_team(torch.device("cpu")) as team:
    run.join_team = lambda device: nullcontext(team)  # once for both runs
    run.train(recipe, [data], out / "whole", device="cpu")
    faces = run.shared_faces([data], "auto", out / "whole" / "cache", team)
    (out / "broken").mkdir(exist_ok=True)
    for stop in (3, 6):  # between two lines of figures
        trainer = Trainer(recipe, faces, out / "broken", team, begin=stop == 3)
        if stop > 3:
            trainer.resume()
        take_step = trainer.train_step

        def step_and_stop(batch):
            result = take_step(batch)
            trainer.stop = trainer.step == stop
            return result

        trainer.train_step = step_and_stop
        trainer.run()
"""


def test_two_processes_share_the_work(data, tmp_path):
    """Two gloo processes with batches of one write one set of figures, also when stopped and resumed."""
    script = tmp_path / "go.py"
    script.write_text(PROCESS)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               str(script), str(data), str(out), str(Path(__file__).parent)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (out / "whole" / "stats.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6]
    assert rows[-1]["samples"] == 12
    assert losses(out / "whole") == losses(out / "broken")
