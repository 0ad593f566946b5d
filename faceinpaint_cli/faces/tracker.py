"""Faces through a video: detected on some frames, carried by their motion in between and behind damage.

    frames -> spans -> detection at their ends (in batches) -> motion along them, both ways -> smoothing -> frames

A span is `stride` frames, or fewer up to a cut. A span without any damage costs nothing but the search for
cuts, and its frames come out without faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from faceinpaint_cli.faces.alignment import covered, fit_similarity
from faceinpaint_cli.faces.cuts import is_cut, scene_sketch
from faceinpaint_cli.faces.detector import FaceDetector, detect_hidden, overlap
from faceinpaint_cli.faces.motion import Flow, Small, compose, face_motion, move, move_face, reduce
from faceinpaint_cli.faces.smoothing import smooth
from faceinpaint_cli.types import Face

MATCH = 0.25
"""Least intersection over union of a carried face and a detected one to be the same."""

HIDDEN_SHARE = 0.15
"""A face whose box is damaged by this share may go undetected without being given up."""

MISSES = 2
"""Detections in sequence that must miss an undamaged face before it is given up."""

BATCH_FRAMES = 16
BATCH_PIXELS = 40_000_000
"""Frames read ahead so that several are detected at once end at either limit."""


@dataclass(frozen=True)
class TrackInput:
    """Frame number, picture (HWC uint8 RGB, full size) and damage (HW bool)."""

    index: int
    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class TrackOutput:
    """The input, and the faces that are in the frame, seen or hidden; `Face.track` numbers their tracks."""

    index: int
    image: np.ndarray
    mask: np.ndarray
    faces: tuple[Face, ...]


@dataclass
class _Frame:
    given: TrackInput
    scene: int
    damaged: bool
    small: Small | None = None
    detected: list[Face] | None = None
    faces: dict[int, Face] = field(default_factory=dict)

    def reduced(self) -> Small:
        if self.small is None:
            self.small = reduce(self.given.image, self.given.mask)
        return self.small


def track_faces(frames: Iterable[TrackInput], detector: FaceDetector, stride: int = 5) -> Iterator[TrackOutput]:
    """Yield every frame, in order, with its faces, which are looked for on every `stride`-th frame at least.

    Holds about BATCH_FRAMES + 3 * `stride` frames, whatever the length. A change of size counts as a cut.
    """
    tracker = _Tracker()
    window: list[_Frame] = []
    done = 0
    for spans in _batches(_spans(frames, stride), stride):
        _detect_ends(spans, detector)
        for span in spans:
            tracker.follow(span)
            window.extend(span if not window or window[-1] is not span[0] else span[1:])
        ready = len(window) - stride  # the next span may still change the last ones
        yield from (_finished(window, i, stride) for i in range(done, ready))
        done = max(done, ready)
        old = max(0, done - stride)
        del window[:old]
        done -= old
    yield from (_finished(window, i, stride) for i in range(done, len(window)))


def _spans(frames: Iterable[TrackInput], stride: int) -> Iterator[list[_Frame]]:
    """Frames in spans of `stride` + 1 that share their ends, and never cross a cut."""
    span: list[_Frame] = []
    last = None
    scene, fresh = 0, False
    for given in frames:
        sketch = scene_sketch(given.image, given.mask)
        if last is not None and (span[-1].given.mask.shape != given.mask.shape or is_cut(last, sketch)):
            scene += 1
            if fresh:
                yield span
            span = []
        last = sketch
        span.append(_Frame(given, scene, bool(given.mask.any())))
        fresh = True
        if len(span) > stride:
            yield span
            span, fresh = span[-1:], False
    if fresh:
        yield span


def _batches(spans: Iterable[list[_Frame]], stride: int) -> Iterator[list[list[_Frame]]]:
    batch: list[list[_Frame]] = []
    for span in spans:
        batch.append(span)
        count = sum(map(len, batch))
        if count >= BATCH_FRAMES or count * span[0].given.mask.size >= BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def _detect_ends(spans: list[list[_Frame]], detector: FaceDetector) -> None:
    """Look for faces on the first and last frame of every span with damage, all in one batch."""
    ends = [frame for span in spans if _damaged(span) for frame in (span[0], span[-1]) if frame.detected is None]
    ends = list({id(frame): frame for frame in ends}.values())
    found = detect_hidden(detector, [f.given.image for f in ends], [f.given.mask for f in ends])
    for frame, faces in zip(ends, found, strict=True):
        frame.detected = faces


def _damaged(span: list[_Frame]) -> bool:
    return any(frame.damaged for frame in span)


def _finished(window: list[_Frame], at: int, reach: int) -> TrackOutput:
    """The frame at `at`, its faces smoothed over `reach` frames of its scene before and after."""
    frame = window[at]
    low = max(0, at - reach)
    near = [f if f.scene == frame.scene else None for f in window[low : at + reach + 1]]
    faces = tuple(smooth([f.faces.get(track) if f else None for f in near], at - low) for track in frame.faces)
    return TrackOutput(frame.given.index, frame.given.image, frame.given.mask, faces)


class _Tracker:
    """Follows faces span by span; writes them into the frames."""

    def __init__(self) -> None:
        self._flow = Flow()
        self._next = 0
        self._misses: dict[int, int] = {}

    def follow(self, span: list[_Frame]) -> None:
        """Fill in `faces` of a span's frames, from what its first frame has and what is found at its ends."""
        first, last = span[0], span[-1]
        if not _damaged(span):
            return
        if not first.faces:
            for face in first.detected or ():
                self._start(first, face)
        moves = self._carry(span)
        if last is first:
            return
        claims = self._match(last)
        for track, claimed in claims.items():
            if claimed is None:
                self._miss(last, track)
            else:
                self._misses[track] = 0
                self._blend(span, track, merge(last.faces[track], claimed, last.given.mask), moves[track])
        taken = {id(claimed) for claimed in claims.values()}
        for face in last.detected or ():
            if id(face) not in taken:
                self._start(last, face)
                self._carry_back(span, self._next - 1)

    def _start(self, frame: _Frame, face: Face) -> None:
        frame.faces[self._next] = replace(face, track=self._next)
        self._misses[self._next] = 0
        self._next += 1

    def _carry(self, span: list[_Frame]) -> dict[int, list[np.ndarray]]:
        """Move the faces of the first frame along the span; returns each track's motion to the first frame from
        every frame."""
        moves: dict[int, list[np.ndarray]] = {track: [np.eye(2, 3)] for track in span[0].faces}
        for before, after in pairwise(span):
            if not before.faces:
                break
            a, b = before.reduced(), after.reduced()
            flow = self._flow.between(a, b)
            for track, face in before.faces.items():
                matrix = face_motion(face, flow, a, b)
                after.faces[track] = move_face(face, matrix)
                moves[track].append(compose(moves[track][-1], matrix))
        return moves

    def _carry_back(self, span: list[_Frame], track: int) -> None:
        """Move a face that is new on the last frame back to the first."""
        for after, before in zip(span[::-1], span[-2::-1], strict=False):
            a, b = after.reduced(), before.reduced()
            face = after.faces[track]
            before.faces[track] = move_face(face, face_motion(face, self._flow.between(a, b), a, b))

    @staticmethod
    def _match(frame: _Frame) -> dict[int, Face | None]:
        """The detected face of each track that was carried here, best overlap first; None where there is none."""
        pairs = sorted(((overlap(carried.box, face.box), track, i) for track, carried in frame.faces.items()
                        for i, face in enumerate(frame.detected or ())), reverse=True)
        claims: dict[int, Face | None] = dict.fromkeys(frame.faces)
        used: set[int] = set()
        for share, track, i in pairs:
            if share >= MATCH and claims[track] is None and i not in used:
                claims[track] = (frame.detected or [])[i]
                used.add(i)
        return claims

    def _miss(self, frame: _Frame, track: int) -> None:
        """A face that was carried here but not detected stays while damage hides it or for a moment."""
        face = frame.faces[track]
        share = _damaged_share(face.box, frame.given.mask)
        self._misses[track] += share is not None and share < HIDDEN_SHARE
        if share is None or self._misses[track] >= MISSES:
            del frame.faces[track]

    @staticmethod
    def _blend(span: list[_Frame], track: int, end: Face, moves: list[np.ndarray]) -> None:
        """Spread the difference between the carried face and `end`, seen on the last frame, over the span: each
        frame gets the mean of both, weighted by nearness."""
        target = span[-1].faces[track]
        shift, box_shift = end.landmarks - target.landmarks, end.box - target.box
        span[-1].faces[track] = replace(end, track=track)
        for i, frame in enumerate(span[1:-1], 1):
            share = i / (len(span) - 1)
            turn = relative(moves[-1], moves[i])
            face = frame.faces[track]
            grow = float(np.hypot(*turn[:, 0]))
            frame.faces[track] = replace(face, landmarks=face.landmarks + share * shift @ turn[:, :2].T,
                                         box=face.box + share * grow * box_shift)


def relative(last: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Turn and scale (2, 3; no shift) from a span's last frame to one of its frames, given the maps from its first
    frame to both."""
    turn = here[:, :2] @ np.linalg.inv(last[:, :2])
    return np.column_stack([turn, np.zeros(2)])


def merge(carried: Face, seen: Face, mask: np.ndarray) -> Face:
    """One face from where its track says it is and from what is detected: visible landmarks as detected, those in
    the hole of `mask` as carried, moved to fit; nothing visible, as carried."""
    guess = covered(seen.landmarks, mask)
    if not guess.any():
        return seen
    if (~guess).sum() < 2:
        return replace(carried, score=seen.score, source=seen.source)
    weights = np.where(guess, 0.02, 1.0)
    moved = move(carried.landmarks, fit_similarity(carried.landmarks, seen.landmarks, weights))
    return replace(seen, landmarks=np.where(guess[:, None], moved, seen.landmarks))


def _damaged_share(box: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of a box that is damaged; None where the box is outside the picture."""
    height, width = mask.shape
    x0, y0, x1, y1 = (int(v) for v in np.round(box))
    part = mask[max(0, y0) : max(0, min(y1, height)), max(0, x0) : max(0, min(x1, width))]
    return float(part.mean()) if part.size else None
