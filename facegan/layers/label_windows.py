"""Label maps on grids of feature maps, and which of their 5x5 windows differ.

What two 3x3 convolutions make of a label map at a pixel follows from the 5x5 labels around it. In
the map of a face at 256 px only some 4 per cent of these windows differ, so it is enough to
convolve those and to look the results up. The first of the convolutions sees 3x3 labels only, of
which even fewer differ.
"""

from typing import Any

import numpy as np
from keras import ops

# Of windows; two 3x3 convolutions reach this far.
WINDOW = 5
# What one of them sees.
PATCH = 3
# Multipliers of the hash along rows and columns: odd, drawn once.
_HASH = np.random.default_rng(20190318).integers(1, 2**62, (2, WINDOW)) * 2 + 1


def grid_labels(label_map: Any, factor: int) -> Any:
    """Ids on a grid that is ``factor`` times coarser: [B, H, W] -> [B, H / factor, W / factor].

    Takes each block's upper left pixel, as PyTorch's "nearest" mode does.
    """
    return label_map if factor == 1 else label_map[:, ::factor, ::factor]


def one_hot_labels(label_map: Any, num_labels: int, dtype: Any) -> Any:
    """Ids [B, H, W] -> [B, H, W, num_labels], 1 in the channel of the id; other ids give zeros."""
    return ops.one_hot(ops.cast(label_map, "int32"), num_labels, dtype=dtype)


def find_windows(label_map: Any, outside: int) -> dict[str, Any]:
    """Finds the different 5x5 windows of label maps. Needs TensorFlow, and does not compile by XLA.

    Windows are told apart by a 64-bit hash. Two different windows of a map would have to fall on
    the same of 2^64 numbers to be confused.

    Args:
        label_map: Ids [B, H, W], any integer type.
        outside: Id that stands for pixels outside of the map; no label has it.

    Returns:
        ``windows``: int32 [U, 5, 5], the different windows; ``window_of``: int32 [B, H, W], which
        of them lies around each pixel; ``patches``: int32 [V, 3, 3], the different 3x3 parts of
        the windows, some four times fewer; ``patch_of``: int32 [U, 3, 3], which of them each part
        is; ``inside``: bool [V], whether a patch lies around a pixel of the map. U and V are known
        when it is run.
    """
    import tensorflow as tf

    reach = WINDOW // 2
    sides = (reach, reach)
    ids = tf.pad(tf.cast(label_map, tf.int32), ((0, 0), sides, sides), constant_values=outside)
    windows, window_of = _find_different(ids, WINDOW)
    patches, patch_of = _find_different(windows, PATCH)
    return {
        "windows": windows,
        "window_of": window_of,
        "patches": patches,
        "patch_of": patch_of,
        "inside": patches[:, PATCH // 2, PATCH // 2] != outside,
    }


def _find_different(maps: Any, size: int) -> tuple[Any, Any]:
    """The different squares of maps [N, H, W], [K, size, size], and which of them is where."""
    import tensorflow as tf

    padded_height, padded_width = ops.shape(maps)[1:3]
    height, width = padded_height - size + 1, padded_width - size + 1
    wide = tf.cast(maps, tf.int64)
    rows = sum(wide[:, i : i + height] * _HASH[0, i] for i in range(size))
    codes = sum(rows[:, :, i : i + width] * _HASH[1, i] for i in range(size))
    flat = tf.reshape(codes, [-1])
    values, square_of = tf.unique(flat)
    places = tf.range(tf.size(flat))
    example = tf.math.unsorted_segment_min(places, square_of, tf.size(values))  # [K], one of each
    # From the number of a square to that of its first pixel in the maps.
    row, column = example // width, example % width
    image, row = row // height, row % height
    first = (image * padded_height + row) * padded_width + column
    around = tf.range(size)[:, None] * padded_width + tf.range(size)[None, :]
    squares = tf.gather(tf.reshape(maps, [-1]), first[:, None, None] + around)
    return squares, tf.reshape(square_of, tf.shape(codes))
