"""What is measured: classical fills, generators, sanity rows and other programs' outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.protocols import Case
from faceinpaint_bench.sources import decode_rgb, open_source
from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import DataError, FaceInpaintError, UsageError
from faceinpaint_cli.fill.registry import FILLS, get_fill

if TYPE_CHECKING:
    from faceinpaint_cli.fill.generator import Generator

GENERATOR = "generator"
BLIND = "generator (blind)"
SANITY = ("copy", "mean")


@dataclass(frozen=True)
class Method:
    """A row to be: `fill` makes a picture (HWC uint8 RGB) of a case, of which only `name`, `damaged` and,
    where `blind` is not set, `mask` may be looked at (external outputs are found by the name alone).

    `kind` is what --methods calls it, or "external".
    """

    name: str
    kind: str
    fill: Callable[[Case], np.ndarray]
    blind: bool = False
    sha256: str | None = None
    timed: bool = True


def build_methods(config: BenchConfig) -> tuple[list[Method], dict[str, str]]:
    """The methods of a run, and the default ones that cannot run here, each with the reason.

    A method that was named and cannot run is an error.
    """
    wanted = list(config.methods) or default_names(config)
    unknown = [name for name in wanted if name not in known_names()]
    if unknown:
        raise UsageError(f"--methods: {', '.join(unknown)} unknown; known: {', '.join(known_names())}")
    methods: list[Method] = []
    left_out: dict[str, str] = {}
    for name in wanted:
        try:
            methods.extend(_build(name, config))
        except FaceInpaintError as error:
            if config.methods:
                raise
            left_out[name] = str(error)
    methods.extend(_external(name, folder) for name, folder in config.external)
    names = [m.name for m in methods]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError(f"two rows would be named {', '.join(twice)}: rename --external, or name --methods and "
                         "--model once")
    if not methods:
        raise UsageError("nothing to measure: " + "; ".join(left_out.values()))
    return methods, left_out


def known_names() -> list[str]:
    return [*SANITY, *FILLS, GENERATOR, BLIND]


def default_names(config: BenchConfig) -> list[str]:
    """Everything; the generator that looks for the damage itself only where the damage is a stamped
    square."""
    return [n for n in known_names() if n != BLIND or config.protocol == "celeba-white-square"]


def _build(name: str, config: BenchConfig) -> list[Method]:
    if name == "copy":
        return [Method(name, name, lambda case: case.damaged)]
    if name == "mean":
        return [Method(name, name, _mean)]
    if name in FILLS:
        function = get_fill(name)
        _try(function)
        return [Method(name, name, lambda case: function(case.damaged, case.mask))]
    return [_generator(name, model, fidelity, config) for model in config.models
            for fidelity in config.fidelity or (None,)]


def _mean(case: Case) -> np.ndarray:
    result = case.damaged.copy()
    if not case.mask.all():
        result[case.mask] = np.rint(case.damaged[~case.mask].mean(0)).astype(np.uint8)
    return result


def _try(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Run a fill once on a few pixels: what it needs is missing now, or not at all."""
    image, mask = np.zeros((24, 24, 3), np.uint8), np.zeros((24, 24), bool)
    image[:, ::2] = 200
    mask[11:13, 11:13] = True
    function(image, mask)


def _generator(kind: str, model: str, fidelity: float | None, config: BenchConfig) -> Method:
    """The network alone, on the crop as the protocol makes it, one picture at a time.

    Blind, the localiser says where the hole is; a network that was trained without masks needs none, and what it draws
    is taken whole.
    """
    from faceinpaint_cli.fill.generator import Generator

    settings = RunConfig(model=model, device=config.device, precision="fp32", batch_size="1",
                         fidelity=RunConfig.fidelity if fidelity is None else fidelity)
    generator = Generator(settings)
    path = Path(model)
    own = path.parent.name if path.stem == "model" else path.stem  # a run's folder, since all name their weights alike
    name = kind if model == "base" else f"{kind} {own or path.stem}"
    if fidelity is not None:
        name += f" @{fidelity:g}"

    def draw(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        drawn = at_its_size(generator, image, mask)
        result = image.copy()
        result[mask] = np.rint(drawn[mask] * 255).astype(np.uint8)
        return result

    if kind == GENERATOR:
        return Method(name, kind, lambda case: draw(case.damaged, case.mask), sha256=generator.sha256)
    if not generator.told:
        return Method(name, kind, lambda case: draw(case.damaged, np.ones_like(case.mask)), blind=True,
                      sha256=generator.sha256)
    try:
        from faceinpaint_cli.damage.localiser import locate_damage
    except ImportError as error:
        raise UsageError(f"--methods {BLIND!r} needs the localiser ({error})") from None
    return Method(name, kind, lambda case: draw(case.damaged, locate_damage([case.damaged])[0] > 0.5),
                  blind=True, sha256=generator.sha256)


def at_its_size(generator: Generator, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What the network draws (H, W, 3) float32 in [0, 1] for `image` (H, W, 3) uint8 and `mask` (H, W) bool, by way of
    the size of its crops where that is another. A reduced pixel is part of the hole where any of it is."""
    pixels, hole = image.astype(np.float32) / 255, mask.astype(np.float32)
    size = (generator.size, generator.size)
    if size == mask.shape:
        return generator.predict([pixels], [mask])[0]
    way = cv2.INTER_AREA if generator.size < min(mask.shape) else cv2.INTER_CUBIC
    small = np.clip(cv2.resize(pixels, size, interpolation=way), 0, 1)
    drawn = generator.predict([small], [cv2.resize(hole, size, interpolation=cv2.INTER_AREA) > 0])[0]
    return np.clip(cv2.resize(drawn, mask.shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def _external(name: str, folder: Path) -> Method:
    """Outputs of another program: pictures of the protocol's size, matched by stem."""
    if not folder.is_dir():
        raise UsageError(f"--external {name}: {folder} is not a folder")
    files = {item.stem: item for item in open_source(folder, f"--external {name}")}

    def fill(case: Case) -> np.ndarray:
        item = files.get(str(Path(case.name).with_suffix("")))
        if item is None:
            raise DataError(f"no picture named {Path(case.name).with_suffix('')} in {folder}")
        picture = decode_rgb(item.read(), item.name)
        if picture.shape != case.truth.shape:
            raise DataError(f"{item.name} is {picture.shape[1]} x {picture.shape[0]} pixels, expected "
                            f"{case.truth.shape[1]} x {case.truth.shape[0]}")
        return picture

    return Method(name, "external", fill, timed=False)
