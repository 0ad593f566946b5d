"""Suite `video`: clips damaged in their bitstream, and what the decoder, simple repairs and `run` make of it."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from faceinpaint_bench.clips import (
    CODECS,
    DAMAGES,
    STANDARD,
    InStep,
    choose,
    encode,
    names_of,
    open_clips,
    reference_in_time,
)
from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.fillers import Flicker, FlowPropagation, Freeze, PerFrame, Steadiness, Step
from faceinpaint_bench.html import Article
from faceinpaint_cli import metrics
from faceinpaint_cli.errors import DataError, FaceInpaintError
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.synthesis.bitstream import corrupt
from faceinpaint_cli.synthesis.truemask import damaged_pixels, write_mask_video
from faceinpaint_cli.types import Job

STEPS: dict[str, Callable[[], Step]] = {
    "concealment": lambda: lambda frame, mask: frame,
    "freeze": Freeze,
    "telea": lambda: PerFrame("telea"),
    "flow": FlowPropagation,
}
RUNS = {"run": False, "run (true mask)": True}
"""Rows made by the product: whether it is given the true mask or finds the damage itself."""


ROUNDING = 12**-0.5
"""Grey levels by which rounding alone makes pictures differ: a clean clip that stands still does not flicker less."""
WORSE = 0.1
"""Decibels below the concealment from which on a frame counts as made worse."""


@dataclass(frozen=True)
class Worst:
    """A frame with its PSNR inside the damage, in decibels, and how it is shown."""

    psnr: float
    article: Article


@dataclass
class Sums:
    """Squared errors and structural similarity of one method on one clip, pooled over pixels."""

    error: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    ssim: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    lpips: list[float] = field(default_factory=list)
    worse: list[bool] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)
    flicker: list[tuple[float, float, int]] = field(default_factory=list)
    """Squared warping error, that of the clean clip, and pixels of each frame."""
    last: np.ndarray | None = None

    def add(self, result: np.ndarray, truth: np.ndarray, mask: np.ndarray,
            steadiness: Steadiness | None) -> None:
        hurt = bool(mask.any())
        same = np.array_equal(result, truth)
        squares = np.zeros(mask.shape) if same else np.square(result.astype(np.float32) - truth).sum(2, np.float64)
        whole, inside = (1.0, 1.0) if same else metrics.ssim_both(result, truth, mask if hurt else None)
        self._pool("", squares.sum(), mask.size, whole)
        if hurt:
            self._pool("_damaged", squares.sum(), mask.size, whole)
            self._pool("_inside", squares[mask].sum(), int(mask.sum()), inside)
            if steadiness is not None and self.last is not None:
                error = metrics.warping_error(result, self.last, steadiness.flow, steadiness.where)
                self.flicker.append((error**2, steadiness.clean**2, int(steadiness.where.sum())))
        self.last = result

    def _pool(self, name: str, error: float, pixels: int, ssim: float) -> None:
        self.error[name] = self.error.get(name, 0.0) + float(error)
        self.count[name] = self.count.get(name, 0) + pixels
        self.ssim.setdefault(name, []).append((ssim, pixels))

    def row(self) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name in ("", "_damaged", "_inside"):
            if name in self.error:
                mse = max(self.error[name] / (3 * self.count[name]), metrics.LEAST_MSE)
                found["psnr" + name] = 10 * math.log10(metrics.PEAK**2 / mse)
                values, weights = zip(*self.ssim[name], strict=True)
                found["ssim" + name] = float(np.average(values, weights=weights))
        if self.worse:
            found["worse"] = float(np.mean(self.worse))
        if self.exact:
            found["exact"] = float(np.mean(self.exact))
        if self.lpips:
            found["lpips_damaged"] = float(np.mean(self.lpips))
        if self.flicker:
            errors, clean, pixels = zip(*self.flicker, strict=True)
            found["warping_error"] = float(np.average(errors, weights=pixels)) ** 0.5
            of_clean = float(np.average(clean, weights=pixels)) ** 0.5
            found["flicker"] = found["warping_error"] / max(of_clean, ROUNDING)
        return found


def _codecs(config: BenchConfig) -> list[str]:
    return choose(config.codecs, CODECS, "--codecs", STANDARD)


def _branches(config: BenchConfig) -> list[str]:
    return choose(config.branches, DAMAGES, "--branches", ("base",))


def known_protocol(config: BenchConfig) -> dict[str, Any]:
    """What the protocol is before any work; None for settings that are left to their defaults."""
    return {"name": "bscv", "dataset": config.dataset, "seed": config.seed, "codecs": _codecs(config),
            "branches": _branches(config), "frames": config.frames,
            "fidelity": config.fidelity[0] if config.fidelity else None}


def run_video(
    config: BenchConfig, watch: Callable[[Iterable[Any], int], Iterable[Any]]
) -> tuple[dict[str, Any], list[Article]]:
    """Rows per clip, codec, kind of damage and method, and means over the clips; and the worst frames, worst first."""
    paths = open_clips(config.data)[:config.limit]
    names = names_of(paths)
    codecs, branches = _codecs(config), _branches(config)
    methods = choose(config.methods, {**STEPS, **RUNS}, "--methods", (*STEPS, *RUNS))
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        digest.update(name.encode() + b"\0" + path.read_bytes())
    lpips = metrics.Lpips(config.lpips) if config.lpips else None
    rows: list[dict[str, Any]] = []
    worst: list[Worst] = []
    unused: dict[str, str] = {}
    work = [(n, p, c, b) for n, p in zip(names, paths, strict=True) for c in codecs for b in branches]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, path, codec, branch) in enumerate(watch(work, len(work))):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            try:
                found, frame = _measure(name, path, codec, branch, methods, config, folder, lpips)
            except (FaceInpaintError, av.FFmpegError) as error:
                unused[f"{name} {codec} {branch}"] = " ".join(str(error).replace(f"{folder}/", "").split())
                continue
            rows += found
            if frame is not None:
                worst = sorted([*worst, frame], key=lambda w: w.psnr)[: config.examples]
    if not rows:
        first = ": ".join(next(iter(unused.items())))
        raise DataError(f"DATA: none of {len(work)} could be measured; the first: {first}")
    means = _means(rows)
    return {
        "protocol": {
            **{key: value for key, value in known_protocol(config).items() if value is not None},
            "n": len(paths), "inputs_sha256": digest.hexdigest(),
            "psnr": "squared error pooled over the pixels of the clip",
            "masks": "given to freeze, telea, flow and run (true mask); withheld from run",
        },
        "rows": means + rows, "pairs": [], "left_out": {},
        "unused": [{"name": name, "error": error, "failed": True} for name, error in unused.items()],
    }, [w.article for w in worst]


def _measure(clip_name: str, path: Path, codec: str, branch: str, methods: list[str], config: BenchConfig,
             folder: Path, lpips: metrics.Lpips | None) -> tuple[list[dict[str, Any]], Worst | None]:
    """The rows of one damaged clip, and its worst frame."""
    clip, damaged, mask = folder / "clip.mp4", folder / "damaged.mp4", folder / "mask.mkv"
    encode(path, codec, clip, config.frames)
    how = replace(DAMAGES[branch], seed=config.seed)
    if how.kind == "ts":
        damaged = damaged.with_suffix(".ts")
    done = corrupt(clip, damaged, how, folder)
    frames, hurt = write_mask_video(done.reference, damaged, mask)
    outputs: dict[str, Path] = {}
    rows = {m: {"method": m, "clip": clip_name, "codec": codec, "branch": branch, "n": 1, "n_total": 1,
                "frames": frames, "frames_damaged": hurt, "failed": []} for m in methods}
    for name in [m for m in methods if m in RUNS]:
        target, start = folder / f"out-{len(outputs)}{damaged.suffix}", time.perf_counter()
        error = _product(damaged, target, mask if RUNS[name] else None, config)
        if error is None:
            outputs[name] = target
            rows[name]["fps"] = frames / (time.perf_counter() - start)
        else:
            error = error.replace(f"{folder}/", "")
            rows[name] |= {"n": 0, "failed": [{"name": f"{clip_name} {codec} {branch}", "error": error}]}
    steps = {m: STEPS[m]() for m in methods if m in STEPS}
    compared, worst = _compare(done.reference, damaged, steps, outputs, lpips,
                               f"{Path(clip_name).with_suffix('')}, {codec}, {branch}")
    for name, row in compared.items():
        rows[name] |= row
    return list(rows.values()), worst


def _product(damaged: Path, target: Path, mask: Path | None, config: BenchConfig) -> str | None:
    """Run the product on a file; its error where it failed."""
    settings = config.run_settings(mask=str(mask) if mask else None)
    try:
        repair_video(Job(damaged, target, "video", Path(damaged.name)), settings, Stages(settings))
    except Exception as error:  # a figure of the report, with its message
        return f"{type(error).__name__}: {error}"
    return None


def _compare(reference: Path, damaged: Path, steps: dict[str, Step], outputs: dict[str, Path],
             lpips: metrics.Lpips | None, title: str) -> tuple[dict[str, dict[str, Any]], Worst | None]:
    """Read reference, damaged file and outputs in step, and measure every method; and the frame that the last one did
    worst on. Holds a few frames at a time."""
    worst: Worst | None = None
    sums = {name: Sums() for name in (*steps, *outputs)}
    concealed, repaired = InStep(damaged), {name: InStep(path) for name, path in outputs.items()}
    flicker = Flicker()
    for number, (at, near, truth) in enumerate(reference_in_time(reference)):
        shown = concealed.at(at, near, truth)
        mask = damaged_pixels(_luma(truth), _luma(shown))
        steadiness = flicker.step(truth, mask)
        results = {name: step(shown, mask) for name, step in steps.items()}
        results |= {name: file.at(at, near, truth) for name, file in repaired.items()}
        for name, result in results.items():
            sums[name].add(result, truth, mask, steadiness)
        if not np.array_equal(shown, truth):
            for name, result in results.items():
                sums[name].exact.append(np.array_equal(result, truth))
        if mask.any():
            inside = {name: metrics.psnr(result, truth, mask) for name, result in results.items()}
            concealment = metrics.psnr(shown, truth, mask)
            last = next(reversed(inside.values()), math.inf)
            if last < (worst.psnr if worst else math.inf):
                figures = [(r, f"{name}: {inside[name]:.2f} dB inside") for name, r in results.items()]
                worst = Worst(last, (f"{title}, frame {number}", [*figures, (truth, "original")]))
            features = lpips.features(truth) if lpips else []
            for name, result in results.items():
                sums[name].worse.append(inside[name] < concealment - WORSE)
                if lpips:
                    sums[name].lpips.append(lpips.distance(lpips.features(result), features))
    found = {}
    for name, measured in sums.items():
        file = repaired.get(name, concealed)
        file.finish()
        found[name] = measured.row() | {"frame_errors": abs(file.extra - file.missing), "sync_errors": file.missing}
    return found, worst


def _luma(rgb: np.ndarray) -> np.ndarray:
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the clips, a row for each method, codec and branch, where there are several clips."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["codec"], row["branch"], row["method"]), []).append(row)
    found = []
    for (codec, branch, method), members in groups.items():
        if len(members) < 2:
            continue
        done = [m for m in members if m["n"]]
        keys = list(dict.fromkeys(k for m in done for k, v in m.items() if isinstance(v, float)))
        row = {"method": method, "clip": "all", "codec": codec, "branch": branch, "n": len(done),
               "n_total": len(members), "frame_errors": sum(m["frame_errors"] for m in done),
               "sync_errors": sum(m["sync_errors"] for m in done),
               "failed": [f for m in members for f in m["failed"]]}
        for key in keys:
            values = [m[key] for m in done if m.get(key) is not None]
            row[key] = float(np.mean(values)) if values else None
        found.append(row)
    return found


