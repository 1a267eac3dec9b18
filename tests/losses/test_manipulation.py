import numpy as np
import pytest
import tensorflow as tf

from facegan.losses.manipulation import change_loss, find_overlap, overlap_loss

RNG = np.random.default_rng(0)


def pictures(count=2):
    return [RNG.uniform(-1, 1, (2, 4, 6, 3)).astype(np.float32) for _ in range(count)]


def test_maps_overlap_where_they_show_the_same_groups_or_none():
    masks = np.array([[[[1, 0], [1, 0], [0, 0], [0, 0], [1, 1]]]], np.float32)
    others = np.array([[[[1, 0], [0, 1], [0, 0], [1, 0], [1, 0]]]], np.float32)
    overlap = np.asarray(find_overlap(masks, others))
    assert overlap.dtype == np.float32
    np.testing.assert_array_equal(overlap[0, 0, :, 0], [1, 0, 1, 0, 0])


def test_overlap_loss_counts_other_pixels_as_nothing():
    images, targets = pictures()
    area = RNG.integers(0, 2, (2, 4, 6, 1)).astype(np.float32)
    expected = (area * np.abs(images - targets)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(overlap_loss(images, targets, area), expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        overlap_loss(images, targets, area, reduce=False), expected, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("difference", "loss"), [(0.0, 0.16), (0.03, 0.13), (-0.05, 0.11), (0.08, 0.08), (1.0, 0.08)]
)
def test_change_loss_by_hand(difference, loss):
    targets = np.zeros((1, 2, 2, 3), np.float32)
    everywhere, nowhere = np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1))
    assert float(change_loss(targets + difference, targets, everywhere)) == pytest.approx(loss)
    assert float(change_loss(targets + difference, targets, nowhere)) == 0
    half = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    assert float(change_loss(targets + difference, targets, half)) == pytest.approx(loss / 2)


def test_a_small_change_is_pushed_on_and_a_large_one_left_alone():
    targets = np.zeros((1, 1, 3, 1), np.float32)
    images = tf.Variable(np.array([0.02, -0.02, 0.5], np.float32).reshape(1, 1, 3, 1))
    with tf.GradientTape() as tape:
        loss = change_loss(images.value(), targets, tf.ones((1, 1, 3, 1)))
    gradient = np.asarray(tape.gradient(loss, images)).ravel()
    np.testing.assert_allclose(gradient, [-1 / 3, 1 / 3, 0], rtol=1e-5)


def test_they_are_float32_under_half_precision():
    images, targets = (tf.cast(value, tf.bfloat16) for value in pictures())
    area = tf.ones((2, 4, 6, 1), tf.bfloat16)
    for loss in (overlap_loss, change_loss):
        assert loss(images, targets, area).dtype == tf.float32
