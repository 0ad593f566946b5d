"""From the paths on the command line to the list of jobs, checked before any work starts."""

from __future__ import annotations

import difflib
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from faceinpaint_cli.errors import OutputError, UsageError
from faceinpaint_cli.types import Job, Kind

IMAGE_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WebP",
    ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP",
}
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".m2ts",
    ".mts", ".3gp", ".3g2", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".mjpeg", ".mjpg", ".mxf", ".h264",
    ".264", ".hevc", ".h265", ".265", ".y4m", ".ivf", ".nut",
))
_NOT_READ = frozenset((
    ".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".tga", ".ppm", ".pgm", ".exr", ".dng", ".cr2", ".cr3",
    ".nef", ".arw", ".rm", ".rmvb", ".divx", ".mpe", ".m1v",
))
"""Suffixes of photographs and videos that have to be converted first: passed over with a word."""
_NOT_WRITTEN = _NOT_READ | {".svg", ".pdf", ".ico", ".swf", ".mp3", ".m4a", ".aac", ".wav", ".flac", ".ogg", ".opus"}
"""Suffixes of pictures, videos and sound by which nobody names a folder."""
_CONVERT = "convert pictures to JPEG or PNG and videos to MP4 first"
_LIKENESS = 0.65
"""Of a suffix to a known one, above which it is a slip of the finger: mp5, jpgg, mvk."""
_TRANSPORT_STREAMS = frozenset({".ts", ".mts"})  # also the suffixes of a programming language's sources

log = logging.getLogger(__name__)


def kind_of(path: Path) -> Kind | None:
    """Whether the suffix is that of a picture or of a video; None for anything else."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_FORMATS:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def discover(inputs: Sequence[Path], output: Path, exclude: Sequence[Path] = (),
             into_folder: bool = False) -> list[Job]:
    """All jobs, sorted by path within each input, inputs in the order given.

    Folders are walked recursively and their relative paths kept below `output`; hidden files, files of other
    kinds, `output` itself and the files or folders in `exclude` (the masks, say) are passed over. `output`
    names a file only if the one input is a file and `output` ends like a picture or video and is no folder;
    `into_folder` says that a folder is meant, whatever the name.

    An input that is not there, may not be read or is of no known kind becomes a job with an `error`, so that the
    others go on. Raises UsageError for what the command line got wrong (no input that is there and of a known kind,
    two inputs for one output, an output that is an input) and OutputError where the output cannot be looked at.
    """
    if not inputs:
        raise UsageError("no input: name at least one picture, video or folder")
    one_file = len(inputs) == 1 and not is_folder(inputs[0])
    try:
        output_exists, output_is_folder = output.exists(), output.is_dir()
    except OSError as e:
        raise OutputError(f"cannot write to {output}: {e.strerror}; choose another --output") from e
    jobs: list[Job] = []
    into_folder = into_folder or output_is_folder
    if one_file and not into_folder and not output_exists and _like_a_file(output):
        raise UsageError(f"output {output}: {output.suffix} is not written; end it in {inputs[0].suffix.lower()}, or "
                         f"in {os.sep} where a folder is meant")
    if one_file and kind_of(output) and not into_folder:
        jobs.append(_file_job(inputs[0], output))
    else:
        if not output_is_folder and (output_exists or (kind_of(output) and not into_folder)):
            what = "is a file" if output_exists else f"is named like a file ({output.suffix})"
            raise UsageError(f"output {output} {what}; for a folder or several inputs it must be a folder")
        passed_over = {path.resolve() for path in (output, *exclude)}
        wrong: list[UsageError] = []
        for path in inputs:
            if is_folder(path):
                jobs += _folder_jobs(path, output, passed_over)
                continue
            try:
                jobs.append(_file_job(path, output / path.name))
            except UsageError as e:
                wrong.append(e)
                jobs.append(Job(path, output / path.name, "image", Path(path.name), str(e)))
        if len(wrong) == len(inputs):
            raise wrong[0]
    jobs = list({(_key(job.input), _key(job.output)): job for job in jobs}.values())
    if not jobs:
        where = ", ".join(map(str, inputs))
        raise UsageError(f"no pictures or videos in {where}; known are {', '.join(_known_suffixes())}")
    _check_outputs(jobs)
    return jobs


def _like_a_file(output: Path) -> bool:
    """Whether the suffix is none that is written, but a file must be meant: a folder of that name would surprise."""
    suffix = output.suffix.lower()
    # Slips seldom change the first letter; and nearly anything is like .ts.
    near = [known for known in _known_suffixes() if known[:2] == suffix[:2] and len(known) > 3]
    return kind_of(output) is None and (
        suffix in _NOT_WRITTEN or bool(difflib.get_close_matches(suffix[1:], [s[1:] for s in near], 1, _LIKENESS)))


def is_folder(path: Path) -> bool:
    """Whether it is a folder as far as can be seen."""
    try:
        return path.is_dir()
    except OSError:  # it is in a folder that may not be entered; what is wrong is said when it is looked at as a file
        return False


def _file_job(path: Path, output: Path) -> Job:
    error: str | None = None
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a terminal may never end
            error = f"cannot read {path}: it is a pipe or a device; copy what comes from it into a file first"
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"input {path} does not exist") from None
    except OSError as e:
        error = f"cannot read {path}: {e.strerror}; allow reading it, or leave it out"
    kind, suffix = kind_of(path), path.suffix.lower()
    if suffix in _NOT_READ:
        raise UsageError(f"input {path}: {suffix} is not read; {_CONVERT}")
    if kind is None:
        raise UsageError(f"input {path} is neither a picture nor a video by its suffix; known are "
                         f"{', '.join(_known_suffixes())}")
    same = (IMAGE_FORMATS.get(suffix) == IMAGE_FORMATS.get(output.suffix.lower())) and kind_of(output) == kind
    if not same:
        raise UsageError(f"output {output} must be of the same kind as input {path}: end it in {suffix}")
    return Job(path, output, kind, Path(path.name), error)


def _folder_jobs(folder: Path, output: Path, passed_over: set[Path]) -> Iterator[Job]:
    ignored, unread = 0, Counter[str]()
    for path, error in _walk(folder, passed_over - {folder.resolve()}):
        if error is not None:
            relative = path.relative_to(folder)
            yield Job(path, output / relative, "image", relative, error)
            continue
        kind = kind_of(path)
        if path.stem.endswith(".preview") and path.with_name(path.stem.removesuffix(".preview")).exists():
            kind = None  # the preview of what lies beside it (--preview)
        if kind is None or (path.suffix.lower() in _TRANSPORT_STREAMS and not _is_transport_stream(path)):
            if path.suffix.lower() in _NOT_READ:
                unread[path.suffix.lower()] += 1
            ignored += 1
            continue
        relative = path.relative_to(folder)
        yield Job(path, output / relative, kind, relative)
    if unread:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
        log.warning("%s: passed over %s, which are not read; %s", folder, kinds, _CONVERT)
    if ignored:
        log.info("%s: ignored %d file%s of other kinds", folder, ignored, "s" * (ignored != 1))


def _walk(folder: Path, passed_over: set[Path]) -> Iterator[tuple[Path, str | None]]:
    """The files below a folder, and the folders that cannot be listed, each of these with what is wrong."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as e:
        yield folder, f"cannot list folder {folder}: {e.strerror}; allow reading it, or name other inputs"
        return
    for path in entries:
        if path.name.startswith(".") or path.resolve() in passed_over:
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _walk(path, passed_over)
            else:
                log.warning("%s: passed over, a linked folder may lead round for ever; name it as an input", path)
        elif path.is_file():
            yield path, None
        elif path.is_symlink() and kind_of(path):
            log.warning("%s: passed over, what it links to is not there", path)


def _is_transport_stream(path: Path) -> bool:
    """Packets start with 0x47, in the 192-byte variant after four bytes of time (ISO 13818-1, 2.4.3.2)."""
    try:
        with path.open("rb") as f:
            head = f.read(5)
    except OSError:
        return True  # let the job fail by name rather than pass the file over
    return head[:1] == b"\x47" or head[4:5] == b"\x47"


def _check_outputs(jobs: Sequence[Job]) -> None:
    sources = {_key(job.input): job.input for job in jobs}
    writers: dict[str, Job] = {}
    for job in jobs:
        if job.error:
            continue
        key = _key(job.output)
        if key in sources:
            raise UsageError(f"output {job.output} would overwrite input {sources[key]}; choose another "
                             "--output")
        other = writers.setdefault(key, job)
        if other is not job:
            raise UsageError(f"inputs {other.input} and {job.input} would both be written to {job.output}; "
                             "run them apart or into different folders")


def _key(path: Path) -> str:
    return os.path.normcase(path.resolve())


def _known_suffixes() -> list[str]:
    return [*IMAGE_FORMATS, *sorted(VIDEO_SUFFIXES)]
