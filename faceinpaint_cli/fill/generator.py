"""The generator at work: crops of many pictures in batches, on the device that there is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from faceinpaint_cli.errors import DeviceError, ModelError
from faceinpaint_cli.models.checkpoint import load_generator
from faceinpaint_cli.models.device import resolve_device, resolve_precision

if TYPE_CHECKING:
    from faceinpaint_cli.config import RunConfig

AUTO_BATCH = {"cpu": 4, "cuda": 32}
"""On a CPU larger batches gain nothing and cost cache; on a GPU 32 crops of 256 pixels take 1-2 GB."""


class Generator:
    """A loaded generator; `size` is the side of its crops in pixels, `told` whether it makes use of the mask."""

    def __init__(self, config: RunConfig) -> None:
        self.device = resolve_device(config.device)
        self.dtype = resolve_precision(config.precision, self.device)
        loaded = load_generator(config.model, config.fidelity)
        if loaded.size % loaded.multiple:
            raise ModelError(f"--model {config.model}: size {loaded.size} is no multiple of {loaded.multiple}")
        self.size = loaded.size
        self.told = loaded.told
        self.sha256 = loaded.sha256
        auto = config.batch_size == "auto"
        self.batch_size = AUTO_BATCH[self.device.type] if auto else int(config.batch_size)
        # On a CPU each batch runs on one thread and batches run side by side: threads that share a layer wait for
        # the slowest of them, which on a busy machine costs five times what it gains.
        self.workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.module = loaded.module.to(self.device, memory_format=torch.channels_last)

    def predict(self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Whole predictions (S, S, 3) float32 in [0, 1] for crops (S, S, 3) float32 in [0, 1] and their holes
        (S, S) bool. A batch too large for the memory is halved, for good; DeviceError if one crop is.
        """
        if self.device.type == "cpu":
            return self._predict_side_by_side(images, holes)
        results: list[np.ndarray] = []
        while len(results) < len(images):
            part = slice(len(results), len(results) + self.batch_size)
            try:
                results.extend(self._predict_batch(np.stack(images[part]), np.stack(holes[part])))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if self.batch_size == 1:
                    raise DeviceError(f"no memory for one crop on {self.device}; use --device cpu") from None
                self.batch_size //= 2
        return results

    def _predict_side_by_side(self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray]) -> list[np.ndarray]:
        size = max(1, min(self.batch_size, -(-len(images) // self.workers)))
        parts = [slice(i, i + size) for i in range(0, len(images), size)]
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            batches = pool.map(lambda part: self._predict_batch(np.stack(images[part]), np.stack(holes[part])), parts)
            return [picture for batch in batches for picture in batch]

    @torch.inference_mode()
    def _predict_batch(self, images: np.ndarray, holes: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last in memory already
        m = torch.from_numpy(holes[:, None].astype(np.float32))
        if self.device.type == "cuda":
            x = x.pin_memory().to(self.device, non_blocking=True)
            m = m.pin_memory().to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            y = self.module(x * 2 - 1, m)
        y = (y.float() * 0.5 + 0.5).clamp(0, 1)
        return y.permute(0, 2, 3, 1).contiguous().cpu().numpy()
