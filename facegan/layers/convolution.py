"""Convolutions whose padding is the same on all sides, as the papers' PyTorch code has it.

TensorFlow's "same" padding of a strided convolution depends on the input's size and is lopsided on
some (a 3x3 of stride 2 on an even size), which shifts ported weights by a pixel.
"""

from typing import Any

import keras
from keras import ops

from facegan.errors import ConfigError
from facegan.layers.resize import nearest_upsample


def normal_initializer() -> keras.initializers.Initializer:
    """N(0, 0.02), the kernels' start in Isola et al., section 6.2, and in most papers since."""
    return keras.initializers.RandomNormal(stddev=0.02)


class _Convolution(keras.layers.Layer):
    """Arguments and variables that the layers of this file share."""

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        if kernel_initializer is None:
            kernel_initializer = normal_initializer()
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def _add_weights(self, kernel_shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=kernel_shape, initializer=self.kernel_initializer
        )
        self._add_bias_weight()

    def _add_bias_weight(self) -> None:
        self.bias = (
            self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
            if self.use_bias
            else None
        )

    def _add_bias(self, outputs: Any) -> Any:
        return outputs if self.bias is None else outputs + self.bias

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="facegan")
class PaddedConv2D(_Convolution):
    """Convolution after ``padding`` zeros on each side.

    Call input: [B, H, W, C] float. Call output: [B, H', W', filters] with
    H' = (H + 2 padding - kernel_size) // strides + 1.

    Args:
        filters: Output channels.
        kernel_size: Height and width of the kernel.
        strides: Step in both directions.
        padding: Zeros added on each of the four sides.
        use_bias: Whether a bias per filter is learned.
        kernel_initializer: None stands for N(0, 0.02).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        padding: int = 0,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            **kwargs,
        )
        self.strides = strides
        self.padding = padding

    def build(self, input_shape: Any) -> None:
        self._add_weights((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, inputs: Any) -> Any:
        return self._convolve(inputs, self.kernel)

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        mode = "valid"
        if self._same_is_symmetric(inputs.shape[1:3]):
            mode = "same"
        elif self.padding:
            sides = (self.padding, self.padding)
            inputs = ops.pad(inputs, ((0, 0), sides, sides, (0, 0)))
        outputs = ops.conv(inputs, kernel, self.strides, padding=mode, data_format="channels_last")
        return self._add_bias(outputs)

    def _same_is_symmetric(self, size_hw: Any) -> bool:
        """Whether "same" pads just as asked, which saves the copy that padding makes."""
        if 2 * self.padding != self.kernel_size - self.strides:
            return False
        return self.strides == 1 or all(n is not None and n % self.strides == 0 for n in size_hw)

    def compute_output_shape(self, input_shape: Any) -> Any:
        grown = 2 * self.padding - self.kernel_size
        size = [None if n is None else (n + grown) // self.strides + 1 for n in input_shape[1:3]]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strides": self.strides, "padding": self.padding}


@keras.saving.register_keras_serializable(package="facegan")
class UpConv2D(_Convolution):
    """Transposed 4x4 convolution of stride 2 that doubles height and width.

    It equals PyTorch's ConvTranspose2d with kernel 4, stride 2 and padding 1. Call input:
    [B, H, W, C] float. Call output: [B, 2H, 2W, filters].

    Args:
        filters: Output channels.
        use_bias: Whether a bias per filter is learned.
        kernel_initializer: None stands for N(0, 0.02).
    """

    def __init__(
        self,
        filters: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters, 4, use_bias=use_bias, kernel_initializer=kernel_initializer, **kwargs
        )

    def build(self, input_shape: Any) -> None:
        self._add_weights((4, 4, self.filters, input_shape[-1]))

    def call(self, inputs: Any) -> Any:
        # Stride 2 and "same" cut one row and column off each side: PyTorch's padding 1.
        outputs = ops.conv_transpose(
            inputs, self.kernel, 2, padding="same", data_format="channels_last"
        )
        return self._add_bias(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = [None if n is None else 2 * n for n in input_shape[1:3]]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["kernel_size"]
        return config


@keras.saving.register_keras_serializable(package="facegan")
class NearestUpConv2D(_Convolution):
    """Repeats each pixel 2x2, then convolves 3x3.

    Unlike a transposed convolution it treats all output pixels alike, so it leaves no checkerboard.
    The pair equals one transposed 4x4 convolution whose kernel sums the 3x3 kernel over the
    positions that meet the same source pixel; that costs half and is how it is computed. Call
    input: [B, H, W, C] float. Call output: [B, 2H, 2W, filters].

    Args:
        filters: Output channels.
        use_bias: Whether a bias per filter is learned.
        composed: Whether to compute by the composed kernel; False takes the two steps one after
            the other, the plain reference.
        kernel_initializer: None stands for N(0, 0.02).
    """

    def __init__(
        self,
        filters: int,
        *,
        use_bias: bool = True,
        composed: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters, 3, use_bias=use_bias, kernel_initializer=kernel_initializer, **kwargs
        )
        self.composed = composed

    def build(self, input_shape: Any) -> None:
        self._add_weights((3, 3, input_shape[-1], self.filters))

    def call(self, inputs: Any) -> Any:
        if self.composed:
            outputs = ops.conv_transpose(
                inputs,
                compose_upsampling_kernel(self.kernel),
                2,
                padding="same",
                data_format="channels_last",
            )
        else:
            outputs = ops.conv(
                nearest_upsample(inputs),
                self.kernel,
                padding="same",
                data_format="channels_last",
            )
        return self._add_bias(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = [None if n is None else 2 * n for n in input_shape[1:3]]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "composed": self.composed}
        del config["kernel_size"]
        return config


def compose_upsampling_kernel(kernel: Any) -> Any:
    """Kernel of the transposed convolution that equals nearest x2 and then a 3x3 convolution.

    Args:
        kernel: [3, 3, in, out] float, of a convolution with stride 1 and one zero on each side.

    Returns:
        [4, 4, out, in] float, for ``ops.conv_transpose`` with stride 2 and "same" padding.
    """
    # Output pixel 2i + a sees source pixel i + d through the taps k with (2i + a + k - 1) // 2
    # = i + d. Tap t of the transposed kernel joins output 2i - 1 + t with source pixel i, so it is
    # the sum of the taps 2 - t and 3 - t, and along one axis: [k2, k1 + k2, k0 + k1, k0].
    # OpenVINO knows no reversal of two axes at once.
    flipped = ops.flip(ops.flip(ops.transpose(kernel, (0, 1, 3, 2)), axis=0), axis=1)
    return _sum_of_shifts(flipped)


@keras.saving.register_keras_serializable(package="facegan")
class PooledConv2D(PaddedConv2D):
    """Convolves 3x3 with one zero on each side, then takes the mean of 2x2 pixels.

    The pair equals one 4x4 convolution of stride 2 whose kernel is the mean of the 3x3 kernel at
    the four places; that costs four ninths and is how it is computed.

    Call input: [B, H, W, C] float, H and W even. Call output: [B, H / 2, W / 2, filters].

    Args:
        filters: Output channels.
        use_bias: Whether a bias per filter is learned.
        kernel_initializer: None stands for N(0, 0.02).
    """

    def __init__(
        self,
        filters: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        # Of the composed kernel.
        super().__init__(
            filters,
            4,
            strides=2,
            padding=1,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            **kwargs,
        )

    def build(self, input_shape: Any) -> None:
        self._add_weights((3, 3, input_shape[-1], self.filters))

    def call(self, inputs: Any) -> Any:
        return self._convolve(inputs, compose_pooling_kernel(self.kernel))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("kernel_size", "strides", "padding"):
            del config[name]
        return config


def compose_pooling_kernel(kernel: Any) -> Any:
    """Kernel of the convolution that equals a 3x3 convolution and then the mean of 2x2 pixels.

    Args:
        kernel: [3, 3, in, out] float, of a convolution with stride 1 and one zero on each side.

    Returns:
        [4, 4, in, out] float, for a convolution with stride 2 and one zero on each side.
    """
    return 0.25 * _sum_of_shifts(kernel)


def _sum_of_shifts(kernel: Any) -> Any:
    """[4, 4, ...]: a kernel [3, 3, ...] at its four places in there, added up."""
    rows = ops.pad(kernel, ((0, 1), (0, 0), (0, 0), (0, 0))) + ops.pad(
        kernel, ((1, 0), (0, 0), (0, 0), (0, 0))
    )
    return ops.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + ops.pad(
        rows, ((0, 0), (1, 0), (0, 0), (0, 0))
    )


def make_up_conv(upsample: str, filters: int, **kwargs: Any) -> keras.layers.Layer:
    """Makes the layer that doubles height and width: "transposed" or "nearest".

    Raises:
        ConfigError: The name is neither.
    """
    if upsample == "transposed":
        return UpConv2D(filters, **kwargs)
    if upsample == "nearest":
        return NearestUpConv2D(filters, **kwargs)
    raise ConfigError(f"upsample must be 'transposed' or 'nearest', got {upsample!r}.")
