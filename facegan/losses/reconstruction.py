"""Losses between an image and the image it should be, pixel by pixel.

Each takes two tensors of one shape [B, ...] and optionally a weight map that broadcasts to them; it
returns the mean over all values (of the weighted values: the sum over the weights' sum), in
float32: a scalar, or [B] with ``reduce=False``.
"""

from typing import Any

from keras import ops


def _mean(values: Any, weights: Any, reduce: bool) -> Any:
    axes = tuple(range(1, len(values.shape)))
    if weights is None:
        examples = ops.mean(values, axis=axes)
        return ops.mean(examples) if reduce else examples
    weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
    # A map without weight gives zero, not 0 / 0.
    if reduce:
        return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1e-8)
    total = ops.maximum(ops.sum(weights, axis=axes), 1e-8)
    return ops.sum(values * weights, axis=axes) / total


def _difference(images: Any, targets: Any) -> Any:
    return ops.cast(images, "float32") - ops.cast(targets, "float32")


def l1_loss(images: Any, targets: Any, weights: Any = None, *, reduce: bool = True) -> Any:
    """Mean absolute difference."""
    return _mean(ops.abs(_difference(images, targets)), weights, reduce)


def l2_loss(images: Any, targets: Any, weights: Any = None, *, reduce: bool = True) -> Any:
    """Mean squared difference."""
    return _mean(ops.square(_difference(images, targets)), weights, reduce)


def charbonnier_loss(
    images: Any,
    targets: Any,
    weights: Any = None,
    *,
    epsilon: float = 1e-3,
    reduce: bool = True,
) -> Any:
    """Mean of sqrt(difference^2 + epsilon^2): L1 that is smooth at zero."""
    difference = _difference(images, targets)
    return _mean(ops.sqrt(ops.square(difference) + epsilon**2), weights, reduce)
