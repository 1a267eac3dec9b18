import numpy as np
import pytest
import tensorflow as tf

from facegan.layers.resize import bilinear_upsample, nearest_upsample


def align_corners(x, axis):
    """Linear interpolation with np.interp, output p at p (n - 1) / (2n - 1)."""
    n = x.shape[axis]
    at = np.arange(2 * n) * (n - 1) / (2 * n - 1)
    return np.apply_along_axis(lambda row: np.interp(at, np.arange(n), row), axis, x)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_bilinear_keeps_corners_and_interpolates_between(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    out = np.asarray(bilinear_upsample(x))
    np.testing.assert_allclose(out, align_corners(align_corners(x, 1), 2), atol=1e-6)


def test_nearest_repeats():
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    expected = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(nearest_upsample(x), expected)


@pytest.mark.parametrize("upsample", [bilinear_upsample, nearest_upsample])
def test_free_sizes_trace_to_the_same_numbers(upsample):
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
    traced = tf.function(upsample, input_signature=[tf.TensorSpec((None, None, None, 2))])
    np.testing.assert_allclose(traced(x), upsample(x), atol=1e-6)
