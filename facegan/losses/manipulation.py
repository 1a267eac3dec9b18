"""Losses on a face that is painted by another face's map, beside the picture of its own.

Where the two maps say the same, the picture should stay; where they differ, it should change. Each
loss takes two tensors [B, H, W, C] and an area [B, H, W, 1], 1 for pixels that count, else 0. It
returns the mean over all values, in float32, those that do not count being 0: a scalar, or [B] with
``reduce=False``. A small area so weighs little, and the two losses together weigh each pixel once.
"""

from typing import Any

from keras import ops


def find_overlap(masks: Any, others: Any) -> Any:
    """Where two sets of masks [B, H, W, G] say the same: [B, H, W, 1] float32, 1 there, else 0.

    Pixels without any group count, too, if neither set has one there.
    """
    difference = ops.abs(ops.cast(masks, "float32") - ops.cast(others, "float32"))
    return ops.cast(ops.max(difference, axis=-1, keepdims=True) < 0.5, "float32")


def overlap_loss(images: Any, targets: Any, area: Any, *, reduce: bool = True) -> Any:
    """Absolute difference within an area."""
    return _mean(_distance(images, targets), area, reduce)


def change_loss(
    images: Any,
    targets: Any,
    area: Any,
    *,
    most: float = 0.16,
    least: float = 0.08,
    reduce: bool = True,
) -> Any:
    """clip(most - |difference|, least, most) within an area: little change costs, more is free.

    Changes beyond ``most - least`` gain nothing. The defaults are 0.08 and 0.04 of a range from 0
    to 1.
    """
    values = ops.clip(most - _distance(images, targets), least, most)
    return _mean(values, area, reduce)


def _distance(images: Any, targets: Any) -> Any:
    return ops.abs(ops.cast(images, "float32") - ops.cast(targets, "float32"))


def _mean(values: Any, area: Any, reduce: bool) -> Any:
    examples = ops.mean(values * ops.cast(area, "float32"), axis=(1, 2, 3))
    return ops.mean(examples) if reduce else examples
