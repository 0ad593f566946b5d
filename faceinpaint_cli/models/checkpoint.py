"""Generators on disk: safetensors with name and options inside, found in the package or by path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from faceinpaint_cli.errors import ModelError, OutputError
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.models.mixed import Mixed
from faceinpaint_cli.models.networks.base import Base
from faceinpaint_cli.models.registry import build_generator, generator_spec

FORMAT = "faceinpaint-generator-1"
Net = TypeVar("Net", bound=nn.Module)
ENDS = ("realism", "fidelity")
"""Suffixes of a bundled pair of weights, at fidelity 0 and 1."""


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator ready for use, in evaluation mode, float32, on the CPU.

    `config` holds `options` (of the network) and what the training run noted: `size` of its crops where it is not
    the network's usual one, `told` false where it never saw the mask. `sha256` is of the file's bytes, for a pair that
    is mixed of both files' digests in the order realism, fidelity. Pictures handed to `module` have sides that are
    multiples of `multiple`; crops of `size` are what it was trained on. A network that is not `told` the mask ignores
    the one that it is handed and draws the whole picture from what it is shown.
    """

    module: nn.Module
    name: str
    config: dict[str, Any]
    sha256: str
    multiple: int
    size: int
    told: bool = True


def save_checkpoint(
    path: Path,
    state: Mapping[str, Tensor],
    name: str,
    config: dict[str, Any],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write `state` of generator `name`, built with `config["options"]`, as safetensors of `dtype`. OutputError where
    the disk is full or read-only; what was at `path` is then still there."""
    generator_spec(name)
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in state.items()}
    metadata = {"format": FORMAT, "name": name, "config": json.dumps(config, sort_keys=True)}
    with atomic_path(path) as part:
        try:
            save_file(tensors, part, metadata=metadata)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path} ({error})") from None


def bundled_models() -> dict[str, list[Path]]:
    """Names of the generators in the package, each with its file, or with its files at fidelity 0 and 1."""
    folder = Path(str(resources.files("faceinpaint_cli"))) / "weights"
    files = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    found: dict[str, list[Path]] = {}
    for stem, path in files.items():
        pair = [files.get(f"{stem.rpartition('-')[0]}-{end}") for end in ENDS]
        if stem.endswith(ENDS) and all(pair):
            found[stem.rpartition("-")[0]] = [p for p in pair if p is not None]
        elif read_header(path) is not None:
            found[stem] = [path]
    return found


def load_bundled(net: Net, name: str, otherwise: str) -> Net:
    """`net` with the weights of that name in the package, for evaluation. ModelError where they are missing or broken,
    which says what to do `otherwise`."""
    path = Path(str(resources.files("faceinpaint_cli"))) / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise ModelError(f"the weights {path} are missing: {otherwise}")
    try:
        net.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{path} is broken ({str(error).splitlines()[0]}): install the package again") from None
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def read_header(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Name and config in a generator's file; None where the file is safetensors of something else.

    Raises ModelError where it is no readable safetensors file at all.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} is no readable safetensors file ({error}): give --model another file"
        ) from None
    if metadata.get("format") != FORMAT:
        return None
    try:
        name, config = metadata["name"], json.loads(metadata["config"])
    except (KeyError, ValueError, RecursionError):
        raise ModelError(f"{path} has a damaged header: write it again with `faceinpaint train`") from None
    wrong = _what_is_wrong(config)
    if wrong:
        raise ModelError(f"{path} has an odd header ({wrong}): write it again with `faceinpaint train`")
    return name, config


def _what_is_wrong(config: Any) -> str | None:
    """What is not as a training run notes it in a generator's config; None where nothing is."""
    if not isinstance(config, dict):
        return f"config must be an object, not {config!r:.50}"
    options, told, size = config.get("options", {}), config.get("told", True), config.get("size", 1)
    if not isinstance(options, dict):
        return f"options must be an object, not {options!r:.50}"
    if not isinstance(told, bool):
        return f"told must be true or false, not {told!r:.50}"
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        return f"size must be a number of pixels, not {size!r:.50}"
    return None


def _read(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor], bytes]:
    header = read_header(path)
    if header is None:
        raise ModelError(
            f"{path} holds no faceinpaint generator: give --model a file written by `faceinpaint train`"
        )
    name, config = header
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy it again") from None
    return name, config, tensors, path.read_bytes()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The float32 weights in a generator's file, by their names in the network. ModelError as `load_generator`."""
    return _read(path)[2]


def find_model(name_or_path: str | Path) -> list[Path]:
    """The file or pair of files behind a bundled name or a path."""
    text = str(name_or_path)
    path = Path(text)
    try:
        there = path.is_file()
    except OSError:  # it is in a folder that may not be entered
        there = False
    if path.suffix == ".safetensors" or path.parent != Path() or there:
        if not there:
            raise ModelError(f"no model file at {path}: give --model a .safetensors file or a bundled name")
        return [path]
    bundled = bundled_models()
    if text not in bundled:
        names = ", ".join(bundled) or "none"
        raise ModelError(
            f"no bundled model is named {text!r} (there: {names}): give --model one of these or a file"
        )
    return bundled[text]


def load_generator(name_or_path: str | Path, fidelity: float | None = None) -> LoadedGenerator:
    """A generator by bundled name or from a .safetensors file.

    `fidelity` in [0, 1] says how the pictures of a bundled pair are mixed, 1 = closest to the original (also
    where it is None), 0 = most realistic; in between both networks run. A model of one file is the same at any
    fidelity. Raises ModelError for a missing, foreign or broken file.
    """
    if fidelity is not None and not 0 <= fidelity <= 1:
        raise ModelError(f"--fidelity must be from 0 to 1, not {fidelity}")
    paths = find_model(name_or_path)
    share = 1.0 if fidelity is None else fidelity
    if len(paths) == 2 and share in (0, 1):
        paths = [paths[int(share)]]
    parts = [_load(path) for path in paths]
    last = parts[-1]
    if len(parts) == 1:
        return last
    digest = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    realistic, faithful = (part.module for part in parts)
    assert isinstance(realistic, Base) and isinstance(faithful, Base)  # the only generator that is bundled as a pair
    return replace(last, module=Mixed(realistic, faithful, share).eval(), sha256=digest)


def _load(path: Path) -> LoadedGenerator:
    name, config, tensors, data = _read(path)
    spec = generator_spec(name)
    module = build_generator(name, **config.get("options", {}))
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} does not fit generator {name!r} ({reason}): train it again") from None
    digest = hashlib.sha256(data).hexdigest()
    module = module.eval().requires_grad_(False)
    told, size = config.get("told", True), config.get("size", spec.size)
    return LoadedGenerator(module if told else Untold(module), name, config, digest, spec.multiple, size, told)


class Untold(nn.Module):
    """A network that was trained without the mask, kept from seeing it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.network(image, torch.zeros_like(mask))
