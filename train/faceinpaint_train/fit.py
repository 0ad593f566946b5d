"""The loop that trains the finders: AdamW, a cosine, an average of the weights, a checkpoint every 100 steps."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.models.device import resolve_precision
from faceinpaint_train.batches import Batch, prepared
from faceinpaint_train.state import load_state

EVERY = 100
"""Steps from one line of figures and one checkpoint to the next."""
Net = TypeVar("Net", bound=nn.Module)


def fit(
    net: Net,
    make_batch: Callable[[int], Batch],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    folder: Path,
    minutes: float,
    rate: float,
    steps: int = 0,
) -> Net:
    """Train `net` on the CPU for `minutes`, or for `steps` where given; figures go to `folder`/stats.jsonl.

    `make_batch(step)` gives what the network sees and what it should find there; `loss_of` takes its answer in
    float32 and that. Goes on from `folder`/last.ckpt where there is one. Returns the average of the weights. Raises
    UsageError where that is of another network, ModelError where it is broken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net, average = net.to(memory_format=torch.channels_last), copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(net.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)
    bf16 = resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
    step, elapsed = 0, 0.0
    if (folder / "last.ckpt").exists():
        state = load_state(folder / "last.ckpt")
        try:
            net.load_state_dict(state["net"])
            average.load_state_dict(state["ema"])
            optimiser.load_state_dict(state["optimiser"])
            step, elapsed = state["step"], state["elapsed"]
        except (KeyError, RuntimeError):
            raise UsageError(f"{folder} holds a run of another recipe: give another -o") from None
    source = prepared(make_batch, step)
    total: float = 0
    while (done := step / steps if steps else elapsed / 60 / minutes) < 1:
        started = time.monotonic()
        seen, truth = next(source)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * done)))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            answer = net(seen.contiguous(memory_format=torch.channels_last))
        loss = loss_of(answer.float(), truth)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            keep = min(0.998, (step + 1) / (step + 20))
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
        step += 1
        elapsed += time.monotonic() - started
        total += float(loss.detach())
        if step % EVERY == 0:
            row: dict[str, Any] = {"step": step, "minutes": round(elapsed / 60, 2), "loss": total / EVERY}
            with (folder / "stats.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            total = 0
            state = {"net": net.state_dict(), "ema": average.state_dict(), "optimiser": optimiser.state_dict()}
            part = folder / "last.part"
            torch.save(state | {"step": step, "elapsed": elapsed}, part)
            part.replace(folder / "last.ckpt")
    source.close()
    return average
