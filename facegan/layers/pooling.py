"""Pooling whose padding is the same on all sides, as the papers' PyTorch code has it."""

from typing import Any

from keras import ops


def average_downsample(inputs: Any) -> Any:
    """Halves height and width by means over 3x3 pixels, fewer at the border.

    This is PyTorch's average pooling with kernel 3, stride 2 and padding 1 that does not count the
    padding: [B, H, W, C] -> [B, (H + 1) // 2, (W + 1) // 2, C].
    """
    ones = ops.ones_like(inputs[:1, :, :, :1])
    return _padded_mean(inputs) / _padded_mean(ones)


def _padded_mean(inputs: Any) -> Any:
    padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return ops.average_pool(padded, 3, 2, padding="valid", data_format="channels_last")
