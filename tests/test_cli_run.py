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
    with Image.open(tmp_path / "y.png.preview.jpg") as preview:
        assert preview.size == (192, 48)
    page = (tmp_path / "p.html").read_text()
    assert page.count("<img") == 3 and "y.png" in page


def test_a_preview_of_a_very_wide_picture_is_reduced(tmp_path):
    Image.new("RGB", (30_000, 4), (90, 80, 70)).save(tmp_path / "wide.png")
    faceinpaint("run", tmp_path / "wide.png", "-o", tmp_path / "o.png", "--box", "5,0,2,2", "--method", "telea",
                "--preview")
    with Image.open(tmp_path / "o.png.preview.jpg") as preview:
        assert 65_000 < preview.width <= 65_535


def test_a_preview_that_cannot_be_written_does_not_fail_the_picture(photos, tmp_path):
    name = "n" * 244 + ".png"  # the preview's would be longer than a file name can be
    out, _ = faceinpaint("run", photos / "y.png", "-o", tmp_path / name, *BOX, "--preview")
    assert out.startswith("1 done") and (tmp_path / name).exists()


def test_previews_are_no_inputs_of_the_next_run(photos, tmp_path):
    faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--preview")
    assert len(list((tmp_path / "out").rglob("*.preview.jpg"))) == 4
    (tmp_path / "out" / "holiday.preview.png").write_bytes((photos / "y.png").read_bytes())  # of nothing beside it
    out, _ = faceinpaint("run", tmp_path / "out", "-o", tmp_path / "again", *BOX)
    assert out.startswith("5 done")


def test_a_run_with_nothing_to_show_leaves_the_page(photos, tmp_path):
    words = ("run", photos, "-o", tmp_path / "out", *BOX, "--html", tmp_path / "p.html", "--on-existing", "skip")
    faceinpaint(*words)
    page = (tmp_path / "p.html").read_bytes()
    out, err = faceinpaint(*words)
    assert out.startswith("0 done, 4 skipped") and "stays as it was" in err
    assert (tmp_path / "p.html").read_bytes() == page
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "p.html"}


def test_names_that_are_no_utf_8(photos, tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")
    (photos / "y.png").rename(photos / odd)
    files = ("--report", tmp_path / "r.json", "--html", tmp_path / "p.html")
    faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, *files)
    jobs = json.loads((tmp_path / "r.json").read_text())["jobs"]
    assert str(photos / odd) in {job["input"] for job in jobs} and (tmp_path / "out" / odd).exists()
    assert (tmp_path / "p.html").read_text().count("<img") == 12


def test_a_shard_of_one_file_is_a_file(photos, tmp_path):
    target = tmp_path / "o.png"
    out, _ = faceinpaint("run", photos / "y.png", "-o", target, *BOX, "--shard", "2/2")
    assert out.startswith("0 done") and not target.exists()
    faceinpaint("run", photos / "y.png", "-o", target, *BOX, "--shard", "1/2")
    assert target.is_file()


@pytest.mark.parametrize("args", [
    ("in", "-o", "out", "--report", "in/y.png"),
    ("in", "-o", "out", "--report", "in/new.png"),
    ("in/y.png", "-o", "o.png", "--report", "o.png"),
    ("in", "-o", "out", "--report", "same", "--html", "same"),
    ("in/y.png", "-o", "m.png", "--mask", "m.png", "--on-existing", "overwrite"),
    ("in", "-o", "out", "--mask", "in"),
])
def test_no_file_of_a_run_is_written_over_another(args, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 48), 255).save("m.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    box = () if "--mask" in args else BOX[:2]
    faceinpaint("run", *args, *box, "--method", "telea", expect=2)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}


def test_a_mask_folder_is_the_same_with_a_slash(photos, tmp_path):
    for name in ("a/x.png", "b/x.png", "y.png", "z.png"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48)).save(tmp_path / "m" / name)
    faceinpaint("run", photos, "-o", tmp_path / "out", "--mask", tmp_path / "m", "--method", "telea")
    out, _ = faceinpaint("run", photos, "-o", tmp_path / "out", "--mask", f"{tmp_path / 'm'}/", "--method", "telea",
                         "--resume")
    assert out.startswith("0 done, 4 skipped")


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
    ("run", ".", "-o", "out", "--mask", "missing.png", "--dry-run"),
    ("run", ".", "-o", "out", "--box", "1,1,5,5", "--model", "nonsense", "--dry-run"),
    ("run", ".", "-o", "out", "--mask", ""),
    ("run", ".", "-o", "out", "--codec", "nonsense"),
    ("run", "", "-o", "out"),
    ("run", "y.png", "-o", ""),
    ("run", "y.png", "-o", "-"),
    ("run", "y.png", "-o", "out.heic", "--box", "1,1,5,5"),
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
    assert err.count("interrupted") == 1
    outputs = list((tmp_path / "out").rglob("*.*"))
    assert 0 < len(outputs) < 150
    assert not [p for p in outputs if p.name.startswith(".")]
    for path in outputs:
        if path.suffix == ".png":
            Image.open(path).load()
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["done"] == len(outputs) - 1  # its settings


def test_every_command_has_help():
    for name in ("run", "train", "bench", "damage", "models"):
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert "--help" in result.output


def test_an_output_that_ends_in_a_slash_is_a_folder(photos, tmp_path):
    _, err = faceinpaint("run", photos / "y.png", "-o", tmp_path / "out.pgn", *BOX, expect=2)
    assert "out.pgn: .pgn is not written; end it in .png" in err and not (tmp_path / "out.pgn").exists()
    faceinpaint("run", photos / "y.png", "-o", f"{tmp_path}/out.pgn/", *BOX)
    faceinpaint("run", photos / "y.png", "-o", f"{tmp_path}/out.png/", *BOX)
    assert (tmp_path / "out.pgn" / "y.png").is_file() and (tmp_path / "out.png" / "y.png").is_file()


def test_a_page_that_cannot_be_written_costs_no_picture(photos, tmp_path):
    resource = pytest.importorskip("resource")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limit[1]))  # more than a picture has, less than the page
    try:
        out, err = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--report", tmp_path / "r.json",
                               "--html", tmp_path / "page.html", expect=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert out.startswith("4 done in") and err.count("\n") == 1 and "cannot write" in err and "page.html" in err
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["done"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "r.json"]


def test_places_that_may_not_be_looked_at_stop_nothing_else(photos, tmp_path):
    """Names that are too long fail as folders without permission do, which do not bind root."""
    wrong = photos / ("n" * 300 + ".png")
    out, err = faceinpaint("run", photos / "y.png", wrong, "-o", tmp_path / "out", *BOX,
                           "--report", tmp_path / "r.json", expect=1)
    assert out.startswith("1 done, 1 failed") and err.count("\n") == 1
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["done"] == 1
    for flags in (("--html", wrong), ("--mask", wrong), ("--model", wrong.with_suffix(".safetensors"))):
        code = 1 if flags[0] == "--html" else 2
        _, err = faceinpaint("run", photos / "y.png", "-o", tmp_path / "other", *BOX[:2], *flags, expect=code)
        assert err.count("\n") == 1 and "unexpected" not in err


def test_a_folder_of_outputs_that_may_not_be_entered(photos, tmp_path, monkeypatch):
    from pathlib import Path

    looked = Path.exists

    def refuse(path, **options):
        if path.parent == tmp_path / "out" / "a":
            raise PermissionError(13, "Permission denied", str(path))
        return looked(path, **options)

    monkeypatch.setattr(Path, "exists", refuse)
    faceinpaint("run", photos, "-o", tmp_path / "out", *BOX)  # the system's own permissions do not bind root


def test_saved_settings_that_are_none(photos, tmp_path):
    faceinpaint("run", photos, "-o", tmp_path / "out", *BOX)
    (tmp_path / "out" / "faceinpaint-run.json").write_text("[1]")
    _, err = faceinpaint("run", photos, "-o", tmp_path / "out", *BOX, "--resume", expect=2)
    assert "cannot be read (it holds no settings); delete it" in err


def test_a_report_over_the_saved_settings_is_refused(photos, tmp_path):
    out = tmp_path / "out"
    _, err = faceinpaint("run", photos, "-o", out, *BOX, "--report", out / "faceinpaint-run.json", expect=2)
    assert "would overwrite the saved settings; choose another" in err and not out.exists()
    faceinpaint("run", photos, "-o", out, *BOX, "--report", out / "report.json")
