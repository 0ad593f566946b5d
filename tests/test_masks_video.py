"""What the user says is to be filled, frame by frame."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.masks import MaskSource
from faceinpaint_cli.errors import MaskError
from faceinpaint_cli.types import Job

WIDTH, HEIGHT, FRAMES = 64, 48, 7
JOB = Job(Path("in/sub/clip.mkv"), Path("out/sub/clip.mkv"), "video", Path("sub/clip.mkv"))


def frame_mask(i, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), bool)
    mask[8:24, 4 * i: 4 * i + 12] = True
    return mask


def write_video(path, count=FRAMES, rotation=0, codec="libx264"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "10"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(count):
            pixels = np.repeat(frame_mask(i)[..., None], 3, axis=2).astype(np.uint8) * 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def write_numbered(folder, numbers, name="{:06d}.png", height=HEIGHT, width=WIDTH):
    folder.mkdir(parents=True, exist_ok=True)
    for i, number in enumerate(numbers):
        Image.fromarray(frame_mask(i, height, width)).save(folder / name.format(number))
    return str(folder)


def open_mask(frame_count=None, rotation=0, width=WIDTH, height=HEIGHT, **settings):
    return MaskSource.from_config(RunConfig(**settings)).for_video(JOB, width, height, frame_count, rotation)


def test_a_picture_or_boxes_are_constant(tmp_path):
    Image.fromarray(frame_mask(2)).save(tmp_path / "m.png")
    with open_mask(mask=str(tmp_path / "m.png"), box=("60,40,9,9",)) as masks:
        wanted = frame_mask(2)
        wanted[40:, 60:] = True
        np.testing.assert_array_equal(masks.constant, wanted)
        np.testing.assert_array_equal(masks.at(5), wanted)
        assert not masks.needs_rgb


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_mask_video_goes_in_step(tmp_path, codec):
    path = write_video(tmp_path / "m.mkv", codec=codec)
    with open_mask(mask=path, frame_count=FRAMES) as masks:
        assert masks.constant is None and not masks.needs_rgb
        for i in (0, 1, 1, 4, 6, 2, 3):  # repeated, skipped, back
            assert (masks.at(i) != frame_mask(i)).mean() < (0.02 if codec == "libx264" else 1e-9)
        with pytest.raises(MaskError, match=r"has 7 frames, but .*clip\.mkv has 8 or more"):
            masks.at(7)


def test_a_folder_holds_the_video_or_its_frames_by_stem(tmp_path):
    write_video(tmp_path / "a" / "sub" / "clip.mp4")
    write_numbered(tmp_path / "b" / "sub" / "clip", range(1, 8))
    for folder in "ab":
        with open_mask(mask=str(tmp_path / folder)) as masks:
            for i in range(FRAMES):
                assert (masks.at(i) != frame_mask(i)).mean() < 0.02


def test_a_folder_holds_one_picture_for_the_whole_video(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.fromarray(frame_mask(3)).save(tmp_path / "sub" / "clip.png")
    with open_mask(mask=str(tmp_path)) as masks:
        np.testing.assert_array_equal(masks.constant, frame_mask(3))


@pytest.mark.parametrize("first, name", [(0, "{}.png"), (1, "frame-{:04d}.bmp"), (8, "{:06d}.tif")])
def test_numbered_frames_from_any_first_number(tmp_path, first, name):
    folder = write_numbered(tmp_path / "m", range(first, first + 12), name)
    with open_mask(mask=folder, frame_count=12) as masks:
        for i in range(12):
            np.testing.assert_array_equal(masks.at(i), frame_mask(i))


def test_numbered_frames_with_a_gap(tmp_path):
    with pytest.raises(MaskError, match="mask 3 is missing"):
        open_mask(mask=write_numbered(tmp_path / "m", [1, 2, 4]))


def test_numbered_frames_with_a_number_twice(tmp_path):
    write_numbered(tmp_path / "m", [1, 2], "{}.png")
    with pytest.raises(MaskError, match="use each number once"):
        open_mask(mask=write_numbered(tmp_path / "m", [2, 3], "0{}.png"))


def test_too_few_numbered_frames_are_told_at_once(tmp_path):
    with pytest.raises(MaskError, match=r"has 5 frames, but .*clip\.mkv has 7 or more"):
        open_mask(mask=write_numbered(tmp_path / "m", range(5)), frame_count=7)


@pytest.mark.parametrize("kind", ["video", "numbered"])
@pytest.mark.parametrize("asked", [0, 2, FRAMES])
def test_too_many_are_told(kind, asked, tmp_path, caplog):
    path = (write_video(tmp_path / "m.mkv") if kind == "video" else write_numbered(tmp_path / "m", range(FRAMES)))
    with open_mask(mask=path, frame_count=5) as masks:
        for i in range(asked):
            masks.at(i)
        with pytest.raises(MaskError, match=r"mask .*m(\.mkv)? has 7 frames, but .*clip\.mkv has 5; give one for each"):
            masks.require_as_many(5, JOB.input, damaged=lambda: False)
        masks.require_as_many(7, JOB.input, damaged=lambda: False)
        assert not caplog.records
        masks.require_as_many(5, JOB.input, damaged=lambda: True)
        assert "the last 2 are not used" in caplog.text
        assert (masks.at(3) != frame_mask(3)).mean() < 0.02


def test_masks_of_other_inputs_are_not_taken_for_frames(tmp_path):
    write_numbered(tmp_path / "m", [1, 2])
    Image.fromarray(frame_mask(0)).save(tmp_path / "m" / "portrait.png")
    with pytest.raises(MaskError, match=r"no mask for .*clip\.mkv.*or take .*m/portrait\.png away"):
        open_mask(mask=str(tmp_path / "m"))
    Image.fromarray(frame_mask(0)).save(tmp_path / "m" / "another.png")
    with pytest.raises(MaskError, match=r"no mask for .*clip\.mkv.*clip\.png$"):
        open_mask(mask=str(tmp_path / "m"))


@pytest.mark.parametrize("name", ["cover.png", "cover-1.png"])
def test_a_foreign_picture_among_numbered_ones_is_named(name, tmp_path):
    folder = write_numbered(tmp_path / "m" / "sub" / "clip", range(3))
    Image.fromarray(frame_mask(0)).save(tmp_path / "m" / "sub" / "clip" / name)
    with pytest.raises(MaskError, match=f"or take {folder}/{name} away"):
        open_mask(mask=str(tmp_path / "m"))


def test_another_size(tmp_path):
    path = write_numbered(tmp_path / "m", range(3), height=HEIGHT * 2, width=WIDTH * 2)
    with open_mask(mask=path) as masks, pytest.raises(MaskError, match=r"128 x 96.*64 x 48.*--mask-resize"):
        masks.at(0)
    with open_mask(mask=path, mask_resize=True) as masks:
        assert masks.at(0).shape == (HEIGHT, WIDTH) and masks.at(0).any()


def test_colour_needs_the_frame():
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[5:9, 5:9] = 255
    with open_mask(mask_color="#ffffff", dilate=1) as masks:
        assert masks.needs_rgb and masks.constant is None
        assert masks.at(0, rgb).sum() == 36
        with pytest.raises(ValueError, match="needs the frame"):
            masks.at(0)


@pytest.mark.parametrize("rotation, corner", [(0, (slice(0, 5), slice(0, 10))), (90, (slice(0, 10), slice(-5, None))),
                                              (-90, (slice(-10, None), slice(0, 5))),
                                              (180, (slice(-5, None), slice(-10, None)))])
def test_boxes_are_meant_for_the_turned_picture(rotation, corner):
    """A box at the top left as seen lies where a player would take it from."""
    masks = open_mask(box=("0,0,10,5",), rotation=rotation)
    assert masks.constant.shape == (HEIGHT, WIDTH)
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[corner] = True
    np.testing.assert_array_equal(masks.constant, wanted)
    seen = np.rot90(masks.constant, rotation // 90)
    assert seen[:5, :10].all() and seen.sum() == 50


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_mask_video_with_the_same_rotation_fits(tmp_path, rotation):
    path = write_video(tmp_path / "m.mp4", rotation=rotation)
    with open_mask(mask=path, rotation=rotation) as masks:
        for i in range(FRAMES):
            assert (masks.at(i) != frame_mask(i)).mean() < 0.02


def test_numbered_frames_are_meant_for_the_turned_picture(tmp_path):
    folder = write_numbered(tmp_path / "m", range(3), height=WIDTH, width=HEIGHT)
    with open_mask(mask=folder, rotation=90) as masks:
        np.testing.assert_array_equal(np.rot90(masks.at(1)), frame_mask(1, WIDTH, HEIGHT))


def test_a_rotation_between_is_refused():
    with pytest.raises(MaskError, match="turned by 45 degrees"):
        open_mask(box=("0,0,5,5",), rotation=45)


def test_a_box_outside():
    with pytest.raises(MaskError, match=r"64,0,5,5 lies outside"):
        open_mask(box=("64,0,5,5",))


def test_a_mask_video_that_is_none(tmp_path):
    (tmp_path / "m.mp4").write_bytes(b"no video")
    with open_mask(mask=str(tmp_path / "m.mp4")) as masks, pytest.raises(MaskError, match="cannot decode mask"):
        masks.at(0)


def test_a_mask_video_of_sound_alone(tmp_path):
    with av.open(str(tmp_path / "m.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_mask(mask=str(tmp_path / "m.mp4")) as masks, pytest.raises(MaskError, match="has no video stream"):
        masks.at(0)
