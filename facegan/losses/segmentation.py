"""Losses between scores for each label and the label map that should come out.

Logits are [B, H, W, num_labels] float of any scale, label maps [B, H, W] whole numbers. Pixels
whose id is ``ignore`` count for nothing. All is computed in float32.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from facegan.errors import ConfigError

# The id that no label has; ``LabelSchema`` allows 255 labels at most.
IGNORED = 255


def cross_entropy_loss(
    logits: Any, label_map: Any, *, ignore: int | None = IGNORED, reduce: bool = True
) -> Any:
    """Mean over the counted pixels of -log p(label).

    Args:
        logits: [B, H, W, num_labels].
        label_map: [B, H, W] ids.
        ignore: Id of the pixels that do not count; None counts all.
        reduce: False returns one value for each example.

    Returns:
        Scalar float32, or [B]; 0 where no pixel counts.

    Raises:
        ConfigError: The shapes do not belong together.
    """
    losses, counted = _pixel_losses("cross_entropy_loss", logits, label_map, ignore)
    axes = None if reduce else (1, 2)
    return ops.sum(losses, axis=axes) / ops.maximum(ops.sum(counted, axis=axes), 1.0)


def ohem_cross_entropy_loss(
    logits: Any,
    label_map: Any,
    *,
    threshold: float = 0.7,
    min_share: float = 1 / 16,
    ignore: int | None = IGNORED,
) -> Any:
    """Mean of -log p(label) over the hard pixels: those where p(label) is below ``threshold``.

    Where they are fewer than ``min_share`` of the batch's pixels, the mean is over so many of the
    hardest. Large parts soon are easy, and their borders and the small parts go on teaching.
    The choice is made over the whole batch, so there is no value for each example.

    Args:
        logits: [B, H, W, num_labels].
        label_map: [B, H, W] ids.
        threshold: In (0, 1).
        min_share: In (0, 1]; 1 is the plain cross-entropy.
        ignore: Id of the pixels that do not count; None counts all.

    Returns:
        Scalar float32; 0 where no pixel counts.

    Raises:
        ConfigError: The shapes do not belong together, or a number is out of its range.

    Reference: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
    Mining", CVPR 2016; for pixels as in Yu et al. 2018, section 4.1. Difference from the public
    code: if fewer pixels count than are to be chosen, the mean is over those that do.
    """
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold must lie between 0 and 1, got {threshold}.")
    if not 0 < min_share <= 1:
        raise ConfigError(f"min_share must be in (0, 1], got {min_share}.")
    losses, counted = _pixel_losses("ohem_cross_entropy_loss", logits, label_map, ignore)
    losses = ops.reshape(losses, (-1,))
    least = _share_of(ops.shape(losses)[0], min_share)
    hard = ops.cast(losses > -math.log(threshold), "float32")
    hard_count = ops.sum(hard)
    mean_of_hard = ops.sum(losses * hard) / ops.maximum(hard_count, 1.0)
    # Ignored pixels lose nothing and so come last.
    hardest = ops.top_k(losses, least, sorted=False)[0]
    least = ops.cast(least, "float32")
    chosen = ops.maximum(ops.minimum(least, ops.sum(counted)), 1.0)
    return ops.where(hard_count > least, mean_of_hard, ops.sum(hardest) / chosen)


def _share_of(total: Any, share: float) -> Any:
    """``share`` of a number, rounded down but at least 1."""
    if isinstance(total, int):
        return max(int(total * share), 1)
    return ops.maximum(ops.cast(ops.cast(total, "float64") * share, "int32"), 1)


def _pixel_losses(what: str, logits: Any, label_map: Any, ignore: int | None) -> tuple[Any, Any]:
    """-log p of each pixel's label, and 1 where a pixel counts; both [B, H, W] float32."""
    if len(logits.shape) != 4 or len(label_map.shape) != 3:
        raise ConfigError(
            f"{what} takes logits [B, H, W, num_labels] and a label map [B, H, W] of ids, got "
            f"{list(logits.shape)} and {list(label_map.shape)}."
        )
    known = zip(logits.shape[:3], label_map.shape, strict=True)
    if any(None not in sizes and sizes[0] != sizes[1] for sizes in known):
        raise ConfigError(
            f"{what} needs logits and a label map of one batch size, height and width, got "
            f"{list(logits.shape)} and {list(label_map.shape)}."
        )
    ids = ops.cast(label_map, "int32")
    counts = ops.ones_like(ids, dtype="bool") if ignore is None else ids != ignore
    losses = ops.sparse_categorical_crossentropy(
        ops.where(counts, ids, 0), ops.cast(logits, "float32"), from_logits=True
    )
    counted = ops.cast(counts, "float32")
    # Not a product: the loss of a pixel that does not count may be infinite.
    return ops.where(counts, losses, 0.0), counted
