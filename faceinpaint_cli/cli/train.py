"""`faceinpaint train`: train a model on a folder, zip or tar of faces."""

from __future__ import annotations

from pathlib import Path

import click

from faceinpaint_cli.cli.common import HELP_NAMES, common_options

PATH = click.Path(path_type=Path)


@click.command("train", context_settings=HELP_NAMES)
@click.argument("data", nargs=-1, required=True, metavar="DATA...", type=PATH)
@click.option("-o", "--output", required=True, metavar="RUN_DIR", type=PATH, help="Folder of the run.")
@click.option("--recipe", default="base", show_default=True, metavar="NAME|FILE.toml",
              help="What is trained and how: a recipe of the package by name, or a file; localiser, print-localiser, "
              "video-localiser and hidden-face: the finders of damage and of hidden faces.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Change a setting of the recipe, such as data.batch=8; repeatable.")
@click.option("--steps", type=click.IntRange(min=1), help="End after so many steps.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="End after so many minutes.")
@click.option("--resume", is_flag=True, help="Go on with the run in RUN_DIR where it stopped.")
@click.option("--cache", metavar="DIR", type=PATH,
              help="Where decoded faces are kept.  [default: RUN_DIR/cache]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--show-masks", metavar="FILE.png", type=PATH,
              help="Write a contact sheet of samples with their holes, and train nothing.")
@click.option("--dry-run", is_flag=True, help="Check DATA, print the resolved recipe and train nothing.")
@common_options
def command(
    data: tuple[Path, ...], output: Path, recipe: str, overrides: tuple[str, ...], steps: int | None,
    minutes: float | None, resume: bool, cache: Path | None, device: str, show_masks: Path | None,
    dry_run: bool, progress: bool,
) -> int:
    """Train a model on faces in folders, zips or tars (CelebA's img_align_celeba.zip as it is downloaded).

    The official test partition of CelebA is never read. One JSON line of facts goes to stdout at the end.
    Several processes: torchrun --nproc-per-node N -m faceinpaint_cli train ...
    """
    import json
    import os

    from faceinpaint_train import run
    from faceinpaint_train.checks import check_networks
    from faceinpaint_train.recipe import FINDERS, read_recipe
    from faceinpaint_train.sources import check_sources
    from faceinpaint_train.state import check_resumable
    from tqdm import tqdm

    from faceinpaint_cli.errors import UsageError

    if recipe in FINDERS:
        if steps or overrides or show_masks or dry_run or device not in ("auto", "cpu"):
            raise UsageError(f"--recipe {recipe} takes --minutes, --resume and --cache alone, and trains on the CPU")
        if not minutes:
            raise UsageError(f"--recipe {recipe} needs --minutes: say how long to train")
        if (output / "last.ckpt").exists() and not resume:
            raise UsageError(f"{output} holds a run already: add --resume, or give another -o")
        if resume:
            check_resumable(output / "last.ckpt")
        click.echo(json.dumps(getattr(run, FINDERS[recipe])(data, output, minutes, cache=cache)))
        return 0
    ends = [f"run.steps={steps or 0}", f"run.minutes={minutes or 0.0}"] if steps or minutes else []
    resolved = read_recipe(recipe, [*overrides, *ends])
    if dry_run:
        check_networks(resolved)
        check_sources(data)
        click.echo(json.dumps(resolved, indent=2))
        return 0
    if show_masks:
        run.mask_sheet(resolved, data, cache or output / "cache", show_masks)
        click.echo(str(show_masks))
        return 0
    form = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=100, unit="%", disable=not progress, bar_format=form) as bar:

        def report(step: int, share: float, figures: dict[str, float]) -> None:
            bar.set_postfix(step=step, loss=f"{figures.get('loss', 0):.4f}", refresh=False)
            bar.update(min(100.0, 100 * share) - bar.n)

        facts = run.train(resolved, data, output, device=device, cache=cache, resume=resume, report=report)
    if os.environ.get("RANK", "0") == "0":  # under torchrun the others have no figures
        click.echo(json.dumps(facts))
    return 130 if facts["stopped"] else 0
