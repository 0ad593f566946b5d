"""The gate: silent for the same figures, and heard for worse ones."""

import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from faceinpaint_bench import gate
from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.report import FEWEST, pair_lines, to_junit
from faceinpaint_bench.run import run_bench
from PIL import Image
from skimage.data import astronaut

from faceinpaint_cli.cli.bench import command
from faceinpaint_cli.errors import DataError, GateError, UsageError
from faceinpaint_cli.models.checkpoint import save_checkpoint
from faceinpaint_cli.models.registry import build_generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data = tmp_path_factory.mktemp("faces")
    for i in range(3):
        Image.fromarray(np.ascontiguousarray(astronaut()[:200, 120 + 10 * i:320 + 10 * i])).save(data / f"{i}.png")
    return data


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """One generator twice, under one file name: as it is (grey), and with its last layer drawn anew (noise)."""
    torch.manual_seed(0)
    state = build_generator("base").state_dict()
    paths = {}
    for kind in ("good", "worse"):
        if kind == "worse":
            state["coarse.leave.weight"] = torch.randn_like(state["coarse.leave.weight"])
        paths[kind] = tmp_path_factory.mktemp(kind) / "net.safetensors"
        save_checkpoint(paths[kind], state, "base", {"options": {}}, torch.float32)
    return paths


def bench(folder, out, **settings):
    return run_bench(BenchConfig(output=out, data=(folder,), size=64, examples=1, **settings))


def test_the_gate_fires_when_weights_are_swapped_for_worse_ones(folder, weights, tmp_path):
    baseline = tmp_path / "baseline.json"
    settings = {"methods": ("ns", "generator"), "seed": 1}
    bench(folder, tmp_path / "a", models=(str(weights["good"]),), update_baseline=baseline, **settings)
    bench(folder, tmp_path / "b", models=(str(weights["good"]),), gate=baseline, **settings)
    with pytest.raises(GateError) as caught:
        bench(folder, tmp_path / "c", models=(str(weights["worse"]),), gate=baseline, **settings)
    lines = str(caught.value).splitlines()
    assert caught.value.exit_code == 3
    assert lines[1].startswith("generator net") and "psnr" in lines[1]
    assert not any(line.startswith("ns") for line in lines[1:])
    report = json.loads((tmp_path / "c" / "bench.json").read_text())
    assert report["regressions"] == lines[1:]  # the reports are written all the same
    assert "## Regressions" in (tmp_path / "c" / "bench.md").read_text()
    assert "Regressions" in (tmp_path / "c" / "bench.html").read_text()


def test_a_regression_does_not_become_the_baseline(folder, tmp_path):
    baseline = tmp_path / "baseline.json"
    bench(folder, tmp_path / "a", methods=("ns",), update_baseline=baseline)
    stored = json.loads(baseline.read_text())
    stored["rows"][0]["psnr"] += 5
    baseline.write_text(json.dumps(stored))
    with pytest.raises(GateError):
        bench(folder, tmp_path / "b", methods=("ns",), gate=baseline, update_baseline=baseline)
    assert json.loads(baseline.read_text()) == stored


def test_a_gate_that_compares_nothing_is_refused(folder, tmp_path):
    baseline = tmp_path / "baseline.json"
    bench(folder, tmp_path / "a", methods=("telea",), update_baseline=baseline)
    with pytest.raises(UsageError, match="nothing would be compared"):
        bench(folder, tmp_path / "b", methods=("ns",), gate=baseline)


def test_a_baseline_of_another_protocol_is_refused(folder, tmp_path):
    baseline = tmp_path / "baseline.json"
    bench(folder, tmp_path / "a", methods=("ns",), update_baseline=baseline)
    with pytest.raises(UsageError, match=r"seed \(0, now 1\)") as caught:
        bench(folder, tmp_path / "b", methods=("ns",), seed=1, gate=baseline)
    assert "hole" not in str(caught.value) and "inputs" not in str(caught.value)
    with pytest.raises(UsageError, match=r"\bn \(3, now 2\)"):
        bench(folder, tmp_path / "b", methods=("ns",), limit=2, gate=baseline)
    with pytest.raises(UsageError, match="--tolerance goes with --gate"):
        bench(folder, tmp_path / "b", methods=("ns",), tolerance="psnr=1")
    for text in ("", "[]", '{"schema": 2, "rows": []}'):
        baseline.write_text(text)
        with pytest.raises(DataError, match=r"bench\.json"):
            bench(folder, tmp_path / "b", methods=("ns",), gate=baseline)


@pytest.mark.parametrize(("change", "message"), [
    ({"rows": [[1]]}, r"a row must be an object, not \[1\]"),
    ({"rows": [{}]}, "method of a row must be a word, not None"),
    ({"rows": [{"method": "ns", "dataset": ["d"]}]}, "dataset of a row must be a word"),
    ({"rows": [{"method": "ns", "kind": {}}]}, "kind of a row must be a word"),
    ({"rows": [{"method": "ns", "psnr": "20"}]}, "psnr of ns must be a number, not '20'"),
    ({"rows": [{"method": "ns", "lpips": True}]}, "lpips of ns must be a number"),
    ({"rows": [{"method": "ns", "ssim": float("nan")}]}, "ssim of ns must be a number, not nan"),
    ({"rows": [{"method": "ns", "n": "5"}]}, "n of ns must be a number"),
    ({"protocol": ["celeba-center25"]}, "protocol must be an object"),
])
def test_an_odd_baseline_is_one_clear_line(tmp_path, change, message):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(report() | change))
    with pytest.raises(DataError, match=message) as caught:
        gate.read_baseline(baseline)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    baseline.write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"not a readable bench\.json"):
        gate.read_baseline(baseline)


def report(**row):
    values = {"method": "ns", "dataset": "d", "mask": "given", "n": 5, "n_total": 5, "psnr": 20.0, "ssim": 0.9,
              "lpips": 0.1, "ms_per_image": 10.0}
    return {"schema": 1, "suite": "images", "protocol": {}, "rows": [values | row]}


@pytest.mark.parametrize(("row", "tolerance", "fires"), [
    ({}, "", False),
    ({"psnr": 19.91}, "", False),
    ({"psnr": 19.89}, "", True),
    ({"psnr": 19.5}, "psnr=1", False),
    ({"psnr": 25.0, "ssim": 0.95, "lpips": 0.01, "ms_per_image": 1.0}, "ms=0%", False),
    ({"ssim": 0.897}, "", True),
    ({"lpips": 0.106}, "", True),
    ({"ms_per_image": 1000.0}, "", False),
    ({"ms_per_image": 12.9}, "ms=30%", False),
    ({"ms_per_image": 13.1}, "ms=30%", True),
    ({"ms_per_image": 13.1}, "ms=3", True),
    ({"n": 4}, "", True),
    ({"lpips": None}, "", True),
    ({"method": "telea"}, "", True),
])
def test_tolerances(row, tolerance, fires):
    lines = gate.regressions(report(**row), report(), gate.parse_tolerance(tolerance))
    assert len(lines) == fires, lines


def test_only_named_methods_are_compared():
    lines = gate.regressions(report(method="telea"), report(), gate.parse_tolerance(""), named=("telea",))
    assert lines == []


@pytest.mark.parametrize("text", ["psnr", "psnr=x", "speed=3", "psnr=-1", "psnr=1;ssim=2"])
def test_bad_tolerances(text):
    with pytest.raises(UsageError, match="--tolerance"):
        gate.parse_tolerance(text)


def test_the_command_line(folder, tmp_path):
    arguments = [str(folder), "-o", str(tmp_path / "o"), "--methods", "copy, ns", "--size", "64", "--no-progress"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert done.output == (tmp_path / "o" / "bench.md").read_text()
    assert "| ns |" in done.output
    bad = CliRunner().invoke(command, [*arguments, "--fidelity", "a"])
    assert bad.exit_code == 2 and "--fidelity" in bad.output


def command_line(folder, out, *more):
    """What `bench` ends with: 0, 1 or an error of its own, what it said on stderr, and bench.json."""
    words = [str(folder), "-o", str(out), "--methods", "ns", "--size", "64", "--no-progress", *map(str, more)]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    return done.exception or done.return_value, done.stderr, json.loads((out / "bench.json").read_text())


def test_inputs_that_failed_give_exit_code_1_after_all_is_written(folder, tmp_path):
    data, baseline = tmp_path / "data", tmp_path / "baseline.json"
    shutil.copytree(folder, data)
    for name in "ab":
        (data / f"{name}.png").write_bytes(b"\x89PNG nothing")
    code, said, found = command_line(data, tmp_path / "o", "--update-baseline", baseline)
    assert code == 1 and found["protocol"]["n"] == 3
    assert said.startswith("faceinpaint: 2 inputs failed") and "first: a.png: " in said and said.count("\n") == 1
    code, _, _ = command_line(data, tmp_path / "p", "--gate", baseline)
    assert code == 1
    stored = json.loads(baseline.read_text())
    stored["rows"][0]["psnr"] += 5
    baseline.write_text(json.dumps(stored))
    code, _, found = command_line(data, tmp_path / "q", "--gate", baseline)
    assert isinstance(code, GateError) and found["regressions"]


def test_a_row_that_failed_on_a_picture_gives_exit_code_1(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(other / "0.png")
    code, said, found = command_line(folder, tmp_path / "o", "--external", f"theirs={other}")
    assert code == 1 and "2 inputs failed" in said and "first: 1.png: theirs: DataError: no picture named 1" in said
    assert [f["name"] for f in found["rows"][1]["failed"]] == ["1.png", "2.png"]


def test_what_the_protocol_leaves_out_is_no_failure(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(folder / "1.png", data)
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(data / "none.png")
    code, said, found = command_line(data, tmp_path / "o", "--protocol", "celeba-white-square")
    assert (code, said) == (0, "") and [u["name"] for u in found["unused"]] == ["none.png"]


def test_the_stored_baseline_is_of_the_default_suite():
    from faceinpaint_bench.sources import bundled_samples

    paths = sorted((bundled_samples().parent / "baselines").glob("*.json"))
    assert paths
    for path in paths:
        stored = gate.read_baseline(path)
        assert {"ns", "telea", "efros-leung", "patchmatch", "generator"} <= {r["method"] for r in stored["rows"]}
        assert stored["protocol"]["dataset"] == "samples"


def test_junit_names_the_row_that_is_worse_and_no_other():
    rows = [report(method="generator")["rows"][0], report(method="generator @0")["rows"][0]]
    now = report() | {"rows": rows, "left_out": {"patchmatch": "needs patchmatch"}}
    now["regressions"] = gate.regressions({**now, "rows": [rows[0], rows[1] | {"psnr": 10.0}]}, now,
                                          gate.parse_tolerance(""))
    suite = ElementTree.fromstring(to_junit(now))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["generator @0 given"]


def test_few_pictures_make_nothing_better():
    pair = {"a": "x", "b": "y", "measure": "psnr_hole", "mean": 9.9, "ci95": [9.9, 9.9]}
    [few], [enough] = (pair_lines({"pairs": [pair | {"n": n}]}) for n in (FEWEST - 1, FEWEST))
    assert "better than" not in few and "too few" in few and "+9.90" in few
    assert "x is better than y" in enough
