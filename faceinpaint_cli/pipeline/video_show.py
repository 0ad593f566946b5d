"""What the HTML report shows of a video: the worst damaged frames before and after, and a strip of all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faceinpaint_cli.damage.evidence import Diagnosis
from faceinpaint_cli.media.planes import ToRgb, eight_bit
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_reader import DecodeLog, Span, read_frames
from faceinpaint_cli.pipeline.stages import Show, spread
from faceinpaint_cli.pipeline.video_preview import triples
from faceinpaint_cli.types import Job

WORST, LOOKED_AT = 6, 240
"""Frames shown: in so many parts of the damage the one that changed most, of so many looked at."""
STRIP = 12
"""Pictures of a strip."""


def show_video(job: Job, show: Show, diagnosis: Diagnosis | None, masked: np.ndarray) -> None:
    """Show a finished video: where it was damaged its worst frames, and all of it in a strip. `masked` (bool each) are
    the frames that were filled by a mask, and are seen when that is done."""
    output = index_video(job.output)
    touched = masked
    if diagnosis is not None and diagnosis.damaged:
        from faceinpaint_cli.pipeline.video_damage import MendedFrames

        found = MendedFrames.of(index_video(Path(diagnosis.path)), diagnosis)
        looked_at = spread(np.flatnonzero(found.damaged), LOOKED_AT)
        worst: dict[int, tuple[int, np.ndarray, np.ndarray, np.ndarray]] = {}
        for place, triple in enumerate(triples(found.source, output, None, _single(looked_at))):
            part = place * WORST // len(looked_at)
            if part not in worst or triple[2].sum() > worst[part][2].sum():
                worst[part] = triple
        for triple in worst.values():
            show.add(job, *triple)
        touched = found.damaged if masked.shape != found.damaged.shape else masked | found.damaged
    to_rgb = ToRgb()
    turns = output.rotation // 90
    places = spread(np.arange(output.frames), STRIP)
    pictures = [np.rot90(eight_bit(to_rgb(frame)), turns)
                for _, frame in read_frames(output, _single(places), DecodeLog())]
    seconds = float((int(output.times[-1]) - int(output.times[0])) * output.time_base + 1 / output.rate)
    show.add_strip(job, pictures, touched, seconds)


def _single(numbers: Sequence[int]) -> list[Span]:
    return [(number, number + 1) for number in numbers]
