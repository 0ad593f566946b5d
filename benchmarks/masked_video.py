"""How masked video is filled: python benchmarks/masked_video.py CLIPS... [--lpips FILE] [--frames 40]

A square two fifths as wide as the first face found is hidden in three ways: it crosses the face from left to right
("crossing"), stands where it is while the face moves ("standing"), or sticks to the face ("sticking"). PSNR inside the
hole, the jump from frame to frame inside it after the true motion (and the clean clip's own), LPIPS of the hole and as
much around it, seconds a clip. Clips are written losslessly before and after.
"""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from time import perf_counter

import av
import click
import cv2
import numpy as np

from faceinpaint_cli import inpaint_video, metrics
from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.media.optical_flow import flow
from faceinpaint_cli.media.video_index import location, open_video
from faceinpaint_cli.pipeline.stages import Stages

KINDS = ("crossing", "standing", "sticking")
SIDE = 0.4
"""Side of the square as a share of the first face's width."""
EVERY = 5
"""Frames from one that LPIPS is taken of to the next."""


def read(path: Path, frames: int) -> list[np.ndarray]:
    with open_video(path) as container:
        return [f.to_ndarray(format="rgb24") for f in islice(container.decode(container.streams.video[0]), frames)]


def write(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(location(path), "w") as out:
        video: av.VideoStream = out.add_stream("ffv1", rate=25)  # type: ignore[assignment]
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode())


def face_boxes(frames: list[np.ndarray], stages: Stages) -> list[np.ndarray]:
    """The largest face of each frame (XYXY), or the last one found."""
    found: list[np.ndarray] = []
    for faces in stages.detector.detect(frames):
        if faces:
            found.append(max(faces, key=lambda f: float(f.box[2] - f.box[0])).box)
        elif found:
            found.append(found[-1])
    if not found:
        raise click.UsageError("no face in the clip")
    return [found[0]] * (len(frames) - len(found)) + found


def square(kind: str, share: float, first: np.ndarray, box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """HW bool; `share` is how much of the clip is over."""
    width, height = first[2] - first[0], first[3] - first[1]
    if kind == "crossing":
        x, y = first[0] - 0.3 * width + 1.6 * width * share, first[1] + 0.35 * height
    else:
        at = first if kind == "standing" else box
        x, y = (at[0] + at[2]) / 2, at[1] + 0.45 * (at[3] - at[1])
    half = SIDE * width / 2
    mask = np.zeros(shape[:2], bool)
    mask[max(0, int(y - half)) : max(0, int(y + half)), max(0, int(x - half)) : max(0, int(x + half))] = True
    return mask


def measure(truth: list[np.ndarray], made: list[np.ndarray], masks: list[np.ndarray],
            lpips: metrics.Lpips | None) -> list[float]:
    """PSNR inside, jump inside, the clean clip's, LPIPS: means over the frames with a hole."""
    rows: dict[str, list[float]] = {"psnr": [], "jump": [], "clean": [], "lpips": []}
    for i, mask in enumerate(masks):
        if not mask.any():
            continue
        rows["psnr"].append(metrics.psnr(made[i], truth[i], mask))
        if i:
            now, before = (cv2.cvtColor(t, cv2.COLOR_RGB2GRAY) for t in (truth[i], truth[i - 1]))
            motion = flow(now, before)
            rows["jump"].append(metrics.warping_error(made[i], made[i - 1], motion, mask))
            rows["clean"].append(metrics.warping_error(truth[i], truth[i - 1], motion, mask))
        if lpips is not None and i % EVERY == 0:
            y, x = np.nonzero(mask)
            reach = max(32, int(np.ptp(x)) // 2)
            part = (slice(max(0, y.min() - reach), y.max() + reach), slice(max(0, x.min() - reach), x.max() + reach))
            rows["lpips"].append(lpips(np.ascontiguousarray(made[i][part]), np.ascontiguousarray(truth[i][part])))
    return [float(np.mean(values)) if values else float("nan") for values in rows.values()]


@click.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--lpips", "lpips_path", type=click.Path(path_type=Path, exists=True), help="LPIPS weights.")
@click.option("--frames", default=40, show_default=True, help="Frames of each clip.")
def main(clips: tuple[Path, ...], lpips_path: Path | None, frames: int) -> None:
    """A table in Markdown: a row for each way and clip, and the means."""
    lpips = metrics.Lpips(lpips_path) if lpips_path else None
    finder = Stages(RunConfig())
    click.echo("| square | clip | PSNR inside | jump | clean clip's | LPIPS | seconds |\n|" + "---|" * 7)
    collected: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for clip in clips:
            write(folder / "clean.mkv", read(clip, frames))
            truth = read(folder / "clean.mkv", frames)
            boxes = face_boxes(truth, finder)
            for kind in KINDS:
                holes = [square(kind, i / max(1, len(truth) - 1), boxes[0], box, truth[0].shape)
                         for i, box in enumerate(boxes)]
                masks = folder / f"{clip.stem}-{kind}"
                masks.mkdir()
                for i, hole in enumerate(holes):
                    cv2.imwrite(str(masks / f"{i:05d}.png"), hole * np.uint8(255))
                start = perf_counter()
                inpaint_video(folder / "clean.mkv", masks / "made.mkv", mask=str(masks), codec="ffv1")
                seconds = perf_counter() - start
                row = [*measure(truth, read(masks / "made.mkv", frames), holes, lpips), seconds]
                collected[kind].append(row)
                click.echo(line(kind, clip.stem, row))
    for kind, rows in collected.items():
        click.echo(line(kind, "mean", np.mean(rows, 0).tolist()))


def line(kind: str, clip: str, row: list[float]) -> str:
    psnr, jump, clean, lpips, seconds = row
    return f"| {kind} | {clip} | {psnr:.2f} | {jump:.2f} | {clean:.2f} | {lpips:.4f} | {seconds:.1f} |"


if __name__ == "__main__":
    main()
