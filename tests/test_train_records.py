"""What a run writes besides its weights: figures once each, and a full disk said in one line."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from faceinpaint_train import run as run_module
from faceinpaint_train import trainer as trainer_module
from faceinpaint_train.distributed import Team
from faceinpaint_train.faces import FaceSet
from faceinpaint_train.trainer import Trainer
from test_train_run import canvases, small_recipe

from faceinpaint_cli.errors import DeviceError, OutputError, UsageError
from faceinpaint_cli.models import checkpoint


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    everything = canvases(24)
    return FaceSet(everything[:20], everything[20:], {})


def rows_of(folder: Path) -> list[tuple[int, bool]]:
    """Step of each row, and whether it is a validation."""
    rows = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    return [(row["step"], "psnr" in row) for row in rows]


def test_figures_of_a_resumed_run_are_there_once(faces, tmp_path):
    """Killed after the validation of a step whose checkpoint was saved before it, and after half a line; gone on with
    when it was over; begun again where there was no checkpoint yet."""
    recipe = small_recipe("run.steps=4", "run.validate_steps=2")
    whole = [(0, True), (1, False), (2, False), (2, True), (3, False), (4, False), (4, True)]
    first = Trainer(recipe, faces, tmp_path, Team())

    def stop(step, share, figures):
        first.stop = step == 2

    first.run(stop)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "psnr": 1.0}) + '\n{"step": 3, "lo')
    for _ in range(2):
        again = Trainer(recipe, faces, tmp_path, Team(), begin=False)
        again.resume()
        again.run()
        assert rows_of(tmp_path) == whole
    Trainer(recipe, faces, tmp_path, Team()).run()
    assert rows_of(tmp_path) == whole


def test_a_resumed_figure_replaces_the_one_before_in_tensorboard(faces, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = small_recipe("run.steps=4")
    for _ in range(2):
        Trainer(recipe, faces, tmp_path, Team()).run()
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [scalar.step for scalar in board.Scalars("loss")] == [1, 2, 3, 4]


def test_resume_with_other_faces_or_processes_says_so(faces, tmp_path):
    Trainer(small_recipe("run.steps=1"), faces, tmp_path, Team()).run()
    fewer = replace(faces, train=faces.train[:17])
    with pytest.raises(UsageError, match=r"17 training faces in DATA, but the run began with 20: give the same DATA"):
        Trainer(small_recipe("run.steps=1"), fewer, tmp_path, Team(), begin=False).resume()
    trainer = Trainer(small_recipe("run.steps=1"), faces, tmp_path, Team(), begin=False)
    trainer.team = Team(world=2)
    with pytest.raises(UsageError, match="with 2 processes, but the run began with 1"):
        trainer.resume()


def test_a_full_disk_is_one_line(faces, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    recipe = small_recipe("run.steps=1")
    monkeypatch.setattr(run_module, "load_faces", lambda *_: faces)
    monkeypatch.setattr(trainer_module, "save_grid", full)
    with pytest.raises(OutputError, match=r"run folder .*a cannot be written \(No space left on device\): make room"):
        run_module.train(recipe, [], tmp_path / "a", device="cpu")
    assert not [t for t in threading.enumerate() if "event_file_writer" in type(t).__module__], "the board is closed"


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 GiB"), RuntimeError("can't allocate memory")])
def test_out_of_memory_says_what_to_lower(error, faces, tmp_path, monkeypatch):
    """Also where the thread that makes batches runs out of it."""
    def too_much(number):
        raise error

    trainer = Trainer(small_recipe("run.steps=1"), faces, tmp_path, Team())
    monkeypatch.setattr(trainer, "make_batch", too_much)
    with pytest.raises(DeviceError, match=r"out of memory: lower --set data\.batch"):
        trainer.run()


def test_a_model_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(target, {}, "base", {})
    before = target.read_bytes()

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OutputError, match=r"cannot write .*model\.safetensors \(I/O error: No space left"):
        checkpoint.save_checkpoint(target, {}, "base", {})
    assert target.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [target.name]
