import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.layers.modulated import ModulatedConv2D, precise_dtype
from facegan.layers.resample import upfirdn


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("mixed_float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_precise_is_at_least_float32(policy, expected):
    assert precise_dtype(keras.layers.Identity(dtype=policy)) == expected


def test_modulation_gives_each_example_a_kernel_of_its_own():
    layer, x, style = ModulatedConv2D(4), noise(2, 5, 6, 3), noise(2, 3, seed=1)
    out = np.asarray(layer({"features": x, "style": style}))
    for i in range(2):
        # Equations 1 to 3 of the paper.
        kernel = np.asarray(layer.kernel) * style[i][None, None, :, None]
        kernel /= np.sqrt(np.square(kernel).sum(axis=(0, 1, 2)) + 1e-8)
        expected = tf.nn.conv2d(x[i : i + 1], kernel, 1, "SAME")
        np.testing.assert_allclose(out[i], expected[0], atol=1e-5)


def test_half_precision_bears_styles_that_it_could_not_square():
    layer, half = ModulatedConv2D(4), ModulatedConv2D(4, dtype="mixed_float16")
    given = {"features": noise(2, 5, 6, 3), "style": 3e4 * noise(2, 3, seed=1).clip(-1, 1)}
    expected = layer(given)
    half.build({name: value.shape for name, value in given.items()})
    half.kernel.assign(layer.kernel)
    np.testing.assert_allclose(half(given), expected, atol=0.02)


def test_doubling_comes_before_the_kernel_of_a_style():
    layer, x, style = ModulatedConv2D(4, upsample=True), noise(1, 3, 5, 3), noise(1, 3, seed=1)
    out = layer({"features": x, "style": style})
    kernel = np.asarray(layer.kernel) * style[0][None, None, :, None]
    kernel /= np.sqrt(np.square(kernel).sum(axis=(0, 1, 2)) + 1e-8)
    doubled = upfirdn(x, up=2, pad=(3, 2))
    np.testing.assert_allclose(out, tf.nn.conv2d(doubled, kernel, 1, "VALID"), atol=1e-5)


def test_without_demodulation_the_style_scales_the_output():
    layer, x, style = ModulatedConv2D(4, 1, demodulate=False), noise(1, 3, 5, 4), noise(1, 4)
    out = layer({"features": x, "style": style})
    expected = (x * style[0]) @ np.asarray(layer.kernel)[0, 0] / 2
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_only_3x3_doubles():
    with pytest.raises(ConfigError, match="Only 3x3 convolutions upsample"):
        ModulatedConv2D(4, 1, upsample=True)
