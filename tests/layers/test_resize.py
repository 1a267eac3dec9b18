import numpy as np
import pytest
import tensorflow as tf

from facegan.layers.resize import (
    bilinear_resize,
    bilinear_upsample,
    half_pixel_upsample,
    nearest_upsample,
)


def align_corners(x, axis, size=None):
    """Linear interpolation with np.interp, output p of ``size`` at p (n - 1) / (size - 1)."""
    n = x.shape[axis]
    size = size or 2 * n
    at = np.arange(size) * (n - 1) / max(size - 1, 1)
    return np.apply_along_axis(lambda row: np.interp(at, np.arange(n), row), axis, x)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_bilinear_keeps_corners_and_interpolates_between(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    out = np.asarray(bilinear_upsample(x))
    np.testing.assert_allclose(out, align_corners(align_corners(x, 1), 2), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (2, 9), (7, 3), (13, 32)])
@pytest.mark.parametrize("old", [(1, 3), (3, 4), (8, 5)])
def test_resizing_keeps_corners_and_interpolates_between(old, size):
    x = np.random.default_rng(0).normal(size=(2, *old, 3)).astype(np.float32)
    out = np.asarray(bilinear_resize(x, *size))
    expected = align_corners(align_corners(x, 1, size[0]), 2, size[1])
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_resizing_to_the_double_is_the_doubling():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(bilinear_resize(x, 10, 8), bilinear_upsample(x), atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_resizing_of_free_sizes_traces_to_the_same_numbers(jit_compile):
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 2))], jit_compile=jit_compile)
    def resize_threefold(x):
        shape = tf.shape(x)
        return bilinear_resize(x, 3 * shape[1], 3 * shape[2])

    np.testing.assert_allclose(resize_threefold(x), bilinear_resize(x, 12, 9), atol=1e-6)


def test_resizing_keeps_half_precision():
    x = tf.ones((1, 2, 3, 4), tf.bfloat16)
    assert bilinear_resize(x, 5, 5).dtype == tf.bfloat16


def test_nearest_repeats():
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    expected = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(nearest_upsample(x), expected)


@pytest.mark.parametrize("upsample", [bilinear_upsample, nearest_upsample])
def test_free_sizes_trace_to_the_same_numbers(upsample):
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
    traced = tf.function(upsample, input_signature=[tf.TensorSpec((None, None, None, 2))])
    np.testing.assert_allclose(traced(x), upsample(x), atol=1e-6)


def test_half_pixel_upsample_is_bilinear_without_aligned_corners():
    x = np.array([[1.0, 3.0, 7.0]], np.float32).reshape(1, 1, 3, 1)
    out = np.asarray(half_pixel_upsample(x))
    assert out.shape == (1, 2, 6, 1)
    # New pixels at 1/4 and 3/4 of each old one; the outermost pixel goes on.
    np.testing.assert_allclose(out[0, 0, :, 0], [1.0, 1.5, 2.5, 4.0, 6.0, 7.0])
    np.testing.assert_allclose(out[0, 1], out[0, 0])
    image = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    expected = tf.image.resize(image, (10, 8), "bilinear")
    np.testing.assert_allclose(half_pixel_upsample(image), expected, atol=1e-6)
