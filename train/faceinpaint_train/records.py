"""What a run leaves to look at: stats.jsonl, TensorBoard, sample grids and a plot."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

log = logging.getLogger(__name__)


class Records:
    """Figures of one run, appended to `folder`/stats.jsonl and to TensorBoard where that is installed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stats.jsonl"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for key, value in row.items():
                if isinstance(value, float):
                    self.board.add_scalar(key, value, row["step"])

    def forget_after(self, step: int) -> None:
        """Drop rows of steps after `step`: a resumed run will write them again."""
        if self.path.is_file():
            rows = read_stats(self.path)
            self.path.write_text("".join(json.dumps(r) + "\n" for r in rows if r["step"] <= step))

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def read_stats(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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
