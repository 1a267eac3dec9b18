import numpy as np
import pytest

from facegan.layers.equalized import EqualizedConv2D, EqualizedDense, scaled_leaky_relu
from facegan.layers.resample import fir_downsample


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_activation_keeps_variance_and_clamps():
    # Of the bias-free N(0, 1), sqrt(2) keeps the power of a ReLU; the slope adds its square.
    x = noise(100_000)
    power = np.mean(np.square(np.asarray(scaled_leaky_relu(x))))
    assert power == pytest.approx(1 + 0.2**2, rel=0.02)
    out = np.asarray(scaled_leaky_relu(np.float32([-100, -1, 1, 100]), gain=0.5, clamp=4.0))
    np.testing.assert_allclose(out, [-2, -0.1 * 2**0.5, 0.5 * 2**0.5, 2], rtol=1e-6)


def test_dense_scales_its_weights_while_it_runs():
    layer = EqualizedDense(300, lr_multiplier=0.01, bias_start=1.0)
    x = noise(8, 400)
    out = np.asarray(layer(x))
    kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
    assert kernel.std() == pytest.approx(100, rel=0.02)
    np.testing.assert_allclose(bias, 100)
    # The starting values cancel the multiplier.
    np.testing.assert_allclose(out, x @ kernel * 0.01 / 20 + 1, atol=1e-5)
    assert out.std() == pytest.approx(1, rel=0.1)


def test_convolution_of_unit_noise_has_unit_variance():
    layer = EqualizedConv2D(64, activate=False)
    assert np.asarray(layer(noise(2, 16, 16, 32)))[:, 1:-1, 1:-1].std() == pytest.approx(1, rel=0.1)


def test_1x1_convolution_that_halves_is_filter_and_product():
    layer, x = EqualizedConv2D(3, 1, downsample=True, activate=False, gain=0.5), noise(2, 6, 4, 4)
    out = layer(x)
    expected = np.asarray(fir_downsample(x)) @ np.asarray(layer.kernel)[0, 0] / 2 * 0.5
    np.testing.assert_allclose(out, expected, atol=1e-5)
