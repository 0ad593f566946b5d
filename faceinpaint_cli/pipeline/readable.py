"""An input as its reader can take it: stretches that are none passed over, packets in their order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from faceinpaint_cli.media.atomic import scratch_beside
from faceinpaint_cli.media.matroska_gaps import copy_without_gaps, find_gaps
from faceinpaint_cli.media.mov_gaps import copy_boxed, find_destroyed
from faceinpaint_cli.media.ts_tangles import copy_untangled, find_tangles
from faceinpaint_cli.types import Job

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Readable:
    """The file at `path` is the input, or a copy of it. `needed`: its pictures cannot be read without that copy;
    `lacks`: parts of it are known to be destroyed, so that what is missing in time was there."""

    path: Path
    needed: bool = False
    lacks: bool = False


@contextmanager
def readable(job: Job) -> Iterator[Readable]:
    """A copy of the input, while it lasts, that a reader gets through to its end in order, where that is needed, else
    the input itself."""
    with ExitStack() as stack:
        found = Readable(job.input)
        if job.input.is_file():
            if (gaps := find_gaps(job.input)) is not None:
                path = stack.enter_context(scratch_beside(job.output, job.input.suffix))
                _say_destroyed(job, len(gaps.stretches), sum(stop - start for start, stop in gaps.stretches))
                copy_without_gaps(job.input, path, gaps)
                found = Readable(path, needed=True, lacks=True)
            elif boxes := find_destroyed(job.input):
                path = stack.enter_context(scratch_beside(job.output, job.input.suffix))
                _say_destroyed(job, len(boxes), sum(box.stop - box.start for box in boxes))
                copy_boxed(job.input, path, boxes)
                found = Readable(path, needed=True, lacks=True)
            elif (tangles := find_tangles(job.input)) is not None:
                path = stack.enter_context(scratch_beside(job.output, job.input.suffix))
                if tangles.misleading:
                    log.warning("%s: %s; it is put in order", job.input, tangles)
                copy_untangled(job.input, path, tangles)
                found = Readable(path, needed=tangles.misleading)
        yield found


def _say_destroyed(job: Job, stretches: int, size: int) -> None:
    log.warning("%s: %d stretches of it are destroyed, %d bytes in all; what stands behind them is read all the same",
                job.input, stretches, size)
