"""bench on video: files read in step, simple repairs, figures that are those of the measures."""

import re
import shutil
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from faceinpaint_bench import clips, fillers, html, video
from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.gate import label_of
from faceinpaint_bench.report import failures
from faceinpaint_bench.run import run_bench
from media_factory import make_clip
from skimage.data import astronaut

from faceinpaint_cli import metrics
from faceinpaint_cli.cli.bench import command
from faceinpaint_cli.errors import DataError, UsageError
from faceinpaint_cli.pipeline.video import repair_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "a.mp4", frames=20, gop=10, audio=None,
                     options={"crf": "10"})


def pan(count, side=64):
    wide = astronaut()[60:60 + side, 100:100 + side + 4 * count]
    return [np.ascontiguousarray(wide[:, 4 * i:4 * i + side]) for i in range(count)]


def test_suite_video(clip, tmp_path):
    config = BenchConfig(output=tmp_path / "out", data=(clip,), suite="video", codecs=("h264", "mpeg4"),
                         branches=("many",), methods=("concealment", "freeze", "telea", "flow"))
    report = run_bench(config)
    assert len(report["rows"]) == 8
    rows = {(r["method"], r["codec"]): r for r in report["rows"]}
    for row in report["rows"]:
        assert row["frames"] == 20 and 0 < row["frames_damaged"] <= 20
        assert row["psnr_inside"] < row["psnr_damaged"] <= row["psnr"]
        assert row["frame_errors"] == 0
    assert rows["concealment", "h264"]["psnr"] != rows["freeze", "h264"]["psnr"]
    assert all(r["worse"] == 0 for r in report["rows"] if r["method"] == "concealment")
    assert any(r["worse"] > 0 for r in report["rows"])
    again = run_bench(config)
    assert again["rows"] == report["rows"]
    assert "| flow | a.mp4 | h264 | many |" in (tmp_path / "out" / "bench.md").read_text()
    page = (tmp_path / "out" / "bench.html").read_text()
    assert page.count("<article>") == 2 and page.count("<img") == 2 * 5 and "<h3>a, h264, many, frame " in page
    assert all(0 <= r["exact"] < 1 for r in report["rows"])


def test_a_clip_that_cannot_be_read_is_named_and_the_others_measured(clip, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "b.mp4").write_bytes(b"junk")
    report = run_bench(BenchConfig(output=tmp_path / "out", data=(folder,), suite="video", codecs=("h264",),
                                   methods=("concealment",), frames=12))
    assert [row["clip"] for row in report["rows"]] == ["a.mp4"]
    assert [entry["name"] for entry in report["unused"]] == ["b.mp4 h264 base"]
    (line,) = failures(report)
    assert line.startswith("b.mp4 h264 base: ")


def test_clips_of_one_name_are_told_apart_by_their_folders(clip, tmp_path, monkeypatch):
    for folder in ("one/x", "two/x"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(clip, tmp_path / folder / "a.mp4")
    other = make_clip(tmp_path / "two" / "b.mp4", frames=12, audio=None)
    data = (tmp_path / "one", tmp_path / "two")
    settings = {"suite": "video", "codecs": ("mpeg4",), "methods": ("concealment",), "frames": 12}
    baseline = tmp_path / "baseline.json"
    report = run_bench(BenchConfig(output=tmp_path / "o", data=data, update_baseline=baseline, **settings))
    assert [row["clip"] for row in report["rows"]] == ["all", "one/x/a.mp4", "b.mp4", "two/x/a.mp4"]
    assert len({label_of(row) for row in report["rows"]}) == 4
    assert not run_bench(BenchConfig(output=tmp_path / "p", data=data, gate=baseline, **settings)).get("regressions")
    monkeypatch.setattr(video, "run_video", lambda *_: pytest.fail("it is told before the work"))
    for change, message in (({"seed": 1}, r"seed \(0, now 1\)"), ({"fidelity": (0.5,)}, r"fidelity \(None, now 0\.5\)"),
                            ({"frames": None}, r"frames \(12, now None\)"), ({"codecs": ("h264",)}, "codecs")):
        with pytest.raises(UsageError, match=message):
            run_bench(BenchConfig(output=tmp_path / "q", data=data, gate=baseline, **{**settings, **change}))
    assert clips.names_of([clip, other]) == ["a.mp4", "b.mp4"]
    assert clips.names_of([clip, tmp_path / "one" / "x" / "a.mp4"]) == [f"{clip.parent.name}/a.mp4", "x/a.mp4"]
    with pytest.raises(DataError, match=r"a\.mp4 is there twice"):
        clips.names_of([clip, clip.parent / ".." / clip.parent.name / "a.mp4"])


def test_the_page_marks_the_best_of_each_case():
    rows = [{"method": m, "clip": c, "psnr": p}
            for m, c, p in (("run", "a", 20.0), ("flow", "a", 21.0), ("run", "b", 35.0), ("flow", "b", 34.0))]
    report = {"suite": "speed", "rows": rows, "protocol": {"clip": "a", "dataset": "b", "repeats": 1}}
    marked = re.findall(r"<td class='best'>([\d.]+)<", html.page(report, [], []))
    assert marked == ["21.00", "35.00"]


@pytest.mark.parametrize("codec", clips.CODECS)
def test_codings_are_what_their_names_say(clip, tmp_path, codec):
    made = tmp_path / "made.mp4"
    clips.encode(clip, codec, made, frames=18)
    with av.open(str(made)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        name = stream.codec_context.codec.canonical_name
    assert len(packets) >= 18 and name in codec.replace("mpeg2", "mpeg2video")
    ordered = [p.pts for p in packets] == sorted(p.pts for p in packets)
    assert ordered or "nob" not in codec
    if "gop16" in codec:
        keys = [i for i, p in enumerate(packets) if p.is_keyframe]
        assert keys[0] == 0 and 1 < len(keys) <= 3 and keys[1] <= 16  # x265 also cuts where the scene changes


def test_a_run_that_fails_is_counted(clip, tmp_path, monkeypatch):
    def fail(job, config, stages):
        raise RuntimeError(f"{job.input} is too hard")

    monkeypatch.setattr(video, "repair_video", fail)
    report = run_bench(BenchConfig(output=tmp_path, data=(clip,), suite="video", codecs=("h264",),
                                   branches=("drop",), methods=("concealment", "run")))
    row = report["rows"][1]
    assert (row["n"], row["n_total"]) == (0, 1)
    assert row["failed"][0]["error"] == "RuntimeError: damaged.mp4 is too hard"
    assert failures(report) == ["a.mp4 h264 drop: run: RuntimeError: damaged.mp4 is too hard"]


def test_fidelity_is_that_of_the_run(clip, tmp_path, monkeypatch):
    seen = []

    def look(job, config, stages):
        seen.append((config.fidelity, stages.config.fidelity))
        return repair_video(job, config, stages)

    monkeypatch.setattr(video, "repair_video", look)
    settings = {"data": (clip,), "suite": "video", "codecs": ("mjpeg",), "methods": ("run",), "frames": 4}
    report = run_bench(BenchConfig(output=tmp_path / "a", fidelity=(0.0,), **settings))
    assert seen == [(0.0, 0.0)] and report["protocol"]["fidelity"] == 0
    assert "Run with fidelity 0." in (tmp_path / "a" / "bench.md").read_text()
    assert "fidelity" not in run_bench(BenchConfig(output=tmp_path / "b", **settings))["protocol"]


def test_what_the_environment_says_is_for_the_suites_that_use_it(clip, tmp_path, monkeypatch):
    weights = tmp_path / "none.safetensors"
    monkeypatch.setenv("FACEINPAINT_IDENTITY", str(weights))
    words = [str(clip), "-o", str(tmp_path / "o"), "--suite", "video", "--codecs", "mpeg4", "--methods", "concealment",
             "--frames", "4", "--no-progress"]
    assert CliRunner().invoke(command, words, standalone_mode=False).return_value == 0
    refused = CliRunner().invoke(command, [*words, "--identity", str(weights)], standalone_mode=False)
    assert isinstance(refused.exception, UsageError) and "--identity goes with" in str(refused.exception)


def test_sums_are_pooled():
    frames = pan(3)
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10:40] = True
    sums = video.Sums()
    damaged = [frames[0], frames[1].copy(), frames[2].copy()]
    for i in (1, 2):
        damaged[i][mask] = 255 - damaged[i][mask]
    for shown, truth in zip(damaged, frames, strict=True):
        sums.add(shown, truth, mask if shown is not truth else np.zeros_like(mask), None)
    row = sums.row()
    both = [np.concatenate([a[i] for i in (1, 2)]) for a in (damaged, frames)]
    assert row["psnr_damaged"] == pytest.approx(metrics.psnr(*both), abs=1e-4)
    inside = [np.concatenate([a[i][mask] for i in (1, 2)])[None] for a in (damaged, frames)]
    assert row["psnr_inside"] == pytest.approx(metrics.psnr(*inside), abs=1e-4)
    assert row["psnr"] == pytest.approx(row["psnr_damaged"] + 10 * np.log10(1.5), abs=1e-4)
    assert row["ssim"] == pytest.approx((1 + 2 * row["ssim_damaged"]) / 3, abs=1e-6)


def test_files_in_step(tmp_path):
    whole = make_clip(tmp_path / "a.mp4", frames=6, audio=None, options={"crf": "0"})
    gaps = make_clip(tmp_path / "b.mp4", frames=4, audio=None, options={"crf": "0"}, times=[0, 1, 3, 9],
                     time_base=Fraction(1, 25))
    file = clips.InStep(gaps)
    shown = [file.at(time, near, truth) for time, near, truth in clips.reference_in_time(whole)]
    file.finish()
    assert (file.missing, file.extra) == (3, 1)
    assert np.array_equal(shown[1], shown[2]) and not np.array_equal(shown[2], shown[3])
    same = clips.InStep(whole)
    assert all(np.array_equal(same.at(t, n, p), p) for t, n, p in clips.reference_in_time(whole))


def test_flow_follows_a_pan_and_freeze_does_not():
    frames = pan(5)
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    results = {}
    for name, step in (("freeze", fillers.Freeze()), ("flow", fillers.FlowPropagation())):
        for i, frame in enumerate(frames):
            hole = mask if i == 4 else np.zeros_like(mask)
            shown = np.where(hole[..., None], 0, frame).astype(np.uint8)
            results[name] = step(shown, hole)
        assert np.array_equal(results[name][~mask], frames[4][~mask])
    assert metrics.psnr(results["flow"], frames[4], mask) > metrics.psnr(results["freeze"], frames[4], mask) + 5


def test_flicker_is_of_the_repair_not_of_the_motion():
    """Of what is damaged in both frames, as a multiple of what the clean clip has there."""
    frames = pan(4, 96)
    flicker = fillers.Flicker()
    sums = {name: video.Sums() for name in ("still", "jumps", "jumps elsewhere")}
    damaged = np.zeros((96, 96), bool)
    damaged[30:70, 30:70] = True
    for i, frame in enumerate(frames):
        steadiness = flicker.step(frame, damaged)
        assert (steadiness is None) == (i == 0)
        lighter = cv2.add(frame, np.full_like(frame, 15 * (i % 2)))
        elsewhere = np.where(cv2.dilate(damaged.astype(np.uint8), np.ones((9, 9)))[..., None] > 0, frame, lighter)
        for name, result in [("still", frame), ("jumps", lighter), ("jumps elsewhere", elsewhere)]:
            sums[name].add(result, frame, damaged, steadiness)
    still, jumps, elsewhere = (sums[n].row() for n in sums)
    assert still["flicker"] == elsewhere["flicker"] <= 1 < jumps["flicker"]
    assert still["warping_error"] < 6 < jumps["warping_error"]
    fresh = fillers.Flicker()
    assert fresh.step(frames[0], damaged) is None and fresh.step(frames[1], ~damaged & False) is None


def test_bad_input(clip, tmp_path):
    (tmp_path / "empty").mkdir()
    for kind, message, settings in [
        (UsageError, "known: h264, hevc, mpeg4", {"codecs": ("vp8",)}),
        (UsageError, "known: base, small", {"branches": ("x",)}),
        (UsageError, "known: concealment", {"methods": ("ns",)}),
        (UsageError, "--codecs names h264 twice; name each once", {"codecs": ("h264", "hevc", "h264")}),
        (UsageError, "--branches names base twice", {"branches": ("base", "base")}),
        (UsageError, "--methods names run twice", {"methods": ("run", "run")}),
        (DataError, "no clips", {"data": (tmp_path / "empty",)}),
        (UsageError, "--suite video", {"suite": "images", "codecs": ("h264",)}),
        (UsageError, "--suite video", {"suite": "images", "frames": 3}),
        (UsageError, "--frames must be at least 1", {"frames": 0}),
        (UsageError, "--size goes with --suite images, not video", {"size": 64}),
        (UsageError, r"--identity goes.*, --save-inputs goes", {"identity": clip, "save_inputs": True}),
        (UsageError, "--protocol goes with --suite images", {"protocol": "custom", "masks": tmp_path}),
        (UsageError, "--external goes with --suite images", {"external": (("x", tmp_path),)}),
        (UsageError, "takes one --model, not 2", {"models": ("base", "other")}),
        (UsageError, "takes one --fidelity, not 2", {"fidelity": (0.0, 1.0)}),
        (UsageError, "--limit goes with --suite images or video, not speed", {"suite": "speed", "limit": 1}),
        (UsageError, "--lpips goes with --suite images or video, not speed", {"suite": "speed", "lpips": clip}),
    ]:
        with pytest.raises(kind, match=message):
            run_bench(BenchConfig(**{"output": tmp_path / "out", "data": (clip,), "suite": "video"} | settings))
