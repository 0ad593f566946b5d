"""What a recipe asks for, tried before the faces are read, which may take an hour."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from faceinpaint_cli.errors import ModelError, UsageError
from faceinpaint_cli.models.registry import build_discriminator, build_generator, generator_spec
from faceinpaint_train.recipe import Recipe

COARSE_SIDE = 64
"""Pixels of a side of what the first stage of `base` draws, whatever data.size."""
LEAST_JUDGED = 16
"""Pixels of a side that are one after all halvings of VGG16."""
TRIED_SIDE = 256
"""What fits pictures of this side fits larger ones, which would take long and much memory."""


def check_networks(recipe: Recipe) -> None:
    """ModelError or UsageError where the recipe names networks, options, sizes or files that there are not, or that do
    not go together."""
    check_size(recipe)
    model, judge, data, loss = (recipe[table] for table in ("model", "discriminator", "data", "loss"))
    net = build_generator(model["name"], **model["options"])
    if model["part"] != "whole" and not hasattr(net, model["part"]):
        raise ModelError(f"generator {model['name']!r} has no part {model['part']!r}: set model.part=whole")
    if model["prior_faces"] and not model["init"] and not hasattr(net, "prior"):
        raise ModelError(f"generator {model['name']!r} has no face prior: set model.prior_faces=0")
    if loss["cycle"] and not judge["name"]:
        raise UsageError("loss.cycle needs judges of both sides: set discriminator.name, or loss.cycle=0")
    files = {"model.init": model["init"], "data.irregular": data["irregular"] if data["irregular_share"] else "",
             "loss.perceptual_weights": loss["perceptual_weights"] if loss["perceptual"] else ""}
    for key, name in files.items():
        if name and not Path(name).exists():
            raise UsageError(f"setting {key!r}: there is no {name}; give the path of one, or leave it out")
    drawn = COARSE_SIDE if model["part"] == "coarse" else data["size"]
    if loss["judge_crop"] and not LEAST_JUDGED <= loss["judge_crop"] <= drawn:
        raise UsageError(f"setting 'loss.judge_crop' takes 0 or from {LEAST_JUDGED} to {drawn}, the side of what is "
                         f"drawn, not {loss['judge_crop']}")
    _try(f"generator {model['name']!r}", net, data["size"], "data.size or model.options")
    if judge["name"]:
        judging = build_discriminator(judge["name"], **judge["options"])
        _try(f"discriminator {judge['name']!r}", judging, loss["judge_crop"] or drawn,
             "loss.judge_crop, data.size or discriminator.options")


def check_size(recipe: Recipe) -> None:
    """ModelError where the generator does not take pictures of data.size."""
    multiple = generator_spec(recipe["model"]["name"]).multiple
    if recipe["data"]["size"] % multiple:
        raise ModelError(
            f"{recipe['model']['name']} takes sides that are multiples of {multiple}, not {recipe['data']['size']}: "
            "set data.size"
        )


@torch.no_grad()
def _try(what: str, net: nn.Module, side: int, settings: str) -> None:
    """ModelError where pictures of `side` pixels are too small for `net`."""
    side = min(side, TRIED_SIDE)
    try:
        net(torch.zeros(1, 3, side, side), torch.ones(1, 1, side, side))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{what} takes no pictures of {side} x {side} pixels ({reason}): change {settings}") from None
