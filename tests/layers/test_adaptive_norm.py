import numpy as np
import tensorflow as tf

from facegan.layers.adaptive_norm import adaptive_instance_norm


def test_it_gives_the_mean_and_deviation_that_are_asked_for():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (2, 5, 4, 3)).astype(np.float32)
    scale, shift = (rng.normal(size=(2, 3)).astype(np.float32) for _ in range(2))
    out = np.asarray(adaptive_instance_norm(x, scale, shift))
    np.testing.assert_allclose(out.mean(axis=(1, 2)), shift, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=(1, 2), ddof=1), np.abs(scale), rtol=1e-4)


def test_a_constant_channel_becomes_its_shift_and_has_a_finite_gradient():
    x = tf.Variable(np.full((1, 4, 4, 1), 7.0, np.float32))
    with tf.GradientTape() as tape:
        out = adaptive_instance_norm(x, np.array([[2.0]]), np.array([[0.5]]))
        loss = tf.reduce_sum(out * tf.range(16.0).numpy().reshape(1, 4, 4, 1))
    np.testing.assert_array_equal(out, np.full((1, 4, 4, 1), 0.5))
    assert np.isfinite(tape.gradient(loss, x)).all()


def test_statistics_are_float32_under_half_precision():
    x = (1000 + np.arange(16).reshape(1, 4, 4, 1)).astype(np.float16)
    out = adaptive_instance_norm(tf.constant(x), np.ones((1, 1)), np.zeros((1, 1)))
    assert out.dtype == tf.float16
    expected = (np.arange(16) - 7.5) / np.arange(16).std(ddof=1)
    np.testing.assert_allclose(np.asarray(out).ravel(), expected, atol=2e-3)
