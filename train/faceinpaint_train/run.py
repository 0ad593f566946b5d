"""A training run from start to end, for the command line and for scripts."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from faceinpaint_cli.errors import OutputError, UsageError
from faceinpaint_cli.faces.detector import FaceDetector
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.media.discover import VIDEO_SUFFIXES
from faceinpaint_cli.models.device import resolve_device
from faceinpaint_cli.models.networks.hidden_face import HiddenFace
from faceinpaint_cli.models.networks.localiser import Localiser
from faceinpaint_cli.models.networks.print_localiser import PrintLocaliser
from faceinpaint_cli.models.networks.video_localiser import VideoLocaliser
from faceinpaint_train import hidden_faces, localiser, print_localiser, video_localiser
from faceinpaint_train.batches import Batch, make_batch
from faceinpaint_train.card import write_model
from faceinpaint_train.checks import check_networks
from faceinpaint_train.distributed import Team, join_team
from faceinpaint_train.faces import FaceSet, load_faces
from faceinpaint_train.fit import fit
from faceinpaint_train.graph import check_recordable
from faceinpaint_train.recipe import Recipe
from faceinpaint_train.records import read_stats, save_plot
from faceinpaint_train.sources import SUFFIXES
from faceinpaint_train.trainer import Progress, Trainer, batch_plan

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    data: Sequence[Path],
    folder: Path,
    *,
    device: str = "auto",
    cache: Path | None = None,
    resume: bool = False,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Train `recipe` on the pictures in `data` into `folder`; returns the facts of the run.

    `folder` gets recipe.json, stats.jsonl, samples-*.png, last.ckpt, best.ckpt and at the end
    model.safetensors, model-fp32.safetensors, MODEL_CARD.md and curves.png. SIGTERM and Ctrl-C save and end the
    run early (facts["stopped"]). Under torchrun every process calls this alike. Raises UsageError for a run
    without an end or a folder in use, DataError, ModelError, DeviceError and OutputError.
    """
    check_run(recipe, folder, resume)
    for path in data:
        if path.is_dir() and path.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise UsageError(f"-o {folder} is in DATA ({path}): put it elsewhere, or it learns from what it writes")
    cv2.setNumThreads(1)
    with join_team(resolve_device(device)) as team:
        if recipe["run"]["graph"]:
            check_recordable(team)
        faces = shared_faces(data, recipe["data"]["crop"], cache or folder / "cache", team)
        trainer = Trainer(recipe, faces, folder, team, begin=not resume)
        if resume:
            trainer.resume()
        with writing(folder):
            if team.leads:
                (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
            with stopping(trainer):
                trainer.run(report)
        facts = {
            "step": trainer.step,
            "samples": trainer.step * trainer.plan.count * team.world,
            "minutes": trainer.elapsed / 60,
            "train": len(faces.train),
            "val": len(faces.val),
            "left_out": faces.left_out,
            "data": ", ".join(path.name for path in data),
            "stopped": trainer.stop,
        }
        if team.leads and not trainer.stop:
            with writing(folder):
                finish(trainer, facts)
        return facts


def train_localiser_run(
    data: Sequence[Path], folder: Path, minutes: float, *, cache: Path | None = None, seed: int = 1
) -> dict[str, Any]:
    """Train the damage localiser for `minutes` on the CPU, on faces, and on the videos and single pictures among
    `data`: wider views, with or without faces.

    `folder` gets stats.jsonl, last.ckpt (an interrupted run goes on from it) and localiser.safetensors in half
    precision. Returns the facts of the run."""
    faces, pictures = _faces_and_views(data, folder, cache)
    plan = localiser.LocaliserPlan(seed=seed)

    def make_batch(step: int) -> Batch:
        return _as_seen(*localiser.make_batch(faces.train, plan, step, pictures))

    return _train_finder(Localiser, make_batch, localiser, folder / "localiser.safetensors", minutes, seed, faces)


def train_print_localiser_run(
    data: Sequence[Path], folder: Path, minutes: float, *, cache: Path | None = None, seed: int = 1
) -> dict[str, Any]:
    """Train the localiser of damaged prints for `minutes` on the CPU, on faces, and on the videos and single pictures
    among `data`: wider views, with or without faces, as sharp as they are.

    `folder` gets stats.jsonl, last.ckpt (an interrupted run goes on from it) and print-localiser.safetensors in half
    precision. Returns the facts of the run."""
    faces, pictures = _faces_and_views(data, folder, cache)

    def make_batch(step: int) -> Batch:
        return _as_seen(*print_localiser.make_batch(faces.train, pictures, seed, step))

    path = folder / "print-localiser.safetensors"
    return _train_finder(PrintLocaliser, make_batch, print_localiser, path, minutes, seed, faces)


def train_video_localiser_run(
    data: Sequence[Path], folder: Path, minutes: float, *, cache: Path | None = None, seed: int = 1
) -> dict[str, Any]:
    """Train the video localiser for `minutes` on the CPU, on the videos among `data` and on faces set in motion.

    `folder` gets stats.jsonl, last.ckpt (an interrupted run goes on from it) and video-localiser.safetensors in half
    precision. Returns the facts of the run. Raises UsageError where there is no video.
    """
    faces, videos = _faces_and_videos(data, folder, cache)
    if not videos:
        raise UsageError("the video localiser learns from videos: give some among DATA")
    stock = video_localiser.gather(videos, faces.train, seed)
    return _train_finder(VideoLocaliser, lambda step: video_localiser.make_batch(stock, seed, step), video_localiser,
                         folder / "video-localiser.safetensors", minutes, seed, faces)


def train_hidden_face_run(
    data: Sequence[Path], folder: Path, minutes: float, *, cache: Path | None = None, seed: int = 1
) -> dict[str, Any]:
    """Train the finder of hidden faces for `minutes` on the CPU, on faces, and on the videos and single pictures among
    `data`: what else a hole may be over.

    `folder` gets stats.jsonl, last.ckpt (an interrupted run goes on from it) and hidden-face.safetensors in half
    precision. Returns the facts of the run. Raises UsageError where there is no video or single picture.
    """
    faces, pictures = _faces_and_views(data, folder, cache)
    if not pictures:
        raise UsageError("hidden faces are learned from wider views too: give videos or single pictures among DATA")
    views = hidden_faces.views_of(pictures, FaceDetector("cpu"))
    return _train_finder(HiddenFace, lambda step: hidden_faces.make_batch(faces.train, views, seed, step), hidden_faces,
                         folder / "hidden-face.safetensors", minutes, seed, faces)


def _faces_and_views(data: Sequence[Path], folder: Path, cache: Path | None) -> tuple[FaceSet, list[np.ndarray]]:
    """Faces, and wider views (H, W, 3) uint8 of the videos and single pictures."""
    photographs = [path for path in data if path.suffix.lower() in SUFFIXES and path.is_file()]
    faces, videos = _faces_and_videos([path for path in data if path not in photographs], folder, cache)
    return faces, localiser.wider_views(videos, photographs)


def _faces_and_videos(data: Sequence[Path], folder: Path, cache: Path | None) -> tuple[FaceSet, list[Path]]:
    cv2.setNumThreads(1)
    videos = [path for path in data if path.suffix.lower() in VIDEO_SUFFIXES]
    return load_faces([path for path in data if path not in videos], "auto", cache or folder / "cache"), videos


class _Lesson(Protocol):
    """A module of this package that a finder learns from."""

    RATE: float

    def loss_of(self, answer: torch.Tensor, truth: torch.Tensor, /) -> torch.Tensor: ...


def _as_seen(images: torch.Tensor, truth: torch.Tensor) -> Batch:
    """Pictures in uint8 as networks see them, in [-1, 1]."""
    return images.float().div_(127.5).sub_(1), truth


def _train_finder(build: Callable[[], nn.Module], make_batch: Callable[[int], Batch], lesson: _Lesson, path: Path,
                  minutes: float, seed: int, faces: FaceSet) -> dict[str, Any]:
    """Train a network that `build` makes into the folder of `path`, and write it there in half precision."""
    torch.manual_seed(seed)
    net = fit(build(), make_batch, lesson.loss_of, path.parent, minutes, lesson.RATE)
    state = {key: value.half().contiguous() for key, value in net.state_dict().items()}
    save_file(state, path, metadata={"format": f"faceinpaint-{path.stem}-1"})
    return {"minutes": minutes, "train": len(faces.train), "left_out": faces.left_out, "stopped": False}


def check_run(recipe: Recipe, folder: Path, resume: bool) -> None:
    if not recipe["run"]["steps"] and not recipe["run"]["minutes"]:
        raise UsageError("this run would never end: set --steps or --minutes")
    check_networks(recipe)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"run folder {folder} cannot be made: {error.strerror}") from None
    if not resume and (folder / "last.ckpt").exists():
        raise UsageError(f"{folder} holds a run already: add --resume to go on with it, or give another -o")


def shared_faces(data: Sequence[Path], crop: str, cache: Path, team: Team) -> FaceSet:
    """The faces, built by the first process and then read by all."""
    faces = load_faces(data, crop, cache) if team.leads else None
    team.largest(0.0)  # the others wait here
    return faces or load_faces(data, crop, cache)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """OutputError, in one line, where the disk under `folder` is full or does not take what is written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        raise OutputError(f"run folder {folder} cannot be written ({error.strerror}): make room and add --resume; the "
                          "checkpoint before this is kept") from None


@contextlib.contextmanager
def stopping(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C set `trainer.stop`; a second one ends at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if trainer.stop:
            raise KeyboardInterrupt
        log.warning("stopping after this step; the run can be continued with --resume")
        trainer.stop = True

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: the caller sets trainer.stop itself
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(trainer: Trainer, facts: dict[str, Any]) -> None:
    folder = trainer.folder
    figures = next((r for r in reversed(read_stats(folder / "stats.jsonl")) if "psnr" in r), None)
    count = min(len(trainer.faces.val), trainer.recipe["run"]["validate_faces"])
    if figures:
        facts |= {k: figures[k] for k in ("psnr", "psnr_hole", "ssim", "ssim_hole")} | {"count": count}
        write_model(folder, trainer.average, trainer.recipe, facts)
    save_plot(folder / "stats.jsonl", folder / "curves.png")


def mask_sheet(recipe: Recipe, data: Sequence[Path], cache: Path, target: Path) -> None:
    """A contact sheet of 32 samples as the recipe makes them: shown with the hole in grey where nothing is
    stamped, as PNG. UsageError where `target` is named otherwise, OutputError where it cannot be written."""
    if target.suffix.lower() != ".png":
        raise UsageError(f"--show-masks writes a .png file, not {target}")
    with atomic_path(target) as path:  # from the start: reading the faces may take long
        faces = load_faces(data, recipe["data"]["crop"], cache)
        plan = batch_plan(recipe, Team())
        tiles: list[np.ndarray] = []
        step = 0
        while len(tiles) < 32:
            _, shown, mask = make_batch(faces.train, plan, step)
            pictures = shown.permute(0, 2, 3, 1).numpy()
            if not recipe["data"]["patches"]:
                pictures = np.where(mask.permute(0, 2, 3, 1).numpy(), np.uint8(128), pictures)
            tiles.extend(pictures)
            step += 1
        rows = [np.concatenate(tiles[i : i + 8], 1) for i in range(0, 32, 8)]
        Image.fromarray(np.concatenate(rows)).save(path)

