import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.layers.convolution import (
    NearestUpConv2D,
    PaddedConv2D,
    PooledConv2D,
    UpConv2D,
    compose_upsampling_kernel,
    make_up_conv,
)


def convolve(x, kernel, strides, padding):
    """The definition, pixel by pixel."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    k = kernel.shape[0]
    height = (x.shape[1] - k) // strides + 1
    width = (x.shape[2] - k) // strides + 1
    out = np.zeros((x.shape[0], height, width, kernel.shape[3]), np.float64)
    for i in range(height):
        for j in range(width):
            window = x[:, i * strides : i * strides + k, j * strides : j * strides + k]
            out[:, i, j] = np.einsum("bhwc,hwcd->bd", window, kernel)
    return out


def sequence(shape):
    """Values that all differ, so that no permutation goes unseen."""
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
@pytest.mark.parametrize(
    ("kernel", "strides", "padding"), [(4, 2, 1), (3, 2, 1), (4, 1, 1), (3, 1, 1), (1, 1, 0)]
)
def test_padded_conv_is_symmetric_for_every_size(size, kernel, strides, padding):
    x = sequence((2, *size, 2))
    layer = PaddedConv2D(3, kernel, strides=strides, padding=padding)
    layer.build(x.shape)
    weights = [sequence((kernel, kernel, 2, 3)), sequence((3,))]
    layer.set_weights(weights)
    out = np.asarray(layer(x))
    expected = convolve(x, weights[0], strides, padding) + weights[1]
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == out.shape


def test_padded_conv_with_free_sizes_equals_fixed_ones():
    x = sequence((1, 8, 6, 2))
    layer = PaddedConv2D(3, 4, strides=2, padding=1)
    layer.build(x.shape)
    layer.set_weights([sequence((4, 4, 2, 3)), sequence((3,))])
    traced = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 2))])
    np.testing.assert_allclose(traced(x), layer(x), atol=1e-6)


def test_up_conv_spreads_each_pixel_over_its_kernel():
    x = sequence((1, 3, 2, 2))
    kernel = sequence((4, 4, 3, 2))
    layer = UpConv2D(3, use_bias=False)
    layer.build(x.shape)
    layer.set_weights([kernel])
    full = np.zeros((1, 8, 6, 3))
    for i in range(3):
        for j in range(2):
            full[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum(
                "bc,hwdc->bhwd", x[:, i, j], kernel
            )
    np.testing.assert_allclose(layer(x), full[:, 1:-1, 1:-1], atol=1e-5)


def test_the_composed_kernel_equals_its_plain_reference():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    fast, plain = NearestUpConv2D(6), NearestUpConv2D(6, composed=False)
    for layer in (fast, plain):
        layer.build(x.shape)
    weights = [np.random.default_rng(1).normal(size=w.shape) for w in plain.weights]
    fast.set_weights(weights)
    plain.set_weights(weights)
    np.testing.assert_allclose(fast(x), plain(x), atol=2e-5)


def test_the_composed_kernel_sums_neighbouring_taps():
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[:, 1, 0, 0] = [1, 10, 100]
    composed = np.asarray(compose_upsampling_kernel(kernel))[..., 0, 0]
    np.testing.assert_array_equal(composed[:, 1], [100, 110, 11, 1])
    np.testing.assert_array_equal(composed[:, 2], [100, 110, 11, 1])
    np.testing.assert_array_equal(composed[:, [0, 3]], 0)


def test_a_pooled_convolution_is_a_convolution_and_a_mean():
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    layer = PooledConv2D(5)
    layer.build(x.shape)
    kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 5)).astype(np.float32)
    layer.set_weights([kernel, np.arange(5, dtype=np.float32)])
    plain = convolve(x, kernel, 1, 1).reshape(2, 3, 2, 2, 2, 5).mean(axis=(2, 4)) + np.arange(5)
    np.testing.assert_allclose(layer(x), plain, atol=1e-4)


def test_kernels_start_small():
    layer = PaddedConv2D(64, 4)
    layer.build((None, 8, 8, 64))
    assert abs(np.std(layer.kernel) - 0.02) < 0.001
    assert not np.any(layer.bias)


def test_make_up_conv_knows_two_names():
    assert isinstance(make_up_conv("transposed", 4), UpConv2D)
    assert isinstance(make_up_conv("nearest", 4), NearestUpConv2D)
    with pytest.raises(ConfigError, match="'transposed' or 'nearest', got 'cubic'"):
        make_up_conv("cubic", 4)
