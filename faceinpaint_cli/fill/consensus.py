"""From several guesses at a lost picture to one: the median of those that the intact part does not contradict.

Each guess fails now and then, and far: the decoder's concealment after a cut or beside fast motion, the motion
before where it changes, the motion after where what follows is new. They seldom fail together and alike, so the
median of them was better than each, than their mean, and than weights learned on intact pictures of the same clip. (A
network of 0.4 M parameters that weighs them place by place, trained on 3,475 fills of eleven clips and of faces set in
motion, gained 0.2 dB on four other clips: not worth its while.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from faceinpaint_cli.fill.motion import KNOWN_AT_LEAST, Candidates, Lost, Stretch, composed, on_the_way, plane_mask
from faceinpaint_cli.media.optical_flow import Planes, eight_bit, peak, remainder

WORSE, APART = 2.0, 0.5
"""A guess is dropped where it is so many times, and so many grey levels, farther from the intact part than the best."""
RESTS, APART_RESTING = 1.2, 0.1
"""From here on it is open whether a picture between two clean ones is on a straight way or rests as one of them: where
it rests, a flow's noise alone costs ten decibels and more."""
SHARE = 0.4
"""Of the corrected mean of past and future motion, where all of it holds, beside the median: it is the best single
guess, and with it the whole was 0.4 dB better."""
CUT, UNLIKE = 8.0, 0.5
"""Grey levels between the intact part and its own motion from the neighbour, and share of the intact part's variance
that this leaves, from which on it is a cut: nothing can be carried over, and the decoder's concealment stays."""
SCENES_APART = 16.0
"""Grey levels that remain between two pictures after the best motion, from which on they show different scenes."""
TRUSTED = 8.0
"""So many pictures into a stretch of which no packet tells, what its ends tell counts as much as the motion before it.
(PSNR over all hit pictures of 8 clips, 16 losses each: of 0.5 s led on alone 26.4 dB, from the ends alone 27.5, mixed
28.3; of 1 s 22.9, 25.9 and 26.7; of 0.2 s 30.8, 29.3 and 30.7. With 6 and 12 instead of 8 it is the same.)"""
LIT, LESS, SEEN = 2.0, 0.5, 0.2
"""The light has changed where so many grey levels remain between the intact part and its own motion, and one gain and
offset takes them down to that share; judged where at least so much of the picture is intact, for in a narrow strip
motion passes for light."""


def fill_lost(picture: Lost, guesses: Candidates) -> tuple[Planes, str]:
    """The picture with its lost pixels filled, and a word for how: "between" clean pictures, "onward" from an earlier
    one, or as the one guess that there is."""
    filled, how = _agreed(picture, guesses)
    return (_led(filled, picture.stretch, picture.time) if picture.stretch and how == "onward" else filled), how


def _agreed(picture: Lost, guesses: Candidates) -> tuple[Planes, str]:
    guesses = _relit(picture, guesses)
    chosen, how = choose(picture, guesses)
    pictures = dict(zip(guesses.names, guesses.pictures, strict=True))
    filled = tuple(_median([pictures[name][i] for name in chosen]) for i in range(len(guesses.pictures[0])))
    if "corrected" in chosen:
        filled = tuple(_mixed(m, c) for m, c in zip(filled, pictures["corrected"], strict=True))
    return composed(picture.decoded, filled, picture.lost), how


def _led(onward: Planes, stretch: Stretch, time: int) -> Planes:
    """A picture of a long stretch that was led on from those before it, mixed with what the clean ones at both ends
    tell of it; it rests where there is none at its end, or one of another scene."""
    start, end = stretch.start, stretch.end
    if end is None or other_scene(start.planes, end.planes):
        straight = start.planes
    else:
        straight = next(on_the_way(start, end, [time]))
    share = stretch.place / (stretch.place + TRUSTED)
    return tuple(np.rint((1 - share) * x.astype(np.float32) + share * y).astype(x.dtype)
                 for x, y in zip(onward, straight, strict=True))


def other_scene(a: Planes, b: Planes) -> bool:
    """Whether there is a cut between two pictures."""
    return float(remainder(eight_bit(b[0]), eight_bit(a[0])).mean()) > SCENES_APART


def choose(picture: Lost, guesses: Candidates) -> tuple[list[str], str]:
    """Names of the guesses to take the median of, and a word for how."""
    names = guesses.names
    errors = _errors(picture, guesses)
    if "both" in names:
        if "concealed" not in names:
            return ["both"], "between"
        if errors:
            resting = min(("still", "still later"), key=lambda n: errors[n])
            if errors["both"] > RESTS * errors[resting] + APART_RESTING:
                return ["concealed", resting, "both"], "between"
        return ["concealed", "both", "earlier", "later"], "between"
    if "still" not in names:
        return [names[0]], names[0]
    moving = [n for n in ("past", "future") if n in names]
    if not errors:
        return [n for n in ("concealed", "past", "future", "mean") if n in names], "onward"
    if errors["own"] > CUT and _unexplained(picture, guesses) > UNLIKE:
        return ["concealed"], "concealed"
    limit = WORSE * min(errors[n] for n in ("still", *moving)) + APART
    kept: list[str] = [n for n in moving if errors[n] <= limit]
    if kept and len(kept) == len(moving):
        kept.append("corrected")
    return ["concealed", "own", *(kept or ["still"])], "onward"


def _relit(picture: Lost, guesses: Candidates) -> Candidates:
    """The guesses in the light of the picture: flashes, fades and dissolves change it from one picture to the next."""
    known = picture.known
    pictures = dict(zip(guesses.names, guesses.pictures, strict=True))
    if picture.decoded is None or known.mean() < SEEN or "own" not in pictures:
        return guesses
    top = peak(picture.decoded[0])
    lines: list[tuple[float, float]] = []
    for own, there in zip(pictures["own"], picture.decoded, strict=True):
        inside = plane_mask(known, own.shape)
        x, y = own[inside].astype(np.float32), there[inside].astype(np.float32)
        # colour grows with the light around its neutral value: an offset would tint what is black
        gain, offset = _line(x, y) if not lines else _about(x, y, (top + 1) / 2)
        if not lines:
            before, after = np.abs(y - x).mean(), np.abs(y - gain * x - offset).mean()
            if before < LIT * (top + 1) / 256 or after > LESS * before:
                return guesses
        lines.append((gain, offset))
    lit = tuple(planes if name == "concealed" else tuple(
        np.rint(np.clip(gain * p.astype(np.float32) + offset, 0, top)).astype(p.dtype)
        for p, (gain, offset) in zip(planes, lines, strict=True)) for name, planes in pictures.items())
    return replace(guesses, pictures=lit)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Gain and offset from x to y (least squares), the second time without the fifth that fits worst."""
    keep = np.ones(len(x), bool)
    gain, offset = 1.0, 0.0
    for _ in range(2):
        a, b = x[keep], y[keep]
        gain = float(np.clip(((a - a.mean()) * (b - b.mean())).sum() / max(float(a.var()) * len(a), 1.0), 0.5, 2.0))
        offset = float(b.mean() - gain * a.mean())
        far = np.abs(y - gain * x - offset)
        keep = far <= np.quantile(far, 0.8)
    return gain, offset


def _about(x: np.ndarray, y: np.ndarray, middle: float) -> tuple[float, float]:
    """Gain and offset from x to y that leave `middle` where it is (least squares)."""
    a, b = x - middle, y - middle
    gain = float(np.clip((a * b).sum() / max(float(np.square(a).sum()), 1.0), 0.5, 2.0))
    return gain, middle * (1 - gain)


def _unexplained(picture: Lost, guesses: Candidates) -> float:
    """Share of the intact part's variance that its own motion from the neighbour does not tell."""
    assert picture.decoded is not None
    known = picture.known
    there = picture.decoded[0][known].astype(np.float32)
    own = guesses.pictures[guesses.names.index("own")][0][known].astype(np.float32)
    return float((there - own).var() / max(float(there.var()), 1e-3))


def _errors(picture: Lost, guesses: Candidates) -> dict[str, float]:
    """Mean difference of each guess from the intact part, in 8-bit grey levels; empty where too little is intact."""
    known = picture.known
    if picture.decoded is None or known.mean() < KNOWN_AT_LEAST:
        return {}
    own = eight_bit(picture.decoded[0])[known].astype(np.float32)
    return {name: float(np.abs(eight_bit(planes[0])[known] - own).mean())
            for name, planes in zip(guesses.names, guesses.pictures, strict=True)}


def _mixed(median: np.ndarray, corrected: np.ndarray) -> np.ndarray:
    mixed = (1 - SHARE) * median.astype(np.float32) + SHARE * corrected
    return np.rint(mixed).astype(median.dtype)


def _median(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Pixel by pixel; of an even number the mean of the middle two."""
    if len(planes) == 1:
        return planes[0]
    ordered = np.sort(np.stack(planes), axis=0)
    low, high = ordered[(len(planes) - 1) // 2], ordered[len(planes) // 2]
    return ((low.astype(np.uint32) + high + 1) // 2).astype(planes[0].dtype)
