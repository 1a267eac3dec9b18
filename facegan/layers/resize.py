"""Resampling of feature maps by whole factors, in operations that every backend compiles.

``keras.ops.image.resize`` cannot be exported with free height and width, and its gradient has no
gradient for "nearest"; these have both.
"""

from typing import Any

import keras
from keras import ops


def nearest_upsample(inputs: Any) -> Any:
    """Repeats each pixel 2x2: [B, H, W, C] -> [B, 2H, 2W, C]."""
    return ops.repeat(ops.repeat(inputs, 2, axis=1), 2, axis=2)


def bilinear_upsample(inputs: Any) -> Any:
    """Doubles height and width so that the corner pixels stay where they are.

    This is PyTorch's bilinear mode with ``align_corners=True``: [B, H, W, C] -> [B, 2H, 2W, C].
    """
    return _linear_upsample(_linear_upsample(inputs, 1), 2)


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
    before = ops.concatenate([_edge(inputs, axis, 0), _drop(inputs, axis, last=True)], axis)
    after = ops.concatenate([_drop(inputs, axis, last=False), _edge(inputs, axis, -1)], axis)
    even = inputs + (before - inputs) * short
    odd = inputs + (after - inputs) * past
    joined = ops.stack([even, odd], axis=axis + 1)  # rank 5
    shape = list(ops.shape(inputs))
    shape[axis] = 2 * size
    return ops.reshape(joined, shape)  # rank 4


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
