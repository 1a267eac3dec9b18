"""How real and how various the pictures are that a model makes of noise.

Drawn pictures are judged as a set against a dataset's, by the FID, the KID, and by precision and
recall; how smoothly they follow their styles is told by the perceptual path length.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, table
1. Differences: the KID, which the authors took up later; the networks, of which the files of the
measures tell; the authors measure the path length by 50,000 pairs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from facegan.bundle import GENERATE, read_manifest
from facegan.errors import BundleError, ConfigError, DataError
from facegan.evaluation.fid import GaussianStatistics, frechet_distance, make_inception
from facegan.evaluation.kid import kernel_distance
from facegan.evaluation.lpips import make_distance
from facegan.evaluation.path_length import perceptual_path_length
from facegan.evaluation.precision_recall import precision_and_recall
from facegan.jobs.evaluate_domains import read_examples
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.sampling import (
    BATCH_SIZE,
    W,
    draw_latents,
    latent_conditioning,
    map_latents,
    paint_w,
)

# Precision looks at the third nearest of the others.
_LEAST_PICTURES = 4
# What is measured, as a page tells of it.
_HEADINGS = {
    "fid": "FID",
    "kid": "KID",
    "kid_std": "KID, standard deviation",
    "precision": "Precision",
    "recall": "Recall",
    "ppl": "Perceptual path length",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PictureEvaluationConfig:
    """What is evaluated.

    Attributes:
        count: Pictures that are drawn.
        split: The dataset's pictures that they are compared with: all of it, as they are stored.
        inception: Weights for what compares sets, as ``make_inception`` has it; None leaves the
            FID, the KID, precision and recall out.
        lpips: Weights for the perceptual path length, as ``make_lpips`` has it; None leaves it out.
        path_samples: Pairs of pictures for it.
        truncation: What is left of the styles' distance from their mean, in [0, 1].
        seed: Of the draws.
    """

    KIND: ClassVar[str] = "picture_evaluation"

    count: int = 50_000
    split: str = "train"
    inception: str | None = None
    lpips: str | None = None
    path_samples: int = 10_000
    truncation: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < _LEAST_PICTURES or self.path_samples < 1:
            raise ConfigError(
                f"count must be at least {_LEAST_PICTURES} and path_samples at least 1, got "
                f"{self.count} and {self.path_samples}."
            )
        if not 0.0 <= self.truncation <= 1.0 or self.seed < 0:
            raise ConfigError(
                f"truncation must be in [0, 1] and seed at least 0, got {self.truncation} and "
                f"{self.seed}."
            )
        if self.inception is None and self.lpips is None:
            raise ConfigError(
                "There is nothing to measure: name weights for the FID and its kin (inception), "
                "for the perceptual path length (lpips), or for both."
            )


def evaluate_pictures(
    bundle: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    config: PictureEvaluationConfig,
    *,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Scores a bundle that makes faces of noise.

    Args:
        bundle: The exported model.
        dataset_dir: Folder of a prepared dataset.
        config: What is evaluated.
        progress: Opens the progress of a named stage.

    Returns:
        ``fid``, ``kid``, ``kid_std``, ``precision`` and ``recall``, and ``ppl``, of those that
        were asked for. Also ``pictures`` and ``generated`` (what was compared: 0 without
        inception), ``path_samples`` (0 without lpips), ``truncation``, ``fid_features`` and
        ``lpips_weights`` (whose weights they were measured with).

    Raises:
        BundleError: The bundle does not make faces of noise, or computes in less than float32, of
            which a path length would tell more than of the styles.
        DataError: There is no such split, or it has fewer than four pictures.
    """
    from facegan.jobs.run import make_example_maker

    manifest = read_manifest(bundle)
    maker = make_example_maker(latent_conditioning(manifest))
    if config.lpips is not None and manifest.precision != "float32":
        raise BundleError(
            f"The bundle {bundle} computes in {manifest.precision}, which is coarser than the "
            "steps of a path length. Leave lpips out, or export the model in float32."
        )
    features = None if config.inception is None else make_inception(config.inception)
    distance = None if config.lpips is None else make_distance(config.lpips)
    methods = BundleMethods(bundle, manifest)
    scores: dict[str, Any] = {}
    pictures = 0
    if features is not None:
        examples = read_examples(maker, dataset_dir, config.split, progress)
        real = features(image for batch in examples for image in batch["image"])
        pictures = len(real)
        if pictures < _LEAST_PICTURES:
            raise DataError(
                f"The split {config.split!r} of {dataset_dir} has too few pictures to compare "
                f"with: {pictures}; at least {_LEAST_PICTURES} are needed."
            )
        fake = features(_paint(bundle, methods, config, progress))
        scores = _compare_sets(real, fake, config.seed, progress)
    if distance is not None:
        random = np.random.default_rng([config.seed, 1])
        with _full_precision(), progress("Measure paths") as report:
            scores["ppl"] = perceptual_path_length(
                lambda w: methods.run(GENERATE, {W: w})["image"],
                distance.between_floats,
                lambda n: map_latents(methods, draw_latents(methods, random, n), config.truncation),
                config.path_samples,
                progress=report,
            )
    return {
        **scores,
        "pictures": pictures,
        "generated": 0 if features is None else config.count,
        "path_samples": 0 if distance is None else config.path_samples,
        "truncation": config.truncation,
        "fid_features": None if features is None else features.source,
        "lpips_weights": None if distance is None else distance.source,
    }


def _paint(
    bundle: str | os.PathLike[str],
    methods: BundleMethods,
    config: PictureEvaluationConfig,
    progress: ProgressFactory,
) -> Iterator[np.ndarray]:
    """Drawn pictures [size, size, 3] uint8, of which few are held at once."""
    engine, random = load_engine(bundle), np.random.default_rng([config.seed, 0])
    with progress("Paint") as report:
        for start in range(0, config.count, BATCH_SIZE):
            report(start, config.count, "picture")
            latents = draw_latents(methods, random, min(BATCH_SIZE, config.count - start))
            yield from paint_w(engine, map_latents(methods, latents, config.truncation))
        report(config.count, config.count, "picture")


def _compare_sets(
    real: np.ndarray, fake: np.ndarray, seed: int, progress: ProgressFactory
) -> dict[str, float]:
    with progress("Compare") as report:
        report(0, 3, "measure")
        distance = frechet_distance(_gather(real), _gather(fake))
        report(1, 3, "measure")
        kid, deviation = kernel_distance(real, fake, seed=seed)
        report(2, 3, "measure")
        precision, recall = precision_and_recall(real, fake)
        report(3, 3, "measure")
    return {
        "fid": distance,
        "kid": kid,
        "kid_std": deviation,
        "precision": precision,
        "recall": recall,
    }


def _gather(features: np.ndarray) -> GaussianStatistics:
    """Their statistics, without a float64 copy of all of them."""
    found = GaussianStatistics()
    for part in np.array_split(features, len(features) // 4096 + 1):
        found.update(part)
    return found


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Keeps GPUs from TensorFloat-32, whose rounding is coarser than the steps of a path length."""
    import tensorflow as tf

    settings = tf.config.experimental
    allowed = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(allowed)


def write_pictures_page(
    page: str | os.PathLike[str], bundle: str | os.PathLike[str], scores: dict[str, Any]
) -> None:
    """Writes what ``evaluate_pictures`` gave as an HTML page.

    Raises:
        ConfigError: The file cannot be written.
    """
    from facegan.evaluation.report_page import Table, write_page

    rows = [[heading, scores[name]] for name, heading in _HEADINGS.items() if name in scores]
    notes = [f"Truncation {scores['truncation']:g}."]
    if scores["generated"]:
        notes.append(
            f"{scores['generated']} drawn pictures against {scores['pictures']} of the dataset, by "
            f"InceptionV3 with the weights {scores['fid_features']}."
        )
    if scores["path_samples"]:
        notes.append(
            f"{scores['path_samples']} pairs, by LPIPS with the weights {scores['lpips_weights']}."
        )
    table = Table(heading="Drawn pictures", columns=["", "Score"], rows=rows, note=" ".join(notes))
    write_page(page, f"Scores of {os.fspath(bundle)}", [table])
