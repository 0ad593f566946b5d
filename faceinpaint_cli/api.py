"""Repairing from Python: the same stages that the command line runs.

    from faceinpaint_cli import inpaint_image, inpaint_video

    repaired = inpaint_image("portrait.jpg", mask="scratches.png")          # HWC uint8 RGB array
    repaired = inpaint_image(array, mask=array_of_bool, method="telea")
    result = inpaint_video("in.mp4", "out.mp4", box=("100,80,64,64",))      # JobResult
"""

from __future__ import annotations

import difflib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.media.discover import discover, is_folder
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.types import Job, JobResult

OF_MANY_JOBS = ("dry_run", "shard", "report", "html")
"""Settings of RunConfig that tell a run of many jobs what to do beside them."""


def inpaint_image(image: np.ndarray | str | Path, mask: np.ndarray | str | Path | None = None, *,
                  stages: Stages | None = None, **settings: Any) -> np.ndarray:
    """Repair one picture and return it, HWC RGB of the input's depth.

    Args:
        image: a path, or an array HWC uint8 or uint16 RGB.
        mask: what to fill: a path (white fills), or an array HW in which everything but 0 fills; None looks for
            stamped-on patches, unless the settings name another source of masks.
        stages: the stages of an earlier call (`Stages(RunConfig(...))`), so that models are loaded once; the
            settings are then those of the stages.
        settings: fields of RunConfig, such as method="telea", fidelity=0.3, dilate=4, box=["10,10,64,64"].

    Raises:
        FaceInpaintError: the picture or mask cannot be read, or a setting is wrong.
    """
    from faceinpaint_cli.damage.masks import MaskSource
    from faceinpaint_cli.media.images import Picture, read_image
    from faceinpaint_cli.pipeline.image import repair_pictures

    stages = _stages(stages, settings)
    source = stages.masks
    if isinstance(mask, (str, Path)):
        source = MaskSource.from_config(replace(stages.config, mask=str(mask)))
    picture: Picture | None = None
    if isinstance(image, (str, Path)):
        picture = read_image(Path(image))
        image = picture.rgb
    _check_image(image)
    assert isinstance(image, np.ndarray)
    where: np.ndarray | None = None
    as_array = mask is not None and not isinstance(mask, (str, Path))
    if source.path is not None and not as_array:
        if picture is None:
            raise UsageError("a mask from a file needs a picture from a file; give both as arrays")
        where = source.for_image(_job(picture.path), picture)
    elif as_array or source.explicit:
        given = _mask_array(mask, image.shape[:2]) if as_array else np.zeros(image.shape[:2], bool)
        name, alpha = (picture.path, picture.alpha) if picture is not None else (Path("the picture"), None)
        where = source.with_marked(given, image, alpha, name)
    repaired = repair_pictures([image], [where], stages)[0].image
    return repaired.copy() if repaired is image else repaired


def inpaint_video(video: str | Path, output: str | Path, *, stages: Stages | None = None,
                  **settings: Any) -> JobResult:
    """Repair one video file into `output` and say what was done.

    Args:
        video, output: paths; the suffix of `output` names the container.
        stages: as in `inpaint_image`.
        settings: fields of RunConfig, such as mask="masks/", box=("10,10,64,64",), codec="ffv1",
            on_existing="overwrite" (by default an `output` that exists is an error).

    Raises:
        FaceInpaintError: the video cannot be read or repaired, or a setting is wrong. Nothing is left behind.
    """
    from faceinpaint_cli.pipeline.video import repair_video

    stages = _stages(stages, settings)
    config = stages.config
    for name in OF_MANY_JOBS:
        if getattr(config, name):
            raise UsageError(f"{name} is for runs of the command line; leave it out: the result says what was done")
    for name, value in (("video", video), ("output", output)):
        if not isinstance(value, (str, Path)):
            raise UsageError(f"the {name} must be a path, not {type(value).__name__}")
    if is_folder(Path(video)):
        raise UsageError(f"{video} is a folder; give one video at a time")
    (job,) = discover([Path(video)], Path(output))
    if job.kind != "video":
        raise UsageError(f"{video} is not a video; use inpaint_image")
    if job.output.exists() and config.on_existing == "error":
        raise UsageError(f"{output} already exists; give on_existing='overwrite' or 'skip', or another output")
    if job.output.exists() and config.on_existing == "skip":
        return JobResult(str(job.input), str(job.output), job.kind, "skipped", method=config.method)
    return repair_video(job, config, stages, None)


def _stages(stages: Stages | None, settings: dict[str, Any]) -> Stages:
    if stages is not None:
        if settings:
            raise UsageError(f"give the settings to the stages or to the call, not both ({', '.join(settings)})")
        return stages
    known = [f.name for f in fields(RunConfig)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise UsageError(f"there is no setting {name}" + (f"; did you mean {near[0]}?" if near else ""))
    return Stages(RunConfig(**{name: _plain(value) for name, value in settings.items()}))


def _plain(value: Any) -> Any:
    """A setting as the command line would give it: paths as text, NumPy's numbers as Python's."""
    if isinstance(value, np.ndarray):
        raise UsageError("a setting is an array; only inpaint_image takes one, as its mask: give a path")
    return str(value) if isinstance(value, Path) else value.item() if isinstance(value, np.generic) else value


def _mask_array(mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """HW bool of an array, or of what NumPy can make one of (a picture of Pillow's, a tensor, lists)."""
    array = np.asarray(mask)
    if array.shape != shape or array.dtype.kind not in "biuf":
        came = f"{array.dtype} {array.shape}"
        raise UsageError(f"the mask must be a path, or numbers {shape} like the picture, not {came}")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise UsageError("the mask holds values that are no numbers (NaN): 0 stays, everything else is filled")
    return array != 0


def _check_image(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        came = type(image).__name__
        raise UsageError(f"the picture must be a path or an array (HWC RGB uint8 or uint16), not {came}")
    if not image.size:
        raise UsageError(f"the picture has no pixels: {image.shape}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"the picture must be HWC RGB uint8 or uint16, not {image.shape} {image.dtype}")


def _job(path: Path) -> Job:
    return Job(path, path, "image", Path(path.name))
