"""Label maps on grids of feature maps, and which of their 5x5 windows differ.

What two 3x3 convolutions make of a label map at a pixel follows from the 5x5 labels around it. In
the map of a face at 256 px only some 4 per cent of these windows differ, so it is enough to
convolve those and to look the results up.
"""

from typing import Any

import numpy as np
from keras import ops

# Of windows; two 3x3 convolutions reach this far.
WINDOW = 5
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
        of them lies around each pixel. U is known when it is run.
    """
    import tensorflow as tf

    reach = WINDOW // 2
    sides = (reach, reach)
    ids = tf.pad(
        tf.cast(label_map, tf.int32), ((0, 0), sides, sides), constant_values=outside
    )  # [B, H + 4, W + 4]
    height, width = ops.shape(label_map)[1:3]
    wide = tf.cast(ids, tf.int64)
    rows = sum(wide[:, i : i + height] * _HASH[0, i] for i in range(WINDOW))
    codes = sum(rows[:, :, i : i + width] * _HASH[1, i] for i in range(WINDOW))
    flat = tf.reshape(codes, [-1])
    values, window_of = tf.unique(flat)
    count = tf.size(values)
    pixels = tf.range(tf.size(flat))
    example = tf.math.unsorted_segment_min(pixels, window_of, count)  # [U], a pixel of each
    # From the number of a pixel to that of its window's first pixel in the padded maps.
    row, column = example // width, example % width
    image, row = row // height, row % height
    padded_width = width + 2 * reach
    first = (image * (height + 2 * reach) + row) * padded_width + column
    around = tf.range(WINDOW)[:, None] * padded_width + tf.range(WINDOW)[None, :]
    windows = tf.gather(tf.reshape(ids, [-1]), first[:, None, None] + around)
    return {"windows": windows, "window_of": tf.reshape(window_of, tf.shape(label_map))}
