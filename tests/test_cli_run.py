"""The command line on real files: exit codes, one bad input among good ones, resume, shards, reports."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from faceinpaint_cli.cli import cli, main


@pytest.fixture
def photos(tmp_path):
    """Four pictures of noise in two folders with one name twice, as real folders have it."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    for name in ("a/x.png", "b/x.png", "y.png", "z.bmp"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return folder


def faceinpaint(*args, expect=0):
    """Run in this process; returns (stdout, stderr). `main` turns errors into exit codes."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            main([str(a) for a in args])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert exit_.value.code == expect, err.getvalue()
    assert "Traceback" not in err.getvalue()
    return out.getvalue(), err.getvalue()


BOX = ("--box", "10,10,20,20", "--method", "telea")


def test_a_folder_keeps_its_paths_and_changes_only_the_box(photos, tmp_path):
    out, _ = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--report", tmp_path / "r.json")
    assert out.startswith("4 done in")
    for path in photos.rglob("*.*"):
        before = np.asarray(Image.open(path))
        after = np.asarray(Image.open(tmp_path / "out" / path.relative_to(photos)))
        same = (before == after).all(axis=2)
        assert same[:10].all() and same[30:].all() and same[:, :10].all() and same[:, 30:].all()
        assert not same[10:30, 10:30].all()
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["schema"] == 1 and report["totals"]["done"] == 4
    entry = report["jobs"][0]
    assert set(entry) >= {"input", "output", "kind", "status", "error", "frames", "frames_damaged", "frames_filled",
                          "faces", "tracks", "mask_fraction", "method", "seconds", "fps", "audit"}
    assert entry["mask_fraction"] == pytest.approx(400 / (48 * 64), abs=1e-6)
    saved = json.loads((tmp_path / "out" / "faceinpaint-run.json").read_text())
    assert saved["box"] == ["10,10,20,20"]


def test_bad_inputs_are_named_and_the_others_done(photos, tmp_path):
    (photos / "zero.png").write_bytes(b"")
    (photos / "text.jpg").write_text("hello")
    (photos / "cut.png").write_bytes((photos / "y.png").read_bytes()[:200])
    (photos / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 300)
    _, err = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--report", tmp_path / "r.json", expect=1)
    jobs = json.loads((tmp_path / "r.json").read_text())["jobs"]
    failed = {job["input"].rsplit("/", 1)[1] for job in jobs if job["status"] == "failed"}
    assert failed == {"zero.png", "text.jpg", "cut.png", "bad.mp4"}
    assert len(err.strip().splitlines()) == 4
    written = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written == ["faceinpaint-run.json", "x.png", "x.png", "y.png", "z.bmp"]


def test_an_input_that_is_not_there_is_named_and_the_others_done(photos, tmp_path):
    _, err = faceinpaint("run", photos / "gone.png", photos / "y.png", "-o", tmp_path / "out", *BOX,
                         "--report", tmp_path / "r.json", expect=1)
    assert "gone.png does not exist" in err and len(err.strip().splitlines()) == 1
    assert (tmp_path / "out/y.png").exists()
    totals = json.loads((tmp_path / "r.json").read_text())["totals"]
    assert (totals["done"], totals["failed"]) == (1, 1)


def test_a_report_that_cannot_be_written_is_said_before_any_work(photos, tmp_path):
    (tmp_path / "r.json").mkdir()
    _, err = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--report", tmp_path / "r.json", expect=1)
    assert "r.json" in err and not list((tmp_path / "out").rglob("*.png"))


def test_existing_outputs(photos, tmp_path):
    run = ("run", photos, "-o", tmp_path / "out", *BOX)
    faceinpaint(*run)
    _, err = faceinpaint(*run, expect=2)
    assert "--on-existing" in err
    (tmp_path / "out/y.png").unlink()
    stamp = (tmp_path / "out/z.bmp").stat().st_mtime_ns
    out, _ = faceinpaint(*run, "--resume")
    assert out.startswith("1 done, 3 skipped")
    assert (tmp_path / "out/z.bmp").stat().st_mtime_ns == stamp
    _, err = faceinpaint(*run, "--resume", "--dilate", "3", expect=2)
    assert "--dilate" in err
    out, _ = faceinpaint(*run, "--on-existing", "overwrite")
    assert out.startswith("4 done")


def test_shards_share_the_work(photos, tmp_path):
    for part in ("1/2", "2/2"):
        out, _ = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--shard", part)
        assert out.startswith("2 done")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


def test_dry_run_writes_nothing_and_says_what_it_would_do(photos, tmp_path):
    out, _ = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--dry-run")
    plan = json.loads(out)
    assert plan["config"]["method"] == "telea" and len(plan["jobs"]) == 4
    assert not (tmp_path / "out").exists()


def test_previews_and_page(photos, tmp_path):
    faceinpaint("run", photos / "y.png", "-o", tmp_path / "y.png", *BOX, "--preview", "--html", tmp_path / "p.html")
    with Image.open(tmp_path / "y.preview.jpg") as preview:
        assert preview.size == (192, 48)
    page = (tmp_path / "p.html").read_text()
    assert page.count("<img") == 3 and "y.png" in page


def test_an_empty_mask_copies_the_file(photos, tmp_path):
    mask = tmp_path / "black.png"
    Image.new("L", (64, 48)).save(mask)
    out, _ = faceinpaint("run", photos / "y.png", "-o", tmp_path / "o.png", "--mask", mask, "--method", "telea")
    assert out.startswith("1 done (1 copied, with nothing to fill)")
    assert (tmp_path / "o.png").read_bytes() == (photos / "y.png").read_bytes()


@pytest.mark.parametrize("args", [
    ("run", "missing.png", "-o", "out"),
    ("run", ".", "-o", "out", "--method", "magic"),
    ("run", ".", "-o", "out", "--box", "1,2"),
    ("run", ".", "-o", "out", "--box", "1,1,5,5", "--model", "missing.safetensors"),
    ("run", ".", "-o", "out", "--box", "1,1,5,5", "--mask", "missing.png"),
    ("run", "."),
    ("nonsense",),
])
def test_wrong_usage_is_one_line_and_exit_2(args, photos, monkeypatch):
    monkeypatch.chdir(photos)
    _, err = faceinpaint(*args, expect=2)
    assert err.strip()
    assert not (photos / "out").exists()


def test_cuda_that_is_not_there(photos, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    _, err = faceinpaint("run", photos, "-o", tmp_path / "out", "--box", "1,1,5,5", "--device", "cuda", expect=2)
    assert "--device" in err and len(err.strip().splitlines()) == 1


def test_interruption_leaves_no_half_file_and_says_what_was_done(photos, tmp_path):
    rng = np.random.default_rng(1)
    for i in range(150):
        Image.fromarray(rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)).save(photos / f"big{i:03}.png")
    command = [sys.executable, "-m", "faceinpaint_cli", "run", str(photos), "-o", str(tmp_path / "out"), *BOX,
               "--report", str(tmp_path / "r.json")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("big*.png")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err and "--resume" in err and "Traceback" not in err
    outputs = list((tmp_path / "out").rglob("*.*"))
    assert 0 < len(outputs) < 150
    assert not [p for p in outputs if p.name.startswith(".")]
    for path in outputs:
        if path.suffix == ".png":
            Image.open(path).load()
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["done"] <= len(outputs)


def test_every_command_has_help():
    for name in ("run", "train", "bench", "damage", "models"):
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert "--help" in result.output
