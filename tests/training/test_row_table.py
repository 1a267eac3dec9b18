import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.training.optimizers import AdamConfig
from facegan.training.row_table import RowTable, RowTableSpec

ADAM = AdamConfig(learning_rate=0.01, beta_1=0.4, beta_2=0.9)


def make_table(rows=5, seed=0):
    return RowTable(RowTableSpec(rows=rows, width=3, index="video", optimizer=ADAM), "w", seed)


def test_with_every_row_in_every_batch_it_is_adam():
    table = make_table()
    weights = keras.Variable(table.values.numpy())
    adam = keras.optimizers.Adam(0.01, beta_1=0.4, beta_2=0.9, epsilon=1e-8)
    rng = np.random.default_rng(0)
    for step in range(6):
        gradients = rng.normal(size=(5, 3)).astype(np.float32)
        order = rng.permutation(5)
        table.update(order, gradients[order], 0.01 / (1 + step))
        adam.learning_rate = 0.01 / (1 + step)
        adam.apply([gradients], [weights])
    np.testing.assert_allclose(table.values.numpy(), weights, atol=1e-6)


def test_a_row_that_is_named_twice_takes_the_sum_and_others_stay():
    table, twice = make_table(), make_table()
    before = table.values.numpy()
    gradients = np.array([[1, 2, 3], [4, -2, 0], [1, 1, 1]], np.float32)
    twice.update(np.array([2, 0, 2]), gradients, 0.01)
    table.update(np.array([0, 2]), np.array([[4, -2, 0], [2, 3, 4]], np.float32), 0.01)
    np.testing.assert_array_equal(twice.values.numpy(), table.values.numpy())
    np.testing.assert_array_equal(table.values.numpy()[[1, 3, 4]], before[[1, 3, 4]])
    assert (table.values.numpy()[[0, 2]] != before[[0, 2]]).any(axis=1).all()
    np.testing.assert_array_equal(table.first.numpy()[[1, 3, 4]], 0)


def test_rows_follow_from_the_seed():
    np.testing.assert_array_equal(make_table().values.numpy(), make_table().values.numpy())
    assert not np.array_equal(make_table().values.numpy(), make_table(seed=1).values.numpy())
    assert make_table(rows=2000).values.numpy().std() == pytest.approx(0.02, rel=0.05)


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="rows 0 to 4; the data names video 7"):
        make_table().read(np.array([1, 7]))
    with pytest.raises(ConfigError, match="video -1"):
        make_table().read(np.array([-1]))
