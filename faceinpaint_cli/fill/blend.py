"""Which guess at a lost picture to trust: learned on intact pictures of the same clip that are taken for lost.

For each class of motion the errors of all guesses are collected as a Gram matrix G; the blend with weights w has
the mean squared error w' G w, which is minimised over the simplex (weights not negative, sum 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from faceinpaint_cli.fill.motion import Candidates, Lost, Planes, composed, eight_bit, grown, plane_mask

SPEEDS = (0.25, 1.5, 6.0)
"""Pixels of motion that separate the classes: still, slow, medium, fast."""
RIDGE = 0.1
"""Added to the diagonal, as a share of its least: no weight rests on a small difference."""
DOUBTS = (1.0, 3.0)
"""How much farther the decoder's concealment is from the other guesses than these from each other: limits of the
classes of doubt. Where they agree and it stands alone it is wrong, however good it was in other pictures."""
CLASSES = (len(SPEEDS) + 1) * (len(DOUBTS) + 1)
ENOUGH = 5000
"""Pixels of a class below which nothing is learned of it."""
AROUND, EQUAL = (9, 9), 2.0
"""Pixels over which differences are averaged, and grey levels below which pictures count as equal."""
CUT_LEVELS, CUT_RATIO = 12.0, 3.0
"""A picture is behind a cut where its intact part is so many grey levels away from its blend, and so many times as
far as the pictures it learned from."""
DEFAULTS = {
    "onward": {"mean": 0.5, "corrected": 0.5},
    "between": {"both": 1.0},
}
"""Weights where there was nothing to learn from."""


@dataclass
class Trust:
    """Errors of the guesses, by their names and class of motion, summed over the pictures learned from."""

    grams: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    counts: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    known_error: list[float] = field(default_factory=list)

    def learn(self, guesses: Candidates, picture: Lost, truth: Planes) -> None:
        """Take up the errors inside the lost part of a picture whose truth is known."""
        names = guesses.names
        gram = self.grams.setdefault(names, np.zeros((CLASSES, len(names), len(names))))
        count = self.counts.setdefault(names, np.zeros(CLASSES))
        classes = _classes(guesses)
        errors = np.stack([p[0].astype(np.float32) - truth[0] for p in guesses.pictures])
        for c in range(CLASSES):
            inside = errors[:, picture.lost & (classes == c)].astype(np.float64)
            gram[c] += inside @ inside.T
            count[c] += inside.shape[1]
        self.known_error.append(_known_error(guesses, picture, self.weights(names)))

    def weights(self, names: tuple[str, ...]) -> np.ndarray:
        """(classes, guesses): how much of each guess to take."""
        if names not in self.grams:
            return _preset(names)
        grams, counts = self.grams[names], self.counts[names]
        rows = _preset(names)
        for c in range(CLASSES):
            if counts[c] >= ENOUGH and c % (len(DOUBTS) + 1) < len(DOUBTS):
                rows[c] = _on_simplex(grams[c] / counts[c])
        return rows

    def fill(self, guesses: Candidates, picture: Lost) -> tuple[Planes, str]:
        """The lost picture filled by the blend, and a word for how."""
        weights = self.weights(guesses.names)
        how = "between" if "both" in guesses.names else "onward" if len(guesses.names) > 1 else guesses.names[0]
        if guesses.names[0] == "concealed" and how == "onward" and self._is_cut(guesses, picture, weights):
            return guesses.pictures[0], "concealed"
        classes = _classes(guesses)
        blended = tuple(_blend([p[i] for p in guesses.pictures], weights, classes)
                        for i in range(len(guesses.pictures[0])))
        return composed(picture.decoded, blended, picture.lost), how

    def _is_cut(self, guesses: Candidates, picture: Lost, weights: np.ndarray) -> bool:
        error = _known_error(guesses, picture, weights)
        usual = float(np.median(self.known_error)) if self.known_error else 0.0
        return error > max(CUT_LEVELS, CUT_RATIO * usual)


def _preset(names: tuple[str, ...]) -> np.ndarray:
    preset = DEFAULTS["between" if "both" in names else "onward"]
    row = np.array([preset.get(n, 0.0) for n in names])
    row = row / row.sum() if row.sum() else np.full(len(names), 1 / len(names))
    return np.tile(row, (CLASSES, 1))


def _classes(guesses: Candidates) -> np.ndarray:
    """Class of each pixel (HW int): how fast it moves, and how far the concealment is from the other guesses."""
    classes = np.digitize(guesses.speed, SPEEDS) * (len(DOUBTS) + 1)
    if guesses.names[0] != "concealed" or len(guesses.names) == 1:
        return classes
    lumas = [eight_bit(p[0]).astype(np.float32) for p in guesses.pictures]
    middle = lumas[guesses.names.index("both" if "both" in guesses.names else "mean")]
    spread = cv2.blur(np.mean([np.abs(luma - middle) for luma in lumas[1:]], 0), AROUND)
    apart = cv2.blur(np.abs(lumas[0] - middle), AROUND)
    return classes + np.digitize(apart / (spread + EQUAL), DOUBTS)


def _on_simplex(gram: np.ndarray) -> np.ndarray:
    """Nearly argmin of w' G w for w >= 0, sum w = 1: the minimum without the sign, the most negative weight dropped
    until none is."""
    gram = gram + np.eye(len(gram)) * (RIDGE * gram.diagonal().min() + 1e-6)
    kept = np.arange(len(gram))
    while True:
        w = np.linalg.solve(gram[np.ix_(kept, kept)], np.ones(len(kept)))
        w /= w.sum()
        if (w >= 0).all():
            break
        kept = np.delete(kept, int(np.argmin(w)))
    result = np.zeros(len(gram))
    result[kept] = w
    return result


def _blend(planes: list[np.ndarray], weights: np.ndarray, classes: np.ndarray) -> np.ndarray:
    shape = planes[0].shape
    result = np.zeros(shape, np.float32)
    for c, row in enumerate(weights):
        inside = plane_mask(classes == c, shape)
        if inside.any():
            share = (row / row.sum()).astype(np.float32)
            result[inside] = sum(w * p[inside] for w, p in zip(share, planes, strict=True) if w > 0)
    return np.rint(result).clip(0, np.iinfo(planes[0].dtype).max).astype(planes[0].dtype)


def _known_error(guesses: Candidates, picture: Lost, weights: np.ndarray) -> float:
    """Mean difference, in 8-bit grey levels, of the blend from the intact part of the picture."""
    known = ~grown(picture.lost, 17)
    if picture.decoded is None or not known.any():
        return 0.0
    blended = _blend([p[0] for p in guesses.pictures[1:]], weights[:, 1:] + 1e-3, _classes(guesses))
    return float(np.abs(eight_bit(blended).astype(np.float32) - eight_bit(picture.decoded[0]))[known].mean())
