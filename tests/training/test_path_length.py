import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.layers.randomness import GivenSeed
from facegan.training.path_length import path_length_penalty

SEED = np.array([3, 4], np.int32)
SHAPE = (5, 4, 3, 2)  # of the pictures


def styles(layers=2, width=6):
    return tf.constant(np.random.default_rng(1).normal(size=(5, layers, width)), tf.float32)


def matrices(layers=2, width=6):
    return np.random.default_rng(0).normal(size=(layers, width, 4 * 3 * 2)).astype(np.float32)


def linear(matrix, scale=1.0):
    """Pictures whose derivative after layer l's style is ``scale * matrix[l]``, wherever it is."""
    return lambda w: tf.reshape(scale * tf.einsum("blw,lwp->bp", w, matrix), (-1, *SHAPE[1:]))


def lengths_by_hand(matrix):
    noise = np.asarray(keras.random.normal(SHAPE, seed=GivenSeed(SEED))).reshape(5, -1)
    moved = np.einsum("lwp,bp->blw", matrix, noise / np.sqrt(4 * 3))
    return np.sqrt(np.square(moved).sum(axis=2).mean(axis=1))


def test_the_penalty_is_how_much_lengths_differ_from_their_moving_mean():
    matrix = matrices()
    penalty, mean = path_length_penalty(
        linear(matrix), styles(), tf.constant(2.0), SEED, decay=0.25
    )
    lengths = lengths_by_hand(matrix)
    moved = 2.0 + 0.25 * (lengths.mean() - 2.0)
    assert float(mean) == pytest.approx(moved, rel=1e-5)
    assert float(penalty) == pytest.approx(np.square(lengths - moved).mean(), rel=1e-4)
    assert penalty.dtype == mean.dtype == tf.float32


def test_it_has_a_gradient_for_which_the_mean_stands_still():
    matrix, scale = matrices(), tf.Variable(1.5)
    with tf.GradientTape() as tape:
        penalty, mean = path_length_penalty(
            linear(matrix, scale), styles(), tf.constant(2.0), SEED, decay=0.25
        )
    lengths = lengths_by_hand(matrix)  # for a scale of 1
    moved = 2.0 + 0.25 * (1.5 * lengths.mean() - 2.0)
    slope = (2 * (1.5 * lengths - moved) * lengths).mean()
    assert float(tape.gradient(penalty, scale)) == pytest.approx(slope, rel=1e-4)
    assert float(mean) == pytest.approx(moved, rel=1e-5)


def test_squared_lengths_are_averaged_over_the_layers():
    matrix = matrices(layers=3)
    matrix[1:] = 0.0  # of three layers one has all of the picture in its hands
    _, mean = path_length_penalty(linear(matrix), styles(3), tf.constant(0.0), SEED, decay=1.0)
    one = matrix[:1]
    assert float(mean) == pytest.approx((lengths_by_hand(one) / np.sqrt(3)).mean(), rel=1e-5)
    _, alone = path_length_penalty(linear(one), styles(3)[:, :1], tf.constant(0.0), SEED, decay=1.0)
    assert float(alone) == pytest.approx(float(mean) * np.sqrt(3), rel=1e-5)


@pytest.mark.parametrize("size", [4, 16])
def test_lengths_do_not_depend_on_the_size_of_the_picture(size):
    # One number of the style is every pixel: J^T y is a sum of 3 size^2 draws over the root of
    # size^2, so it is from N(0, 3), and its length has a mean of sqrt(3) sqrt(2 / pi).
    w = tf.zeros((2000, 1, 1))
    _, mean = path_length_penalty(
        lambda w: tf.ones((1, size, size, 3)) * w[:, :, :, None],
        w, tf.constant(0.0), SEED, decay=1.0,
    )  # fmt: skip
    assert float(mean) == pytest.approx(np.sqrt(6 / np.pi), rel=0.05)


def test_pictures_of_one_length_cost_nothing_in_the_end():
    matrix, mean = matrices(), tf.constant(0.0)
    found = []
    for _ in range(60):
        penalty, mean = path_length_penalty(linear(matrix), styles(), mean, SEED, decay=0.2)
        found.append(float(penalty))
    lengths = lengths_by_hand(matrix)
    assert float(mean) == pytest.approx(lengths.mean(), rel=1e-4)
    assert found[-1] == pytest.approx(lengths.var(), rel=1e-3) and found[0] > 2 * found[-1]


def test_styles_in_reduced_precision_give_a_float32_penalty():
    matrix = matrices()
    paint = linear(tf.cast(matrix, tf.bfloat16))
    penalty, mean = path_length_penalty(
        lambda w: tf.cast(paint(tf.cast(w, tf.bfloat16)), tf.float32),
        styles(), tf.constant(2.0), SEED, decay=0.25,
    )  # fmt: skip
    exact = path_length_penalty(linear(matrix), styles(), tf.constant(2.0), SEED, decay=0.25)
    assert penalty.dtype == mean.dtype == tf.float32
    np.testing.assert_allclose([penalty, mean], exact, rtol=0.05)
