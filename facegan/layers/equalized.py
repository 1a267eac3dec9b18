"""Layers whose weights start at N(0, 1) and are scaled while they run.

Adam's steps do not depend on a gradient's size, so with this all layers learn at the same rate,
times their ``lr_multiplier``.

Reference: Karras et al., "Progressive Growing of GANs", ICLR 2018, section 4.1.
"""

import math
from typing import Any

import keras
from keras import ops

from facegan.layers.resample import fir_down_conv, fir_downsample

LEAKY_SLOPE = 0.2


def scaled_leaky_relu(inputs: Any, *, gain: float = 1.0, clamp: float = 0.0) -> Any:
    """Leaky ReLU that keeps the variance of N(0, 1), times ``gain``.

    Args:
        inputs: Float of any shape.
        gain: Factor of the outputs.
        clamp: Outputs are cut off at +-``clamp * gain``; 0 lets them be.

    Returns:
        Of the inputs' shape.
    """
    x = ops.leaky_relu(inputs, LEAKY_SLOPE) * (math.sqrt(2.0) * gain)
    return clip(x, clamp * gain)


def clip(inputs: Any, clamp: float) -> Any:
    """Cuts off at +-``clamp``, so that half precision does not overflow; 0 lets the inputs be."""
    return ops.clip(inputs, -clamp, clamp) if clamp else inputs


@keras.saving.register_keras_serializable(package="facegan")
class EqualizedDense(keras.layers.Layer):
    """Dense layer with an equalised learning rate.

    Call input: [..., C] float. Call output: [..., units].

    Args:
        units: Numbers in an output.
        lr_multiplier: Factor of the layer's learning rate.
        bias_start: What the biases are at the start.
    """

    def __init__(
        self, units: int, *, lr_multiplier: float = 1.0, bias_start: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.units, self.lr_multiplier, self.bias_start = units, lr_multiplier, bias_start

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=keras.initializers.RandomNormal(stddev=1.0 / self.lr_multiplier),
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(self.units,),
            initializer=keras.initializers.Constant(self.bias_start / self.lr_multiplier),
        )

    def call(self, inputs: Any) -> Any:
        scale = self.lr_multiplier / math.sqrt(inputs.shape[-1])
        return ops.matmul(inputs, self.kernel * scale) + self.bias * self.lr_multiplier

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "lr_multiplier": self.lr_multiplier,
            "bias_start": self.bias_start,
        }


@keras.saving.register_keras_serializable(package="facegan")
class EqualizedConv2D(keras.layers.Layer):
    """Convolution with an equalised learning rate, as high and wide as its input or half of that.

    Call input: [B, H, W, C] float. Call output: [B, H, W, filters], or half as high and wide.

    Args:
        filters: Output channels.
        kernel_size: 1 or 3.
        downsample: Whether a smoothing filter halves height and width, which must be even.
        use_bias: Whether a bias per filter is learned.
        activate: Whether ``scaled_leaky_relu`` follows.
        gain: Factor of the outputs.
        clamp: Activated outputs are cut off at +-``clamp * gain``; 0 lets them be.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        downsample: bool = False,
        use_bias: bool = True,
        activate: bool = True,
        gain: float = 1.0,
        clamp: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.downsample = filters, kernel_size, downsample
        self.use_bias, self.activate, self.gain, self.clamp = use_bias, activate, gain, clamp

    def build(self, input_shape: Any) -> None:
        size = self.kernel_size
        self.kernel = self.add_weight(
            name="kernel",
            shape=(size, size, input_shape[-1], self.filters),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        x, kernel = inputs, self.kernel / math.sqrt(self.kernel_size**2 * inputs.shape[-1])
        if self.downsample and self.kernel_size == 3:
            x = fir_down_conv(x, kernel)
        else:
            # A 1x1 convolution and the filter can change places; on fewer pixels it is cheaper.
            x = fir_downsample(x) if self.downsample else x
            x = ops.conv(x, kernel, 1, padding="same", data_format="channels_last")
        if self.bias is not None:
            x = x + self.bias
        return (
            scaled_leaky_relu(x, gain=self.gain, clamp=self.clamp)
            if self.activate
            else (x * self.gain)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = list(input_shape[1:3])
        if self.downsample:
            size = [None if n is None else n // 2 for n in size]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "downsample": self.downsample,
            "use_bias": self.use_bias,
            "activate": self.activate,
            "gain": self.gain,
            "clamp": self.clamp,
        }
