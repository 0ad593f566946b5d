"""`faceinpaint train` as a process: killed, stopped, continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from faceinpaint_train.recipe import read_recipe
from faceinpaint_train.run import train
from safetensors.torch import load_file
from test_train_run import canvases

from faceinpaint_cli.errors import UsageError

RECIPE = """
[model]
name = "base"
part = "coarse"
prior_faces = 16
options = { widths = [8, 8, 8], refine_width = 8, refine_depth = 1, prior_rank = 4 }
[data]
size = 64
batch = 2
[run]
log_steps = 4
validate_steps = 30
validate_faces = 2
save_minutes = 0.0
precision = "fp32"
threads = 1
"""
STEPS = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("faces")
    for i, face in enumerate(canvases(24)):
        Image.fromarray(face).save(folder / f"{i + 1:06d}.png")
    (folder.parent / "recipe.toml").write_text(RECIPE)
    return folder


def start(data: Path, out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "faceinpaint_cli", "train", str(data), "-o", str(out), "--recipe",
               str(data.parent / "recipe.toml"), "--steps", str(STEPS), "--device", "cpu", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True)


def finish(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def curve(out: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def wait_for_rows(process: subprocess.Popen, out: Path, count: int) -> None:
    until = time.monotonic() + 120
    stats = out / "stats.jsonl"
    while not stats.exists() or len(stats.read_text().splitlines()) < count:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def test_killed_or_stopped_and_resumed_is_the_run_in_one_go(data, tmp_path):
    whole = tmp_path / "whole"
    assert finish(start(data, whole))["step"] == STEPS
    assert [step for step, _ in curve(whole)] == list(range(4, STEPS + 1, 4))

    broken = tmp_path / "broken"
    process = start(data, broken)
    wait_for_rows(process, broken, 4)
    process.kill()
    process.communicate()
    process = start(data, broken, "--resume", "--set", "run.workers=1")  # of the same steps
    wait_for_rows(process, broken, 9)
    os.killpg(process.pid, signal.SIGTERM)  # as a terminal or `timeout` does: the worker gets it too
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    stopped = json.loads(out)
    assert stopped["stopped"] and 0 < stopped["step"] < STEPS and "--resume" in err
    assert finish(start(data, broken, "--resume"))["step"] == STEPS
    assert curve(broken) == curve(whole)
    for name in ("model.safetensors", "model-fp32.safetensors"):
        one, two = load_file(whole / name), load_file(broken / name)
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_it_says_in_one_line_what_is_wrong(data, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, expected in (
        ((str(empty), "-o", str(tmp_path / "a")), "at least 16 are needed"),
        ((str(tmp_path / "none"), "-o", str(tmp_path / "a")), "no training data"),
        ((str(data), "-o", str(tmp_path / "a"), "--resume"), "no such run"),
        ((str(data), "-o", str(tmp_path / "a"), "--recipe", "nonesuch"), "no recipe is named"),
        ((str(data), "-o", str(tmp_path / "a"), "--set", "data.batch=x"), "data.batch"),
    ):
        result = subprocess.run([sys.executable, "-m", "faceinpaint_cli", "train", *words, "--device", "cpu"],
                                capture_output=True, text=True, timeout=120)
        assert result.returncode in (1, 2), result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("faceinpaint: ") and expected in last
        assert "Traceback" not in result.stderr


def test_a_run_among_its_own_data_is_refused(tmp_path):
    resolved = read_recipe("base-coarse", ["run.minutes=0", "run.steps=1"])
    with pytest.raises(UsageError, match="is in DATA"):
        train(resolved, [tmp_path], tmp_path / "run")
