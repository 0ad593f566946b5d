"""Which field of an interlaced picture is shown first: read from frames, and said again to encoders.

The library tells whether a frame is interlaced, but not which field comes first, and lets neither be set; its filters
do. (They pass a frame on without touching its samples.)
"""

from __future__ import annotations

from fractions import Fraction

import av

PROGRESSIVE, TOP_FIRST, BOTTOM_FIRST = "P", "T", "B"
WORDS = {PROGRESSIVE: "progressive", TOP_FIRST: "top field first", BOTTOM_FIRST: "bottom field first"}
BY_STREAM = {2: TOP_FIRST, 3: BOTTOM_FIRST, 4: TOP_FIRST, 5: BOTTOM_FIRST}
"""By AVFieldOrder: what a container says. (For 4 and 5, "coded first, shown second", files are made by tools that mean
the field that is shown first.)"""
TO_STREAM = {TOP_FIRST: 2, BOTTOM_FIRST: 3}
INTERLACED_AS_A_WHOLE = frozenset(("libx264", "libx264rgb", "mpeg2video", "mpeg4", "prores_ks"))
"""Encoders that, once told so, write every picture as interlaced, in the field order that its frame is marked with."""
INTERLACED_BY_FRAME = frozenset(("ffv1",))
INTERLACED_BY_CONTAINER = frozenset(("v210", "rawvideo"))
CONTAINERS_SAY_FIELDS = frozenset(("mov", "matroska"))


def can_say_fields(encoder: str, source_codec: str, container_format: str) -> bool:
    """Whether interlaced pictures of a source can come out of an encoder as interlaced. HEVC is apart: there fields are
    pictures of their own, which only HEVC can say."""
    if source_codec == "hevc" or encoder == "libx265":
        return source_codec == "hevc" and encoder == "libx265"
    return (encoder in INTERLACED_AS_A_WHOLE or encoder in INTERLACED_BY_FRAME
            or (encoder in INTERLACED_BY_CONTAINER and container_format in CONTAINERS_SAY_FIELDS))


class _OneFilter:
    """Frames through one filter, set up anew where their shape changes."""

    def __init__(self, name: str, setting: str) -> None:
        self._name, self._setting = name, setting
        self._shape: tuple[str, int, int] | None = None
        self._graph = av.filter.Graph()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame | None:
        """What comes out for a frame; None where the filter drops it."""
        shape = (frame.format.name, frame.width, frame.height)
        if shape != self._shape:
            self._graph, self._shape = av.filter.Graph(), shape
            time_base = frame.time_base or Fraction(1, 1000)
            source = self._graph.add_buffer(width=frame.width, height=frame.height, format=frame.format,
                                            time_base=time_base)
            worker, sink = self._graph.add(self._name, self._setting), self._graph.add("buffersink")
            source.link_to(worker)
            worker.link_to(sink)
            self._graph.configure()
        self._graph.push(frame)
        try:
            passed = self._graph.pull()
        except BlockingIOError:
            return None
        assert isinstance(passed, av.VideoFrame)
        return passed


class FieldReader:
    """Tells the field order of frames; one object serves one thread."""

    def __init__(self) -> None:
        self._only_top_first = _OneFilter("select", r"eq(interlace_type\,TOPFIRST)")

    def __call__(self, frame: av.VideoFrame) -> str:
        """PROGRESSIVE, TOP_FIRST or BOTTOM_FIRST."""
        if not frame.interlaced_frame:
            return PROGRESSIVE
        return BOTTOM_FIRST if self._only_top_first(frame) is None else TOP_FIRST


class FieldMarker:
    """Marks progressive frames as of one field order, for encoders that know only one kind a stream: they would write
    them as bottom field first."""

    def __init__(self, order: str) -> None:
        self._set = _OneFilter("setfield", "tff" if order == TOP_FIRST else "bff")

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, marked; its samples are shared."""
        if frame.interlaced_frame:
            return frame
        marked = self._set(frame)
        assert marked is not None
        marked.pts = frame.pts
        if frame.time_base is not None:
            marked.time_base = frame.time_base
        return marked
