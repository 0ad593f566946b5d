"""Which frames of a video the masks of the user mark."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import MaskError
from faceinpaint_cli.media.planes import ToRgb, alpha_of, has_alpha
from faceinpaint_cli.media.video_index import VideoIndex, keeps_alpha_apart, nth_video, open_video
from faceinpaint_cli.media.video_reader import DecodeLog, read_frames
from faceinpaint_cli.pipeline.overlap import DECODER_PATIENCE, QUEUE, ahead
from faceinpaint_cli.types import Job

if TYPE_CHECKING:
    from faceinpaint_cli.damage.masks import VideoMask

log = logging.getLogger(__name__)


def check_alpha(source: VideoIndex, config: RunConfig) -> None:
    """MaskError where --mask-alpha asks for a transparency that no decoder gives."""
    if not config.mask_alpha or has_alpha(source.look.pixel_format):
        return
    with open_video(source.path) as container:
        if keeps_alpha_apart(nth_video(container, source.stream)):
            raise MaskError(f"{source.path}: --mask-alpha cannot read the transparency of this video, a stream of its "
                            "own; give it as a --mask video, or convert the video first (ffmpeg -c:v libvpx-vp9 -i IN "
                            "-c:v ffv1 OUT.mkv; libvpx for VP8)")


def masked_frames(source: VideoIndex, masks: VideoMask | None, job: Job) -> np.ndarray:
    """For each frame of the source, bool: whether its mask marks anything. Decodes only for masks by colour or alpha.
    Warns of frames of which nothing else is left."""
    masked, covered = np.zeros(source.frames, bool), np.zeros(source.frames, bool)
    if masks is None:
        return masked
    if masks.constant is not None:
        masked[:], covered[:] = masks.constant.any(), masks.constant.all()
    elif not masks.needs_frame:
        for number in range(source.frames):
            mask = masks.at(number)
            masked[number], covered[number] = mask.any(), mask.all()
    else:
        to_rgb = ToRgb()
        for number, frame in ahead(read_frames(source, [(0, source.frames)], DecodeLog()), QUEUE, DECODER_PATIENCE):
            rgb = to_rgb(frame) if masks.needs_rgb else None
            mask = masks.at(number, rgb, alpha_of(frame) if masks.needs_alpha else None)
            masked[number], covered[number] = mask.any(), mask.all()
    if covered.any():
        what = "it" if covered.all() else f"{covered.sum()} of its {source.frames} frames"
        log.warning("the mask of %s covers all of %s: nothing is left to go by", job.input, what)
    return masked
