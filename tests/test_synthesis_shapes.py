"""Mask shapes and stamped patches: sizes, seeds, shares."""

from __future__ import annotations

import tarfile

import cv2
import numpy as np
import pytest

from faceinpaint_cli.errors import DataError
from faceinpaint_cli.synthesis.irregular import draw_irregular, load_irregular
from faceinpaint_cli.synthesis.patches import PATCHES, stamp
from faceinpaint_cli.synthesis.shapes import COUNTS, SHAPES, SIZES, draw_mask


def picture(seed: int = 0, height: int = 70, width: int = 90) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("size", [(48, 48), (200, 31)])
def test_shapes_are_seeded_and_leave_something(kind, size):
    drawn = [SHAPES[kind](*size, np.random.default_rng(seed)) for seed in range(12)]
    again = SHAPES[kind](*size, np.random.default_rng(3))
    assert all(m.shape == size and m.dtype == bool for m in drawn)
    assert np.array_equal(drawn[3], again)
    assert any(m.any() for m in drawn) and not any(m.all() for m in drawn)
    if kind != "center":
        assert any(not np.array_equal(drawn[0], m) for m in drawn[1:])


def test_protocol_holes_cover_a_quarter():
    rng = np.random.default_rng(0)
    hole = SHAPES["center"](256, 256, rng)
    assert hole[64:192, 64:192].all() and hole.sum() == 128 * 128
    for _ in range(20):
        assert SHAPES["square"](256, 256, rng).sum() == 128 * 128


def test_kinds_come_by_their_shares():
    rng = np.random.default_rng(0)
    centred = SHAPES["center"](16, 16, rng)
    drawn = [draw_mask(16, 16, rng, {"center": 3, "edge": 1}) for _ in range(400)]
    share = np.mean([np.array_equal(m, centred) for m in drawn])
    assert 0.68 < share < 0.82


@pytest.mark.parametrize("kind", SIZES)
def test_sizes_and_counts_are_as_they_are_asked(kind):
    """Small ones cover less than large ones, and many more than one."""
    def cover(**asked) -> float:
        rngs = [np.random.default_rng(seed) for seed in range(40)]
        return float(np.mean([draw_mask(128, 128, rng, {kind: 1.0}, **asked) for rng in rngs]))

    low, high = SIZES[kind]
    assert cover(sizes={kind: (low, low)}) < 0.8 * cover(sizes={kind: (high, high)})
    if kind in COUNTS:
        assert cover(counts={kind: (1, 1)}) < 0.5 * cover(counts={kind: (9, 9)})


@pytest.mark.parametrize("kind", PATCHES)
def test_patches_change_the_hole_alone(kind):
    image = picture()
    mask = SHAPES["rectangles"](70, 90, np.random.default_rng(1))
    done = [stamp(image, mask, np.random.default_rng(s), {kind: 1.0}, [picture(9, 40, 40)]) for s in (1, 1, 2, 3, 4)]
    assert done[0].dtype == np.uint8 and done[0].shape == image.shape
    assert np.array_equal(done[0], done[1])
    assert any(not np.array_equal(d[mask], image[mask]) for d in done)
    assert all(np.array_equal(d[~mask], image[~mask]) for d in done)


def test_flat_blocks_are_flat_and_of_the_blocks_colour():
    """Among the kinds of block damage one replaces every block of 16 by one colour near its mean."""
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:, 32:] = 180
    for seed in range(60):
        done = PATCHES["macroblocks"](image, np.random.default_rng(seed), [])
        blocks = done.reshape(4, 16, 4, 16, 3)
        flat = (blocks == blocks[:, :1, :, :1]).all()
        means = blocks.mean((1, 3))
        near = np.abs(means[:, :2] - 100).max() < 60 and np.abs(means[:, 2:] - 180).max() < 60
        if flat and near and len(np.unique(done.reshape(-1, 3), axis=0)) == 16:
            return
    pytest.fail("no seed gave flat blocks")


def test_irregular_masks_from_tar_and_folder(tmp_path):
    small = np.zeros((20, 20), np.uint8)
    small[:5] = 255
    data = cv2.imencode(".png", small)[1].tobytes()
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(data)
    with tarfile.open(tmp_path / "masks.tar", "w") as archive:
        archive.add(tmp_path / "masks", "masks")
    for source in ("masks", "masks.tar"):
        masks = load_irregular(tmp_path / source, side=40)
        assert len(masks) == 1 and masks[0].shape == (40, 40) and masks[0][:9].all() and not masks[0][11:].any()
        drawn = draw_irregular(64, 64, np.random.default_rng(0), masks)
        assert drawn.shape == (64, 64) and 0.2 < drawn.mean() < 0.3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no mask pictures"):
        load_irregular(tmp_path / "empty")
    (tmp_path / "masks" / "b.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"b\.png is no readable picture"):
        load_irregular(tmp_path / "masks")
