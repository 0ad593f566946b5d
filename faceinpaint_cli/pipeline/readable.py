"""An input as its reader can take it: stretches that are none passed over, packets in their order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faceinpaint_cli.media.atomic import scratch_beside
from faceinpaint_cli.media.matroska_gaps import copy_without_gaps, find_gaps
from faceinpaint_cli.media.ts_tangles import copy_untangled, find_tangles
from faceinpaint_cli.types import Job

log = logging.getLogger(__name__)


@contextmanager
def readable(job: Job) -> Iterator[tuple[Path, bool]]:
    """A copy of the input, while it lasts, that a reader gets through to its end in order, where that is needed, else
    the input itself; and whether the pictures cannot be read without."""
    gaps = find_gaps(job.input) if job.input.is_file() else None
    tangles = find_tangles(job.input) if gaps is None and job.input.is_file() else None
    if gaps is None and tangles is None:
        yield job.input, False
        return
    with scratch_beside(job.output, job.input.suffix) as path:
        if gaps is not None:
            log.warning("%s: %d stretches of it are destroyed, %d bytes in all; what stands behind them is read all "
                        "the same", job.input, len(gaps.stretches), sum(stop - start for start, stop in gaps.stretches))
            copy_without_gaps(job.input, path, gaps)
            yield path, True
        elif tangles is not None:
            if tangles.misleading:
                log.warning("%s: %s; it is put in order", job.input, tangles)
            copy_untangled(job.input, path, tangles)
            yield path, tangles.misleading
