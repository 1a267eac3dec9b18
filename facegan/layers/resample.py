"""Doubling and halving of feature maps with a smoothing filter, so that nothing aliases.

The filter is [1, 3, 3, 1] along each axis, normalised. All functions take and give
[B, H, W, C] and see zeros outside of the picture.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020,
appendix B. The plain forms do what is defined there step by step: insert zeros, pad, filter, take
every second pixel. The others give the same with fewer operations.
"""

import math
from typing import Any

from keras import ops

from facegan.layers.fast_paths import fast_paths_allowed

FIR = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1], normalised


def upfirdn(inputs: Any, *, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Any:
    """Inserts zeros, pads, filters and takes every ``down``-th pixel: the plain definition.

    Args:
        inputs: [B, H, W, C] float.
        up: Each pixel becomes the first of ``up`` x ``up``, the others are zero. What this loses in
            brightness is given back.
        down: Every ``down``-th row and column stays.
        pad: Zeros added before and after, along both axes.

    Returns:
        [B, H', W', C] with H' = (up H + pad[0] + pad[1] - 4) // down + 1.
    """
    x = _insert_zeros(_insert_zeros(inputs, 1, up), 2, up)
    x = ops.pad(x, ((0, 0), pad, pad, (0, 0)))
    x = ops.depthwise_conv(x, _kernel(x, up * up), 1, padding="valid", data_format="channels_last")
    return x[:, ::down, ::down]


def _insert_zeros(x: Any, axis: int, factor: int) -> Any:
    if factor == 1:
        return x
    shape = list(ops.shape(x))
    shape[axis] = factor * shape[axis]
    joined = ops.stack([x] + [ops.zeros_like(x)] * (factor - 1), axis=axis + 1)  # rank 5
    return ops.reshape(joined, shape)  # rank 4


def _kernel(x: Any, gain: float) -> Any:
    """The filter for each of the channels of x: [4, 4, C, 1]."""
    taps = [[[[gain * a * b]] for b in FIR] for a in FIR]
    return ops.tile(ops.cast(taps, x.dtype), (1, 1, x.shape[-1], 1))


def _filter(inputs: Any, pad: int, *, gain: float = 1.0, stride: int = 1) -> Any:
    """The filter with ``pad`` zeros on all sides, at every ``stride``-th place."""
    sides = (pad, pad)
    x = ops.pad(inputs, ((0, 0), sides, sides, (0, 0)))
    # Measured on a CPU, for four maps of 65x65x128 with their gradient: a depthwise
    # convolution takes 5 ms in TensorFlow and 254 ms in XLA, the sum of shifted maps 134 and 8.
    if fast_paths_allowed():
        return ops.depthwise_conv(
            x, _kernel(x, gain), stride, padding="valid", data_format="channels_last"
        )
    outer, inner = math.sqrt(gain) * FIR[0], math.sqrt(gain) * FIR[1]
    x = outer * (x[:, :-3] + x[:, 3:]) + inner * (x[:, 1:-2] + x[:, 2:-1])
    x = x[:, ::stride]
    x = outer * (x[:, :, :-3] + x[:, :, 3:]) + inner * (x[:, :, 1:-2] + x[:, :, 2:-1])
    return x[:, :, ::stride]


def fir_upsample(inputs: Any, *, plain: bool = False) -> Any:
    """Doubles height and width.

    Args:
        inputs: [B, H, W, C] float.
        plain: Whether to go by the definition.

    Returns:
        [B, 2H, 2W, C].
    """
    if plain:
        return upfirdn(inputs, up=2, pad=(2, 1))
    # Of the four taps two meet zeros: a new pixel is 3/4 of the old one it lies in and 1/4 of the
    # nearest neighbour along each axis.
    return _interleave(_interleave(inputs, 1), 2)


def _interleave(x: Any, axis: int) -> Any:
    sides = [(0, 0)] * 4
    sides[axis] = (1, 1)
    around = ops.pad(0.25 * x, sides)
    if axis == 1:
        before, after = around[:, :-2], around[:, 2:]
    else:
        before, after = around[:, :, :-2], around[:, :, 2:]
    joined = ops.stack([0.75 * x + before, 0.75 * x + after], axis=axis + 1)  # rank 5
    shape = list(ops.shape(x))
    shape[axis] = 2 * shape[axis]
    return ops.reshape(joined, shape)  # rank 4


def fir_downsample(inputs: Any, *, plain: bool = False) -> Any:
    """Halves height and width, which are even.

    Args:
        inputs: [B, H, W, C] float.
        plain: Whether to go by the definition.

    Returns:
        [B, H / 2, W / 2, C].
    """
    if plain:
        return upfirdn(inputs, down=2, pad=(1, 1))
    return _filter(inputs, 1, stride=2)


def fir_up_conv(inputs: Any, kernel: Any, *, plain: bool = False) -> Any:
    """Doubles height and width, then convolves 3x3 with one zero on each side.

    Args:
        inputs: [B, H, W, C] float.
        kernel: [3, 3, C, filters].
        plain: Whether to go by the definition.

    Returns:
        [B, 2H, 2W, filters].
    """
    if plain:
        # One pixel more on each side is filtered, too: the filter reaches over the border.
        x = upfirdn(inputs, up=2, pad=(3, 2))
        return ops.conv(x, kernel, 1, padding="valid", data_format="channels_last")
    # The convolution first, while three of four pixels are zeros that need no product: that is a
    # transposed one, whose kernel stands the other way round and has its channels swapped.
    flipped = ops.flip(ops.flip(ops.transpose(kernel, (0, 1, 3, 2)), axis=0), axis=1)
    x = ops.conv_transpose(inputs, flipped, 2, padding="valid", data_format="channels_last")
    return _filter(x, 1, gain=4.0)


def fir_down_conv(inputs: Any, kernel: Any, *, plain: bool = False) -> Any:
    """Convolves 3x3 with one zero on each side, then halves height and width, which are even.

    Args:
        inputs: [B, H, W, C] float.
        kernel: [3, 3, C, filters].
        plain: Whether to go by the definition.

    Returns:
        [B, H / 2, W / 2, filters].
    """
    if plain:
        # One pixel more on each side is convolved, too: the filter reaches over the border.
        x = ops.pad(inputs, ((0, 0), (2, 2), (2, 2), (0, 0)))
        x = ops.conv(x, kernel, 1, padding="valid", data_format="channels_last")
        return upfirdn(x, down=2)
    # The filter first; then only every second of the convolution's places is computed.
    return ops.conv(_filter(inputs, 2), kernel, 2, padding="valid", data_format="channels_last")
