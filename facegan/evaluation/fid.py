"""Frechet Inception Distance: how far the features of two sets of pictures are from each other.

Reference: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", NeurIPS 2017, equation 6. Differences: the network is Keras' InceptionV3 and not
TensorFlow's graph of 2015, and pictures are reduced by averaging areas; published figures are not
comparable to the digit.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from facegan.errors import CheckpointError, ConfigError
from facegan.image import resize, to_float

_SIZE_PX = 299
_WIDTH = 2048
_BATCH_SIZE = 16


@dataclasses.dataclass(slots=True)
class GaussianStatistics:
    """Mean and covariance of features, gathered part by part.

    Attributes:
        count: Features so far.
        mean: [D] float64.
        scatter: [D, D] float64, the sum of outer products of what differs from the mean.
    """

    count: int = 0
    mean: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    scatter: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))
    _root: np.ndarray | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False
    )

    def update(self, features: np.ndarray) -> None:
        """Adds features [N, D].

        Raises:
            ConfigError: They are not [N, D], or of another width than those before.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or (self.count and features.shape[1] != len(self.mean)):
            raise ConfigError(
                f"Features must be [N, {len(self.mean) or 'D'}], got {list(features.shape)}."
            )
        if len(features):
            mean = features.mean(axis=0)
            centred = features - mean
            self.merge(GaussianStatistics(len(features), mean, centred.T @ centred))

    def merge(self, other: GaussianStatistics) -> None:
        """Adds what another has gathered (Chan et al. 1979: no large sums are subtracted)."""
        self._root = None
        if not self.count or not other.count:
            if other.count:
                self.count, self.mean = other.count, other.mean.copy()
                self.scatter = other.scatter.copy()
            return
        total = self.count + other.count
        apart = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(apart, apart) * (self.count * other.count / total)
        self.mean = self.mean + apart * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], unbiased.

        Raises:
            ConfigError: There are fewer than two features.
        """
        if self.count < 2:
            raise ConfigError(f"A covariance needs at least 2 pictures, got {self.count}.")
        return self.scatter / (self.count - 1)

    def covariance_root(self) -> np.ndarray:
        """The symmetric root of the covariance, [D, D]; kept until more features are added.

        Raises:
            ConfigError: There are fewer than two features.
        """
        if self._root is None:
            values, vectors = np.linalg.eigh(self.covariance)
            self._root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        return self._root


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """The squared Wasserstein distance of two normal distributions.

        |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    With fewer pictures than features the covariances are singular: the distance is still defined,
    and too large by an amount that only sets of the same size share.

    Args:
        a: The set that several others are compared with, if there is one: what takes longest is
            done once for it.
        b: The other.

    Raises:
        ConfigError: A set has fewer than two features, or the widths differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ConfigError(
            f"Features of one width can be compared, got {len(a.mean)} and {len(b.mean)}."
        )
    first, second, root = a.covariance, b.covariance, a.covariance_root()
    # The eigenvalues of C_a C_b are those of the symmetric root(C_a) C_b root(C_a).
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    apart = float(((a.mean - b.mean) ** 2).sum())
    return max(0.0, apart + float(np.trace(first) + np.trace(second) - 2.0 * shared))


class InceptionFeatures:
    """The 2048 features of InceptionV3 before its classifier.

    Args:
        model: A Keras model from [N, 299, 299, 3] in [-1, 1] to [N, 2048].
        source: Whose weights it has.
    """

    def __init__(self, model: Any, source: str):
        self._model, self.source = model, source

    def __call__(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """[N, 2048] float32 of pictures [H, W, 3] uint8 of any sizes."""
        parts: list[np.ndarray] = []
        batch: list[np.ndarray] = []

        def flush() -> None:
            if batch:
                parts.append(np.asarray(self._model(to_float(np.stack(batch)), training=False)))
                batch.clear()

        for image in images:
            batch.append(resize(np.ascontiguousarray(image), _SIZE_PX, _SIZE_PX))
            if len(batch) == _BATCH_SIZE:
                flush()
        flush()
        return np.concatenate(parts) if parts else np.zeros((0, _WIDTH), np.float32)


def make_inception(source: str) -> InceptionFeatures:
    """Makes the network of the distance.

    Args:
        source: "imagenet" (downloaded by Keras), "random" (a seeded stand-in, noted in the log:
            its distances compare runs with each other and with nothing else), or the HDF5 file
            without the top that Keras distributes for ``keras.applications.InceptionV3``.

    Raises:
        CheckpointError: The weights cannot be had; the message tells of the stand-in.
    """
    import keras

    weights = None if source == "random" else source
    try:
        model = keras.applications.InceptionV3(include_top=False, pooling="avg", weights=weights)
    except Exception as error:  # Keras passes on whatever its HDF5 reader or the download raises.
        raise CheckpointError(
            f"Cannot read InceptionV3 weights from {source}: {error}. Name the HDF5 file without "
            "the top that Keras distributes for keras.applications.InceptionV3, or random for a "
            "stand-in."
        ) from error
    if source == "random":
        logging.getLogger("facegan").warning(
            "The FID uses a random stand-in for InceptionV3, not its ImageNet weights."
        )
        _draw_weights(model)
    return InceptionFeatures(model, source)


def _draw_weights(model: Any) -> None:
    """He's scaling: without trained norms every map keeps about the size of the one before."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith("kernel"):
            shape = tuple(variable.shape)
            scale = np.sqrt(2.0 / np.prod(shape[:-1]))
            variable.assign(scale * random.standard_normal(shape, dtype=np.float32))


def fid(
    real: Iterable[np.ndarray], fake: Iterable[np.ndarray], features: InceptionFeatures
) -> dict[str, Any]:
    """Compares two sets of pictures.

    Args:
        real: Pictures [H, W, 3] uint8.
        fake: Likewise, of any number.
        features: The network.

    Returns:
        ``fid``, and ``fid_features``: whose weights it was measured with.
    """
    found = []
    for images in (real, fake):
        statistics = GaussianStatistics()
        statistics.update(features(images))
        found.append(statistics)
    return {"fid": frechet_distance(*found), "fid_features": features.source}
