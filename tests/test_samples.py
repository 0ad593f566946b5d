"""The samples are whole, fit each other, and are small."""

from pathlib import Path

import av
import numpy as np
import pytest

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.masks import MaskSource
from faceinpaint_cli.media.discover import discover
from faceinpaint_cli.media.images import read_image

SAMPLES = Path(__file__).parent.parent / "samples"
JOBS = discover([SAMPLES / "damaged"], Path("out"))
MASKS = MaskSource.from_config(RunConfig(mask=str(SAMPLES / "masks")))


def test_together_they_stay_under_four_megabytes():
    assert sum(p.stat().st_size for p in SAMPLES.rglob("*") if p.is_file()) < 4_000_000


def test_there_are_pictures_and_a_clip():
    assert len([job for job in JOBS if job.kind == "image"]) >= 4
    assert len([job for job in JOBS if job.kind == "video"]) >= 1


@pytest.mark.parametrize("job", [j for j in JOBS if j.kind == "image"], ids=lambda j: j.relative.name)
def test_damage_lies_inside_the_mask(job):
    damaged, whole = read_image(job.input), read_image(SAMPLES / "whole" / job.relative)
    mask = MASKS.for_image(job, damaged)
    assert 0.004 < mask.mean() < 0.3
    difference = np.abs(damaged.rgb.astype(int) - whole.rgb).max(axis=2)
    assert difference[mask].mean() > 20
    limit = 0 if job.relative.suffix == ".png" else 40  # encoders move the rest a little
    assert np.quantile(difference[~mask], 0.999) <= limit


def frames(path):
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
        return [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]


@pytest.mark.parametrize("job", [j for j in JOBS if j.kind == "video" and (SAMPLES / "masks" / j.relative).exists()],
                         ids=lambda j: j.relative.name)
def test_the_damage_of_the_clip_lies_inside_its_masks(job):
    damaged, whole = frames(job.input), frames(SAMPLES / "whole" / job.relative)
    assert len(damaged) == len(whole) == 60
    height, width = damaged[0].shape[:2]
    with MASKS.for_video(job, width, height, len(damaged)) as masks:
        for i, (bad, good) in enumerate(zip(damaged, whole, strict=True)):
            mask, difference = masks.at(i), np.abs(bad - good).max(axis=2)
            assert 0.01 < mask.mean() < 0.1
            assert difference[mask].mean() > 20 and np.quantile(difference[~mask], 0.999) < 40
