"""From pictures to cases: what is measured on, how it is cropped, and where the hole is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.sources import Item, bundled_samples, decode_mask, decode_rgb, open_source
from faceinpaint_cli.errors import DataError, FaceInpaintError

ALIGNED = (178, 218)
"""Width and height of CelebA's aligned pictures; their face box is x 0-178, y 20-198."""

WHITE = 255
"""What a hole shows to the methods, as the superimposed square of the seed protocol."""

IRREGULAR_BINS = ((0.01, 0.20), (0.20, 0.40), (0.40, 0.60))
HOLE_BINS = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 1.0))


@dataclass(frozen=True)
class Case:
    """One picture to repair: `truth` and `damaged` (size, size, 3) uint8 RGB, `mask` (size, size) bool."""

    name: str
    truth: np.ndarray
    damaged: np.ndarray
    mask: np.ndarray

    @property
    def hole(self) -> str:
        """Bin of the hole's share of the picture, such as '20-40 %'."""
        share = self.mask.mean()
        low, high = next(b for b in HOLE_BINS if share <= b[1])
        return f"{round(low * 100)}-{round(high * 100)} %"


class NotOfProtocol(DataError):
    """A picture that the protocol leaves out by its own definition: no failure."""


@dataclass(frozen=True)
class Unused:
    """A picture that gave no case, and why; `failed` unless the protocol leaves such pictures out."""

    name: str
    error: str
    failed: bool = True


def known_protocol(config: BenchConfig) -> dict[str, Any]:
    """What `Cases.describe` says before any work."""
    return {"name": config.protocol, "dataset": config.dataset, "size": config.size, "seed": config.seed}


class Cases:
    """The cases of one run, made one at a time. `left_out` lists pictures that gave none."""

    def __init__(self, config: BenchConfig) -> None:
        self.config = config
        paths = config.data or (bundled_samples(),)
        found = [(path, item) for path in paths for item in open_source(path)]
        self.items = [item for _, item in found]
        if len({item.name for item in self.items}) < len(self.items):  # the same name in several DATA
            self.items = [replace(item, name=f"{path.stem}/{item.name}") for path, item in found]
        twice = [name for name, count in Counter(item.name for item in self.items).items() if count > 1]
        if twice:
            raise DataError(f"DATA: {twice[0]} is there twice; give each picture once")
        if config.limit is not None:
            self.items = self.items[:config.limit]
        self.masks = open_source(config.masks, "--masks") if config.masks else []
        self.left_out: list[Unused] = []
        self._digest = hashlib.sha256()
        self._plans = _Holes(config, self.masks)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Case]:
        for index, item in enumerate(self.items):
            try:
                data = item.read()
                self._digest.update(item.name.encode() + b"\0" + data)
                truth = self._crop(decode_rgb(data, item.name))
                mask = self._plans.mask(index, item)
            except FaceInpaintError as error:
                self.left_out.append(Unused(item.name, str(error), not isinstance(error, NotOfProtocol)))
                continue
            self._digest.update(np.packbits(mask).tobytes())
            damaged = truth.copy()
            damaged[mask] = WHITE
            yield Case(item.name, truth, damaged, mask)
        if len(self.left_out) == len(self.items):
            first = self.left_out[0]
            raise DataError(f"DATA: none of {len(self.items)} pictures could be used; the first: "
                            f"{first.name}: {first.error}")

    def describe(self) -> dict[str, Any]:
        """What must be equal for figures to compare; complete only after all cases were made."""
        c = self.config
        return {
            **known_protocol(c),
            "n": len(self.items) - len(self.left_out),
            "hole": self._plans.description,
            "crop": "tight box of the face" if c.protocol == "celeba-white-square" else
                    "178x218: rows 20-198; other sizes: centre square",
            "resize": "bicubic, antialiased",
            "hole_shows": WHITE,
            "composited": True,
            "inputs_sha256": self._digest.hexdigest(),
        }

    def _crop(self, picture: np.ndarray) -> np.ndarray:
        size = self.config.size
        if self.config.protocol == "celeba-white-square":
            box = self._face_box(picture)
        elif picture.shape[1::-1] == ALIGNED:
            box = (0, 20, 178, 198)
        else:
            height, width = picture.shape[:2]
            side = min(height, width)
            x, y = (width - side) // 2, (height - side) // 2
            box = (x, y, x + side, y + side)
        x0, y0, x1, y1 = box
        part = picture[y0:y1, x0:x1]
        if part.shape[:2] == (size, size):
            return part.copy()
        return np.array(Image.fromarray(part).resize((size, size), Image.Resampling.BICUBIC))

    def _face_box(self, picture: np.ndarray) -> tuple[int, int, int, int]:
        """MTCNN's box of the surest face, cut at the picture's edges."""
        if not hasattr(self, "_detector"):
            from faceinpaint_cli.faces.detector import FaceDetector

            self._detector = FaceDetector(self.config.device, min_face=20)
        faces = self._detector.detect([picture])[0]
        if not faces:
            raise NotOfProtocol("no face found, which --protocol celeba-white-square crops to")
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = (round(float(v)) for v in faces[0].box)
        return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)


class _Holes:
    """Where each picture's hole is. Every hole depends on the seed and the picture's place alone."""

    def __init__(self, config: BenchConfig, masks: list[Item]) -> None:
        self.config, self.masks = config, masks
        size = config.size
        self.description = {
            "celeba-center25": f"rows and columns {size // 4}-{3 * size // 4}",
            "celeba-white-square": f"white square of side {size // 2}, seeded place",
            "celeba-irregular": "irregular, of 1-20, 20-40 and 40-60 % in turn",
            "custom": f"{len(masks)} masks",
        }[config.protocol]
        self._bins: list[list[np.ndarray]] = []
        if config.protocol == "celeba-irregular":
            decoded = [decode_mask(m.read(), m.name, size) for m in masks]
            self._bins = [[m for m in decoded if low < m.mean() <= high] for low, high in IRREGULAR_BINS]
            for (low, high), members in zip(IRREGULAR_BINS, self._bins, strict=True):
                if not members:
                    raise DataError(f"--masks: none covers {low:.0%} to {high:.0%} of the picture, "
                                    "which --protocol celeba-irregular needs")
        self._by_stem = {m.stem: m for m in masks}

    def mask(self, index: int, item: Item) -> np.ndarray:
        size, protocol = self.config.size, self.config.protocol
        rng = np.random.default_rng([self.config.seed, index])
        mask = np.zeros((size, size), bool)
        if protocol == "celeba-center25":
            mask[size // 4:3 * size // 4, size // 4:3 * size // 4] = True
        elif protocol == "celeba-white-square":
            y, x = rng.integers(0, size - size // 2, 2, endpoint=True)
            mask[y:y + size // 2, x:x + size // 2] = True
        elif protocol == "celeba-irregular":
            members = self._bins[index % len(self._bins)]
            mask = members[rng.integers(len(members))]
        else:
            found = self.masks[0] if len(self.masks) == 1 else self._by_stem.get(item.stem)
            if found is None:
                raise DataError(f"--masks has none named {item.stem}")
            mask = decode_mask(found.read(), found.name, size)
            if not mask.any():
                raise DataError(f"--masks: {found.name} is empty")
        return mask
