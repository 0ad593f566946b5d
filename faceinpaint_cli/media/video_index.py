"""What a video file holds, packet by packet, before anything is decoded: times, groups, and the stream to repair."""

from __future__ import annotations

import logging
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np

from faceinpaint_cli.errors import InputError
from faceinpaint_cli.media import h264_nal
from faceinpaint_cli.media.fields import BY_STREAM, PROGRESSIVE, FieldReader
from faceinpaint_cli.media.untimed import timed

log = logging.getLogger(__name__)

NO_TIME = np.iinfo(np.int64).min
"""Stands for a packet time that the file does not give."""
MOST_REORDERED = 16
"""Pictures that a decoder holds back at most (ITU-T H.264, A.3.1; H.265, A.4.2): times that go back farther are those
of another recording."""
FIRST_FRAME_PACKETS = 500
OPEN_SECONDS, READ_SECONDS = 60.0, 60.0
"""After so long without an answer from the file (a dead network mount, say) reading it fails."""


@dataclass(frozen=True)
class Group:
    """Pictures that are decoded without those before, and that no later group needs.

    Packets `packets[0]` up to, without, `packets[1]` in the order of the file are the frames `frames[0]` up to
    `frames[1]` in the order of display.
    """

    packets: tuple[int, int]
    frames: tuple[int, int]


@dataclass(frozen=True)
class Look:
    """What an encoder must be told so that pictures look as before; tags as the library numbers them.

    `mastering`: the screen that HDR was graded on, as SMPTE ST 2086 has it: x and y of red, green, blue and white,
    least and greatest light in cd/m2. `light`: MaxCLL and MaxFALL (CTA-861), in cd/m2. `field_order` is what the stream
    says, `fields` what its first frame does, or else the stream: one of `media.fields`.
    """

    pixel_format: str
    aspect: Fraction | None
    color_range: int
    color_primaries: int
    color_trc: int
    colorspace: int
    field_order: int
    fields: str
    profile: str | None
    mastering: tuple[Fraction, ...] | None
    light: tuple[int, int] | None


@dataclass(frozen=True)
class VideoIndex:
    """The video stream of `path` that is repaired.

    `width`, `height` are coded pixels; `rotation` in degrees counter-clockwise brings them upright on display.
    `pts`, `dts`, `durations` (int64, in `time_base` seconds, NO_TIME where not given and not to be told from the
    others) are per packet, in the order of the file; `times` are the times of the shown frames, ascending, and
    `exact` says whether they are the file's own (else they are made from the decoding times or the rate).
    """

    path: Path
    stream: int
    format: str
    codec: str
    width: int
    height: int
    rotation: int
    look: Look
    time_base: Fraction
    rate: Fraction
    pts: np.ndarray
    dts: np.ndarray
    durations: np.ndarray
    times: np.ndarray
    exact: bool
    groups: tuple[Group, ...]

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) as shown, after rotation."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)

    @cached_property
    def shown(self) -> np.ndarray:
        """When frames are shown: at their `times`, but in AVI, where a frame's place is its time, at that. (The reader
        makes `times` up, late by what it takes for the decoder's delay: they only tell frames apart.)"""
        if self.format != "avi" or not self.exact:
            return self.times
        return np.rint(np.interp(self.times, np.sort(self.pts), np.sort(self.dts))).astype(np.int64)

    @property
    def reordered(self) -> bool:
        """Whether pictures are decoded in another order than they are shown."""
        return bool((self.pts != self.dts).any())

    def duration_of(self, number: int) -> int:
        """How long a frame is shown, in `time_base`: until the next one, the last as long as its packet says."""
        if number + 1 < self.frames:
            return int(self.shown[number + 1] - self.shown[number])
        last = int(np.argmax(self.pts)) if self.exact else len(self.durations) - 1
        return max(int(self.durations[last]), 0) or round(1 / self.rate / self.time_base)


def reason(error: Exception) -> str:
    """What a library's error says, without its numbers and paths."""
    return getattr(error, "strerror", None) or str(error)


def location(path: Path) -> str:
    """How the library is told of a file: from the root on, since what stands before a colon is a protocol to it."""
    return str(path.absolute())


@contextmanager
def open_video(path: Path) -> Iterator[av.container.InputContainer]:
    """The opened file; InputError where it is none."""
    if not path.is_file():
        raise InputError(f"{path}: expected a video file, there is none; check the path")
    if not path.stat().st_size:
        raise InputError(f"{path}: expected a video, the file is empty (0 bytes); get it again")
    try:
        container = av.open(location(path), metadata_errors="replace", timeout=(OPEN_SECONDS, READ_SECONDS))
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allow reading it") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: expected a video, cannot be opened as one ({reason(error)}); it is broken off, "
                         "damaged or of another kind, get it again or leave it out") from error
    with container:
        yield container


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The stream that is repaired: the best one that is no cover picture and that can be decoded."""
    streams = [s for s in container.streams.video if not is_cover(s)]
    if not streams:
        found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(f"{path}: expected a video stream, found only {found}; leave this file out")
    readable = [s for s in streams if s.codec_context is not None and s.codec_context.width]
    if not readable:
        raise InputError(f"{path}: its video cannot be decoded (unknown or encrypted codec, or no picture size); "
                         "convert it first")
    best = container.streams.best("video")
    return best if best in readable else readable[0]


def is_cover(stream: av.stream.Stream) -> bool:
    """Whether a video stream is one still picture that stands for the file."""
    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def nth_video(container: av.container.InputContainer, number: int) -> av.VideoStream:
    """Stream `number` of a file, which is a video stream."""
    stream = container.streams[number]
    assert isinstance(stream, av.VideoStream)
    return stream


def keeps_alpha_apart(stream: av.VideoStream) -> bool:
    """Whether the transparency of a video is a stream of its own beside its pictures, as in WebM: decoders pass over
    it."""
    return {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"


def index_video(path: Path) -> VideoIndex:
    """Read the packets of a video, without decoding them.

    Raises InputError where the file cannot be opened, has no video stream, or not one packet in it.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        codec = context.codec.canonical_name  # not that of the decoder, such as libdav1d
        prefix = h264_nal.length_size(codec, context.extradata)
        pts, dts, durations = array("q"), array("q"), array("q")
        starts, discarded = array("b"), array("b")
        try:
            for packet in timed(container.demux(stream), container):
                if not packet.size:
                    continue
                pts.append(NO_TIME if packet.pts is None else packet.pts)
                dts.append(NO_TIME if packet.dts is None else packet.dts)
                durations.append(packet.duration or 0)
                starts.append(packet.is_keyframe and starts_group(codec, bytes(packet), prefix))
                discarded.append(packet.is_discard)
        except av.FFmpegError as error:
            log.warning("%s: reading stopped at packet %d (%s)", path, len(pts), error)
        if not pts:
            raise InputError(f"{path}: expected a video, its video stream holds no picture; get the file again")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        time_base = stream.time_base or 1 / rate
        arrays = [np.frombuffer(a, np.int64) for a in (pts, dts, durations)]
        skip = np.frombuffer(discarded, np.int8) > 0
        times, exact = _shown_times(arrays[0], arrays[1], skip, time_base, rate)
        first = np.frombuffer(starts, np.int8) > 0
        groups = _groups(arrays[0], first, len(times)) if exact and not skip.any() else ()
        if exact:
            arrays[1] = _with_decoding_times(arrays[0], arrays[1], time_base, rate)
        first_frame = _first_frame(container, stream)
        return VideoIndex(
            path=path, stream=stream.index, format=container.format.name, codec=codec,
            width=context.width, height=context.height, look=_look(stream, first_frame),
            rotation=0 if first_frame is None else round(first_frame.rotation / 90) * 90 % 360,
            time_base=time_base, rate=rate, pts=arrays[0], dts=arrays[1], durations=arrays[2], times=times,
            exact=exact, groups=groups or (Group((0, len(pts)), (0, len(times))),),
        )


def require_order(source: VideoIndex) -> None:
    """InputError where the packets' decoding times go back: no container takes such a video but by copying the file."""
    known = source.dts[source.dts != NO_TIME]
    backward = np.flatnonzero(np.diff(known) < 0)
    if len(backward):
        place = int(backward[0]) + 1
        by = float((known[place - 1] - known[place]) * source.time_base)
        raise InputError(f"{source.path}: its times go back by {by:.2f} s at packet {place} (recordings joined end to "
                         "end?); split it there, or have its times made anew first (ffmpeg -i IN -c copy OUT does so)")


def starts_group(codec: str, packet: bytes, prefix: int) -> bool:
    """Whether a key packet can be decoded, and everything after it, without what came before.

    h264 marks such pictures as IDR (type 5), hevc as IDR, BLA or CRA (types 16-21); the pictures shown before a
    CRA are dealt with by their times. MPEG-1 and -2 need the sequence header in the packet.
    """
    if codec == "h264":
        return any(n.data[0] & 31 == 5 for n in h264_nal.split(packet, prefix) if n.data)
    if codec == "hevc":
        return any(16 <= (n.data[0] >> 1 & 63) <= 21 for n in h264_nal.split(packet, prefix) if n.data)
    if codec in ("mpeg1video", "mpeg2video"):
        return packet.startswith(b"\0\0\1\xb3")
    return True


def _shown_times(pts: np.ndarray, dts: np.ndarray, skip: np.ndarray, time_base: Fraction,
                 rate: Fraction) -> tuple[np.ndarray, bool]:
    if (pts != NO_TIME).all():
        return np.sort(pts[~skip]), True
    if (dts != NO_TIME).all() and (np.diff(dts) > 0).all():
        return dts.copy(), False
    step = 1 / rate / time_base
    return np.array([round(i * step) for i in range(len(pts))], np.int64), False


def decoding_times(times: np.ndarray, delay: int, step: int) -> np.ndarray:
    """When packets of frames shown at `times` (ascending) are decoded: as the frame `delay` places earlier is shown.

    With a delay of as many places as pictures are reordered at most, none is decoded after it is shown; the
    first ones are decoded before the video starts, `step` apart. No two are decoded at the same time.
    """
    lead = times[:1] - max(1, step) * np.arange(delay, 0, -1)
    places = np.arange(len(times))  # muxers want them to ascend, also where frames share a time
    return np.minimum.accumulate((np.concatenate([lead, times])[: len(times)] - places)[::-1])[::-1] + places


def with_missing(source: VideoIndex, times: Sequence[int]) -> VideoIndex:
    """The index with frames at `times` put in, which no packet holds; they belong to the group that they end."""
    extra = np.setdiff1d(np.array(times, np.int64), source.times)
    if not len(extra):
        return source
    every = np.sort(np.concatenate([source.times, extra]))
    starts = [0, *(int(np.searchsorted(every, source.times[g.frames[0]])) for g in source.groups[1:]), len(every)]
    groups = tuple(Group(g.packets, span) for g, span in zip(source.groups, pairwise(starts), strict=True))
    return replace(source, times=every, groups=groups)


def reorder_delay(pts: np.ndarray) -> int:
    """By how many places packets are reordered at most, given their times of display in order of decoding."""
    ranks = np.empty(len(pts), np.int64)
    ranks[np.argsort(pts, kind="stable")] = np.arange(len(pts))
    return int((np.arange(len(pts)) - ranks).max(initial=0))


def _with_decoding_times(pts: np.ndarray, dts: np.ndarray, time_base: Fraction, rate: Fraction) -> np.ndarray:
    """`dts` with what is missing filled in, or made anew where they go back although times of display are such as
    reordered pictures have. (Matroska stores none; its reader guesses all but the first few, and wrong ones where
    packets are lost. In transport streams packets change places.)"""
    missing, delay = dts == NO_TIME, reorder_delay(pts)
    backward = not missing.any() and bool((np.diff(dts) < 0).any()) and delay <= MOST_REORDERED
    if not missing.any() and not backward:
        return dts
    made = decoding_times(np.sort(pts), delay, round(1 / rate / time_base))
    filled = np.where(missing, made, dts)
    return filled if (np.diff(filled) > 0).all() else made


def _groups(pts: np.ndarray, first: np.ndarray, frames: int) -> tuple[Group, ...]:
    """Cut before each key packet that is shown after all that come before it, and before all that follow."""
    if len(pts) != frames:
        return ()
    before = np.concatenate([[NO_TIME], np.maximum.accumulate(pts)[:-1]])
    after = np.minimum.accumulate(pts[::-1])[::-1]
    cuts = np.flatnonzero(first & (before < pts) & (after == pts))
    edges = sorted({0, *cuts.tolist(), frames})
    return tuple(Group((a, b), (a, b)) for a, b in pairwise(edges))


def _look(stream: av.VideoStream, frame: av.VideoFrame | None) -> Look:
    context = stream.codec_context
    fields = PROGRESSIVE if frame is None else FieldReader()(frame)
    if fields == PROGRESSIVE:
        fields = BY_STREAM.get(int(context.field_order), PROGRESSIVE)
    return Look(
        pixel_format=frame.format.name if frame is not None else context.pix_fmt or "",
        aspect=stream.sample_aspect_ratio, color_range=int(context.color_range),
        color_primaries=int(context.color_primaries), color_trc=int(context.color_trc),
        colorspace=int(context.colorspace), field_order=int(context.field_order), fields=fields,
        profile=context.profile, mastering=mastering_of(frame), light=light_of(frame),
    )


def mastering_of(frame: av.VideoFrame | None) -> tuple[Fraction, ...] | None:
    """`Look.mastering` of a frame, None where it is not said in full."""
    data = None if frame is None else frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if data is None:
        return None
    *values, has_primaries, has_light = struct.unpack("=22i", bytes(data))
    if not (has_primaries and has_light and all(values[1::2])):
        return None
    return tuple(Fraction(a, b) for a, b in zip(values[::2], values[1::2], strict=True))


def light_of(frame: av.VideoFrame | None) -> tuple[int, int] | None:
    """`Look.light` of a frame."""
    data = None if frame is None else frame.side_data.get("CONTENT_LIGHT_LEVEL")
    return None if data is None else struct.unpack("=2I", bytes(data))


def _first_frame(container: av.container.InputContainer, stream: av.VideoStream) -> av.VideoFrame | None:
    """The first frame that decodes, looked for in the first packets."""
    try:
        container.seek(0, backward=True)
        stream.codec_context.thread_type = "NONE"
        for packet in islice(container.demux(stream), FIRST_FRAME_PACKETS):
            try:
                if frames := packet.decode():
                    return frames[0]
            except (av.FFmpegError, ValueError):
                continue
    except av.FFmpegError:
        return None
    return None
