"""Suite `speed`: pictures per second of each method, frames per second of each stage and of the whole."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from faceinpaint_bench.clips import open_clips
from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.methods import SANITY, Method, build_methods
from faceinpaint_bench.protocols import Cases
from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.media.planes import ToRgb
from faceinpaint_cli.media.video_index import location
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.types import Job

SIZES = (128, 256, 512)
REPEATS = 3
PATIENCE = 5.0
"""Seconds after which a method is not repeated."""

STAGE_FRAMES = 16
"""Frames on which the slow stages are timed."""


def known_protocol(config: BenchConfig) -> dict[str, Any]:
    """What the protocol is before any work; None for settings that are left to their defaults."""
    return {"name": "speed", "dataset": "samples", "sizes": list(SIZES), "repeats": REPEATS, "device": config.device,
            "fidelity": config.fidelity[0] if config.fidelity else None}


def run_speed(config: BenchConfig, watch: Callable[[Iterable[Any], int], Iterable[Any]]) -> dict[str, Any]:
    """Rows of methods by size, then of stages and of whole runs on the first clip."""
    clip = open_clips(config.data)[0]
    methods, left_out = build_methods(config)
    methods = [m for m in methods if m.kind not in SANITY]
    tasks: list[Callable[[], list[dict[str, Any]]]] = [partial(_picture_row, m, s, config)
                                                       for s in SIZES for m in methods]
    tasks += [partial(_stage_rows, clip, config), partial(_whole_rows, clip, config)]
    rows = [row for task in watch(tasks, len(tasks)) for row in task()]
    base = next(r["fps"] for r in rows if r.get("stage") == "decode + encode")
    for row in rows:
        if "fps" in row:
            row["ratio"] = row["fps"] / base
    protocol = {key: value for key, value in known_protocol(config).items() if value is not None}
    return {"protocol": {**protocol, "clip": clip.name},
            "rows": rows, "pairs": [], "left_out": left_out, "unused": []}


def _picture_row(method: Method, size: int, config: BenchConfig) -> list[dict[str, Any]]:
    cases = Cases(BenchConfig(output=config.output, size=size, seed=config.seed, limit=1))
    case = next(iter(cases))
    seconds, memory = best_time(lambda: method.fill(case)), peak_memory()
    return [{"method": method.name, "kind": method.kind, "stage": "picture", "size": size,
             "images_per_second": 1 / seconds, "ms_per_image": 1000 * seconds, "memory_mib": memory}]


def best_time(work: Callable[[], Any]) -> float:
    """Seconds of the quickest of REPEATS runs after one to warm up; a slow one is run once."""
    start = time.perf_counter()
    work()
    first = time.perf_counter() - start
    if first > PATIENCE:
        return first
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory() -> float:
    """Largest resident memory of this process so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held before this process began, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _stage_rows(clip: Path, config: BenchConfig) -> list[dict[str, Any]]:
    from faceinpaint_cli.fill.filler import FillItem

    to_rgb = ToRgb()
    frames = list(islice(_decoded(clip), STAGE_FRAMES))
    pictures = [to_rgb(f) for f in frames]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mp4"
        count = sum(1 for _ in _decoded(clip))
        stages = Stages(config.run_settings())
        faces = stages.detector.detect(pictures)
        items = [FillItem(p, _box(p), f) for p, f in zip(pictures, faces, strict=True)]
        work: dict[str, tuple[int, Callable[[], Any]]] = {
            "decode": (count, lambda: sum(1 for _ in _decoded(clip))),
            "decode + RGB": (count, lambda: [to_rgb(f).shape for f in _decoded(clip)]),
            "decode + encode": (count, lambda: _encode(_decoded(clip), clip, target)),
            "find faces": (len(frames), lambda: stages.detector.detect(pictures)),
            "fill": (len(frames), lambda: stages.filler.fill(items)),
        }
        return [{"method": "stage", "stage": name, "fps": n / best_time(run), "memory_mib": peak_memory()}
                for name, (n, run) in work.items()]


def _whole_rows(clip: Path, config: BenchConfig) -> list[dict[str, Any]]:
    """Whole runs with a box over the middle of every frame, each in a process of its own, for its memory."""
    with av.open(location(clip)) as container:
        stream = container.streams.video[0]
        box = (f"{stream.width // 4},{stream.height // 4},{stream.width // 2},{stream.height // 2}",)
    rows = []
    for method in ("telea", "generator"):
        settings = config.run_settings(method=method, box=box)
        with (tempfile.TemporaryDirectory() as folder,
              ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool):
            seconds, frames, memory = pool.submit(timed_run, clip, Path(folder) / clip.name, settings).result()
        rows.append({"method": "run", "stage": f"whole, {method}, every frame", "fps": frames / seconds,
                     "memory_mib": memory})
    return rows


def timed_run(clip: Path, target: Path, settings: RunConfig) -> tuple[float, int, float]:
    """Seconds, frames and peak memory (MiB) of one repair, the loading of models included."""
    start = time.perf_counter()
    result = repair_video(Job(clip, target, "video", Path(clip.name)), settings, Stages(settings))
    return time.perf_counter() - start, result.frames, peak_memory()


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(location(path)) as container:
        container.streams.video[0].thread_type = "FRAME"
        yield from container.decode(video=0)


def _encode(frames: Iterable[av.VideoFrame], like: Path, target: Path) -> None:
    with av.open(location(like)) as container:
        rate = container.streams.video[0].average_rate or Fraction(25)
    with av.open(location(target), "w") as out:
        video: Any = None
        for number, frame in enumerate(frames):
            if video is None:
                video = out.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
                video.width, video.height, video.pix_fmt = frame.width, frame.height, "yuv420p"
                video.thread_type = "FRAME"
            frame.pts, frame.time_base, frame.pict_type = number, 1 / rate, av.video.frame.PictureType.NONE
            out.mux(video.encode(frame))
        out.mux(video.encode())


def _box(picture: np.ndarray) -> np.ndarray:
    h, w = picture.shape[:2]
    mask = np.zeros((h, w), bool)
    mask[h // 4:3 * h // 4, w // 4:3 * w // 4] = True
    return mask
