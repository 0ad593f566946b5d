import numpy as np
import pytest
import torch
from media_factory import make_clip
from PIL import Image

import faceinpaint_cli
from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import FaceInpaintError, InputError, UsageError
from faceinpaint_cli.pipeline.stages import Stages


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


def test_masks_of_other_kinds(picture, tmp_path):
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    expected = faceinpaint_cli.inpaint_image(picture, mask, method="telea")
    for other in (Image.fromarray(mask), mask.tolist(), torch.tensor(mask), mask.astype(np.float32)):
        assert (faceinpaint_cli.inpaint_image(picture, other, method="telea") == expected).all()


def test_settings_hold_for_arrays_too(picture):
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    repaired = faceinpaint_cli.inpaint_image(picture, mask, method="telea", dilate=3, box=["30,30,5,5"])
    changed = (repaired != picture).any(2)
    assert changed[7:23, 7:23].mean() > 0.9 and changed[27:38, 27:38].mean() > 0.9 and changed.sum() <= 16**2 + 11**2


def test_one_mask_file_for_each_picture_with_the_same_stages(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "p.png")
    stages = Stages(RunConfig(method="telea"))
    for x in (5, 25):
        mask = np.zeros((40, 50), bool)
        mask[10:20, x : x + 10] = True
        Image.fromarray(mask).save(tmp_path / "m.png")
        repaired = faceinpaint_cli.inpaint_image(tmp_path / "p.png", tmp_path / "m.png", stages=stages)
        assert not (repaired != picture).any(2)[~mask].any() and (repaired != picture).any(2)[mask].mean() > 0.9


def test_an_array_is_the_mask_whatever_the_stages_name(picture, tmp_path):
    Image.new("L", (50, 40), 255).save(tmp_path / "all.png")
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    stages = Stages(RunConfig(method="telea", mask=str(tmp_path / "all.png")))
    changed = (faceinpaint_cli.inpaint_image(picture, mask, stages=stages) != picture).any(2)
    assert changed[mask].mean() > 0.9 and not changed[~mask].any()


def test_what_comes_back_is_not_the_input(picture):
    repaired = faceinpaint_cli.inpaint_image(picture, np.zeros((40, 50), bool), method="telea")
    assert (repaired == picture).all() and not np.shares_memory(repaired, picture)


@pytest.mark.parametrize("settings, said", [
    ({"fidelty": 1}, "did you mean fidelity"),
    ({"fidelity": "1"}, "--fidelity must be float"),
    ({"mask_color": (255, 255, 255)}, "--mask-color"),
    ({"box": "0,0,20,20"}, "--box"),
    ({"box": ((0, 0, 20, 20),)}, "--box"),
    ({"batch_size": 0}, "--batch-size"),
    ({"dilate": True}, "--dilate"),
])
def test_wrong_settings_are_told_by_name(picture, settings, said):
    with pytest.raises(UsageError, match=said):
        faceinpaint_cli.inpaint_image(picture, np.ones((40, 50), bool), **settings)


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


def test_what_is_no_picture_is_told_in_one_line(tmp_path):
    mask = np.zeros((40, 50), np.float32)
    mask[5, 5] = np.nan
    for image, given, expected in ((None, None, "a path or an array"), ([[1]], None, "not list"),
                                   (b"x", None, "not bytes"),
                                   (np.zeros((0, 10, 3), np.uint8), None, "no pixels"),
                                   (np.zeros((40, 50, 3), np.uint8), mask, "no numbers")):
        with pytest.raises(FaceInpaintError, match=expected):
            faceinpaint_cli.inpaint_image(image, given, method="telea")


def test_settings_may_be_paths_and_numbers_of_numpy(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=3, audio=None)
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), ((10, 90), (10, 130)))).save(tmp_path / "m.png")
    done = faceinpaint_cli.inpaint_video(clip, tmp_path / "o.mp4", mask=tmp_path / "m.png", mask_resize=True,
                                         method="telea", fidelity=np.float32(0.5), dilate=np.int64(2))
    assert done.status == "done" and done.frames_filled == 3
    with pytest.raises(FaceInpaintError, match="only inpaint_image takes one"):
        faceinpaint_cli.inpaint_video(clip, tmp_path / "p.mp4", mask=np.zeros((4, 4)))


def test_a_video_that_exists_is_not_overwritten_unless_told(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=3, audio=None)
    target = tmp_path / "o.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(FaceInpaintError, match="already exists"):
        faceinpaint_cli.inpaint_video(clip, target, box=("10,10,20,20",), method="telea")
    skipped = faceinpaint_cli.inpaint_video(clip, target, box=("10,10,20,20",), method="telea", on_existing="skip")
    assert skipped.status == "skipped" and target.read_bytes() == b"mine"
    for setting in ({"dry_run": True}, {"report": "r.json"}, {"shard": "1/2"}, {"html": "r.html"}):
        with pytest.raises(FaceInpaintError, match="command line"):
            faceinpaint_cli.inpaint_video(clip, tmp_path / "p.mp4", method="telea", **setting)
    done = faceinpaint_cli.inpaint_video(clip, target, box=("10,10,20,20",), method="telea", on_existing="overwrite")
    assert done.status == "done" and target.stat().st_size > 100


def test_what_is_no_path_of_one_video_is_told(tmp_path):
    for video, output, message in ((np.zeros((3, 8, 8, 3), np.uint8), "o.mp4", "video must be a path, not ndarray"),
                                   ("a.mp4", None, "output must be a path, not NoneType"),
                                   (tmp_path, tmp_path / "out", "is a folder; give one video at a time")):
        with pytest.raises(UsageError, match=message):
            faceinpaint_cli.inpaint_video(video, output)
    with pytest.raises(InputError, match="No such file or directory; look at its name"):
        faceinpaint_cli.inpaint_image(tmp_path / "missing.png")
