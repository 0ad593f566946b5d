"""Held-out faces through the averaged generator, by the project's protocols."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceinpaint_cli.metrics import psnr, ssim_both
from faceinpaint_cli.synthesis.patches import stamp
from faceinpaint_cli.synthesis.shapes import SHAPES
from faceinpaint_train.crops import Jitter, cut

Predict = Callable[[Tensor, Tensor], Tensor]


def validate(
    predict: Predict,
    faces: np.ndarray,
    size: int,
    told: bool,
    device: torch.device,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    batch: int = 8,
) -> tuple[dict[str, float], list[list[np.ndarray]]]:
    """Mean figures over `faces` (N, 218, 178, 3), and three columns of pictures: shown, made, true.

    Told the mask: the centre quarter is hidden (celeba-center25 at `size`). Not told: a white square of a
    quarter of the area, at a place that depends on the face's number (celeba-white-square, on this crop). With a
    `perceptual` distance (of two batches in [-1, 1]) its mean over the pictures is among the figures.
    """
    totals: dict[str, list[float]] = {"psnr": [], "psnr_hole": [], "ssim": [], "ssim_hole": []}
    columns: list[list[np.ndarray]] = [[], [], []]
    for first in range(0, len(faces), batch):
        truth = np.stack([cut(face, size, None, Jitter()) for face in faces[first : first + batch]])
        rngs = [np.random.default_rng([7, first + i]) for i in range(len(truth))]
        holes = np.stack([SHAPES["center" if told else "square"](size, size, rng) for rng in rngs])
        shown = np.stack([stamp(t, h, r, {"white": 1.0}) for t, h, r in zip(truth, holes, rngs, strict=True)])
        image = normalised(shown, device)
        mask = torch.from_numpy(holes)[:, None].to(device).float()
        whole = predict(image.contiguous(memory_format=torch.channels_last), mask * float(told)).float()
        if whole.shape != image.shape:
            whole = F.interpolate(whole, size=image.shape[2:], mode="bicubic", align_corners=False)
        pixels = ((whole + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        made = np.where(holes[..., None], pixels, truth) if told else pixels
        if perceptual is not None:
            distance = float(perceptual(normalised(made, device), normalised(truth, device)))
            totals.setdefault("perceptual", []).extend([distance] * len(truth))
        for m, t, h in zip(made, truth, holes, strict=True):
            totals["psnr"].append(psnr(m, t))
            totals["psnr_hole"].append(psnr(m, t, h))
            both = ssim_both(m, t, h)
            totals["ssim"].append(both[0])
            totals["ssim_hole"].append(both[1])
        if first < 32:
            for column, pictures in zip(columns, (shown, made, truth), strict=True):
                column.extend(pictures)
    return {key: float(np.mean(values)) for key, values in totals.items()}, columns


def normalised(pictures: np.ndarray, device: torch.device) -> Tensor:
    """(N, H, W, 3) uint8 as (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).to(device).float().div_(127.5).sub_(1)
