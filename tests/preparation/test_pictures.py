import io
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from facegan.image import MAX_PIXELS
from facegan.preparation.items import Rejected
from facegan.preparation.pictures import (
    PictureInfo,
    probe_picture,
    read_label_ids,
    read_mask,
    read_photo,
)

HEIGHT, WIDTH = 61, 83


def colour_pixels(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 4 * y, x * y % 251], axis=-1).astype(np.uint8)


RGB = colour_pixels()
GREY = RGB[..., 0].copy()


def encode(pixels, image_format, mode=None, **kwargs):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if mode is not None:
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, image_format, **kwargs)
    return file.getvalue()


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width, height, bits, colour, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def webp_header(width, height):
    """The beginning of a WebP that claims a size and holds nothing."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 0) + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width, height):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def tiff(*tags, pixels=b""):
    """A little-endian TIFF of (tag, type, count, value); pixels stand at byte 8."""
    start = 8 + len(pixels)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", start) + pixels + directory


def tiff_of_size(width, height, *more):
    sizes = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1)]
    return tiff(*sizes, (273, 4, 1, 8), (279, 4, 1, 4), *more, pixels=b"\0\0\0\0")


def jpeg_of_size(width, height):
    data = bytearray(encode(RGB, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def reason_of(read, *args, **kwargs):
    with pytest.raises(Rejected) as caught:
        read(*args, **kwargs)
    assert str(caught.value).startswith("dir/a picture.x "), "the message names the file"
    assert str(caught.value).endswith(".")
    return caught.value.reason


def photo_reason(data, turn_upright=True):
    return reason_of(read_photo, data, "dir/a picture.x", turn_upright=turn_upright)


def photo(data):
    return read_photo(data, "a", turn_upright=True)


EXACT = {
    "png": lambda: encode(RGB, "PNG"),
    "interlaced png": lambda: encode_interlaced(RGB),
    "webp without loss": lambda: encode(RGB, "WEBP", lossless=True),
    "bmp": lambda: encode(RGB, "BMP"),
    "tiff": lambda: encode(RGB, "TIFF"),
    "tiff with lzw": lambda: encode(RGB, "TIFF", compression="tiff_lzw"),
    "tiff with deflate": lambda: encode(RGB, "TIFF", compression="tiff_deflate"),
    "opaque rgba png": lambda: encode(RGB, "PNG", "RGBA"),
    "opaque rgba webp": lambda: encode(RGB, "WEBP", "RGBA", lossless=True),
    "opaque rgba tiff": lambda: encode(RGB, "TIFF", "RGBA"),
    "one animated frame": lambda: png(
        WIDTH, HEIGHT, 8, 2, png_rows(RGB), chunk(b"acTL", struct.pack(">II", 1, 0))
    ),
    "unused transparent colour": lambda: png(
        WIDTH, HEIGHT, 8, 2, png_rows(RGB), chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    ),
    "suggested palette": lambda: png(
        WIDTH, HEIGHT, 8, 2, png_rows(RGB), chunk(b"PLTE", bytes(range(30)))
    ),
}


def png_rows(pixels):
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def encode_interlaced(pixels):
    """Adam7, by hand: no encoder at hand writes it."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    rows = b"".join(
        png_rows(pixels[y::down, x::right]) for y, x, down, right in [*starts, (1, 0, 2, 1)]
    )
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", EXACT)
def test_formats_without_loss_come_back_exactly(kind):
    pixels = photo(EXACT[kind]())
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, RGB)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "JPEG"])
def test_grey_photos_become_rgb(image_format):
    pixels = photo(encode(GREY, image_format))
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.flags.writeable
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    np.testing.assert_allclose(pixels[..., 0], GREY, atol=0 if image_format != "JPEG" else 60)


JPEGS = {
    "plain": {},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0, "quality": 95},
    "half colour": {"subsampling": 1},
    "restarts": {"restart_marker_rows": 1},
    "channels are rgb": {"keep_rgb": True},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_decodes_as_pillow_does(kind):
    data = encode(RGB, "JPEG", **JPEGS[kind])
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(photo(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("flat", [0, 127, 128, 129, 255])
@pytest.mark.parametrize("progressive", [False, True])
def test_flat_jpegs_are_not_taken_for_truncated_ones(flat, progressive):
    data = encode(np.full((70, 50, 3), flat, np.uint8), "JPEG", progressive=progressive)
    np.testing.assert_allclose(photo(data), flat, atol=1)


def test_what_is_not_about_pixels_is_passed_over():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (2 << 20), zip=True)  # more than Pillow unpacks
    data = encode(RGB, "PNG", pnginfo=text, icc_profile=b"no profile", dpi=(72, 72))
    np.testing.assert_array_equal(photo(data), RGB)
    plain = encode(RGB, "JPEG")
    full = encode(RGB, "JPEG", exif=b"Exif\0\0junk" * 9, icc_profile=b"junk" * 9, comment=b"c")
    np.testing.assert_array_equal(photo(full), photo(plain))
    np.testing.assert_array_equal(photo(plain + b"trailing bytes"), photo(plain))
    multi = encode(RGB, "MPO", save_all=True, append_images=[Image.fromarray(GREY)])
    np.testing.assert_array_equal(photo(multi), photo(plain))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_turned_back_or_refused(image_format, orientation):
    kwargs = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(RGB, image_format, exif=with_orientation(orientation), **kwargs)
    with Image.open(io.BytesIO(encode(RGB, image_format, **kwargs))) as image:
        image.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(photo(data), expected)
    info = probe_picture(data, "a")
    assert (info.width, info.height, info.orientation) == (WIDTH, HEIGHT, orientation)
    if orientation == 1:
        np.testing.assert_array_equal(read_photo(data, "a", turn_upright=False), expected)
    else:
        assert photo_reason(data, turn_upright=False) == "rotated"


@pytest.mark.parametrize(
    "exif", [b"", b"junk", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff"]
)
def test_junk_for_exif_means_upright(exif):
    data = encode(RGB, "JPEG", exif=b"Exif\0\0" + exif)
    assert probe_picture(data, "a").orientation == 1
    np.testing.assert_array_equal(
        read_photo(data, "a", turn_upright=False), photo(encode(RGB, "JPEG"))
    )


def test_an_orientation_that_is_none_means_upright():
    for value in (0, 9, 77):
        data = encode(RGB, "JPEG", exif=with_orientation(value))
        assert probe_picture(data, "a").orientation == 1


def animation(image_format, **kwargs):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    return encode(frames[0], image_format, save_all=True, append_images=frames[1:], **kwargs)


WRONG_MODES = {
    "palette png": lambda: encode(RGB, "PNG", "P"),
    "palette png with a transparent colour": lambda: encode(
        Image.fromarray(RGB).convert("P"), "PNG", transparency=0
    ),
    "palette bmp": lambda: encode(RGB, "BMP", "P"),
    "palette tiff": lambda: encode(RGB, "TIFF", "P"),
    "1-bit png": lambda: encode(GREY, "PNG", "1"),
    "1-bit bmp": lambda: encode(GREY, "BMP", "1"),
    "1-bit tiff": lambda: encode(GREY, "TIFF", "1"),
    "2-bit png": lambda: png(4, 1, 2, 0, b"\0\x1b"),
    "4-bit png": lambda: png(2, 1, 4, 0, b"\0\x1b"),
    "16-bit grey png": lambda: encode(GREY.astype(np.uint16) * 257, "PNG"),
    "16-bit rgb png": lambda: png(1, 1, 16, 2, b"\0" + bytes(6)),
    "16-bit rgba png": lambda: png(1, 1, 16, 6, b"\0" + bytes(8)),
    "16-bit tiff": lambda: encode(GREY.astype(np.uint16) * 257, "TIFF"),
    "16-bit bmp": lambda: (
        b"BM"
        + struct.pack("<IHHI", 58, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
        + bytes(4)
    ),
    "32-bit tiff": lambda: encode(GREY.astype(np.int32), "TIFF"),
    "float tiff": lambda: encode(GREY.astype(np.float32), "TIFF"),
    "cmyk jpeg": lambda: encode(RGB, "JPEG", "CMYK"),
    "cmyk tiff": lambda: encode(RGB, "TIFF", "CMYK"),
    "lab tiff": lambda: encode(Image.new("LAB", (4, 4)), "TIFF"),
    "12-bit jpeg": lambda: encode(RGB, "JPEG").replace(
        b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"
    ),
    "arithmetic jpeg": lambda: encode(RGB, "JPEG").replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"),
    "animated png": lambda: animation("PNG"),
    "animated webp": lambda: animation("WEBP"),
    "tiff of several pages": lambda: animation("TIFF"),
    "transparent png": lambda: encode(np.dstack([RGB, GREY]), "PNG"),
    "transparent grey png": lambda: encode(np.dstack([GREY, GREY]), "PNG"),
    "transparent webp": lambda: encode(np.dstack([RGB, GREY]), "WEBP", lossless=True),
    "transparent webp with loss": lambda: encode(np.dstack([RGB, GREY]), "WEBP"),
    "transparent tiff": lambda: encode(np.dstack([RGB, GREY]), "TIFF"),
    "transparent colour": lambda: encode(RGB, "PNG", transparency=tuple(RGB[3, 5].tolist())),
    "transparent grey": lambda: encode(GREY, "PNG", transparency=int(GREY[3, 5])),
}


@pytest.mark.parametrize("kind", WRONG_MODES)
def test_photos_in_other_modes_are_refused(kind):
    assert photo_reason(WRONG_MODES[kind]()) == "wrong_mode"


def test_refusing_a_palette_says_what_to_do():
    with pytest.raises(Rejected, match="is a palette picture.*convert it to RGB first"):
        photo(encode(RGB, "PNG", "P"))


OTHERS = {
    "empty": (b"", "empty"),
    "text": (b"<!DOCTYPE html><html>", "not_a_picture"),
    "zeros": (bytes(1000), "not_a_picture"),
    "one byte": (b"\xff", "not_a_picture"),
    "gif": (encode(RGB, "GIF"), "wrong_format"),
    "animated gif": (animation("GIF"), "wrong_format"),
    "ppm": (encode(RGB, "PPM"), "wrong_format"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "wrong_format"),
    "heif": (b"\0\0\0\x18ftypheic" + bytes(99), "wrong_format"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "wrong_format"),
    "zero wide png": (png(0, 5, 8, 2, b""), "damaged"),
    "zero high jpeg": (jpeg_of_size(5, 0), "damaged"),
    "png with another size than its rows": (png(9, 9, 8, 2, png_rows(RGB[:4, :9])), "damaged"),
    "png of bits that are none": (png(9, 9, 7, 2, b""), "damaged"),
    "png with a chunk that nobody knows": (
        png(WIDTH, HEIGHT, 8, 2, png_rows(RGB), chunk(b"ABCD", b"")),
        "damaged",
    ),
    "png with two headers": (
        png(4, 4, 8, 2, png_rows(RGB[:4, :4]), chunk(b"IHDR", b"\0\0#(\0\0#(\x08\2\0\0\0")),
        "damaged",
    ),
    "jpeg without a picture": (b"\xff\xd8\xff\xd9", "damaged"),
    "jpeg with junk between its parts": (b"\xff\xd8\xff\xe0\0\4..junk", "damaged"),
    "webp of no kind": (b"RIFF\x0c\0\0\0WEBPVP9 " + bytes(40), "damaged"),
    "tile larger than any picture": (
        tiff_of_size(2, 2, (322, 4, 1, 1 << 16), (323, 4, 1, 1 << 16)),
        "damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_picture_is_refused_with_its_reason(kind):
    data, reason = OTHERS[kind]
    assert photo_reason(data) == reason


SIDE = 30_000
BOMBS = {
    "png": png(SIDE, SIDE, 8, 2, bytes(100_000)),
    "1-bit png": png(SIDE, SIDE, 1, 0, bytes(100_000)),
    "header of a png": png(SIDE, SIDE, 8, 2, b"")[:40],
    "jpeg": jpeg_of_size(SIDE, SIDE),
    "webp": webp_header(16_384, 16_384),
    "bmp": bmp_header(SIDE, SIDE),
    "upside-down bmp": bmp_header(SIDE, -SIDE),
    "tiff": tiff_of_size(SIDE, SIDE),
    "barely too large": bmp_header(MAX_PIXELS // 64 + 1, 64),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_before_anything_is_allocated(kind):
    tracemalloc.start()
    try:
        assert photo_reason(BOMBS[kind]) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    if kind != "webp":
        info = probe_picture(BOMBS[kind], "a")
        assert info.width * info.height > MAX_PIXELS


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_bombs_do_not_reach_native_memory(kind):
    # tracemalloc does not see what decoders allocate.
    code = (
        "import resource, sys; from facegan.preparation import pictures\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data = sys.stdin.buffer.read(); before = peak()\n"
        "try: pictures.read_photo(data, 'a', turn_upright=True)\n"
        "except pictures.Rejected as error: print(error.reason, (peak() - before) >> 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=BOMBS[kind], capture_output=True)
    reason, grown_mib = done.stdout.split()
    assert reason == b"too_large" and int(grown_mib) < 8


CUTTABLE = {
    "jpeg": lambda: encode(RGB, "JPEG"),
    "progressive jpeg": lambda: encode(RGB, "JPEG", progressive=True),
    "jpeg with restarts": lambda: encode(RGB, "JPEG", restart_marker_rows=1),
    "jpeg with a thumbnail": lambda: encode(
        RGB, "JPEG", exif=b"Exif\0\0" + encode(RGB[:9, :9], "JPEG")
    ),
    "png": lambda: encode(RGB, "PNG"),
    "webp": lambda: encode(RGB, "WEBP"),
    "webp without loss": lambda: encode(RGB, "WEBP", lossless=True),
    "bmp": lambda: encode(RGB[:, :80], "BMP"),
    "tiff": lambda: encode(RGB, "TIFF"),
    "tiff with lzw": lambda: encode(RGB, "TIFF", compression="tiff_lzw"),
    "tiff with deflate": lambda: encode(RGB, "TIFF", compression="tiff_deflate"),
}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("kind", CUTTABLE)
def test_truncated_pictures_are_refused(kind, share):
    data = CUTTABLE[kind]()
    assert photo_reason(data[: min(int(len(data) * share), len(data) - 1)]) == "truncated"


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_cut_jpeg_that_was_closed_again_is_refused(kind, share):
    pixels = np.random.default_rng(3).integers(0, 256, (150, 170, 3), np.uint8)
    data = encode(pixels, "JPEG", **JPEGS[kind])
    cut = data[: int(len(data) * share)].rstrip(b"\xff") + b"\xff\xd9"
    assert photo_reason(cut) == "truncated"


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data = encode(RGB, "JPEG", progressive=True)
    places = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    for place in places[1:]:
        cut = data[:place]
        # Tables of the scan that is gone may stand before it.
        while (table := cut.rfind(b"\xff\xc4")) > cut.rfind(b"\xff\xda"):
            cut = cut[:table]
        assert photo_reason(cut + b"\xff\xd9") == "truncated"


def test_a_png_whose_data_ends_early_is_refused():
    rows = png_rows(RGB)
    assert photo_reason(png(WIDTH, HEIGHT, 8, 2, rows[: len(rows) // 2])) == "damaged"
    assert photo_reason(png(WIDTH, HEIGHT, 8, 2, rows[:-1])) == "damaged"


@pytest.mark.parametrize("place", [23, 45, -30, -14])
def test_every_flipped_bit_of_a_png_is_seen(place):
    data = bytearray(encode(RGB, "PNG"))
    data[place] ^= 4
    assert photo_reason(bytes(data)) in ("damaged", "truncated", "wrong_mode")


FLIPPED = {
    "jpeg": lambda: encode(RGB, "JPEG"),
    "progressive jpeg": lambda: encode(RGB, "JPEG", progressive=True),
    "png": lambda: encode(RGB, "PNG"),
    "webp": lambda: encode(RGB, "WEBP"),
    "bmp": lambda: encode(RGB, "BMP"),
    "tiff": lambda: encode(RGB, "TIFF", exif=with_orientation(6)),
    "tiff with lzw": lambda: encode(RGB, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", FLIPPED)
@pytest.mark.parametrize("where", ["anywhere", "header"])
def test_damage_decodes_or_is_refused(kind, where):
    data = FLIPPED[kind]()
    rng = np.random.default_rng(len(kind))
    refused = 0
    for _ in range(40):
        damaged = bytearray(data)
        reach = len(data) if where == "anywhere" else min(200, len(data))
        for place in rng.integers(2, reach, rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        if where == "header" and "tiff" in kind:
            start = struct.unpack_from("<I", data, 4)[0]
            damaged[start + rng.integers(0, len(data) - start)] = rng.integers(256)
        for read in (photo, lambda d: read_mask(d, "a"), lambda d: read_label_ids(d, "a")):
            try:
                pixels = read(bytes(damaged))
            except Rejected:
                refused += 1
            else:
                assert pixels.size
                if kind == "png":
                    np.testing.assert_array_equal(pixels, RGB)
    assert refused


def test_random_bytes_behind_each_signature_are_refused():
    rng = np.random.default_rng(5)
    signatures = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x99\0\0\0WEBP",
        b"BM",
        b"II*\0",
        b"MM\0+",
    ]
    for signature in signatures:
        for length in (0, 1, 5, 20, 50, 300):
            with pytest.raises(Rejected):
                photo(signature + rng.bytes(length))


@pytest.mark.parametrize(
    "data, expected",
    [
        (encode(RGB, "JPEG"), PictureInfo("JPEG", "RGB", 8, WIDTH, HEIGHT)),
        (encode(RGB, "JPEG", "CMYK"), PictureInfo("JPEG", "CMYK", 8, WIDTH, HEIGHT)),
        (encode(RGB, "PNG", "P"), PictureInfo("PNG", "P", 8, WIDTH, HEIGHT)),
        (encode(GREY, "PNG", "1"), PictureInfo("PNG", "1", 1, WIDTH, HEIGHT)),
        (encode(RGB, "PNG", "RGBA"), PictureInfo("PNG", "RGBA", 8, WIDTH, HEIGHT)),
        (png(3, 2, 16, 2, b""), PictureInfo("PNG", "RGB", 16, 3, 2)),
        (encode(RGB, "WEBP"), PictureInfo("WebP", "RGB", 8, WIDTH, HEIGHT)),
        (encode(RGB, "WEBP", lossless=True), PictureInfo("WebP", "RGB", 8, WIDTH, HEIGHT)),
        (animation("WEBP"), PictureInfo("WebP", "RGB", 8, WIDTH, HEIGHT, animated=True)),
        (encode(GREY, "BMP"), PictureInfo("BMP", "L", 8, WIDTH, HEIGHT)),
        (encode(RGB, "TIFF"), PictureInfo("TIFF", "RGB", 8, WIDTH, HEIGHT)),
        (webp_header(300, 70_000), PictureInfo("WebP", "RGB", 8, 300, 70_000)),
    ],
)
def test_headers_are_read(data, expected):
    assert probe_picture(data, "a") == expected


MASK = (GREY // 64 % 2).astype(bool)
MASK_PIXELS = np.where(MASK, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    "image_format, mode",
    [("PNG", mode) for mode in ("1", "L", "RGB", "RGBA", "LA")]
    + [("BMP", mode) for mode in ("1", "L", "RGB", "RGBA")],
)
def test_masks_come_back_exactly(image_format, mode):
    mask = read_mask(encode(MASK_PIXELS, image_format, mode), "a")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, MASK)


def test_masks_of_one_colour():
    assert not read_mask(encode(np.zeros((4, 5), np.uint8), "PNG"), "a").any()
    assert read_mask(encode(np.full((4, 5, 3), 255, np.uint8), "PNG"), "a").all()


COLOURED = np.dstack([MASK_PIXELS, MASK_PIXELS, MASK_PIXELS])
COLOURED[2, 3] = 255, 255, 0
ALMOST = MASK_PIXELS.copy()
ALMOST[7, 1] = 254


@pytest.mark.parametrize(
    "data, reason",
    [
        (encode(MASK_PIXELS, "PNG", "P"), "wrong_mode"),
        (encode(MASK_PIXELS.astype(np.uint16) * 257, "PNG"), "wrong_mode"),
        (png(4, 1, 2, 0, b"\0\xc3"), "wrong_mode"),
        (encode(np.dstack([COLOURED, MASK_PIXELS]), "PNG"), "wrong_mode"),
        (animation("PNG"), "wrong_mode"),
        (encode(MASK_PIXELS, "JPEG"), "wrong_format"),
        (encode(MASK_PIXELS, "WEBP"), "wrong_format"),
        (encode(MASK_PIXELS, "PNG", exif=with_orientation(3)), "rotated"),
        (encode(ALMOST, "PNG"), "not_binary"),
        (encode(COLOURED, "PNG"), "not_binary"),
        (encode(MASK_PIXELS, "PNG")[:-30], "truncated"),
        (BOMBS["1-bit png"], "too_large"),
        (b"", "empty"),
    ],
)
def test_other_masks_are_refused(data, reason):
    assert reason_of(read_mask, data, "dir/a picture.x") == reason


@pytest.mark.parametrize("value", [1, 7, 254])
def test_masks_may_be_of_any_one_value(value):
    np.testing.assert_array_equal(read_mask(encode(MASK_PIXELS // 255 * value, "PNG"), "a"), MASK)


def test_a_second_colour_in_a_mask_is_told():
    with pytest.raises(Rejected, match=r"it holds \[255\] and, first at x=1, y=7, \[254\]"):
        read_mask(encode(ALMOST, "PNG"), "a")
    with pytest.raises(Rejected, match=r"first at x=3, y=2, \[255, 255, 0\]"):
        read_mask(encode(COLOURED, "PNG"), "a")


@pytest.mark.parametrize("image_format", ["PNG", "BMP"])
def test_label_ids_come_back_exactly(image_format):
    ids = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256).astype(np.uint8)
    out = read_label_ids(encode(ids, image_format), "a")
    assert out.dtype == np.uint8 and out.flags.writeable
    np.testing.assert_array_equal(out, ids)


@pytest.mark.parametrize(
    "data, reason",
    [
        (encode(RGB, "PNG", "P"), "wrong_mode"),
        (encode(RGB, "PNG"), "wrong_mode"),
        (encode(RGB, "PNG", "RGBA"), "wrong_mode"),
        (encode(GREY, "PNG", "1"), "wrong_mode"),
        (encode(GREY, "PNG", "LA"), "wrong_mode"),
        (encode(GREY, "PNG", transparency=3), "wrong_mode"),
        (png(2, 1, 4, 0, b"\0\x1b"), "wrong_mode"),
        (encode(GREY.astype(np.uint16), "PNG"), "wrong_mode"),
        (encode(GREY, "JPEG"), "wrong_format"),
        (encode(GREY, "PNG", exif=with_orientation(6)), "rotated"),
        (encode(GREY, "PNG")[:-5], "truncated"),
    ],
)
def test_other_label_maps_are_refused(data, reason):
    assert reason_of(read_label_ids, data, "dir/a picture.x") == reason


def test_coloured_labels_get_advice():
    for data in (encode(RGB, "PNG", "P"), encode(RGB, "PNG")):
        with pytest.raises(Rejected, match="by a named palette first"):
            read_label_ids(data, "a")


def test_names_of_any_bytes_can_be_told():
    with pytest.raises(Rejected, match=r"caf\\xe9 is empty"):
        read_photo(b"", b"caf\xe9".decode("utf-8", "surrogateescape"), turn_upright=True)


def test_importing_is_light():
    code = (
        "import sys, facegan.preparation.pictures, facegan.preparation.sources; "
        "heavy = {'tensorflow', 'keras', 'etils', 'fsspec', 'dlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_real_photo(media_dir):
    for path in sorted((media_dir / "celebamask_hq_sample").glob("*.jpg")):
        data = path.read_bytes()
        with Image.open(path) as image:
            np.testing.assert_array_equal(
                read_photo(data, path.name, turn_upright=False), np.asarray(image.convert("RGB"))
            )
        assert photo_reason(data[: len(data) // 2]) == "truncated"
