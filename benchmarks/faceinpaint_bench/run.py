"""One run of `bench`: measure, report, compare."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from faceinpaint_bench import gate, html, plots, protocols, report
from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.images import ImagesResult, make_pairs, make_rows, run_images
from faceinpaint_bench.protocols import Case
from faceinpaint_cli.errors import GateError, OutputError, UsageError
from faceinpaint_cli.media.atomic import atomic_path

T = TypeVar("T")


def run_bench(config: BenchConfig, progress: bool = False) -> dict[str, Any]:
    """Measure as `config` says, write the reports into its output folder, and return what bench.json holds.

    GateError, after everything is written, where something is worse than the baseline beyond the tolerance.
    """
    tolerance = gate.parse_tolerance(config.tolerance)
    baseline = gate.read_baseline(config.gate) if config.gate else None
    if baseline is not None and config.gate is not None:  # what is known before any work
        gate.check_comparable(config.suite, _known_protocol(config), baseline, config.gate, whole=False)
        if not gate.compared(baseline, config.methods):
            raise UsageError(f"--gate {config.gate} has no row of these --methods: nothing would be compared; measure "
                             "its methods, or write a new one with --update-baseline")
    output = _folder(config.output)

    def watch(values: Iterable[T], total: int) -> Iterable[T]:
        return tqdm(values, total=total, disable=not progress, unit="case")

    result: ImagesResult | None = None
    articles: list[html.Article] = []
    if config.suite == "images":
        result = run_images(config, watch, _saver(output) if config.save_inputs else None)
        body = _images_report(config, result)
        articles = [html.example_article(e) for e in result.examples]
    elif config.suite == "speed":
        from faceinpaint_bench.speed import run_speed

        body = run_speed(config, watch)
    else:
        from faceinpaint_bench.video import run_video

        body, articles = run_video(config, watch)
    found: dict[str, Any] = {"schema": gate.SCHEMA, "suite": config.suite, **body,
                             "environment": environment(config)}
    if baseline is not None and config.gate is not None:
        gate.check_comparable(config.suite, found["protocol"], baseline, config.gate)
        found["regressions"] = gate.regressions(found, baseline, tolerance, config.methods)
    _write(config, output, found, result, articles)
    if config.update_baseline is not None and not found.get("regressions"):
        _text(config.update_baseline, report.to_json(found))
    if found.get("regressions"):
        raise GateError("\n".join([f"{len(found['regressions'])} figures are worse than in {config.gate}:",
                                   *found["regressions"]]))
    return found


def _known_protocol(config: BenchConfig) -> dict[str, Any]:
    if config.suite == "images":
        return protocols.known_protocol(config)
    if config.suite == "speed":
        from faceinpaint_bench import speed

        return speed.known_protocol(config)
    from faceinpaint_bench import video

    return video.known_protocol(config)


def environment(config: BenchConfig) -> dict[str, Any]:
    """What figures may depend on without being part of the protocol."""
    found: dict[str, Any] = {"python": sys.version.split()[0], "threads": torch.get_num_threads(),
                             "device": config.device, "opencv": cv2.__version__}
    for package in ("faceinpaint", "torch", "torchvision", "torchmetrics", "numpy", "pillow", "av",
                    "scikit-image", "pypatchmatch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _images_report(config: BenchConfig, result: ImagesResult) -> dict[str, Any]:
    return {
        "protocol": result.protocol,
        "rows": make_rows(result, config.seed),
        "pairs": make_pairs(result, config.seed),
        "left_out": result.left_out,
        "unused": [asdict(u) for u in result.unused],
    }


def _write(config: BenchConfig, output: Path, found: dict[str, Any], result: ImagesResult | None,
           articles: Sequence[html.Article]) -> None:
    drawn: list[tuple[str, str]] = []
    if result is not None:
        scores = {o.method.name: o.scores for o in result.outcomes}
        _text(output / "scores.csv", report.to_csv(scores, result.holes))
        try:
            drawn = plots.hole_and_time(found["rows"])
        except UsageError as error:
            found["left_out"]["plots"] = str(error)
    _text(output / "bench.json", report.to_json(found))
    _text(output / "bench.md", report.to_markdown(found))
    _text(output / "bench.html", html.page(found, drawn, articles))
    if config.junit is not None:
        _text(config.junit, report.to_junit(found))


def _saver(output: Path) -> Any:
    def save(case: Case) -> None:
        for kind, picture in (("damaged", case.damaged), ("masks", case.mask.astype(np.uint8) * 255),
                              ("truth", case.truth)):
            target = output / "inputs" / kind / Path(case.name).with_suffix(".png")
            with atomic_path(target) as path:
                Image.fromarray(picture).save(path)

    return save


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise OutputError(f"--output {path} must be a folder, but is a file")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--output {path} cannot be made ({error})") from None
    return path


def _text(target: Path, text: str) -> None:
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")
