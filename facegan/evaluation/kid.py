"""Kernel Inception Distance: what two sets of pictures differ by, without a bias for small sets.

Reference: Binkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4. Differences: the network
is Keras' InceptionV3 and not TensorFlow's graph of 2015, so that published figures are not
comparable to the digit.
"""

from __future__ import annotations

import numpy as np

from facegan.errors import ConfigError


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The squared maximum mean discrepancy of features, over random subsets of both sets.

        mean of k(x, x') over x != x' + mean of k(y, y') over y != y' - 2 mean of k(x, y)
        k(x, y) = (x . y / D + 1)^3

    It is unbiased: for two samples of one distribution it lies around 0 and is as often below.

    Args:
        real: Features [N, D].
        fake: Features [M, D].
        subsets: How often subsets are drawn.
        subset_size: Features of a subset, drawn without repetition; at most as many as the smaller
            set has are taken.
        seed: Of the draws.

    Returns:
        The mean over the subsets, and their standard deviation, which tells how far the mean can
        be trusted only as long as subsets are small beside the sets.

    Raises:
        ConfigError: A set has fewer than two features, the widths differ, or a number is too small.
    """
    require_features(real, fake, 2)
    if subsets < 1 or subset_size < 2:
        raise ConfigError(
            f"subsets must be at least 1 and subset_size at least 2, got {subsets} and "
            f"{subset_size}."
        )
    size = min(subset_size, len(real), len(fake))
    random = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        chosen = (random.choice(len(of), size, replace=False) for of in (real, fake))
        x, y = (of[rows].astype(np.float64) for of, rows in zip((real, fake), chosen, strict=True))
        within = _mean_of_others(_kernel(x, x)) + _mean_of_others(_kernel(y, y))
        found.append(within - 2.0 * _kernel(x, y).mean())
    return float(np.mean(found)), float(np.std(found))


def require_features(real: np.ndarray, fake: np.ndarray, least: int) -> None:
    """Raises ConfigError unless both are at least so many features [N, D] of one width."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ConfigError(
            f"Features of two sets must be [N, D] and [M, D], got {list(real.shape)} and "
            f"{list(fake.shape)}. Take both from one network."
        )
    if min(len(real), len(fake)) < least:
        raise ConfigError(
            f"At least {least} pictures of each set are needed, got {len(real)} real and "
            f"{len(fake)} generated."
        )


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _mean_of_others(kernel: np.ndarray) -> float:
    """The mean of a square but for its diagonal."""
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))
