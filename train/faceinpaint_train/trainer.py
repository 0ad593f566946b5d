"""The training loop: batches, steps, figures, checkpoints. It knows no command line."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.errors import DeviceError, ModelError, UsageError
from faceinpaint_cli.models.registry import build_generator
from faceinpaint_cli.synthesis.irregular import load_irregular
from faceinpaint_train.batches import Batch, BatchPlan, batches_ahead, make_batch, usable_workers
from faceinpaint_train.checks import check_size
from faceinpaint_train.crops import Jitter, cut
from faceinpaint_train.distributed import Team
from faceinpaint_train.faces import FaceSet
from faceinpaint_train.graph import RecordedStep
from faceinpaint_train.objectives import build_objective
from faceinpaint_train.recipe import Recipe
from faceinpaint_train.records import Records, save_grid
from faceinpaint_train.schedule import update_average
from faceinpaint_train.state import check_same_recipe, check_same_run, load_initial, load_state, save_state
from faceinpaint_train.validation import validate

log = logging.getLogger(__name__)

Progress = Callable[[int, float, dict[str, float]], None]


class Trainer:
    """One run of a recipe on `faces`, in `folder`. `stop` may be set at any time: the step in work is finished,
    the state saved, and `run` returns. Without `begin` the weights are left to `resume`: nothing is fitted or read."""

    def __init__(self, recipe: Recipe, faces: FaceSet, folder: Path, team: Team, begin: bool = True) -> None:
        check_size(recipe)
        self.recipe, self.faces, self.folder, self.team = recipe, faces, folder, team
        torch.manual_seed(recipe["seed"])
        self.objective = build_objective(recipe, team)
        net = self.objective.generator
        model = recipe["model"]
        if begin and model["init"]:
            load_initial(net, Path(model["init"]))
        elif begin and model["prior_faces"]:
            fit_prior(net, faces.train, model["prior_faces"], recipe["seed"])
        team.share(t for m in self.objective.modules.values() for t in m.state_dict().values())
        self.average = build_generator(model["name"], **model["options"]).to(team.device).eval().requires_grad_(False)
        self.average.load_state_dict(net.state_dict())
        self.plan = batch_plan(recipe, team)
        if recipe["run"]["compile"]:
            self.objective.compile()
        self.graph = RecordedStep(self.objective) if recipe["run"]["graph"] else None
        self.step, self.elapsed, self.best, self.stop = 0, 0.0, -math.inf, False
        self.sums: dict[str, float] = {}  # of the figures since they were last written, over `counted` steps
        self.counted = 0
        self.records: Records | None = None  # of the process that leads, while it runs

    def progress(self) -> float:
        """Share of the run that is done, by steps or by minutes, whichever is further."""
        run = self.recipe["run"]
        by_steps = self.step / run["steps"] if run["steps"] else 0.0
        by_time = self.elapsed / 60 / run["minutes"] if run["minutes"] else 0.0
        return max(by_steps, by_time)

    def run(self, report: Progress | None = None) -> None:
        """Train until the steps or minutes are over or `stop` is set; figures to stats.jsonl every
        run.log_steps. Raises ModelError where the loss is no number any more; last.ckpt is then still good."""
        run = self.recipe["run"]
        if run["threads"]:
            torch.set_num_threads(run["threads"])
        if self.team.leads:
            validates = self.step % run["validate_steps"] == 0 or self.progress() >= 1
            self.records = Records(self.folder, self.step, validates)
        try:
            self.train(report)
            if not self.stop:
                self.validate()
            self.save("last.ckpt")
        finally:  # a board that is left open goes on writing, wherever the run ended
            if self.records:
                self.records.close()

    def train(self, report: Progress | None) -> None:
        """The steps of `run`, on batches that are made meanwhile."""
        device = self.team.device
        # shapes never change: the quickest convolutions are worth looking for
        torch.backends.cudnn.benchmark = device.type == "cuda"
        workers = usable_workers(self.recipe["run"]["workers"], device)
        try:
            with batches_ahead(self.make_batch, self.step, workers, pinned=device.type == "cuda") as source:
                self.go_on(source, report)
        except (RuntimeError, MemoryError) as error:  # of torch, and of the arrays that batches are made in
            is_memory = isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
            if is_memory or "allocate" in str(error):
                raise DeviceError("out of memory: lower --set data.batch=... or data.size=...") from None
            raise

    def make_batch(self, number: int) -> Batch:
        return make_batch(self.faces.train, self.plan, number)

    def go_on(self, source: Iterator[Batch], report: Progress | None) -> None:
        """Steps on the batches of `source` to the end of the run or until `stop` is set."""
        run = self.recipe["run"]
        waited, saved = 0.0, time.monotonic()
        while self.progress() < 1:
            if self.team.largest(float(self.stop)):
                self.stop = True
                break
            if self.step % run["validate_steps"] == 0:
                self.validate()
            started = time.monotonic()
            batch = next(source)
            waited += time.monotonic() - started
            figures, rate = self.train_step(batch)
            self.elapsed = self.team.largest(self.elapsed + time.monotonic() - started)
            self.counted += 1
            for key, value in figures.items():
                self.sums[key] = self.sums.get(key, 0.0) + value
            if self.step % run["log_steps"] == 0:
                means = {key: value / self.counted for key, value in self.sums.items()}
                self.write(means | {"rate": rate, "waited": waited / self.counted})
                if report:
                    report(self.step, self.progress(), means)
                self.sums, self.counted, waited = {}, 0, 0.0
            if time.monotonic() - saved > 60 * run["save_minutes"]:
                self.save("last.ckpt")
                saved = time.monotonic()

    def train_step(self, batch: tuple[Tensor, ...]) -> tuple[dict[str, float], float]:
        truth, shown, mask = (self.to_device(part) for part in batch)
        rate = self.objective.set_rates(self.step, self.progress())
        step = self.graph.step if self.graph else self.objective.step
        found = step(truth, shown, mask, self.step, self.progress())
        # over the processes at every step, not once they are written: the sums in a checkpoint are then everyone's
        figures = self.team.mean(dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True)))
        if not all(math.isfinite(value) for value in figures.values()):
            raise ModelError(
                f"training diverged at step {self.step} ({figures}): lower --set optimiser.lr; "
                "the checkpoint before this is kept"
            )
        update_average(self.average, self.objective.generator, self.step, self.recipe["optimiser"]["ema"])
        self.step += 1
        return figures, rate

    def to_device(self, part: Tensor) -> Tensor:
        part = part.to(self.team.device, non_blocking=True)
        if part.dtype == torch.bool:
            return part.float()
        return part.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        """The averaged generator, at the resolution of the part that is trained."""
        if self.recipe["model"]["part"] == "coarse":
            return self.average.coarse_picture(image, mask)[0]
        return self.average(image, mask)

    def validate(self) -> None:
        if not self.team.leads:
            return
        held_out = self.faces.val[: self.recipe["run"]["validate_faces"]]
        size, told = self.recipe["data"]["size"], self.recipe["model"]["told"]
        figures, columns = validate(
            self.predict, held_out, size, told, self.team.device, self.objective.perceptual
        )
        self.write(figures)
        save_grid(columns, self.folder / f"samples-{self.step:07d}.png")
        # a realistic generator is never as near in PSNR as the one that it began as
        score = -figures["perceptual"] if "perceptual" in figures else figures["psnr"]
        if score > self.best:
            self.best = score
            self.save("best.ckpt")

    def write(self, figures: dict[str, float]) -> None:
        if self.records:
            samples = self.step * self.plan.count * self.team.world
            self.records.write({"step": self.step, "samples": samples, "minutes": self.elapsed / 60} | figures)

    def save(self, name: str) -> None:
        if not self.team.leads:
            return
        state: dict[str, Any] = {
            "recipe": self.recipe,
            "world": self.team.world,
            "faces": len(self.faces.train),
            "step": self.step,
            "elapsed": self.elapsed,
            "best": self.best,
            "sums": self.sums,
            "counted": self.counted,
            "ema": self.average.state_dict(),
            "modules": {k: m.state_dict() for k, m in self.objective.modules.items()},
            "optimisers": {k: o.state_dict() for k, o in self.objective.optimisers.items()},
            "random": torch.get_rng_state(),
        }
        if self.team.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.team.device)
        save_state(self.folder / name, state)

    def resume(self) -> None:
        """Go on from `folder`/last.ckpt: the next step is the one that would have come."""
        state = load_state(self.folder / "last.ckpt")
        if "recipe" not in state:
            raise UsageError(f"{self.folder} holds a run of a finder: --resume with its --recipe, or give another -o")
        check_same_recipe(state["recipe"], self.recipe)
        world, faces = self.team.world, len(self.faces.train)
        check_same_run(state.get("world", world), state.get("faces", faces), world, faces)
        for key, module in self.objective.modules.items():
            module.load_state_dict(state["modules"][key])
        for key, optimiser in self.objective.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][key])
        self.average.load_state_dict(state["ema"])
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and self.team.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.team.device)
        self.step, self.elapsed, self.best = state["step"], state["elapsed"], state["best"]
        self.sums, self.counted = state["sums"], state["counted"]


def batch_plan(recipe: Recipe, team: Team) -> BatchPlan:
    data = recipe["data"]
    irregular = load_irregular(Path(data["irregular"])) if data["irregular"] and data["irregular_share"] else []
    return BatchPlan(
        size=data["size"],
        count=data["batch"],
        seed=recipe["seed"],
        shapes=data["shapes"],
        counts=data["counts"],
        sizes=data["sizes"],
        jitter=Jitter(**data["jitter"]),
        patches=data["patches"],
        irregular=irregular,
        irregular_share=data["irregular_share"],
        rank=team.rank,
        world=team.world,
    )


def fit_prior(net: nn.Module, faces: np.ndarray, count: int, seed: int) -> None:
    """Fit the face prior of `net` to at most `count` of `faces`, half of them moved about as in training."""
    prior = getattr(net, "prior", None)
    if prior is None:
        raise ModelError("this model has no face prior: set model.prior_faces=0")
    rng = np.random.default_rng([seed, 4])
    chosen = np.sort(rng.permutation(len(faces))[:count])
    crops = np.stack([cut(faces[i], 4 * prior.size, rng, Jitter(colour=0.0)) for i in chosen])
    large = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    prior.fit(F.interpolate(large, size=(prior.size, prior.size), mode="area").to(prior.mean.device))
