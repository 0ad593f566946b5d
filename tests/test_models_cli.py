"""`faceinpaint models` and `faceinpaint train` as commands."""

from __future__ import annotations

import importlib.util
import json
import tarfile
import zipfile

import pytest
import torch
from click.testing import CliRunner

from faceinpaint_cli.cli.models import command as models
from faceinpaint_cli.cli.train import command as train
from faceinpaint_cli.errors import DataError, ModelError, UsageError
from faceinpaint_cli.models.checkpoint import save_checkpoint
from faceinpaint_cli.models.registry import GENERATORS, build_generator

OPTIONS = {"widths": [8, 8, 8], "refine_width": 8, "refine_depth": 1, "prior_rank": 4}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    net = build_generator("base", **OPTIONS)
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            if not tensor.any():  # what starts at zero would make an empty picture
                tensor.normal_(std=0.05)
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, net.state_dict(), "base", {"options": OPTIONS, "facts": {"steps": 3}})
    return path


def invoke(command, *args):
    return CliRunner().invoke(command, [str(a) for a in args], catch_exceptions=False)


def test_list_names_every_network_and_the_bundled_weights():
    lines = invoke(models, "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(GENERATORS)
    assert "weights" in lines[0]


def test_show_tells_what_the_file_holds(model):
    facts = json.loads(invoke(models, "show", model).stdout)
    assert facts["name"] == "base" and facts["config"]["facts"] == {"steps": 3} and facts["size"] == 256
    with pytest.raises(ModelError, match="no bundled model"):
        invoke(models, "show", "nonesuch")


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="the onnx extra is not installed")
def test_export_gives_the_same_picture(model, tmp_path):
    result = invoke(models, "export", model, "--onnx", tmp_path / "small.onnx")
    assert "largest difference" in result.stdout and (tmp_path / "small.onnx").stat().st_size > 1000


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is not None, reason="the onnx extra is installed")
def test_export_without_the_extra_says_what_to_install(model, tmp_path):
    with pytest.raises(UsageError, match=r"faceinpaint\[onnx\]"):
        invoke(models, "export", model, "--onnx", tmp_path / "small.onnx")


def test_dry_run_prints_the_resolved_recipe(tmp_path):
    settings = ("--recipe", "pix2pix", "--steps", 7, "--set", "seed=5", "--dry-run")
    result = invoke(train, tmp_path, "-o", tmp_path / "run", *settings)
    recipe = json.loads(result.stdout)
    assert recipe["run"]["steps"] == 7 and recipe["seed"] == 5 and recipe["model"]["told"] is False
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_of_data_what_the_run_says(tmp_path):
    text, folder = tmp_path / "notes.tar", tmp_path / "faces"
    text.write_text("no pictures")
    folder.mkdir()
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz") as archive:
        archive.add(folder)
    for bad, message in ((tmp_path / "none", "no training data at"), (text, "no folder, zip or tar")):
        said = []
        for more in (["--dry-run"], ["--steps", 1]):
            with pytest.raises(DataError, match=message) as caught:
                invoke(train, folder, bad, "-o", tmp_path / "run", "--recipe", "pix2pix", *more)
            said.append(str(caught.value))
        assert said[0] == said[1]
    archives = (tmp_path / "faces.zip", tmp_path / "faces.tar.gz")
    assert invoke(train, folder, *archives, "-o", tmp_path / "run", "--dry-run").exit_code == 0


def test_wrong_settings_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="unknown setting"):
        invoke(train, tmp_path, "-o", tmp_path / "run", "--set", "run.step=7", "--dry-run")
    assert invoke(train, tmp_path, "-o", tmp_path / "run", "--steps", 0).exit_code == 2


def test_the_localiser_trains_for_minutes_only(tmp_path):
    with pytest.raises(UsageError, match="takes --minutes"):
        invoke(train, tmp_path, "-o", tmp_path / "run", "--recipe", "localiser", "--steps", 4)


@pytest.mark.parametrize("recipe", ["localiser", "print-localiser", "video-localiser", "hidden-face"])
def test_a_finder_that_goes_on_with_no_run_is_refused(tmp_path, recipe):
    with pytest.raises(UsageError, match=r"--resume needs .*last\.ckpt: there is no such run"):
        invoke(train, tmp_path, "-o", tmp_path / "run", "--recipe", recipe, "--minutes", 1, "--resume")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", [
    "run.log_steps=0", "run.validate_steps=0", "run.validate_faces=0", "run.steps=-5", "run.minutes=nan",
    "data.batch=0",
    "data.batch=true", "data.size=0", "data.shapes.foo=1", "data.shapes={}", "data.shapes.center=-1",
    "data.patches.nope=1", "optimiser.betas=[0.9]", "optimiser.lr=-1", "optimiser.ema=2.0", "seed=-1", "run.threads=-1",
])
def test_settings_out_of_range_are_told_before_any_work(tmp_path, setting):
    with pytest.raises(UsageError, match=setting.split("=")[0].rsplit(".", 1)[0]):
        invoke(train, tmp_path, "-o", tmp_path / "run", "--recipe", "base-coarse", "--set", setting, "--dry-run")
