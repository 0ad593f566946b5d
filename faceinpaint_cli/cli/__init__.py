"""The `faceinpaint` command: a group that loads a command's module only when it is called."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from faceinpaint_cli import __version__
from faceinpaint_cli.errors import FaceInpaintError, describe

INTERRUPTED = 130

COMMANDS = {
    "run": ("faceinpaint_cli.cli.run", "Repair pictures and videos."),
    "train": ("faceinpaint_cli.cli.train", "Train a model on a folder, zip or tar of faces."),
    "bench": ("faceinpaint_cli.cli.bench", "Measure fills against each other and against a baseline."),
    "damage": ("faceinpaint_cli.cli.damage", "Damage files on purpose, with the true mask beside them."),
    "models": ("faceinpaint_cli.cli.models", "List, show and export models."),
}


class LazyGroup(click.Group):
    """Knows the names and one-line helps of its commands without importing them: `--help` needs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return import_module(COMMANDS[name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="faceinpaint")
def cli() -> None:
    """Repair faces in pictures and video, and keep everything else in the file as it was.

    Exit codes: 0 all done; 1 some inputs failed; 2 wrong usage; 3 a quality gate failed; 130 interrupted.
    """


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line; every error that the user can mend becomes one line and an exit code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        code = cli.main(argv, prog_name="faceinpaint", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except FaceInpaintError as error:
        click.echo(f"faceinpaint: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        what = str(error.__cause__ or error) or "interrupted"  # Click puts its Abort in the place of Ctrl-C
        click.echo(f"faceinpaint: {what}", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        click.echo(f"faceinpaint: {describe(error)}", err=True)
        sys.exit(FaceInpaintError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _as_interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
