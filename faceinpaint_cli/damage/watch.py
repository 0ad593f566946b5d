"""Pictures that look damaged although their decoder said nothing, found while a stream is decoded anyway.

An HEVC decoder reads on in what is left of a slice and seldom notices. So each picture is compared with the one before
it, on a few of its samples, which costs next to nothing; where a part has changed far more than before, and no motion
explains it, the video localiser looks at it. The first damaged picture that is shown need not be the one that was hit:
of those shown soon after that look damaged beside the same clean pictures, it is the one that was decoded first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import av
import cv2
import numpy as np

from faceinpaint_cli.damage.blocks import block_steps
from faceinpaint_cli.media.optical_flow import Planes, eight_bit, left_over, quick_flow, reduced
from faceinpaint_cli.media.planes import luma_array, planes_of

THIN, BLOCK = 8, 8
"""Every so many samples one is compared, in blocks of so many of these."""
CHANGED, TIMES = 4.0, 2.0
"""A block has changed suddenly where it differs from the picture before by so many grey levels, and by so many times
what it and the blocks around it differed by one picture earlier."""
MOST = 0.85
"""Where a larger share of the blocks has changed suddenly it is a cut."""
SURE, LEAST_AREA = 0.95, 0.05
"""A picture looks damaged where so large a share of it is damaged with this probability: of 93 looks at pictures of 15
clean clips one gave 0.036, the others 0.01 or less. The next picture must look damaged as well."""
SIDE, MOST_REDUCED = 400, 3
"""Pictures are looked at reduced to about so many pixels, by whole numbers up to so much."""
LOOKS, FRAMES_A_LOOK = 6, 15
"""Sudden changes that are looked into from the start, and for how many pictures another one is: where all moves,
looking into all would take longer than decoding."""
UNEXPLAINED, PART = 6.0, 16
"""What is left of a change after the best motion, in grey levels, in parts of so many pixels: as much of the picture as
must be damaged has more, or the network is not asked. (Of 93 sudden changes in clean clips a quarter have more, of 319
in which the network sees damage all but 15 %.)"""
STEPS_TIMES, MORE_STEPS = 2.0, 2.0
"""A keyframe is looked at again where its steps between blocks are so many times those of the next one, and so much
more: in five that were hit they are 5.9 to 15.1 against 1.0, in whole ones at most twice."""
PAUSE = 1.5
"""Steps in time, from which on a picture comes late after the one before."""
REACH = 8
"""Pictures after the first damaged one of which one may have been hit instead."""


class Watch:
    """Sees the frames of one stream in order of display. `hit` are the times of pictures that were damaged.

    `order` is the number of each picture in order of decoding, by time; it may grow while frames come.
    """

    def __init__(self, order: Mapping[int, int]) -> None:
        self.hit: list[int] = []
        self._order = order
        self._last: deque[tuple[av.VideoFrame, np.ndarray]] = deque(maxlen=2)
        self._change: np.ndarray | None = None
        self._clean: list[Planes] = []
        self._key: tuple[int, Planes, float] | None = None
        """Time, planes and block steps of the last keyframe."""
        self._shown = self._looked = 0
        self._left = 0
        self._quiet = False

    def see(self, frame: av.VideoFrame) -> None:
        thin = eight_bit(luma_array(frame)[::THIN, ::THIN]).astype(np.int16)
        if frame.pts not in self._order or (self._last and self._last[-1][1].shape != thin.shape):
            self._last.clear()
            return
        self._shown += 1
        sudden = self._sudden(thin) and self._looked < LOOKS + self._shown // FRAMES_A_LOOK
        if self._left:
            self._follow(frame)
        elif self._quiet:  # what follows is damaged as well, up to the next keyframe, which then looks changed
            self._quiet = not frame.key_frame
        elif sudden and len(self._last) == 2 and not self._paused(frame):
            self._looked += 1
            self._clean = [planes_of(last) for last, _ in reversed(self._last)]
            if self._is_unexplained(frame) and self._looks_damaged(planes_of(frame), self._clean):
                self._quiet = True
                if self._is_hit(frame):
                    self.hit.append(frame.pts)
                    self._left = REACH
        if frame.key_frame:
            key, own = self._key, planes_of(frame)
            self._key = frame.pts, own, block_steps(own[0])
            if key is not None and key[0] not in self.hit and self._was_hit(key, self._key):
                self.hit.insert(0, key[0])  # the last one may still be found to be another
        self._last.append((frame, thin))

    def _paused(self, frame: av.VideoFrame) -> bool:
        """Whether it is shown late after the picture before it: at a variable rate more has moved then."""
        times = [*(last.pts for last, _ in self._last), frame.pts]
        return (times[2] - times[1]) > PAUSE * (times[1] - times[0])

    def _follow(self, frame: av.VideoFrame) -> None:
        """See a picture shown soon after one that looks damaged."""
        assert frame.pts is not None
        first, earlier = self._left == REACH, self._order[frame.pts] < self._order[self.hit[-1]]
        damaged = (first or earlier) and self._looks_damaged(planes_of(frame), self._clean)
        self._left -= 1
        if damaged and earlier and self._is_hit(frame):
            self.hit[-1] = frame.pts
        elif damaged and earlier:
            self.hit.pop()
            self._left = 0
        elif first and not damaged:  # damage would have spread
            self.hit.pop()
            self._left, self._quiet = 0, False
        elif frame.key_frame:
            self._left, self._quiet = 0, False

    def _is_hit(self, frame: av.VideoFrame) -> bool:
        """Whether a picture that looks damaged is: a keyframe looks so as well where all before it is, unseen. What a
        decoder makes of garbage has steps where blocks meet: for 25 such keyframes, 7 of them whole, that told."""
        return not frame.key_frame or block_steps(luma_array(frame)) > block_steps(self._clean[0][0])

    def _was_hit(self, key: tuple[int, Planes, float], following: tuple[int, Planes, float]) -> bool:
        """Whether a keyframe was hit, seen from the one after it: all between them is as it is, so nothing changed when
        it came, if it was the first of the file or what was before it was damaged as well."""
        (_, own, steps), (_, whole, usual) = key, following
        return (own[0].shape == whole[0].shape and steps > STEPS_TIMES * usual + MORE_STEPS
                and self._looks_damaged(own, [whole]))

    def _sudden(self, thin: np.ndarray) -> bool:
        """Whether a part of the picture has changed suddenly."""
        before, self._change = self._change, None
        if not self._last:
            return False
        difference = np.abs(thin - self._last[-1][1]).astype(np.float32)
        blocks = tuple(-(-side // BLOCK) for side in reversed(thin.shape))
        self._change = cv2.resize(difference, blocks, interpolation=cv2.INTER_AREA)
        if before is None:
            return False
        usual = cv2.dilate(before, np.ones((3, 3), np.uint8))
        return 0 < float(((self._change > CHANGED) & (self._change > TIMES * usual)).mean()) < MOST

    def _is_unexplained(self, frame: av.VideoFrame) -> bool:
        """Whether enough of the picture is not found in the one before it."""
        own, before = (reduced(luma, _times(luma)) for luma in (luma_array(frame), self._clean[0][0]))
        left = left_over(own, before, quick_flow(own, before)).astype(np.float32)
        parts = tuple(-(-side // PART) for side in reversed(own.shape))
        return float(np.quantile(cv2.resize(left, parts, interpolation=cv2.INTER_AREA), 1 - LEAST_AREA)) > UNEXPLAINED

    def _looks_damaged(self, picture: Planes, others: Sequence[Planes]) -> bool:
        from faceinpaint_cli.damage.extent import damaged_cells  # a clean file need not wait for torch

        own, *clean = (tuple(reduced(plane, _times(picture[0])) for plane in planes) for planes in (picture, *others))
        return float((damaged_cells(own, clean) > SURE).mean()) > LEAST_AREA


def _times(luma: np.ndarray) -> int:
    return min(MOST_REDUCED, -(-max(luma.shape) // SIDE))
