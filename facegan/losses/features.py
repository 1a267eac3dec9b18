"""Losses between the feature maps that a network gives for two images."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from facegan.errors import ConfigError
from facegan.losses.reconstruction import l1_loss


def feature_matching_loss(
    real_features: Sequence[Any], fake_features: Sequence[Any], *, reduce: bool = True
) -> Any:
    """Mean absolute difference of a discriminator's maps for real and for generated images.

    Each map is averaged, then the maps of a scale, then the scales. No gradient goes to the real
    side, which serves as the target.

    Args:
        real_features: Maps [B, H, W, C] for the real images; or one such sequence for each scale.
        fake_features: The same for the generated images.
        reduce: False returns one value for each example.

    Returns:
        Scalar float32, or [B].

    Raises:
        ConfigError: The two sides differ in their number of maps.

    Reference: Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with
    Conditional GANs", CVPR 2018, equation 4; it sums over the maps where this averages, so a
    weight of 10 there is 10 times the number of maps here.
    """
    _require_same_count("feature_matching_loss", real_features, fake_features)
    if isinstance(real_features[0], list | tuple):
        scales = [
            feature_matching_loss(real, fake, reduce=reduce)
            for real, fake in zip(real_features, fake_features, strict=True)
        ]
        return sum(scales) / len(scales)
    terms = [
        l1_loss(fake, ops.stop_gradient(real), reduce=reduce)
        for real, fake in zip(real_features, fake_features, strict=True)
    ]
    return sum(terms) / len(terms)


def perceptual_loss(
    features: Sequence[Any],
    target_features: Sequence[Any],
    weights: Sequence[float],
    *,
    reduce: bool = True,
) -> Any:
    """Weighted sum, map by map, of the mean absolute difference of a fixed network's features.

    Args:
        features: Maps [B, H, W, C] of the images to judge.
        target_features: Maps of the images they should be; no gradient goes there.
        weights: One number for each map; ``models.perceptual`` carries the usual ones.
        reduce: False returns one value for each example.

    Returns:
        Scalar float32, or [B].

    Raises:
        ConfigError: The numbers of maps and weights differ.

    Reference: Johnson et al., "Perceptual Losses for Real-Time Style Transfer and
    Super-Resolution", ECCV 2016, equation 2, with L1 in place of L2 as in later work.
    """
    _require_same_count("perceptual_loss", features, target_features)
    _require_same_count("perceptual_loss with its weights", features, weights)
    terms = [
        weight * l1_loss(image, ops.stop_gradient(target), reduce=reduce)
        for image, target, weight in zip(features, target_features, weights, strict=True)
    ]
    return sum(terms)


def cosine_loss(descriptors: Any, targets: Any, *, reduce: bool = True) -> Any:
    """One less the cosine between two descriptors: 0 for the same direction, 2 for opposite ones.

    Args:
        descriptors: [B, N] float.
        targets: [B, N] float; no gradient goes there.
        reduce: False returns one value for each example.

    Returns:
        Scalar float32, or [B].
    """
    first, second = _unit(descriptors), _unit(ops.stop_gradient(targets))
    examples = 1.0 - ops.sum(first * second, axis=-1)
    return ops.mean(examples) if reduce else examples


def _unit(descriptors: Any) -> Any:
    descriptors = ops.cast(descriptors, "float32")
    squares = ops.sum(ops.square(descriptors), axis=-1, keepdims=True)
    # The root of zero has no gradient.
    return descriptors * ops.rsqrt(ops.maximum(squares, 1e-12))


def _require_same_count(what: str, first: Sequence[Any], second: Sequence[Any]) -> None:
    if len(first) != len(second) or not first:
        raise ConfigError(
            f"{what} needs two sequences of the same length of at least one, got {len(first)} and "
            f"{len(second)}. Take both from the same network."
        )
