"""Many jobs: what is to be done, each apart from the others, and what became of them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, fields, replace
from itertools import chain, groupby
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from faceinpaint_cli.config import RunConfig, flag_name, parse_shard
from faceinpaint_cli.errors import UsageError, describe
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.media.discover import discover, is_folder, kind_of
from faceinpaint_cli.pipeline.stages import Show, Stages
from faceinpaint_cli.types import Job, JobResult

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)

SAVED_CONFIG = "faceinpaint-run.json"
"""The resolved settings, beside the outputs, where the output is a folder."""


def run(inputs: Sequence[Path], output: Path, config: RunConfig, progress: bool = False,
        into_folder: bool = False) -> int:
    """Do all jobs that `inputs` stand for and return the exit code: 0 all done, 1 some failed. `output` is a folder or
    a file (`into_folder`: a folder for sure).

    Errors found before any work are raised (UsageError and others); an error of one job is printed, kept in
    the report, and does not stop the others.
    """
    own = [Path(name) for name in (config.mask, config.report, config.html) if name]
    everything = discover(inputs, output, own, into_folder)
    folder = output if _is_folder_run(everything, output) else None
    _check_side_files(everything, inputs, folder, config)
    jobs = _of_shard(everything, config)
    broken = [job for job in jobs if job.error]
    pending, skipped = _split_existing([job for job in jobs if not job.error], config)
    _check_saved_config(folder, config)
    if config.dry_run:
        _check_before_work(pending, config, Stages(config))
        click.echo(json.dumps(plan([*broken, *pending], skipped, config), indent=2))
        return 0
    with ExitStack() as stack:
        stages = Stages(config, _gallery(Path(config.html), stack) if config.html else None)
        _check_before_work(pending, config, stages)
        if folder:
            _save_config(folder, config)
        results = [_skipped(job, config) for job in skipped]
        start = perf_counter()
        if config.report:  # now, so that a place that cannot be written to is not found out after hours of work
            write_report(Path(config.report), config, results, 0.0)
        try:
            for result in chain(map(_broken, broken), _do(pending, config, stages, progress)):
                results.append(result)
                if result.status == "failed":
                    error = result.error or ""
                    named = error if result.input in error else f"{result.input}: {error}"
                    _say(f"faceinpaint: {named}", progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {_summary(results)} of {len(jobs)}; go on with --resume") from None
        else:  # before what is written last, which may fail
            click.echo(f"{_summary(results)} in {perf_counter() - start:.1f} s{_of_videos(results)}")
        finally:
            if config.report:
                write_report(Path(config.report), config, results, perf_counter() - start)
    return int(any(result.status == "failed" for result in results))


def _gallery(path: Path, stack: ExitStack) -> Show:
    """What adds pictures to the HTML report, which is closed with `stack`."""
    from faceinpaint_cli.gallery import Gallery

    return stack.enter_context(Gallery(path))


def plan(pending: Sequence[Job], skipped: Sequence[Job], config: RunConfig) -> dict[str, Any]:
    """What a run would do: settings, jobs, and for a video that no mask is given for, its diagnosis."""
    entries = []
    for job in [*pending, *skipped]:
        entry: dict[str, Any] = {"input": str(job.input), "output": str(job.output), "kind": job.kind,
                                 "action": "skip" if job in skipped else "do"}
        if job.error:
            entry["error"] = job.error
        elif job.kind == "video" and config.looks_for_damage:
            from faceinpaint_cli.damage.evidence import diagnose

            try:
                entry["diagnosis"] = diagnose(job.input).to_dict()
            except Exception as error:
                entry["error"] = describe(error)
        entries.append(entry)
    return {"config": config.to_dict(), "jobs": entries}


def write_report(path: Path, config: RunConfig, results: Sequence[JobResult], seconds: float) -> None:
    """Write the report (schema 1, DESIGN: Command line) so that it appears whole or not at all."""
    status = Counter(result.status for result in results)
    totals = {"jobs": len(results), "done": status["done"], "failed": status["failed"], "skipped": status["skipped"],
              **{name: sum(getattr(result, name) for result in results)
                 for name in ("frames", "frames_damaged", "frames_filled", "faces", "tracks")},
              "seconds": round(seconds, 4)}
    report = {"schema": 1, "config": config.to_dict(), "jobs": [asdict(result) for result in results],
              "totals": totals}
    with atomic_path(path) as temporary:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        # a file name that is no UTF-8 has lone surrogates, which JSON knows as \udcXX
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _of_shard(jobs: list[Job], config: RunConfig) -> list[Job]:
    if config.shard is None:
        return jobs
    part, parts = parse_shard(config.shard)
    return jobs[part - 1 :: parts]


def _split_existing(jobs: Sequence[Job], config: RunConfig) -> tuple[list[Job], list[Job]]:
    """(to do, to skip), or UsageError before any work where outputs exist and nothing says what to do."""
    existing = [job for job in jobs if _is_there(job.output)]
    if not existing or config.on_existing == "overwrite":
        return list(jobs), []
    if config.on_existing == "error":
        there = f" and {len(existing) - 1} more already exist" if len(existing) > 1 else " already exists"
        raise UsageError(f"{existing[0].output}{there}; give --on-existing skip or overwrite, or another --output")
    return [job for job in jobs if job not in existing], existing


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it is in a folder that may not be entered; the job fails by that
        return False


def _check_side_files(jobs: Sequence[Job], inputs: Sequence[Path], folder: Path | None, config: RunConfig) -> None:
    """UsageError where two of the files that a run writes are one, or it would write over one that it reads."""
    taken = {job.input.resolve(): "an input" for job in jobs}
    taken |= {path.resolve(): "an input" for path in inputs}  # a report among the inputs is none of the jobs
    if config.mask:
        mask = Path(config.mask).resolve()
        if is_folder(mask) and mask in taken:
            raise UsageError(f"--mask {config.mask} is an input folder too; keep masks in a folder of their own")
        taken[mask] = "the mask"
    for job in jobs:
        if taken.get(job.output.resolve()) == "the mask":
            raise UsageError(f"output {job.output} would overwrite the mask; choose another --output")
        taken.setdefault(job.output.resolve(), "an output")
    if folder:
        taken[(folder / SAVED_CONFIG).resolve()] = "the saved settings"
    for flag, name in (("--report", config.report), ("--html", config.html)):
        if name is None:
            continue
        path = Path(name)
        within = [folder for folder in inputs if is_folder(folder) and folder.resolve() in path.resolve().parents]
        if kind_of(path) and within:
            raise UsageError(f"{flag} {name} is named like a picture or video of input {within[0]}; choose another")
        other = taken.setdefault(path.resolve(), f"the file of {flag}")
        if other != f"the file of {flag}":
            raise UsageError(f"{flag} {name} would overwrite {other}; choose another")


def _is_folder_run(jobs: Sequence[Job], output: Path) -> bool:
    return not (len(jobs) == 1 and jobs[0].output == output)


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that change what is written: a resumed run must have the same."""
    apart = {f.name for f in fields(RunConfig) if f.metadata["group"] == "Bulk"} | {"device", "batch_size"}
    kept = {key: value for key, value in config.items() if key not in apart}
    return kept | {"mask": kept.get("mask") and str(Path(kept["mask"]))}  # masks/ is masks


def _check_saved_config(folder: Path | None, config: RunConfig) -> None:
    saved_path = folder / SAVED_CONFIG if folder else None
    if not (config.resume and saved_path and saved_path.is_file()):
        return
    try:
        content = json.loads(saved_path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no settings")
        saved = _comparable(content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{saved_path} cannot be read ({error}); delete it, or run without --resume") from None
    now = _comparable(config.to_dict())
    different = [flag_name(key) for key in now if now[key] != saved.get(key)]
    if different:
        raise UsageError(f"--resume needs the settings of the interrupted run; {', '.join(different)} differ "
                         f"(see {saved_path}); give the same, or run with --on-existing overwrite")


def _save_config(folder: Path, config: RunConfig) -> None:
    with atomic_path(folder / SAVED_CONFIG) as temporary:
        config.save(temporary)


def _check_before_work(jobs: Sequence[Job], config: RunConfig, stages: Stages) -> None:
    """Load what the settings name now, so that a wrong mask, model, device or codec is one error and not one a job."""
    if not jobs:
        return
    if config.codec is not None:
        from faceinpaint_cli.media.encoders import named_encoder

        named_encoder(config.codec)
    if config.has_mask_source:
        _ = stages.masks
    if config.has_mask_source or any(job.kind == "image" for job in jobs) or config.device.startswith("cuda"):
        _ = stages.filler


def _broken(job: Job) -> JobResult:
    return JobResult(str(job.input), str(job.output), job.kind, "failed", job.error)


def _skipped(job: Job, config: RunConfig) -> JobResult:
    return JobResult(str(job.input), str(job.output), job.kind, "skipped", method=config.method)


def _do(jobs: Sequence[Job], config: RunConfig, stages: Stages, progress: bool) -> Iterator[JobResult]:
    """Results in the order of the jobs. Neighbouring pictures are filled together."""
    with _bar(progress, total=len(jobs), unit="file", smoothing=0.1) as bar:
        for kind, same in groupby(jobs, key=lambda job: job.kind):
            results = (_do_images if kind == "image" else _do_videos)(list(same), config, stages, progress)
            for result in results:
                if bar is not None:
                    bar.update()
                yield result


def _bar(progress: bool, **options: Any) -> AbstractContextManager[tqdm[Any] | None]:
    """A progress bar, or none: what draws it is not even loaded then, for a file that is only copied takes no longer
    than that."""
    if not progress:
        return nullcontext()
    from tqdm import tqdm

    return tqdm(**options)


def _say(line: str, progress: bool) -> None:
    """A line on stderr, above the progress bars where there are any."""
    if not progress:
        click.echo(line, err=True)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(line, err=True)


def _do_images(jobs: Sequence[Job], config: RunConfig, stages: Stages, progress: bool) -> Iterable[JobResult]:
    from faceinpaint_cli.pipeline.image import repair_images

    return repair_images(jobs, config, stages)


def _do_videos(jobs: Sequence[Job], config: RunConfig, stages: Stages, progress: bool) -> Iterator[JobResult]:
    from faceinpaint_cli.pipeline.video import repair_video

    for job in jobs:
        start = perf_counter()
        with _bar(progress, desc=job.input.name, unit="frame", leave=False, position=1) as bar:

            def advance(done: int, total: int | None, bar: tqdm[Any] | None = bar) -> None:
                if bar is not None:
                    bar.total = total
                    bar.update(done - bar.n)

            try:
                result = repair_video(job, config, stages, advance)
            except Exception as error:
                result = JobResult(str(job.input), str(job.output), "video", "failed", describe(error))
        yield replace(result, seconds=result.seconds or round(perf_counter() - start, 4))


def _summary(results: Sequence[JobResult]) -> str:
    status = Counter(result.status for result in results)
    copied = sum(result.status == "done" and result.method == "copy" for result in results)
    note = f" ({copied} copied, with nothing to fill)" if copied else ""
    parts = [f"{status['done']} done{note}"]
    parts += [f"{status[name]} {name}" for name in ("failed", "skipped") if status[name]]
    return ", ".join(parts)


def _of_videos(results: Sequence[JobResult]) -> str:
    """What was found in videos, since their pictures are not looked at one by one as photographs are."""
    frames, damaged, filled = (sum(getattr(result, name) for result in results if result.kind == "video")
                               for name in ("frames", "frames_damaged", "frames_filled"))
    return f"; of {frames} frames of video {damaged} were damaged or masked, {filled} were filled" if damaged else ""
