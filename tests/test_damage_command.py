"""The `damage` command on small real files."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from media_factory import encode
from PIL import Image

from faceinpaint_cli.cli.damage import BRANCHES, command
from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.synthesis import bitstream


def make_clip(path: Path, frames: int = 32, codec: str = "libx264", gop: int = 16, **options: str) -> Path:
    """Moving texture with noise (so that no coded picture is tiny), 96 x 64."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 255, (16, 24)).astype(np.float32)
    field = np.kron(texture, np.ones((8, 8), np.float32))
    defaults = {"libx265": {"x265-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:log-level=none"}}
    settings = defaults.get(codec, {"sc_threshold": "0"})
    pictures = ((field[i // 2 : i // 2 + 64, i : i + 96] + rng.normal(0, 20, (64, 96))).clip(0, 255).astype(np.uint8)
                for i in range(frames))
    return encode(path, codec, pictures, gop, options={**settings, **options})


def run(*argv: object) -> tuple[int, list[dict]]:
    result = CliRunner().invoke(command, [str(a) for a in argv], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value, [json.loads(line) for line in result.stdout.splitlines()]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("kind", ["bscv", "flip", "drop", "zero", "ts"])
def test_each_kind_damages_each_codec(tmp_path: Path, codec: str, kind: str) -> None:
    clip = make_clip(tmp_path / "clean.mp4", codec=codec)
    code, (row,) = run(clip, "-o", tmp_path / "out", "--kind", kind, "--seed", 3)
    assert code == 0
    assert row["frames"] == 32 and 0 < row["frames_damaged"] <= 32
    with av.open(row["mask"]) as masks:
        seen = [f.to_ndarray(format="gray").max() for f in masks.decode(video=0)]
    assert len(seen) == 32
    assert sum(v > 0 for v in seen) == row["frames_damaged"]


def test_equal_seeds_equal_files_and_other_seeds_other_files(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4")
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(clip, "-o", tmp_path / name, "--seed", seed)
    a, b, c = (packets(tmp_path / name / "clean.mp4") for name in "abc")
    assert a == b
    assert a != c


def test_bscv_deletes_the_asked_bytes_in_the_asked_fraction_of_each_group(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", crf="4")
    before = packets(clip)
    for branch in BRANCHES:
        wanted = bitstream.BRANCHES[branch]
        run(clip, "-o", tmp_path / branch, "--branch", branch, "--bytes", 200)
        after = packets(tmp_path / branch / "clean.mp4")
        changed = [i for i in range(32) if before[i] != after[i]]
        for group in (range(16), range(16, 32)):
            assert sum(i in group for i in changed) == 16 * wanted.fraction
        assert all(len(before[i]) - len(after[i]) == 200 for i in changed)


def test_spared_keyframes_stay_whole(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4")
    _, (row,) = run(clip, "-o", tmp_path / "out", "--fraction", 0.9, "--spare-keyframes")
    hit = {h["picture"] for h in row["hits"]}
    assert hit and not hit & {0, 16}


def test_zeroed_blocks_leave_the_index_readable_unless_asked(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", crf="4")
    size = clip.stat().st_size
    _, (row,) = run(clip, "-o", tmp_path / "out", "--kind", "zero", "--count", 10_000)
    damaged = (tmp_path / "out" / "clean.mp4").read_bytes()
    assert len(damaged) == size
    assert damaged[-300:] == clip.read_bytes()[-300:]
    assert row["frames"] == 32


def test_masks_are_those_of_the_pictures_where_times_go_back(tmp_path: Path) -> None:
    """The times of an AVI file are those of decoding."""
    clip = make_clip(tmp_path / "clean.avi", bf="2")
    _, (row,) = run(clip, "-o", tmp_path / "out", "--seed", 3)
    shown = []
    for path in (clip, tmp_path / "out" / "clean.avi"):
        with av.open(str(path)) as container:
            frames = [(f.pts, f.to_ndarray(format="gray")) for f in container.decode(video=0)]
            shown.append([luma for _, luma in frames])
            times = [time for time, _ in frames]
    assert times != sorted(times)
    with av.open(row["mask"]) as masks:
        seen = [f.to_ndarray(format="gray").any() for f in masks.decode(video=0)]
    assert seen == [(np.abs(a.astype(int) - b) > 15).any() for a, b in zip(*shown, strict=True)]


def test_unwritten_region_of_the_mask_is_true_where_a_packet_was_dropped(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", bf="0")
    _, (row,) = run(clip, "-o", tmp_path / "out", "--kind", "drop", "--spare-keyframes")
    with av.open(row["mask"]) as masks:
        means = [f.to_ndarray(format="gray").mean() for f in masks.decode(video=0)]
    for hit in row["hits"]:
        assert means[hit["picture"]] == 255
    assert means[0] == 0


def test_a_patch_is_stamped_on_a_picture_and_only_there(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    code, (row,) = run(tmp_path / "face.png", "-o", tmp_path / "out", "--kind", "patch", "--seed", 1)
    assert code == 0
    damaged, mask = np.array(Image.open(row["damaged"])), np.array(Image.open(row["mask"])) > 0
    assert 0 < mask.mean() < 1
    assert (damaged[~mask] == pixels[~mask]).all()
    assert len(np.unique(damaged[mask], axis=0)) == 1


def test_no_file_of_the_kind_is_a_usage_error(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    result = CliRunner().invoke(command, [str(tmp_path / "x.png"), "-o", str(tmp_path / "o")],
                                standalone_mode=False)
    assert type(result.exception).__name__ == "UsageError"
    assert "--kind bscv damages videos" in str(result.exception)


@pytest.mark.parametrize(("words", "message"), [
    (["--kind", "zero", "--branch", "base"], "--branch goes with --kind bscv or drop, not zero: leave it out"),
    (["--count", "8"], "--count goes with --kind zero or flip or ts, not bscv"),
    (["--kind", "drop", "--bytes", "9"], "--bytes goes with --kind bscv, not drop"),
    (["--kind", "flip", "--hit-index"], "--spare-index/--hit-index goes with --kind zero or ts, not flip"),
    (["--kind", "patch", "--spare-keyframes"], "--spare-keyframes goes with --kind bscv or drop, not patch"),
])
def test_an_option_that_the_kind_has_no_use_for_is_refused(tmp_path, words, message):
    (tmp_path / "x.mp4").write_bytes(b"")
    result = CliRunner().invoke(command, [str(tmp_path / "x.mp4"), "-o", str(tmp_path / "o"), *words],
                                standalone_mode=False)
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


def test_an_input_that_is_not_there_is_named(tmp_path):
    clip = make_clip(tmp_path / "c.mp4")
    result = CliRunner().invoke(command, [str(tmp_path / "none.mp4"), str(clip), "-o", str(tmp_path / "out")],
                                standalone_mode=False)
    assert result.return_value == 1 and "none.mp4 does not exist" in result.stderr
    assert (tmp_path / "out" / "c.mp4").is_file()
