"""The one place where pixel value ranges change.

Inside the library images are float in [-1, 1], RGB, channels last; at the edges uint8. Both NumPy
and TensorFlow forms stand here, so that no other file needs a 127.5.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from facegan.errors import ConfigError, DataError

if TYPE_CHECKING:
    import tensorflow as tf

# Larger pictures are refused before a decoder allocates for them: 48 kB of PNG can claim 400 Mpx.
MAX_PIXELS = 64_000_000


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 images -> float32 in [-1, 1], any shape."""
    if images.dtype != np.uint8:
        raise ConfigError(f"to_float takes uint8 images, got {images.dtype}.")
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Float images in [-1, 1], any shape -> uint8, rounded and clipped."""
    scaled = np.rint((np.asarray(images, np.float32) + 1.0) * 127.5)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def to_float_tensor(images: tf.Tensor) -> tf.Tensor:
    """uint8 tensor -> float32 tensor in [-1, 1]; the graph form of ``to_float``."""
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_uint8_tensor(images: tf.Tensor) -> tf.Tensor:
    """Float tensor in [-1, 1] -> uint8 tensor; the graph form of ``to_uint8``."""
    import tensorflow as tf

    scaled = tf.round((tf.cast(images, tf.float32) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(scaled, 0.0, 255.0), tf.uint8)


def resize(image: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Resizes one [H, W, C] image: area-averaged when it shrinks, bilinear when it grows."""
    if image.shape[:2] == (height_px, width_px):
        return image
    shrinks = height_px * width_px < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = cv2.resize(image, (width_px, height_px), interpolation=method)
    return out if out.ndim == image.ndim else out[..., None]


def pad_to(image: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Centres an [H, W, C] image on a black canvas that is at least as large."""
    height, width = image.shape[:2]
    if height > height_px or width > width_px:
        raise ConfigError(
            f"pad_to cannot pad {height}x{width} to the smaller {height_px}x{width_px}."
        )
    top, left = (height_px - height) // 2, (width_px - width) // 2
    out = np.zeros((height_px, width_px, *image.shape[2:]), image.dtype)
    out[top : top + height, left : left + width] = image
    return out


def make_grid(rows: Sequence[Sequence[np.ndarray]], gap_px: int = 2) -> np.ndarray:
    """Lays equal-sized uint8 images out in rows and columns on white.

    Args:
        rows: Rows of images [H, W, 3] uint8, all of one size; rows may differ in length.
        gap_px: White space between neighbours.

    Returns:
        One image [H', W', 3] uint8.
    """
    if not rows or not rows[0]:
        raise ConfigError("make_grid needs at least one image.")
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    out = np.full(
        (len(rows) * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px, 3),
        255,
        np.uint8,
    )
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            y, x = r * (height + gap_px), c * (width + gap_px)
            out[y : y + height, x : x + width] = image
    return out


def decode_picture(data: bytes) -> np.ndarray:
    """Decodes PNG or JPEG bytes to [H, W, 3] uint8 RGB."""
    # OpenCV has an error of its own for no bytes at all.
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise DataError(
            f"A picture of {len(data)} bytes cannot be decoded; build the dataset again."
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def encode_picture(image: np.ndarray) -> bytes:
    """Encodes [H, W, 3] uint8 RGB as PNG bytes, without loss."""
    # Level 1: half the time of the default for a few per cent more bytes.
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise DataError(f"A picture {image.shape} cannot be encoded as PNG.")
    return data.tobytes()


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encodes [H, W, 3] uint8 RGB as JPEG bytes, with colours at full resolution."""
    done, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
        [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ],
    )
    if not done:
        raise DataError(f"A picture {image.shape} cannot be encoded as JPEG.")
    return data.tobytes()


def encode_labels(label_map: np.ndarray) -> bytes:
    """Encodes a map of ids [H, W] uint8 as PNG bytes of one channel."""
    done, data = cv2.imencode(".png", label_map)
    if not done or label_map.ndim != 2 or label_map.dtype != np.uint8:
        raise DataError(
            f"A label map is [H, W] uint8, got {label_map.dtype} {list(label_map.shape)}."
        )
    return data.tobytes()


def decode_labels(data: bytes) -> np.ndarray:
    """Decodes PNG bytes of one channel to a map of ids [H, W] uint8."""
    label_map = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if label_map is None or label_map.ndim != 2 or label_map.dtype != np.uint8:
        raise DataError(f"{len(data)} bytes are no label map, a PNG of one channel of 8 bits.")
    return label_map


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture file as RGB.

    Returns:
        [H, W, 3] uint8, turned upright by its EXIF orientation.

    Raises:
        DataError: The file cannot be read, is no picture, or is larger than 64 megapixels.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {picture.width}x{picture.height} pixels; at most "
                    f"{MAX_PIXELS // 1_000_000} megapixels are read."
                )
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"Cannot read the picture {path}: {error}.") from error


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes an [H, W, 3] uint8 RGB image, whole or not at all; the ending names the format."""
    path = pathlib.Path(path)
    done, data = cv2.imencode(path.suffix or ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ConfigError(f"Cannot write {path}: the ending {path.suffix!r} names no format.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.tobytes())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"Cannot write {path}: {error.strerror or error}.") from error
