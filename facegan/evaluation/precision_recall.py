"""Precision and recall: how much of what is made looks real, how much of what is real can be made.

Reference: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative
Models", NeurIPS 2019, section 2. Differences: the features are those of Keras' InceptionV3 and not
of VGG16, and distances are float32 and not float16; published figures are not comparable to the
digit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facegan.errors import ConfigError
from facegan.evaluation.kid import require_features

# Of the squared lengths of two features: what rounding may add to their squared distance. Ten times
# what was found with 2048 numbers.
_ROUNDING = 4e-6


def precision_and_recall(
    real: np.ndarray, fake: np.ndarray, *, neighbours: int = 3, block_size: int = 2048
) -> tuple[float, float]:
    """Compares two sets of features by the room that each takes.

        manifold(X) = all points at most as far from an x of X as its k-th nearest other x is
        precision = share of fakes within manifold(reals)
        recall = share of reals within manifold(fakes)

    Args:
        real: Features [N, D].
        fake: Features [M, D].
        neighbours: The k; the larger, the larger both shares.
        block_size: Features of each set whose distances are held at once; it says how much memory
            is used, and has no influence on what comes out.

    Returns:
        Precision and recall, each within 0 and 1.

    Raises:
        ConfigError: A set has no more features than neighbours, the widths differ, or a number is
            too small.
    """
    if neighbours < 1 or block_size < 1:
        raise ConfigError(
            f"neighbours and block_size must be at least 1, got {neighbours} and {block_size}."
        )
    require_features(real, fake, neighbours + 1)
    # The shorter features are, the less of the distance of near ones is lost to rounding.
    centre = real.mean(axis=0, dtype=np.float64).astype(np.float32)
    real, fake = ((of - centre).astype(np.float32, copy=False) for of in (real, fake))
    real_radii, fake_radii = (_squared_radii(of, neighbours, block_size) for of in (real, fake))
    reals_within, fakes_within = np.zeros(len(real), bool), np.zeros(len(fake), bool)
    for rows in _blocks(len(real), block_size):
        for columns in _blocks(len(fake), block_size):
            squares, slack = _squared_distances(real[rows], fake[columns])
            squares -= slack
            fakes_within[columns] |= (squares <= real_radii[rows, None]).any(axis=0)
            reals_within[rows] |= (squares <= fake_radii[columns]).any(axis=1)
    return float(fakes_within.mean()), float(reals_within.mean())


def _squared_radii(features: np.ndarray, neighbours: int, block_size: int) -> np.ndarray:
    """[N] float32: the squared distance of each feature from its k-th nearest other one."""
    nearest = np.full((len(features), neighbours), np.inf, np.float32)
    for rows in _blocks(len(features), block_size):
        for columns in _blocks(len(features), block_size, start=rows.start):
            squares, _ = _squared_distances(features[rows], features[columns])
            if columns == rows:
                np.fill_diagonal(squares, np.inf)
            else:  # the block on the other side of the diagonal
                nearest[columns] = _smallest(nearest[columns], squares.T)
            nearest[rows] = _smallest(nearest[rows], squares)
    return nearest.max(axis=1)


def _smallest(known: np.ndarray, more: np.ndarray) -> np.ndarray:
    """[N, k]: the k smallest of each row of [N, k] and [N, M]."""
    k = known.shape[1]
    return np.partition(np.concatenate([known, more], axis=1), k - 1, axis=1)[:, :k]


def _squared_distances(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, M] float32 of features [N, D] and [M, D], and what rounding may have added to them."""
    lengths = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    return np.maximum(lengths - 2.0 * (x @ y.T), 0.0), np.float32(_ROUNDING) * lengths


def _blocks(count: int, size: int, start: int = 0) -> Iterator[slice]:
    for first in range(start, count, size):
        yield slice(first, min(first + size, count))
