import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from facegan.errors import ConfigError
from facegan.layers.randomness import GivenSeed, SeededDropout, fold_in


def seed(*words):
    return ops.convert_to_tensor(np.array(words, np.int32))


def folded(words, data):
    return tuple(np.asarray(fold_in(seed(*words), data)).tolist())


def test_folding_never_meets_over_a_grid_of_steps_and_layers():
    steps, streams = np.meshgrid(np.arange(300, dtype=np.int32), np.arange(40, dtype=np.int32))
    # All pairs at once: every operation works value by value.
    start = np.array([[7], [0]], np.int32)
    seeds = np.asarray(fold_in(fold_in(start, steps.ravel()), streams.ravel())).T
    assert len(np.unique(seeds, axis=0)) == len(seeds)
    # Each word by itself is spread over all of int32 too: 12,000 draws from 2^32 meet about once
    # in 60 such tests.
    assert len(np.unique(seeds[:, 0])) >= len(seeds) - 3
    assert abs(np.mean(seeds.astype(np.float64))) < 2**31 * 0.02


def test_folding_a_chain_depends_on_its_order():
    one = np.asarray(fold_in(fold_in(seed(0, 0), 1), 3))
    other = np.asarray(fold_in(fold_in(seed(0, 0), 3), 1))
    assert not np.array_equal(one, other)


def test_every_bit_of_seed_and_number_reaches_both_words():
    start = np.array(folded((5, 9), 11))
    for bit in range(32):
        flip = -(2**31) if bit == 31 else 1 << bit
        for words, data in (
            ((5 ^ flip, 9), 11),
            ((5, 9 ^ flip), 11),
            ((5, 9), int(np.int32(11) ^ np.int32(flip))),
        ):
            assert np.all(np.array(folded(words, data)) != start)


def test_folding_takes_python_numbers_beyond_int32_and_tensors():
    assert folded((1, 2), 2**32 + 5) == folded((1, 2), 5)
    assert folded((1, 2), -1) == folded((1, 2), 2**32 - 1)
    assert folded((1, 2), ops.convert_to_tensor(5, "int32")) == folded((1, 2), 5)


def test_folding_compiles_to_the_same_numbers():
    compiled = tf.function(fold_in, jit_compile=True)
    data = tf.constant(123456)
    np.testing.assert_array_equal(compiled(seed(3, -4), data), fold_in(seed(3, -4), data))


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer = SeededDropout(0.25)
    out = np.asarray(layer(np.ones((100, 1000), np.float32), training=True, seed=seed(1, 2)))
    # 100,000 draws: the share's standard deviation is 0.0014.
    assert abs(np.mean(out == 0) - 0.25) < 0.007
    np.testing.assert_allclose(out[out != 0], 1 / 0.75, rtol=1e-6)


def test_streams_of_one_seed_draw_differently():
    x = np.ones((10, 100), np.float32)
    first = SeededDropout(0.5, stream=1)(x, training=True, seed=seed(1, 2))
    other = SeededDropout(0.5, stream=2)(x, training=True, seed=seed(1, 2))
    assert 0.4 < np.mean(np.asarray(first) != np.asarray(other)) < 0.6


def test_rate_zero_needs_no_seed():
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(SeededDropout(0.0)(x, training=True), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ConfigError, match="rate must be in"):
        SeededDropout(rate)


def test_a_given_seed_has_no_variable_and_returns_itself():
    given = GivenSeed(seed(1, 2))
    np.testing.assert_array_equal(given.next(), [1, 2])
    np.testing.assert_array_equal(given.next(), [1, 2])
    assert not hasattr(given, "state")
