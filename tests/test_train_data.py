"""Training data: sources, partitions, caches, crops and batches."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
import torch
from faceinpaint_train.batches import (
    BatchPlan,
    batches_ahead,
    make_batch,
    prepared,
    sample_indices,
    usable_workers,
)
from faceinpaint_train.crops import Jitter, cut
from faceinpaint_train.faces import load_faces
from faceinpaint_train.sources import TEST_REASON, partition_of, read_source

from faceinpaint_cli.errors import DataError

PLAN = BatchPlan(size=32, count=4, seed=3, shapes={"center": 1, "strokes": 1}, jitter=Jitter())


def canvas(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (7, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (178, 218), interpolation=cv2.INTER_CUBIC)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def fill(folder, numbers) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:06d}.png").write_bytes(png(canvas(number)))


def test_partitions_by_file_number_and_name():
    assert partition_of("a/000001.jpg", {}) == "train"
    assert partition_of("162771.jpg", {}) == "val"
    assert partition_of("182638.jpg", {}) == "test"
    assert partition_of("202599.jpg", {}) == "test"
    assert partition_of("000001.jpg", {"000001.jpg": "test"}) == "test"
    shares = [partition_of(f"x{i}.jpg", {}) == "val" for i in range(4000)]
    assert 0.01 < np.mean(shares) < 0.03


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_the_test_partition_is_never_read(tmp_path, kind):
    """The files of the test partition are no pictures at all: reading one would show."""
    names = {"000001.png": png(canvas(1)), "190000.png": b"poison", "sub/000002.png": b"poison too"}
    names["list_eval_partition.txt"] = b"000001.png 0\n000002.png 2\n"
    target = tmp_path / kind
    if kind == "folder":
        for name, data in names.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for name, data in names.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(target, "w") as archive:
            for name, data in names.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    left_out: dict[str, int] = {}
    found = dict(read_source(target, {}, left_out))
    assert left_out == {TEST_REASON: 2}
    assert list(found) == ["000001.png"]


def test_faces_are_split_counted_and_cached(tmp_path, monkeypatch, caplog):
    fill(tmp_path / "data", [*range(1, 21), 170_000, 190_000])
    (tmp_path / "data" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "data" / "small.png").write_bytes(png(canvas(1)[:20, :20]))
    faces = load_faces([tmp_path / "data"], "canvas", tmp_path / "cache")
    assert (len(faces.train), len(faces.val)) == (20, 1)
    assert faces.left_out == {"unreadable": 1, "too small": 1, TEST_REASON: 1}
    assert "broken.png" in caplog.text and "small.png" in caplog.text
    assert np.array_equal(faces.val[0], canvas(170_000))
    monkeypatch.setattr("faceinpaint_train.faces.decode", None)  # a second reading would fail
    again = load_faces([tmp_path / "data"], "canvas", tmp_path / "cache")
    assert np.array_equal(again.train, faces.train)


def test_bad_data_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 faces"):
        load_faces([tmp_path / "empty"], "auto", tmp_path / "cache")
    with pytest.raises(DataError, match="no training data at"):
        load_faces([tmp_path / "gone"], "auto", tmp_path / "cache")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(DataError, match="no folder, zip or tar"):
        load_faces([tmp_path / "text.txt"], "auto", tmp_path / "cache2")
    fill(tmp_path / "few", range(1, 6))
    cut = tmp_path / "cut.tar.gz"
    with tarfile.open(cut, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
        member = tarfile.TarInfo("b.jpg")
        member.size = 100_000
        archive.addfile(member, io.BytesIO(np.random.default_rng(1).bytes(100_000)))
    cut.write_bytes(cut.read_bytes()[:50_000])
    with pytest.raises(DataError, match=r"cut\.tar\.gz cannot be read as training data"):
        load_faces([cut], "auto", tmp_path / "cache")
    with pytest.raises(DataError, match="5 faces for training, at least 16"):
        load_faces([tmp_path / "few"], "auto", tmp_path / "cache3")


def test_a_file_that_is_given_twice_counts_once(tmp_path):
    """Under another name it would be trained on and held out."""
    fill(tmp_path / "a", range(1, 21))
    (tmp_path / "b").mkdir()
    for number in range(1, 21):
        (tmp_path / "b" / f"copy-{number}.png").write_bytes((tmp_path / "a" / f"{number:06d}.png").read_bytes())
    faces = load_faces([tmp_path / "a", tmp_path / "b"], "canvas", tmp_path / "cache")
    assert len(faces.train) + len(faces.val) == 20 and faces.left_out == {"given twice": 20}


def test_pictures_without_a_face_are_left_out(tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(2):
        (tmp_path / "data" / f"wall{i}.png").write_bytes(png(np.full((120, 90, 3), 40 * i, np.uint8)))
    with pytest.raises(DataError, match="no face found"):
        load_faces([tmp_path / "data"], "align", tmp_path / "cache")


def test_exact_crop_is_the_protocols():
    face = canvas(5)
    expected = cv2.resize(face[20:198], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.array_equal(cut(face, 64, None, Jitter()), expected)


def test_jitter_moves_little_and_keeps_the_place():
    """At no scale, shift or turn the moving path gives what the exact one gives (up to interpolation)."""
    face = cv2.GaussianBlur(canvas(6), (0, 0), 4)
    still = Jitter(scale=0, shift=0, rotate=0, colour=0, share=1)
    rng = np.random.default_rng(2)
    while True:
        state = rng.bit_generator.state
        if rng.random() < 1 and rng.random() >= 0.5:  # not mirrored
            rng.bit_generator.state = state
            break
    moved = cut(face, 178, rng, still).astype(int)
    assert np.abs(moved - face[20:198]).max() <= 1


def test_batches_depend_on_seed_and_number_alone():
    faces = np.stack([canvas(i) for i in range(20)])
    first = make_batch(faces, PLAN, 7)
    again = make_batch(faces, PLAN, 7)
    other = make_batch(faces, PLAN, 8)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == other[0]).all()
    source = prepared(lambda step: make_batch(faces, PLAN, step), 7)
    assert (next(source)[0] == first[0]).all()
    assert (next(source)[0] == other[0]).all()
    source.close()


def test_every_face_is_seen_once_in_an_epoch_by_all_processes():
    plans = [BatchPlan(32, 5, 3, {"center": 1}, Jitter(), rank=r, world=2) for r in range(2)]
    seen = np.concatenate([sample_indices(p, step, 40) for step in range(4) for p in plans])
    assert sorted(seen) == list(range(40))


def test_errors_of_the_thread_reach_the_caller():
    def fail(step):
        raise DataError(f"step {step}")

    source = prepared(fail, 4)
    with pytest.raises(DataError, match="step 4"):
        next(source)


@pytest.mark.filterwarnings("ignore:This DataLoader")  # on a single core
def test_worker_processes_make_the_same_batches_in_order():
    faces = np.stack([canvas(i) for i in range(20)])
    with batches_ahead(lambda step: make_batch(faces, PLAN, step), 7, workers=2) as source:
        for step in range(7, 13):
            assert all(torch.equal(a, b) for a, b in zip(next(source), make_batch(faces, PLAN, step), strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader")  # on a single core
def test_errors_of_a_worker_reach_the_caller():
    def fail(step):
        raise DataError(f"step {step}")

    with batches_ahead(fail, 4, workers=2) as source, pytest.raises(DataError, match="step 4"):
        next(source)


FAILS = """
from faceinpaint_cli.errors import DataError
from faceinpaint_train.batches import batches_ahead

def fail(step):
    raise DataError(f"step {step}")

with batches_ahead(fail, 4, workers=2) as source:
    next(source)
"""


def test_a_process_whose_worker_failed_ends():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FAILS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "DataError: step 4" in done.stderr


def test_a_cpu_that_trains_makes_batches_in_a_thread():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert usable_workers(-1, cpu) == 0
    assert usable_workers(3, cpu) == 3
    assert 0 <= usable_workers(-1, gpu) < len(os.sched_getaffinity(0))
