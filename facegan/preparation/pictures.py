"""Strict reading of picture bytes: what is read is exactly what was stored, or nothing.

The header is read first, by this module, before any decoder sees the picture or allocates for it.
JPEG and PNG are then cut down to what their pixels need: text, thumbnails, colour profiles and
camera data never reach a decoder. Decoders fill the missing end of a picture with grey and say
nothing; here each format is checked to be whole.

Colour profiles are ignored, as they are by every tool that trains on such pictures.
"""

import contextlib
import dataclasses
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from facegan.image import MAX_PIXELS
from facegan.preparation.file_names import show_name
from facegan.preparation.items import Rejected

# How other pictures begin, so that they can be called by their names.
_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xffO\xffQ", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (4, b"ftyp", "HEIF, AVIF or a video"),
    (0, b"8BPS", "Photoshop"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"%!PS", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    *((0, f"P{number}{space}".encode(), "PNM") for number in range(1, 8) for space in "\n\r\t "),
)
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PHOTO_MODES = ("L", "LA", "RGB", "RGBA")
_FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF")
# What stores exact values, and only that: JPEG and most WebP do not.
_EXACT_FORMATS = ("PNG", "BMP")

_ORIENTATION_TAG = 0x0112


@dataclasses.dataclass(frozen=True, slots=True)
class PictureInfo:
    """What a picture's header says.

    Attributes:
        format: "JPEG", "PNG", "WebP", "BMP" or "TIFF".
        mode: "1", "L", "P", "RGB", "CMYK" and so on, as Pillow calls them; with "A" if some pixels
            may be transparent.
        bits: Bits of one channel.
        width: As stored, before it is turned upright.
        height: As stored.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        animated: Whether the file holds several pictures.
    """

    format: str
    mode: str
    bits: int
    width: int
    height: int
    orientation: int = 1
    animated: bool = False


def probe_picture(data: bytes, name: str) -> PictureInfo:
    """Reads a picture's header and nothing else.

    Args:
        data: The content of the file.
        name: How messages call it.

    Raises:
        Rejected: "empty", "not_a_picture", "wrong_format", "truncated" or "damaged".
    """
    return _open(data, name).info


def read_photo(data: bytes, name: str, *, turn_upright: bool) -> np.ndarray:
    """Decodes a photograph.

    Args:
        data: JPEG, PNG, WebP, BMP or TIFF of 8 bits a channel, grey or RGB; it may have an alpha
            channel if every pixel is opaque.
        name: How messages call it.
        turn_upright: Whether a picture that its EXIF orientation calls turned is turned back;
            otherwise it is refused.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        Rejected: As ``probe_picture``, or "too_large", "wrong_mode" or "rotated".
    """
    picture = _open_checked(data, name, _FORMATS, turn_upright=turn_upright)
    info = picture.info
    if info.mode not in _PHOTO_MODES or info.bits != 8:
        raise _wrong_mode(info, name, "photographs are 8-bit RGB or grey; convert it to RGB first")
    pixels = _drop_alpha(_decode(picture, name), name)
    if not picture.turns_itself:
        pixels = _turn(pixels, info.orientation)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return np.ascontiguousarray(pixels)


def read_mask(data: bytes, name: str) -> np.ndarray:
    """Decodes a mask: black, and one other colour for what belongs to it.

    Args:
        data: PNG or BMP, 1-bit or 8-bit grey or RGB.
        name: How messages call it.

    Returns:
        [H, W] bool, False where it is black.

    Raises:
        Rejected: As ``read_photo``, or "not_binary" if there are two colours besides black.
    """
    picture = _open_checked(data, name, _EXACT_FORMATS)
    info = picture.info
    if (info.mode, info.bits) != ("1", 1) and (info.mode not in _PHOTO_MODES or info.bits != 8):
        raise _wrong_mode(
            info, name, "masks are 1-bit, or 8-bit grey or RGB; convert it to grey first"
        )
    pixels = _drop_alpha(_decode(picture, name), name)
    mask = (pixels != 0).any(axis=-1)
    if mask.any():
        colour = pixels.reshape(-1, pixels.shape[-1])[mask.argmax()]
        other = mask & (pixels != colour).any(axis=-1)
        if other.any():
            y, x = np.argwhere(other)[0]
            raise Rejected(
                "not_binary",
                f"{show_name(name)} is no mask: besides black it holds {colour.tolist()} and, "
                f"first at x={x}, y={y}, {pixels[y, x].tolist()}. Masks hold one colour besides "
                "black.",
            )
    return mask


def read_label_ids(data: bytes, name: str) -> np.ndarray:
    """Decodes a label map whose pixels are ids.

    Args:
        data: PNG or BMP, 8-bit grey.
        name: How messages call it.

    Returns:
        [H, W] uint8.

    Raises:
        Rejected: As ``read_photo``; pictures that show labels as colours are a "wrong_mode".
    """
    picture = _open_checked(data, name, _EXACT_FORMATS)
    info = picture.info
    if info.mode != "L" or info.bits != 8:
        colours = info.mode in ("P", "PA", "RGB", "RGBA")
        raise _wrong_mode(
            info,
            name,
            "label maps are 8-bit grey, each value an id"
            + ("; colours have to be turned into ids by a named palette first" if colours else ""),
        )
    return np.ascontiguousarray(_decode(picture, name)[..., 0])


class _Broken(Exception):
    """A picture cannot be read, for the reason in its first argument."""


class _Picture(Protocol):
    info: PictureInfo
    # Whether pixels come out upright already.
    turns_itself: bool

    def decode(self) -> np.ndarray:
        """Pixels [H, W, C] uint8 with the channels of ``info.mode``; 1-bit ones are 0 and 255."""


def _open(data: bytes, name: str) -> _Picture:
    shown = show_name(name)
    if not data:
        raise Rejected("empty", f"{shown} is empty; copy or download it again.")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _Jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _Png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _WebP(data)
        if data.startswith(b"BM"):
            return _Bmp(data)
        if data.startswith(_TIFF_SIGNATURES):
            return _Tiff(data)
    except (_Broken, struct.error, IndexError, OverflowError) as error:
        raise _broken(error, name) from error
    for offset, magic, other in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise Rejected(
                "wrong_format", f"{shown} is {other}; convert it to one of {', '.join(_FORMATS)}."
            )
    raise Rejected("not_a_picture", f"{shown} is no picture; it begins with {data[:8]!r}.")


def _open_checked(
    data: bytes, name: str, formats: tuple[str, ...], turn_upright: bool = False
) -> _Picture:
    picture = _open(data, name)
    info, shown = picture.info, show_name(name)
    if info.format not in formats:
        raise Rejected(
            "wrong_format",
            f"{shown} is {info.format}, which does not keep exact values; {' or '.join(formats)} "
            "is needed.",
        )
    if info.width * info.height > MAX_PIXELS:
        raise Rejected(
            "too_large",
            f"{shown} has {info.width}x{info.height} pixels; at most "
            f"{MAX_PIXELS // 1_000_000} megapixels are read.",
        )
    if not info.width or not info.height:
        raise _broken(_Broken("damaged"), name)
    if info.animated:
        raise Rejected("wrong_mode", f"{shown} holds several pictures; save one of them alone.")
    if info.orientation != 1 and not turn_upright:
        raise Rejected(
            "rotated",
            f"{shown} is stored turned (EXIF orientation {info.orientation}); save it upright.",
        )
    return picture


def _decode(picture: _Picture, name: str) -> np.ndarray:
    try:
        pixels = picture.decode()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damaged data
        raise _broken(error, name) from error
    info = picture.info
    height, width = info.height, info.width
    if picture.turns_itself and info.orientation >= 5:
        height, width = width, height
    if pixels.shape[:2] != (height, width) or pixels.dtype != np.uint8:
        raise _broken(_Broken("damaged"), name)
    return pixels


def _broken(error: Exception, name: str) -> Rejected:
    # A header that ends too early shows as an unpacking beyond the end.
    if isinstance(error, struct.error | IndexError | OverflowError) or "truncated" in str(error):
        return Rejected("truncated", f"{show_name(name)} is cut off; copy or download it again.")
    detail = "" if isinstance(error, _Broken) else f" ({error or type(error).__name__})"
    return Rejected(
        "damaged",
        f"{show_name(name)} is damaged or stored in an unknown way{detail}; copy or download it "
        "again.",
    )


def _wrong_mode(info: PictureInfo, name: str, allowed: str) -> Rejected:
    kind = {"1": "1-bit", "P": "palette", "L": "grey", "LA": "grey with alpha"}.get(info.mode)
    bits = f"{info.bits}-bit " if info.bits != 8 and info.mode != "1" else ""
    return Rejected(
        "wrong_mode", f"{show_name(name)} is a {bits}{kind or info.mode} picture; {allowed}."
    )


def _drop_alpha(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.shape[-1] in (1, 3):
        return pixels
    transparent = np.count_nonzero(pixels[..., -1] != 255)
    if transparent:
        raise Rejected(
            "wrong_mode",
            f"{show_name(name)} has {transparent} transparent pixels; put it on a background "
            "first.",
        )
    return pixels[..., :-1]


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns pixels [H, W, C] upright, given their EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _find_orientation(exif: bytes) -> int:
    """The orientation that EXIF data gives; 1 where it gives none or is broken."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}4xI", exif)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * number)
            if tag == _ORIENTATION_TAG:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


@contextlib.contextmanager
def _opened(plugin: type[ImageFile.ImageFile], data: bytes) -> Iterator[ImageFile.ImageFile]:
    """A picture in one of Pillow's decoders, whose errors become ours.

    Not through ``Image.open``, which would try other formats, too, and refuse or warn of sizes by
    limits of its own.
    """
    try:
        with plugin(io.BytesIO(data)) as image:
            yield image
    except (MemoryError, _Broken):
        raise
    except Exception as error:  # anything can come of damaged data
        raise _Broken("truncated" if "truncated" in str(error).lower() else "damaged") from error


def _pixels_of(image: Image.Image) -> np.ndarray:
    """[H, W, C] uint8 of an image that has 8 bits a channel, or one bit."""
    pixels = np.array(image.convert("L") if image.mode == "1" else image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _decode_with(plugin: type[ImageFile.ImageFile], data: bytes) -> np.ndarray:
    with _opened(plugin, data) as image:
        return _pixels_of(image)


class _Jpeg:
    """JPEG, sequential or progressive."""

    turns_itself = False

    _FRAMES = (0xC0, 0xC1, 0xC2)
    _OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
    _PROGRESSIVE = 0xC2
    _SCAN, _END, _COMMENT, _ADOBE = 0xDA, 0xD9, 0xFE, 0xEE
    _MODES = {1: "L", 3: "RGB", 4: "CMYK"}
    # In the data of a scan a marker is what neither stands for a 255 nor for a restart.
    _MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
    # Any bytes but 255, and no pattern in them.
    _NOISE = bytes((73 * i + 41) % 255 for i in range(512))

    def __init__(self, data: bytes) -> None:
        self._data = data
        orientation, frame = 1, None
        for marker, start, end in self._segments():
            if marker == self._SCAN:
                break
            body = data[start + 4 : end]
            if marker == 0xE1 and body.startswith(b"Exif\0\0") and orientation == 1:
                orientation = _find_orientation(body[6:])
            elif marker in self._FRAMES + self._OTHER_FRAMES:
                frame = marker, struct.unpack_from(">BHHB", body), body[6:]
        if frame is None:
            raise _Broken("damaged")
        self._frame, (bits, height, width, channels), components = frame
        self._components = components[0 : 3 * channels : 3]
        mode = self._MODES.get(channels, f"{channels}-channel")
        if self._frame in self._OTHER_FRAMES:
            mode = "lossless, arithmetic or hierarchical"
        self.info = PictureInfo("JPEG", mode, bits, width, height, orientation)

    def _segments(self) -> Iterator[tuple[int, int, int]]:
        """Yields (marker, start, end) of each segment; that of a scan ends before its data."""
        data = self._data
        at = 2
        while True:
            if data[at] != 0xFF:
                raise _Broken("damaged")
            while data[at + 1] == 0xFF:
                at += 1
            marker = data[at + 1]
            if marker == self._END:
                yield marker, at, at + 2
                return
            (length,) = struct.unpack_from(">H", data, at + 2)
            end = at + 2 + length
            if length < 2:
                raise _Broken("damaged")
            if end > len(data):
                raise _Broken("truncated")
            yield marker, at, end
            at = end
            if marker == self._SCAN:
                found = self._MARKER.search(data, at)
                if found is None:
                    raise _Broken("truncated")
                at = found.start()

    def decode(self) -> np.ndarray:
        pieces, last, scans = [], 0, []
        for marker, start, end in self._segments():
            # JFIF and Adobe say which colours the channels are; the rest is not about pixels.
            if 0xE1 <= marker <= 0xEF and marker != self._ADOBE or marker == self._COMMENT:
                pieces.append(self._data[last:start])
                last = end
            elif marker == self._SCAN:
                scans.append(self._data[start + 4 : end])
            elif marker == self._END:
                pieces.append(self._data[last:start])
        if not self._covers(scans):
            raise _Broken("truncated")
        body = b"".join(pieces)
        pixels = _decode_with(JpegImageFile, body + b"\xff\xd9")
        # A file that was cut and closed again decodes with grey for what is missing, or with less
        # detail if each scan refines the whole. Noise at its end is then taken for the missing
        # data, and is passed over if nothing is missing.
        if len(scans) > 1 or (pixels[-1, -1] == 128).all():
            again = _decode_with(JpegImageFile, body + self._NOISE + b"\xff\xd9")
            if not np.array_equal(pixels, again):
                raise _Broken("truncated")
        return pixels

    def _covers(self, scans: list[bytes]) -> bool:
        """Whether the scans hold every coefficient of every channel down to its last bit."""
        missing = {component: np.full(64, 99) for component in self._components}
        for scan in scans:
            count = scan[0]
            first, last, low_bit = scan[1 + 2 * count], scan[2 + 2 * count], scan[3 + 2 * count]
            if self._frame != self._PROGRESSIVE:
                first, last, low_bit = 0, 63, 0
            for component in scan[1 : 1 + 2 * count : 2]:
                if component in missing:
                    missing[component][first : last + 1] = low_bit & 15
        return not any(bits.any() for bits in missing.values())


class _Png:
    """PNG, and the first look at animated ones."""

    turns_itself = False

    _MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
    _NEEDED = (b"IHDR", b"IDAT", b"IEND")

    def __init__(self, data: bytes) -> None:
        self._data = data
        if data[12:16] != b"IHDR":
            raise _Broken("damaged")
        width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
        mode = self._MODES.get(colour)
        if mode is None or bits not in (1, 2, 4, 8, 16):
            raise _Broken("damaged")
        # The colour that counts as transparent, in pictures without an alpha channel.
        self._key: tuple[int, ...] | None = None
        orientation, animated = 1, False
        for kind, start, end in self._chunks():
            if kind == b"eXIf":
                orientation = _find_orientation(data[start:end])
            elif kind == b"acTL":
                animated = data[start : start + 4] != b"\0\0\0\1"
            elif kind == b"tRNS" and mode in ("L", "RGB"):
                self._key = struct.unpack_from(f">{len(mode)}H", data, start)
        if self._key is not None:
            mode += "A"
        elif mode == "L" and bits == 1:
            mode = "1"
        self.info = PictureInfo("PNG", mode, bits, width, height, orientation, animated)

    def _chunks(self) -> Iterator[tuple[bytes, int, int]]:
        """Yields kind, start and end of the content of each chunk that is there as a whole."""
        at = len(_PNG_SIGNATURE)
        while at + 12 <= len(self._data):
            length, kind = struct.unpack_from(">I4s", self._data, at)
            end = at + 8 + length
            if end + 4 > len(self._data):
                return
            yield kind, at + 8, end
            if kind == b"IEND":
                return
            at = end + 4

    def decode(self) -> np.ndarray:
        pieces = [_PNG_SIGNATURE]
        kind = b""
        for kind, start, end in self._chunks():
            (checksum,) = struct.unpack_from(">I", self._data, end)
            if zlib.crc32(self._data[start - 4 : end]) != checksum:
                raise _Broken("damaged")
            if kind in self._NEEDED:
                pieces.append(self._data[start - 8 : end + 4])
            elif kind[:1].isupper() and kind != b"PLTE":
                raise _Broken("damaged")  # a chunk without which it cannot be shown, and unknown
        if kind != b"IEND":
            raise _Broken("truncated")
        # OpenCV refuses data with too few rows; Pillow leaves the rest black.
        data = np.frombuffer(b"".join(pieces), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise _Broken("damaged")
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        elif pixels.shape[-1] == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        elif self.info.mode == "LA":
            pixels = pixels[..., 2:]
        else:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
        if self._key is not None:
            opaque = (pixels != np.array(self._key) % 256).any(axis=-1, keepdims=True)
            pixels = np.concatenate([pixels, np.where(opaque, 255, 0).astype(np.uint8)], axis=-1)
        return pixels


class _WebP:
    """WebP, with or without loss."""

    turns_itself = False

    def __init__(self, data: bytes) -> None:
        self._data = data
        (size,) = struct.unpack_from("<I", data, 4)
        self._whole = size + 8 <= len(data)
        kind = data[12:16]
        orientation, animated = 1, False
        if kind == b"VP8X":
            flags, low, high, rows_low, rows_high = struct.unpack_from("<B3xHBHB", data, 20)
            width, height = (low | high << 16) + 1, (rows_low | rows_high << 16) + 1
            alpha, animated = bool(flags & 0x10), bool(flags & 0x02)
            orientation = self._find_orientation()
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            alpha = bool(bits >> 28 & 1)
        elif kind == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
            alpha = False
        else:
            raise _Broken("damaged")
        mode = "RGBA" if alpha else "RGB"
        self.info = PictureInfo("WebP", mode, 8, width, height, orientation, animated)

    def _find_orientation(self) -> int:
        at = 12
        while at + 8 <= len(self._data):
            kind, size = struct.unpack_from("<4sI", self._data, at)
            if kind == b"EXIF":
                return _find_orientation(
                    self._data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0")
                )
            at += 8 + size + size % 2
        return 1

    def decode(self) -> np.ndarray:
        if not self._whole:
            raise _Broken("truncated")
        return _decode_with(WebPImageFile, self._data)


class _Bmp:
    """Windows bitmaps."""

    turns_itself = False

    def __init__(self, data: bytes) -> None:
        self._data = data
        (header_bytes,) = struct.unpack_from("<I", data, 14)
        (pixel_bits,) = struct.unpack_from("<H", data, 24 if header_bytes == 12 else 28)
        if len(data) < 14 + header_bytes:
            raise _Broken("truncated")
        with _opened(BmpImageFile, data) as image:
            mode, (width, height) = image.mode, image.size
            if image.info.get("compression", 0) not in (0, 3):
                mode = "run-length encoded"
        bits = {16: 5, 24: 8, 32: 8}.get(pixel_bits, pixel_bits)
        self.info = PictureInfo("BMP", mode, bits, width, height)

    def decode(self) -> np.ndarray:
        return _decode_with(BmpImageFile, self._data)


class _Tiff:
    """TIFF."""

    # Pillow turns them while it decodes.
    turns_itself = True

    _WIDTH, _HEIGHT, _BITS, _NUMBER_KIND, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 339, 322, 323
    _TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
    _PLACES_AND_LENGTHS = ((273, 279), (324, 325))  # of strips, of tiles

    def __init__(self, data: bytes) -> None:
        self._data = data
        several = self._next_directory() != 0
        with _quietly(), _opened(TiffImageFile, data) as image:
            tags = dict(image.tag_v2)  # type: ignore[attr-defined]
            mode = image.mode
            if set(_numbers(tags.get(self._NUMBER_KIND, 1))) != {1}:
                mode = "float or signed"
            # A decoder allocates whole tiles, however small the picture is.
            tile = [max(_numbers(tags.get(t, 1))) for t in (self._TILE_WIDTH, self._TILE_HEIGHT)]
            if tile[0] * tile[1] > MAX_PIXELS:
                raise _Broken("damaged")
            self._whole = all(
                place + length <= len(data)
                for places, lengths in self._PLACES_AND_LENGTHS
                for place, length in zip(
                    _numbers(tags.get(places, ())), _numbers(tags.get(lengths, ())), strict=False
                )
            )
            orientation = tags.get(_ORIENTATION_TAG, 1)
            self.info = PictureInfo(
                "TIFF",
                mode,
                max(_numbers(tags.get(self._BITS, 1))),
                tags[self._WIDTH],
                tags[self._HEIGHT],
                orientation if orientation in range(1, 9) else 1,
                several,
            )

    def _next_directory(self) -> int:
        """Where the second picture of the file is described; 0 when there is only one."""
        order = "<" if self._data[:2] == b"II" else ">"
        big = 43 in self._data[2:4]
        at, place, count, entry_bytes = (8, "Q", "Q", 20) if big else (4, "I", "H", 12)
        (start,) = struct.unpack_from(order + place, self._data, at)
        (entries,) = struct.unpack_from(order + count, self._data, start)
        at = start + struct.calcsize(order + count)
        for _ in range(entries):
            _, kind, number, value = struct.unpack_from(f"{order}HH{place}{place}", self._data, at)
            size = number * self._TYPE_BYTES.get(kind, 1)
            # Longer values stand elsewhere, often behind everything else.
            if size > struct.calcsize(place) and value + size > len(self._data):
                raise _Broken("truncated")
            at += entry_bytes
        return int(struct.unpack_from(order + place, self._data, at)[0])

    def decode(self) -> np.ndarray:
        if not self._whole:
            raise _Broken("truncated")
        with _quietly(), _opened(TiffImageFile, self._data) as image:
            return _pixels_of(ImageOps.exif_transpose(image))


def _numbers(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps back warnings of tags that have nothing to do with pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
