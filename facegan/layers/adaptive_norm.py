"""Instance normalisation whose scale and shift are given from outside: AdaIN.

Reference: Huang and Belongie, "Arbitrary Style Transfer in Real-Time with Adaptive Instance
Normalization", ICCV 2017, equation 8.
"""

from typing import Any

from keras import ops

from facegan.layers.normalization import EPSILON

# Keeps the gradient of the root of a constant channel's variance finite.
_LEAST_VARIANCE = 1e-12


def adaptive_instance_norm(features: Any, scale: Any, shift: Any) -> Any:
    """Gives each channel of each image a new mean and standard deviation.

        y = scale (x - mean(x)) / (std(x) + 1e-5) + shift

    with the unbiased standard deviation, computed in float32 and given back in the features' type.

    Args:
        features: [B, H, W, C] float, at least two pixels.
        scale: [B, C] float.
        shift: [B, C] float.
    """
    x = ops.cast(features, "float32")
    pixels = ops.cast(ops.shape(x)[1] * ops.shape(x)[2], "float32")
    mean = ops.mean(x, axis=(1, 2), keepdims=True)
    centred = x - mean
    variance = ops.sum(ops.square(centred), axis=(1, 2), keepdims=True) / (pixels - 1.0)
    deviation = ops.sqrt(ops.maximum(variance, _LEAST_VARIANCE)) + EPSILON
    factor = _spread(scale) / deviation
    return ops.cast(centred * factor + _spread(shift), features.dtype)


def _spread(values: Any) -> Any:
    return ops.cast(values, "float32")[:, None, None, :]  # [B, 1, 1, C]
