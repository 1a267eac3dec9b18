"""Local editing of StyleGAN2: the eyes, the mouth or the hair of one face on another.

The pixels' features over many pictures fall into clusters that follow the parts of a face. A
channel whose energy lies within the clusters of a part can take its scale from another face, and
little but that part changes.

Reference: Collins et al., "Editing in Style: Uncovering the Local Semantics of GANs", CVPR 2020.
Differences: clusters are named by a face parser, not by hand, and several may share a name. The
channels that a layer's style scales are those that are weighed; in StyleGAN2 they come into a
convolution, which carries them into their neighbourhood, and that is taken into account. The budget
of an edit is one for all layers, and counts as if a part were as large as all the rest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from facegan.config import unknown_name
from facegan.errors import ConfigError, DataError
from facegan.face.label_maps import check_labels
from facegan.face.labels import LabelSchema

# Labels of CelebAMask-HQ that are edited as one; any other label is a part of its own.
PARTS: dict[str, tuple[str, ...]] = {
    "background": ("background",),
    "skin": ("skin",),
    "eyes": ("l_eye", "r_eye", "eye_g"),
    "brows": ("l_brow", "r_brow"),
    "nose": ("nose",),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "ears": ("l_ear", "r_ear", "ear_r"),
    "hair": ("hair", "hat"),
    "neck": ("neck", "neck_l"),
    "cloth": ("cloth",),
}
_PART_OF = {label: part for part, labels in PARTS.items() for label in labels}

_BLOCK = 1 << 14  # vectors that are looked at together
# Cosine distances below this are rounding.
_SAME = 1e-6

Scales = Mapping[str, np.ndarray]


def spherical_k_means(
    vectors: np.ndarray,
    clusters: int,
    *,
    seed: int = 0,
    iterations: int = 100,
    tolerance: float = 1e-5,
    restarts: int = 1,
) -> np.ndarray:
    """Finds directions around which vectors gather. The same input gives the same result.

    Args:
        vectors: [N, C] float; their lengths do not count, and zero vectors not at all.
        clusters: How many directions.
        seed: Of the first directions, which are drawn among the vectors, far ones sooner.
        iterations: Most rounds of a try.
        tolerance: A try ends when the mean cosine grows by no more than this in a round.
        restarts: Tries; the one with the largest mean cosine counts.

    Returns:
        [clusters, C] float32 of length 1.

    Raises:
        ConfigError: A number is out of range.
        DataError: The vectors have fewer different directions than there are to be clusters.

    Reference: Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data Using
    Clustering", Machine Learning 2001; the first directions as in Arthur and Vassilvitskii,
    "k-means++", SODA 2007, on 1 - cosine.
    """
    for name, value in (
        ("clusters", clusters),
        ("iterations", iterations),
        ("restarts", restarts),
    ):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}.")
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(
            f"spherical_k_means takes vectors [N, C] of floats, got {list(vectors.shape)} "
            f"{vectors.dtype}."
        )
    if not all(np.isfinite(block).all() for _, block in _blocks(vectors)):
        raise DataError("The vectors that are to be clustered have values that are not finite.")
    found = []
    for number in range(restarts):
        random = np.random.default_rng([seed, number])
        start = _draw_directions(vectors, clusters, random)
        found.append(_gather(vectors, start, iterations, tolerance))
    return max(found, key=lambda result: result[0])[1]  # the first of equals


def assign_clusters(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The cluster whose direction is nearest.

    Args:
        features: [..., C] float.
        centroids: [K, C] float of length 1.

    Returns:
        [...] int32.
    """
    # Lengths of features change no order.
    return (features @ centroids.T).argmax(axis=-1).astype(np.int32)


def _blocks(vectors: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Vectors as float32 of length 1 (or 0), so many at a time that a copy does not weigh."""
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(vectors)))
        block = vectors[rows].astype(np.float32)
        length = np.sqrt(np.einsum("nc,nc->n", block, block))
        block /= np.where(length > 0, length, 1)[:, None]
        yield rows, block


def _draw_directions(vectors: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    directions = np.zeros((clusters, vectors.shape[1]), np.float32)
    distance = np.ones(len(vectors))
    for rows, block in _blocks(vectors):
        distance[rows] = block.any(axis=1)
    for number in range(clusters):
        summed = np.cumsum(distance)
        if not len(summed) or summed[-1] <= 0:
            raise DataError(
                f"The {len(vectors)} vectors have only {number} different directions, too few for "
                f"{clusters} clusters. Take more samples or fewer clusters."
            )
        # side="right": a vector of no distance is never drawn.
        place = int(np.searchsorted(summed, random.random() * summed[-1], side="right"))
        place = min(place, int(np.flatnonzero(distance)[-1]))
        directions[number] = next(_blocks(vectors[place : place + 1]))[1][0]
        for rows, block in _blocks(vectors):
            far = 1.0 - (block @ directions[number]).astype(np.float64)
            far[far < _SAME] = 0.0
            np.minimum(distance[rows], far, out=distance[rows])
    return directions


def _gather(
    vectors: np.ndarray, directions: np.ndarray, iterations: int, tolerance: float
) -> tuple[float, np.ndarray]:
    """Moves directions to the means of what is nearest to them; the mean cosine and them."""
    clusters, before = len(directions), -np.inf
    cosines = np.empty(len(vectors), np.float32)
    for _ in range(iterations):
        sums = np.zeros(directions.shape)
        for rows, block in _blocks(vectors):
            all_cosines = block @ directions.T
            ids = all_cosines.argmax(axis=1)
            # A zero vector must not count as far from all.
            cosines[rows] = np.where(block.any(axis=1), all_cosines.max(axis=1), 1.0)
            members = (ids[:, None] == np.arange(clusters)).astype(np.float32)
            sums += members.T @ block
        mean = float(cosines.mean(dtype=np.float64))
        length = np.linalg.norm(sums, axis=1)
        empty = np.flatnonzero(length == 0)
        # An empty cluster starts anew at what is farthest from all others.
        farthest = np.argsort(cosines, kind="stable")[: len(empty)]
        for number, place in zip(empty, farthest, strict=True):
            sums[number] = next(_blocks(vectors[place : place + 1]))[1][0]
            length[number] = 1.0
        directions = (sums / length[:, None]).astype(np.float32)
        if not len(empty) and mean - before <= tolerance:
            break
        before = mean
    return mean, directions


def spread_size(layer: str) -> int | None:
    """Height and width of the feature maps that a layer's kernel spreads; None for one of 1x1.

    Args:
        layer: As ``StyleGAN2Synthesis`` calls its layers, "up_8" and so on.
    """
    kind, size = layer.split("_")
    return {"up": int(size) // 2, "conv": int(size)}.get(kind)


def spread_membership(membership: np.ndarray, size: int) -> np.ndarray:
    """Takes the neighbourhood's mean of how far pixels belong to clusters.

    A kernel of 3x3 carries each pixel of its input into the ones around. In maps of few pixels
    these are most of the face: without this, their channels would seem to change a part alone.

    Args:
        membership: [B, S, S, K] float.
        size: Height and width of the layer's maps, which tell how far that is; beyond S nothing
            is spread.

    Returns:
        [B, S, S, K] float32, the mean at ``size`` and again repeated.
    """
    batch, height, _, clusters = membership.shape
    if size > height:
        return membership.astype(np.float32)
    factor = height // size
    blocks = membership.reshape(batch, size, factor, size, factor, clusters)  # rank 6
    means = blocks.mean(axis=(2, 4), dtype=np.float32)  # rank 4
    padded = np.pad(means, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    windows = [
        padded[:, row : row + size, column : column + size]
        for row in range(3)
        for column in range(3)
    ]
    spread = np.mean(windows, axis=0, dtype=np.float32)
    return spread.repeat(factor, axis=1).repeat(factor, axis=2)


def measure_contributions(
    moments: Mapping[str, np.ndarray], shares: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Measures how much of each channel's energy lies in each cluster.

    M[k, c] is the mean over pictures and pixels of A^2 U, with the membership U of cluster k and
    the channel A brought to mean 0 and variance 1. As the clusters share the pixels out, the sum
    over them is 1. A channel that is the same everywhere belongs to each cluster by its size.

    Args:
        moments: Layer -> [2, K, C] float, the means over pictures and pixels of x U and x^2 U.
        shares: Layer -> [K] float, the means of U.

    Returns:
        Layer -> [K, C] float32.

    Reference: Collins et al., section 3.2, equation 2.
    """
    found = {}
    for layer, (first, second) in moments.items():
        first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
        mean, square = first.sum(axis=0), second.sum(axis=0)
        share = np.asarray(shares[layer], np.float64)[:, None]
        energy = np.maximum(second - 2 * mean * first + mean**2 * share, 0.0)
        # The difference of two float32 sums: what is left of a constant is rounding.
        constant = square - mean**2 <= 1e-6 * square
        energy = np.where(constant, share, energy)
        found[layer] = (energy / energy.sum(axis=0)).astype(np.float32)
    return found


def part_names(schema: LabelSchema) -> tuple[str, ...]:
    """The parts that a schema's labels make up, in the order of their first labels."""
    return tuple(dict.fromkeys(_PART_OF.get(label, label) for label in schema.labels))


def part_labels(part: str, schema: LabelSchema) -> tuple[int, ...]:
    """The ids of a schema's labels that make up a part.

    Raises:
        ConfigError: The schema has no such part.
    """
    if part not in part_names(schema):
        raise unknown_name("A part", part, part_names(schema), what="value")
    return tuple(i for i, name in enumerate(schema.labels) if _PART_OF.get(name, name) == part)


def count_parts(
    ids: np.ndarray, label_maps: np.ndarray, schema: LabelSchema, clusters: int
) -> np.ndarray:
    """Counts how many pixels of each cluster lie in each part.

    Args:
        ids: [N, S, S] int, clusters.
        label_maps: [N, H, H] uint8, ids of the schema; the larger of S and H is a multiple of the
            other.
        schema: Of the label maps.
        clusters: How many there are.

    Returns:
        [clusters, parts] int64, parts as ``part_names`` has them.

    Raises:
        DataError: The sizes do not fit, or a label is not the schema's.
    """
    sizes = (ids.shape[1], label_maps.shape[1])
    large, small = max(sizes), min(sizes)
    if ids.shape[0] != label_maps.shape[0] or large % small:
        raise DataError(
            f"Clusters {list(ids.shape)} and label maps {list(label_maps.shape)} cannot be laid "
            "over each other: they must be as many, and the size of one a multiple of the other's."
        )
    parts = part_names(schema)
    table = np.array([parts.index(_PART_OF.get(label, label)) for label in schema.labels])
    counts = np.zeros(clusters * len(parts), np.int64)
    for own, label_map in zip(ids, label_maps, strict=True):
        check_labels(label_map, schema, "The label map")
        pairs = _enlarge(own, large) * len(parts) + table[_enlarge(label_map, large)]
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    return counts.reshape(clusters, len(parts))


def _enlarge(grid: np.ndarray, size: int) -> np.ndarray:
    factor = size // len(grid)
    return grid.repeat(factor, axis=0).repeat(factor, axis=1)


def name_clusters(counts: np.ndarray, parts: Sequence[str]) -> tuple[str, ...]:
    """Names each cluster by a part that it has much of and has much to do with.

    The score is the share of the cluster that lies in the part, by the square of the share of the
    part that lies in the cluster. With the square, a cluster of most of the eyes and some of the
    larger brows is the eyes'; that share alone would name clusters after every part that is small.

    Args:
        counts: [K, P] int, pixels of each cluster in each part.
        parts: Their names.

    Returns:
        K names; some may come up more than once and others never.
    """
    counts = counts.astype(np.float64)
    pure = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    covered = counts / np.maximum(counts.sum(axis=0), 1)
    return tuple(parts[number] for number in (pure * covered**2).argmax(axis=1))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EditConfig:
    """Which channels of a part are changed, and how far.

    The channels of all layers are gone through from the largest contribution M to the part (as
    ``Catalogue.part_contributions`` gives it) to the smallest, and taken while the sum of 1 - M
    over them, divided by the number of all channels, stays below ``epsilon``, and M above ``rho``.

    Attributes:
        rho: Least contribution; one number, or one by layer. At 0.5 a channel is as strong in the
            part as elsewhere, at 0.8 four times as strong.
        epsilon: How much may change elsewhere. One number is for all layers together. Numbers by
            layer are for the channels of each alone, and other layers are left as they are.
        strength: 0 leaves the face, 1 takes the other's scales, more exaggerates.
        layers: Names of the layers that are changed; None is all.
    """

    KIND: ClassVar[str] = "edit"

    rho: float | dict[str, float] = 0.0
    epsilon: float | dict[str, float] = 0.004
    strength: float = 1.0
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, value in (("rho", self.rho), ("epsilon", self.epsilon)):
            for number in value.values() if isinstance(value, Mapping) else (value,):
                if not number >= 0:
                    raise ConfigError(f"{name} must be at least 0, got {number}.")
        if not 0 <= self.strength <= 4:
            raise ConfigError(f"strength must be from 0 to 4, got {self.strength}.")


def choose_channels(
    contribution: np.ndarray, *, rho: float | np.ndarray, epsilon: float
) -> np.ndarray:
    """Chooses the channels that change a part and little else.

    Args:
        contribution: [C] float in [0, 1], of each channel to the part.
        rho: As ``EditConfig`` has it; one number, or [C].
        epsilon: As ``EditConfig`` has it.

    Returns:
        [C] bool.

    Reference: Collins et al., section 3.3. Differences: the sum is divided by C, so that one
        epsilon does for narrow and wide nets; and C may be the channels of all layers. A budget for
        each layer makes every layer take its best channels, even where none is local.
    """
    order = np.argsort(-contribution, kind="stable")
    spent = np.cumsum(1.0 - contribution[order].astype(np.float64))
    chosen = np.zeros(len(contribution), bool)
    chosen[order] = spent < epsilon * len(contribution)
    return chosen & (contribution > rho)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Catalogue:
    """What is known about the channels of one bundle.

    Attributes:
        contributions: Layer -> [K, C] float32, as ``measure_contributions`` gives them, from the
            coarsest layer to the finest.
        names: The part that each cluster is named after.
        centroids: [K, F] float32, the clusters' directions.
        fingerprint: Of the bundle's manifest.
        shares: [K] float32, how much of all pixels each cluster has; None takes them as equal.
        settings: JSON values, what the catalogue was made with.

    Raises:
        DataError: These do not belong together.
    """

    KIND: ClassVar[str] = "local_editing"
    VERSION: ClassVar[int] = 1

    contributions: dict[str, np.ndarray]
    names: tuple[str, ...]
    centroids: np.ndarray
    fingerprint: str
    shares: np.ndarray | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        clusters = len(self.names)
        if not clusters or not self.contributions:
            raise DataError("A catalogue needs at least one cluster and one layer.")
        for name, array in {**self.contributions, "centroids": self.centroids}.items():
            if (
                array.ndim != 2
                or len(array) != clusters
                or array.dtype != np.float32
                or not np.isfinite(array).all()
            ):
                raise DataError(
                    f"{name!r} of a catalogue must be finite float32 [{clusters}, C], got "
                    f"{array.dtype} {list(array.shape)}."
                )
        shares = self.shares
        if shares is not None and (
            shares.shape != (clusters,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-3
        ):
            raise DataError(
                f"The shares of a catalogue must be [{clusters}], at least 0 and have the sum 1, "
                f"got {shares}."
            )
        for name, array in self.contributions.items():
            if array.min() < 0 or np.abs(array.sum(axis=0) - 1).max() > 1e-3:
                raise DataError(
                    f"The contributions of {name!r} must be at least 0 and have the sum 1 over "
                    "the clusters."
                )

    @property
    def layers(self) -> dict[str, int]:
        """Layer -> how many channels it has."""
        return {name: array.shape[1] for name, array in self.contributions.items()}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that can be edited."""
        return tuple(dict.fromkeys(self.names))

    def check_bundle(self, fingerprint: str) -> None:
        """Makes sure that this is the catalogue of a bundle, by its manifest's fingerprint.

        Raises:
            ConfigError: It is another's.
        """
        if fingerprint != self.fingerprint:
            raise ConfigError(
                "The catalogue was made for another bundle, whose channels mean other things. "
                "Make one for this bundle."
            )

    def part_contributions(self, part: str) -> dict[str, np.ndarray]:
        """How much of each channel's energy would lie in a part as large as all the rest.

        This is M / a : (1 - M) / (1 - a) as a share, for the energy's share M in the part's
        clusters, and a theirs of all pixels. So one budget does for eyes and for hair.

        Returns:
            Layer -> [C] float64 in [0, 1].

        Raises:
            ConfigError: The catalogue has no such part.
        """
        if part not in self.names:
            raise unknown_name("A part", part, self.parts, what="value")
        members = np.array(self.names) == part
        shares = np.full(len(members), 1 / len(members)) if self.shares is None else self.shares
        # A part without pixels, or with all of them, has no rest to be compared with.
        area = min(max(float(shares[members].sum()), 1e-6), 1 - 1e-6)
        found = {}
        for name, array in self.contributions.items():
            inside = array[members].sum(axis=0, dtype=np.float64)
            inside, outside = inside / area, array[~members].sum(axis=0) / (1 - area)
            found[name] = inside / np.maximum(inside + outside, 1e-30)
        return found

    def choose(self, part: str, config: EditConfig) -> dict[str, np.ndarray]:
        """Layer -> [C] bool, the channels that are changed with a part.

        Raises:
            ConfigError: The catalogue has no such part, or the config names other layers.
        """
        named: list[str] = [*(config.layers or ())]
        for value in (config.rho, config.epsilon):
            named += value if isinstance(value, dict) else ()
        for name in named:
            if name not in self.contributions:
                raise unknown_name("A layer", name, self.contributions, what="value")
        contributions = self.part_contributions(part)
        changed = list(contributions if config.layers is None else config.layers)
        # Layers that share a budget.
        groups: list[tuple[list[str], float]] = []
        if isinstance(config.epsilon, dict):
            groups += [([name], config.epsilon[name]) for name in changed if name in config.epsilon]
        elif changed:
            groups.append((changed, config.epsilon))
        chosen = {name: np.zeros(len(array), bool) for name, array in contributions.items()}
        for names, epsilon in groups:
            rho = [np.full(len(chosen[name]), _rho_of(config, name)) for name in names]
            taken = choose_channels(
                np.concatenate([contributions[name] for name in names]),
                rho=np.concatenate(rho),
                epsilon=epsilon,
            )
            ends = np.cumsum([len(chosen[name]) for name in names])
            chosen.update(zip(names, np.split(taken, ends[:-1]), strict=True))
        return chosen

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the catalogue as an ``.npz`` file, whole or not at all.

        Raises:
            DataError: It cannot be written.
        """
        path = pathlib.Path(path)
        header = {
            "kind": self.KIND,
            "version": self.VERSION,
            "layers": list(self.contributions),
            "names": list(self.names),
            "fingerprint": self.fingerprint,
            "settings": self.settings,
        }
        arrays = {_HEADER: np.array(json.dumps(header)), _CENTROIDS: self.centroids}
        if self.shares is not None:
            arrays[_SHARES] = self.shares
        for name, array in self.contributions.items():
            arrays[_LAYER + name] = array
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(f"Cannot write {path}: {error.strerror or error}.") from error
        finally:
            temporary.unlink(missing_ok=True)


_HEADER, _CENTROIDS, _SHARES, _LAYER = "header", "centroids", "shares", "layer/"


def _rho_of(config: EditConfig, layer: str) -> float:
    if not isinstance(config.rho, dict):
        return config.rho
    if layer not in config.rho:
        raise ConfigError(
            f"rho must have a number for each layer that is changed; {layer!r} is missing. Add it, "
            "or name the layers that are changed."
        )
    return config.rho[layer]


def load_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """Reads what ``Catalogue.save`` wrote.

    Raises:
        DataError: The file cannot be read, is damaged, or is no catalogue.
        ConfigError: It is one of another version.
    """
    try:
        # Opened here, because NumPy leaves a file open that it cannot read.
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, Mapping) or _HEADER not in found:
                raise ValueError("it has no header")
            header = json.loads(str(found[_HEADER]))
            if not isinstance(header, dict) or header.get("kind") != Catalogue.KIND:
                raise ValueError(f"its kind is not {Catalogue.KIND!r}")
            version = header["version"]
            if version != Catalogue.VERSION:
                raise ConfigError(
                    f"The catalogue {path} has version {version}; this facegan reads version "
                    f"{Catalogue.VERSION}. Make it again."
                )
            expected = {_HEADER, _CENTROIDS, *(_LAYER + name for name in header["layers"])}
            if set(found) - {_SHARES} != expected:
                wrong = ", ".join(sorted((set(found) - {_SHARES}) ^ expected))
                raise ValueError(f"{wrong} is missing or unknown")
            return Catalogue(
                contributions={name: found[_LAYER + name] for name in header["layers"]},
                names=tuple(map(str, header["names"])),
                centroids=found[_CENTROIDS],
                fingerprint=str(header["fingerprint"]),
                shares=found[_SHARES] if _SHARES in found else None,
                settings=dict(header["settings"]),
            )
    # What is raised for a file that is cut, changed, of another kind, or of other contents.
    except (
        *(OSError, ValueError, TypeError, KeyError, IndexError, EOFError, DataError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise DataError(
            f"{path} cannot be read as a catalogue: {str(error).rstrip('.')}. Give the file that "
            "was made for the bundle, or make it again."
        ) from error


def transfer(
    target_scales: Scales,
    reference_scales: Scales,
    catalogue: Catalogue,
    parts: Sequence[str],
    config: EditConfig | None = None,
) -> dict[str, np.ndarray]:
    """Gives parts of faces to other faces.

    Args:
        target_scales: Layer -> [B, C] float, of the faces that are changed.
        reference_scales: Layer -> [B, C] or [1, C] float, of those whose parts they get.
        catalogue: Of the bundle that the scales are for.
        parts: Which; one after the other, so that a channel of two parts goes its way twice.
        config: Which channels, and how far.

    Returns:
        Layer -> [B, C] float32.

    Raises:
        ConfigError: The catalogue has no such part, or other layers.
    """
    config = config or EditConfig()
    for scales in (target_scales, reference_scales):
        widths = {name: array.shape[-1] for name, array in scales.items()}
        if widths != catalogue.layers:
            wrong = sorted(dict(widths.items() ^ catalogue.layers.items()))
            raise ConfigError(
                f"The catalogue has other layers or widths than the scales: {', '.join(wrong)}. "
                "Take scales and catalogue of one bundle."
            )
    changed = {name: np.asarray(target_scales[name], np.float32) for name in catalogue.layers}
    for part in parts:
        for name, chosen in catalogue.choose(part, config).items():
            share = np.float32(config.strength) * chosen.astype(np.float32)
            changed[name] = (1 - share) * changed[name] + share * reference_scales[name]
    return changed
