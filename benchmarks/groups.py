"""Figures of a bench run by apparent skin tone or by age: python benchmarks/groups.py OUT/scores.csv DATA --by skin|age

Skin tone: individual typology angle of the cheeks, atan((L* - 50) / b*) in degrees (Chardon et al. 1991) with their
limits of 41, 28 and 10; for aligned pictures of 178 x 218, from the undamaged picture, light and all: a bright wall
makes a person lighter. Age: of All-Age-Faces, whose names tell it (00000A02.jpg: two years).
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from pathlib import Path

import click
import cv2
import numpy as np
from faceinpaint_bench.sources import decode_rgb, open_source

from faceinpaint_cli.metrics import bootstrap_interval

CHEEKS = (slice(128, 150), (slice(52, 74), slice(104, 126)))
"""Rows, and columns of either cheek, in CelebA's aligned 178 x 218."""
TONES = ((41, "light"), (28, "intermediate"), (10, "tan"), (-90, "brown and dark"))
AGES = ((60, "60 and over"), (18, "18 to 59"), (0, "under 18"))
MEASURES = ("psnr", "psnr_hole", "ssim", "lpips")


def tone(picture: np.ndarray) -> str:
    """Group of an aligned picture (218, 178, 3) uint8 RGB."""
    rows, columns = CHEEKS
    cheeks = np.concatenate([picture[rows, c].reshape(-1, 3) for c in columns])
    lightness, _, yellow = np.median(cv2.cvtColor(cheeks[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0], axis=0)
    angle = np.degrees(np.arctan2(lightness - 50, max(float(yellow), 1e-3)))
    return next(name for limit, name in TONES if angle > limit)


def age(name: str) -> str:
    found = re.search(r"A(\d+)\.", name)
    if found is None:
        raise click.UsageError(f"--by age needs the names of All-Age-Faces (00000A02.jpg), not {name}")
    return next(group for limit, group in AGES if int(found[1]) >= limit)


@click.command()
@click.argument("scores", type=click.Path(path_type=Path, exists=True))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--by", type=click.Choice(["skin", "age"]), required=True)
def main(scores: Path, data: Path, by: str) -> None:
    """A table in Markdown: methods by group, means, 95 % interval of the hole's PSNR, number of pictures."""
    with scores.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = {row["picture"] for row in rows}
    items = [item for item in open_source(data, "DATA") if item.name in wanted]
    groups = {i.name: age(i.name) if by == "age" else tone(decode_rgb(i.read(), i.name)) for i in items}
    order = [name for _, name in (AGES if by == "age" else TONES)]
    collected: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        collected[row["method"], groups[row["picture"]]].append(row)
    click.echo(f"| method | group | {' | '.join(MEASURES)} | 95 % of psnr_hole | n |\n|{'---|' * (len(MEASURES) + 4)}")
    for (method, group), part in sorted(collected.items(), key=lambda c: (c[0][0], order.index(c[0][1]))):
        means = [np.mean([float(row[m]) for row in part]) if part[0].get(m) else np.nan for m in MEASURES]
        low, high = bootstrap_interval([float(row["psnr_hole"]) for row in part])
        figures = " | ".join(f"{mean:.4f}" if m in ("ssim", "lpips") else f"{mean:.2f}"
                             for m, mean in zip(MEASURES, means, strict=True))
        click.echo(f"| {method} | {group} | {figures} | {low:.2f} to {high:.2f} | {len(part)} |")


if __name__ == "__main__":
    main()
