import numpy as np
import pytest
import tensorflow as tf

from facegan.layers.fast_paths import allow_fast_paths
from facegan.layers.resample import (
    fir_down_conv,
    fir_downsample,
    fir_up_conv,
    fir_upsample,
    upfirdn,
)

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def numpy_upfirdn(x, up, down, pad):
    """The definition in loops, in float64."""
    batch, height, width, channels = x.shape
    zeros = np.zeros((batch, up * height, up * width, channels))
    zeros[:, ::up, ::up] = x
    zeros = np.pad(zeros, ((0, 0), pad, pad, (0, 0)))
    rows, columns = zeros.shape[1] - 3, zeros.shape[2] - 3
    out = np.zeros((batch, rows, columns, channels))
    for i in range(4):
        for j in range(4):
            out += up * up * TAPS[i, j] * zeros[:, i : i + rows, j : j + columns]
    return out[:, ::down, ::down]


def numpy_conv(x, kernel, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = x.shape[1] - 2, x.shape[2] - 2
    return sum(
        x[:, i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("up", "down", "pad"), [(1, 1, (0, 0)), (2, 1, (2, 1)), (1, 2, (1, 1)), (2, 2, (3, 0))]
)
def test_the_plain_form_is_the_definition(up, down, pad):
    x = noise(2, 6, 4, 3)
    expected = numpy_upfirdn(x, up, down, pad)
    np.testing.assert_allclose(upfirdn(x, up=up, down=down, pad=pad), expected, atol=1e-6)


# By the definition; as XLA computes it quickest; as TensorFlow does.
each_form = pytest.mark.parametrize(
    ("plain", "fast"), [(True, False), (False, False), (False, True)], ids=str
)


@each_form
def test_doubling_and_halving(plain, fast):
    x = noise(2, 6, 4, 3)
    with allow_fast_paths(fast):
        up, down = fir_upsample(x, plain=plain), fir_downsample(x, plain=plain)
    np.testing.assert_allclose(up, numpy_upfirdn(x, 2, 1, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(down, numpy_upfirdn(x, 1, 2, (1, 1)), atol=1e-6)


@each_form
def test_doubling_and_convolving(plain, fast):
    x, kernel = noise(2, 3, 5, 4), noise(3, 3, 4, 2, seed=1)
    # With the border that the filter reaches, and without one around the convolution.
    expected = numpy_conv(numpy_upfirdn(x, 2, 1, (3, 2)), kernel, 0)
    assert expected.shape == (2, 6, 10, 2)
    with allow_fast_paths(fast):
        out = fir_up_conv(x, kernel, plain=plain)
    np.testing.assert_allclose(out, expected, atol=2e-5)


@each_form
def test_convolving_and_halving(plain, fast):
    x, kernel = noise(2, 4, 6, 4), noise(3, 3, 4, 2, seed=1)
    expected = numpy_upfirdn(numpy_conv(x, kernel, 2), 1, 2, (0, 0))
    assert expected.shape == (2, 2, 3, 2)
    with allow_fast_paths(fast):
        out = fir_down_conv(x, kernel, plain=plain)
    np.testing.assert_allclose(out, expected, atol=2e-5)


@pytest.mark.parametrize("function", [fir_up_conv, fir_down_conv])
def test_all_forms_have_the_same_gradients(function):
    x, kernel = tf.constant(noise(2, 4, 6, 3)), tf.constant(noise(3, 3, 3, 2, seed=1))
    found = []
    for plain, fast in ((True, False), (False, False), (False, True)):
        with allow_fast_paths(fast), tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel, plain=plain)
            loss = tf.reduce_sum(y * np.sin(np.arange(np.prod(y.shape))).reshape(y.shape))
        found.append(tape.gradient(loss, [x, kernel]))
    for slow, shifted, filtered in zip(*found, strict=True):
        np.testing.assert_allclose(shifted, slow, atol=1e-4)
        np.testing.assert_allclose(filtered, slow, atol=1e-4)


def test_a_constant_stays_what_it_is_inside():
    x = np.full((1, 8, 8, 1), 0.7, np.float32)
    np.testing.assert_allclose(np.asarray(fir_upsample(x))[:, 1:-1, 1:-1], 0.7, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(fir_downsample(x))[:, 1:-1, 1:-1], 0.7, rtol=1e-6)


@pytest.mark.parametrize("function", [fir_upsample, fir_downsample])
def test_height_and_width_may_be_free(function):
    x = noise(1, 4, 6, 2)
    free = tf.function(function, input_signature=[tf.TensorSpec((None, None, None, 2))])
    np.testing.assert_allclose(free(x), function(x), atol=1e-6)
