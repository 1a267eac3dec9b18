"""Resampling of feature maps in operations that every backend compiles.

``keras.ops.image.resize`` cannot be exported with free height and width, and its gradient has no
gradient for "nearest"; these have both.
"""

from typing import Any

import keras
from keras import ops


def nearest_upsample(inputs: Any) -> Any:
    """Repeats each pixel 2x2: [B, H, W, C] -> [B, 2H, 2W, C]."""
    height, width, channels = ops.shape(inputs)[1:]
    # Joined along the axes that are there: OpenVINO reorders memory for a repetition's fifth.
    twice = ops.concatenate([inputs, inputs], axis=3)
    rows = ops.reshape(twice, (-1, height, 2 * width * channels))  # rank 3
    rows = ops.concatenate([rows, rows], axis=2)
    return ops.reshape(rows, (-1, 2 * height, 2 * width, channels))  # rank 4


def mean_of_2x2(inputs: Any) -> Any:
    """Halves height and width, which are even: [B, H, W, C] -> [B, H / 2, W / 2, C]."""
    return ops.average_pool(inputs, 2, 2, data_format="channels_last")


def bilinear_upsample(inputs: Any) -> Any:
    """Doubles height and width so that the corner pixels stay where they are.

    This is PyTorch's bilinear mode with ``align_corners=True``: [B, H, W, C] -> [B, 2H, 2W, C].
    """
    return _linear_upsample(_linear_upsample(inputs, 1), 2)


def half_pixel_upsample(inputs: Any) -> Any:
    """Doubles height and width so that the picture's borders stay where they are.

    This is PyTorch's bilinear mode with ``align_corners=False``: [B, H, W, C] -> [B, 2H, 2W, C].
    New pixels lie a quarter of an old pixel to either side of it; beyond the border, the outermost
    pixel goes on.
    """
    return _interleave(_interleave(inputs, 1, 0.25, 0.25), 2, 0.25, 0.25)


def _linear_upsample(inputs: Any, axis: int) -> Any:
    size = ops.shape(inputs)[axis]
    # Output p lies at p (n - 1) / (2n - 1) of the source: an even one, p = 2i, falls i / (2n - 1)
    # short of pixel i, and an odd one lies (n - 1 - i) / (2n - 1) past it.
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    position = ops.reshape(ops.cast(ops.arange(size), "float32"), shape)
    steps = ops.cast(2 * size - 1, "float32")
    short = ops.cast(position / steps, inputs.dtype)
    past = ops.cast((ops.cast(size - 1, "float32") - position) / steps, inputs.dtype)
    return _interleave(inputs, axis, short, past)


def _interleave(inputs: Any, axis: int, short: Any, past: Any) -> Any:
    """Two new pixels for each, ``short`` of the way to its neighbour before, ``past`` after."""
    size = ops.shape(inputs)[axis]
    before = ops.concatenate([_edge(inputs, axis, 0), _drop(inputs, axis, last=True)], axis)
    after = ops.concatenate([_drop(inputs, axis, last=False), _edge(inputs, axis, -1)], axis)
    even = inputs + (before - inputs) * short
    odd = inputs + (after - inputs) * past
    joined = ops.stack([even, odd], axis=axis + 1)  # rank 5
    shape = list(ops.shape(inputs))
    shape[axis] = 2 * size
    return ops.reshape(joined, shape)  # rank 4


def bilinear_resize(inputs: Any, height: Any, width: Any) -> Any:
    """Brings feature maps to any size so that the corner pixels stay where they are.

    This is PyTorch's bilinear mode with ``align_corners=True``. Each axis is a product with a
    matrix of weights, which is its own gradient's transpose: on a CPU both take less time than
    gathering two neighbours, whose gradient scatters and on a GPU adds up in no fixed order.

    Args:
        inputs: [B, H, W, C] float.
        height: New height; a whole number, or a scalar int32 tensor.
        width: New width, likewise.

    Returns:
        [B, height, width, C].
    """
    old_height, old_width, channels = ops.shape(inputs)[1:4]
    # The width first, while there are few rows: only C columns make its products slow.
    wide = ops.matmul(_linear_weights(old_width, width, inputs.dtype), inputs)
    rows = ops.reshape(wide, (-1, old_height, width * channels))  # rank 3
    rows = ops.matmul(_linear_weights(old_height, height, inputs.dtype), rows)
    return ops.reshape(rows, (-1, height, width, channels))  # rank 4


def _linear_weights(old: Any, new: Any, dtype: Any) -> Any:
    """What each new pixel takes of each old one along an axis: [new, old]."""
    # New pixel p lies at p (old - 1) / (new - 1); whole numbers keep the distances exact.
    at = ops.expand_dims(ops.arange(new, dtype="int32") * (old - 1), 1)
    steps = ops.maximum(ops.cast(new, "int32") - 1, 1)
    away = ops.abs(at - ops.expand_dims(ops.arange(old, dtype="int32"), 0) * steps)
    share = ops.cast(away, "float32") / ops.cast(steps, "float32")
    return ops.cast(ops.maximum(1.0 - share, 0.0), dtype)


def _edge(inputs: Any, axis: int, at: int) -> Any:
    window = slice(0, 1) if at == 0 else slice(-1, None)
    return inputs[:, window] if axis == 1 else inputs[:, :, window]


def _drop(inputs: Any, axis: int, *, last: bool) -> Any:
    window = slice(None, -1) if last else slice(1, None)
    return inputs[:, window] if axis == 1 else inputs[:, :, window]


@keras.saving.register_keras_serializable(package="facegan")
class BilinearUpsample(keras.layers.Layer):
    """Doubles height and width as ``bilinear_upsample`` does."""

    def call(self, inputs: Any) -> Any:
        return bilinear_upsample(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = [None if n is None else 2 * n for n in input_shape[1:3]]
        return (input_shape[0], *size, input_shape[3])
