"""Checkpoints of a run: everything that the next step depends on, written whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceinpaint_cli.errors import ModelError, OutputError, UsageError
from faceinpaint_cli.models.checkpoint import read_weights
from faceinpaint_train.recipe import DEFAULTS, Recipe, differing_keys, merge

log = logging.getLogger(__name__)

MAY_DIFFER = tuple(
    f"run.{key}"
    for key in ("minutes", "save_minutes", "threads", "workers", "log_steps", "validate_steps", "validate_faces")
)
"""Settings that a resumed run may change: they leave the steps themselves as they were. `run.steps` is not
among them, since the learning rate falls towards it."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename: whatever happens, `path` is the old checkpoint or the new one."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:  # by its name torch says where it stood, but not that the disk is full
            torch.save(state, file)
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"checkpoint {path} cannot be written ({error}); the one before is kept") from None


def check_resumable(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"--resume needs {path}: there is no such run")


def load_state(path: Path) -> dict[str, Any]:
    check_resumable(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise ModelError(f"checkpoint {path} is broken ({str(error).splitlines()[0]})") from None
    except Exception as error:  # unpickling of foreign bytes raises pickle.UnpicklingError and others
        raise ModelError(f"{path} is no checkpoint of a training run ({type(error).__name__})") from None


def check_same_recipe(saved: Recipe, now: Recipe) -> None:
    """UsageError that names every setting in which a resumed run would differ. What was no setting yet when the run
    began counts as it was then: by default."""
    keys = [key for key in differing_keys(merge(DEFAULTS, saved), now) if key not in MAY_DIFFER]
    if keys:
        raise UsageError(f"--resume with other settings than the run began with: {', '.join(keys)}; set them as before")


def check_same_run(world: int, faces: int, world_now: int, faces_now: int) -> None:
    """UsageError where a resumed run has other processes or training faces than it began with: each step would see
    other pictures."""
    if world != world_now:
        raise UsageError(f"--resume with {world_now} processes, but the run began with {world}: start as many")
    if faces != faces_now:
        raise UsageError(f"--resume with {faces_now} training faces in DATA, but the run began with {faces}: give the "
                         "same DATA, or begin another run with model.init")


def load_initial(net: nn.Module, path: Path) -> None:
    """Start `net` from a run's .ckpt (its averaged weights) or from a .safetensors model of the same network, or of
    a shallower one: blocks that the file lacks stay as they are built (see `idle` in networks/blocks.py). ModelError
    where the file has parts that `net` lacks, or of another shape, UsageError where there is none."""
    if not path.is_file():
        raise UsageError(f"no weights at {path}: set model.init to a run's .ckpt or a .safetensors file")
    state = read_weights(path) if path.suffix == ".safetensors" else load_state(path)["ema"]
    try:
        foreign = net.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"model.init {path} is of another network: {reason}") from None
    if foreign:
        raise ModelError(f"model.init {path} is of another network: it has {', '.join(foreign)[:200]}")
    new = sorted({key.rpartition(".")[0] for key in net.state_dict().keys() - state.keys()})
    if new:
        log.info("not in %s, begun anew: %s", path, ", ".join(new))
