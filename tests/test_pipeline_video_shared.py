"""Real clips, where the shared folder is there: bit-exact outside the mask, sound and times as they were."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import make_mask_video, masks_for

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.types import Job

SHARED = Path(os.environ.get("FACEINPAINT_SHARED", Path(__file__).parents[2] / "shared"))
CLIPS = sorted((SHARED / "video").glob("*.*")) if SHARED.is_dir() else []

pytestmark = pytest.mark.slow


def luma(path: Path):
    """(seconds, luma plane) of each frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "FRAME"
        for frame in container.decode(stream):
            yield frame.pts * stream.time_base, frame.to_ndarray()[: frame.height]


def sound(path: Path) -> tuple[list[bytes], Fraction]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return [], Fraction(0)
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
        return [bytes(p) for p in packets], packets[0].pts * packets[0].time_base


@pytest.mark.skipif(not CLIPS, reason="no shared clips")
@pytest.mark.parametrize("clip", CLIPS, ids=lambda p: p.name)
def test_clip_is_exact_outside_a_moving_box(clip, tmp_path):
    index = index_video(clip)
    width, height = index.display_size
    masks = masks_for(index.frames, (width // 4, height // 4), range(index.frames))
    top, left = height // 4, width // 4
    masks = [np.pad(m, ((top, height - top - m.shape[0]), (left, width - left - m.shape[1]))) for m in masks]
    mask = make_mask_video(tmp_path / "mask.mkv", masks)
    output = tmp_path / "out.mkv"
    config = RunConfig(method="ns", mask=str(mask), codec="ffv1", render="full")
    result = repair_video(Job(clip, output, "video", Path(clip.name)), config, Stages(config), None)
    assert result.audit["ok"] and result.frames == index.frames == result.frames_filled
    (before, start), (after, later) = sound(clip), sound(output)
    assert before == after
    changed = 0
    for (s, x), (t, y), marked in zip(luma(clip), luma(output), masks, strict=True):
        if before:  # picture and sound are shifted together
            assert abs(float((t - later) - (s - start))) < 0.0016
        assert np.array_equal(x[~marked], y[~marked])
        changed += bool((x[marked] != y[marked]).any())
    assert changed > index.frames / 2
