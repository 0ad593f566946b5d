"""Tracks without jitter: a crop that trembles would make the fill tremble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from faceinpaint_cli.types import Face


def smooth(faces: Sequence[Face | None], at: int) -> Face:
    """The face at position `at` of one track over successive frames (None where it is not there).

    Box and landmarks get the value of a parabola fitted over the frames around (Savitzky and Golay, 1964, here
    with gaps and weights that fall off to the ends), so that steady motion is followed without lag. Below five
    frames there is nothing to be had, and the face comes back as it is.
    """
    here = faces[at]
    if here is None:
        raise ValueError("the track has no face at this position")
    low, high = at, at
    while low > 0 and faces[low - 1] is not None:
        low -= 1
    while high + 1 < len(faces) and faces[high + 1] is not None:
        high += 1
    if high - low < 4:
        return here
    run = [face for face in faces[low : high + 1] if face is not None]
    time = np.arange(low, high + 1) - at
    values = np.stack([np.concatenate([face.box, face.landmarks.ravel()]) for face in run])
    reach = max(at - low, high - at) + 1
    weight = np.sqrt(1 - (np.abs(time) / reach) ** 2)[:, None]
    powers = np.stack([np.ones(len(time)), time, time**2], 1)
    fitted = np.linalg.lstsq(powers * weight, values * weight, rcond=None)[0][0]
    return replace(here, box=fitted[:4], landmarks=fitted[4:].reshape(-1, 2))
