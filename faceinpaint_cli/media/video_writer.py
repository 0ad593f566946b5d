"""The output file: the video from encoded segments and copied packets, every other stream packet by packet."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np

from faceinpaint_cli.errors import OutputError
from faceinpaint_cli.media import video_packets
from faceinpaint_cli.media.atomic import scratch_beside
from faceinpaint_cli.media.carried import carries
from faceinpaint_cli.media.encoders import Encoder
from faceinpaint_cli.media.fields import PROGRESSIVE
from faceinpaint_cli.media.matroska_aspect import MARK, write_aspect
from faceinpaint_cli.media.mov_boxes import sample_kinds
from faceinpaint_cli.media.muxer_options import MOV_FAMILY, in_blu_rays_packets, muxer_options, programs_of
from faceinpaint_cli.media.segments import SegmentStore
from faceinpaint_cli.media.smart_render import Joiner, RenderPlan
from faceinpaint_cli.media.video_index import (
    VideoIndex,
    is_cover,
    keeps_alpha_apart,
    location,
    nth_video,
    open_video,
    reason,
)
from faceinpaint_cli.media.video_reader import read_packets

log = logging.getLogger(__name__)

OF_THE_CONTAINER = frozenset(("major_brand", "minor_version", "compatible_brands", "encoder"))
"""Metadata that a muxer writes about itself, not about the content."""
STATISTICS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "SOURCE_ID")
"""Matroska tags that describe the packets as they were."""
OFF_THE_RATE = 0.1
"""Frames by which a time may be away from those of the constant rate: where times are rounded they are."""
EQUAL_TIMES = 0x20000  # AVFMT_TS_NONSTRICT: two packets of a stream may be decoded at the same time
GLOBAL_HEADER = 0x40  # AVFMT_GLOBALHEADER: parameter sets stand in the header of the file, not in the packets
BLU_RAY_MAP = 0x100
"""Where the muxer puts the map of a program in packets with times of arrival: no other stream can have that number."""
ADTS = 0xFFF0
"""The first bits of a packet of AAC in a stream that has no header for all of them (ISO/IEC 13818-7, 6.2)."""
MATROSKA = frozenset(("matroska", "webm"))


@dataclass
class Written:
    """What went into an output: `frames` are the numbers of the source's frames in it, in order of display;
    `copied` the numbers of the source's other streams in it; `left_out` says which could not be carried, and why;
    `tags` are those of the video that are not the source's. `fields` is the field order (of `media.fields`) of frames
    that were encoded and are not progressive, `marked` that in which progressive ones are written if not as such, and
    `loses_fields` says that what is written cannot say it. `moved` counts, by stream, packets of other streams whose
    times went back, which no muxer takes, and `refused` those that are not in the output."""

    frames: list[int] = field(default_factory=list)
    copied: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    fields: dict[int, str] = field(default_factory=dict)
    marked: str = PROGRESSIVE
    loses_fields: bool = False
    moved: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)


def container_format(path: Path) -> str:
    """The short name of the muxer that a suffix stands for; OutputError where there is none."""
    try:
        with av.open(location(path.with_name("x" + path.suffix)), "w") as container:
            return container.format.name
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{path.name}: no container of that suffix can be written; give an --output that ends in "
                          ".mp4 or .mkv") from error


def wants_global_header(format_name: str) -> bool:
    return bool(av.ContainerFormat(format_name, "w").flags & GLOBAL_HEADER)


def write_video(source: VideoIndex, target: Path, format_name: str, plan: RenderPlan | None = None,
                encoder: Encoder | None = None, store: SegmentStore | None = None) -> Written:
    """Write `target` from the source and, where a plan is given, the encoded segments in the store.

    Without a plan every packet is copied. Raises OutputError where the container refuses.
    """
    try:
        with (open_video(source.path) as incoming,
              av.open(location(target), "w", format_name, muxer_options(source, incoming, format_name)) as out):
            written = _Assembly(source, incoming, out, plan, encoder, store).write()
        if _says_aspect_apart(source, format_name):
            write_aspect(target, (source.width, source.height), source.look.aspect or Fraction(1))
        return written
    except (av.FFmpegError, ValueError) as error:
        # muxers say EPERM of what they do not take; the file is there and open
        if isinstance(error, OSError) and error.errno and error.errno > 0 and error.errno != errno.EPERM:
            raise
        raise _refused(target, error) from error


def require_container(source: VideoIndex, output: Path, format_name: str, plan: RenderPlan, encoder: Encoder) -> None:
    """OutputError, before any picture is encoded, where the container would refuse what `write_video` puts into it."""
    with scratch_beside(output, output.suffix) as scratch, open_video(source.path) as incoming:
        out = av.open(location(scratch), "w", format_name, muxer_options(source, incoming, format_name))
        try:
            _Assembly(source, incoming, out, plan, encoder, None, quiet=True).begin()
        except (av.FFmpegError, ValueError) as error:
            encoder.open(source, global_header=False)  # if it is the encoder, that says why
            raise _refused(output, error) from error
        finally:
            with suppress(av.FFmpegError, ValueError, OSError):  # it has a start but no packets
                out.close()


def _refused(target: Path, error: Exception) -> OutputError:
    why = "its muxer does not take it" if isinstance(error, PermissionError) else reason(error)
    return OutputError(f"{target.suffix} cannot hold this video with what is beside it ({why}); give an --output that "
                       "ends in .mkv, or another --codec")


class _Assembly:
    def __init__(self, source: VideoIndex, incoming: av.container.InputContainer, out: av.container.OutputContainer,
                 plan: RenderPlan | None, encoder: Encoder | None, store: SegmentStore | None,
                 quiet: bool = False) -> None:
        self.quiet = quiet
        self.source, self.incoming, self.out = source, incoming, out
        self.plan, self.encoder, self.store = plan, encoder, store
        self.written = Written()
        self.video_in = nth_video(incoming, source.stream)
        self.kinds = sample_kinds(source.path) if "mov" in source.format else {}
        self.programs = programs_of(source, out.format.name)
        self.blu_ray = in_blu_rays_packets(source, out.format.name)
        self.has_alpha = keeps_alpha_apart(self.video_in)
        self.keeps_alpha = self.has_alpha and out.format.name in MATROSKA and (
            plan is None or encoder is None or encoder.codec == source.codec)
        self.takes_equal_times = bool(av.ContainerFormat(out.format.name, "w").flags & EQUAL_TIMES)
        self._last: dict[int, int] = {}
        """When the last packet of each other stream is decoded."""
        self.joiner = Joiner(source.codec, self.video_in.codec_context.extradata)

    def begin(self) -> None:
        """Everything before the first packet."""
        self._copy_container_facts()
        self._add_streams()
        self.out.start_encoding()

    def write(self) -> Written:
        self._copy_container_facts()
        outputs = self._add_streams()
        feed = self._feed()
        for packet in read_packets(self.incoming, *(self.incoming.streams[i] for i in outputs)):
            target = outputs[packet.stream_index]
            if packet.stream_index == self.source.stream:
                self._mux(feed(packet), target)
            elif self._is_taken(packet):
                self._keep_order(packet, target)
                self._mux((packet,), target)
            else:
                self.written.refused[packet.stream_index] += 1
        self._mux(feed(None), outputs[self.source.stream])
        for number, count in self.written.moved.items():
            log.warning("%s: the times of stream %d go back; %d of its packets come later than they say",
                        self.source.path, number, count)
        for number, count in self.written.refused.items():
            log.warning("%s: %d packets of stream %d are no sound any more and are left out", self.source.path, count,
                        number)
        self.written.frames = video_packets.written_frames(self.source, self.plan, self.store)
        if self.encoder is not None and self.store is not None:
            self.written.fields = {number: order for facts in self.store.facts.values()
                                   for number, order in zip(facts.frames, facts.fields, strict=True)
                                   if order != PROGRESSIVE}
            self.written.marked = self.encoder.fields if self.encoder.marks_all else PROGRESSIVE
            self.written.loses_fields = self.encoder.loses_fields
        return self.written

    def _mux(self, packets: Iterable[av.Packet], stream: av.stream.Stream) -> None:
        for packet in packets:
            packet.stream = stream
            self.out.mux(packet)

    def _is_taken(self, packet: av.Packet) -> bool:
        """Whether muxers take a packet of another stream. (They end all work at AAC of a transport stream without its
        header, which is what is left where data were lost.)"""
        context = packet.stream.codec_context
        if context is None or context.name != "aac" or self.source.format != "mpegts" or context.extradata:
            return True
        return packet.size >= 2 and int.from_bytes(bytes(memoryview(packet)[:2]), "big") & ADTS == ADTS

    def _keep_order(self, packet: av.Packet, target: av.stream.Stream) -> None:
        """Move a packet behind the one before it where its time goes back, as in streams of which data were lost or
        came twice."""
        if packet.dts is None or packet.time_base is None:
            return
        number, last = packet.stream_index, self._last.get(packet.stream_index)
        step = 0
        if not self.takes_equal_times and target.type in ("audio", "video"):
            step = max(1, ceil((target.time_base or packet.time_base) / packet.time_base))
        if last is not None and packet.dts < last + step:
            self.written.moved[number] += 1
            packet.dts = last + step
            packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
        self._last[number] = packet.dts

    def _feed(self) -> video_packets.Feed:
        if self.plan is None or self.store is None:
            return video_packets.copied(self.source)
        if self.plan.smart:
            return video_packets.joined(self.source, self.plan, self.store, self.joiner)
        return video_packets.encoded(self.source, self.plan, self.store, self.keeps_alpha)

    def _copy_container_facts(self) -> None:
        self.out.metadata.update({k: v for k, v in self.incoming.metadata.items()
                                  if k.lower() not in OF_THE_CONTAINER})
        if "creation_time" in self.out.metadata:  # said twice where there are both an old place and a key for it
            self.out.metadata["creation_time"] = self.out.metadata["creation_time"].split(";")[0]
        if len(self.programs) == 1:
            names = {"service_name": self.programs[0].name, "service_provider": self.programs[0].provider}
            self.out.metadata.update({k: v for k, v in names.items() if v})
        elif self.programs:
            self._leave_out("the division into programs " + ", ".join(p.label for p in self.programs),
                            "their streams are written as one program")
        chapters = self.incoming.chapters()
        if chapters:
            self.out.set_chapters(chapters)

    def _add_streams(self) -> dict[int, av.stream.Stream]:
        outputs: dict[int, av.stream.Stream] = {}
        for stream in self.incoming.streams:
            if stream.index == self.source.stream:
                outputs[stream.index] = self._add_video()
            elif isinstance(stream, av.stream.AttachmentStream):
                self._attach(stream, stream.mimetype or "application/octet-stream", stream.data)
            elif is_cover(stream) and self.out.format.name in MATROSKA:
                self._attach(stream, "image/png" if stream.codec_context.name == "png" else "image/jpeg",
                             _only_packet(self.source.path, stream.index))
                self.written.copied.append(stream.index)
            else:
                added = self._add_copy(stream)
                if added is not None:
                    outputs[stream.index] = added
        self.written.copied += [i for i in outputs if i != self.source.stream]
        return outputs

    def _add_video(self) -> av.VideoStream:
        if self.plan is None or self.plan.smart:
            stream = self.out.add_stream_from_template(self.video_in, opaque=True)
            if self.out.format.name in self.source.format.split(","):
                stream.codec_context.codec_tag = self.video_in.codec_context.codec_tag
            if self.source.look.aspect:  # where only the container says it
                stream.codec_context.sample_aspect_ratio = self.source.look.aspect
            if "tmcd" in self.kinds.values():  # time code is made anew only with a rate
                stream.codec_context.framerate = self.source.rate
            if self.plan is not None and self.store is not None:
                first = next((p for a, _ in self.plan.segments for p in self.store.packets(a)), None)
                if first is not None:
                    stream.codec_context.extradata = self.joiner.extradata(first.data)
        else:
            assert self.encoder is not None
            encoded = self.out.add_stream(self.encoder.name, rate=self.encoder.rate)
            assert isinstance(encoded, av.VideoStream)
            stream = encoded
            self.encoder.configure(stream.codec_context, self.source)
            self.written.tags = {"colorspace": self.encoder.colorspace, "color_range": self.encoder.color_range}
            if self.encoder.name == "libx265" and self.out.format.name in MOV_FAMILY:
                stream.codec_context.codec_tag = "hvc1"  # the one that Apple's players take
            if self.source.rotation:
                stream.set_display_rotation(self.source.rotation)
        stream.time_base = self._time_base()
        self._copy_stream_facts(self.video_in, stream)
        if _says_aspect_apart(self.source, self.out.format.name):
            stream.metadata["title"] = stream.metadata.get("title", "") + MARK
        if self.has_alpha and not self.keeps_alpha:
            for key in [k for k in stream.metadata if k.lower() == "alpha_mode"]:
                del stream.metadata[key]
            self._leave_out("the alpha of the video", f"{self.out.format.name} and this codec have no place for it")
        return stream

    def _time_base(self) -> Fraction:
        """That of the source; in AVI and Ogg, which count frames, that of the rate where all times are at it (with a
        finer one there would be hundreds of frames a second, most of them empty)."""
        source = self.source
        places = (source.shown - source.shown[0]) * float(source.time_base * source.rate)
        if self.out.format.name in ("avi", "ogg", "ogv") and np.abs(places - np.rint(places)).max() < OFF_THE_RATE:
            return 1 / source.rate
        return source.time_base

    def _add_copy(self, stream: av.stream.Stream) -> av.stream.Stream | None:
        name = stream.codec_context.name if stream.codec_context is not None else stream.name or "data"
        what = f"stream {stream.index} ({stream.type}, {self.kinds.get(stream.id) or name})"
        kind, to_mov = self.kinds.get(stream.id, ""), self.out.format.name in MOV_FAMILY
        if (kind == "tmcd" and to_mov) or (stream.type == "data" and kind == "text" and self.incoming.chapters()):
            log.debug("%s: %s is made anew by the container, from metadata or chapters", self.source.path, what)
            return None
        taken = self.out.format.name == "mpegts" or (to_mov and kind == "gpmd")
        if stream.type in ("data", "unknown") and not taken:
            self._leave_out(what, f"{self.out.format.name} cannot carry it")
            return None
        if is_cover(stream) and self.out.format.name == "mov":
            self._leave_out(what, "mov has no cover pictures")
            return None
        if self.out.format.name not in self.source.format.split(",") and not carries(self.out.format.name, stream):
            self._leave_out(what, f"{self.out.format.name} cannot carry it")
            return None
        try:
            added = self.out.add_stream_from_template(stream, opaque=True)
        except (ValueError, av.FFmpegError) as error:
            self._leave_out(what, str(error))
            return None
        self._copy_stream_facts(stream, added)
        return added

    def _leave_out(self, what: str, why: str) -> None:
        if not self.quiet:
            log.warning("%s: %s is not carried over: %s", self.source.path, what, why)
        self.written.left_out.append(f"{what}: {why}")

    def _attach(self, stream: av.stream.Stream, kind: str, data: bytes) -> None:
        name = stream.metadata.get("filename", "cover." + kind.split("/")[1])
        if self.out.format.name in MATROSKA:
            self.out.add_attachment(name, kind, data)
        else:
            self._leave_out(f"stream {stream.index} (attachment {name})", f"{self.out.format.name} has none")

    def _copy_stream_facts(self, source: av.stream.Stream, target: av.stream.Stream) -> None:
        target.metadata.update({k: v for k, v in source.metadata.items()
                                if k.lower() not in OF_THE_CONTAINER and not k.upper().startswith(STATISTICS)})
        target.disposition = source.disposition
        if self.programs and not (source.id == BLU_RAY_MAP and self.blu_ray):
            target.id = source.id


def _only_packet(path: Path, number: int) -> bytes:
    with open_video(path) as container:
        return bytes(next(read_packets(container, container.streams[number])))


def _says_aspect_apart(source: VideoIndex, format_name: str) -> bool:
    """Whether the aspect of pixels must be put into the header that the muxer wrote."""
    return format_name in MATROSKA and (source.look.aspect or 1) != 1
