"""Convolution by style.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020,
section 2.2.
"""

import math
from typing import Any

import keras
from keras import ops

from facegan.errors import ConfigError
from facegan.layers.resample import fir_up_conv

_EPSILON = 1e-8


def precise_dtype(layer: keras.layers.Layer) -> str:
    """Type of what a layer must not round: float32, or float64 for a net that computes in that."""
    return keras.backend.result_type(layer.compute_dtype, "float32")


@keras.saving.register_keras_serializable(package="facegan")
class ModulatedConv2D(keras.layers.Layer):
    """Convolution whose input channels a style scales.

    Scaling the input and, for ``demodulate``, the output equals an own kernel for each example
    (equations 1 to 3) and needs no grouped convolution.

    Call input: {"features": [B, H, W, C] float, "style": [B, C]}.
    Call output: [B, H, W, filters], or twice as high and wide.

    Args:
        filters: Output channels.
        kernel_size: 1 or 3.
        upsample: Whether height and width are doubled with a smoothing filter; for 3x3 only.
        demodulate: Whether outputs are brought back to the variance that they would have for
            independent inputs of variance 1.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        upsample: bool = False,
        demodulate: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if upsample and kernel_size != 3:
            raise ConfigError(f"Only 3x3 convolutions upsample, got kernel_size {kernel_size}.")
        self.filters, self.kernel_size = filters, kernel_size
        self.upsample, self.demodulate = upsample, demodulate

    def build(self, input_shape: Any) -> None:
        channels = tuple(input_shape["features"])[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, inputs: Any) -> Any:
        x, style, precise = inputs["features"], inputs["style"], precise_dtype(self)
        fan_in = self.kernel_size**2 * x.shape[-1]
        kernel = self.kernel / math.sqrt(fan_in)
        if self.demodulate:
            style = ops.cast(style, precise)
            if self.compute_dtype == "float16":
                # Their size cancels out, and could overflow.
                largest = ops.max(ops.abs(style), axis=-1, keepdims=True)
                style = style / ops.maximum(largest, _EPSILON)
            squares = ops.sum(ops.square(ops.cast(kernel, precise)), axis=(0, 1))
            variance = ops.matmul(ops.square(style), squares)
            # The paper's epsilon is added before the kernel is scaled.
            factor = ops.cast(ops.rsqrt(variance + _EPSILON / fan_in), x.dtype)
        x = x * ops.cast(style, x.dtype)[:, None, None, :]
        if self.upsample:
            x = fir_up_conv(x, kernel)
        else:
            x = ops.conv(x, kernel, 1, padding="same", data_format="channels_last")
        return x * factor[:, None, None, :] if self.demodulate else x

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *size, _ = tuple(input_shape["features"])
        if self.upsample:
            size = [None if n is None else 2 * n for n in size]
        return (batch, *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "upsample": self.upsample,
            "demodulate": self.demodulate,
        }
