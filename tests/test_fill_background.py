"""Holes away from faces, continued by the textures around them."""

import numpy as np
import pytest
from skimage import data

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.fill.background import THICK, fill_background
from faceinpaint_cli.fill.classical import ns
from faceinpaint_cli.fill.filler import Filler, FillItem


def hole_in(shape: tuple[int, ...], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(shape[:2], bool)
    mask[top : top + height, left : left + width] = True
    return mask


def error(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    return float(np.square(a[mask].astype(float) - b[mask]).mean())


@pytest.fixture(scope="module")
def stripes() -> np.ndarray:
    y, x = np.mgrid[:160, :200]
    return np.repeat(np.where((x + y) // 6 % 2, 200, 60)[..., None], 3, 2).astype(np.uint8)


def test_lines_go_on(stripes: np.ndarray) -> None:
    mask = hole_in(stripes.shape, 60, 80, 30, 40)
    broken = np.where(mask[..., None], 255, stripes).astype(np.uint8)
    filled, done = fill_background(broken, mask, mask)
    assert np.array_equal(done, mask) and np.array_equal(filled[~mask], broken[~mask])
    assert error(filled, stripes, mask) < 0.1 * error(ns(broken, mask), stripes, mask)
    assert np.array_equal(filled, fill_background(broken, mask, mask)[0])


def test_a_large_hole_keeps_the_grain() -> None:
    image = np.repeat(data.grass()[..., None], 3, 2)
    mask = hole_in(image.shape, 150, 150, 180, 180)
    filled, done = fill_background(np.where(mask[..., None], 0, image).astype(np.uint8), mask, mask)
    assert np.array_equal(done, mask)

    def grain(picture: np.ndarray) -> float:
        part = picture[160:320, 160:320, 0].astype(float)
        return float(np.abs(np.diff(part, axis=1)).mean())

    assert 0.7 < grain(filled) / grain(image) < 1.3
    assert abs(float(filled[mask].mean()) - image[mask].mean()) < 10


def test_deep_pictures_get_values_of_their_own(stripes: np.ndarray) -> None:
    deep = stripes.astype(np.uint16) * 256 + 77
    mask = hole_in(deep.shape, 60, 80, 30, 40)
    filled, _ = fill_background(np.where(mask[..., None], 0, deep).astype(np.uint16), mask, mask)
    assert filled.dtype == np.uint16 and set(np.unique(filled)) == set(np.unique(deep))
    large = hole_in(deep.shape, 40, 40, 80, 100)
    filled, done = fill_background(np.where(large[..., None], 0, deep).astype(np.uint16), large, large)
    assert np.array_equal(done, large) and filled.dtype == np.uint16
    assert np.array_equal(filled[~large], deep[~large])


def test_thin_holes_and_those_with_little_around_are_left(stripes: np.ndarray) -> None:
    thin = hole_in(stripes.shape, 60, 20, int(THICK) - 2, 150)
    filled, done = fill_background(stripes, thin, thin)
    assert not done.any() and np.array_equal(filled, stripes)
    hole = hole_in(stripes.shape, 60, 80, 30, 40)
    nearly_all = np.ones(stripes.shape[:2], bool)
    nearly_all[:20] = False
    assert not fill_background(stripes, nearly_all, hole)[1].any()


def test_what_is_masked_is_not_copied(stripes: np.ndarray) -> None:
    mask = hole_in(stripes.shape, 60, 60, 30, 30) | hole_in(stripes.shape, 60, 100, 30, 30)
    broken = np.where(mask[..., None], (255, 0, 0), stripes).astype(np.uint8)
    filled, done = fill_background(broken, mask, mask)
    assert np.array_equal(done, mask) and not (filled == (255, 0, 0)).all(2).any()


def test_pictures_get_it_and_frames_do_not(stripes: np.ndarray) -> None:
    large = np.tile(stripes, (3, 3, 1))
    mask = hole_in(large.shape, 200, 250, 30, 40)
    broken = np.where(mask[..., None], 255, large).astype(np.uint8)
    filler = Filler(RunConfig(device="cpu"))
    item = FillItem(broken, mask)
    picture, frame = filler.fill([item], detail=True)[0], filler.fill([item])[0]
    assert np.array_equal(frame, np.where(mask[..., None], ns(broken, mask), broken))
    assert error(picture, large, mask) < 0.1 * error(frame, large, mask)
