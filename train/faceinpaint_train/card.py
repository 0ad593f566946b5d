"""What a finished run hands over: the model as safetensors and a card that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceinpaint_cli.models.checkpoint import save_checkpoint
from faceinpaint_cli.models.registry import generator_spec

CARD = """# {name}, trained by recipe `{recipe}`

| | |
|---|---|
| network | `{name}`: {summary} |
| parameters | {parameters:.2f} million |
| steps, samples | {step:,}, {samples:,} |
| time | {minutes:.0f} minutes |
| faces | {train:,} for training, {val:,} held out |
| data | {data} |
| told the mask | {told} |

## Figures on held-out faces
Protocol {protocol} at {size} x {size} pixels, {count} faces, averaged weights, composited, 8 bits:
PSNR {psnr:.2f} dB (hole {psnr_hole:.2f}), SSIM {ssim:.4f} (hole {ssim_hole:.4f}).

## Intended use
Filling holes in pictures of faces, aligned as CelebA's are, with something plausible. What it fills in was
never seen: it is no evidence of what a person looks like.

## Limits
It has learned from the faces named above and from no others; ages, skin tones, poses and qualities that are
rare there come out worse. The terms of the data hold for the weights as far as the law says so.
"""


def write_model(folder: Path, net: nn.Module, recipe: dict[str, Any], facts: dict[str, Any]) -> None:
    """`folder`/model.safetensors (fp16), model-fp32.safetensors and MODEL_CARD.md.

    `facts`: step, samples, minutes, train, val, data, and the figures of the last validation.
    """
    model = recipe["model"]
    config = {"options": model["options"], "told": model["told"], "recipe": recipe, "facts": facts}
    if model["part"] == "whole":  # a part of `base` may be trained on smaller crops than the whole is used on
        config["size"] = recipe["data"]["size"]
    state = net.state_dict()
    save_checkpoint(folder / "model.safetensors", state, model["name"], config, torch.float16)
    save_checkpoint(folder / "model-fp32.safetensors", state, model["name"], config, torch.float32)
    card = CARD.format(
        name=model["name"],
        recipe=recipe["name"],
        summary=generator_spec(model["name"]).summary,
        parameters=sum(p.numel() for p in net.parameters()) / 1e6,
        told="yes" if model["told"] else "no",
        protocol="celeba-center25" if model["told"] else "white square",
        size=recipe["data"]["size"],
        **facts,
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
