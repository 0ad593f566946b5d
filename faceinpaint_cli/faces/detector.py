"""Where the faces are: MTCNN (Zhang et al., IEEE SPL 2016) from facenet-pytorch, weights included."""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from faceinpaint_cli.errors import DeviceError
from faceinpaint_cli.faces.alignment import covered
from faceinpaint_cli.faces.hidden import find_hidden
from faceinpaint_cli.models.device import resolve_device, threads
from faceinpaint_cli.types import Face

log = logging.getLogger(__name__)

LONGER_SIDE = 960
"""Larger pictures are reduced to this before detection, which bounds its cost."""

SMALLEST_SIDE = 24
"""Pictures with a shorter side have no pyramid level for MTCNN; they are said to hold no face."""

FINEST = 18.0
"""Smallest face, in pixels of the reduced picture, that is looked for: the cost grows as it shrinks."""

BATCH_PIXELS = 4_000_000
MIN_SCORE = 0.9
MOST_OVERHANG = 0.05
"""Share of its side by which the square around a face may stand out of the picture before it is looked at again."""
WINDOW_FACE = 144
"""Pixels of that square's side when it is, at most."""
SAME_FACE = 0.4
"""Boxes with a larger intersection over union are the same face."""

STILL = 0.03
"""Share of its width by which a landmark of a face may move from one look to the next, and still be where it was."""
BLIND_LOOKS = 2
"""Looks at most at a face of which no landmark is outside the hole: nothing holds it, and in later ones it drifts."""

Fill = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], Sequence[Sequence[Face]]], list[np.ndarray]]
"""Takes pictures (HWC uint8 RGB), their holes (HW bool) and the faces in them; returns the pictures, filled."""

MOST_COVERED = 0.35
"""Share of a hidden face's box, or of the other's where that is smaller, that another face may cover; with more they
are one head, seen in two ways."""

MOST_HIDDEN = 2
"""Landmarks in a hole that a face may have which is found only once the hole is filled."""

HIDDEN_SIDE = 512
"""Longer side of the quick fill in which hidden faces are looked for."""
NEUTRAL = np.uint8(128)
"""What the detector sees as nothing at all: its input is (x - 127.5) / 128."""


class FaceDetector:
    """Finds faces of at least `min_face` pixels (shorter side of the box).

    In pictures larger than LONGER_SIDE a face must also have FINEST pixels left after the reduction.
    """

    def __init__(self, device: str = "auto", min_face: int = 40) -> None:
        from facenet_pytorch import MTCNN

        self.device = resolve_device(device)
        self.min_face = min_face
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # facenet-pytorch unpickles its own weights; torch warns of that
            self._network = MTCNN(keep_all=True, min_face_size=min_face, device=self.device)
        self._network.rnet, self._network.onet = _FewSizes(self._network.rnet), _FewSizes(self._network.onet)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Faces of each picture (HWC uint8 RGB, sizes may differ), the surest first, in its own pixels."""
        found: list[list[Face]] = [[] for _ in images]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            groups[image.shape[:2]].append(i)
        for (height, width), members in groups.items():
            scale = min(1.0, LONGER_SIDE / max(height, width))
            if min(height, width) * scale < SMALLEST_SIDE:
                continue
            size = (round(width * scale), round(height * scale))
            step = max(1, BATCH_PIXELS // (size[0] * size[1]))
            for start in range(0, len(members), step):
                part = members[start : start + step]
                small = [images[i] for i in part]
                if scale < 1:
                    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in small]
                smallest = max(FINEST, min(self.min_face * scale, *size))
                for i, faces in zip(part, self._detect_small(np.stack(small), scale, smallest), strict=True):
                    found[i] = self._seen_whole(images[i], faces)
        return found

    def _seen_whole(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face]:
        """The faces of a picture (HWC uint8 RGB), those at its border as they are seen with grey around it.

        facenet-pytorch cuts its candidates at the border and stretches what is left to a square: where a quarter of a
        face is outside, its landmarks came a third of its width aside.
        """
        seen: list[Face] = []
        for face in faces:
            whole = self._in_window(image, face) if _overhang(face.box, image.shape) > MOST_OVERHANG else face
            if all(overlap(whole.box, other.box) < SAME_FACE for other in seen):
                seen.append(whole)
        return sorted(seen, key=lambda face: -face.score)

    def _in_window(self, image: np.ndarray, face: Face) -> Face:
        """A face as it is found in a window of twice its side, grey where that is outside; the same where it is not."""
        middle, side = (face.box[:2] + face.box[2:]) / 2, float((face.box[2:] - face.box[:2]).max())
        low, high = np.floor(middle - side).astype(int), np.ceil(middle + side).astype(int)
        start, stop = low.clip(0), np.minimum(high, image.shape[1::-1])
        if (stop <= start).any():
            return face
        scale = min(1.0, WINDOW_FACE / side)
        size = np.maximum(1, np.rint((stop - start) * scale)).astype(int)
        part = cv2.resize(image[start[1] : stop[1], start[0] : stop[0]], size.tolist(), interpolation=cv2.INTER_AREA)
        left, top = np.rint((start - low) * scale).astype(int).tolist()
        right, bottom = np.rint((high - stop) * scale).astype(int).tolist()
        window = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(128, 128, 128))
        shift = start - np.array([left, top]) / scale
        found = [replace(f, box=f.box + np.tile(shift, 2), landmarks=f.landmarks + shift)
                 for f in self._detect_small(window[None], scale, side * scale / 2)[0]]
        best = max(found, key=lambda f: overlap(f.box, face.box), default=face)
        return best if overlap(best.box, face.box) >= SAME_FACE / 2 else face

    def _detect_small(self, batch: np.ndarray, scale: float, smallest: float) -> list[list[Face]]:
        """Faces of at least `smallest` pixels in pictures (NHWC uint8), in pixels of what was reduced by `scale`."""
        self._network.min_face_size = smallest
        try:
            with threads(1):  # its many tiny layers only wait for each other on more
                boxes, scores, points = self._network.detect(batch, landmarks=True)
        except torch.cuda.OutOfMemoryError:
            raise DeviceError("the device has no memory left to look for faces; use --device cpu") from None
        except (ValueError, RuntimeError, IndexError) as error:
            # facenet-pytorch 2.5.3 fails where a stage leaves no candidate, or only empty ones
            if len(batch) > 1:
                return [self._detect_small(one[None], scale, smallest)[0] for one in batch]
            log.debug("the detector found nothing to go on (%s)", error)
            return [[]]
        return [_faces(b, s, p, scale) for b, s, p in zip(boxes, scores, points, strict=True)]


def _overhang(box: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far the square around a box (XYXY) stands out of a picture (H, W, ...), as a share of its side."""
    middle, half = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) / 2
    return float(max((half - middle).max(), (middle + half - shape[1::-1]).max()) / (2 * half))


class _FewSizes(torch.nn.Module):
    """A network whose batches are filled up with zeros to one of few sizes, at most half as large again from 8 on.

    The later stages of MTCNN get as many candidates as there are, and a CPU's convolutions are prepared, and what is
    prepared kept, for each size of batch: over a long video that took hundreds of megabytes.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        count = len(batch)
        step = max(8, 2 ** (count.bit_length() - 2))
        padding = -count % step
        results = self.network(torch.nn.functional.pad(batch, (0, 0, 0, 0, 0, 0, 0, padding)))
        return tuple(result[:count] for result in results)


def _faces(boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray, scale: float) -> list[Face]:
    if boxes is None:
        return []
    back = 1 / scale
    faces = [Face(np.asarray(box, np.float64) * back, np.asarray(marks, np.float64) * back, float(score))
             for box, score, marks in zip(boxes, scores, points, strict=True) if score >= MIN_SCORE]
    return sorted(faces, key=lambda face: -face.score)


def detect_hidden(detector: FaceDetector, images: Sequence[np.ndarray],
                  masks: Sequence[np.ndarray]) -> list[list[Face]]:
    """Faces of each picture (HWC uint8 RGB), also those that the hole (HW bool) hides.

    What is in the hole is not looked at: a paint's edges, a smear or a piece of another face would draw the landmarks.
    A hole without a visible face near it is filled quickly at a small size and looked at again; what is found
    only there has source "hidden". Its landmarks inside the hole are the detector's guess, as are those of a
    visible face: `alignment.plan_crops` trusts only what lies outside. What is around a hole that still has no face
    near it may tell of one that is wholly hidden (see `faces.hidden`).
    """
    found = detector.detect([np.where(m[..., None], NEUTRAL, i) for i, m in zip(images, masks, strict=True)])
    again = [i for i, mask in enumerate(masks) if not mask.all() and unexplained(mask, found[i]).any()]
    quick, scales = [], []
    for i in again:
        small, scale = quick_fill(images[i], masks[i])
        quick.append(small)
        scales.append(scale)
    for i, faces, scale in zip(again, detector.detect(quick), scales, strict=True):
        for face in faces:
            hidden = replace(face, box=face.box / scale, landmarks=face.landmarks / scale, source="hidden")
            if all(overlap(hidden.box, other.box) < SAME_FACE for other in found[i]):
                found[i].append(hidden)
    for i in again:
        holes = unexplained(masks[i], found[i])
        if holes.any():
            found[i] += find_hidden(images[i], masks[i], holes)
        found[i] = _one_a_head(found[i], masks[i])
    return found


def detect_behind(detector: FaceDetector, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], fill: Fill,
                  looks: int) -> list[list[Face]]:
    """As `detect_hidden`, and then again on what `fill` makes of the pictures with the faces found so far, where the
    hole hides landmarks: until they stand still, `looks` times at most."""
    faces = detect_hidden(detector, images, masks)
    again = [i for i, mask in enumerate(masks) if any(covered(face.landmarks, mask).any() for face in faces[i])]
    for look in range(1, looks + 1):
        if not again:
            break
        holes, known = [masks[i] for i in again], [faces[i] for i in again]
        filled = fill([images[i] for i in again], holes, known)
        found = detect_again(detector, filled, holes, known)
        for i, now in zip(again, found, strict=True):
            faces[i] = now
        again = [i for i, old in zip(again, known, strict=True) if _unsettled(old, faces[i], masks[i], look)]
    return faces


def _unsettled(before: Sequence[Face], after: Sequence[Face], mask: np.ndarray, looks: int) -> bool:
    """Whether a face of a picture is new or has moved in the last of so many looks; those that are all in the hole (HW
    bool) count no more after BLIND_LOOKS."""
    for face in after:
        moved = min((np.abs(face.landmarks - old.landmarks).max() for old in before), default=np.inf)
        if moved > STILL * np.ptp(face.box[::2]) and (looks < BLIND_LOOKS or not covered(face.landmarks, mask).all()):
            return True
    return False


def detect_again(detector: FaceDetector, filled: Sequence[np.ndarray], masks: Sequence[np.ndarray],
                 faces: Sequence[Sequence[Face]]) -> list[list[Face]]:
    """The faces of each picture, those with landmarks in the hole (HW bool) as they are seen once it is filled.

    `filled` (HWC uint8 RGB) are the pictures with a first fill. White paint or a smooth patch over half a face draws
    the detector's landmarks towards its edges; a drawn face does not, and it leans on what is visible around it.
    What is then found over a hole replaces what was known of that face. It is new only where most of its landmarks are
    outside: a face all in the hole is what the generator makes of nothing.
    """
    result = []
    for mask, known, seen in zip(masks, faces, detector.detect(filled), strict=True):
        sure = [face for face in known if not covered(face.landmarks, mask).any()]
        behind = [face for face in known if covered(face.landmarks, mask).any()]
        better = []
        for face in seen:
            hides = covered(face.landmarks, mask).sum()
            new = all(overlap(face.box, other.box) < SAME_FACE for other in sure)
            again = any(overlap(face.box, other.box) >= SAME_FACE / 2 for other in behind)
            if hides and new and (again or hides <= MOST_HIDDEN):
                better.append(replace(face, source="hidden"))
        unseen = [face for face in behind if all(overlap(face.box, other.box) < SAME_FACE / 2 for other in better)]
        result.append(_one_a_head(sure + better + unseen, mask))
    return result


def _one_a_head(faces: Sequence[Face], mask: np.ndarray) -> list[Face]:
    """The faces without those hidden ones that lie over another of which more landmarks are outside the hole (HW bool),
    or as many and it is surer."""
    hides = [int(covered(face.landmarks, mask).sum()) for face in faces]
    kept: list[Face] = []
    for i in sorted(range(len(faces)), key=lambda i: (faces[i].source == "hidden", hides[i], -faces[i].score)):
        if faces[i].source != "hidden" or all(_shared(faces[i].box, other.box) < MOST_COVERED for other in kept):
            kept.append(faces[i])
    return kept


def unexplained(mask: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """The holes of `mask` (HW bool) that touch no face (its box, grown by half), HW bool: one may be hidden."""
    step = max(1, max(mask.shape) // HIDDEN_SIDE)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask[::step, ::step].astype(np.uint8))
    alone = np.zeros(count, bool)
    for label, (x, y, w, h, _) in enumerate(stats[1:count].tolist(), 1):
        hole = (x * step, y * step, (x + w) * step, (y + h) * step)
        alone[label] = not any(_touches(hole, face.box) for face in faces)
    full = alone[labels].repeat(step, 0).repeat(step, 1)
    return full[: mask.shape[0], : mask.shape[1]] & mask


def _touches(hole: tuple[int, int, int, int], box: np.ndarray) -> bool:
    grow = 0.25 * (box[2:] - box[:2])
    low, high = box[:2] - grow, box[2:] + grow
    return bool(low[0] < hole[2] and low[1] < hole[3] and high[0] > hole[0] and high[1] > hole[1])


def quick_fill(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """A small picture without the hole, smooth where it was, and its scale (at most 1)."""
    scale = min(1.0, HIDDEN_SIDE / max(mask.shape))
    if scale < 1:
        size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    if mask.all():
        return image, scale
    return cv2.inpaint(np.ascontiguousarray(image), mask.astype(np.uint8), 3, cv2.INPAINT_TELEA), scale


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two XYXY boxes."""
    inner = _common(a, b)
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / union) if union > 0 else 0.0


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """The part of the smaller of two XYXY boxes that is in the other."""
    smaller = min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
    return float(_common(a, b) / smaller) if smaller > 0 else 0.0


def _common(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two XYXY boxes have in common."""
    return float(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod())
