"""Training of the video localiser: coded pictures that were hit, what stands beside them, and what they should be.

A clip is encoded in several ways. For each sample one packet of a group is damaged, bytes deleted or bits flipped, and
the group decoded up to it: the packets before are whole, so the pictures beside it are clean, as they are where a
repaired picture is put back into the decoder's loop. Pictures that were not hit, fast motion and cuts among them, are
samples too, and whole pictures beside hit ones: after damage that was not seen, the next keyframe is the one that looks
different.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F

from faceinpaint_cli.damage.extent import observed
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.optical_flow import Planes, reduced
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_index import location, open_video, video_stream
from faceinpaint_cli.models.networks.video_localiser import CELL
from faceinpaint_cli.synthesis.bitstream import Corruption, packet_damage
from faceinpaint_train.batches import Batch

_X265 = "log-level=none:pools=1:frame-threads=1"
CODINGS: dict[str, tuple[str, dict[str, str], int]] = {
    "hevc": ("libx265", {"crf": "26", "x265-params": _X265}, 16),
    "hevc, no B": ("libx265", {"crf": "22", "x265-params": f"{_X265}:bframes=0:wpp=0"}, 24),
    "hevc, coarse": ("libx265", {"crf": "34", "preset": "fast", "x265-params": _X265}, 16),
    "vp9": ("libvpx-vp9", {"crf": "31", "b": "0", "deadline": "realtime", "cpu-used": "7", "threads": "1"}, 16),
    "mjpeg": ("mjpeg", {"qscale": "4", "threads": "1"}, 1),
    "h264": ("libx264", {"crf": "23", "threads": "1"}, 16),
    "mpeg2": ("mpeg2video", {"qscale": "5", "threads": "1"}, 12),
}
"""How clips are encoded: encoder, its options, pictures of a group."""
SIZES = ((448, 256), (256, 320), (352, 288), (640, 352))
"""Width and height that clips are scaled to, one for each coding of each clip."""
FRAMES = 96
"""Pictures of a clip that are used."""
BESIDE = 8
"""Pictures decoded before a hit one, of which the nearest in time stand beside it."""
RATE, COUNT, EACH = 2e-3, 16, 60
"""Learning rate, samples of a batch, and samples of each coding of a clip."""
FAR = 12
"""Pictures that "moved" ones are apart at most, besides what they are anyway."""
SEEN = 1.0
"""A cell is damaged from this mean difference on, in grey levels of luma or of a chroma plane."""


Sample: TypeAlias = tuple[np.ndarray, np.ndarray]
"""What is observed (CHANNELS, h, w) uint8, and by how much each cell differs from what it should be (h, w) uint8."""


@dataclass(frozen=True)
class Mix:
    """What samples are: the share `hit`, and `beside_hit` whole and beside a hit one; of all the share `cut` beside
    pictures of another clip, and `moved` beside pictures from longer before, for fast motion. `reduced`: how many times
    smaller a sample is made, one at random, as pictures are that are watched."""

    hit: float = 0.7
    beside_hit: float = 0.1
    cut: float = 0.1
    moved: float = 0.15
    reduced: Sequence[int] = (1, 1, 1, 2, 2, 3)


DEFAULT = Mix()


@dataclass(frozen=True)
class Coded:
    """One clip in one coding: its packets in order of decoding, and the picture of each, undamaged, by packet."""

    path: Path
    packets: list[bytes]
    times: list[int]
    starts: list[int]
    pictures: dict[int, Planes]


def moving_face(face: np.ndarray, rng: np.random.Generator, size: tuple[int, int], frames: int) -> Iterator[np.ndarray]:
    """A still face (H, W, 3) uint8 set in motion: it drifts, turns, zooms and bends smoothly over a ground that drifts
    another way; (height, width, 3) uint8 each. `size` is (width, height)."""
    width, height = size
    ground = cv2.resize(cv2.GaussianBlur(face, (0, 0), 3), (2 * width, 2 * height))
    scale = height / face.shape[0] * rng.uniform(0.7, 1.3)
    speed = rng.normal(0, 1.5, 2) * rng.choice([0.3, 1.0, 3.0])
    phase, rate = rng.uniform(0, 6.28, 6), rng.uniform(0.03, 0.25, 6)
    yy, xx = np.mgrid[0:face.shape[0], 0:face.shape[1]].astype(np.float32)
    mouth = np.exp(-((xx / face.shape[1] - 0.5) ** 2 / 0.03 + (yy / face.shape[0] - 0.7) ** 2 / 0.01))
    oval = ((xx / face.shape[1] - 0.5) ** 2 / 0.2 + (yy / face.shape[0] - 0.55) ** 2 / 0.28 < 1).astype(np.float32)
    oval = cv2.GaussianBlur(oval, (0, 0), 3)
    for t in range(frames):
        wave = np.sin(phase + rate * t)
        bent = cv2.remap(face, xx, yy + 5 * wave[0] * mouth.astype(np.float32), cv2.INTER_LINEAR)
        middle = (face.shape[1] / 2, face.shape[0] / 2)
        turn = cv2.getRotationMatrix2D(middle, 6 * wave[1], scale * (1 + 0.05 * wave[2]))
        turn[:, 2] += (width / 2 - middle[0] + 14 * wave[3] + speed[0] * t % 40, height / 2 - middle[1] + 8 * wave[4])
        front = cv2.warpAffine(bent, turn, size, flags=cv2.INTER_LINEAR)
        share = cv2.warpAffine(oval, turn, size, flags=cv2.INTER_LINEAR)[..., None]
        shift = np.float32([[1, 0, -width / 2 + 20 * wave[5] + speed[1] * t % 60], [0, 1, -height / 2]])
        back = cv2.warpAffine(ground, shift, size, borderMode=cv2.BORDER_REFLECT)
        yield np.rint(back + (front.astype(np.float32) - back) * share).astype(np.uint8)


def clip_frames(path: Path, size: tuple[int, int], part: float = 0) -> Iterator[np.ndarray]:
    """FRAMES pictures of a video in a row, the first (`part` 0) to the last (1) of them, scaled to `size` (width,
    height)."""
    with open_video(path) as container:
        stream = video_stream(container, path)
        first = int(part * max(0, stream.frames - FRAMES))
        for frame in islice(container.decode(stream), first, first + FRAMES):
            yield cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_AREA)


def encode(frames: Iterator[np.ndarray], coding: str, size: tuple[int, int], target: Path) -> Coded:
    """Write `frames` as `coding` and read them back."""
    encoder, options, group = CODINGS[coding]
    with av.open(location(target), "w") as out:
        video: av.VideoStream = out.add_stream(encoder, rate=25, options=options)  # type: ignore[assignment]
        video.width, video.height = size
        video.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        video.codec_context.gop_size = group
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
    with open_video(target) as container:
        stream = video_stream(container, target)
        packets = [p for p in container.demux(stream) if p.size and p.pts is not None]
        decoder = tolerant.open_decoder(stream, threads=False)
        shown = [f for _, frames, _ in tolerant.decode(decoder, packets) for f in frames]
        times = [int(p.pts) for p in packets if p.pts is not None]
        by_time = {f.pts: planes_of(f) for f in shown}
        pictures = {i: by_time[t] for i, t in enumerate(times) if t in by_time}
        starts = [i for i, p in enumerate(packets) if p.is_keyframe]
        return Coded(target, [bytes(p) for p in packets], times, starts, pictures)


def samples(coded: Coded, count: int, rng: random.Random, others: Sequence[Planes] = (),
            mix: Mix = DEFAULT) -> Iterator[Sample]:
    """`count` samples: what is observed (CHANNELS, h, w) uint8 and by how many grey levels each cell differs from what
    it should be (h, w) uint8. `others` are two pictures of another clip, for cuts."""
    with open_video(coded.path) as container:
        stream = video_stream(container, coded.path)
        while count:
            number = rng.randrange(1, len(coded.packets))
            far = rng.randrange(2, FAR) if rng.random() < mix.moved else 0
            beside = _beside(coded, number, far)
            if number not in coded.pictures or not beside:
                continue
            own: Planes | None = coded.pictures[number]
            pictures = [coded.pictures[i] for i in beside]
            kind = rng.random()
            if kind < mix.hit:
                own = _decoded(coded, stream, number, _damaged(coded, stream, number, rng))
            elif kind < mix.hit + mix.beside_hit:
                hit = _decoded(coded, stream, beside[0], _damaged(coded, stream, beside[0], rng))
                pictures = [hit or pictures[0], *pictures[1:]]
            if others and rng.random() < mix.cut:
                pictures = list(others)
            if own is None or own[0].shape != pictures[0][0].shape:
                continue
            times = rng.choice(mix.reduced)
            own, truth, *pictures = (tuple(reduced(plane, times) for plane in picture)
                                     for picture in (own, coded.pictures[number], *pictures))
            yield observed(own, pictures), cell_difference(own, truth)
            count -= 1


def _damaged(coded: Coded, stream: av.VideoStream, number: int, rng: random.Random) -> bytes:
    deleted = rng.random() < 0.75
    how = Corruption("bscv" if deleted else "flip", position=rng.uniform(0.02, 0.95),
                     bytes=rng.choice([64, 256, 1024, 2048, 4096]), count=rng.choice([1, 1, 4]))
    return packet_damage(stream, how, rng)(coded.packets[number])


def _decoded(coded: Coded, stream: av.VideoStream, number: int, data: bytes) -> Planes | None:
    """Picture `number` as it comes out when its packet is `data` and those before it are whole."""
    start = max(s for s in coded.starts if s <= number)
    decoder = tolerant.open_decoder(stream, threads=False)
    packets = []
    for place, content in enumerate([*coded.packets[start:number], data], start):
        packet = av.Packet(content)
        packet.pts = packet.dts = coded.times[place]
        packet.time_base = stream.time_base
        packets.append(packet)
    for _, frames, _ in tolerant.decode(decoder, packets):
        for frame in frames:
            if frame.pts == coded.times[number]:
                return planes_of(frame)
    return None


def _beside(coded: Coded, number: int, far: int) -> list[int]:
    """The numbers of the pictures that stand beside a hit one when it is mended: of those decoded before it the nearest
    two before it in time, then the nearest two after it. With `far` those decoded so much earlier, for fast motion."""
    time = coded.times[number]
    near = [i for i in range(max(0, number - far - BESIDE), number - far) if i in coded.pictures]
    before = sorted((i for i in near if coded.times[i] < time), key=lambda i: -coded.times[i])[:2]
    behind = sorted((i for i in near if coded.times[i] > time), key=lambda i: coded.times[i])[:2]
    return before + behind


def cell_difference(own: Planes, truth: Planes) -> np.ndarray:
    """Mean absolute difference of each cell, of luma or of a chroma plane, whichever is larger: (h, w) uint8, in
    quarters of a grey level."""
    height, width = truth[0].shape
    grid = (-(-width // CELL), -(-height // CELL))
    parts = [cv2.resize(cv2.absdiff(a, b).astype(np.float32), grid, interpolation=cv2.INTER_AREA)
             for a, b in zip(own, truth, strict=True)]
    return np.clip(4 * np.max(parts, 0), 0, 255).astype(np.uint8)


def gather(videos: Sequence[Path], faces: np.ndarray, seed: int, each: int = EACH) -> list[Sample]:
    """`each` samples of every coding of every video, and of as many faces set in motion as there are videos."""
    numbers, rng = np.random.default_rng(seed), random.Random(seed)
    found: list[Sample] = []
    others: dict[tuple[int, int], list[Planes]] = {}
    sources: list[Path | np.ndarray] = [*videos, *(faces[i] for i in numbers.integers(0, len(faces), len(videos)))]
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(sources):
            for place, coding in enumerate(CODINGS):
                size = SIZES[(number + place) % len(SIZES)]
                frames = clip_frames(source, size, place / len(CODINGS)) if isinstance(source, Path) \
                    else moving_face(source, numbers, size, FRAMES)
                coded = encode(frames, coding, size, Path(folder) / f"{number}-{place}.mkv")
                if len(coded.packets) > BESIDE:
                    found += samples(coded, each, rng, others.get(size, ()))
                others[size] = list(coded.pictures.values())[-2:]
                coded.path.unlink()
    return found


def make_batch(stock: Sequence[Sample], seed: int, step: int, count: int = COUNT) -> Batch:
    """Batch `step`: samples of one size; what is observed (B, CHANNELS, h, w) uint8 and how much each cell differs
    (B, 1, h, w) uint8."""
    rng = np.random.default_rng([seed, step])
    shape = stock[rng.integers(len(stock))][1].shape
    alike = [s for s in stock if s[1].shape == shape]
    chosen = [alike[i] for i in rng.integers(0, len(alike), count)]
    seen, differences = (np.stack(part) for part in zip(*chosen, strict=True))
    return torch.from_numpy(seen), torch.from_numpy(differences[:, None])


def loss_of(logits: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over cells. Cells that hardly differ count less, on either side of the line: it is no
    matter whether they are filled."""
    grey = difference.float() / 4
    weight = torch.where(grey == 0, 1.0, ((grey - SEEN).abs() / 4).clamp(0.1, 1.5))
    each = F.binary_cross_entropy_with_logits(logits, (grey > SEEN).float(), reduction="none")
    return (weight * each).sum() / weight.sum()

