"""What the video localiser finds in clips: python benchmarks/video_localiser.py CLIP...

Each clip is encoded in each of the codings that the localiser is trained on, and pictures of it are hit. For each of
them: precision and recall over cells of 8 x 8 pixels that differ by more than a grey level in the mean, the recall once
more with each cell weighed by that difference, and how many pictures that were not hit, but stand beside hit ones, at a
cut or in fast motion, would pass for damaged while a stream is watched.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from faceinpaint_train.video_localiser import CODINGS, SEEN, SIZES, Mix, Sample, clip_frames, encode, samples

from faceinpaint_cli.damage.extent import LOST, bundled_localiser
from faceinpaint_cli.damage.watch import LEAST_AREA, SURE


@click.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--each", default=40, show_default=True, help="Samples of each clip and coding, of either kind.")
def main(clips: tuple[Path, ...], each: int) -> None:
    """A table in Markdown."""
    hit, whole = Mix(hit=1, cut=0, moved=0, reduced=(1,)), Mix(hit=0, beside_hit=0.3, cut=0.3, moved=0.3, reduced=(2,))
    click.echo("| coding | precision | recall | recall, weighed | whole ones that look damaged |")
    click.echo("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for coding in CODINGS:
            found: list[Sample] = []
            calm: list[Sample] = []
            rng, others = random.Random(5), []
            for clip in clips:
                coded = encode(clip_frames(clip, SIZES[0]), coding, SIZES[0], Path(folder) / "clip.mkv")
                found += samples(coded, each, rng, mix=hit)
                calm += samples(coded, each, rng, others, whole)
                others = list(coded.pictures.values())[-2:]
            likely, difference = np.stack([likelihood(o) for o, _ in found]), np.stack([d for _, d in found]) / 4
            hurt, marked = difference > SEEN, likely > LOST
            precision, recall = (hurt & marked).sum() / marked.sum(), (hurt & marked).sum() / hurt.sum()
            weighed = difference[hurt & marked].sum() / difference[hurt].sum()
            touched = sum((likelihood(o) > SURE).mean() > LEAST_AREA for o, _ in calm)
            click.echo(f"| {coding} | {precision:.2f} | {recall:.2f} | {weighed:.2f} | {touched} of {len(calm)} |")


@torch.inference_mode()
def likelihood(seen: np.ndarray) -> np.ndarray:
    return torch.sigmoid(bundled_localiser()(torch.from_numpy(seen[None])))[0, 0].numpy()


if __name__ == "__main__":
    main()
