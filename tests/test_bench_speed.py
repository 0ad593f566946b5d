"""bench of speed: the ratios are of this run, and slow work is not repeated."""

import time

import pytest
from faceinpaint_bench import speed
from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.run import run_bench
from media_factory import make_clip


def test_suite_speed(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "SIZES", (64,))
    monkeypatch.setattr(speed, "_whole_rows", lambda clip, config: [])  # starts processes; tried by itself below
    monkeypatch.setattr(speed, "STAGE_FRAMES", 2)
    clip = make_clip(tmp_path / "a.mp4", frames=8, audio=None)
    report = run_bench(BenchConfig(output=tmp_path / "out", data=(clip,), suite="speed", methods=("ns", "copy")))
    rows = {r["stage"]: r for r in report["rows"]}
    assert set(rows) == {"picture", "decode", "decode + RGB", "decode + encode", "find faces", "fill"}
    assert rows["picture"]["method"] == "ns" and rows["picture"]["size"] == 64
    assert rows["picture"]["images_per_second"] == pytest.approx(1000 / rows["picture"]["ms_per_image"])
    assert rows["decode + encode"]["ratio"] == 1
    assert rows["decode"]["ratio"] == pytest.approx(rows["decode"]["fps"] / rows["decode + encode"]["fps"])
    assert all(r["memory_mib"] > 50 for r in rows.values())


def test_a_whole_run_is_timed(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=4, audio=None)
    settings = speed.RunConfig(method="telea", box=("10,10,20,20",))
    seconds, frames, memory = speed.timed_run(clip, tmp_path / "b.mp4", settings)
    assert frames == 4 and 0 < seconds < 60 and memory > 50 and (tmp_path / "b.mp4").exists()


def test_best_time(monkeypatch):
    calls = []

    def work():
        calls.append(1)
        time.sleep(0.02)

    assert 0.02 <= speed.best_time(work) < 1
    assert len(calls) == 1 + speed.REPEATS
    monkeypatch.setattr(speed, "PATIENCE", 0.01)
    calls.clear()
    speed.best_time(work)
    assert len(calls) == 1
