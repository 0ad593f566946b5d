"""Recipes: TOML files that say how a model is trained, checked against the known settings."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.synthesis.patches import PATCHES
from faceinpaint_cli.synthesis.shapes import COUNTS, SHAPES, SIZES
from faceinpaint_train.effects import without_effect

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Recipe = dict[str, Any]

DEFAULTS: Recipe = {
    "name": "",  # of the recipe
    "seed": 1,
    "model": {
        "name": "base",
        "options": {},  # of the network
        "part": "whole",  # of `base`: whole, coarse or refine
        "told": True,  # whether the network is given the mask (else blind: it sees the stamped picture)
        "init": "",  # a .ckpt or .safetensors to start from
        "prior_faces": 0,  # `base`: fit the face prior to so many faces first
    },
    "discriminator": {"name": "", "options": {}},
    "data": {
        "crop": "auto",  # canvas: CelebA's 178 x 218; align: MTCNN's landmarks; tight: MTCNN's box; auto
        "size": 128,
        "batch": 8,
        "shapes": {"center": 1.0},  # kind of mask to share, see faceinpaint_cli.synthesis.shapes
        "counts": {kind: list(span) for kind, span in COUNTS.items()},  # fewest and most in a mask
        "sizes": {kind: list(span) for kind, span in SIZES.items()},  # least and most, see SIZES there
        "irregular": "",  # folder, zip or tar of mask images
        "irregular_share": 0.0,
        "patches": {},  # kind of patch stamped over the hole to share; empty: the hole is only hidden
        "jitter": {"scale": 0.06, "shift": 0.03, "rotate": 5.0, "colour": 0.06, "share": 0.5, "tight": 0.0},
    },
    "loss": {
        "hole": 2.0,  # L1, weights inside the hole and everywhere
        "rest": 0.2,
        "adversarial": "hinge",  # vanilla, lsgan, hinge
        "adversarial_weight": 0.0,
        "adversarial_from": 0.0,  # share of the run after which the term counts
        "r1": 0.0,
        "features": 0.0,  # discriminator feature matching
        "perceptual": 0.0,
        "perceptual_from": 0.0,
        "perceptual_layers": 7,
        "perceptual_weights": "",  # safetensors of VGG16; empty: torchvision's
        "judge_crop": 0,  # side of the square around the hole that VGG16 and the discriminator look at; 0: all
        "cycle": 0.0,  # unpaired training between damaged and whole faces, with this weight
        "identity": 0.0,  # what is whole stays, as a share of the weight of the cycle
    },
    "optimiser": {
        "name": "adamw",  # muon: Muon for the generator's filters, AdamW for the rest
        "lr": 4e-4,
        "lr_discriminator": 2e-4,
        "betas": [0.9, 0.98],
        "betas_discriminator": [0.5, 0.99],
        "warmup": 100,  # steps
        "flat": 0.3,  # share of the run before the cosine
        "clip": 1.0,  # longest gradient; 0: any
        "ema": 0.998,
    },
    "run": {
        "steps": 0,
        "minutes": 0.0,
        "validate_steps": 500,
        "validate_faces": 200,
        "save_minutes": 2.0,
        "log_steps": 50,
        "precision": "auto",  # fp32, bf16
        "compile": False,
        "graph": False,  # record a step once and replay it (CUDA graphs): for a GPU that waits to be told what to do
        "threads": 0,  # of torch; 0: its own choice
        "workers": -1,  # processes that make batches; 0: a thread; -1: all cores but one with a GPU, else a thread
    },
}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "model.part": ("whole", "coarse", "refine"),
    "data.crop": ("auto", "canvas", "align", "tight"),
    "loss.adversarial": ("hinge", "lsgan", "vanilla"),
    "optimiser.name": ("adamw", "muon"),
    "run.precision": ("auto", "bf16", "fp32"),
}
"""Settings that take one of few words."""

RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "model.prior_faces": (0, math.inf),
    "data.size": (16, 4096),
    "data.batch": (1, 4096),
    **{f"data.counts.{kind}": (1, 1000) for kind in COUNTS},
    **{f"data.sizes.{kind}": (0.001, 1) for kind in SIZES},
    "data.irregular_share": (0, 1),
    "data.jitter.scale": (0, 0.9),
    "data.jitter.shift": (0, 1),
    "data.jitter.rotate": (0, 180),
    "data.jitter.colour": (0, 1),
    "data.jitter.share": (0, 1),
    "data.jitter.tight": (0, 1),
    "loss.hole": (0, math.inf),
    "loss.rest": (0, math.inf),
    "loss.adversarial_weight": (0, math.inf),
    "loss.adversarial_from": (0, 1),
    "loss.r1": (0, math.inf),
    "loss.features": (0, math.inf),
    "loss.perceptual": (0, math.inf),
    "loss.perceptual_from": (0, 1),
    "loss.perceptual_layers": (1, 13),
    "loss.judge_crop": (0, 4096),
    "loss.cycle": (0, math.inf),
    "loss.identity": (0, math.inf),
    "optimiser.lr": (0, math.inf),
    "optimiser.lr_discriminator": (0, math.inf),
    "optimiser.betas": (0, 0.999999),
    "optimiser.betas_discriminator": (0, 0.999999),
    "optimiser.warmup": (0, math.inf),
    "optimiser.flat": (0, 1),
    "optimiser.clip": (0, math.inf),
    "optimiser.ema": (0, 0.999999),
    "run.steps": (0, math.inf),
    "run.minutes": (0, math.inf),
    "run.validate_steps": (1, math.inf),
    "run.validate_faces": (1, math.inf),
    "run.save_minutes": (0, math.inf),
    "run.log_steps": (1, math.inf),
    "run.threads": (0, 1024),
    "run.workers": (-1, 1024),
}
"""Least and most of settings that have limits; of each number where there are two."""
SPANS = ("data.counts.", "data.sizes.")
"""Pairs of numbers of which the second is the larger."""

KINDS: Mapping[str, Collection[str]] = {"data.shapes": SHAPES, "data.patches": PATCHES}
"""Tables of shares, whose keys are of these."""

FREE = {"model.options", "discriminator.options", "data.shapes", "data.patches"}
"""Tables whose keys the recipe chooses."""


FINDERS = {"localiser": "train_localiser_run", "print-localiser": "train_print_localiser_run",
           "video-localiser": "train_video_localiser_run", "hidden-face": "train_hidden_face_run"}
"""What --recipe takes besides recipes: what finds damage and faces, and the function of run.py that trains it."""


def recipe_names() -> list[str]:
    folder = resources.files("faceinpaint_train") / "recipes"
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml"))


def read_recipe(name_or_path: str, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe of the package by name, or a TOML file; `overrides` are "table.key=value", values as in TOML.

    UsageError where what is set does nothing; a setting of the file may lose its effect by an override.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = Path(str(resources.files("faceinpaint_train"))) / "recipes" / f"{name_or_path}.toml"
        if not path.is_file():
            known = ", ".join([*recipe_names(), *FINDERS])
            raise UsageError(f"no recipe is named {name_or_path!r}: --recipe takes {known} or a .toml file")
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"recipe {path} cannot be read: {error}") from None
    recipe = merge(DEFAULTS, told)
    recipe["name"] = recipe["name"] or path.stem
    useless = without_effect(told, recipe)
    changes = [parse_override(text) for text in overrides]
    for change in changes:
        recipe = merge(recipe, change)
    useless = {key: why for key, why in without_effect(told, recipe).items() if key in useless}
    for change in changes:
        useless |= without_effect(change, recipe)
    if useless:
        (key, why), *_ = useless.items()
        raise UsageError(f"setting {key!r} has no effect {why}: leave it out, or change that too")
    return recipe


def parse_override(text: str) -> Recipe:
    """ "a.b=1" as {"a": {"b": 1}}; what is no TOML value is taken as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, such as run.steps=1000, not {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def merge(base: Mapping[str, Any], over: Mapping[str, Any], prefix: str = "") -> Recipe:
    """`base` with the values of `over`; unknown keys and values of another type are refused."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        where = f"{prefix}{key}"
        if key not in base:
            raise UsageError(f"unknown setting {where!r} (--set or recipe): known here are {', '.join(base)}")
        known = base[key]
        if where in FREE and isinstance(value, Mapping):
            _check_kinds(where, value)
            result[key] = dict(value)
        elif isinstance(known, Mapping):
            if not isinstance(value, Mapping):
                raise UsageError(f"setting {where!r} is a table: set one of {where}.{', '.join(known) or 'KEY'}")
            result[key] = {**known, **value} if where.startswith(tuple(FREE)) else merge(known, value, where + ".")
        elif isinstance(known, list):
            result[key] = _checked_numbers(where, value, known)
        elif where in RANGES and not _is_within(value, *RANGES[where]):
            raise UsageError(f"setting {where!r} takes a number, {_limits(where)}, not {value!r}")
        elif where in CHOICES and value not in CHOICES[where]:
            raise UsageError(f"setting {where!r} takes one of {', '.join(CHOICES[where])}, not {value!r}")
        elif isinstance(known, float) and isinstance(value, int) and not isinstance(value, bool):
            result[key] = float(value)
        elif not isinstance(value, type(known)) or (isinstance(value, bool) and not isinstance(known, bool)):
            raise UsageError(f"setting {where!r} takes a {type(known).__name__}, not {value!r}")
        else:
            result[key] = value
    return result


def _is_within(value: Any, low: float, high: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and low <= value <= high


def _limits(where: str) -> str:
    low, high = RANGES[where]
    return f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"


def _checked_numbers(where: str, value: Any, known: list[Any]) -> list[Any]:
    """`value` as a list of as many numbers as `known`, whole ones where those are; else UsageError."""
    whole = all(isinstance(number, int) for number in known)
    right = isinstance(value, list) and len(value) == len(known) and all(
        _is_within(number, *RANGES[where]) and (isinstance(number, int) or not whole) for number in value
    )
    if not right or (where.startswith(SPANS) and value[0] > value[1]):
        kind = f"{len(known)} {'whole numbers' if whole else 'numbers'}, {_limits(where)}"
        rising = ", the least first" if where.startswith(SPANS) else ""
        raise UsageError(f"setting {where!r} takes {kind}{rising}, not {value!r}")
    return value if whole else [float(number) for number in value]


def _check_kinds(where: str, shares: Mapping[str, Any]) -> None:
    """UsageError where a table of shares names what there is not, or gives a share that is none."""
    for kind, share in shares.items():
        if where in KINDS and kind not in KINDS[where]:
            raise UsageError(f"setting {where!r} knows {', '.join(KINDS[where])}, not {kind!r}")
        if where in KINDS and not _is_within(share, 0, math.inf):
            raise UsageError(f"setting '{where}.{kind}' takes a share, 0 or more, not {share!r}")
    if where == "data.shapes" and not any(shares.values()):
        raise UsageError("setting 'data.shapes' needs a kind of mask with a share above 0")


def differing_keys(one: Mapping[str, Any], two: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names of the settings whose values differ between two recipes."""
    found = []
    for key in sorted({*one, *two}):
        a, b = one.get(key), two.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differing_keys(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b):
            found.append(prefix + key)
    return found
