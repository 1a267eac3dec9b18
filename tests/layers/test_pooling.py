import numpy as np
import pytest
import tensorflow as tf

from facegan.layers.pooling import average_downsample


def by_definition(x):
    """Means over the pixels of each 3x3 neighbourhood that lie inside."""
    height, width = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
    out = np.zeros((x.shape[0], height, width, x.shape[3]))
    for i in range(height):
        for j in range(width):
            rows = slice(max(2 * i - 1, 0), 2 * i + 2)
            columns = slice(max(2 * j - 1, 0), 2 * j + 2)
            out[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return out


@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_border_pixels_are_means_of_what_is_there(size):
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    np.testing.assert_allclose(average_downsample(x), by_definition(x), atol=1e-6)


def test_free_sizes_trace():
    x = np.random.default_rng(0).standard_normal((1, 6, 4, 2)).astype(np.float32)
    traced = tf.function(average_downsample, input_signature=[tf.TensorSpec((None,) * 3 + (2,))])
    np.testing.assert_allclose(traced(x), by_definition(x), atol=1e-6)
