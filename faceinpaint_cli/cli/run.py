"""`faceinpaint run`: its options are made from RunConfig."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from faceinpaint_cli.cli.common import HELP_NAMES, common_options
from faceinpaint_cli.config import RunConfig, flag_name
from faceinpaint_cli.errors import UsageError


def _option(f: Field[Any]) -> Callable[..., Any]:
    limits = f.metadata
    settings: dict[str, Any] = {"default": f.default, "help": limits["help"]}
    if isinstance(f.default, bool):
        settings["is_flag"] = True
    elif limits.get("multiple"):
        settings |= {"multiple": True, "metavar": limits["metavar"]}
    elif "choices" in limits:
        settings |= {"type": click.Choice(limits["choices"]), "show_default": True}
    elif "low" in limits:
        kind = click.IntRange if isinstance(f.default, int) else click.FloatRange
        settings |= {"type": kind(limits["low"], limits["high"]), "show_default": f.default is not None}
    else:
        settings |= {"metavar": limits["metavar"], "show_default": f.default is not None}
    return click.option(flag_name(f.name), f.name, **settings)


class GroupedCommand(click.Command):
    """Lists the options under the headings that RunConfig gives them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {f.name: f.metadata["group"] for f in fields(RunConfig)}
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                rows.setdefault(groups.get(parameter.name or "", "General"), []).append(record)
        rows["General"] = rows.pop("General")  # last
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)


@click.command("run", cls=GroupedCommand, context_settings=HELP_NAMES)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, metavar="OUTPUT",
              help="A folder, or a file where there is one input; what ends in / is a folder.")
@common_options
def command(inputs: tuple[str, ...], output: str, progress: bool, **settings: Any) -> int:
    """Repair pictures, folders of pictures (recursively) and videos.

    Say what to fill with a mask, a colour, the alpha channel or boxes; with none of these the damage is looked
    for: patches stamped on pictures, lost data in videos. Pixels outside the mask stay as they are.
    """
    if not output or not all(inputs):
        raise UsageError("INPUT and --output must name something; one is empty")
    if output == "-" or "-" in inputs:
        raise UsageError("pictures and videos are not read from or written to a pipe; name files or folders")
    config = RunConfig(**settings)
    from faceinpaint_cli.runner import run

    into_folder = output.endswith(tuple(filter(None, (os.sep, os.altsep))))  # Path drops what says so
    return run([Path(p) for p in inputs], Path(output), config, progress=progress, into_folder=into_folder)


for _field in fields(RunConfig):
    command = _option(_field)(command)
