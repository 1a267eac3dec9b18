"""Pictures from bytes that may be anything: read whole and exactly, or rejected with a reason.

Headers are read first, so that nothing is allocated for a picture that only claims to be huge, and
nothing is converted silently: a picture of another kind than asked for is rejected by name. Colour
profiles are ignored, as the datasets' own tools do.
"""

import dataclasses
import io
import struct
import warnings

import numpy as np
from PIL import Image, ImageOps

from facegan.image import MAX_PIXELS
from facegan.preparation.items import Rejected

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_UPRIGHT = 1
_EXIF_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True, slots=True)
class PictureInfo:
    """What a picture's header says.

    Attributes:
        format: "JPEG", "PNG", "WEBP", "BMP" or "TIFF".
        mode: As Pillow names it: "L", "RGB", "RGBA", "P", "CMYK", ...
        bits: Of a channel.
        width: Pixels, before any turning.
        height: Pixels, before any turning.
        orientation: EXIF's, 1 is upright.
        frames: More than one in an animation.
    """

    format: str
    mode: str
    bits: int
    width: int
    height: int
    orientation: int
    frames: int


def probe_picture(data: bytes, name: str) -> PictureInfo:
    """Reads a picture's header.

    Raises:
        Rejected: "empty", "not_a_picture", "wrong_format", "truncated" or "too_large".
    """
    return _open(data, name)[1]


def read_photo(data: bytes, name: str, *, turn_upright: bool) -> np.ndarray:
    """Reads a photograph.

    Args:
        data: The file's bytes.
        name: The file, for messages.
        turn_upright: Turn it as its EXIF orientation says; else one that would have to be turned
            is rejected, because whatever belongs to it may be turned or not.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        Rejected: As ``probe_picture``; or "wrong_mode" for anything but 8-bit grey and RGB without
            transparent pixels; or "rotated".
    """
    picture, info = _open(data, name)
    if info.mode not in ("L", "RGB", "RGBA") or info.bits != 8 or info.frames > 1:
        raise _wrong_mode(info, name, "an 8-bit grey or RGB picture")
    if info.orientation != _UPRIGHT and not turn_upright:
        raise Rejected(
            "rotated",
            f"{name} is turned by its EXIF orientation ({info.orientation}); save it upright.",
        )
    picture = _load(picture, data, info, name)
    has_key = "transparency" in picture.info
    if has_key or (info.mode == "RGBA" and picture.getextrema()[3] != (255, 255)):  # type: ignore[misc]
        raise Rejected("wrong_mode", f"{name} has transparent pixels; put it on a background.")
    if info.orientation != _UPRIGHT:
        picture = ImageOps.exif_transpose(picture)
    return np.asarray(picture.convert("RGB"))


def read_mask(data: bytes, name: str) -> np.ndarray:
    """Reads the mask of one part: whatever is not black belongs to it.

    Returns:
        [H, W] bool.

    Raises:
        Rejected: As ``probe_picture``; or "wrong_mode" for anything but 1-bit, grey and RGB masks.
    """
    picture, info = _open(data, name)
    if info.mode not in ("1", "L", "RGB", "RGBA") or info.bits not in (1, 8) or info.frames > 1:
        raise _wrong_mode(info, name, "a black and white mask of 1 or 8 bits")
    pixels = np.asarray(_load(picture, data, info, name))
    return pixels != 0 if pixels.ndim == 2 else (pixels[..., :3] != 0).any(axis=2)


def read_label_ids(data: bytes, name: str) -> np.ndarray:
    """Reads a label map whose pixels are ids.

    Returns:
        [H, W] uint8.

    Raises:
        Rejected: As ``probe_picture``; or "wrong_mode" for anything but 8-bit grey.
    """
    picture, info = _open(data, name)
    if info.mode != "L" or info.bits != 8 or info.format == "JPEG":
        raise _wrong_mode(
            info,
            name,
            "an 8-bit grey picture of ids, packed without loss; colours have to be turned into ids "
            "by a named palette first",
        )
    return np.asarray(_load(picture, data, info, name))


def _open(data: bytes, name: str) -> tuple[Image.Image, PictureInfo]:
    if not data:
        raise Rejected("empty", f"{name} holds nothing.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are checked below, of damaged EXIF
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            # Before anything else is asked for: Pillow decodes a PNG to look for EXIF behind it.
            _check_size(picture, name)
            frames = int(getattr(picture, "n_frames", 1))
            orientation = _orientation(picture)
    except Rejected:
        raise
    except Image.DecompressionBombError as error:
        raise Rejected("too_large", f"{name} claims more pixels than anybody decodes.") from error
    except Exception as error:  # decoders raise anything on bytes that are no picture
        raise _no_picture(data, name) from error
    return picture, PictureInfo(
        format=str(picture.format),
        mode=picture.mode,
        bits=_bits(picture, data),
        width=picture.width,
        height=picture.height,
        orientation=orientation,
        frames=frames,
    )


def _check_size(picture: Image.Image, name: str) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise Rejected(
            "too_large",
            f"{name} is {picture.width}x{picture.height}; at most {MAX_PIXELS // 1_000_000} "
            "megapixels are read.",
        )


def _orientation(picture: Image.Image) -> int:
    if picture.format == "PNG" and "exif" not in picture.info:
        return _UPRIGHT
    orientation = picture.getexif().get(_EXIF_ORIENTATION, _UPRIGHT)
    return int(orientation) if orientation in range(1, 9) else _UPRIGHT


def _no_picture(data: bytes, name: str) -> Rejected:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = Image.open(io.BytesIO(data)).format
    except Exception:
        return Rejected("not_a_picture", f"{name} is no picture, or its head is damaged.")
    if kind in _FORMATS:
        return Rejected("not_a_picture", f"{name} is a damaged {kind} picture.")
    return Rejected("wrong_format", f"{name} is a {kind} picture; allowed: {', '.join(_FORMATS)}.")


def _bits(picture: Image.Image, data: bytes) -> int:
    """Bits of a channel. Pillow shows a 16-bit RGB PNG as one of 8 bits and drops the rest."""
    if picture.format == "PNG" and len(data) > 24:
        return data[24]
    if picture.format == "TIFF":
        bits = picture.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return {"1": 1, "I": 32, "F": 32, "I;16": 16, "I;16B": 16}.get(picture.mode, 8)


def _load(picture: Image.Image, data: bytes, info: PictureInfo, name: str) -> Image.Image:
    """Decodes all pixels, or rejects."""
    if not _has_end(data, info.format):
        raise Rejected("truncated", f"{name} is cut off; copy it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
    except Exception as error:  # decoders raise anything on damaged bytes
        truncated = "truncated" in str(error).lower()
        reason, what = ("truncated", "cut off") if truncated else ("damaged", "damaged")
        raise Rejected(reason, f"{name} is {what} ({error}); copy it again.") from error
    return picture


def _has_end(data: bytes, kind: str) -> bool:
    """Whether the mark that ends a file of this kind is there; decoders do without it."""
    if kind == "JPEG":
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if kind == "PNG":
        return b"IEND\xaeB`\x82" in data
    if kind == "WEBP" and len(data) >= 8:
        return len(data) >= 8 + struct.unpack("<I", data[4:8])[0]
    return True


def _wrong_mode(info: PictureInfo, name: str, wanted: str) -> Rejected:
    what = "an animation" if info.frames > 1 else f"{info.mode} of {info.bits} bits"
    return Rejected("wrong_mode", f"{name} is {info.format}, {what}; it must be {wanted}.")
