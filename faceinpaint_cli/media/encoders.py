"""Which encoder writes the pictures that changed, and how it is set."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.codec.context import Flags

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import InputError, OutputError, UsageError
from faceinpaint_cli.media.fields import (
    BY_STREAM,
    INTERLACED_AS_A_WHOLE,
    PROGRESSIVE,
    TO_STREAM,
    TOP_FIRST,
    can_say_fields,
)
from faceinpaint_cli.media.planes import (
    FULL_RANGE,
    LIMITED_RANGE,
    UNTAGGED,
    can_paste,
    depth,
    is_rgb,
    takes_all_codes,
)
from faceinpaint_cli.media.quality import LEAST_LOSSY_CRF, quality
from faceinpaint_cli.media.video_index import Look, VideoIndex, reason

log = logging.getLogger(__name__)

ENCODERS = {
    "h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9", "vp8": "libvpx",
    "mpeg4": "mpeg4", "mpeg1video": "mpeg1video", "mpeg2video": "mpeg2video", "mjpeg": "mjpeg", "ffv1": "ffv1",
    "prores": "prores_ks", "utvideo": "utvideo", "dnxhd": "dnxhd", "huffyuv": "huffyuv", "ffvhuff": "ffvhuff",
    "png": "png", "rawvideo": "rawvideo", "qtrle": "qtrle", "magicyuv": "magicyuv", "jpeg2000": "jpeg2000",
    "flv1": "flv", "h263": "h263", "wmv1": "wmv1", "wmv2": "wmv2", "msmpeg4v3": "msmpeg4",
    "msmpeg4v2": "msmpeg4v2", "v210": "v210",
}
"""The encoder of each codec that can be written again."""
SUBSTITUTES = ("libx264", "libvpx-vp9", "libvpx", "mpeg4", "mpeg2video", "wmv2")
"""For a source whose codec cannot be written: the first that the container takes."""
QUANTISER_STEP = 118  # FF_QP2LAMBDA
X264_PROFILES = {"Constrained Baseline": "baseline", "Baseline": "baseline", "Main": "main", "High": "high"}
PRORES_PROFILES = {"Apple ProRes 422 Proxy": "proxy", "Apple ProRes 422 LT": "lt", "Apple ProRes 422": "standard",
                   "Apple ProRes 422 HQ": "hq", "Apple ProRes 4444": "4444", "Apple ProRes 4444 XQ": "4444xq"}
HDR_OPTIONS = {"libx264": ("x264-params", "mastering-display", "cll"),
               "libx265": ("x265-params", "master-display", "max-cll"),
               "libsvtav1": ("svtav1-params", "mastering-display", "content-light")}
"""Where an encoder is told of the screen that HDR was graded on, and of the greatest light."""
DNXHR_PROFILES = {"DNXHR LB": "dnxhr_lb", "DNXHR SQ": "dnxhr_sq", "DNXHR HQ": "dnxhr_hq", "DNXHR HQX": "dnxhr_hqx",
                  "DNXHR 444": "dnxhr_444", "yuv422p": "dnxhr_hq", "yuv422p10le": "dnxhr_hqx",
                  "yuv444p10le": "dnxhr_444", "gbrp10le": "dnxhr_444"}
"""By the source's profile, else by the pixel format. (The older DNxHD knows only a few sizes and rates.)"""
UNLISTED = ("yuv420p", "yuv422p", "yuv444p", "rgb24", "gray", "yuv420p10le", "yuv422p10le", "yuv444p10le")
"""Pixel formats tried for encoders that say of none, as they take all: raw video."""
MPEG_RATES = [Fraction(r) for r in (24, 25, 30, 50, 60)] + [Fraction(n * 1000, 1001) for n in (24, 30, 60)]
"""Rates that MPEG-1 and -2 headers can name (ISO/IEC 13818-2, table 6-4)."""
IN_ORDER = frozenset(("avi", "mxf"))
"""Containers that do not say when pictures are shown if they come in another order."""
TRANSPORT_CODECS = frozenset(("mpeg1video", "mpeg2video", "mpeg4", "libx264", "libx265", "h264_nvenc", "hevc_nvenc"))
"""What MPEG program and transport streams carry so that others can play it."""
OGG_CODECS = frozenset(("libvpx",))
"""What Ogg carries of what can be written; its muxer says so only when it is too late."""
ASF_CODECS = frozenset(("wmv1", "wmv2", "msmpeg4", "msmpeg4v2"))
"""What WMV files are read back from with the times that they were written with; its muxer takes more."""
GBR = 0
"""AVColorSpace of pictures that are RGB."""
FIXED_MATRIX = {"mjpeg": UNTAGGED, "vp8": UNTAGGED, "dnxhd": 1}
"""Codecs whose decoders take a matrix for granted, BT.601 or BT.709, whatever a container says."""
SAY_RANGE = frozenset(("h264", "hevc", "av1", "vp9", "dnxhd"))
"""Codecs whose packets say whether samples are of full range."""
LIMITED_CODECS = frozenset(("vp8", "mpeg1video", "mpeg2video", "prores"))
"""Codecs whose decoders take limited range for granted, whatever a container says."""
CONTAINERS_SAY_RANGE = frozenset(("matroska", "webm", "mp4", "ipod", "3gp", "3g2", "mxf"))


@dataclass(frozen=True)
class Encoder:
    """An encoder with its settings; `rate` is only a label, frames are numbered and timed by the writer. `colorspace`
    and `color_range` (AVColorSpace, AVColorRange) tag what it is given. Frames are worked on in `pixel_format`, and
    given to it as `packing`, the same samples. `fields` is the field order that it writes (of `media.fields`),
    `loses_fields` says that the source is interlaced and what is written cannot say so."""

    name: str
    codec: str
    pixel_format: str
    packing: str
    colorspace: int
    color_range: int
    rate: Fraction
    options: dict[str, str] = field(default_factory=dict)
    quantiser: float | None = None
    fields: str = PROGRESSIVE
    loses_fields: bool = False

    @property
    def marks_all(self) -> bool:
        """Whether a progressive frame among interlaced ones must be marked as they are: else it would be written with
        its bottom field first."""
        return self.fields != PROGRESSIVE and self.name in INTERLACED_AS_A_WHOLE

    def configure(self, context: av.VideoCodecContext, source: VideoIndex) -> None:
        """Set an encoder's context; before it is opened."""
        if self.name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # only errors; it writes to stderr past every log setting
        look = source.look
        context.width, context.height = source.width, source.height
        context.pix_fmt = self.packing
        context.framerate, context.time_base = self.rate, 1 / self.rate
        context.thread_type = "AUTO"
        if look.aspect:
            context.sample_aspect_ratio = look.aspect
        context.color_primaries, context.color_trc = look.color_primaries, look.color_trc
        context.colorspace, context.color_range = self.colorspace, self.color_range
        if look.field_order in BY_STREAM:
            context.field_order = look.field_order
        elif self.fields != PROGRESSIVE:
            context.field_order = TO_STREAM[self.fields]
        if self.marks_all:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        if self.quantiser is not None:
            context.qscale = True
            context.global_quality = round(self.quantiser * QUANTISER_STEP)
            context.qmin = 1
        context.options = dict(self.options)

    def open(self, source: VideoIndex, global_header: bool) -> av.VideoCodecContext:
        """An opened encoder. `global_header` keeps parameter sets out of the packets, as some containers ask.

        Raises OutputError where it cannot be had (a hardware encoder without its hardware, say).
        """
        context = av.CodecContext.create(self.name, "w")
        assert isinstance(context, av.VideoCodecContext)
        self.configure(context, source)
        if global_header:
            context.flags |= Flags.global_header
        try:
            context.open()
        except (av.FFmpegError, OSError, ValueError) as error:
            what = f"{self.pixel_format} {source.width} x {source.height}"
            raise OutputError(f"encoder {self.name} cannot be used for {what} here ({reason(error)}); choose another "
                              "--codec, --preset or --crf") from error
        return context


def named_encoder(codec: str) -> str:
    """The encoder that --codec names, itself or by the codec; UsageError where there is none of that name."""
    name = ENCODERS.get(codec, codec)
    if not _exists(name):
        raise UsageError(f"--codec {codec} is not an encoder here; try {', '.join(sorted(ENCODERS))}")
    return name


def choose_encoder(config: RunConfig, source: VideoIndex, container_format: str, output: Path) -> Encoder:
    """The encoder asked for, or that of the source's codec, or the first that the output's container takes.

    Raises UsageError for an encoder that is not there, OutputError for one that the container does not take, InputError
    where no picture of the source tells what is to be encoded.
    """
    if not source.look.pixel_format:
        raise InputError(f"{source.path}: no picture of its video could be decoded; get the file again")
    if config.codec is not None:
        name = named_encoder(config.codec)
        if not fits(name, container_format):
            others = [s for s, f in (("mkv", "matroska"), ("mov", "mov"), ("avi", "avi")) if fits(name, f)]
            raise OutputError(f"--codec {config.codec} cannot be put into {output.name}; give an --output that ends "
                              f"in .{' or .'.join(others or ['mkv'])}, or another --codec")
    else:
        wanted = ENCODERS.get(source.codec)
        if wanted == "libx264" and is_rgb(source.look.pixel_format) and fits("libx264rgb", container_format):
            wanted = "libx264rgb"
        name = next((n for n in (wanted, *SUBSTITUTES) if n and fits(n, container_format)), "")
        if not name:
            raise OutputError(f"no encoder for {source.codec} fits into {output.name}; give an --output that ends in "
                              ".mkv, or a --codec")
        if name != wanted:
            log.warning("%s: %s cannot be written to %s; the video becomes %s", source.path, source.codec,
                        output.suffix, name)
    pixel_format = _pixel_format(name, source)
    codec = av.codec.Codec(name, "w").canonical_name
    colorspace, color_range = _colours(codec, pixel_format, source, container_format)
    options, quantiser = quality(name, config)
    same_codec = codec == source.codec
    if name == "libx264":
        profile = X264_PROFILES.get(source.look.profile or "")
        if same_codec and profile and pixel_format in ("yuv420p", "yuvj420p"):
            if float(options["crf"]) >= LEAST_LOSSY_CRF:
                options["profile"] = profile
            else:
                log.warning("%s: --crf %s is lossless, which the profile %s of the input does not know; not every "
                            "player shows that of the output", source.path, options["crf"], source.look.profile)
    keeps_fields = can_say_fields(name, source.codec, container_format)
    if name == "libx264":  # of 4:2:0 it needs two rows of chroma for each field
        least = 4 if av.VideoFormat(pixel_format, 16, 16).chroma_height(16) == 8 else 2
        keeps_fields &= options.get("profile") != "baseline" and source.height % least == 0
    loses_fields = source.look.fields != PROGRESSIVE and not keeps_fields
    if loses_fields:
        log.warning("%s: the video is interlaced, which the encoder %s cannot say here; players will take its pictures "
                    "for progressive ones", source.path, name)
    elif name == "libx265" and source.look.fields != PROGRESSIVE:
        options["x265-params"] += ":interlace=" + ("tff" if source.look.fields == TOP_FIRST else "bff")
    if name in HDR_OPTIONS and (light := _light(name, source.look)):
        options[HDR_OPTIONS[name][0]] = ":".join(filter(None, (options.get(HDR_OPTIONS[name][0]), light)))
    elif source.look.mastering is not None or source.look.light is not None:
        log.warning("%s: the encoder %s cannot say of what light its HDR is; players will guess", source.path, name)
    if name == "dnxhd":
        options["profile"] = DNXHR_PROFILES.get(source.look.profile or "") or DNXHR_PROFILES[pixel_format]
    if name == "prores_ks" and source.look.profile in PRORES_PROFILES:
        options["profile"] = PRORES_PROFILES[source.look.profile]
    if container_format in IN_ORDER:
        if name == "libx265":
            options["x265-params"] += ":bframes=0"
        else:
            options["bf"] = "0"
    rate = source.rate
    if name in ("mpeg1video", "mpeg2video"):
        rate = min(MPEG_RATES, key=lambda r: abs(r - source.rate))
    elif rate.numerator > 60000 or rate.denominator > 60000:
        rate = rate.limit_denominator(1001)
    listed = av.codec.Codec(name, "w").video_formats
    packing = source.look.pixel_format if same_codec and not listed else pixel_format
    return Encoder(name, codec, pixel_format, packing, colorspace, color_range, rate, options, quantiser,
                   PROGRESSIVE if loses_fields else source.look.fields, loses_fields)


def fits(encoder: str, container_format: str) -> bool:
    """Whether a container takes what an encoder writes."""
    if container_format in ("mpegts", "mpeg", "vob", "svcd", "dvd"):
        return encoder in TRANSPORT_CODECS
    if container_format in ("ogg", "ogv"):
        return encoder in OGG_CODECS
    if container_format == "asf":
        return encoder in ASF_CODECS
    with av.open(os.devnull, "w", format=container_format) as container:
        try:
            container.add_stream(encoder, rate=25)
        except ValueError:
            return False
    return True


def _exists(name: str) -> bool:
    try:
        return av.codec.Codec(name, "w").type == "video"
    except av.codec.codec.UnknownCodecError:
        return False


def _light(name: str, look: Look) -> str:
    """What an encoder is told of the light of HDR; x264 and x265 count in 1/50000 and 1/10000 cd/m2."""
    _, screen, greatest = HDR_OPTIONS[name]
    said = []
    if look.mastering is not None:
        units = [1] * 10 if name == "libsvtav1" else [50000] * 8 + [10000] * 2
        values = [f"{float(v * u):g}" if u == 1 else str(round(v * u))
                  for v, u in zip(look.mastering, units, strict=True)]
        rx, ry, gx, gy, bx, by, wx, wy, least, most = values
        said.append(f"{screen}=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})")
    if look.light is not None:
        said.append(f"{greatest}={look.light[0]},{look.light[1]}")
    return ":".join(said)


def _pixel_format(name: str, source: VideoIndex) -> str:
    """The source's pixel format where the encoder has it, else the one that loses least."""
    own = source.look.pixel_format
    listed = [f.name for f in av.codec.Codec(name, "w").video_formats or ()] or [own, *UNLISTED]
    known = [name for name in listed if can_paste(name)]
    if own in known:
        return own
    shape = _shape(own)
    best = min(known, key=lambda n: (_loss(shape, _shape(n)), known.index(n)))
    if _loss(shape, _shape(best))[0]:
        log.warning("%s: the encoder %s does not take %s; pictures become %s", source.path, name, own, best)
    return best


def _colours(codec: str, pixel_format: str, source: VideoIndex, container_format: str) -> tuple[int, int]:
    """(AVColorSpace, AVColorRange) of what is written: those of the source, where the codec and the container can say
    them, else those that a reader takes for granted."""
    look = source.look
    was_rgb = is_rgb(look.pixel_format)
    if is_rgb(pixel_format):
        return (look.colorspace, look.color_range) if was_rgb and codec == source.codec else (GBR, FULL_RANGE)
    colorspace = FIXED_MATRIX.get(codec, UNTAGGED if was_rgb else look.colorspace)
    if codec == "mjpeg":
        return colorspace, FULL_RANGE
    if was_rgb:
        return colorspace, LIMITED_RANGE
    same_grey = pixel_format == look.pixel_format and pixel_format.startswith("gray")
    if same_grey or not takes_all_codes(look.pixel_format, look.color_range):
        return colorspace, look.color_range
    if codec in SAY_RANGE or (container_format in CONTAINERS_SAY_RANGE and codec not in LIMITED_CODECS):
        return colorspace, FULL_RANGE
    log.warning("%s: %s in %s cannot say that its pictures are of full range; they become limited", source.path, codec,
                container_format)
    return colorspace, LIMITED_RANGE


def _shape(pixel_format: str) -> tuple[bool, bool, int, int, int]:
    """(is RGB, has alpha, bits, log2 of pixels a chroma sample, components)."""
    f = av.VideoFormat(pixel_format, 16, 16)
    rgb = is_rgb(pixel_format)
    area = 0 if rgb else (16 * 16 // (f.chroma_width() * f.chroma_height())).bit_length()
    return rgb, any(c.is_alpha for c in f.components), depth(pixel_format), area, len(f.components)


def _loss(own: tuple[bool, bool, int, int, int], other: tuple[bool, bool, int, int, int]) -> tuple[int, int]:
    """(what is lost, what is carried in vain) when pictures change their format."""
    lost = (8 * (own[0] != other[0]) + 2 * (own[1] and not other[1]) + max(0, own[2] - other[2])
            + 2 * max(0, other[3] - own[3]) + 64 * (other[4] < 3 <= own[4]))
    vain = (other[1] and not own[1]) + max(0, other[2] - own[2]) + max(0, own[3] - other[3])
    return lost, vain
