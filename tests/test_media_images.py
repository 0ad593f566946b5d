"""Every format keeps every pixel outside the mask, in its own depth, mode and compression."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from faceinpaint_cli.media.images import read_image, write_image

HEIGHT, WIDTH = 45, 62
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[11:30, 20:41] = True


def picture(channels=4):
    """Smooth colours (HWC uint8); the last channel goes from clear to opaque."""
    noise = np.random.default_rng(3).normal(size=(HEIGHT, WIDTH, channels))
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    low, high = smooth.min((0, 1)), smooth.max((0, 1))
    return ((smooth - low) / (high - low) * 255).astype(np.uint8).reshape(HEIGHT, WIDTH, channels)


RGBA = Image.fromarray(picture())
RGB = RGBA.convert("RGB")
DEEP = picture().astype(np.uint16) * 257 + np.arange(WIDTH, dtype=np.uint16)[None, :, None]


def pillow(image, **options):
    return lambda path: image.save(path, **options)


def opencv(array, *options):
    return lambda path: cv2.imwrite(str(path), array, list(options))


def png(colour, bits, rows, extra=()):
    """A PNG put together here: `rows` (H, bytes) unfiltered, `extra` chunks before the pixels."""
    def write(path):
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0)), *extra,
                  (b"IDAT", zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())), (b"IEND", b"")]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks))
    return write


def bmp_with_alpha(path):
    """A 32-bit BMP with a version 4 header, which is how BMP has alpha."""
    pixels = picture()[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", 14 + 108 + len(pixels), 0, 0, 14 + 108) + header + pixels)


def tiled_tiff(path, planar=False):
    """A big-endian TIFF in 16 x 16 tiles, which Pillow and OpenCV do not write."""
    pixels = np.pad(picture(3), ((0, -HEIGHT % 16), (0, -WIDTH % 16), (0, 0)))
    planes = [pixels[..., c] for c in range(3)] if planar else [pixels]
    tiles = [zlib.compress(p[y:y + 16, x:x + 16].tobytes()) for p in planes
             for y in range(0, HEIGHT, 16) for x in range(0, WIDTH, 16)]
    fields = {256: [WIDTH], 257: [HEIGHT], 258: [8, 8, 8], 259: [8], 262: [2], 277: [3],
              284: [2 if planar else 1], 322: [16], 323: [16], 324: [0] * len(tiles),
              325: [len(t) for t in tiles]}
    place = 8 + 2 + 12 * len(fields) + 4
    place_of = {}
    for tag, values in fields.items():
        if len(values) > 1:
            place_of[tag] = place
            place += 4 * len(values)
    fields[324] = [place + sum(map(len, tiles[:i])) for i in range(len(tiles))]
    out = struct.pack(">2sHIH", b"MM", 42, 8, len(fields))
    for tag, values in fields.items():
        out += struct.pack(">HHII", tag, 4, len(values), place_of.get(tag, values[0]))
    out += bytes(4) + b"".join(struct.pack(f">{len(v)}I", *v) for v in fields.values() if len(v) > 1)
    path.write_bytes(out + b"".join(tiles))


def premultiplied_tiff(path):
    pixels = np.asarray(RGBA).astype(int)
    pixels[..., :3] = pixels[..., :3] * pixels[..., 3:] // 255
    Image.fromarray(pixels.astype(np.uint8)).save(path, tiffinfo={338: 1})


LOSSLESS = {
    "rgb.png": pillow(RGB), "rgba.png": pillow(RGBA), "l.png": pillow(RGB.convert("L")),
    "la.png": pillow(RGBA.convert("LA")), "1.png": pillow(RGB.convert("1")),
    "p.png": pillow(RGB.quantize(200)), "p4.png": pillow(RGB.quantize(9)), "p2.png": pillow(RGB.quantize(3)),
    "pa.png": pillow(RGBA.quantize(60)),
    "l2bit.png": png(0, 2, np.random.default_rng(0).integers(0, 256, (HEIGHT, 16), np.uint8)),
    "l4bit.png": png(0, 4, np.random.default_rng(0).integers(0, 256, (HEIGHT, 31), np.uint8)),
    "key.png": pillow(RGB, transparency=RGB.getpixel((3, 3))),
    "l16.png": pillow(Image.fromarray(DEEP[..., 0])), "rgb16.png": opencv(DEEP[..., :3]), "rgba16.png": opencv(DEEP),
    "la16.png": png(4, 16, DEEP[..., 2:].astype(">u2").view(np.uint8).reshape(HEIGHT, -1)),
    "rgb.webp": pillow(RGB, lossless=True), "rgba.webp": pillow(RGBA, lossless=True, exact=True),
    "rgb.bmp": pillow(RGB), "l.bmp": pillow(RGB.convert("L")), "1.bmp": pillow(RGB.convert("1")),
    "p.bmp": pillow(RGB.quantize(100)), "rgba.bmp": bmp_with_alpha,
    "rgb16.tif": opencv(DEEP[..., :3]), "rgba16.tif": opencv(DEEP),
    "rgb16raw.tif": opencv(DEEP[..., :3], cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "l16.tif": pillow(Image.fromarray(DEEP[..., 0])), "premultiplied.tif": premultiplied_tiff,
    "tiled.tif": tiled_tiff, "planar.tif": lambda path: tiled_tiff(path, planar=True),
    "predictor.tif": pillow(RGB, compression="tiff_lzw", tiffinfo={317: 2}),
    "strips.tif": pillow(RGB, compression="tiff_lzw", tiffinfo={278: 7}),
}
for _mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
    _image = RGB.quantize(100) if _mode == "P" else RGBA.convert(_mode)
    for _packing in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"):
        LOSSLESS[f"{_mode}-{_packing}.tif"] = pillow(_image, compression=_packing)


def stored(path):
    """What another decoder makes of the file, in its own mode."""
    if "16" in path.name:
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    with Image.open(path) as image:
        return np.asarray(image)


def fill_of(original):
    """Reddish where the hole is."""
    white = np.iinfo(original.rgb.dtype).max
    colour = np.array([0.8, 0.35, 0.25]) * white
    wave = 1 - 0.3 * np.arange(WIDTH)[None, :, None] / WIDTH
    return np.where(HOLE[..., None], colour * wave, original.rgb).astype(original.rgb.dtype)


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_other_pixel_in_its_own_mode(name, tmp_path):
    source, target = tmp_path / name, tmp_path / "out" / name
    LOSSLESS[name](source)
    original = read_image(source)
    assert original.rgb.flags.c_contiguous and original.rgb.flags.writeable  # torch warns of other arrays
    fill = fill_of(original)
    write_image(original, fill, HOLE, target)
    before, after = stored(source), stored(target)
    assert before.dtype == after.dtype and before.shape == after.shape
    if name not in ("p2.png", "p4.png"):  # their few bits become eight
        np.testing.assert_array_equal(before[~HOLE], after[~HOLE])
    again = read_image(target)
    np.testing.assert_array_equal(original.rgb[~HOLE], again.rgb[~HOLE])
    assert (original.alpha is None) == (again.alpha is None)
    if original.alpha is not None:
        np.testing.assert_array_equal(original.alpha, again.alpha)
    if name[0] != "1":
        seen = HOLE if original.alpha is None else HOLE & (original.alpha > np.iinfo(fill.dtype).max // 2)
        wanted, got = fill[seen].astype(float), again.rgb[seen].astype(float)
        if np.ptp(got, axis=1).max() == 0:  # grey
            wanted = (wanted @ [0.299, 0.587, 0.114])[:, None]
        limit = 60 if "bit" in name else 12 if name[0].lower() == "p" else 3
        assert np.abs(wanted - got).mean() / np.iinfo(fill.dtype).max * 255 < limit


@pytest.mark.parametrize("name", [n for n in LOSSLESS if "16" not in n and n not in ("pa.png", "key.png")])
def test_colours_are_as_another_decoder_sees_them(name, tmp_path):
    LOSSLESS[name](tmp_path / name)
    with Image.open(tmp_path / name) as image:
        other = np.asarray(image.convert("RGB"))
    ours = read_image(tmp_path / name)
    visible = slice(None) if ours.alpha is None else ours.alpha > 16  # clear pixels have no certain colour
    np.testing.assert_allclose(ours.rgb[visible].astype(int), other[visible].astype(int),
                               atol=8 if name == "premultiplied.tif" else 0)


@pytest.mark.parametrize("name", ["rgb16.png", "rgba16.png", "rgb16.tif", "rgba16.tif", "l16.png", "la16.png"])
def test_sixteen_bits_are_read_and_written_as_sixteen(name, tmp_path):
    LOSSLESS[name](tmp_path / name)
    original = read_image(tmp_path / name)
    assert original.rgb.dtype == np.uint16
    channels = {"l16.png": [0, 0, 0], "la16.png": [2, 2, 2]}.get(name, [2, 1, 0])  # OpenCV writes B, G, R
    np.testing.assert_array_equal(original.rgb, DEEP[..., channels])
    fill = np.where(HOLE[..., None], np.uint16(40123), original.rgb)
    write_image(original, fill, HOLE, tmp_path / ("out-" + name))
    assert (read_image(tmp_path / ("out-" + name)).rgb[HOLE] == 40123).all()


def test_interlaced_png(tmp_path):
    rows = np.zeros((8, 8, 3), np.uint8)
    rows[:] = np.arange(8)[:, None, None] * 30
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [rows[y::dy, x::dx] for y, x, dy, dx in passes]
    data = b"".join(b"\0" + line.tobytes() for part in parts for line in part)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1)), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks))
    original = read_image(path)
    np.testing.assert_array_equal(original.rgb, rows)
    changed = np.eye(8, dtype=bool)
    write_image(original, np.where(changed[..., None], np.uint8(7), rows), changed, tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").rgb, np.where(changed[..., None], 7, rows))


@pytest.mark.parametrize("name", [n for n in LOSSLESS if n.endswith(".tif")])
def test_tiff_keeps_its_compression(name, tmp_path):
    LOSSLESS[name](tmp_path / name)
    original = read_image(tmp_path / name)
    write_image(original, fill_of(original), HOLE, tmp_path / "out.tif")
    kinds = []
    for path in (tmp_path / name, tmp_path / "out.tif"):
        with path.open("rb") as f, TiffImagePlugin.TiffImageFile(f) as image:
            kinds.append([image.tag_v2.get(tag) for tag in (258, 259, 262, 277, 284, 317, 338)])
    assert kinds[0] == kinds[1]


def test_further_pages_of_a_tiff_are_kept(tmp_path, caplog):
    pages = [RGB, RGB.convert("L"), RGB.transpose(Image.Transpose.ROTATE_90)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    original = read_image(tmp_path / "a.tif")
    assert "only the first is repaired" in caplog.text
    write_image(original, fill_of(original), HOLE, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert image.n_frames == 3
        for number in (1, 2):
            image.seek(number)
            np.testing.assert_array_equal(np.asarray(image), np.asarray(pages[number]))


@pytest.mark.parametrize("mode, packing", [("RGB", "jpeg"), ("L", "jpeg"), ("1", "group4"), ("1", "group3")])
def test_tiff_of_other_codings_becomes_deflated_with_the_same_pixels(mode, packing, tmp_path):
    RGB.convert(mode).save(tmp_path / "a.tif", compression=packing, dpi=(300, 300))
    original = read_image(tmp_path / "a.tif")
    fill = fill_of(original)
    write_image(original, fill, HOLE, tmp_path / "b.tif")
    with Image.open(tmp_path / "a.tif") as a, Image.open(tmp_path / "b.tif") as b:
        assert b.info["dpi"] == (300, 300)
        np.testing.assert_array_equal(np.asarray(a.convert("RGB"))[~HOLE], np.asarray(b.convert("RGB"))[~HOLE])
    again = read_image(tmp_path / "b.tif").rgb
    assert (again == fill).all() or mode != "RGB"


def test_a_float_tiff_is_refused(tmp_path):
    from faceinpaint_cli.errors import InputError

    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="convert to 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_holes_in_the_alpha_become_opaque_on_request(tmp_path):
    for name in ("rgba.png", "la.png", "rgba16.png", "rgba.webp", "rgba.bmp", "pa.png", "key.png", "RGBA-None.tif",
                 "premultiplied.tif"):
        LOSSLESS[name](tmp_path / name)
        original = read_image(tmp_path / name)
        changed = original.alpha < np.iinfo(original.alpha.dtype).max // 2
        assert changed.any()
        fill = np.where(changed[..., None], np.iinfo(original.rgb.dtype).max // 4 * 3, original.rgb)
        fill = fill.astype(original.rgb.dtype)
        write_image(original, fill, changed, tmp_path / ("out-" + name), opaque=True)
        again = read_image(tmp_path / ("out-" + name))
        assert (again.alpha[changed] == np.iinfo(again.alpha.dtype).max).all(), name
        np.testing.assert_array_equal(again.alpha[~changed], original.alpha[~changed])
        assert np.abs(again.rgb[changed].astype(int) - fill[changed]).max() <= 300 or name == "pa.png"


def test_a_fill_of_the_transparent_colour_stays_visible(tmp_path):
    LOSSLESS["key.png"](tmp_path / "key.png")
    original = read_image(tmp_path / "key.png")
    key = RGB.getpixel((3, 3))
    fill = np.where(HOLE[..., None], np.array(key, np.uint8), original.rgb)
    write_image(original, fill, HOLE, tmp_path / "out.png")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").alpha, original.alpha)


def test_what_is_transparent_by_colour_stays_so(tmp_path):
    pixels = np.asarray(RGB).copy()
    pixels[15:25, 25:35] = key = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=key)
    original = read_image(tmp_path / "a.png")
    assert (original.alpha == 0).sum() == 100
    write_image(original, fill_of(original), HOLE, tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").alpha, original.alpha)


def test_tiff_with_zero_for_white(tmp_path):
    RGB.convert("L").save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (page,) = struct.unpack_from("<I", data, 4)
    place = next(p for p in range(page + 2, len(data), 12) if struct.unpack_from("<H", data, p) == (262,))
    data[place + 8] = 0
    (tmp_path / "a.tif").write_bytes(data)
    original = read_image(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(original.rgb, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(original.rgb[..., 0], 255 - np.asarray(RGB.convert("L")))
    fill = np.where(HOLE[..., None], np.uint8(200), original.rgb)
    write_image(original, fill, HOLE, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), fill)


def test_bmp_from_the_top_down(tmp_path):
    RGB.save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[22:26] = struct.pack("<i", -HEIGHT)
    (tmp_path / "a.bmp").write_bytes(data)
    original = read_image(tmp_path / "a.bmp")
    np.testing.assert_array_equal(original.rgb, np.asarray(RGB)[::-1])
    write_image(original, fill_of(original), HOLE, tmp_path / "b.bmp")
    with Image.open(tmp_path / "b.bmp") as image:
        np.testing.assert_array_equal(np.asarray(image), fill_of(original))


@pytest.mark.parametrize("bits", [16, "rle"])
def test_bmp_of_other_codings_keeps_its_pixels(bits, tmp_path):
    if bits == 16:
        rows = (np.arange(HEIGHT * 64, dtype=np.uint16) * 7 % 32768).reshape(HEIGHT, 64)[:, :WIDTH]
        header, body = (WIDTH, HEIGHT, 1, 16, 0), np.pad(rows, ((0, 0), (0, WIDTH % 2))).tobytes()
        palette = b""
    else:
        line = bytes([30, 5, 32, 9, 0, 0])  # 30 pixels of colour 5, 32 of colour 9, end of line
        header, body = (WIDTH, HEIGHT, 1, 8, 1), line * HEIGHT + b"\0\1"
        palette = bytes(range(256)) * 4
    place = 54 + len(palette)
    (tmp_path / "a.bmp").write_bytes(
        struct.pack("<2sIHHI", b"BM", place + len(body), 0, 0, place) + struct.pack("<IiiHHI", 40, *header)
        + struct.pack("<IiiII", len(body), 2835, 2835, 0, 0) + palette + body)
    with Image.open(tmp_path / "a.bmp") as image:
        other = np.asarray(image.convert("RGB"))
    original = read_image(tmp_path / "a.bmp")
    np.testing.assert_array_equal(original.rgb, other)
    write_image(original, fill_of(original), HOLE, tmp_path / "b.bmp")
    with Image.open(tmp_path / "b.bmp") as image:
        np.testing.assert_array_equal(np.asarray(image), fill_of(original))


def test_a_grey_palette_stays_grey(tmp_path):
    grey = RGB.convert("L").quantize(30)
    for name in ("a.png", "a.bmp", "a.tif"):
        grey.save(tmp_path / name)
        original = read_image(tmp_path / name)
        write_image(original, fill_of(original), HOLE, tmp_path / ("out-" + name))
        assert np.ptp(read_image(tmp_path / ("out-" + name)).rgb, axis=2).max() == 0


def test_nothing_changed_means_nothing_changed(tmp_path):
    for name in ("rgb.png", "p.png", "RGB-tiff_lzw.tif", "rgb.bmp", "rgb.webp"):
        LOSSLESS[name](tmp_path / name)
        original = read_image(tmp_path / name)
        write_image(original, np.zeros_like(original.rgb), np.zeros_like(HOLE), tmp_path / ("out-" + name))
        np.testing.assert_array_equal(read_image(tmp_path / ("out-" + name)).rgb, original.rgb)


def test_wrong_arrays_are_refused(tmp_path):
    LOSSLESS["rgb.png"](tmp_path / "a.png")
    original = read_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected"):
        write_image(original, original.rgb.astype(np.uint16), HOLE, tmp_path / "b.png")
    with pytest.raises(ValueError, match="expected"):
        write_image(original, original.rgb, HOLE[:-1], tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
