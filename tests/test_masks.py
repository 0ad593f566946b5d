"""What the user says is to be filled, for pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.masks import MaskSource
from faceinpaint_cli.errors import MaskError, UsageError
from faceinpaint_cli.media.images import read_image
from faceinpaint_cli.types import Job

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "in" / "sub" / "a.jpg"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30)).save(path)
    return Job(path, tmp_path / "out" / "sub" / "a.jpg", "image", Path("sub/a.jpg"))


def block(height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), np.uint8)
    mask[4:9, 6:16] = 255
    return mask


def save(path, mask, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path, **options)
    return str(path)


def mask_of(job, **settings):
    return MaskSource.from_config(RunConfig(**settings)).for_image(job, read_image(job.input))


def error_of(job, **settings):
    with pytest.raises(MaskError) as e:
        mask_of(job, **settings)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_explicit_only_where_a_source_is_given():
    assert not MaskSource.from_config(RunConfig(dilate=4, mask_resize=True)).explicit
    for settings in ({"mask_color": "#ffffff"}, {"mask_alpha": True}, {"box": ("1,1,2,2",)}):
        assert MaskSource.from_config(RunConfig(**settings)).explicit


@pytest.mark.parametrize("name", ["m.png", "m.jpg", "m.tif", "m.bmp", "m.webp"])
def test_one_picture_for_all(job, tmp_path, name):
    path = save(tmp_path / name, block(), **({"lossless": True} if name == "m.webp" else {}))
    mask = mask_of(job, mask=path)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, block() > 0)


def test_white_from_half_up_in_every_depth(job, tmp_path):
    grey = np.array([[127, 128], [0, 255]], np.uint8).repeat(12, 0).repeat(16, 1)
    np.testing.assert_array_equal(mask_of(job, mask=save(tmp_path / "g.png", grey)), grey >= 128)
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(mask_of(job, mask=save(tmp_path / "d.png", deep)), grey >= 128)
    clear = np.dstack([grey] * 3 + [np.zeros_like(grey)])  # transparent everywhere: alpha is no mask
    np.testing.assert_array_equal(mask_of(job, mask=save(tmp_path / "c.png", clear)), grey >= 128)
    one = Image.fromarray(grey >= 128)
    one.save(tmp_path / "1.png")
    np.testing.assert_array_equal(mask_of(job, mask=str(tmp_path / "1.png")), grey >= 128)


def test_what_a_layer_of_strokes_does_not_show_is_not_filled(job, tmp_path):
    strokes = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    strokes[..., 3] = block()
    np.testing.assert_array_equal(mask_of(job, mask=save(tmp_path / "l.png", strokes)), block() > 0)


def test_a_photograph_as_a_mask_is_doubted(job, tmp_path, caplog):
    ramp = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
    mask_of(job, mask=save(tmp_path / "photo.png", ramp))
    assert "not black and white" in caplog.text
    caplog.clear()
    mask_of(job, mask=save(tmp_path / "m.png", block()))
    assert not caplog.text


def test_a_folder_is_matched_by_relative_stem(job, tmp_path):
    save(tmp_path / "masks" / "a.png", block() * 0)
    save(tmp_path / "masks" / "sub" / "a.png", block())
    save(tmp_path / "masks" / "other" / "a.png", block() * 0)
    np.testing.assert_array_equal(mask_of(job, mask=str(tmp_path / "masks")), block() > 0)


def test_of_two_masks_the_one_of_the_inputs_own_suffix(job, tmp_path):
    save(tmp_path / "masks" / "sub" / "a.png", block() * 0)
    save(tmp_path / "masks" / "sub" / "a.JPG", block())
    assert mask_of(job, mask=str(tmp_path / "masks")).any()
    (tmp_path / "masks" / "sub" / "a.JPG").unlink()
    save(tmp_path / "masks" / "sub" / "a.bmp", block())
    message = error_of(job, mask=str(tmp_path / "masks"))
    assert "several masks" in message and "a.bmp" in message and "a.png" in message


def test_a_folder_without_a_match(job, tmp_path):
    save(tmp_path / "masks" / "b.png", block())
    message = error_of(job, mask=str(tmp_path / "masks"))
    assert "no mask for" in message and str(job.input) in message and str(tmp_path / "masks/sub/a.png") in message


def test_another_size_is_an_error_that_names_the_way_out(job, tmp_path):
    path = save(tmp_path / "m.png", block(48, 64))
    message = error_of(job, mask=path)
    assert "64 x 48" in message and "32 x 24" in message and "--mask-resize" in message
    mask = mask_of(job, mask=path, mask_resize=True)
    np.testing.assert_array_equal(mask, block(48, 64)[::2, ::2] > 0)


def test_all_black_and_all_white(job, tmp_path):
    assert not mask_of(job, mask=save(tmp_path / "k.png", block() * 0)).any()
    assert mask_of(job, mask=save(tmp_path / "w.png", block() * 0 + 255)).all()


def test_a_mask_is_for_the_picture_as_it_is_seen(job, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[0, 0] = 255  # bottom left as stored by a turned camera: top right when seen
    Image.fromarray(pixels).save(job.input.with_suffix(".png"), exif=exif)
    turned = Job(job.input.with_suffix(".png"), job.output, "image", Path("sub/a.png"))
    by_colour = mask_of(turned, mask_color="#ffffff", mask_tolerance=0)
    assert by_colour.shape == (WIDTH, HEIGHT) and by_colour[0, -1] and by_colour.sum() == 1
    np.testing.assert_array_equal(mask_of(turned, box=("23,0,1,1",)), by_colour)
    np.testing.assert_array_equal(mask_of(turned, mask=save(tmp_path / "m.png", by_colour.astype(np.uint8) * 255)),
                                  by_colour)


def test_colour_with_tolerance(tmp_path):
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0] = [(255, 255, 255), (247, 255, 255), (246, 255, 255), (0, 0, 0)]
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    job = Job(path, path, "image", Path("a.png"))
    assert mask_of(job, mask_color="#ffffff", mask_tolerance=8)[0].tolist() == [True, True, False, False]
    assert mask_of(job, mask_color="#000000", mask_tolerance=0).sum() == 5
    import cv2
    cv2.imwrite(str(path), pixels[..., ::-1].astype(np.uint16) * 257)
    assert mask_of(job, mask_color="#ffffff", mask_tolerance=8)[0].tolist() == [True, True, False, False]


def test_alpha_below_half(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 3] = [[0, 127, 128], [255, 255, 255]]
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    mask = mask_of(Job(path, path, "image", Path("a.png")), mask_alpha=True)
    assert mask.tolist() == [[True, True, False], [False] * 3]


def test_alpha_of_a_picture_without_is_empty(job):
    assert not mask_of(job, mask_alpha=True).any()


def test_boxes_are_clipped_and_joined(job):
    mask = mask_of(job, box=("-3,-2,5,4", "30,20,50,50"))
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[:2, :2] = wanted[20:, 30:] = True
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize("box", ["32,0,5,5", "0,24,5,5", "-5,0,5,5", "0,-9,3,9"])
def test_a_box_outside(job, box):
    message = error_of(job, box=("1,1,2,2", box))
    assert box in message and "32 x 24" in message


def test_sources_are_joined_and_then_grown(job, tmp_path):
    path = save(tmp_path / "m.png", block())
    both = mask_of(job, mask=path, box=("20,15,2,2",))
    assert both.sum() == 50 + 4
    grown = mask_of(job, mask=path, box=("20,15,2,2",), dilate=2)
    assert grown.sum() == 9 * 14 + 36 and grown[both].all()


@pytest.mark.parametrize("name", ["missing.png", "missing"])
def test_a_mask_that_is_not_there(name, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        MaskSource.from_config(RunConfig(mask=str(tmp_path / name)))


def test_a_mask_that_may_not_be_looked_at(tmp_path):
    with pytest.raises(UsageError, match=r"File name too long; allow reading it|does not exist"):
        MaskSource.from_config(RunConfig(mask=str(tmp_path / ("m" * 300 + ".png"))))


def test_a_folder_of_masks_that_may_not_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)  # permissions do not bind root
    with pytest.raises(UsageError, match=r"cannot read --mask .*: Permission denied; allow reading it"):
        MaskSource.from_config(RunConfig(mask=str(tmp_path)))


def test_a_mask_of_no_known_kind(tmp_path):
    (tmp_path / "m.txt").write_text("white")
    with pytest.raises(UsageError, match="must be a picture, a video or a folder"):
        MaskSource.from_config(RunConfig(mask=str(tmp_path / "m.txt")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_mask_from_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.png")
    with pytest.raises(UsageError, match="must be a picture, a video or a folder"):
        MaskSource.from_config(RunConfig(mask=str(tmp_path / "m.png")))


def test_a_mask_that_cannot_be_read_is_told_as_the_mask(job, tmp_path):
    (tmp_path / "m.png").write_bytes(b"")
    assert error_of(job, mask=str(tmp_path / "m.png")).startswith("mask: cannot read")


def test_a_video_as_the_mask_of_a_picture(job, tmp_path):
    (tmp_path / "m.mp4").write_bytes(b"")
    assert "a picture needs a picture as mask" in error_of(job, mask=str(tmp_path / "m.mp4"))
