"""Damage in the video streams of a file that are not repaired, of which it may have several (angles, a screen beside a
speaker). They are copied byte for byte; this only says so."""

from __future__ import annotations

import logging
from pathlib import Path

import av

from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.video_index import is_cover, open_video, video_stream

log = logging.getLogger(__name__)


def damaged_other_video(path: Path) -> list[str]:
    """One line for each video stream of `path` but the one that is repaired, and cover pictures, whose decoder fails or
    marks pictures as corrupt. Decodes these streams; a file of one video stream is not read."""
    with open_video(path) as container:
        repaired = video_stream(container, path)
        streams = [s for s in container.streams.video if s.index != repaired.index and not is_cover(s)
                   and s.codec_context is not None and s.codec_context.width]
        contexts = {s.index: tolerant.open_decoder(s, threads=False) for s in streams}
        hurt = dict.fromkeys(contexts, 0)
        if not streams:
            return []
        try:
            for packet in container.demux(streams):
                frames, error = tolerant.decode_one(contexts[packet.stream.index], packet if packet.size else None)
                hurt[packet.stream.index] += error is not None or any(frame.is_corrupt for frame in frames)
        except av.FFmpegError as error:
            log.info("%s: reading its other video stopped (%s)", path, error)
        return [f"video stream {s.index} ({s.codec_context.name}) is damaged: {hurt[s.index]} places where its decoder "
                f"stumbles; only stream {repaired.index} is repaired, it is copied as it is"
                for s in streams if hurt[s.index]]
