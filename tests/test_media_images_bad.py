"""Pictures that cannot be read: one clear line each, no warning, no memory taken."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from faceinpaint_cli.errors import InputError, OutputError
from faceinpaint_cli.media.images import read_image, write_image

NOISE = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP"}


def encoded(suffix, **options):
    out = io.BytesIO()
    Image.fromarray(NOISE).save(out, FORMATS[suffix], **options)
    return out.getvalue()


def error_of(path, **options):
    with pytest.raises(InputError) as e:
        read_image(path, **options)
    message = str(e.value)
    assert "\n" not in message and str(path) in message
    return message


def test_missing_and_a_folder(tmp_path):
    assert "No such file" in error_of(tmp_path / "a.png")
    assert "Is a directory" in error_of(tmp_path)


def test_zero_bytes(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert "empty (0 bytes)" in error_of(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", FORMATS)
def test_text_under_a_pictures_name(suffix, tmp_path):
    (tmp_path / f"a.{suffix}").write_text("I am a text\n" * 50)
    assert "no JPEG, PNG, WebP, TIFF or BMP" in error_of(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("options", [
    ("jpg", {}), ("jpg", {"progressive": True}), ("png", {}), ("webp", {}), ("webp", {"lossless": True}), ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}), ("tif", {"compression": "tiff_adobe_deflate"}), ("bmp", {})])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_cut_short_anywhere(options, share, tmp_path):
    suffix, how = options
    data = encoded(suffix, **how)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[: max(4, int(share * len(data)))])
    if suffix == "tif" and how and share > 0.9:
        pytest.skip("the fields stand at the end, pixels are whole")
    assert "; get it again or leave it out" in error_of(path)


def test_a_16_bit_png_cut_short_or_damaged(tmp_path):
    path = tmp_path / "a.png"
    import cv2
    cv2.imwrite(str(path), NOISE.astype(np.uint16) * 257)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    assert "cut short" in error_of(path)
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert "IDAT chunk is damaged" in error_of(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_random_damage_raises_nothing_else(suffix, tmp_path):
    """Flipped bytes give a picture or an InputError, whatever they hit."""
    rng, data = np.random.default_rng(9), encoded(suffix)
    refused = 0
    for i in range(60):
        damaged = bytearray(data)
        reach = 120 if i % 2 else len(damaged)  # headers every other time
        for place in rng.integers(4, reach, 4):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "a").write_bytes(damaged)
        try:
            read_image(tmp_path / "a", max_pixels=10**6)
        except InputError as e:
            assert "\n" not in str(e)
            refused += 1
    assert refused


def huge(suffix):
    """A small file whose header claims 30,000 x 30,000 pixels."""
    side = 30000
    if suffix == "png":
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        body = zlib.compress(bytes(100))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b))
            for k, b in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b"")))
    data = bytearray(encoded(suffix, **({"lossless": True} if suffix == "webp" else {})))
    if suffix == "jpg":
        place = data.index(b"\xff\xc0")
        data[place + 5: place + 9] = struct.pack(">HH", side, side)
    elif suffix == "bmp":
        data[18:26] = struct.pack("<ii", side, side)
    elif suffix == "tif":
        (page,) = struct.unpack_from("<I", data, 4)
        data[page + 2: page + 26] = struct.pack("<HHIIHHII", 256, 4, 1, side, 257, 4, 1, side)[:24]
    return bytes(data)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp"])
def test_a_huge_picture_is_refused_before_memory_is_taken(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(huge(suffix))
    tracemalloc.start()
    message = error_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "30000 x 30000" in message and "limit of 200000000 pixels" in message
    assert peak < 2_000_000


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_limit_counts_pixels(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(suffix))
    assert read_image(path, max_pixels=2000).rgb.shape == (40, 50, 3)
    assert "50 x 40, more than the limit of 1999" in error_of(path, max_pixels=1999)


@pytest.mark.parametrize("suffix, options", [*((s, {}) for s in FORMATS), ("tif", {"compression": "tiff_lzw"}),
                                             ("tif", {"compression": "jpeg"})])
def test_pillows_own_limit_gives_no_warning(suffix, options, tmp_path, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(suffix, **options))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    original = read_image(path)  # warnings are errors here
    write_image(original, original.rgb, np.ones((40, 50), bool), tmp_path / f"b.{suffix}")


def test_tiffs_of_kinds_that_are_not_read_are_not_called_damaged(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II+\0\x08\0\0\0" + bytes(200))
    assert "it is a BigTIFF" in error_of(path) and "convert it to plain TIFF" in error_of(path)
    data = bytearray(encoded("tif", tiffinfo={339: (1, 1, 1)}))
    (at,) = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 339, 3, 3)) + 8)
    data[at : at + 6] = struct.pack("<HHH", 3, 3, 3)
    path.write_bytes(data)
    assert "floating point" in error_of(path) and "convert to" in error_of(path) and "damaged" not in error_of(path)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_animations_are_refused(suffix, tmp_path):
    frames = [Image.fromarray(np.roll(NOISE, i, 0)) for i in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert "animation; convert it" in error_of(tmp_path / f"a.{suffix}")


def test_the_name_does_not_matter_but_the_content(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("png"))
    assert read_image(tmp_path / "a.jpg").format == "PNG"


def test_a_target_that_cannot_be_written(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("png"))
    original = read_image(tmp_path / "a.png")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        write_image(original, original.rgb, np.ones((40, 50), bool), tmp_path / "file" / "a.png")
