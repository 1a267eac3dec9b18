import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from facegan.preparation import pictures
from facegan.preparation.items import Rejected

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(0, 256, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)


def _bytes(image, kind, **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width, height, bits, colour, rows=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _rotated(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _bytes(PHOTO, "JPEG", exif=exif, quality=95)


def _reason(call, *args, **kwargs):
    with pytest.raises(Rejected, match="x.png") as caught:
        call(*args, **kwargs)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_photos_come_back_exactly(kind):
    read = pictures.read_photo(_bytes(PHOTO, kind), "x.png", turn_upright=False)
    np.testing.assert_array_equal(read, PHOTO)
    assert read.dtype == np.uint8


def test_grey_and_opaque_pictures_are_photos():
    grey = pictures.read_photo(_bytes(PHOTO[..., 0], "PNG"), "x.png", turn_upright=False)
    np.testing.assert_array_equal(grey, np.repeat(PHOTO[..., :1], 3, axis=2))
    opaque = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    read = pictures.read_photo(_bytes(opaque, "PNG"), "x.png", turn_upright=False)
    np.testing.assert_array_equal(read, PHOTO)


def test_the_header_is_told():
    info = pictures.probe_picture(_rotated(6), "x.png")
    assert (info.format, info.mode, info.bits) == ("JPEG", "RGB", 8)
    assert (info.width, info.height, info.orientation) == (64, 48, 6)


BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is no picture" * 50, "not_a_picture"),
    "gif": (_bytes(PHOTO, "GIF"), "wrong_format"),
    "palette": (_bytes(Image.fromarray(PHOTO).quantize(8), "PNG"), "wrong_mode"),
    "one bit": (_bytes(Image.fromarray(PHOTO).convert("1"), "PNG"), "wrong_mode"),
    "16 bit grey": (_bytes(PHOTO[..., 0].astype(np.uint16) * 257, "PNG"), "wrong_mode"),
    "16 bit rgb": (_png(2, 2, 16, 2, (b"\0" + bytes(12)) * 2), "wrong_mode"),
    "float": (_bytes(Image.fromarray(PHOTO[..., 0].astype(np.float32)), "TIFF"), "wrong_mode"),
    "cmyk": (_bytes(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"), "wrong_mode"),
    "transparent": (_bytes(np.dstack([PHOTO, PHOTO[..., 0]]), "PNG"), "wrong_mode"),
    "animation": (
        _bytes(PHOTO, "PNG", save_all=True, append_images=[Image.fromarray(PHOTO[::-1])]),
        "wrong_mode",
    ),
    "rotated": (_rotated(6), "rotated"),
    "bomb": (_png(30_000, 30_000, 8, 2), "too_large"),
    "large": (_png(9_000, 9_000, 8, 2), "too_large"),
}


@pytest.mark.parametrize("what", BAD)
def test_anything_else_is_rejected_with_its_reason(what):
    data, reason = BAD[what]
    assert _reason(pictures.read_photo, data, "x.png", turn_upright=False) == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99, -1])
def test_a_picture_that_is_cut_off_is_never_half_read(kind, share):
    data = _bytes(PHOTO, kind)
    data = data[: share if share < 0 else int(len(data) * share)]
    reason = _reason(pictures.read_photo, data, "x.png", turn_upright=False)
    assert reason in ("truncated", "damaged", "not_a_picture")


def test_a_bomb_is_not_decoded():
    import tracemalloc

    data = _png(30_000, 30_000, 8, 2, bytes(1_000_000))
    tracemalloc.start()
    assert _reason(pictures.probe_picture, data, "x.png") == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_rotated_photos_are_turned_upright_on_demand():
    upright = pictures.read_photo(_rotated(1), "x.png", turn_upright=False)
    turned = pictures.read_photo(_rotated(6), "x.png", turn_upright=True)
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_bytes_are_read_or_rejected_and_nothing_else(kind):
    whole = _bytes(PHOTO, kind)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] ^= 1 << rng.integers(8)
        try:
            read = pictures.read_photo(bytes(data), "x.png", turn_upright=False)
            assert read.ndim == 3 and read.dtype == np.uint8
        except Rejected as error:
            assert error.reason and "x.png" in str(error)


MASK = PHOTO[..., 0] > 127


@pytest.mark.parametrize(
    "image",
    [
        MASK.astype(np.uint8) * 255,
        MASK.astype(np.uint8),
        np.repeat(MASK[..., None] * np.uint8(255), 3, axis=2),
        Image.fromarray(MASK),
    ],
    ids=["grey", "grey of ones", "rgb", "one bit"],
)
def test_masks_are_whatever_is_not_black(image):
    np.testing.assert_array_equal(pictures.read_mask(_bytes(image, "PNG"), "x.png"), MASK)


def test_masks_of_other_kinds_are_rejected():
    for what in ("palette", "16 bit grey", "cmyk", "16 bit rgb"):
        assert _reason(pictures.read_mask, BAD[what][0], "x.png") == "wrong_mode"


def test_label_maps_are_ids_in_grey():
    ids = PHOTO[..., 0] % 19
    np.testing.assert_array_equal(pictures.read_label_ids(_bytes(ids, "PNG"), "x.png"), ids)
    for data in (_bytes(PHOTO, "PNG"), BAD["palette"][0], _bytes(ids, "JPEG")):
        with pytest.raises(Rejected, match="named palette"):
            pictures.read_label_ids(data, "x.png")
