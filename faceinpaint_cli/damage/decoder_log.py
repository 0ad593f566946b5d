"""A decoder whose messages are heard: each belongs to the packet just given.

The library's log handler needs the interpreter's lock, and a decoder with frame threads that logs while its
caller holds that lock never returns. So messages are taken only from a decoder without threads, and only
while no other is being listened to.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import av
from av import logging as av_logging

from faceinpaint_cli.media import tolerant

_listening = threading.Lock()
_CONCEALED = re.compile(r"concealing (\d+) DC, (\d+) AC, (\d+) MV errors")
_FIRST_ERROR = re.compile(r"(?:error while decoding MB|damaged at|Frame at) (\d+) (\d+)")
"""H.264's words, and those of MPEG-1, 2 and 4."""
_UNREAD = re.compile(r"bytestream (-?\d+)")
_HARMLESS = ("no frame!", "co located POCs unavailable", "mmco: unref short failure",
             "reference picture missing during reorder", "Missing reference picture")
"""What the decoder says of a picture because of others, which it refers to."""


@dataclass
class Messages:
    """What the decoder said about one packet."""

    concealed: int | None = None
    first_error: tuple[int, int] | None = None
    """Column and row of the macroblock."""
    unread: int | None = None
    """Bytes of the slice behind the place of that error, where the decoder says so (H.264 with CABAC)."""
    errors: list[str] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[None]:
    """While it lasts `decode_logged` may be called; one listener at a time."""
    with _listening:
        skip = av_logging.get_skip_repeated()
        av_logging.set_skip_repeated(False)
        try:
            yield
        finally:
            av_logging.set_skip_repeated(skip)


def decode_logged(
    context: av.VideoCodecContext, packet: av.Packet | None
) -> tuple[list[av.VideoFrame], Exception | None, Messages]:
    """Frames, error and messages for one packet; inside `listening` and with a decoder without threads."""
    level = av_logging.get_level()
    av_logging.set_level(av_logging.INFO)
    with av_logging.Capture(local=True) as lines:
        try:
            frames, error = tolerant.decode_one(context, packet)
        finally:
            av_logging.set_level(level)
    return frames, error, _understood(lines)


def _understood(lines: list[tuple[int, str, str]]) -> Messages:
    said = Messages()
    for level, _, text in lines:
        text = text.strip()
        concealed, place = _CONCEALED.search(text), _FIRST_ERROR.search(text)
        if concealed:
            said.concealed = (said.concealed or 0) + max(int(n) for n in concealed.groups())
        elif place and said.first_error is None:
            said.first_error = int(place.group(1)), int(place.group(2))
            unread = _UNREAD.search(text)
            said.unread = int(unread.group(1)) if unread else None
        if level <= av_logging.ERROR and not text.startswith(_HARMLESS):
            said.errors.append(text)
    return said
