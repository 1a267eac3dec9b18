"""How much the people in two sets of pictures look alike, by distance of face descriptors.

The descriptors come from ``face.identity`` (or anything else with its ``describe``); dlib's own
rule of thumb for its 128 numbers is that two pictures closer than 0.6 show one person. Two frames
of one person on one video are usually near 0.3.

A picture in which no face is found has no descriptor. Such pictures are left out of the means and
lower the coverage, which always stands beside the mean: a generator that makes no faces at all
must not look good.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from facegan.errors import ConfigError

_DLIB_WIDTH = 128  # of a descriptor, where no picture tells


class Describer(Protocol):
    """What is needed of a face descriptor model."""

    def describe(
        self, image: np.ndarray, landmarks_xy_px: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Describes the face in an [H, W, 3] uint8 picture, None when there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdentityScore:
    """A mean distance and how many pictures it rests on."""

    distance: float | None  # mean Euclidean distance; None when no pair had two faces
    pairs: int  # pairs of descriptors behind the mean
    coverage: float  # share of the judged pictures in which a face was found, in [0, 1]


def describe_pictures(model: Describer, images: Iterable[np.ndarray]) -> np.ndarray:
    """Describes every picture.

    Args:
        model: A face descriptor model.
        images: Pictures [H, W, 3] uint8, any sizes.

    Returns:
        [N, D] float32 descriptors; a row of NaN where no face was found.

    Raises:
        ConfigError: There are no pictures.
    """
    return stack_descriptors([model.describe(image, None) for image in images])


def stack_descriptors(found: Sequence[np.ndarray | None]) -> np.ndarray:
    """Stacks descriptors [D] to float32 [N, D]; None becomes a row of NaN."""
    if not found:
        raise ConfigError("Descriptors need at least one picture, got none.")
    width = next((len(f) for f in found if f is not None), _DLIB_WIDTH)
    missing = np.full(width, np.nan, np.float32)
    return np.stack([missing if f is None else np.asarray(f, np.float32) for f in found])


def paired_identity_score(real: np.ndarray, fake: np.ndarray) -> IdentityScore:
    """Compares picture i of one set with picture i of the other.

    Args:
        real: [N, D] descriptors of the true pictures, NaN rows where no face was found.
        fake: [N, D] descriptors of the judged pictures.

    Returns:
        The mean over pairs with two faces. The coverage counts judged pictures whose true picture
        has a face.
    """
    _check(real, fake)
    if len(real) != len(fake):
        raise ConfigError(
            f"Paired sets must be equally long, got {len(real)} and {len(fake)} descriptors; "
            "use cross_identity_score for sets that do not belong together picture by picture."
        )
    possible = _has_face(real)
    both = possible & _has_face(fake)
    distances = np.linalg.norm(real[both].astype(np.float64) - fake[both], axis=-1)
    coverage = both.sum() / possible.sum() if possible.any() else 0.0
    return _score(distances, float(coverage))


def paired_similarity(real: np.ndarray, fake: np.ndarray) -> float | None:
    """CSIM: the mean cosine between descriptors of picture i of both sets; None without faces.

    Args:
        real: [N, D] descriptors of the true pictures, NaN rows where no face was found.
        fake: [N, D] descriptors of the judged pictures.
    """
    both = _has_face(real) & _has_face(fake)
    if not both.any():
        return None
    a, b = real[both].astype(np.float64), fake[both].astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / np.maximum(lengths, 1e-12)).mean())


def cross_identity_score(person: np.ndarray, judged: np.ndarray) -> IdentityScore:
    """Compares every picture of a person with every judged picture.

    Args:
        person: [N, D] descriptors of the person, NaN rows where no face was found.
        judged: [M, D] descriptors of the judged pictures.

    Returns:
        The mean over all N x M pairs with two faces; the coverage of the judged set.
    """
    _check(person, judged)
    return _score(
        _all_distances(person, judged).ravel(),
        float(_has_face(judged).mean()),
    )


def own_identity_score(person: np.ndarray) -> IdentityScore:
    """What two different pictures of one set are apart: the floor for the other scores.

    Args:
        person: [N, D] descriptors, NaN rows where no face was found.

    Returns:
        The mean over all pairs of different pictures with two faces.
    """
    _check(person, person)
    distances = _all_distances(person, person)
    upper = np.triu_indices(len(distances), k=1)
    return _score(distances[upper], float(_has_face(person).mean()))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ConfigError(
            f"Descriptors must be two non-empty arrays [N, D] of one width, got {a.shape} and "
            f"{b.shape}."
        )


def _has_face(descriptors: np.ndarray) -> np.ndarray:
    return np.isfinite(descriptors).all(axis=-1)


def _all_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances [n, m] between the rows that hold a face."""
    a, b = a[_has_face(a)].astype(np.float64), b[_has_face(b)].astype(np.float64)
    return np.linalg.norm(a[:, None] - b[None], axis=-1)


def _score(distances: np.ndarray, coverage: float) -> IdentityScore:
    mean = float(distances.mean()) if distances.size else None
    return IdentityScore(distance=mean, pairs=int(distances.size), coverage=coverage)
