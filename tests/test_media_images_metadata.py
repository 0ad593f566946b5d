"""What comes with a picture stays: orientation, EXIF, profiles, resolution, text; and JPEG its own tables."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from faceinpaint_cli.media import exif
from faceinpaint_cli.media.images import read_image, write_image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'


def photograph(height=99, width=140):
    noise = np.random.default_rng(5).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 5) + 0.15 * cv2.GaussianBlur(noise, (0, 0), 1)
    return np.clip(128 + smooth / smooth.std() * 45, 20, 235).astype(np.uint8)


def exif_block(orientation=1):
    block = Image.Exif()
    block[0x0112], block[0x010E], block[0x8298] = orientation, "a face", "someone"
    return block.tobytes()


def repair(path, target, box=(40, 30, 70, 60)):
    """Fill `box` (XYXY, upright) with one colour; returns the picture as read and the mask."""
    original = read_image(path)
    mask = np.zeros(original.rgb.shape[:2], bool)
    mask[box[1]: box[3], box[0]: box[2]] = True
    write_image(original, np.where(mask[..., None], np.uint8(90), original.rgb), mask, target)
    return original, mask


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
def test_orientation_is_honoured_and_kept(orientation, suffix, tmp_path):
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    if suffix == "tif":
        Image.fromarray(photograph()).save(source, tiffinfo={0x0112: orientation})
    else:
        Image.fromarray(photograph()).save(source, exif=exif_block(orientation), **options)
    with Image.open(source) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    original, mask = repair(source, target)
    np.testing.assert_array_equal(original.rgb, upright)
    assert (original.height, original.width) == ((140, 99) if orientation >= 5 else (99, 140))
    with Image.open(target) as image:
        assert image.getexif()[0x0112] == orientation
        shown = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert np.abs(shown[mask] - 90).mean() <= (2 if suffix == "jpg" else 0)
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(bool)
    assert np.abs(shown - upright)[far if suffix == "jpg" else ~mask].max() <= (3 if suffix == "jpg" else 0)


def test_orientation_of_damaged_exif_is_one():
    assert exif.orientation_of(b"") == exif.orientation_of(b"nonsense") == 1
    assert exif.orientation_of(exif_block(6)) == 6
    assert exif.orientation_of(exif_block(6)[:20]) == 1
    assert exif.orientation_of(b"MM\0*\0\0\xff\xff") == 1


def test_turning_back_is_the_inverse():
    array = np.arange(24).reshape(4, 6)
    for orientation in range(1, 9):
        np.testing.assert_array_equal(exif.as_stored(exif.upright(array, orientation), orientation), array)


def test_png_keeps_every_chunk(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a face")
    text.add_text("Comment", "länger" * 100, zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(photograph()).save(tmp_path / "a.png", pnginfo=text, icc_profile=PROFILE, dpi=(300, 200),
                                       exif=exif_block())
    repair(tmp_path / "a.png", tmp_path / "b.png")

    def others(path):
        data, place, found = path.read_bytes(), 8, []
        while place < len(data):
            length, kind = struct.unpack_from(">I4s", data, place)
            found.append((kind, data[place + 8: place + 8 + length]))
            place += 12 + length
        return [chunk for chunk in found if chunk[0] != b"IDAT"]

    assert others(tmp_path / "a.png") == others(tmp_path / "b.png")
    assert {kind for kind, _ in others(tmp_path / "b.png")} >= {b"iCCP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt"}


def test_png_is_packed_about_as_well_as_by_others(tmp_path):
    Image.fromarray(photograph(600, 200)).save(tmp_path / "a.png")  # more rows than are filtered at once
    original, mask = repair(tmp_path / "a.png", tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.where(mask[..., None], np.uint8(90), original.rgb))
    assert (tmp_path / "b.png").stat().st_size < 1.05 * (tmp_path / "a.png").stat().st_size


@pytest.mark.parametrize("suffix, options", [("jpg", {}), ("webp", {"lossless": True}), ("webp", {}), ("tif", {})])
def test_profiles_exif_and_resolution_are_kept(suffix, options, tmp_path):
    if suffix != "webp":
        options = {**options, "dpi": (300, 300)}
    if suffix != "tif":
        options = {**options, "exif": exif_block(), "xmp": XMP}
    Image.fromarray(photograph()).save(tmp_path / f"a.{suffix}", icc_profile=PROFILE, **options)
    repair(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as a, Image.open(tmp_path / f"b.{suffix}") as b:
        assert b.info["icc_profile"] == PROFILE
        assert b.info.get("dpi") == a.info.get("dpi") and b.info.get("exif") == a.info.get("exif")
        assert b.info.get("xmp") == a.info.get("xmp") and dict(b.getexif()) == dict(a.getexif())


def test_bmp_keeps_its_resolution(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "a.bmp", dpi=(300, 300))
    repair(tmp_path / "a.bmp", tmp_path / "b.bmp")
    assert (tmp_path / "b.bmp").read_bytes()[:54] == (tmp_path / "a.bmp").read_bytes()[:54]


def test_tiff_keeps_its_size_where_new_strips_fit(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "a.tif")
    repair(tmp_path / "a.tif", tmp_path / "b.tif")
    before, after = (tmp_path / "a.tif").read_bytes(), (tmp_path / "b.tif").read_bytes()
    assert len(before) == len(after)
    assert sum(x != y for x, y in zip(before, after, strict=True)) <= 30 * 30 * 3


def jpeg(path, **options):
    Image.fromarray(photograph()).save(path, "JPEG", **options)
    return path


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [60, 85, 95])
def test_jpeg_is_written_with_its_own_tables_and_hardly_moves(quality, subsampling, tmp_path):
    source = jpeg(tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
    original, mask = repair(source, tmp_path / "b.jpg")
    with Image.open(source) as a, Image.open(tmp_path / "b.jpg") as b:
        assert a.quantization == b.quantization
        assert a.layer == b.layer  # sampling factors
        after = np.asarray(b.convert("RGB")).astype(int)
        encoded = io.BytesIO()
        naive = Image.fromarray(np.where(mask[..., None], np.uint8(90), original.rgb))
        naive.save(encoded, "JPEG", qtables=a.quantization, subsampling=subsampling)
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((49, 49), np.uint8)).astype(bool)
    moved = np.abs(after - original.rgb)[far]
    with Image.open(encoded) as other:
        naively = np.abs(np.asarray(other).astype(int) - original.rgb)[far]
    assert (moved > 0).mean() < (0.02 if quality < 90 else 0.1) and moved.max() <= 4
    assert (moved > 0).mean() < 0.5 * (naively > 0).mean()
    assert np.median(np.abs(after[mask] - 90)) <= 4


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_in_grey_and_cmyk_stays_so(mode, tmp_path):
    Image.fromarray(photograph()).convert(mode).save(tmp_path / "a.jpg", quality=90)
    original, mask = repair(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as a, Image.open(tmp_path / "b.jpg") as b:
        assert b.mode == mode and b.quantization == a.quantization
        after = np.asarray(b.convert("RGB")).astype(int)
    assert original.rgb.flags.c_contiguous and original.rgb.flags.writeable
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(bool)
    assert np.abs(after - original.rgb)[far].max() <= 4 and np.abs(after[mask] - 90).mean() < 3


def test_jpeg_in_rgb_stays_so(tmp_path):
    source = jpeg(tmp_path / "a.jpg", quality=90, keep_rgb=True)
    original, mask = repair(source, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["adobe_transform"] == 0
        after = np.asarray(image).astype(int)
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(bool)
    assert np.abs(after - original.rgb)[far].max() <= 3 and np.abs(after[mask] - 90).mean() < 3


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(140, 99), (120, 90), (121, 100), (136, 72), (9, 40)])
def test_progressive_jpeg_stays_so_and_in_place(size, subsampling, tmp_path):
    """Also where the blocks of luma are odd in number: the scans of one component alone hold just those."""
    light = np.random.default_rng(2).integers(40, 216, (1 + size[1] // 7, 1 + size[0] // 7), np.uint8)
    picture = np.kron(light, np.ones((7, 7), np.uint8))[: size[1], : size[0]]
    picture = Image.fromarray(picture).convert("RGB")
    picture.save(tmp_path / "a.jpg", quality=90, subsampling=subsampling, progressive=True)
    original, mask = repair(tmp_path / "a.jpg", tmp_path / "b.jpg", box=(0, 0, 4, 4))
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info.get("progressive") and image.size == size
        after = np.asarray(image).astype(int)
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((33, 33), np.uint8)).astype(bool)
    assert np.abs(after - original.rgb)[far].max(initial=0) <= 8
    assert np.abs(after - original.rgb)[~mask].mean() < 2.5


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_grain_at_the_best_quality_is_written(mode, progressive, tmp_path, monkeypatch):
    shape = (300, 400, len(mode))
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "MAXBLOCK", 10 * noise.size)  # Pillow alone cannot write it either
        Image.fromarray(noise, mode).save(tmp_path / "a.jpg", quality=100, subsampling=0, progressive=progressive)
    original, mask = repair(tmp_path / "a.jpg", tmp_path / "b.jpg")
    after = read_image(tmp_path / "b.jpg").rgb.astype(int)
    assert np.abs(after - original.rgb)[~cv2.dilate(mask.astype(np.uint8), np.ones((17, 17))).astype(bool)].mean() < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 2), (17, 33)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_of_any_size(size, subsampling, tmp_path):
    Image.fromarray(photograph()[: size[1], : size[0]]).save(tmp_path / "a.jpg", quality=95, subsampling=subsampling)
    original, _ = repair(tmp_path / "a.jpg", tmp_path / "b.jpg", box=(0, 0, 1, 1))
    assert read_image(tmp_path / "b.jpg").rgb.shape == original.rgb.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_filled_up_to_its_border(subsampling, tmp_path):
    """What lies beyond the border in the last blocks is the fill too, and does not ring into it."""
    Image.new("RGB", (140, 99), (250, 250, 250)).save(tmp_path / "a.jpg", quality=75, subsampling=subsampling)
    repair(tmp_path / "a.jpg", tmp_path / "b.jpg", box=(96, 64, 140, 99))
    after = read_image(tmp_path / "b.jpg").rgb.astype(int)
    assert np.abs(after[72:, 104:] - 90).max() <= 3


def test_jpeg_keeps_foreign_segments_and_what_follows_it(tmp_path):
    source = jpeg(tmp_path / "a.jpg", exif=exif_block(), comment=b"a comment")
    data = source.read_bytes()
    body = b"http://example.org/\0private"
    index = b"MPF\0" + bytes(40)
    segments = b"".join(struct.pack(">BBH", 0xFF, m, len(b) + 2) + b for m, b in ((0xE5, body), (0xE2, index)))
    source.write_bytes(data[:2] + data[2:20] + segments + data[20:] + b"a short film")
    repair(source, tmp_path / "b.jpg")
    after = (tmp_path / "b.jpg").read_bytes()
    assert body in after and after.endswith(b"\xff\xd9a short film")
    assert index not in after  # its offsets would point elsewhere
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["comment"] == b"a comment" and image.getexif()[0x010E] == "a face"


def exif_with_thumbnail(thumbnail, order):
    """An EXIF block with a picture directory, a thumbnail directory, the thumbnail and something behind it."""
    first = struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, 1, 0, 26)
    place = 26 + 2 + 3 * 12 + 4
    second = struct.pack(order + "H", 3) + struct.pack(order + "HHIHH", 0x0103, 3, 1, 6, 0)
    second += struct.pack(order + "HHII", 0x0201, 4, 1, place) + struct.pack(order + "HHIII", 0x0202, 4, 1,
                                                                             len(thumbnail), 0)
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return b"Exif\0\0" + start + first + second + thumbnail + b"behind it"


@pytest.mark.parametrize("order", "<>", ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("size", [(140, 99), (60, 60)])
def test_the_thumbnail_shows_the_repair(order, size, tmp_path):
    old = io.BytesIO()
    Image.new("RGB", size, (250, 0, 250)).save(old, "JPEG", quality=95)
    block = exif_with_thumbnail(old.getvalue() + bytes(6000), order)
    jpeg(tmp_path / "a.jpg", exif=block)
    original, _ = repair(tmp_path / "a.jpg", tmp_path / "b.jpg", box=(0, 0, 70, 99))
    with Image.open(tmp_path / "b.jpg") as image:
        after = image.info["exif"]
    assert len(after) == len(block) and after.endswith(b"behind it") and after[:60] == block[:60]
    place = after.index(b"\xff\xd8")
    (length,) = struct.unpack_from(order + "I", after, place - 8)
    with Image.open(io.BytesIO(after[place: place + length])) as image:
        thumbnail = np.asarray(image.convert("RGB")).astype(int)
    assert thumbnail.shape == (size[1], size[0], 3)
    middle = size[1] // 2
    assert np.abs(thumbnail[middle - 4: middle + 4, 4: size[0] // 2 - 6] - 90).max() < 12
    if size == (140, 99):
        assert np.abs(thumbnail[:, 80:] - original.rgb[:, 80:]).mean() < 8
    else:
        assert thumbnail[:6].max() < 12  # another shape: black above and below


def test_a_thumbnail_that_is_none_stays(tmp_path):
    for block in (exif_with_thumbnail(b"no jpeg" * 9, "<"), exif_with_thumbnail(b"", ">"), exif_block()[:40]):
        assert exif.with_thumbnail_of(block, photograph()) == block


def test_lossy_webp_stays_lossy_and_near(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "a.webp", quality=80)
    original, mask = repair(tmp_path / "a.webp", tmp_path / "b.webp")
    assert b"VP8 " in (tmp_path / "b.webp").read_bytes()
    error = read_image(tmp_path / "b.webp").rgb.astype(float) - original.rgb
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((33, 33), np.uint8)).astype(bool)
    assert 10 * np.log10(255**2 / (error[far] ** 2).mean()) > 35
