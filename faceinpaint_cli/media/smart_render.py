"""Groups of frames that change are encoded anew, all others are copied: what may be cut where, and how it joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from faceinpaint_cli.media import h264_nal
from faceinpaint_cli.media.encoders import Encoder
from faceinpaint_cli.media.hevc_sps import record_units
from faceinpaint_cli.media.video_index import NO_TIME, Group, VideoIndex, nth_video, open_video
from faceinpaint_cli.media.video_reader import Span, read_packets

SEGMENT_FRAMES = 250
"""A segment ends here at the latest: what an interruption can cost. Encoders set a key picture as often anyway."""
SELF_CONTAINED = frozenset(("h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "mpeg1video", "mpeg2video", "dnxhd",
                            "png"))
"""Codecs whose groups can stand beside groups of another encoder in one stream: h264 with a parameter set of another
number, hevc with the parameter sets said again at each group, the others because their key pictures carry all that
decoding needs."""
SPS, PPS = 7, 8
HEVC_SETS = (32, 33, 34)  # VPS, SPS, PPS: ITU-T H.265, table 7-1


@dataclass(frozen=True)
class RenderPlan:
    """Which frames are encoded, cut into segments, and which groups are copied. `why_full` says why a smart render
    was not possible, if it was asked for."""

    smart: bool
    segments: tuple[Span, ...]
    copied: tuple[Group, ...]
    why_full: str = ""

    @classmethod
    def full(cls, source: VideoIndex, why: str = "") -> RenderPlan:
        """Every frame is encoded."""
        return cls(False, _segments([(0, source.frames)]), (), why)


def plan_render(source: VideoIndex, changed: Sequence[bool], encoder: Encoder, container_format: str,
                wish_smart: bool) -> RenderPlan:
    """`changed` says for each group of the source whether a frame of it changes."""
    why = "" if not wish_smart else _why_not(source, changed, encoder, container_format)
    if not wish_smart or why:
        return RenderPlan.full(source, why)
    again = [g.frames for g, c in zip(source.groups, changed, strict=True) if c]
    copied = tuple(g for g, c in zip(source.groups, changed, strict=True) if not c)
    return RenderPlan(True, _segments(again), copied)


def smart_encoder(encoder: Encoder, source: VideoIndex) -> Encoder:
    """The encoder for groups between copied ones: in the order of display, parameter sets of a free number."""
    options = dict(encoder.options)
    if encoder.name == "libx264":
        options["bf"] = "0"
        number = f"sps-id={_free_number(source)}"
        options["x264-params"] = ":".join(filter(None, (options.get("x264-params"), number)))
    elif encoder.name == "libx265":
        options["x265-params"] += ":bframes=0:open-gop=0"
    elif encoder.name in ("mpeg1video", "mpeg2video"):
        options["bf"] = "0"
    elif encoder.name == "libvpx-vp9":
        options["auto-alt-ref"] = "0"
    return replace(encoder, options=options)


class Joiner:
    """Packs encoded packets as the copied ones of the stream are packed, and names their parameter sets up front."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        self._extradata = extradata
        self._prefix = h264_nal.length_size(codec, extradata) if codec in ("h264", "hevc") else 0
        self._sets = [] if codec != "hevc" else [
            unit for unit in record_units(extradata, self._prefix) if _hevc_type(unit) in HEVC_SETS]

    def start(self, data: bytes) -> bytes:
        """The first packet of a copied group, hevc with the parameter sets of the source before its picture: those
        of an encoded group have the same numbers, and may have come before."""
        if not self._sets or any(_hevc_type(unit.data) in HEVC_SETS for unit in h264_nal.split(data, self._prefix)):
            return data
        return h264_nal.join(self._sets, self._prefix) + data

    def pack(self, data: bytes) -> bytes:
        if not self._prefix:
            return data
        return h264_nal.join([unit.data for unit in h264_nal.split(data, 0)], self._prefix)

    def extradata(self, first_encoded: bytes) -> bytes | None:
        """The configuration record with the parameter sets of the encoded groups added (they also stand in the
        packets): players that look only here find them."""
        if not self._prefix or self._extradata is None or self._codec != "h264":
            return self._extradata
        units = [unit.data for unit in h264_nal.split(first_encoded, 0)]
        return _with_parameter_sets(self._extradata, [u for u in units if u[0] & 31 == SPS],
                                    [u for u in units if u[0] & 31 == PPS])


def free_parameter_set(extradata: bytes | None, first_packet: bytes) -> int:
    """A sequence parameter set number that an h264 stream does not use (ITU-T H.264, 7.4.2.1.1: 0 to 31)."""
    prefix = h264_nal.length_size("h264", extradata)
    if prefix and extradata:
        sets = _parameter_sets(extradata)[0]
    else:
        sets = [unit.data for unit in h264_nal.split(extradata or b"", 0)]
    sets += [unit.data for unit in h264_nal.split(first_packet, prefix)]
    used = {_set_number(unit) for unit in sets if unit and unit[0] & 31 == SPS}
    return next(n for n in range(5, 32) if n not in used)


def _free_number(source: VideoIndex) -> int:
    with open_video(source.path) as container:
        stream = nth_video(container, source.stream)
        first = next(read_packets(container, stream))
        return free_parameter_set(stream.codec_context.extradata, bytes(first))


def _set_number(unit: bytes) -> int:
    """seq_parameter_set_id: the first Exp-Golomb code after profile, constraints and level."""
    bits = "".join(f"{byte:08b}" for byte in h264_nal.unescape(unit[4:12]))
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1


def _parameter_sets(record: bytes) -> tuple[list[bytes], list[bytes], bytes]:
    """(SPS, PPS, what follows) of an avcC record (ISO/IEC 14496-15, 5.3.3.1)."""
    at, lists = 5, []
    for mask in (31, 255):
        count = record[at] & mask
        at += 1
        sets = []
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            sets.append(record[at + 2 : at + 2 + size])
            at += 2 + size
        lists.append(sets)
    return lists[0], lists[1], record[at:]


def _with_parameter_sets(record: bytes, sps: list[bytes], pps: list[bytes]) -> bytes:
    old_sps, old_pps, rest = _parameter_sets(record)
    sps, pps = [*old_sps, *sps], [*old_pps, *pps]

    def packed(sets: list[bytes]) -> bytes:
        return b"".join(len(s).to_bytes(2, "big") + s for s in sets)

    return (record[:5] + bytes([record[5] & 0xE0 | len(sps)]) + packed(sps) + bytes([len(pps)]) + packed(pps) + rest)


def _hevc_type(unit: bytes) -> int:
    return unit[0] >> 1 & 63 if unit else -1


def _why_not(source: VideoIndex, changed: Sequence[bool], encoder: Encoder, container_format: str) -> str:
    if encoder.codec != source.codec:
        return f"the codec changes from {source.codec} to {encoder.codec}"
    if source.codec not in SELF_CONTAINED:
        return f"groups of {source.codec} cannot be joined with those of another encoder"
    if encoder.pixel_format.replace("yuvj", "yuv") != source.look.pixel_format.replace("yuvj", "yuv"):
        return f"the pixel format changes from {source.look.pixel_format} to {encoder.pixel_format}"
    if not source.exact or (source.dts == NO_TIME).any():
        return "packets without times"
    if source.format == "avi" != container_format and source.reordered:
        return "AVI does not say when reordered pictures are shown"
    if all(changed):
        return "every group of frames changes"
    return ""


def _segments(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Cut into pieces of at most SEGMENT_FRAMES; short neighbours are joined up to that."""
    pieces: list[Span] = []
    for start, stop in spans:
        if pieces and pieces[-1][1] == start and stop - pieces[-1][0] <= SEGMENT_FRAMES:
            start = pieces.pop()[0]
        pieces += [(a, min(a + SEGMENT_FRAMES, stop)) for a in range(start, stop, SEGMENT_FRAMES)]
    return tuple(pieces)

