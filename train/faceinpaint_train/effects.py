"""Settings that do nothing unless others are set: who sets one should hear of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from faceinpaint_cli.synthesis.shapes import COUNTS, SIZES

Table = Mapping[str, Any]


def _is_judged(recipe: Table) -> bool:
    return bool(recipe["discriminator"]["name"] and recipe["loss"]["adversarial_weight"])


def _draws(recipe: Table, kind: str) -> bool:
    return bool(recipe["data"]["shapes"].get(kind))


RULES: tuple[tuple[tuple[str, ...], Callable[[Table], Any], str], ...] = (
    (("data.irregular",), lambda r: r["data"]["irregular_share"], "without data.irregular_share"),
    (("data.irregular_share",), lambda r: r["data"]["irregular"], "without data.irregular"),
    (("model.prior_faces",), lambda r: not r["model"]["init"], "with model.init, which brings a prior"),
    (("discriminator.name",), lambda r: r["loss"]["adversarial_weight"], "without loss.adversarial_weight"),
    (("loss.adversarial_weight",), lambda r: r["discriminator"]["name"], "without discriminator.name"),
    (("loss.adversarial", "loss.adversarial_from", "loss.features", "loss.r1", "optimiser.lr_discriminator",
      "optimiser.betas_discriminator"), _is_judged, "without discriminator.name and loss.adversarial_weight"),
    (("loss.perceptual_from", "loss.perceptual_layers", "loss.perceptual_weights"),
     lambda r: r["loss"]["perceptual"], "without loss.perceptual"),
    (("loss.judge_crop",), lambda r: r["loss"]["perceptual"] or _is_judged(r),
     "without loss.perceptual or loss.adversarial_weight"),
    (("loss.identity",), lambda r: r["loss"]["cycle"], "without loss.cycle"),
    (("loss.hole", "loss.rest", "loss.adversarial_from", "loss.r1", "loss.features", "loss.judge_crop",
      "loss.perceptual"), lambda r: not r["loss"]["cycle"], "with loss.cycle"),
    *(((f"data.{table}.{kind}",), partial(_draws, kind=kind), f"without a share in data.shapes.{kind}")
      for table, kinds in (("counts", COUNTS), ("sizes", SIZES)) for kind in kinds),
)
"""Settings, what a recipe must have for them to do something, and how it is told that it has not."""


def without_effect(told: Table, recipe: Table) -> dict[str, str]:
    """Those of the settings in `told` that are on in `recipe` and do nothing there, each with why not."""
    keys = set(_names(told))
    return {key: why for group, has_effect, why in RULES if not has_effect(recipe)
            for key in group if key in keys and _value(recipe, key)}


def _names(table: Table, prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _value(recipe: Table, where: str) -> Any:
    value: Any = recipe
    for key in where.split("."):
        value = value[key]
    return value
