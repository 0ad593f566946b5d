"""Every setting of `bench`, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import UsageError

SUITES = ("images", "video", "speed")
PROTOCOLS = ("celeba-center25", "celeba-white-square", "celeba-irregular", "custom")
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048
SUITES_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("protocol", "external", "save_inputs", "masks", "size", "identity"), ("images",)),
    **dict.fromkeys(("limit", "lpips", "examples"), ("images", "video")),
    **dict.fromkeys(("codecs", "branches", "frames"), ("video",)),
}
"""Settings that some suites have no use for, with those that have."""


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
        useless = [f.name for f in fields(self) if self.suite not in SUITES_OF.get(f.name, SUITES)
                   and getattr(self, f.name) != f.default]
        if useless:
            flags = (f"--{name.replace('_', '-')} goes with --suite {' or '.join(SUITES_OF[name])}" for name in useless)
            raise UsageError(f"{', '.join(flags)}, not {self.suite}: leave it out")
        for flag, values in (("--model", self.models), ("--fidelity", self.fidelity)):
            if self.suite == "video" and len(values) > 1:
                raise UsageError(f"--suite video takes one {flag}, not {len(values)}: measure one after the other")
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE or self.size % 4:
            raise UsageError(f"--size must be a multiple of 4 from {SMALLEST_SIZE} to {LARGEST_SIZE}, "
                             f"not {self.size}")
        for flag, number in (("--limit", self.limit), ("--frames", self.frames)):
            if number is not None and number < 1:
                raise UsageError(f"{flag} must be at least 1, not {number}")
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, not {self.seed}")
        for f in self.fidelity:
            if not 0 <= f <= 1:
                raise UsageError(f"--fidelity must be from 0 to 1, not {f}")
        needs_masks = self.protocol in ("celeba-irregular", "custom")
        if needs_masks and self.masks is None:
            raise UsageError(f"--protocol {self.protocol} needs --masks: a folder, zip or tar of masks "
                             "(white = hole)")
        if self.masks is not None and not needs_masks:
            raise UsageError(f"--masks goes with --protocol celeba-irregular or custom, not with {self.protocol}")
        names = [name for name, _ in self.external]
        if len(set(names)) != len(names):
            raise UsageError(f"--external names one system twice: {', '.join(names)}")
        if self.tolerance and self.gate is None:
            raise UsageError("--tolerance goes with --gate BASELINE.json: give that too, or leave it out")

    @property
    def dataset(self) -> str:
        """What DATA is called in reports."""
        return "+".join(path.stem for path in self.data) or "samples"

    def run_settings(self, **settings: Any) -> RunConfig:
        """Those of the product where a suite runs it: with the first model and fidelity."""
        if self.fidelity:
            settings["fidelity"] = self.fidelity[0]
        return RunConfig(device=self.device, model=self.models[0], **settings)

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
