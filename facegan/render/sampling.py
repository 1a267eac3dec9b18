"""Drawing from bundles that make faces of noise: latents, styles w, and their mean."""

from __future__ import annotations

import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from facegan.bundle import Manifest
from facegan.errors import BundleError, DataError
from facegan.face.conditioning import LatentConditioningConfig, decode_conditioning
from facegan.render.engine import ConcurrentEngine, Engine, Methods
from facegan.render.stages import ordered_map

# Input of a bundle that paints of styles, and the method that makes styles of latents.
W, MAP = "w", "map_style"
BATCH_SIZE = 16


def latent_conditioning(manifest: Manifest) -> LatentConditioningConfig:
    """The conditioning of a bundle that makes faces of noise.

    Raises:
        BundleError: The bundle is of another kind.
    """
    document = manifest.conditioning or {}
    if document.get("kind") != LatentConditioningConfig.KIND:
        raise BundleError(
            f"A {manifest.model!r} bundle makes no faces of noise; take one of 'stylegan2'."
        )
    config = decode_conditioning(document)
    assert isinstance(config, LatentConditioningConfig)  # by its kind
    return config


def style_shape(manifest: Manifest) -> tuple[int, int]:
    """The shape [num_styles, style_size] of a picture's styles.

    Raises:
        BundleError: The bundle does not paint of styles.
    """
    for spec in manifest.inputs:
        if spec.name == W and len(spec.shape) == 3 and spec.shape[1] and spec.shape[2]:
            return spec.shape[1], spec.shape[2]
    raise BundleError(f"The {manifest.model!r} bundle takes no styles {W!r}; export it again.")


def draw_latents(methods: Methods, random: np.random.Generator, count: int) -> np.ndarray:
    """Latents from N(0, 1): [count, latent_size] float32."""
    size = methods.find_input(MAP, "latent").shape[1]
    return random.standard_normal((count, size or 1)).astype(np.float32)


def draw_seeded_latents(methods: Methods, seeds: Sequence[int]) -> np.ndarray:
    """Latents that follow from a seed each, whatever the others are: [N, latent_size] float32."""
    draws = [draw_latents(methods, np.random.default_rng(seed), 1) for seed in seeds]
    return np.concatenate(draws)


def map_latents(methods: Methods, latents: np.ndarray, truncation: float = 1.0) -> np.ndarray:
    """Styles of latents.

    Args:
        methods: The bundle's.
        latents: [N, latent_size] float32.
        truncation: What is left of the distance from the mean style; 0 gives the mean.

    Returns:
        [N, num_styles, style_size] float32, for each latent the same in all layers.
    """
    left = np.full(len(latents), truncation, np.float32)
    return methods.run(MAP, {"latent": latents, "truncation": left})[W]


def find_mean_w(methods: Methods) -> np.ndarray:
    """The mean style of all that was drawn in training: [num_styles, style_size] float32."""
    return map_latents(methods, draw_latents(methods, np.random.default_rng(0), 1), 0.0)[0]


def paint_w(engine: Engine, w: np.ndarray) -> Iterator[np.ndarray]:
    """Paints styles [N, num_styles, style_size]: [size, size, 3] uint8, one after the other."""
    starts = range(0, len(w), BATCH_SIZE)
    parts = ({W: np.ascontiguousarray(w[start : start + BATCH_SIZE])} for start in starts)
    in_flight = engine.batches_in_flight if isinstance(engine, ConcurrentEngine) else 1
    for images in ordered_map(engine.generate, parts, in_flight=in_flight):
        yield from images


def truncate_w(
    w: np.ndarray, mean_w: np.ndarray, truncation: float, num_truncated: int | None = None
) -> np.ndarray:
    """Brings styles closer to the mean: fewer odd faces for less variety.

    Args:
        w: [N, num_styles, style_size] float32.
        mean_w: [num_styles, style_size] float32.
        truncation: What is left of the distance: 1 leaves the styles, 0 gives the mean, less goes
            on to the other side.
        num_truncated: How many layers, counted from the coarsest; None is all.

    Returns:
        Of w's shape.
    """
    if truncation == 1.0:
        return w  # to the last bit
    nearer = mean_w + np.float32(truncation) * (w - mean_w)
    changes = np.arange(w.shape[1]) < (w.shape[1] if num_truncated is None else num_truncated)
    return np.where(changes[:, None], nearer, w)


def slerp(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """A point on the great circle between two latents, at a share of the angle between them.

    Args:
        first: [latent_size] float32, of any length but 0: the mapping net sees the direction only.
        last: Likewise.
        share: 0 gives the first, 1 the last.

    Returns:
        [latent_size] float32 of length 1.
    """
    first, last = (end / np.linalg.norm(end) for end in (first, last))
    angle = np.arccos(np.clip(np.dot(first, last), -1.0, 1.0))
    if np.sin(angle) < 1e-6:  # the same direction twice, or opposite ones that no plane follows of
        return first if share < 0.5 else last
    weights = np.sin((1.0 - share) * angle), np.sin(share * angle)
    return ((weights[0] * first + weights[1] * last) / np.sin(angle)).astype(np.float32)


def read_w(path: str | os.PathLike[str], shape: tuple[int, int]) -> np.ndarray:
    """Reads styles from the array "w" of an .npz file, this library's or another's.

    Args:
        path: The file; its "w" is [N, num_styles, style_size], or of one picture without N.
        shape: The bundle's (num_styles, style_size).

    Returns:
        [N, num_styles, style_size] float32.

    Raises:
        DataError: The file cannot be read, or holds no styles of that shape.
    """
    try:
        # Opened here, because NumPy leaves a file open that it cannot read.
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, Mapping):
                raise ValueError("it holds one array without a name")
            if W not in found:
                raise ValueError(f"it has no array {W!r}, only {', '.join(sorted(found))}")
            w = np.asarray(found[W], np.float32)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"Cannot read styles from {path}: {error}.") from error
    stacked = w[None] if w.ndim == 2 else w
    if stacked.shape[1:] != shape or not len(stacked) or not np.isfinite(stacked).all():
        raise DataError(
            f"The array {W!r} of {path} must hold finite numbers of shape [N, {shape[0]}, "
            f"{shape[1]}] for this bundle, got {list(w.shape)}."
        )
    return stacked


def write_w(path: str | os.PathLike[str], w: np.ndarray) -> None:
    """Writes styles [N, num_styles, style_size] for ``read_w``, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, w=w)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"Cannot write {path}: {error.strerror or error}.") from error
