"""Decoding that survives: packet by packet, errors kept apart, as many frames as the decoder can give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.codec.context import Flags, Flags2

from faceinpaint_cli.media.hevc_sps import unordered_extradata
from faceinpaint_cli.media.vp9_headers import pictures

AV1_THREADS = 2
"""Of dav1d, which has threads of its own: with one it goes on from pictures that failed, and what it shows is worse
than the last intact one; with more it shows nothing until the next keyframe. So it is the same on every machine."""
STRICT = {"err_detect": "explode+aggressive", "ec": "0", "skip_loop_filter": "all"}
"""Options with which H.264's decoder makes nothing up, but fails: for what asks only whether something decodes."""


def open_decoder(
    stream: av.VideoStream, threads: bool, vectors: bool = False, whole: bool = False, at_once: bool = False
) -> av.VideoCodecContext:
    """A decoder of its own for the packets of `stream`, set to give damaged pictures too.

    With `threads` frame threading is used: fast, but an error may show some packets late. Without, each
    error belongs to the packet just given. (Slice threading, the default, hides which frames are corrupt.)
    `vectors` exports motion vectors as side data, where the codec can. `whole` gives H.264 and HEVC pictures without
    cropping: what is hidden beyond the edge is referred to all the same. `at_once` gives pictures in decoding
    order, each with its own packet (without threads; MPEG-1, 2, 4 and HEVC, whose packets must go through
    `unordered_packet`).
    """
    context = av.CodecContext.create(stream.codec_context.codec.name, "r")
    context.extradata = stream.codec_context.extradata
    context.codec_tag = stream.codec_context.codec_tag
    context.bits_per_coded_sample = stream.codec_context.bits_per_coded_sample
    if whole:
        context.flags2 |= Flags2.ignore_crop
    else:
        context.width, context.height = stream.codec_context.width, stream.codec_context.height
    configure(context, threads, vectors)
    if at_once:
        context.flags |= Flags.low_delay
        if context.name == "hevc":
            context.extradata = unordered_extradata(context.extradata)
    return context


def configure(context: av.VideoCodecContext, threads: bool, vectors: bool = False) -> None:
    """Set threading and the flags for damaged streams; before the first decode."""
    context.thread_type = "FRAME" if threads else "NONE"
    if context.name == "libdav1d":
        context.thread_count = AV1_THREADS
    context.flags |= Flags.output_corrupt
    context.flags2 |= Flags2.show_all
    if vectors:
        context.flags2 |= Flags2.export_mvs


def decode(
    context: av.VideoCodecContext, packets: Iterable[av.Packet]
) -> Iterator[tuple[av.Packet | None, list[av.VideoFrame], Exception | None]]:
    """Give the packets one by one, then drain: yields (packet, frames, error); the last packet is None."""
    for packet in packets:
        yield packet, *decode_one(context, packet)
    while True:
        frames, error = decode_one(context, None)
        if frames or error is None:
            yield None, frames, error
            return


def decode_one(
    context: av.VideoCodecContext, packet: av.Packet | None
) -> tuple[list[av.VideoFrame], Exception | None]:
    """The frames that come out for a packet, or at the end (None), and what went wrong."""
    if packet is None and not context.is_open:  # it would wait for ever
        return [], None
    frames: list[av.VideoFrame] = []
    failure: Exception | None = None
    for part in [packet] if packet is None or context.name != "vp9" else _apart(packet):
        try:
            frames += context.decode(part)
        except EOFError:
            pass
        except (av.FFmpegError, ValueError) as error:
            failure = failure or error
    return frames, failure


def _apart(packet: av.Packet) -> list[av.Packet]:
    """Each picture of a VP9 packet as one of its own: where one of several fails, the library keeps the others back,
    and takes no further packet."""
    if not packet.size:
        return [packet]
    parts = [av.Packet(part) for part in pictures(bytes(packet))]
    for part in parts:
        part.pts, part.dts, part.time_base = packet.pts, packet.dts, packet.time_base
    return parts if len(parts) > 1 else [packet]


def vectors_of(frame: av.VideoFrame) -> np.ndarray | None:
    """Motion vectors as the decoder exports them, None where it does not."""
    side = frame.side_data.get("MOTION_VECTORS")
    return None if side is None else side.to_ndarray().copy()
