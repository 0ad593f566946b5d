"""What every test needs to be left as it was found, and what several share."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

PACKAGES = ("", "faceinpaint_cli", "faceinpaint_train", "faceinpaint_bench")


@pytest.fixture(autouse=True)
def logging_as_before():
    """The command line sets levels and handlers for the whole process; the next test starts without them."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def vgg(tmp_path_factory) -> Path:
    """The first two stages of a VGG16 with random filters, in the form of the LPIPS files."""
    torch.manual_seed(0)
    sizes = [(3, 64), (64, 64), (64, 128), (128, 128)]
    weights = {}
    for i, (a, b) in enumerate(sizes):
        weights[f"conv{i}.weight"] = torch.randn(b, a, 3, 3) / (9 * a) ** 0.5
        weights[f"conv{i}.bias"] = torch.zeros(b)
    weights |= {"lin0": torch.ones(64), "lin1": torch.ones(128)}
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(weights, path)
    return path
