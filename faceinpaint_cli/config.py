"""Every setting of `run`, once: default, range, unit and help text. The command line is made from this."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from faceinpaint_cli.errors import UsageError

CLASSICAL_METHODS = ("ns", "telea", "patchmatch", "efros-leung", "hybrid", "biharmonic")
METHODS = ("generator", *CLASSICAL_METHODS)
IMAGE_SIZE_LIMIT = 200_000_000
"""Pixels above which a picture is refused before it is decoded (about 14,000 x 14,000)."""


def option(default: Any, help: str, group: str, **limits: Any) -> Any:
    """A field of RunConfig with what the command line needs to know of it.

    `limits`: `low` and `high` (inclusive), `choices`, `flag` (the option's name where it is not the field's),
    `metavar`, `multiple` (may be repeated).
    """
    metadata = {"help": help, "group": group, **limits}
    if isinstance(default, (list, dict)):
        raise TypeError("use a tuple as default")
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunConfig:
    """The resolved settings of one `faceinpaint run`."""

    mask: str | None = option(None, "Mask: an image for all inputs, a folder matched by relative stem; for a "
                              "video also a mask video or a folder of numbered frames. White fills.",
                              "What to fill", metavar="PATH")
    mask_color: str | None = option(None, "Fill every pixel of this colour, such as '#ffffff'.",
                                    "What to fill", metavar="#RRGGBB")
    mask_tolerance: int = option(8, "How far each channel may be from --mask-color, of 255.", "What to fill",
                                 low=0, high=255)
    mask_alpha: bool = option(False, "Fill where the picture is transparent (alpha below half).",
                              "What to fill")
    mask_resize: bool = option(False, "Resize a mask whose size is not the input's instead of refusing it.",
                               "What to fill")
    box: tuple[str, ...] = option((), "Fill this rectangle, in pixels from the top left corner; repeatable.",
                                  "What to fill", metavar="X,Y,W,H", multiple=True)
    detect: bool = option(False, "Find the damage by looking, also where a mask is given (then both). "
                          "Without any mask this is the default.", "What to fill")
    dilate: int = option(0, "Grow the mask, given or found in a picture, by so many pixels on each side.",
                         "What to fill", low=0, high=256)
    feather: int = option(4, "Width of the soft edge of the fill, inside the mask, in pixels: of the picture, or of "
                          "the crop that the generator draws where that is enlarged (large faces).",
                          "What to fill", low=0, high=256)

    method: str = option("generator", "How holes are filled.", "How", choices=METHODS)
    model: str = option("base", "Bundled model by name, or a .safetensors file.", "How",
                        metavar="NAME|FILE")
    fidelity: float = option(0.5, "1 = closest to the original on average, 0 = most realistic.", "How",
                             low=0.0, high=1.0)
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "How", metavar="DEVICE")
    precision: str = option("auto", "Arithmetic of the generator.", "How",
                            choices=("auto", "fp32", "bf16", "fp16"))
    batch_size: str = option("auto", "Crops in one batch of the generator.", "How", metavar="N|auto")
    min_face: int = option(40, "Smallest face looked for, in pixels of its shorter side.", "How", low=12,
                           high=2000)
    detect_stride: int = option(5, "Video: run the face detector on every Nth frame, track between.", "How",
                                low=1, high=250)

    codec: str | None = option(None, "Video encoder (default: the source's codec where there is one).",
                               "Video", metavar="NAME")
    crf: float | None = option(None, "Constant rate factor (default: visually lossless for the codec); H.264 and "
                               "HEVC take up to 51.", "Video", low=0, high=63)
    preset: str | None = option(None, "Preset of the video encoder.", "Video", metavar="NAME")
    render: str = option("smart", "smart: re-encode only groups of frames that change; full: all.", "Video",
                         choices=("smart", "full"))

    on_existing: str = option("error", "What to do where an output exists.", "Bulk",
                              choices=("skip", "overwrite", "error"))
    resume: bool = option(False, "Go on where an interrupted run stopped.", "Bulk")
    dry_run: bool = option(False, "Print the settings and the list of jobs (for a video: its diagnosis); "
                           "write nothing.", "Bulk")
    shard: str | None = option(None, "Do only part I of N of the jobs (I from 1).", "Bulk", metavar="I/N")
    report: str | None = option(None, "Write what happened to FILE as JSON.", "Bulk", metavar="FILE.json")
    html: str | None = option(None, "Write before/mask/after pictures to FILE.", "Bulk", metavar="FILE.html")
    preview: bool = option(False, "Also write side-by-side pictures or videos, named *.preview.*", "Bulk")

    def __post_init__(self) -> None:
        if type(self.batch_size) is int:  # as a call from Python may say it
            object.__setattr__(self, "batch_size", str(self.batch_size))
        if isinstance(self.box, list):
            object.__setattr__(self, "box", tuple(self.box))
        for f in fields(self):
            value, limits = getattr(self, f.name), f.metadata
            if value is None and "None" in str(f.type):
                continue
            _check_type(flag_name(f.name), str(f.type), value)
            if value == "":
                raise UsageError(f"{flag_name(f.name)} is empty; give a value, or leave it out")
            low, high = limits.get("low"), limits.get("high")
            if (low is not None and not value >= low) or (high is not None and not value <= high):  # also nan
                raise UsageError(f"{flag_name(f.name)} must be from {low} to {high}, not {value}")
            choices = limits.get("choices")
            if choices and value not in choices:
                raise UsageError(f"{flag_name(f.name)} must be one of {', '.join(choices)}, not {value!r}")
        if self.mask_color is not None:
            parse_color(self.mask_color)
        for b in self.box:
            parse_box(b)
        if self.shard is not None:
            parse_shard(self.shard)
        if self.batch_size != "auto" and not (self.batch_size.isdigit() and 1 <= int(self.batch_size) <= 4096):
            raise UsageError(f"--batch-size must be 'auto' or a number from 1 to 4096, not {self.batch_size!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, not {self.device!r}")
        if self.resume and self.on_existing == "error":
            object.__setattr__(self, "on_existing", "skip")

    @property
    def has_mask_source(self) -> bool:
        """Whether the user said what to fill (else the damage is looked for)."""
        return bool(self.mask or self.mask_color or self.mask_alpha or self.box)

    @property
    def looks_for_damage(self) -> bool:
        return self.detect or not self.has_mask_source

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


def _check_type(flag: str, wanted: str, value: Any) -> None:
    """UsageError where `value` is not of the type that the field says, as it may be in a call from Python."""
    if wanted == "tuple[str, ...]":
        right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    else:
        kinds = _TYPES[wanted.removesuffix(" | None")]
        right = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not right:
        raise UsageError(f"{flag} must be {wanted}, not {value!r}")


def flag_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_color(text: str) -> tuple[int, int, int]:
    """'#rrggbb' to (r, g, b), each 0-255."""
    m = re.fullmatch(r"#?([0-9a-fA-F]{6})", text)
    if not m:
        raise UsageError(f"--mask-color must look like '#ffffff', not {text!r}")
    value = int(m.group(1), 16)
    return value >> 16, value >> 8 & 255, value & 255


def parse_box(text: str) -> tuple[int, int, int, int]:
    """'X,Y,W,H' to four ints; the corner may lie outside the picture, the sides are positive."""
    parts = text.split(",")
    try:
        x, y, w, h = (int(p) for p in parts)
    except ValueError:
        raise UsageError(f"--box must be X,Y,W,H in whole pixels, not {text!r}") from None
    if w < 1 or h < 1:
        raise UsageError(f"--box needs a width and height of at least 1, not {text!r}")
    return x, y, w, h


def parse_shard(text: str) -> tuple[int, int]:
    """'I/N' to (I, N), 1 <= I <= N."""
    m = re.fullmatch(r"(\d+)/(\d+)", text)
    if not m or not 1 <= int(m.group(1)) <= int(m.group(2)):
        raise UsageError(f"--shard must be I/N with 1 <= I <= N, not {text!r}")
    return int(m.group(1)), int(m.group(2))
