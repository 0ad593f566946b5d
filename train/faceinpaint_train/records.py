"""What a run leaves to look at: stats.jsonl, TensorBoard, sample grids and a plot."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faceinpaint_cli.media.atomic import atomic_path

log = logging.getLogger(__name__)


class Records:
    """Figures of one run, appended to `folder`/stats.jsonl and to TensorBoard where that is installed.

    The run goes on from `step`: what was written of later steps is dropped, and the validation at `step` as well where
    it `validates` there, since it will write them again.
    """

    def __init__(self, folder: Path, step: int, validates: bool) -> None:
        self.path = folder / "stats.jsonl"
        if self.path.is_file():
            rows = read_stats(self.path)
            kept = [r for r in rows if r["step"] < step or (r["step"] == step and not (validates and "psnr" in r))]
            with atomic_path(self.path) as part:
                part.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for key, value in row.items():
                if isinstance(value, float):
                    self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def read_stats(path: Path) -> list[dict[str, Any]]:
    """The rows of a stats.jsonl, without a last one that a full disk or a kill left half written."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def save_grid(columns: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Rows of pictures side by side: `columns` are lists of HWC uint8 of one size (shown, made, true)."""
    rows = [np.concatenate(row, 1) for row in zip(*columns, strict=True)]
    half = (len(rows) + 1) // 2
    sheet = np.concatenate(rows[:half], 0)
    if len(rows) > 1 and len(rows) % 2 == 0:
        sheet = np.concatenate([sheet, np.concatenate(rows[half:], 0)], 1)
    Image.fromarray(sheet).save(path)


def save_plot(stats: Path, target: Path) -> bool:
    """Loss and validation PSNR over the steps; False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no plot: matplotlib is not installed (pip install 'faceinpaint[train]')")
        return False
    rows = read_stats(stats)
    figure = Figure(figsize=(8, 5), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    for axis, key, colour in ((left, "loss", "tab:blue"), (right, "psnr", "tab:red")):
        points = [(r["step"], r[key]) for r in rows if key in r]
        if points:
            axis.plot(*zip(*points, strict=True), color=colour)
        axis.set_ylabel("validation PSNR, whole picture (dB)" if key == "psnr" else key, color=colour)
    left.set_xlabel("step")
    figure.savefig(target)
    return True
