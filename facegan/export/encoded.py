"""Pictures and label maps as files in memory, read and written inside of a graph.

A picture that has the wanted size goes through without any change, and PNG keeps every code: what
a server gives back is what the same network gives on the spot. Turning by EXIF is left to the
client.
"""

from __future__ import annotations

import tensorflow as tf

from facegan.bundle import TensorSpec

_JPEG_QUALITY = 95
# Half the time of the default for a few per cent more bytes.
_PNG_COMPRESSION = 1
# The start of every PNG file; then follow the length and name of its first chunk, width, height,
# bits per channel and kind of colour.
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH_AT = 24
_ONE_CHANNEL_OF_8_BITS = b"\x08\x00"


def decode_pictures(data: tf.Tensor, spec: TensorSpec) -> tf.Tensor:
    """Decodes a batch of JPEG, PNG or BMP files.

    Args:
        data: [B] string.
        spec: What the network takes; where its height and width are fixed, pictures of another
            size are resized.

    Returns:
        [B, H, W, C] uint8.
    """
    height, width, channels = spec.shape[1:]

    def decode(contents: tf.Tensor) -> tf.Tensor:
        # Alone this form tells still pictures from animations, which have one axis more.
        picture = tf.io.decode_image(contents, channels=channels, expand_animations=True)
        still = tf.debugging.assert_equal(
            tf.rank(picture),
            3,
            message=f"{spec.encoded_name} must hold JPEG or PNG files, got an animation.",
        )
        with tf.control_dependencies([still]):
            picture = tf.identity(picture)
        picture.set_shape((None, None, channels))
        return _fit(picture, height, width, nearest=False)

    return _map_batch(decode, data, (height, width, channels), tf.uint8)


def decode_label_maps(data: tf.Tensor, spec: TensorSpec) -> tf.Tensor:
    """Decodes a batch of PNG files of one channel of 8 bits, the ids.

    Args:
        data: [B] string.
        spec: What the network takes; where its height and width are fixed, maps of another size
            are resized.

    Returns:
        [B, H, W] of the spec's type.
    """
    height, width = spec.shape[1:]

    def decode(contents: tf.Tensor) -> tf.Tensor:
        # Padded, so that a shorter text is refused by the comparison and not by the cutting.
        head = tf.strings.join([tf.strings.substr(contents, 0, 26), "\0" * 26])
        is_map = tf.logical_and(
            tf.equal(tf.strings.substr(head, 0, len(_PNG_START)), _PNG_START),
            # Colours, palettes and other depths decode to numbers that are no ids.
            tf.equal(tf.strings.substr(head, _PNG_DEPTH_AT, 2), _ONE_CHANNEL_OF_8_BITS),
        )
        good = tf.debugging.Assert(
            is_map, [f"{spec.encoded_name} must hold PNG files of one channel of 8 bits, the ids."]
        )
        with tf.control_dependencies([good]):
            ids = tf.io.decode_png(contents, channels=1)
        ids.set_shape((None, None, 1))
        return _fit(ids, height, width, nearest=True)[..., 0]  # [H, W]

    ids = _map_batch(decode, data, (height, width), tf.uint8)
    if spec.value_range is not None:
        last = int(spec.value_range[1])
        known = tf.debugging.assert_less_equal(
            tf.cast(ids, tf.int32),
            last,
            message=f"{spec.encoded_name} holds an id above {last}, the last that the model knows.",
        )
        with tf.control_dependencies([known]):
            ids = tf.identity(ids)
    return tf.cast(ids, spec.dtype)


def encode_png(images: tf.Tensor) -> tf.Tensor:
    """Encodes uint8 pictures [B, H, W, C] as PNG files, [B] string."""
    return tf.io.encode_png(images, compression=_PNG_COMPRESSION)


def encode_label_maps(ids: tf.Tensor) -> tf.Tensor:
    """Encodes maps of ids [B, H, W] up to 255 as PNG files of one channel, [B] string."""
    return encode_png(tf.cast(ids, tf.uint8)[..., None])  # [B, H, W, 1]


def encode_jpeg(images: tf.Tensor) -> tf.Tensor:
    """Encodes uint8 pictures [B, H, W, 1 or 3] as JPEG files, [B] string, colours in full size."""

    def encode(image: tf.Tensor) -> tf.Tensor:
        return tf.io.encode_jpeg(image, quality=_JPEG_QUALITY, chroma_downsampling=False)

    return _map_batch(encode, images, (), tf.string)


def _map_batch(function, batch: tf.Tensor, shape: tuple, dtype: tf.DType) -> tf.Tensor:
    return tf.map_fn(function, batch, fn_output_signature=tf.TensorSpec(shape, dtype))


def _fit(picture: tf.Tensor, height: int | None, width: int | None, *, nearest: bool) -> tf.Tensor:
    """Brings [h, w, C] uint8 to a size, where one is wanted."""
    if height is None or width is None:
        return picture
    method = "nearest" if nearest else "bilinear"

    def resize() -> tf.Tensor:
        resized = tf.image.resize(picture, (height, width), method, antialias=not nearest)
        if nearest:
            return resized
        return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)

    fits = tf.reduce_all(tf.equal(tf.shape(picture)[:2], (height, width)))
    fitted = tf.cond(fits, lambda: picture, resize)
    fitted.set_shape((height, width, picture.shape[2]))
    return fitted
