"""Every setting of `bench`, once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceinpaint_cli.errors import UsageError

SUITES = ("images", "video", "speed")
PROTOCOLS = ("celeba-center25", "celeba-white-square", "celeba-irregular", "custom")
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048


@dataclass(frozen=True)
class BenchConfig:
    """The resolved settings of one `faceinpaint bench`; every path is checked where it is used."""

    output: Path
    data: tuple[Path, ...] = ()
    suite: str = "images"
    protocol: str = "celeba-center25"
    methods: tuple[str, ...] = ()
    """None named: those that the suite runs by default."""
    models: tuple[str, ...] = ("base",)
    fidelity: tuple[float, ...] = ()
    external: tuple[tuple[str, Path], ...] = ()
    masks: Path | None = None
    limit: int | None = None
    frames: int | None = None
    """Pictures of each clip, from the first on; None: all."""
    seed: int = 0
    size: int = 256
    device: str = "auto"
    lpips: Path | None = None
    identity: Path | None = None
    examples: int = 12
    save_inputs: bool = False
    codecs: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    gate: Path | None = None
    tolerance: str = ""
    update_baseline: Path | None = None
    junit: Path | None = None

    def __post_init__(self) -> None:
        _one_of("--suite", self.suite, SUITES)
        _one_of("--protocol", self.protocol, PROTOCOLS)
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE or self.size % 4:
            raise UsageError(f"--size must be a multiple of 4 from {SMALLEST_SIZE} to {LARGEST_SIZE}, "
                             f"not {self.size}")
        for flag, number in (("--limit", self.limit), ("--frames", self.frames)):
            if number is not None and number < 1:
                raise UsageError(f"{flag} must be at least 1, not {number}")
        for f in self.fidelity:
            if not 0 <= f <= 1:
                raise UsageError(f"--fidelity must be from 0 to 1, not {f}")
        needs_masks = self.protocol in ("celeba-irregular", "custom")
        if self.suite == "images" and needs_masks and self.masks is None:
            raise UsageError(f"--protocol {self.protocol} needs --masks: a folder, zip or tar of masks "
                             "(white = hole)")
        if self.masks is not None and not (self.suite == "images" and needs_masks):
            raise UsageError("--masks goes with --protocol celeba-irregular or custom, "
                             f"not with {self.protocol} of --suite {self.suite}")
        if self.external and self.suite != "images":
            raise UsageError(f"--external goes with --suite images, not {self.suite}")
        if (self.codecs or self.branches or self.frames) and self.suite != "video":
            raise UsageError(f"--codecs, --branches and --frames go with --suite video, not {self.suite}")
        names = [name for name, _ in self.external]
        if len(set(names)) != len(names):
            raise UsageError(f"--external names one system twice: {', '.join(names)}")

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self), default=str))


def _one_of(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{flag} must be one of {', '.join(choices)}, not {value!r}")


def parse_external(text: str) -> tuple[str, Path]:
    """'NAME=DIR' to (name, folder)."""
    name, sign, folder = text.partition("=")
    if not (sign and name and folder):
        raise UsageError(f"--external must be NAME=DIR, not {text!r}")
    return name, Path(folder)
