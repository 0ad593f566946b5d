"""What muxers are told so that a file is packed as its source was."""

from __future__ import annotations

from math import lcm

import av

from faceinpaint_cli.media.mov_boxes import index_comes_first
from faceinpaint_cli.media.ts_programs import Program, has_times_of_arrival, programs
from faceinpaint_cli.media.video_index import VideoIndex

LEAST_PID = 0x20
"""Below it are the tables of the stream."""
MOV_FAMILY = frozenset(("mp4", "mov", "ipod", "3gp", "3g2", "f4v", "psp", "ismv"))
PROGRAM_STREAMS = frozenset(("mpeg", "vob", "svcd", "dvd", "vcd"))


def programs_of(source: VideoIndex, format_name: str) -> list[Program]:
    """Those of a transport stream that is written as one."""
    return programs(source.path) if source.format == format_name == "mpegts" else []


def in_blu_rays_packets(source: VideoIndex, format_name: str) -> bool:
    """Whether a transport stream is written as its source is: in packets with times of arrival."""
    return source.format == format_name == "mpegts" and has_times_of_arrival(source.path)


def muxer_options(source: VideoIndex, incoming: av.container.InputContainer, format_name: str) -> dict[str, str]:
    """What a muxer is told before the streams of `source` go into it."""
    options = {}
    flags = []
    if format_name in MOV_FAMILY:
        if source.time_base.numerator == 1:
            options["video_track_timescale"] = str(source.time_base.denominator)
        if incoming.streams.audio:
            options["movie_timescale"] = str(_movie_timescale(source, incoming))
        if index_comes_first(source.path):
            flags.append("faststart")
        if any(key.startswith("com.") for key in incoming.metadata):  # maker, model and place of a phone, say
            flags.append("use_metadata_tags")
        if flags:
            options["movflags"] = "+".join(flags)
    elif format_name == "mpegts":
        options["mpegts_copyts"] = "1"
        options["mpegts_m2ts_mode"] = str(int(in_blu_rays_packets(source, format_name)))
        found = programs_of(source, format_name)
        if len(found) == 1:
            options |= {"mpegts_service_id": str(found[0].number),
                        "mpegts_pmt_start_pid": str(max(found[0].map_pid, LEAST_PID)),
                        "mpegts_transport_stream_id": str(max(found[0].stream_id, 1))}
    elif format_name in PROGRAM_STREAMS:  # else all times are half a second later
        options["preload"] = "0"
    elif format_name == "avi":  # for the start of sound before zero pictures would be moved, by part of a frame
        options["avoid_negative_ts"] = "disabled"
    return options


def _movie_timescale(source: VideoIndex, incoming: av.container.InputContainer) -> int:
    """The parts of a second in which an mp4 says what is shown of each track, and how long after the others it starts:
    sound to the sample, and each start to the point, where that is a number of 31 bits."""
    unit = max(stream.rate for stream in incoming.streams.audio)
    starts = [int(source.shown[0]) * source.time_base]
    starts += [s.start_time * s.time_base for s in incoming.streams if s.start_time is not None and s.time_base]
    exact = lcm(unit, *(start.denominator for start in starts))
    return exact if exact < 2**31 else unit
