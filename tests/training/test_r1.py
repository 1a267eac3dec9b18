import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.training.r1 import r1_penalty


def test_the_penalty_and_its_gradient_are_those_of_a_quadratic_form():
    images = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    scale = tf.Variable(0.5)

    def judge(x):  # D(x) = scale |x|^2, whose gradient is 2 scale x
        return scale * tf.reduce_sum(tf.square(x), axis=(1, 2, 3))[:, None]

    with tf.GradientTape() as tape:
        logits, penalty = r1_penalty(judge, tf.constant(images))
    squares = (images**2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(logits[:, 0], 0.5 * squares, rtol=1e-5)
    assert float(penalty) == pytest.approx(0.5 * (4 * 0.25 * squares).mean(), rel=1e-5)
    # d/d scale of 1/2 E 4 scale^2 |x|^2
    slope = float(tape.gradient(penalty, scale))
    assert slope == pytest.approx((4 * 0.5 * squares).mean(), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_penalty_teaches_a_net_to_be_flat(dtype):
    net = keras.Sequential([keras.layers.Conv2D(1, 3, dtype=dtype), keras.layers.Flatten()])
    images = tf.random.stateless_normal((2, 8, 8, 3), [0, 1])
    net(images)
    found = []
    for _ in range(30):
        with tf.GradientTape() as tape:
            _, penalty = r1_penalty(net, images)
        kernel = net.trainable_variables[0]
        kernel.assign_sub(0.005 * tape.gradient(penalty, kernel.value))
        found.append(float(penalty))
    assert penalty.dtype == tf.float32
    assert found[-1] < 0.1 * found[0]
