"""OpenCV fills by region and the registry of methods."""

import cv2
import numpy as np
import pytest

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.fill.classical import RADIUS, hole_regions, ns, telea
from faceinpaint_cli.fill.registry import FILLS, get_fill, register, require


@pytest.fixture
def picture():
    y, x = np.mgrid[:120, :160]
    return np.stack([x + y // 2, 255 - y, (x * y // 90) % 256], 2).astype(np.uint8)


@pytest.mark.parametrize(("fill", "method"), [(ns, cv2.INPAINT_NS), (telea, cv2.INPAINT_TELEA)])
def test_by_region_equals_whole_picture(picture, fill, method):
    mask = np.zeros(picture.shape[:2], bool)
    mask[:12, :9] = mask[40:60, 50:90] = mask[100:, 150:] = True
    result = fill(picture, mask)
    whole = cv2.inpaint(picture, mask.astype(np.uint8), RADIUS, method)
    assert (result[~mask] == picture[~mask]).all()
    assert (result == whole).all()
    assert (result[mask] != picture[mask]).any()


def test_holes_that_touch_share_a_region():
    mask = np.zeros((100, 200), bool)
    mask[10:20, 10:20] = mask[10:20, 24:30] = mask[80:90, 150:160] = True
    regions = list(hole_regions(mask, 4))
    assert len(regions) == 2
    covered = np.zeros_like(mask)
    for rows, columns in regions:
        covered[rows, columns] = True
    assert covered[mask].all()


def test_many_holes_become_one_region():
    mask = np.zeros((200, 200), bool)
    mask[10::19, 10::19] = True
    assert len(list(hole_regions(mask, 2))) == 1


def test_empty_and_full_mask(picture):
    for value in (False, True):
        result = ns(picture, np.full(picture.shape[:2], value))
        assert (result == picture).all()
        assert result is not picture


def test_registry_refuses_duplicates_and_unknown_names():
    with pytest.raises(ValueError, match="ns"):
        register("ns", ns)
    with pytest.raises(UsageError, match="--method must be one of generator, ns"):
        get_fill("wave-function")
    assert get_fill("telea") is FILLS["telea"]


def test_missing_library_names_the_extra():
    with pytest.raises(UsageError, match=r'pip install "\.\[bench\]"'):
        require("no_such_library.part", "bench", "biharmonic")
