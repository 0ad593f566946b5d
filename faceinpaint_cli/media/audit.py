"""The finished file, opened again and compared with its source."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np

from faceinpaint_cli.errors import OutputError
from faceinpaint_cli.media import h264_nal, tolerant
from faceinpaint_cli.media.fields import PROGRESSIVE, WORDS, FieldReader
from faceinpaint_cli.media.planes import same_samples
from faceinpaint_cli.media.smart_render import RenderPlan
from faceinpaint_cli.media.video_index import (
    NO_TIME,
    Look,
    VideoIndex,
    index_video,
    is_cover,
    light_of,
    mastering_of,
    nth_video,
    open_video,
)
from faceinpaint_cli.media.video_reader import DecodeLog, read_frames, read_packets
from faceinpaint_cli.media.video_writer import Written

ROUNDED_TIMES = {"matroska": Fraction(1, 1000), "webm": Fraction(1, 1000), "flv": Fraction(1, 1000),
                 "mpeg": Fraction(2, 90000), "mpegts": Fraction(2, 90000)}
"""Containers that round times, to this many seconds. (MPEG streams give a time to a few packets together; readers make
up those between.)"""


class AuditError(OutputError):
    """The finished file is not what it should be."""


@dataclass
class Findings:
    """What an audit found: `problems` fail the job, `notes` are what another container cannot keep."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"ok": not self.problems, **self.facts, "problems": self.problems, "notes": self.notes}


def audit(source: VideoIndex, output: Path, plan: RenderPlan | None, written: Written,
          damaged: bool = False) -> Findings:
    """Compare `output` with what was to be written.

    Looked at: the frames, their times, their field order, and that each decodes; that groups which were copied decode
    to the same samples; that copied streams hold the same packets at the same times; picture size and aspect, colour
    tags, rotation, chapters. Some containers shift all streams together, so that the first starts at zero: that one
    shift is allowed, and reported. In a `damaged` source other streams may be damaged too, and be cut into packets
    in another way when they are read again: then that is a note and no problem.
    """
    found = Findings(facts={"render": "copy" if plan is None else "smart" if plan.smart else "full"})
    if plan is not None and plan.why_full:
        found.facts["why_full"] = plan.why_full
    if written.left_out:
        found.facts["left_out"] = written.left_out
    shift: Fraction | None = None
    with open_video(source.path) as before, open_video(output) as after:
        pairs = _counterparts(before, after, [source.stream, *written.copied])
    number = pairs.pop(source.stream)
    with open_video(output) as after:
        same_kind = after.format.name == source.format
        tolerance: Fraction = ROUNDED_TIMES.get(after.format.name.split(",")[0], Fraction(0))
        if plan is None:
            pairs[source.stream] = number
        else:
            video = nth_video(after, number)
            if not tolerance and video.time_base and video.time_base != source.time_base:
                tolerance = video.time_base
            shift = _compare_frames(source, output, after, video, plan, written, tolerance, damaged, found)
    with open_video(source.path) as before, open_video(output) as after:
        _compare_packets(before, after, pairs, shift, tolerance, found, written,
                         found.notes if damaged else found.problems)
    with open_video(source.path) as before, open_video(output) as after:
        different = _facts_that_differ(source, before, after, number, written)
        same_kind &= nth_video(after, number).codec_context.codec.canonical_name == source.codec
    (found.problems if same_kind else found.notes).extend(different)
    if source.look.mastering is not None or source.look.light is not None:
        with open_video(output) as after:
            frame = next(_decoded(after, nth_video(after, number), DecodeLog()), None)
        if not _same_light(source.look, frame):
            found.notes.append("what the video says of its light (HDR) is lost or another")
    return found


def _same_light(look: Look, frame: av.VideoFrame | None) -> bool:
    """Codecs round the values in ways of their own."""
    a, b = look.mastering or (), mastering_of(frame) or ()
    return look.light == light_of(frame) and len(a) == len(b) and all(
        abs(x - y) <= Fraction(1, 1000) for x, y in zip(a, b, strict=True))


def require(found: Findings, output: Path) -> None:
    """Raise AuditError where an audit found anything wrong."""
    if found.problems:
        remedy = "another --codec" if output.suffix == ".mkv" else "an --output that ends in .mkv"
        if found.facts.get("render") == "smart":
            remedy = f"--render full, or {remedy}"
        raise AuditError(f"{output.name}: the finished video is not what it should be: "
                         f"{'; '.join(found.problems[:3])}; nothing was written; try {remedy}")


def _counterparts(before: av.container.InputContainer, after: av.container.InputContainer,
                  numbers: list[int]) -> dict[int, int]:
    """For streams of the source the streams of the output: the first video for the first, and so on. (Containers
    put streams of their own, such as chapter titles, between, and covers last.)"""

    def kind(stream: av.stream.Stream) -> tuple[str, bool]:
        return stream.type, is_cover(stream)

    waiting: dict[tuple[str, bool], list[int]] = {}
    for stream in after.streams:
        waiting.setdefault(kind(stream), []).append(stream.index)
    pairs = {}
    for number in sorted(numbers):
        others = waiting.get(kind(before.streams[number]))
        if not others:
            raise AuditError(f"the finished {Path(after.name).suffix} lacks stream {number} of the input "
                             f"({before.streams[number].type}); give an --output that ends in .mkv")
        pairs[number] = others.pop(0)
    return pairs


def _compare_frames(source: VideoIndex, output: Path, container: av.container.InputContainer, stream: av.VideoStream,
                    plan: RenderPlan, written: Written, tolerance: Fraction, damaged: bool, found: Findings
                    ) -> Fraction | None:
    """Returns by how many seconds the output starts later."""
    tolerant.configure(stream.codec_context, threads=True)
    own, theirs = DecodeLog(), DecodeLog()
    copied = [group.frames for group in plan.copied]
    originals = read_frames(source, copied, theirs)
    kept = np.zeros(source.frames, bool)
    for span in copied:
        kept[slice(*span)] = True
    shift: Fraction | None = None
    places = iter(index_video(output).shown.tolist()) if container.format.name == "avi" else None
    frames = late = different = marked = 0
    fields_of = FieldReader()
    turned: list[tuple[int, str, str]] = []
    for number, frame in zip_longest(written.frames, _decoded(container, stream, own)):
        frames += frame is not None
        if frame is None or number is None:
            continue
        time = frame.pts if places is None else next(places, None)
        if time is not None:
            away = time * (stream.time_base or Fraction(1)) - int(source.shown[number]) * source.time_base
            shift = away if shift is None else shift
            late += abs(away - shift) > tolerance
        wanted, fields = written.fields.get(number, PROGRESSIVE), fields_of(frame)
        if kept[number]:
            _, original = next(originals, (None, None))
            different += original is None or not same_samples(original, frame)
            wanted = fields if original is None else fields_of(original)
        if wanted != fields:
            if wanted == PROGRESSIVE and fields == written.marked:
                marked += 1
            else:
                turned.append((number, fields, wanted))
    found.facts |= {"frames": frames, "frames_expected": len(written.frames), "frames_copied": int(kept.sum()),
                    "shift_seconds": float(shift or 0)}
    if frames != len(written.frames):
        found.problems.append(f"{frames} frames instead of {len(written.frames)}")
    if late:
        found.problems.append(f"{late} frames at another time")
    if different:
        found.problems.append(f"{different} copied frames decode to other samples")
    if marked:
        found.notes.append(f"{marked} progressive frames are marked {WORDS[written.marked]}, as the others are")
    if turned:
        number, fields, wanted = turned[0]
        # Where damage hides a picture of HEVC, whose fields are pictures of their own, those after it change places.
        known = written.loses_fields or (source.codec == "hevc" and damaged)
        (found.notes if known else found.problems).append(
            f"the field order of {len(turned)} frames changes (frame {number} is {WORDS[fields]} instead of "
            f"{WORDS[wanted]})")
    if own.errors > theirs.errors:
        found.problems.append(f"{own.errors} packets do not decode ({own.messages[0]})")
    return shift


def _decoded(container: av.container.InputContainer, stream: av.VideoStream, log: DecodeLog) -> Iterator[av.VideoFrame]:
    for place, (_, frames, error) in enumerate(tolerant.decode(stream.codec_context, read_packets(container, stream))):
        if error is not None:
            log.add(place, error)
        yield from frames


@dataclass
class _Stream:
    """Digest, number and times of a stream's packets; of PCM, whose samples every reader cuts as it likes, the times of
    the first and after the last."""

    codec: str
    time_base: Fraction
    prefix: int
    picture: bool
    digest: Any = field(default_factory=lambda: blake2b(digest_size=16))
    times: array[int] = field(default_factory=lambda: array("q"))

    def add(self, packet: av.Packet) -> None:
        self.digest.update(_payload(bytes(packet), self.codec, self.prefix))
        if self.codec.startswith("pcm_") and self.times:
            del self.times[1:]
            packet.pts = None if packet.pts is None else packet.pts + packet.duration
        self.times.append(NO_TIME if packet.pts is None else packet.pts)


def _compare_packets(before: av.container.InputContainer, after: av.container.InputContainer, pairs: dict[int, int],
                     shift: Fraction | None, tolerance: Fraction, found: Findings, written: Written,
                     wrong: list[str]) -> None:
    ours, theirs = _read_streams(after, list(pairs.values())), _read_streams(before, list(pairs))
    equal = 0
    for i, j in pairs.items():
        a, b = theirs[i], ours[j]
        name = f"stream {i} ({a.codec})"
        if len(a.times) != len(b.times):
            known = found.notes if len(a.times) - len(b.times) == written.refused[i] else wrong
            known.append(f"{name} has {len(b.times)} packets instead of {len(a.times)}")
        elif a.digest.digest() != b.digest.digest():
            wrong.append(f"{name}: the bytes of its packets changed")
        else:
            equal += 1
        if a.picture or not len(a.times) or len(a.times) != len(b.times):
            continue
        x, y = np.frombuffer(a.times, np.int64), np.frombuffer(b.times, np.int64)
        given = (x != NO_TIME) & (y != NO_TIME)
        if not given.any():
            continue
        first = int(np.argmax(given))
        exact = a.time_base == b.time_base
        if shift is None:
            shift = int(y[first]) * b.time_base - int(x[first]) * a.time_base
            tolerance = max(tolerance, Fraction(0) if exact else max(a.time_base, b.time_base))
        x, y = x[given], y[given]
        away = (y - x) * float(a.time_base) if exact else y * float(b.time_base) - x * float(a.time_base)
        limit = float(max(tolerance, Fraction(0) if exact else max(a.time_base, b.time_base))) * 1.5 + 1e-6
        late = np.abs(away - float(shift)) > limit
        if late.all():  # that no damage explains
            found.problems.append(f"{name}: all packets {float(np.median(away)) - float(shift):+.3f} s from their time")
        elif late.any():
            known = found.notes if late.sum() <= written.moved[i] else wrong
            known.append(f"{name}: {int(late.sum())} packets at another time")
    found.facts |= {"streams_copied": len(pairs), "streams_equal": equal}


def _read_streams(container: av.container.InputContainer, numbers: list[int]) -> dict[int, _Stream]:
    streams = {}
    for number in numbers:
        stream = container.streams[number]
        context = stream.codec_context
        codec = context.name if context is not None else stream.type
        prefix = h264_nal.length_size(codec, context.extradata) if codec in ("h264", "hevc") and context else 0
        streams[number] = _Stream(codec, stream.time_base or Fraction(1), prefix, is_cover(stream))
    if streams:
        for packet in read_packets(container, *(container.streams[n] for n in numbers)):
            streams[packet.stream_index].add(packet)
    return streams


def _payload(data: bytes, codec: str, prefix: int) -> bytes:
    """A packet without the packing that its container wants: ADTS headers of AAC, start codes or lengths and
    parameter sets of h264 and hevc."""
    if codec == "aac" and len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return data[7 if data[1] & 1 else 9 :]
    if codec == "h264":
        return b"".join(u.data for u in h264_nal.split(data, prefix) if u.data and 1 <= u.data[0] & 31 <= 5)
    if codec == "hevc":
        return b"".join(u.data for u in h264_nal.split(data, prefix) if u.data and u.data[0] >> 1 & 63 < 32)
    return data


def _facts_that_differ(source: VideoIndex, before: av.container.InputContainer, after: av.container.InputContainer,
                       number: int, written: Written) -> list[str]:
    """Names and values of what describes the video and is not the same in both files."""
    a, b = nth_video(before, source.stream), nth_video(after, number)
    different = []
    for name in ("width", "height", "color_range", "color_primaries", "color_trc", "colorspace"):
        x, y = getattr(a.codec_context, name), getattr(b.codec_context, name)
        # VP8's colours are told by its decoder, not by its container: said in so many words they are the same
        told = getattr(source.look, name, x)
        if written.tags.get(name, told) != told:
            x = told = written.tags[name]
        if y not in (x, told):
            different.append(f"{name} is {y} instead of {x}")
    x, y = a.sample_aspect_ratio or 1, b.sample_aspect_ratio or 1
    if x != y:
        different.append(f"pixel aspect is {y} instead of {x}")
    rotation = next((f.rotation for f in _decoded(after, b, DecodeLog())), 0)
    if (rotation - source.rotation) % 360:
        different.append(f"rotation is {rotation} instead of {source.rotation} degrees")
    chapters = [[(c["start"] * (c["time_base"] or 1), c["metadata"].get("title")) for c in f.chapters()]
                for f in (before, after)]
    if chapters[0] != chapters[1]:
        different.append(f"chapters are {chapters[1][:3]} instead of {chapters[0][:3]}")
    return different
