"""The HTML report of `run`: before, mask and after of each job in one self-contained page."""

from __future__ import annotations

import base64
import html
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import cv2
import numpy as np

from faceinpaint_cli.errors import OutputError
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.types import Job

log = logging.getLogger(__name__)

THUMBNAIL = 320
"""Longer side of the pictures in the page, in pixels."""

LEAST_MARK = 0.3
"""Percent of a strip's width: a single frame of a long video must be seen."""

HEAD = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>faceinpaint</title><style>
body{font:15px/1.4 system-ui,sans-serif;margin:1em auto;max-width:1040px;padding:0 .6em;color:#222;background:#fafafa}
figure{margin:0 0 1.2em}figcaption{word-break:break-all;margin-bottom:.3em}
.strip{display:flex;gap:2px}.strip img{flex:1;min-width:0}svg{display:block;width:100%;height:14px;margin-top:2px}
.row{display:flex;gap:4px}.row img{width:33%;height:auto;object-fit:contain;background:#ddd}
</style><h1>faceinpaint: before, mask, after</h1>
"""


class Gallery:
    """Writes rows as they come, so that memory does not grow with the number of jobs.

    A context manager; the page appears when it is left, also after an error or an interruption. A page that is there
    already stays where there is nothing to show: a run that has only to skip must not cost what the one before showed.
    A page that cannot be written (a full disk) costs none of the jobs: OutputError at the end, a warning where
    something else has ended the run.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._rows = path, 0
        self._atomic = atomic_path(path)
        self._lock = threading.Lock()
        self._error: OSError | None = None

    def __enter__(self) -> Gallery:
        self._file: TextIO = self._atomic.__enter__().open(
            "w", encoding="utf-8", errors="backslashreplace")  # of file names that are no UTF-8
        self._file.write(HEAD)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._file.close()  # writes what is still held back
        except OSError as e:
            self._error = e
        if self._error is not None:
            self._give_up(self._error, loudly=kind is None)
            return
        if not self._rows and self._path.exists():
            log.warning("%s stays as it was: this run has nothing to show", self._path)
            nothing = LookupError("nothing to show")
            self._atomic.__exit__(LookupError, nothing, None)
            return
        # What was done before an interruption is worth seeing: the page is kept whatever ends the run.
        self._atomic.__exit__(None, None, None)

    def add(self, job: Job, frame: int, before: np.ndarray, mask: np.ndarray, after: np.ndarray) -> None:
        """Add one row: pictures HWC uint8 RGB, mask HW bool. May be called from several threads."""
        pictures = [before, np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2), after]
        images = "".join(f'<img loading="lazy" src="{_data_url(p)}">' for p in pictures)
        name = html.escape(str(job.relative)) + (f", frame {frame}" if job.kind == "video" else "")
        share = f"{mask.mean():.1%} filled" if mask.any() else "no damage"
        self._write(f'<figure><figcaption>{name}: {share}</figcaption><div class="row">{images}</div></figure>\n')

    def add_strip(self, job: Job, pictures: Sequence[np.ndarray], damaged: np.ndarray, seconds: float) -> None:
        """Add a row for a whole video: `pictures` (HWC uint8 RGB) evenly through it, and under them red where frames
        (bool each) were damaged or masked."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], damaged.astype(np.int8), [0]])))
        step = seconds / max(1, len(damaged))
        marks = "".join(
            f'<rect x="{100 * a / len(damaged):.3f}" width="{max(LEAST_MARK, 100 * (b - a) / len(damaged)):.3f}" '
            f'height="14" fill="#d22"><title>{a * step:.2f} s to {b * step:.2f} s</title></rect>'
            for a, b in edges.reshape(-1, 2))
        images = "".join(f'<img loading="lazy" src="{_data_url(p)}">' for p in pictures)
        said = f"{html.escape(str(job.relative))}: {seconds:.2f} s, {damaged.sum()} of {len(damaged)} frames damaged"
        self._write(f'<figure><figcaption>{said}</figcaption><div class="strip">{images}</div>'
                    f'<svg viewBox="0 0 100 14" preserveAspectRatio="none"><rect width="100" height="14" fill="#bbb"/>'
                    f'{marks}</svg></figure>\n')

    def _give_up(self, error: OSError, loudly: bool) -> None:
        try:
            self._atomic.__exit__(type(error), error, error.__traceback__)
            raise OutputError(f"cannot write {self._path}: {error.strerror}; write it elsewhere") from error
        except OutputError as e:
            if loudly:
                raise
            log.warning("%s", e)

    def _write(self, row: str) -> None:
        with self._lock:
            self._rows += 1
            if self._error is None:
                try:
                    self._file.write(row)
                except OSError as e:
                    self._error = e


def _data_url(image: np.ndarray) -> str:
    scale = min(1.0, THUMBNAIL / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
