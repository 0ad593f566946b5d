"""Batches that depend on nothing but the seed and their number, made ahead in a thread or in processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from faceinpaint_cli.synthesis.irregular import draw_irregular
from faceinpaint_cli.synthesis.patches import stamp
from faceinpaint_cli.synthesis.shapes import COUNTS, SIZES, draw_mask
from faceinpaint_train.crops import Jitter, cut

Batch = tuple[torch.Tensor, ...]
MOST_WORKERS = 16
"""Processes beyond these would wait: sixteen make ten thousand crops of 256 pixels a second."""


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is made of: `size` in pixels, `count` of samples per process, `shapes` and `patches` as kind
    to share, `counts` and `sizes` of shapes as kind to least and most, `irregular` masks drawn in a share of the
    samples. Without patches the hole is only hidden.
    """

    size: int
    count: int
    seed: int
    shapes: Mapping[str, float]
    jitter: Jitter
    counts: Mapping[str, Sequence[int]] = field(default_factory=lambda: COUNTS)
    sizes: Mapping[str, Sequence[float]] = field(default_factory=lambda: SIZES)
    patches: Mapping[str, float] = field(default_factory=dict)
    irregular: Sequence[np.ndarray] = ()
    irregular_share: float = 0.0
    rank: int = 0
    world: int = 1


def sample_indices(plan: BatchPlan, step: int, available: int) -> np.ndarray:
    """Which faces batch `step` of this process shows: every face once per epoch, in a new order each time."""
    first = (step * plan.world + plan.rank) * plan.count
    epochs, places = np.divmod(np.arange(first, first + plan.count), available)
    orders = {int(e): np.random.default_rng([plan.seed, 1, int(e)]).permutation(available) for e in set(epochs)}
    return np.array([orders[int(e)][place] for e, place in zip(epochs, places, strict=True)])


def make_batch(faces: np.ndarray, plan: BatchPlan, step: int) -> Batch:
    """Batch `step` of `faces` (N, 218, 178, 3) uint8: true and shown pictures (B, 3, S, S) uint8 and masks
    (B, 1, S, S) bool. The shown picture is the true one where nothing is stamped over the hole."""
    rng = np.random.default_rng([plan.seed, 2, plan.rank, step])
    chosen = sample_indices(plan, step, len(faces))
    truth = [cut(faces[i], plan.size, rng, plan.jitter) for i in chosen]
    masks = [_mask(plan, rng) for _ in chosen]
    true = shown = _pictures(truth)
    if plan.patches:
        others = truth[1:] + truth[:1]
        shown = _pictures([
            stamp(image, mask, rng, plan.patches, [other])
            for image, mask, other in zip(truth, masks, others, strict=True)
        ])
    return true, shown, torch.from_numpy(np.stack(masks))[:, None]


def _mask(plan: BatchPlan, rng: np.random.Generator) -> np.ndarray:
    if len(plan.irregular) and rng.random() < plan.irregular_share:
        return draw_irregular(plan.size, plan.size, rng, plan.irregular)
    return draw_mask(plan.size, plan.size, rng, plan.shapes, plan.counts, plan.sizes)


def _pictures(images: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def usable_workers(asked: int, device: torch.device) -> int:
    """How many processes make batches: as `asked`, or with -1 one for every core but the one that feeds a GPU. A CPU
    that trains has no core to spare, and where forking is not safe the faces would be copied to each: 0, a thread."""
    if sys.platform != "linux":
        return 0
    if asked >= 0:
        return asked
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1) if device.type == "cuda" else 0


class _Numbered(Dataset[Batch]):
    """Batches by their number from `first` on."""

    def __init__(self, make: Callable[[int], Batch], first: int) -> None:
        self.make, self.first = make, first

    def __getitem__(self, place: int) -> Batch:
        return self.make(self.first + place)


def _leave_signals(worker: int) -> None:
    """Ctrl-C in a terminal reaches every process, and so may SIGTERM: the one that trains finishes its step and then
    ends the workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)


@contextlib.contextmanager
def batches_ahead(
    make: Callable[[int], Batch], first: int, workers: int, pinned: bool = False
) -> Iterator[Iterator[Batch]]:
    """make(`first`), make(`first` + 1), ... without end, made ahead by so many `workers` (processes; 0: a thread), in
    the order of their numbers. `pinned` puts them where a GPU fetches them from without waiting.
    """
    if not workers:
        source = prepared(make, first)
        try:
            yield source
        finally:
            source.close()
        return
    loader = DataLoader(
        _Numbered(make, first), sampler=itertools.count(), batch_size=None, num_workers=workers, prefetch_factor=4,
        multiprocessing_context="fork", pin_memory=pinned, worker_init_fn=_leave_signals,
    )
    batches = iter(loader)
    try:
        yield batches
    finally:  # an error on its way keeps the iterator, and Python would wait at its end for workers that leave SIGTERM
        batches._shutdown_workers()


def prepared(make: Callable[[int], Batch], first: int, ahead: int = 4) -> Generator[Batch, None, None]:
    """make(`first`), make(`first` + 1), ... without end, made ahead in a thread whose errors are raised here."""
    ready: queue.Queue = queue.Queue(ahead)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        step = first
        try:
            while put(make(step)):
                step += 1
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
