"""Pictures, from file to file: read -> mask -> faces -> fill in batches -> write."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from PIL import Image

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import OutputError, describe
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.media.images import Picture, read_image, write_image
from faceinpaint_cli.media.planes import eight_bit
from faceinpaint_cli.pipeline.overlap import ordered_map
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.types import Face, Job, JobResult

log = logging.getLogger(__name__)

GROUP_PICTURES = 16
GROUP_PIXELS = 32_000_000
"""A group of pictures that is filled together ends at either limit, so memory stays bounded."""

LOOKS = 4
"""Times at most that a picture whose hole hides landmarks is looked at again once it is filled, and then filled anew.
On 40 CelebA faces with a part or all hidden the crop's corners were 7.9 % of its side off before, 5.2 after two looks,
4.6 after three and 4.8 after four."""

JPEG_SIDE = 65_500
"""Pixels of a side that libjpeg takes."""

DAMAGE_THRESHOLD = 0.5
DAMAGE_MARGIN = 3
"""Pixels by which a located patch grows: its rim is blurred by compression and half transparent."""


@dataclass(frozen=True)
class Loaded:
    """A picture on its way: `picture` and `mask` (HW bool) are None once `error` is set."""

    job: Job
    picture: Picture | None = None
    mask: np.ndarray | None = None
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Repaired:
    """`image` HWC as it came (uint8 or uint16 RGB), changed only inside `mask` (HW bool)."""

    image: np.ndarray
    mask: np.ndarray
    faces: Sequence[Face]


def repair_images(jobs: Iterable[Job], config: RunConfig, stages: Stages) -> Iterator[JobResult]:
    """Repair picture files and yield what became of each, in order. One that fails does not stop the rest. On Ctrl-C
    those that are being written are still yielded."""
    loaded = ordered_map(lambda job: _load(job, stages), jobs)
    filled = (pair for group in _groups(loaded) for pair in _fill_group(group, stages))
    return ordered_map(lambda pair: _finish(*pair, config, stages), filled, finish=True)


def repair_pictures(images: Sequence[np.ndarray], masks: Sequence[np.ndarray | None],
                    stages: Stages) -> list[Repaired]:
    """Fill pictures (HWC uint8 or uint16 RGB) where their masks (HW bool) are true.

    Where a mask is None, or the settings ask for it, the damage is looked for first. Faces are looked for only
    where something is to be filled and the method uses them.
    """
    looks = [mask is None or stages.config.detect for mask in masks]
    located = iter(_locate([image for image, look in zip(images, looks, strict=True) if look], stages))
    full = []
    for image, mask, look in zip(images, masks, looks, strict=True):
        found = next(located) if look else np.zeros(image.shape[:2], bool)
        full.append(found if mask is None else mask | found)
    todo = [i for i, mask in enumerate(full) if mask.any()]
    holes = [full[i] for i in todo]
    faces: Sequence[Sequence[Face]] = [()] * len(todo)
    if stages.needs_faces and todo:
        from faceinpaint_cli.faces.detector import detect_behind  # with torch, which classical methods do without

        faces = detect_behind(stages.detector, [eight_bit(images[i]) for i in todo], holes, stages.fill, LOOKS)
    filled = stages.fill([images[i] for i in todo], holes, faces, detail=True) if todo else []
    results = [Repaired(image, mask, ()) for image, mask in zip(images, full, strict=True)]
    for i, image, known in zip(todo, filled, faces, strict=True):
        results[i] = Repaired(image, full[i], known)
    return results


def _locate(images: Sequence[np.ndarray], stages: Stages) -> list[np.ndarray]:
    if not images:
        return []
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * DAMAGE_MARGIN + 1,) * 2)
    maps = stages.locate_damage([eight_bit(image) for image in images])
    return [stages.masks.grown(cv2.dilate((soft > DAMAGE_THRESHOLD).astype(np.uint8), kernel) > 0) for soft in maps]


def _load(job: Job, stages: Stages) -> Loaded:
    start = perf_counter()
    try:
        picture = read_image(job.input)
        mask = stages.masks.for_image(job, picture) if stages.config.has_mask_source else None
    except Exception as error:
        return Loaded(job, error=describe(error), seconds=perf_counter() - start)
    return Loaded(job, picture, mask, seconds=perf_counter() - start)


def _groups(loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    group: list[Loaded] = []
    pixels = 0
    for item in loaded:
        size = item.picture.rgb.shape[0] * item.picture.rgb.shape[1] if item.picture else 0
        if group and (len(group) == GROUP_PICTURES or pixels + size > GROUP_PIXELS):
            yield group
            group, pixels = [], 0
        group.append(item)
        pixels += size
    if group:
        yield group


def _fill_group(group: list[Loaded], stages: Stages) -> Iterator[tuple[Loaded, Repaired | None]]:
    """Fill a group in one batch; where that fails, one by one, so that only the culprit is lost."""
    start = perf_counter()
    good = [item for item in group if item.picture is not None]
    images = [item.picture.rgb for item in good if item.picture is not None]
    try:
        done = dict(zip(map(id, good), repair_pictures(images, [item.mask for item in good], stages), strict=True))
    except Exception as error:
        if len(group) > 1:
            log.debug("a group of %d pictures failed (%s); filling them one by one", len(group), error)
            for item in group:
                yield from _fill_group([item], stages)
        else:
            yield replace(group[0], picture=None, error=describe(error)), None
        return
    share = (perf_counter() - start) / max(1, len(good))
    for item in group:
        yield replace(item, seconds=item.seconds + share * (id(item) in done)), done.get(id(item))


def _finish(item: Loaded, repaired: Repaired | None, config: RunConfig, stages: Stages) -> JobResult:
    start = perf_counter()
    job = item.job
    result = JobResult(str(job.input), str(job.output), "image", "failed", item.error, seconds=item.seconds)
    if item.picture is None or repaired is None:
        return result
    damaged = bool(repaired.mask.any())
    try:
        _write(job, item.picture, repaired, opaque=config.mask_alpha)
        before, after = eight_bit(item.picture.rgb), eight_bit(repaired.image)
        if config.preview:
            _preview(job, before, repaired.mask, after)
        if stages.show:
            stages.show.add(job, 0, before, repaired.mask, after)
    except Exception as error:
        return replace(result, error=describe(error))
    seconds = item.seconds + perf_counter() - start
    filled = damaged and stages.can_fill(repaired.mask)
    return replace(result, status="done", frames=1, frames_damaged=int(damaged), frames_filled=int(filled),
                   faces=len(repaired.faces), mask_fraction=round(float(repaired.mask.mean()), 6),
                   method=config.method if damaged else "copy", seconds=round(seconds, 4),
                   fps=round(1 / seconds, 3))


def _write(job: Job, picture: Picture, repaired: Repaired, opaque: bool) -> None:
    if repaired.mask.any():
        write_image(picture, repaired.image, repaired.mask, job.output, opaque=opaque)
    else:
        with atomic_path(job.output) as temporary:
            shutil.copyfile(job.input, temporary)


def _preview(job: Job, before: np.ndarray, mask: np.ndarray, after: np.ndarray) -> None:
    """Write the preview; where that fails, say so: the picture itself is written."""
    try:
        write_preview(job.output, before, mask, after)
    except (OutputError, OSError) as error:
        log.warning("no preview of %s: %s", job.output, error)


def write_preview(output: Path, before: np.ndarray, mask: np.ndarray, after: np.ndarray) -> None:
    """Write NAME.SUFFIX.preview.jpg beside `output`: before, the mask in red over it, after, side by side; reduced
    where that is wider or higher than a JPEG can be. Raises OutputError or OSError where it cannot be written."""
    picture = side_by_side(before, mask, after)
    scale = JPEG_SIDE / max(picture.shape[:2])
    if scale < 1:
        size = (int(picture.shape[1] * scale), max(1, int(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    with atomic_path(output.with_name(output.name + ".preview.jpg")) as temporary:
        Image.fromarray(picture).save(temporary, quality=95)


def side_by_side(before: np.ndarray, mask: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 x 3 with mask HW bool -> (H, 3W, 3): before, before with the mask in red, after."""
    marked = before.copy()
    marked[mask] = (before[mask] * 0.4 + np.array([255, 0, 0]) * 0.6).astype(np.uint8)
    return np.concatenate([before, marked, after], axis=1)
