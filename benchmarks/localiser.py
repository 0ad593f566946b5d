"""What the localiser finds, and what it marks in vain: python benchmarks/localiser.py DATA [--textures FOLDER]

Each kind of patch, and each picture of FOLDER (textures that training never saw), is stamped on faces over squares of a
quarter of the area and over strokes. For each, the mean over pictures of the intersection over union of what is marked
and what was stamped, and precision and recall over all pixels. Then: how many undamaged pictures are touched at all.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from faceinpaint_bench.sources import decode_rgb, open_source

from faceinpaint_cli.damage.localiser import locate_damage
from faceinpaint_cli.synthesis.patches import PATCHES, Patch
from faceinpaint_cli.synthesis.shapes import SHAPES

SIDE = 256


def square(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture (H, W, 3) uint8, SIDE x SIDE."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def texture(picture: np.ndarray) -> Patch:
    """A patch from some place of a SIDE x SIDE picture that goes on from its other edge."""
    return lambda image, rng, others: np.roll(picture, rng.integers(0, SIDE, 2), (0, 1))


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--pictures", default=40, show_default=True, help="Pictures for each kind and shape.")
@click.option("--clean", default=1000, show_default=True, help="Undamaged pictures, in their own size.")
@click.option("--textures", type=click.Path(path_type=Path, exists=True), help="Pictures to stamp on as well.")
def main(data: Path, pictures: int, clean: int, textures: Path | None) -> None:
    """A table in Markdown, and a line."""
    kinds: dict[str, Patch] = dict(PATCHES)
    for item in open_source(textures, "--textures") if textures else ():
        kinds[item.name] = texture(square(decode_rgb(item.read(), item.name)))
    items = list(open_source(data, "DATA"))
    faces = [decode_rgb(item.read(), item.name) for item in items[: max(pictures + 1, clean)]]
    click.echo("| stamped | over | mean IoU | precision | recall |\n|---|---|---|---|---|")
    for kind, patch in kinds.items():
        for shape in ("square", "strokes"):
            overlaps, hits, marked, stamped = [], 0, 0, 0
            for number in range(pictures):
                rng = np.random.default_rng([11, number])
                face, other = square(faces[number]), square(faces[number + 1])
                truth = SHAPES[shape](SIDE, SIDE, rng)
                hurt = np.where(truth[..., None], patch(face, rng, [other]), face)
                found = locate_damage([hurt])[0] > 0.5
                overlaps.append((found & truth).sum() / (found | truth).sum())
                hits, marked, stamped = hits + (found & truth).sum(), marked + found.sum(), stamped + truth.sum()
            precision = f"{hits / marked:.2f}" if marked else "-"
            click.echo(f"| {kind} | {shape} | {np.mean(overlaps):.2f} | {precision} | {hits / stamped:.2f} |")
    touched = [item.name for item, face in zip(items, faces[:clean], strict=False) if locate_damage([face])[0].any()]
    click.echo(f"\nUndamaged pictures touched: {len(touched)} of {min(clean, len(faces))} {' '.join(touched)}")


if __name__ == "__main__":
    main()
