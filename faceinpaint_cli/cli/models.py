"""`faceinpaint models`: what models there are, what is in them, and other forms of them."""

from __future__ import annotations

from pathlib import Path

import click

from faceinpaint_cli.cli.common import HELP_NAMES, common_options


@click.group("models", context_settings=HELP_NAMES)
def command() -> None:
    """List, show and export models."""


@command.command("list", context_settings=HELP_NAMES, short_help="Networks, and which have weights in the package.")
@common_options
def list_models(progress: bool) -> int:
    """One line for each network, and whether weights for it are in the package."""
    from faceinpaint_cli.models.checkpoint import bundled_models
    from faceinpaint_cli.models.registry import GENERATORS

    there = bundled_models()
    for name, spec in GENERATORS.items():
        click.echo(f"{name:18} {'weights' if name in there else '-':8} {spec.summary}")
    for name in there.keys() - GENERATORS.keys():
        click.echo(f"{name:18} weights")
    return 0


@command.command("show", context_settings=HELP_NAMES)
@click.argument("model", metavar="NAME|FILE.safetensors")
@common_options
def show(model: str, progress: bool) -> int:
    """What a model is and was trained on, as JSON."""
    import json

    from faceinpaint_cli.models.checkpoint import load_generator

    loaded = load_generator(model)
    parameters = sum(p.numel() for p in loaded.module.parameters())
    facts = {"name": loaded.name, "sha256": loaded.sha256, "parameters": parameters, "size": loaded.size,
             "multiple": loaded.multiple, "told": loaded.told, "config": loaded.config}
    click.echo(json.dumps(facts, indent=2))
    return 0


@command.command("export", context_settings=HELP_NAMES)
@click.argument("model", metavar="NAME|FILE.safetensors")
@click.option("--onnx", "target", required=True, metavar="FILE.onnx", type=click.Path(path_type=Path),
              help="Write ONNX, and check that ONNX Runtime gives the same picture.")
@click.option("--fidelity", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="Of a bundled pair: 1 = closest to the original, 0 = most realistic.")
@common_options
def export(model: str, target: Path, fidelity: float, progress: bool) -> int:
    """Write a model in another form."""
    from faceinpaint_cli.models.export import export_onnx

    difference = export_onnx(model, target, fidelity)
    click.echo(f"{target}: largest difference from PyTorch {difference:.2g} of 255")
    return 0
