"""Repaired pictures of a video, made to agree with those before and after them along the motion.

A picture that is decoded from a fill carries what was wrong with the fill, and its own residuals on top of it: what
comes of that changes from picture to picture, and is seen as flicker. What is true moves with the picture. So each
pixel that was repaired is drawn towards what stands at its place in the pictures beside it, as far as the motion there
and back agrees. (On 30 damaged clips, groups of 48 and 16: what remained of damaged pixels after their true motion was
1.24 times that of the clean clips, and is 1.07 times; LPIPS .0267 to .0257, PSNR inside 28.79 to 28.72 dB, as fast
motion is blurred a little where its pictures were mended well. The quick flow did better than the exact one, which
follows what is wrong.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import cv2
import numpy as np

from faceinpaint_cli.media.optical_flow import (
    ANOTHER_SCENE,
    Planes,
    carried,
    eight_bit,
    left_over,
    peak,
    plain_grid,
    quick_flow,
    warp,
)

PASSES, SHARE = 2, 0.5
"""How often, and by how much of the way, a repaired pixel is drawn towards the mean of its neighbours in time: one pass
of 0.67 left a fifth more flicker, two of 0.67 were worse in twice as many pictures."""
ASTRAY = 2.0
"""Pixels between where the motion starts and where there and back it ends, at which a neighbour counts 0.6."""
TRUSTED = 0.5
"""Trust from which on the motion holds."""
UNCHANGED, MARGIN = 6, 9
"""A pixel counts as repaired where a repair changed it by more grey levels, and so many pixels around."""
LEAST_TRUST = 1e-6
NOISE, FEWEST = 2.0, 0.05
"""Grey levels by which neighbours always differ, and share of a picture that must be as it was to tell how much more it
is: grain and the encoder's own noise are left as they are."""
AROUND = 1.5
"""Standard deviation in pixels of the place whose difference is set against that noise."""
SOFT = 1.0
"""Standard deviation in pixels by which the edge of the repaired part is softened, inwards."""


@dataclass(frozen=True)
class Moving:
    """A picture of a video: its number in order of display, its `planes`, and how far each pixel may be changed
    (`loose`, HW float32, 0 to 1)."""

    number: int
    planes: Planes
    loose: np.ndarray


@dataclass(frozen=True)
class _Pair:
    """Motion between a picture and the one before it (HW2 float32), and how far it is to be relied on (HW, 0 to 1);
    `noise` is the mean square by which what was not repaired differs all the same."""

    to_last: np.ndarray
    from_last: np.ndarray
    trust: np.ndarray
    trust_from_last: np.ndarray
    noise: float


@dataclass(frozen=True)
class _Passing:
    """A picture on its way through the passes: what it was, its samples by now (float32), and the motion `since` the
    one before it where the two are neighbours."""

    was: Moving
    samples: Planes
    since: _Pair | None


def repaired_part(repaired: np.ndarray, concealed: np.ndarray) -> np.ndarray:
    """How far each pixel may be changed, HW float32 from 0 to 1: those that a repair changed (luma of the repaired
    picture and of the same without the repair, HW)."""
    changed = cv2.absdiff(eight_bit(repaired), eight_bit(concealed)) > UNCHANGED
    part = cv2.dilate(changed.astype(np.float32), np.ones((MARGIN, MARGIN), np.uint8))
    return cv2.GaussianBlur(part, (0, 0), SOFT) * part


def without_flicker(pictures: Iterable[Moving]) -> Iterator[Moving]:
    """The pictures, in order of display, with their loose parts drawn towards their neighbours in time.

    Neighbours are pictures of one size whose numbers follow each other. Each picture comes out when PASSES more have
    gone in; what is not loose is as it was.
    """
    passing: Iterator[_Passing] = _paired(pictures)
    for _ in range(PASSES):
        passing = _drawn_together(passing)
    for picture in passing:
        if picture.samples is picture.was.planes:
            yield picture.was
        else:
            whole = tuple(np.clip(np.rint(now), 0, peak(was)).astype(was.dtype)
                          for now, was in zip(picture.samples, picture.was.planes, strict=True))
            yield replace(picture.was, planes=whole)


def _paired(pictures: Iterable[Moving]) -> Iterator[_Passing]:
    last: Moving | None = None
    noise = NOISE**2
    for picture in pictures:
        pair = _pair(last, picture, noise) if last is not None else None
        noise = pair.noise if pair is not None else noise
        yield _Passing(picture, picture.planes, pair)
        last = picture


def _pair(last: Moving, now: Moving, noise: float) -> _Pair | None:
    """The motion between two neighbours; None where they are none, or neither is to change. `noise` is what it was
    before."""
    if last.number + 1 != now.number or not (last.loose.any() or now.loose.any()):
        return None
    if [(p.shape, p.dtype) for p in last.planes] != [(p.shape, p.dtype) for p in now.planes]:
        return None
    there, here = eight_bit(last.planes[0]), eight_bit(now.planes[0])
    to_last = quick_flow(here, there)
    left = left_over(here, there, to_last)
    if left.mean() > ANOTHER_SCENE:
        return None
    from_last = quick_flow(there, here)
    trust = _trust(to_last, from_last)
    fixed = (now.loose == 0) & (trust > TRUSTED)
    if fixed.mean() >= FEWEST:
        noise = max(NOISE**2, float(np.square(left[fixed].astype(np.float32)).mean()))
    return _Pair(to_last, from_last, trust, _trust(from_last, to_last), noise)


def _trust(field: np.ndarray, back: np.ndarray) -> np.ndarray:
    """How far motion `field` can be relied on where `back` is the motion the other way: not at all beyond the edge."""
    astray = np.square(field + carried(back, field)).sum(2)
    columns, rows = plain_grid(*field.shape[:2])
    x, y = columns + field[..., 0], rows + field[..., 1]
    inside = (x >= 0) & (x <= field.shape[1] - 1) & (y >= 0) & (y <= field.shape[0] - 1)
    return np.exp(astray / (-2 * ASTRAY**2)) * inside


def _drawn_together(pictures: Iterable[_Passing]) -> Iterator[_Passing]:
    """One pass: each picture is drawn towards the one before it as that has become, and the one after it as it is."""
    last: _Passing | None = None
    now: _Passing | None = None
    for after in chain(pictures, [None]):
        if now is not None:
            last = _drawn(now, last, after)
            yield last
        now = after


def _drawn(now: _Passing, last: _Passing | None, after: _Passing | None) -> _Passing:
    beside = []
    if last is not None and now.since is not None:
        beside.append((last.samples, now.since.to_last, now.since.trust))
    if after is not None and after.since is not None:
        beside.append((after.samples, after.since.from_last, after.since.trust_from_last))
    if not beside or not now.was.loose.any():
        return now
    trust = sum(t for _, _, t in beside)
    noise = max(p.since.noise for p in (now, after) if p is not None and p.since is not None)
    drifts = [sum(_sized(t, plane) * (warp(there[i].astype(np.float32), field) - plane) for there, field, t in beside)
              for i, plane in enumerate(now.samples)]
    scale = np.maximum(trust, LEAST_TRUST)
    depth = (peak(now.was.planes[0]) + 1) / 256
    change = cv2.GaussianBlur(np.square(drifts[0] / (scale * depth)), (0, 0), AROUND)
    share = SHARE * now.was.loose * np.minimum(trust, 1) / scale * change / (change + noise)
    samples = tuple(plane + _sized(share, plane) * drift for plane, drift in zip(now.samples, drifts, strict=True))
    return replace(now, samples=samples)


def _sized(weights: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Weights of the luma's pixels for those of a plane, which may be smaller."""
    if weights.shape == plane.shape:
        return weights
    return cv2.resize(weights, plane.shape[::-1], interpolation=cv2.INTER_AREA)
