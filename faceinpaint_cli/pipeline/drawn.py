"""A lost picture of which no other shows anything is drawn, as a still picture is filled."""

from __future__ import annotations

import av
import numpy as np

from faceinpaint_cli.fill.motion import KNOWN_AT_LEAST, Lost, composed
from faceinpaint_cli.media.optical_flow import Planes
from faceinpaint_cli.media.planes import ToRgb, can_paste, overwrite, paste, planes_of
from faceinpaint_cli.pipeline.inloop_group import fill_by_consensus
from faceinpaint_cli.pipeline.stages import Stages


class Drawing:
    """A `Fill` for pictures of `stream`: from their neighbours, or drawn by `stages` where these show nothing of them,
    as at the start of a file of one group and after a cut, if a part of the picture is left to go by.

    Whether what was drawn stays is judged by how the group goes on, as for every fill.
    """

    def __init__(self, stages: Stages, stream: av.VideoStream) -> None:
        self._stages, self._context = stages, stream.codec_context

    def __call__(self, picture: Lost) -> tuple[Planes, str]:
        planes, how = fill_by_consensus(picture)
        if how != "concealed" or picture.known.mean() < KNOWN_AT_LEAST or not can_paste(self._context.pix_fmt or ""):
            return planes, how
        return composed(picture.decoded, self._drawn(planes, picture.lost), picture.lost), "drawn"

    def _drawn(self, planes: Planes, lost: np.ndarray) -> Planes:
        from faceinpaint_cli.pipeline.image import repair_pictures

        height, width = planes[0].shape
        frame = av.VideoFrame(width, height, self._context.pix_fmt)
        frame.colorspace, frame.color_range = self._context.colorspace, self._context.color_range
        overwrite(frame, planes)
        (repaired,) = repair_pictures([ToRgb()(frame)], [lost], self._stages)
        return planes_of(paste(frame, repaired.image, repaired.mask))
