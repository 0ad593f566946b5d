import numpy as np
import pytest
from PIL import Image

import faceinpaint_cli
from faceinpaint_cli.errors import UsageError


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_arrays(picture):
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    repaired = faceinpaint_cli.inpaint_image(picture, mask, method="telea")
    assert repaired.dtype == np.uint8 and repaired.shape == picture.shape
    assert (repaired[~mask] == picture[~mask]).all() and (repaired[mask] != picture[mask]).any()


def test_paths_and_arrays_agree(picture, tmp_path):
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    Image.fromarray(picture).save(tmp_path / "p.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    by_path = faceinpaint_cli.inpaint_image(tmp_path / "p.png", tmp_path / "m.png", method="telea")
    by_box = faceinpaint_cli.inpaint_image(tmp_path / "p.png", box=("10,10,10,10",), method="telea")
    by_array = faceinpaint_cli.inpaint_image(picture, mask, method="telea")
    assert (by_path == by_array).all() and (by_box == by_array).all()


def test_sixteen_bits(picture):
    deep = picture.astype(np.uint16) * 257
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    repaired = faceinpaint_cli.inpaint_image(deep, mask, method="telea")
    assert repaired.dtype == np.uint16 and (repaired[~mask] == deep[~mask]).all()


@pytest.mark.parametrize("image, mask", [
    (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)),
    (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), bool)),
    (np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4), bool)),
])
def test_wrong_arrays_are_refused_by_shape(image, mask):
    with pytest.raises(UsageError, match=r"\("):
        faceinpaint_cli.inpaint_image(image, mask, method="telea")


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = faceinpaint_cli.nonsense
