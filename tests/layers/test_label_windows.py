import numpy as np
import tensorflow as tf

from facegan.layers.label_windows import find_windows, grid_labels, one_hot_labels

OUTSIDE = 7


def blocks(rng, shape):
    """Maps of large patches, as faces have them."""
    small = rng.integers(0, OUTSIDE, (shape[0], shape[1] // 4, shape[2] // 4))
    return small.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def window_at(label_map, image, row, column):
    padded = np.pad(label_map[image], 2, constant_values=OUTSIDE)
    return padded[row : row + 5, column : column + 5]


def test_every_pixel_finds_its_window():
    maps = blocks(np.random.default_rng(0), (2, 16, 24))
    found = find_windows(maps, OUTSIDE)
    windows, window_of = np.asarray(found["windows"]), np.asarray(found["window_of"])
    assert window_of.shape == maps.shape
    for index in np.ndindex(maps.shape):
        np.testing.assert_array_equal(windows[window_of[index]], window_at(maps, *index))


def test_windows_are_all_different_and_few_where_patches_are_large():
    maps = np.zeros((1, 32, 32), np.uint8)
    maps[0, 8:20, 10:25] = 3
    windows = np.asarray(find_windows(maps, OUTSIDE)["windows"])
    assert len(np.unique(windows.reshape(len(windows), -1), axis=0)) == len(windows)
    expected = {window_at(maps, *index).tobytes() for index in np.ndindex(maps.shape)}
    assert len(windows) == len(expected) < 110


def test_sizes_may_be_free():
    maps = blocks(np.random.default_rng(1), (1, 12, 8))
    traced = tf.function(
        lambda x: find_windows(x, OUTSIDE), input_signature=[tf.TensorSpec((None,) * 3, tf.uint8)]
    )
    for name, value in find_windows(maps, OUTSIDE).items():
        np.testing.assert_array_equal(traced(maps)[name], value)


def test_a_grid_takes_the_upper_left_pixel_of_each_block():
    maps = np.arange(64).reshape(1, 8, 8)
    np.testing.assert_array_equal(grid_labels(maps, 4)[0], [[0, 4], [32, 36]])
    assert grid_labels(maps, 1) is maps


def test_one_hot_has_no_channel_for_what_is_outside():
    hot = np.asarray(one_hot_labels(np.array([[[0, 2, 3]]], np.uint8), 3, "float32"))
    np.testing.assert_array_equal(hot[0, 0], [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
