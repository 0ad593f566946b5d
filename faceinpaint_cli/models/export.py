"""Generators as ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from faceinpaint_cli.errors import ModelError, UsageError
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.models.checkpoint import load_generator

OPSET = 18
TOLERANCE = 1.0
"""Largest difference between ONNX Runtime and PyTorch that passes, in steps of 8 bits."""


def export_onnx(model: str, target: Path, fidelity: float) -> float:
    """Write `model` to `target` for batches of any size of its crops: inputs `image` (N, 3, S, S) in [-1, 1] and
    `mask` (N, 1, S, S), output `whole`. Returns the largest difference from PyTorch in steps of 8 bits.

    Raises UsageError where the onnx extra is not installed, ModelError where ONNX Runtime gives another picture.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        missing = f"--onnx needs the onnx extra ({error.name} is missing)"
        raise UsageError(f"{missing}: pip install 'faceinpaint[onnx]'") from None
    loaded = load_generator(model, fidelity)
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, loaded.size, loaded.size, generator=rng) * 2 - 1
    mask = torch.zeros(2, 1, loaded.size, loaded.size)
    mask[..., loaded.size // 4 : loaded.size // 2, loaded.size // 4 : -loaded.size // 4] = 1
    batch = torch.export.Dim("batch", min=1)
    with atomic_path(target) as part, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            loaded.module,
            (image, mask),
            str(part),
            input_names=["image", "mask"],
            output_names=["whole"],
            opset_version=OPSET,
            dynamic_shapes=({0: batch}, {0: batch}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        made = session.run(None, {"image": image[:1].numpy(), "mask": mask[:1].numpy()})[0]
        difference = float(np.abs(made - loaded.module(image[:1], mask[:1]).numpy()).max() * 127.5)
        if difference > TOLERANCE:
            raise ModelError(f"ONNX Runtime differs from PyTorch by {difference:.1f} of 255: nothing was written")
    return difference
