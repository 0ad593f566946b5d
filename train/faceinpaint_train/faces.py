"""Faces in memory: every picture decoded once, put on one canvas, and kept in a cache on disk."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faceinpaint_cli.errors import DataError, OutputError
from faceinpaint_train.crops import CANVAS, CROP
from faceinpaint_train.sources import check_sources, held_out, partition_of, read_source

log = logging.getLogger(__name__)

LEAST = 16
"""Fewer training faces than this are refused."""
SMALLEST = 48
"""Pictures with a shorter side are left out, and counted."""


@dataclass(frozen=True)
class FaceSet:
    """Canvases (N, 218, 178, 3) uint8, memory-mapped, for training and for validation; `left_out` counts why
    pictures are in neither."""

    train: np.ndarray
    val: np.ndarray
    left_out: dict[str, int]


def load_faces(paths: Sequence[Path], crop: str, cache: Path) -> FaceSet:
    """Faces of folders, zips and tars. `crop`: canvas (pictures are CelebA's aligned 178 x 218), align (MTCNN's
    landmarks on that canvas), tight (MTCNN's box fills the crop), auto (canvas where the size fits, else align).

    What cannot be decoded, is too small, shows no face or is the same file again is counted and named in the log. The
    result is kept in `cache` and used again for the same files. Raises DataError where fewer than 16 faces are left.
    """
    check_sources(paths)
    key = hashlib.sha256(crop.encode())
    for path in paths:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            stat = file.stat()
            key.update(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    stem = cache / f"faces-{key.hexdigest()[:16]}"
    if not stem.with_suffix(".json").is_file():
        _build(paths, crop, stem)
    facts = json.loads(stem.with_suffix(".json").read_text())
    canvases = np.load(stem.with_suffix(".npy"), mmap_mode="r")
    train, val = facts["train"], facts["val"]
    if train < LEAST:
        raise DataError(
            f"{train} faces for training, at least {LEAST} are needed (left out: {facts['left_out']}): give more DATA"
        )
    return FaceSet(canvases[:train], canvases[train : train + val], facts["left_out"])


def _build(paths: Sequence[Path], crop: str, stem: Path) -> None:
    left_out: dict[str, int] = {}
    kept: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    fallback: list[int] = []
    for name, canvas, partition in _canvases(paths, crop, left_out):
        if partition == "train" and held_out(name):
            fallback.append(len(kept["train"]))
        kept[partition].append(canvas)
    if not kept["val"] and len(kept["train"]) >= LEAST:
        chosen = set(fallback or [0])
        kept["val"] = [kept["train"][i] for i in sorted(chosen)]
        kept["train"] = [c for i, c in enumerate(kept["train"]) if i not in chosen]
    everything = np.stack(kept["train"] + kept["val"]) if kept["train"] else np.zeros((0, 218, 178, 3), np.uint8)
    facts = {"train": len(kept["train"]), "val": len(kept["val"]), "left_out": left_out}
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        part = stem.with_suffix(f".{os.getpid()}.part.npy")  # two runs may be begun on the same faces at once
        np.save(part, everything)
        part.replace(stem.with_suffix(".npy"))
        stem.with_suffix(".json").write_text(json.dumps(facts))
    except OSError as error:
        raise OutputError(f"the cache of faces cannot be written to {stem.parent} ({error}): set --cache") from None
    log.info("%d faces for training, %d for validation, left out: %s", facts["train"], facts["val"], left_out or "none")


def _canvases(
    paths: Sequence[Path], crop: str, left_out: dict[str, int]
) -> Iterator[tuple[str, np.ndarray, str]]:
    finder = None
    seen: set[bytes] = set()
    for path in paths:
        partitions: dict[str, str] = {}
        source = read_source(path, partitions, left_out)
        with ThreadPoolExecutor() as pool:
            while part := list(itertools.islice(source, 64)):
                waiting = []
                for (name, data), image in zip(part, pool.map(decode, (data for _, data in part)), strict=True):
                    digest = hashlib.sha256(data).digest()
                    if image is not None and digest in seen:  # else it might be trained on and held out
                        left_out["given twice"] = left_out.get("given twice", 0) + 1
                        log.info("%s left out: the same file was given before", name)
                        continue
                    seen.add(digest)
                    reason = None
                    if image is None:
                        reason = "unreadable"
                    elif min(image.shape[:2]) < SMALLEST:
                        reason = "too small"
                    if image is None or reason:
                        _leave_out(left_out, reason or "unreadable", name)
                    elif crop == "canvas" or (crop == "auto" and image.shape[1::-1] == CANVAS):
                        yield name, _as_canvas(image), partition_of(name, partitions)
                    else:
                        waiting.append((name, image))
                if waiting:
                    if finder is None:
                        from faceinpaint_cli.faces.detector import FaceDetector

                        finder = FaceDetector("auto", min_face=40)
                    from faceinpaint_train.align import align_faces

                    aligned = align_faces(finder, [image for _, image in waiting], tight=crop == "tight")
                    for (name, _), canvas in zip(waiting, aligned, strict=True):
                        if canvas is None:
                            _leave_out(left_out, "no face found", name)
                        else:
                            yield name, canvas, partition_of(name, partitions)


def _leave_out(left_out: dict[str, int], reason: str, name: str) -> None:
    left_out[reason] = left_out.get(reason, 0) + 1
    log.warning("%s left out: %s", name, reason)


def decode(data: bytes) -> np.ndarray | None:
    """HWC uint8 RGB, None where the bytes are no picture."""
    if not data:
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.ascontiguousarray(image[..., ::-1])


def _as_canvas(image: np.ndarray) -> np.ndarray:
    if image.shape[1::-1] == CANVAS:
        return image
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = cv2.resize(image[top : top + side, left : left + side], CROP[2:], interpolation=cv2.INTER_AREA)
    below = CANVAS[1] - CROP[1] - CROP[3]
    return cv2.copyMakeBorder(crop, CROP[1], below, 0, 0, cv2.BORDER_REFLECT_101)
