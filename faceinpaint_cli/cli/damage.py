"""`faceinpaint damage`: damage files on purpose, with the true mask beside them."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from faceinpaint_cli.cli.common import HELP_NAMES, common_options

KINDS = ("bscv", "zero", "flip", "drop", "ts", "patch")
BRANCHES = ("base", "small", "early", "double", "late", "many", "large")
KINDS_OF = {"branch": ("bscv", "drop"), "fraction": ("bscv", "drop"), "position": ("bscv",), "deleted": ("bscv",),
            "count": ("zero", "flip", "ts"), "block": ("zero",), "burst": ("ts",), "spare_index": ("zero", "ts"),
            "spare_keyframes": ("bscv", "drop")}
"""Options that some kinds of damage have no use for, with those that have."""


@click.command("damage", context_settings=HELP_NAMES)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, metavar="OUTPUT", type=click.Path(path_type=Path),
              help="A folder, or a file where there is one input.")
@click.option("--kind", type=click.Choice(KINDS), default="bscv", show_default=True,
              help="bscv: bytes deleted from coded pictures; zero: blocks of the file zeroed; flip: bits "
              "flipped; drop: packets left out; ts: transport packets lost; patch: stamped on a picture.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Equal seeds, equal files.")
@click.option("--branch", type=click.Choice(BRANCHES), default="base", show_default=True,
              help="bscv, drop: a named setting of --fraction, --position and --bytes.")
@click.option("--fraction", type=click.FloatRange(0, 1, min_open=True),
              help="bscv, drop: fraction of the pictures of each group.  [default: of the branch]")
@click.option("--position", type=click.FloatRange(0, 1, max_open=True),
              help="bscv: where in the slice the bytes are deleted.  [default: of the branch]")
@click.option("--bytes", "deleted", type=click.IntRange(min=1),
              help="bscv: how many bytes are deleted.  [default: of the branch]")
@click.option("--count", type=click.IntRange(min=1), default=8, show_default=True,
              help="zero, flip, ts: how many blocks, bits or bursts.")
@click.option("--block", type=click.Choice(["512", "4096"]), default="512", show_default=True,
              help="zero: bytes of a block.")
@click.option("--burst", type=click.IntRange(min=1), default=1, show_default=True,
              help="ts: transport packets lost in a row.")
@click.option("--spare-index/--hit-index", default=True, show_default=True,
              help="zero, ts: whether the container's headers, index and tables are spared.")
@click.option("--spare-keyframes", is_flag=True, help="bscv, drop: keep pictures that start a group.")
@common_options
def command(
    inputs: tuple[str, ...], output: Path, kind: str, seed: int, branch: str, fraction: float | None,
    position: float | None, deleted: int | None, count: int, block: str, burst: int, spare_index: bool,
    spare_keyframes: bool, progress: bool,
) -> int:
    """Damage pictures and videos on purpose, to try repairs on.

    Beside each damaged file stands its true mask: NAME.mask.png for a picture, NAME.mask.mkv for a video
    (white where a decoded picture differs from the undamaged one). One JSON line for each file goes to
    stdout.
    """
    import json

    from faceinpaint_cli.errors import FaceInpaintError, UsageError
    from faceinpaint_cli.media.discover import discover
    from faceinpaint_cli.synthesis.bitstream import BRANCHES as settings
    from faceinpaint_cli.synthesis.bitstream import Corruption
    from faceinpaint_cli.synthesis.files import damage_image, damage_video, summary

    context = click.get_current_context()
    for option in context.command.params:
        kinds = KINDS_OF.get(option.name or "", KINDS)
        if kind not in kinds and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            flags = "/".join([*option.opts, *option.secondary_opts])
            raise UsageError(f"{flags} goes with --kind {' or '.join(kinds)}, not {kind}: leave it out")
    wanted = "image" if kind == "patch" else "video"
    everything = discover([Path(p) for p in inputs], output)
    broken = [job for job in everything if job.error]
    jobs = [job for job in everything if job.kind == wanted and not job.error]
    if not jobs and not broken:
        raise UsageError(f"--kind {kind} damages {wanted}s, and there is none among the inputs")
    named, failed = settings[branch], len(broken)
    for job in broken:
        click.echo(f"faceinpaint: {job.error}", err=True)
    how = None if kind == "patch" else Corruption(
        kind, seed, fraction or named.fraction, named.position if position is None else position,
        deleted or named.count, count, int(block), burst, spare_index, spare_keyframes)
    for job in jobs:
        try:
            if how:
                done = damage_video(job.input, job.output, how)
            else:
                done = damage_image(job.input, job.output, seed)
        except FaceInpaintError as error:
            failed += 1
            click.echo(f"faceinpaint: {error}", err=True)
        else:
            click.echo(json.dumps(summary([done])[0]))
    return 1 if failed else 0
