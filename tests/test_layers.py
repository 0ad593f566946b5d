"""A module imports only from lower layers, and what needs no torch imports none."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from media_factory import make_clip
from PIL import Image

ROOT = Path(__file__).parent.parent
LAYERS = {
    "faceinpaint_cli.errors": 0, "faceinpaint_cli.types": 0, "faceinpaint_cli.config": 0,
    "faceinpaint_cli.media": 1, "faceinpaint_cli.synthesis": 1,
    "faceinpaint_cli.models": 2, "faceinpaint_cli.metrics": 2,
    "faceinpaint_cli.faces": 3, "faceinpaint_cli.damage": 3,
    "faceinpaint_cli.fill": 4, "faceinpaint_cli.pipeline": 5,
    "faceinpaint_cli.runner": 6, "faceinpaint_cli.api": 6, "faceinpaint_cli.gallery": 6,
    "faceinpaint_train": 6, "faceinpaint_bench": 6,
    "faceinpaint_cli.cli": 7, "faceinpaint_cli.__main__": 8,
}
PACKAGES = {"faceinpaint_cli": ROOT, "faceinpaint_train": ROOT / "train", "faceinpaint_bench": ROOT / "benchmarks"}


def area(module: str) -> str | None:
    """The longest entry of LAYERS that the module lies in."""
    found = [name for name in LAYERS if module == name or module.startswith(name + ".")]
    return max(found, key=len, default=None)


def imports(path: Path):
    """Modules of the project that a file imports; `from package import module` counts as the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def test_imports_go_down():
    wrong, seen = [], 0
    for package, folder in PACKAGES.items():
        for path in (folder / package).rglob("*.py"):
            module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
            home = area(module)
            if home is None:
                assert module == "faceinpaint_cli", f"{module} is in no layer; add it to LAYERS"
                continue
            for name in imports(path):
                seen += 1
                target = area(name)
                if target is None or target == home or LAYERS[target] < LAYERS[home]:
                    continue
                same = LAYERS[target] == LAYERS[home]
                apart = {home, target} & {"faceinpaint_train", "faceinpaint_bench"}
                if not same or apart:
                    wrong.append(f"{module} (layer {LAYERS[home]}) imports {name} (layer {LAYERS[target]})")
    assert seen > 50
    assert not wrong, "\n".join(wrong)


def test_help_is_quick_and_imports_no_torch():
    command = [sys.executable, "-X", "importtime", "-m", "faceinpaint_cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "click" in modules
    assert not modules & {"torch", "av", "cv2", "numpy"}
    best = min(_seconds([sys.executable, "-m", "faceinpaint_cli", "--help"]) for _ in range(3))
    bare = min(_seconds([sys.executable, "-c", "import click"]) for _ in range(3))
    assert best - bare < 0.4


def test_a_clean_video_loads_only_what_copying_it_needs(tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", frames=6)
    command = [sys.executable, "-X", "importtime", "-m", "faceinpaint_cli", "run", str(clip), "-o",
               str(tmp_path / "out.mp4")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert (tmp_path / "out.mp4").read_bytes() == clip.read_bytes()
    assert "av" in modules
    assert not modules & {"torch", "torchvision", "facenet_pytorch", "cv2", "PIL", "tqdm"}


def test_a_classical_fill_of_a_picture_loads_no_torch(tmp_path: Path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)).save(picture)
    command = [sys.executable, "-X", "importtime", "-m", "faceinpaint_cli", "run", str(picture), "-o",
               str(tmp_path / "out.png"), "--box", "20,10,16,16", "--method", "telea"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "1 done" in result.stdout and "cv2" in modules
    assert not modules & {"torch", "torchvision", "facenet_pytorch"}


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env=os.environ)
    return time.perf_counter() - start
