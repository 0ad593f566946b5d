"""How a damaged group goes on: what tells whether it does better with a fill or with the decoder's concealment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from faceinpaint_cli.media.optical_flow import ANOTHER_SCENE, left_over, quick_flow

WORTH = 1.1
"""The decoder's own concealment stays where the fill makes the group's last picture so many times as unlike the next
keyframe. Fills of P pictures are nearly always the better one, so it takes more than a trifle."""
MUCH_CLOSER = 0.5
"""A next keyframe that is as far from the group's last picture as another scene tells nothing, unless the fill takes
that down to this share: a smeared keyframe is as far from it."""
JUMPY, STEPS = 1.1, 6
"""Where no keyframe tells, the concealment stays if with the fill this and the next so many pictures differ so many
times as much from each other, after the best motion: their intact residuals do not fit to what they are added to."""


STRAYS, NOISE = 1.02, 0.1
"""Of two pictures put where nothing is left of one, the second is the better one where with the first what follows
jumps so many times as much, times the same of how far its end is from the next keyframe. (Of 110 lost pictures of
MPEG-2, MPEG-4 and HEVC, filled ones gained up to 10.9 dB on the picture before, and lost up to 35.8: all but 14 were
told rightly, none of those by more than 2.3 dB.) Noise in grey levels is added, so that stills do not decide."""


@dataclass(frozen=True)
class Course:
    """A group as one decode shows it: how far its last picture is from the keyframe that follows it (`misfit`, grey
    levels after the best motion; not a number where there is none) and luma (HW uint8) of its pictures from the one
    before the hit one on, by time."""

    misfit: float
    lumas: Mapping[int, np.ndarray]

    def is_worse_than(self, concealed: Course) -> bool:
        """Whether this course, with a fill, is to be given up for the `concealed` one."""
        if keyframe_tells(concealed.misfit, self.misfit):
            return self.misfit > WORTH * concealed.misfit
        both = sorted(self.lumas.keys() & concealed.lumas.keys())
        return jumps([self.lumas[t] for t in both]) > JUMPY * jumps([concealed.lumas[t] for t in both])


    def jumps_after(self, time: int) -> float:
        """Grey levels by which the pictures from the one at `time` on differ from one to the next."""
        return jumps([luma for t, luma in sorted(self.lumas.items()) if t >= time]) + NOISE

    def strays_from(self, other: Course, time: int) -> bool:
        """Whether this course is worse than an `other` one, from the picture at `time` on, that each has another of."""
        own, its = self.jumps_after(time), other.jumps_after(time)
        if not math.isnan(self.misfit) and not math.isnan(other.misfit):
            own, its = own * (self.misfit + NOISE), its * (other.misfit + NOISE)
        return own > STRAYS * its


def keyframe_tells(now: float, filled: float) -> bool:
    """Whether the next keyframe can judge a fill: how far the group's last picture is from it in grey levels, as it was
    `now` and with what was `filled`; not a number where there is none."""
    if math.isnan(now) or math.isnan(filled) or now == filled:  # equal: the last picture does not refer to it
        return False
    return min(now, filled) < ANOTHER_SCENE or filled < MUCH_CLOSER * now


def jumps(lumas: Sequence[np.ndarray]) -> float:
    """Grey levels by which pictures (luma, HW uint8) that follow each other differ after the best motion, all
    together."""
    return sum(float(left_over(b, a, quick_flow(b, a)).mean()) for a, b in pairwise(lumas))
