"""A video, from file to file: frames -> mask -> faces -> fill in batches -> paste -> encode -> join -> audit."""

from __future__ import annotations

import filecmp
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.evidence import Diagnosis, diagnose
from faceinpaint_cli.errors import FaceInpaintError, InputError, OutputError, describe
from faceinpaint_cli.media.atomic import atomic_path, scratch_beside
from faceinpaint_cli.media.audit import Findings, audit, require
from faceinpaint_cli.media.broken_off import broken_off
from faceinpaint_cli.media.encoders import Encoder, choose_encoder
from faceinpaint_cli.media.fields import FieldMarker, FieldReader
from faceinpaint_cli.media.planes import ToRgb, alpha_of, conform
from faceinpaint_cli.media.segments import EncodedPacket, SegmentFacts, SegmentStore
from faceinpaint_cli.media.smart_render import RenderPlan, plan_render, smart_encoder
from faceinpaint_cli.media.video_index import VideoIndex, index_video, require_order
from faceinpaint_cli.media.video_reader import DecodeLog, Span, read_frames
from faceinpaint_cli.media.video_writer import (
    container_format,
    require_container,
    wants_global_header,
    write_video,
)
from faceinpaint_cli.pipeline.overlap import DECODER_PATIENCE, QUEUE, ahead
from faceinpaint_cli.pipeline.readable import Readable, readable
from faceinpaint_cli.pipeline.stages import Stages, spread
from faceinpaint_cli.pipeline.video_masks import check_alpha, masked_frames
from faceinpaint_cli.types import Job, JobResult

if TYPE_CHECKING:
    from faceinpaint_cli.damage.bit_trials import WrongBits
    from faceinpaint_cli.damage.masks import VideoMask
    from faceinpaint_cli.pipeline.video_damage import MendedFrames
    from faceinpaint_cli.pipeline.video_fill import Picture

log = logging.getLogger(__name__)

Progress = Callable[[int, "int | None"], None]
"""Told the number of frames done and, where known, of all that are to be done."""

LEAD_IN = 40
"""Frames that are drawn again before the first that an interrupted run goes on with: beyond what is carried from around
a frame, and until what was led on from before them has faded."""
SHOWN = 6
"""Frames of a video in the HTML report."""


def repair_video(job: Job, config: RunConfig, stages: Stages, progress: Progress | None = None) -> JobResult:
    """Repair one video file and say what was done.

    Raises FaceInpaintError; then, and on Ctrl-C, the output does not exist or is as it was.
    """
    start = perf_counter()
    with ExitStack() as stack:
        mended: MendedFrames | None = None
        given = stack.enter_context(readable(job)) if config.looks_for_damage else Readable(job.input)
        path = given.path
        diagnosis = diagnose(path, given.lacks) if config.looks_for_damage else None
        wrong: list[WrongBits] = []
        if diagnosis is not None and diagnosis.damaged:
            from faceinpaint_cli.pipeline.video_damage import MendedFrames

            path, wrong = stack.enter_context(bits_set_right(job, path, diagnosis))
            left = diagnose(path, given.lacks) if wrong else diagnosis
            if left.damaged:
                mended = MendedFrames.of(index_video(path), left, stages)
        elif not given.needed:  # times that begin anew stay as they are where nothing is repaired
            path = job.input
        stack.enter_context(naming(job.input, path))
        source = index_video(path) if mended is None else mended.source
        notes = broken_off(job.input) if diagnosis is None else diagnosis.notes
        for note in notes:
            log.warning("%s: %s", job.input, note)
        if mended is not None and mended.why_not:
            log.warning("%s is damaged, but its pictures cannot be mended (%s); they stay as the decoder conceals them",
                        job.input, mended.why_not)
        helpless = mended is not None and mended.why_not is not None and not source.exact
        result = JobResult(str(job.input), str(job.output), "video", "done", method="copy", frames=source.frames)
        masks = None
        if config.has_mask_source:
            check_alpha(source, config)
            masks = stack.enter_context(
                stages.masks.for_video(job, source.width, source.height, source.frames, source.rotation))
        masked = masked_frames(source, masks, job)
        if masks is not None:
            masks.require_as_many(source.frames, job.input, lambda: (diagnosis or diagnose(job.input)).damaged)
        if masked.any() or (mended is not None and not helpless):
            require_order(source)
            repair = _Repair(job, config, stages, source, masks, masked, mended, progress)
            found, counts = repair.run()
            result = replace(result, method=config.method if masked.any() else "in-loop", **counts)
        else:
            found = _copy(job, source)
        if diagnosis is not None and diagnosis.damaged:
            found.facts["damage"] = _damage_report(diagnosis, wrong, mended)
            if (mended is None or helpless) and not masked.any():
                result = replace(result, method="none" if helpless else "bits", frames_damaged=diagnosis.frames_damaged)
        else:
            found.notes.extend(notes)
        if stages.show and result.method != "copy":
            from faceinpaint_cli.pipeline.video_show import show_video

            show_video(job, stages.show, diagnosis, masked)
        if config.preview:
            from faceinpaint_cli.pipeline.video_preview import write_preview

            try:
                write_preview(job, source, masks)
            except (FaceInpaintError, av.FFmpegError, OSError) as error:  # the video itself is written
                log.warning("no preview of %s: %s", job.output, describe(error))
    seconds = perf_counter() - start
    return replace(result, seconds=round(seconds, 4), fps=round(result.frames / seconds, 3), audit=found.to_dict())


@contextmanager
def bits_set_right(job: Job, damaged: Path, diagnosis: Diagnosis) -> Iterator[tuple[Path, list[WrongBits]]]:
    """A copy of the file `damaged`, while it lasts, in which the bits that are proved to be wrong are right, and these;
    the file itself where there are none."""
    from faceinpaint_cli.damage.bit_trials import find_wrong_bits
    from faceinpaint_cli.media.turned_bits import copy_with_turned_bits

    wrong = find_wrong_bits(diagnosis)
    with ExitStack() as stack:
        path, done = damaged, set()
        if wrong:
            path = stack.enter_context(scratch_beside(job.output, damaged.suffix))
            done = set(copy_with_turned_bits(damaged, path, {w.packet: w.bits for w in wrong}))
        yield path, [w for w in wrong if w.packet in done]


@contextmanager
def naming(given: Path, copy: Path) -> Iterator[None]:
    """Errors that come meanwhile name the file that was given, not the copy of it that is worked on."""
    try:
        yield
    except FaceInpaintError as error:
        if copy == given or str(copy) not in str(error):
            raise
        raise type(error)(str(error).replace(str(copy), str(given))) from error


def _damage_report(diagnosis: Diagnosis, wrong: Sequence[WrongBits], mended: MendedFrames | None) -> dict[str, Any]:
    """What was wrong with the file, and what was done."""
    report: dict[str, Any] = {"mended": []} if mended is None else mended.report()
    bits = [{"seconds": float(w.pts * diagnosis.time_base), "how": "bit" if w.sure else "bit, likely", "area": 0.0}
            for w in wrong]
    return {**report, **diagnosis.to_dict(), "mended": [*bits, *report["mended"]]}


def _copy(job: Job, source: VideoIndex) -> Findings:
    """Nothing is to be filled: the same file, or in another container the same packets."""
    with atomic_path(job.output) as temporary:
        if source.path.suffix.lower() == job.output.suffix.lower():
            shutil.copyfile(source.path, temporary)
            same = filecmp.cmp(source.path, temporary, shallow=False)
            found = Findings([] if same else ["the copy differs from the input"], facts={"render": "copy"})
        else:
            written = write_video(source, temporary, container_format(job.output))
            found = audit(source, temporary, None, written)
        require(found, job.output)
    return found


class _Repair:
    """One video of which something changes: render, join, audit. `masked` (bool per frame) says where `masks` mark
    anything; `mended` gives the frames of a damaged file."""

    def __init__(self, job: Job, config: RunConfig, stages: Stages, source: VideoIndex, masks: VideoMask | None,
                 masked: np.ndarray, mended: MendedFrames | None, progress: Progress | None) -> None:
        self.job, self.config, self.stages, self.source, self.masks = job, config, stages, source, masks
        self.masked, self.mended, self.progress = masked, mended, progress
        self.touched = masked if mended is None else masked | mended.damaged
        self.needs_faces = masks is not None and stages.needs_faces
        self.format = container_format(job.output)
        self.encoder = choose_encoder(config, source, self.format, job.output)
        self.turns = source.rotation // 90
        self.shown = set(spread(np.flatnonzero(masked), SHOWN))
        self.done = 0

    def run(self) -> tuple[Findings, dict[str, Any]]:
        """Smart if it can be and is wished, and in full where that does not pass its audit."""
        changed = [bool(self.touched[slice(*group.frames)].any()) for group in self.source.groups]
        plan = plan_render(self.source, changed, self.encoder, self.format, self.config.render == "smart")
        require_container(self.source, self.job.output, self.format, plan, self.encoder)
        if plan.smart:
            try:
                return self._written(plan, smart_encoder(self.encoder, self.source), global_header=False)
            except OutputError as error:
                log.warning("%s: what is encoded does not fit between what is copied (%s), so all of it is encoded",
                            self.job.input, error)
                plan = RenderPlan.full(self.source, str(error))
        return self._written(plan, self.encoder, wants_global_header(self.format))

    def _written(self, plan: RenderPlan, encoder: Encoder, global_header: bool) -> tuple[Findings, dict[str, Any]]:
        with SegmentStore(self.job.output, self._key(plan, encoder), self.config.resume) as store:
            self._render(plan, encoder, global_header, store)
            with atomic_path(self.job.output) as temporary:
                written = write_video(self.source, temporary, self.format, plan, encoder, store)
                if not written.frames:
                    raise InputError(f"{self.job.input}: no picture of its video could be decoded; get the file again")
                found = audit(self.source, temporary, plan, written, self.mended is not None)
                if plan.smart and found.problems:
                    raise OutputError("; ".join(found.problems[:3]))
                require(found, self.job.output)
            missing = self.source.frames - len(written.frames)
            if missing:
                log.warning("%s: %d of %d frames could not be decoded and are not in the output", self.job.input,
                            missing, self.source.frames)
            totals = _totals(store, len(written.frames))
            if self.mended is not None:
                totals["frames_damaged"] = int(self.touched.sum())
                totals["frames_filled"] += self._mended_elsewhere(self.mended)
            return found, totals

    def _mended_elsewhere(self, mended: MendedFrames) -> int:
        """How many frames were mended that no mask marks."""
        times = [int(m.time / self.source.time_base) for m in mended.mended if m.how != "concealed"]
        return int((np.isin(self.source.times, times) & ~self.masked).sum())

    def _render(self, plan: RenderPlan, encoder: Encoder, global_header: bool, store: SegmentStore) -> None:
        """Encode the segments that the store does not have."""
        todo = [span for span in plan.segments if span[0] not in store.facts]
        total = sum(stop - start for start, stop in plan.segments)
        self.done = total - sum(stop - start for start, stop in todo)
        if len(todo) < len(plan.segments):
            log.info("%s: going on after %d of %d frames", self.job.input, self.done, total)
        problems = DecodeLog()
        spans = _led_in(todo, plan.segments, LEAD_IN if self.needs_faces else 0)
        if self.mended is None:
            decoded = read_frames(self.source, spans, problems)
        else:
            decoded = self.mended.read(spans, problems)
        frames = ahead(decoded, QUEUE, DECODER_PATIENCE)
        with closing(ahead(self._filled(frames, encoder), QUEUE)) as pictures:
            waiting = next(pictures, None)
            for start, stop in todo:
                while waiting is not None and waiting.number < start:  # led in
                    waiting = next(pictures, None)
                facts = SegmentFacts(start, stop)

                def of_segment(stop: int = stop) -> Iterator[Picture]:
                    nonlocal waiting
                    while waiting is not None and waiting.number < stop:
                        yield waiting
                        waiting = next(pictures, None)
                        self.done += 1
                        if self.progress:
                            self.progress(self.done, total)

                store.add(facts, _encode(of_segment(), encoder, self.source, global_header, facts))
        if problems.errors:
            log.warning("%s: %d packets could not be decoded (%s)", self.job.input, problems.errors,
                        problems.messages[0])

    def _filled(self, frames: Iterator[tuple[int, av.VideoFrame]], encoder: Encoder) -> Iterator[Picture]:
        """The frames, repaired."""
        from faceinpaint_cli.pipeline.video_fill import VideoFill

        try:
            stride = self.config.detect_stride if self.needs_faces else 0
            fill = VideoFill(self.job, self.stages, stride, self.turns, self.shown)
            yield from fill.fill(self._masked(frames, encoder))
        except TimeoutError as error:
            raise InputError(f"{self.job.input}: the decoder hangs ({error}); convert the file first, or leave it "
                             "out") from error
        finally:
            frames.close()  # type: ignore[attr-defined]

    def _masked(self, frames: Iterator[tuple[int, av.VideoFrame]], encoder: Encoder) -> Iterator[Picture]:
        from faceinpaint_cli.pipeline.video_fill import Picture

        to_rgb, fields_of = ToRgb(), FieldReader()
        width, height = self.source.display_size
        nothing = np.zeros((height, width), bool)
        for number, frame in frames:
            fields = fields_of(frame)
            alpha = alpha_of(frame) if self.masks is not None and self.masks.needs_alpha else None
            frame = conform(frame, encoder.pixel_format, encoder.colorspace, encoder.color_range)
            if self.masks is None:
                yield Picture(number, frame, nothing, fields=fields)
                continue
            rgb = to_rgb(frame) if self.masks.needs_rgb or self.masked[number] or self.needs_faces else None
            mask = self.masks.at(number, rgb, alpha)
            yield Picture(number, frame, np.rot90(mask, self.turns),
                          None if rgb is None else np.ascontiguousarray(np.rot90(rgb, self.turns)), fields=fields)

    def _key(self, plan: RenderPlan, encoder: Encoder) -> dict[str, Any]:
        """What the segments depend on: the input, the files of mask and model, the settings, the encoder."""
        apart = {f.name for f in fields(RunConfig) if f.metadata["group"] == "Bulk"} | {"device", "batch_size"}
        settings = {k: v for k, v in self.config.to_dict().items() if k not in apart}
        named = [Path(name) for name in (self.config.mask, self.config.model) if name]
        return {"files": [_stamp(path) for path in (self.job.input, *named) if path.exists()], "settings": settings,
                "encoder": repr(encoder), "smart": plan.smart, "mended": self.mended is not None,
                "segments": [list(s) for s in plan.segments]}


def _encode(pictures: Iterable[Picture], encoder: Encoder, source: VideoIndex, global_header: bool,
            facts: SegmentFacts) -> Iterator[EncodedPacket]:
    """Encode a segment, from its first picture on by an encoder of its own; `facts` is filled in meanwhile.

    Frames are numbered for the encoder, so that no time of the source (variable, huge, repeated) can trouble it.
    """
    context: av.VideoCodecContext | None = None
    order: list[int] = []
    mark = FieldMarker(encoder.fields) if encoder.marks_all else None

    def packets(frame: av.VideoFrame | None) -> Iterator[EncodedPacket]:
        assert context is not None
        for packet in context.encode(frame):
            assert packet.pts is not None
            order.append(packet.pts)
            yield EncodedPacket(facts.frames[packet.pts], packet.is_keyframe, bytes(packet))

    counts: dict[str, Any] = {"damaged": 0, "filled": 0, "mask": 0.0, "faces": 0, "tracks": []}
    for picture in pictures:
        if context is None:
            context = encoder.open(source, global_header)
        frame = conform(picture.frame, encoder.packing, encoder.colorspace, encoder.color_range)
        if mark is not None:
            frame = mark(frame)
        frame.pts, frame.time_base, frame.pict_type = len(facts.frames), context.time_base, 0
        facts.frames.append(picture.number)
        facts.fields += picture.fields
        if picture.mask.any():
            counts["damaged"] += 1
            counts["filled"] += picture.filled
            counts["mask"] += float(picture.mask.mean())
            counts["faces"] = max(counts["faces"], len(picture.faces))
            counts["tracks"] = sorted({*counts["tracks"], *(f.track for f in picture.faces if f.track is not None)})
        yield from packets(frame)
    if context is not None:
        yield from packets(None)
    facts.counts = counts
    facts.delay = max((place - number for place, number in enumerate(order)), default=0)


def _totals(store: SegmentStore, frames: int) -> dict[str, Any]:
    counts = [facts.counts for facts in store.facts.values()]
    damaged, filled = (sum(c[name] for c in counts) for name in ("damaged", "filled"))
    return {"frames": frames, "frames_damaged": damaged, "frames_filled": filled,
            "faces": max(c["faces"] for c in counts), "tracks": len({t for c in counts for t in c["tracks"]}),
            "mask_fraction": round(sum(c["mask"] for c in counts) / max(1, frames), 6)}


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans that touch become one."""
    joined: list[Span] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    return joined


def _led_in(todo: Sequence[Span], segments: Sequence[Span], frames: int) -> list[Span]:
    """The spans `todo`, joined, each from so many frames before on where the finished segments before it reach: what is
    drawn leads on from frame to frame, and must not jump where an interrupted run goes on."""
    runs = _joined(segments)
    spans: list[Span] = []
    for start, stop in _joined(todo):
        (first,) = (a for a, b in runs if a <= start < b)
        spans.append((max(first, start - frames, spans[-1][1] if spans else 0), stop))
    return spans


def _stamp(path: Path) -> list[Any]:
    """What changes when a file or the files in a folder do: names, sizes, times of change."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
