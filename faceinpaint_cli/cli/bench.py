"""`faceinpaint bench`: parse, then call one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from faceinpaint_cli.cli.common import HELP_NAMES, common_options

PATH = click.Path(path_type=Path)


@click.command("bench", context_settings=HELP_NAMES)
@click.argument("data", nargs=-1, metavar="[DATA...]", type=PATH)
@click.option("-o", "--output", required=True, metavar="DIR", type=PATH,
              help="Folder for bench.json, bench.md, bench.html and scores.csv.")
@click.option("--suite", type=click.Choice(["images", "video", "speed"]), default="images", show_default=True,
              help="What is measured.")
@click.option("--protocol", default="celeba-center25", show_default=True,
              type=click.Choice(["celeba-center25", "celeba-white-square", "celeba-irregular", "custom"]),
              help="--suite images: crop and hole.")
@click.option("--methods", metavar="NAME,...", help="Rows of the table (default: all that can run).")
@click.option("--model", "models", metavar="NAME|FILE", multiple=True, default=("base",), show_default=True,
              help="Generator by name, or a .safetensors file; repeatable (--suite video: one).")
@click.option("--fidelity", metavar="F,...", help="Generator's fidelities from 0 to 1, a row each; --suite video: one.")
@click.option("--external", metavar="NAME=DIR", multiple=True,
              help="--suite images: outputs of another program, matched by stem, as a row of that name; repeatable.")
@click.option("--save-inputs", is_flag=True,
              help="--suite images: write the damaged pictures and masks, for other programs.")
@click.option("--masks", metavar="PATH", type=PATH, help="--suite images: folder, zip or tar of masks (white = hole).")
@click.option("--codecs", metavar="NAME,...", help="--suite video (default: h264, hevc, mpeg4); an unknown one "
              "lists those there are.")
@click.option("--branches", metavar="NAME,...", help="--suite video: kinds of damage (default: base, that of the "
              "BSCV benchmark); an unknown one lists those there are.")
@click.option("--frames", metavar="N", type=int, help="--suite video: only the first N pictures of each clip.")
@click.option("--limit", metavar="N", type=int, help="Only the first N pictures or clips by name.")
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of everything random.")
@click.option("--size", metavar="PX", type=int, default=256, show_default=True,
              help="--suite images: side of the pictures.")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--lpips", metavar="FILE", type=PATH, envvar="FACEINPAINT_LPIPS", show_envvar=True,
              help="LPIPS weights (safetensors); without them LPIPS is left out.")
@click.option("--identity", metavar="FILE", type=PATH, envvar="FACEINPAINT_IDENTITY", show_envvar=True,
              help="--suite images: weights of facenet-pytorch's InceptionResnetV1, to compare persons.")
@click.option("--examples", metavar="N", type=click.IntRange(0, 500), default=12, show_default=True,
              help="Pictures shown in bench.html, the worst.")
@click.option("--gate", metavar="BASELINE.json", type=PATH, help="Exit 3 where a figure is worse than there.")
@click.option("--tolerance", metavar="NAME=X,...", default="",
              help="What --gate allows, such as psnr=0.1,ssim=0.002,ms=30%. Times are compared only if named.")
@click.option("--update-baseline", metavar="BASELINE.json", type=PATH, help="Write the figures there as well.")
@click.option("--junit", metavar="FILE.xml", type=PATH, help="Also write JUnit XML.")
@common_options
def command(progress: bool, methods: str | None, fidelity: str | None, external: tuple[str, ...],
            codecs: str | None, branches: str | None, **settings: Any) -> int:
    """Measure fills against each other, and against a stored baseline.

    DATA: folders, zips or tars of pictures (for --suite video: of clips); none: the samples in the package.
    """
    from faceinpaint_bench import report
    from faceinpaint_bench.config import SUITES_OF, BenchConfig, parse_external
    from faceinpaint_bench.run import run_bench

    context = click.get_current_context()
    for name, suites in SUITES_OF.items():  # the environment speaks to all suites alike
        from_environment = context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
        if from_environment and settings["suite"] not in suites:
            settings[name] = None
    config = BenchConfig(
        **settings,
        methods=_listed(methods),
        codecs=_listed(codecs),
        branches=_listed(branches),
        fidelity=tuple(_number(f) for f in _listed(fidelity)),
        external=tuple(parse_external(e) for e in external),
    )
    found = run_bench(config, progress)
    click.echo(report.to_markdown(found), nl=False)
    failed = report.failures(found)
    if failed:
        what = "1 input" if len(failed) == 1 else f"{len(failed)} inputs"
        click.echo(f"faceinpaint: {what} failed, the others are measured; the first: {failed[0]}", err=True)
    return 1 if failed else 0


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in (text or "").split(","))))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"expected numbers, not {text!r}", param_hint="--fidelity") from None
