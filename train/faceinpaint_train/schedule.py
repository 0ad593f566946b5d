"""Learning rates over a run and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn


def rate_factor(step: int, progress: float, warmup: int, flat: float) -> float:
    """Share of the highest learning rate at `step`, `progress` of the run in [0, 1] done: linear warm-up over
    `warmup` steps, constant to `flat`, then half a cosine down to 1 %."""
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if progress < flat:
        return warm
    fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - flat) / max(1e-9, 1 - flat))))
    return warm * max(0.01, fallen)


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, step: int, keep: float) -> None:
    """Move `average` towards `current`; early steps weigh more, so that the start is soon forgotten."""
    keep = min(keep, (step + 1) / (step + 20))
    torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1 - keep)
    for a, b in zip(average.buffers(), current.buffers(), strict=True):
        a.copy_(b)
