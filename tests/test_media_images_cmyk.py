"""CMYK pictures with a profile: the fill looks as it should where the profile is honoured."""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from faceinpaint_cli.media.images import read_image, write_image

DIRTY = 0.75
"""The inks of the profile made here are less pure than ideal ones."""


def lut(inputs, outputs, grid, table):
    """An ICC lut8Type (ICC.1:2001, 6.5.8) with straight curves."""
    straight = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    return b"mft1" + bytes(4) + bytes([inputs, outputs, grid, 0]) + matrix + straight * inputs + table.tobytes() \
        + straight * outputs


def between(colours, source, target):
    """(N, 3) uint8 from one of Pillow's built-in colour spaces to another."""
    modes = {"sRGB": "RGB", "LAB": "LAB"}
    how = ImageCms.buildTransform(ImageCms.createProfile(source), ImageCms.createProfile(target), modes[source],
                                  modes[target])
    row = Image.frombytes(modes[source], (len(colours), 1), np.ascontiguousarray(colours, np.uint8))
    return np.frombuffer(ImageCms.applyTransform(row, how).tobytes(), np.uint8).reshape(-1, 3)


def icc_lab(pillow_lab):
    """Pillow stores a and b as signed bytes, ICC with 128 as zero."""
    return pillow_lab ^ np.array([0, 128, 128], np.uint8)


def profile():
    amounts = np.array(list(itertools.product(np.linspace(0, 1, 9), repeat=4)))
    light = (1 - DIRTY * amounts[:, :3]) * (1 - 0.9 * amounts[:, 3:])
    to_lab = icc_lab(between(np.rint(light * 255), "sRGB", "LAB"))
    steps = np.linspace(0, 255, 17).astype(np.uint8)
    labs = np.array(list(itertools.product(steps, repeat=3)), np.uint8)
    rgb = between(icc_lab(labs), "LAB", "sRGB") / 255
    black = np.clip((1 - rgb.max(axis=1)) / 0.9, 0, 1)
    inks = (1 - rgb / np.maximum(1 - 0.9 * black, 0.1)[:, None]) / DIRTY
    from_lab = np.rint(np.clip(np.column_stack([inks, black]), 0, 1) * 255).astype(np.uint8)
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": name, b"cprt": b"text" + bytes(4) + b"none\0",
            b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
            b"A2B0": lut(4, 3, 9, to_lab), b"B2A0": lut(3, 4, 17, from_lab)}
    place, index, bodies = 128 + 4 + 12 * len(tags), b"", b""
    for tag, body in tags.items():
        body += bytes(-len(body) % 4)
        index += tag + struct.pack(">II", place + len(bodies), len(body))
        bodies += body
    size = place + len(bodies)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + bodies


def seen(path, own):
    """The picture in sRGB as a viewer shows it that honours the profile."""
    with Image.open(path) as image:
        assert image.mode == "CMYK" and image.info["icc_profile"] == own
        shown = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(own)),
                                          ImageCms.createProfile("sRGB"), outputMode="RGB",
                                          renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                                          flags=ImageCms.Flags.BLACKPOINTCOMPENSATION)
    return np.asarray(shown).astype(int)


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_profiles_are_honoured_both_ways(suffix, tmp_path):
    own = profile()
    inks = np.zeros((48, 64, 4), np.uint8)
    inks[..., 0] = np.linspace(0, 160, 64)[None]
    inks[..., 1] = np.linspace(20, 180, 48)[:, None]
    inks[..., 2], inks[..., 3] = 90, 25
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    options = {"quality": 97, "subsampling": 0} if suffix == "jpg" else {}
    Image.frombytes("CMYK", (64, 48), inks.tobytes()).save(source, icc_profile=own, **options)
    original = read_image(source)
    np.testing.assert_array_equal(original.rgb, seen(source, own))
    with Image.open(source) as image:
        plain = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(plain - original.rgb).mean() > 10  # what plain arithmetic would have made of it
    hole = np.zeros((48, 64), bool)
    hole[8:40, 16:48] = True
    fill = np.where(hole[..., None], np.array([190, 130, 110], np.uint8), original.rgb)
    write_image(original, fill, hole, target)
    assert np.abs(seen(target, own)[hole] - fill[hole]).mean() < 6
    if suffix == "tif":
        with Image.open(target) as image:
            np.testing.assert_array_equal(np.asarray(image)[~hole], inks[~hole])


@pytest.mark.parametrize("other", [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_a_profile_that_will_not_do_is_kept_but_not_used(other, tmp_path, caplog):
    Image.new("CMYK", (16, 16), (100, 50, 30, 20)).save(tmp_path / "a.tif", icc_profile=other)
    original = read_image(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(original.rgb, np.asarray(image.convert("RGB")))
    assert ("cannot be used" in caplog.text) == (other == b"no profile")
    write_image(original, original.rgb, np.eye(16, dtype=bool), tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert image.info["icc_profile"] == other
