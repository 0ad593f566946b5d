"""How near a repaired picture is to the truth: pure functions on one picture, and what to make of many.

Pictures are HWC uint8 RGB, already rounded to 8 bits, masks HW bool (True = hole). PSNR is taken per picture
and then averaged; "hole" means the hole's pixels alone (for SSIM: the index of windows centred on them).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from faceinpaint_cli.errors import DataError, ModelError

PEAK = 255.0
LEAST_MSE = 1e-10
"""Mean squared error below which pictures count as equal, which caps PSNR at 148.13 dB instead of
infinity."""

SSIM_LEAST_SIDE = 11
"""Side of SSIM's Gaussian window in pixels (sigma 1.5; Wang et al., IEEE TIP 2004): smaller pictures have
none."""


def psnr(result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE) over all channels; inside `mask` if one is
    given.

    DataError where the sizes differ or the mask is empty.
    """
    _check(result, truth, mask)
    a, b = (result, truth) if mask is None else (result[mask], truth[mask])
    if not a.size:
        raise DataError("PSNR inside a hole needs a hole, but the mask is empty")
    x, y = (torch.from_numpy(v.astype(np.float64)) for v in (a, b))
    value = float(peak_signal_noise_ratio(x, y, data_range=PEAK))
    return min(value, 10 * math.log10(PEAK**2 / LEAST_MSE))


def ssim(result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity with torchmetrics' defaults; over the hole's pixels if a mask is given."""
    whole, hole = ssim_both(result, truth, mask)
    return whole if mask is None else hole


def ssim_both(result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> tuple[float, float]:
    """Structural similarity of the whole picture and of the hole (nan without a mask), in one pass.

    The mean is over every pixel, the border mirrored, as in recent torchmetrics; older versions leave out a
    border of five pixels, which makes the figure of a hole in the middle lower.
    """
    _check(result, truth, mask)
    if min(truth.shape[:2]) < SSIM_LEAST_SIDE:
        raise DataError(f"SSIM needs pictures of at least {SSIM_LEAST_SIDE} x {SSIM_LEAST_SIDE} pixels, "
                        f"not {truth.shape[1]} x {truth.shape[0]}")
    _, full = structural_similarity_index_measure(
        _batch(result) / PEAK, _batch(truth) / PEAK, data_range=1.0, return_full_image=True)
    index = full[0].mean(0).numpy()
    if mask is None:
        return float(index.mean()), math.nan
    if not mask.any():
        raise DataError("SSIM inside a hole needs a hole, but the mask is empty")
    return float(index.mean()), float(index[mask].mean())


def warping_error(result: np.ndarray, previous: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> float:
    """Flicker: RMS difference, in 8-bit steps, between a frame and the one before it moved by the motion.

    `flow` (HW2, pixels) says where in `previous` each pixel of `result` comes from, measured on the undamaged
    pictures; `valid` (HW bool) where that is known. After Lai et al., "Learning Blind Video Temporal
    Consistency", ECCV 2018. nan where nothing is valid.
    """
    _check(result, previous, valid)
    if not valid.any():
        return math.nan
    h, w = valid.shape
    x = (np.arange(w, dtype=np.float32) + flow[..., 0]) * (2 / max(w - 1, 1)) - 1
    y = (np.arange(h, dtype=np.float32)[:, None] + flow[..., 1]) * (2 / max(h - 1, 1)) - 1
    grid = torch.from_numpy(np.stack([x, y], -1).astype(np.float32))[None]
    moved = F.grid_sample(_batch(previous), grid, align_corners=True, padding_mode="border")
    difference = (_batch(result) - moved)[0].permute(1, 2, 0).numpy()[valid]
    return float(np.sqrt(np.mean(difference.astype(np.float64) ** 2)))


class Lpips:
    """Learned perceptual distance (Zhang et al., CVPR 2018; 0 = equal) from a local safetensors file.

    The file holds the convolutions of AlexNet (5) or VGG16 (13) in network order as `conv{i}.weight`,
    `conv{i}.bias`, and the weights of the five compared layers as `lin0..4`.
    """

    SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
    POOL_BEFORE: ClassVar = {5: (1, 2), 13: (2, 4, 7, 10)}
    COMPARED: ClassVar = {5: (0, 1, 2, 3, 4), 13: (1, 3, 6, 9, 12)}

    def __init__(self, path: Path) -> None:
        try:
            self._weights = {name: value.float() for name, value in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"--lpips {path}: not a readable safetensors file ({error})") from None
        self._count = sum(name.startswith("conv") and name.endswith(".weight") for name in self._weights)
        if self._count not in self.COMPARED or not all(f"lin{i}" in self._weights for i in range(5)):
            raise ModelError(f"--lpips {path}: expected 5 (AlexNet) or 13 (VGG16) convolutions and "
                             f"lin0..4, found {self._count} convolutions")
        self.name = {5: "alex", 13: "vgg16"}[self._count]

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> list[Tensor]:
        """The compared layers of one picture, each 1CHW of unit length along the channels."""
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.SHIFT, self.SCALE))
        x = (_batch(image) / 127.5 - 1 - shift) / scale
        found, alex = [], self._count == 5
        for i in range(self._count):
            if i in self.POOL_BEFORE[self._count]:
                x = F.max_pool2d(x, 3, 2) if alex else F.max_pool2d(x, 2)
            weight, bias = self._weights[f"conv{i}.weight"], self._weights[f"conv{i}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, stride=4 if alex and i == 0 else 1,
                                padding=2 if alex and i < 2 else 1))
            if i in self.COMPARED[self._count]:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    @torch.inference_mode()
    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
        """Distance between two lists of `features`."""
        return sum(float(((x - y).square() * self._weights[f"lin{i}"].view(1, -1, 1, 1)).sum(1).mean())
                   for i, (x, y) in enumerate(zip(a, b, strict=True)))

    def __call__(self, result: np.ndarray, truth: np.ndarray) -> float:
        _check(result, truth, None)
        return self.distance(self.features(result), self.features(truth))


class Identity:
    """Whether it is the same person: cosine of facenet-pytorch's InceptionResnetV1 embeddings, 1 = the same.

    Needs the network's weights as a local file (safetensors, or the .pt that facenet-pytorch publishes).
    """

    SIDE = 160  # what the network was trained at

    def __init__(self, path: Path) -> None:
        from facenet_pytorch import InceptionResnetV1

        try:
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        except Exception as error:
            raise ModelError(f"--identity {path}: not readable weights ({error})") from None
        self._net = InceptionResnetV1(classify=False)
        state = {name: value for name, value in state.items() if not name.startswith("logits.")}
        try:
            self._net.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(f"--identity {path}: not weights of InceptionResnetV1 ({error})"[:300]) from None
        self._net.eval()

    @torch.inference_mode()
    def embedding(self, image: np.ndarray) -> Tensor:
        """(512,) of unit length for a picture that shows one face."""
        x = F.interpolate(_batch(image), (self.SIDE, self.SIDE), mode="bilinear", antialias=True)
        return self._net((x - 127.5) / 128)[0]

    def __call__(self, result: np.ndarray, truth: np.ndarray) -> float:
        return float(self.embedding(result) @ self.embedding(truth))


@dataclass
class Scores:
    """Thin accumulator: the measures of many pictures, in the order in which they were added."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measures: Mapping[str, float]) -> None:
        for name, value in measures.items():
            self.values.setdefault(name, []).append(value)

    def __len__(self) -> int:
        return max((len(v) for v in self.values.values()), default=0)

    def mean(self, name: str) -> float | None:
        """Mean over the pictures; None where it was not measured."""
        values = [v for v in self.values.get(name, ()) if not math.isnan(v)]
        return float(np.mean(values)) if values else None


def summary(values: Iterable[float], seed: int = 0) -> dict[str, float | list[float]]:
    """Mean, median, 5th percentile and 95 % interval of the mean of at least one value."""
    v = np.asarray(list(values), np.float64)
    return {"mean": float(v.mean()), "median": float(np.median(v)), "p5": float(np.percentile(v, 5)),
            "ci95": list(bootstrap_interval(v, seed))}


def bootstrap_interval(values: np.ndarray | Sequence[float], seed: int = 0, resamples: int = 2000,
                       level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979), seeded."""
    v = np.asarray(values, np.float64)
    if not v.size:
        raise DataError("an interval needs at least one value")
    rng = np.random.default_rng(seed)
    means = np.concatenate([v[rng.integers(0, v.size, (min(200, resamples - done), v.size))].mean(1)
                            for done in range(0, resamples, 200)])
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def paired_difference(a: Sequence[float], b: Sequence[float],
                      seed: int = 0) -> dict[str, float | list[float]]:
    """Mean of a - b over the same pictures in the same order, with its 95 % interval: if that excludes zero,
    one is better than the other on pictures like these."""
    if len(a) != len(b):
        raise DataError(f"a paired difference needs the same pictures, not {len(a)} and {len(b)}")
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return {"mean": float(d.mean()), "ci95": list(bootstrap_interval(d, seed))}


def _batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def _check(result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> None:
    if result.shape != truth.shape:
        raise DataError(f"pictures to compare must have one size, not {result.shape} and {truth.shape}")
    if mask is not None and mask.shape != truth.shape[:2]:
        raise DataError(f"the mask must have the picture's size {truth.shape[:2]}, not {mask.shape}")
