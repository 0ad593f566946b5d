"""What of a damaged video's sound does not decode. It is copied byte for byte all the same; this only says so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import av

from faceinpaint_cli.media.video_index import open_video

log = logging.getLogger(__name__)


def damaged_sound(path: Path) -> list[str]:
    """One line for each audio stream of `path` in which packets do not decode or the container calls corrupt."""
    lines = []
    with open_video(path) as container:
        tracks = {stream.index: _Track() for stream in container.streams.audio}
        if not tracks:
            return []
        try:
            for packet in container.demux(list(container.streams.audio)):
                if packet.size:
                    tracks[packet.stream.index].take(packet)
        except av.FFmpegError as error:
            log.info("%s: reading its sound stopped (%s)", path, error)
        for stream in container.streams.audio:
            track = tracks[stream.index]
            if track.hurt:
                lines.append(f"audio stream {stream.index} ({stream.codec_context.name}) is damaged too: "
                             f"{len(track.hurt)} of {track.packets} packets, the first at {_clock(track.hurt)}; "
                             "it is copied as it is")
    return lines


class _Track:
    """Counts the packets of a stream, and keeps the times (seconds, None where unknown) of those that are hurt."""

    def __init__(self) -> None:
        self.packets = 0
        self.hurt: list[float | None] = []

    def take(self, packet: av.Packet) -> None:
        self.packets += 1
        try:
            packet.decode()
            wrong = packet.is_corrupt
        except (av.FFmpegError, ValueError):
            wrong = True
        if wrong:
            self.hurt.append(None if packet.pts is None else float(packet.pts * packet.time_base))


def _clock(times: Sequence[float | None]) -> str:
    first = times[0]
    return "an unknown time" if first is None else f"{first:.2f} s"
