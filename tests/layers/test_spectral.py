import keras
import numpy as np
import tensorflow as tf

from facegan.layers.convolution import PaddedConv2D
from facegan.layers.spectral import SpectralConv2D, make_conv


def built(**kwargs):
    layer = SpectralConv2D(5, 3, padding=1, kernel_initializer="he_normal", **kwargs)
    layer.build((None, None, None, 4))
    return layer


def matrix_of(layer):
    return np.asarray(layer.kernel).reshape(-1, layer.filters).T  # [filters, h * w * c]


def noise(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def test_one_training_call_is_one_power_iteration():
    layer = built()
    weights, v = matrix_of(layer), np.asarray(layer.singular_vector)
    u = weights @ v / np.linalg.norm(weights @ v)
    v = weights.T @ u / np.linalg.norm(weights.T @ u)
    layer(noise(1, 6, 5, 4), training=True)
    np.testing.assert_allclose(layer.singular_vector, v, atol=1e-5)


def test_many_calls_divide_by_the_largest_singular_value():
    layer, x = built(), noise(1, 6, 5, 4)
    for _ in range(60):
        layer(x, training=True)
    expected = np.linalg.svd(matrix_of(layer), compute_uv=False)[0]
    weights = np.asarray(layer.normalized_kernel()).reshape(-1, 5)
    np.testing.assert_allclose(np.linalg.svd(weights, compute_uv=False)[0], 1, atol=1e-4)
    np.testing.assert_allclose(
        np.asarray(layer.kernel), np.asarray(layer.normalized_kernel()) * expected, rtol=1e-3
    )


def test_a_call_without_training_convolves_with_the_normalized_kernel_and_changes_nothing():
    layer, x = built(), noise(2, 6, 5, 4)
    before = [np.array(v) for v in layer.variables]
    plain = PaddedConv2D(5, 3, padding=1)
    plain.build(x.shape)
    plain.set_weights([np.asarray(layer.normalized_kernel()), np.asarray(layer.bias)])
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_the_gradient_goes_through_the_division_with_the_vectors_held():
    layer = built(use_bias=False)
    direction = noise(3, 3, 4, 5)
    for _ in range(100):  # at a fixed point another iteration moves nothing
        layer(noise(1, 6, 5, 4), training=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(noise(1, 6, 5, 4), training=True) ** 2)
    gradient = np.asarray(tape.gradient(loss, layer.kernel.value))
    kernel, losses = np.array(layer.kernel), []
    for step in (1e-3, -1e-3):
        layer.kernel.assign(kernel + step * direction)
        losses.append(float(tf.reduce_sum(layer(noise(1, 6, 5, 4)) ** 2)))
    slope = (losses[0] - losses[1]) / 2e-3
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=2e-2)
    # Scaling the kernel changes nothing, so the gradient has no part along it.
    assert abs(np.sum(gradient * kernel)) < 1e-3 * np.linalg.norm(gradient) * np.linalg.norm(kernel)


def test_sigma_is_computed_in_float32_under_a_mixed_policy():
    layer = built(dtype="mixed_bfloat16")
    assert layer(noise(1, 6, 5, 4)).dtype == "bfloat16"
    assert keras.backend.standardize_dtype(layer.normalized_kernel().dtype) == "float32"


def test_make_conv_makes_either():
    assert type(make_conv(True, 3, 3, name="a")) is SpectralConv2D
    assert type(make_conv(False, 3, 3, name="a")) is PaddedConv2D
