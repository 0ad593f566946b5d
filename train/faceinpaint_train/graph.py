"""A training step recorded once as a CUDA graph and replayed: one launch in place of some thousand."""

from __future__ import annotations

import torch
from torch import Tensor

from faceinpaint_cli.errors import UsageError
from faceinpaint_train.distributed import Team
from faceinpaint_train.objectives import Objective

BEFORE = 4
"""Steps that are done as usual before one is recorded: optimisers make their state in the first, cuDNN looks for the
quickest convolutions, and what torch.compile makes is made."""


def check_recordable(team: Team) -> None:
    if team.device.type != "cuda" or team.world > 1:
        raise UsageError("run.graph=true is for one CUDA device and one process: leave it out here")


class RecordedStep:
    """`objective.step` for batches of one shape on one GPU; the figures are as from `objective.step`.

    The networks of this project are small: a step launches thousands of kernels that a GPU is done with before the next
    is told. Recorded, they follow each other without Python. Nothing in a step may ask for a value on the way; learning
    rates are read from the device (`Objective.set_rates`). When other terms of the loss begin to count, it is recorded
    anew.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.graph: torch.cuda.CUDAGraph | None = None
        self.terms: tuple[bool, ...] | None = None
        self.before = 0
        self.batch: list[Tensor] = []
        self.figures: dict[str, Tensor] = {}

    def step(self, truth: Tensor, shown: Tensor, mask: Tensor, number: int, progress: float) -> dict[str, Tensor]:
        """As `Objective.step`. The figures are overwritten by the next step."""
        terms = self.objective.terms_at(progress)
        if terms != self.terms:
            self.graph, self.terms, self.before = None, terms, BEFORE
        if self.before:
            self.before -= 1
            return self._as_usual(truth, shown, mask, number, progress)
        if self.graph is None:
            self._record([truth, shown, mask], number, progress)
            assert self.graph is not None
        else:
            torch._foreach_copy_(self.batch, [truth, shown, mask])
        self.graph.replay()
        return self.figures

    def _as_usual(self, truth: Tensor, shown: Tensor, mask: Tensor, number: int, progress: float) -> dict[str, Tensor]:
        """On a stream of its own, as what comes before a recording has to be."""
        aside = torch.cuda.Stream(self.objective.team.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            figures = self.objective.step(truth, shown, mask, number, progress)
        torch.cuda.current_stream().wait_stream(aside)
        return figures

    def _record(self, batch: list[Tensor], number: int, progress: float) -> None:
        self.batch = [part.clone() for part in batch]
        truth, shown, mask = self.batch
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # the thread that pins batches may call CUDA meanwhile: only this thread's calls are looked at
        try:
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.figures = self.objective.step(truth, shown, mask, number, progress)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a step that asks for a value, as some discriminators do
            reason = str(error).splitlines()[0]
            raise UsageError(f"a step of this recipe cannot be recorded ({reason}): leave out run.graph=true") from None
