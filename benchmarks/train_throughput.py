"""Share of the bare forward and backward passes in the time of a training step, measured in one run.

    python benchmarks/train_throughput.py FACES... [--recipe NAME ...] [--steps N] [--rounds R] [--set KEY=VALUE ...]

The real loop (batches, step, optimiser, average, figures) runs N steps; then the same losses go forward and backward N
times on one batch, with nothing else; R times in turn, so that both see the same machine. The batches that are ahead at
the start of a round are made again before it ends. Printed: samples a second of both and their ratio, by the clock and
by this process's own processor time, which other programs on the machine do not touch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from faceinpaint_train.batches import Batch
from faceinpaint_train.distributed import Team
from faceinpaint_train.faces import FaceSet, load_faces
from faceinpaint_train.recipe import read_recipe, recipe_names
from faceinpaint_train.trainer import Trainer
from torch import Tensor

AHEAD = 5
"""Batches that the thread of `prepared` has made when it waits: four in the queue and one in its hand."""


class Timed(Trainer):
    """A trainer that lets its report take a turn every run.log_steps, and counts the batches that it makes."""

    made = 0

    def make_batch(self, number: int) -> Batch:
        batch = super().make_batch(number)
        self.made = number + 1
        return batch


class Clock:
    """Seconds by the wall and of this process since it was made."""

    def __init__(self) -> None:
        self.wall, self.own = time.perf_counter(), time.process_time()

    def read(self) -> np.ndarray:
        return np.array([time.perf_counter() - self.wall, time.process_time() - self.own])


def measure(name: str, faces: FaceSet, steps: int, rounds: int, settings: Sequence[str]) -> np.ndarray:
    """Seconds a sample (loop or bare, by the wall or of the process), (2, 2), medians over the rounds."""
    recipe = read_recipe(name, settings)
    recipe["run"] |= {"minutes": 0.0, "steps": steps * (rounds + 1), "log_steps": steps, "validate_steps": 10**6,
                      "validate_faces": 1, "workers": 0}
    recipe["loss"]["adversarial_from"] = 0.0  # all terms from the start
    recipe["model"]["prior_faces"] = 0
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(recipe, faces, Path(folder), Team())
        batch = trainer.make_batch(0)
        loop: list[np.ndarray] = []
        bare: list[np.ndarray] = []
        clock = Clock()

        def report(step: int, share: float, figures: dict[str, float]) -> None:
            nonlocal clock
            while trainer.made < step + AHEAD:
                time.sleep(0.0005)
            loop.append(clock.read())
            clock = Clock()
            forward_and_backward(trainer, batch, steps)
            bare.append(clock.read())
            clock = Clock()

        trainer.run(report)
    first = 1  # the first round holds the warming up
    return np.stack([np.median(loop[first:], 0), np.median(bare[first:], 0)]) / (steps * recipe["data"]["batch"])


def forward_and_backward(trainer: Trainer, batch: Batch, steps: int) -> None:
    """The losses of `steps` steps on one batch and their gradients, which nothing takes."""
    objective = trainer.objective

    def descend(name: str, loss: Tensor) -> Tensor:
        parameters = [p for o in objective.team_of(name) for group in o.param_groups for p in group["params"]]
        torch.autograd.grad(loss, parameters, allow_unused=True)
        return loss.detach()

    objective.descend = descend  # type: ignore[method-assign]
    try:
        truth, shown, mask = (trainer.to_device(part) for part in batch)
        for _ in range(steps):
            objective.step(truth, shown, mask, trainer.step, 1.0)
    finally:
        del objective.descend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--recipe", action="append", choices=recipe_names())
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as cache:
        faces = load_faces(options.data, "auto", Path(cache))
        print("| recipe | samples/s of the loop | bare | share by the clock | by processor time |")
        print("|---|---|---|---|---|")
        for name in options.recipe or recipe_names():
            loop, bare = measure(name, faces, options.steps, options.rounds, options.set)
            shares = " | ".join(f"{share:.3f}" for share in bare / loop)
            print(f"| `{name}` | {1 / loop[0]:.1f} | {1 / bare[0]:.1f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
