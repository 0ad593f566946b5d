"""The commands in README.md are ones that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from faceinpaint_train.recipe import recipe_names

from faceinpaint_cli.cli import cli

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted({
    part.strip()
    for text in [*BLOCKS, *re.findall(r"`(faceinpaint [^`]+)`", README)]
    for line in text.splitlines()
    for part in line.removeprefix("- run: ").split("&&")
    if part.strip().startswith("faceinpaint ")
})


def test_there_are_commands():
    assert len(COMMANDS) > 6


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_line_is_taken(line):
    words = shlex.split(line)[1:]
    if words[0] == "COMMAND" or "--help" in words or "|" in line:
        return  # not meant to be typed
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, f"there is no command {words[0]}"
    with command.make_context(words[0], words[1:]) as context:
        recipe = context.params.get("recipe")
    assert recipe is None or recipe in recipe_names()
