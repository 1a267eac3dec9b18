"""How well and how variously a model turns pictures of each domain into every other one.

For each ordered pair of domains, every test picture of the first is painted in several styles of
the second, drawn ones and those of test pictures. Both kinds are judged by the FID of all that was
made against the training pictures of the second domain, and by the LPIPS between what was made of
the same picture: the lower the one and the higher the other, the better.

Reference: Choi et al., "StarGAN v2: Diverse Image Synthesis for Multiple Domains", CVPR 2020,
section 3 and appendix C.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from facegan.bundle import read_manifest
from facegan.errors import ConfigError, DataError
from facegan.face.conditioning import LANDMARKS, DomainConditioningConfig
from facegan.image import to_uint8
from facegan.jobs.translate import paint_in_styles
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.sampling import draw_latents
from facegan.render.style import (
    domain_conditioning,
    encode_references,
    map_latents,
)

if TYPE_CHECKING:
    from facegan.datasets.examples import ExampleMaker

_BATCH_SIZE = 16
_LATENT, _REFERENCE = "latent", "reference"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DomainEvaluationConfig:
    """What is evaluated.

    Attributes:
        outputs: Styles that each picture is painted in.
        split: The pictures that are painted, and those whose styles are taken.
        inception: Weights for the FID, as ``make_inception`` has it; None leaves it out.
        lpips: Weights for the LPIPS, as ``make_lpips`` has it; None leaves it out.
        seed: Of the draws.
    """

    KIND: ClassVar[str] = "domain_evaluation"

    outputs: int = 10
    split: str = "test"
    inception: str | None = None
    lpips: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.outputs < 2:
            raise ConfigError(f"outputs must be at least 2, got {self.outputs}.")
        if self.inception is None and self.lpips is None:
            raise ConfigError(
                "There is nothing to measure: name weights for the FID (inception), for the LPIPS "
                "(lpips), or for both."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _Picture:
    image: np.ndarray
    landmarks_xy_px: np.ndarray | None


def evaluate_domains(
    bundle: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    config: DomainEvaluationConfig | None = None,
    *,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Scores a bundle of domains.

    Args:
        bundle: The exported model.
        dataset_dir: Folder of a prepared dataset with its domains.
        config: What is evaluated.
        progress: Opens the progress of a named stage.

    Returns:
        ``latent`` and ``reference``: means of ``fid`` and ``lpips`` over the ordered pairs of
        domains, and ``pairs``, those of each under names such as "female to male". Also
        ``pictures`` (of each domain in the split), ``outputs``, ``fid_features`` and
        ``lpips_weights`` (whose weights they were measured with).

    Raises:
        BundleError: The bundle knows no domains.
        DataError: A domain has no picture in the split.
    """
    from facegan.evaluation.fid import GaussianStatistics, frechet_distance, make_inception
    from facegan.evaluation.lpips import diversity, make_distance

    config = config or DomainEvaluationConfig()
    manifest = read_manifest(bundle)
    shown = domain_conditioning(manifest)
    if len(shown.domains) < 2:
        raise DataError(f"{bundle} knows one domain only, so there is no pair to score.")
    pictures = _read_pictures(shown, dataset_dir, config.split)
    features = None if config.inception is None else make_inception(config.inception)
    distance = None if config.lpips is None else make_distance(config.lpips)
    engine, methods = load_engine(bundle), BundleMethods(bundle, manifest)
    real = {name: GaussianStatistics() for name in shown.domains}
    if features is not None:
        for images, domains, _ in _read_batches(shown, dataset_dir, "train", progress):
            for number in np.unique(domains):
                real[shown.domains[number]].update(features(images[domains == number]))
    pairs = [(a, b) for a in shown.domains for b in shown.domains if a != b]
    total = sum(len(pictures[source]) for source, _ in pairs)
    found: dict[str, dict[str, dict[str, float]]] = {_LATENT: {}, _REFERENCE: {}}
    done = 0
    with progress("Evaluate") as report:
        for source, target in pairs:
            number = shown.domain_index(target)
            random = np.random.default_rng([config.seed, shown.domain_index(source), number])
            references = [picture.image for picture in pictures[target]]
            encoded = np.concatenate(
                [encode_references(methods, np.stack(p), number) for p in _batches(references)]
            )
            made = {kind: GaussianStatistics() for kind in found}
            apart: dict[str, list[float]] = {kind: [] for kind in found}
            for picture in pictures[source]:
                report(done, total, "picture")
                done += 1
                latents = draw_latents(methods, random, config.outputs)
                few = len(encoded) < config.outputs
                chosen = random.choice(len(encoded), config.outputs, replace=few)
                for kind, styles in (
                    (_LATENT, map_latents(methods, latents, number)),
                    (_REFERENCE, encoded[chosen]),
                ):
                    painted = paint_in_styles(
                        engine, picture.image, picture.landmarks_xy_px, styles
                    )
                    if features is not None:
                        made[kind].update(features(painted))
                    if distance is not None:
                        apart[kind].append(diversity(painted, distance))
            for kind in found:
                scores = found[kind][f"{source} to {target}"] = {}
                if features is not None:
                    scores["fid"] = frechet_distance(real[target], made[kind])
                if distance is not None:
                    scores["lpips"] = float(np.mean(apart[kind]))
        report(total, total, "picture")
    return {
        **{kind: {**_means(found[kind]), "pairs": found[kind]} for kind in found},
        "pictures": {name: len(images) for name, images in pictures.items()},
        "outputs": config.outputs,
        "fid_features": None if features is None else features.source,
        "lpips_weights": None if distance is None else distance.source,
    }


def _means(pairs: dict[str, dict[str, float]]) -> dict[str, float]:
    names = next(iter(pairs.values()))
    return {name: float(np.mean([scores[name] for scores in pairs.values()])) for name in names}


def _batches(images: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(images), _BATCH_SIZE):
        yield images[start : start + _BATCH_SIZE]


def _read_pictures(
    shown: DomainConditioningConfig, dataset_dir: str | os.PathLike[str], split: str
) -> dict[str, list[_Picture]]:
    """The pictures of a split by domain, as the model is shown them."""
    pictures: dict[str, list[_Picture]] = {name: [] for name in shown.domains}
    for images, domains, points in _read_batches(shown, dataset_dir, split):
        for image, domain, xy in zip(images, domains, points, strict=True):
            pictures[shown.domains[int(domain)]].append(_Picture(image, xy))
    empty = [name for name, found in pictures.items() if not found]
    if empty:
        raise DataError(f"The split {split!r} of {dataset_dir} has no picture of {empty[0]!r}.")
    return pictures


def _read_batches(
    shown: DomainConditioningConfig,
    dataset_dir: str | os.PathLike[str],
    split: str,
    progress: ProgressFactory = no_progress,
) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
    """Pictures [b, size, size, 3] uint8, their domains, and landmarks or Nones."""
    from facegan.datasets.pipeline import list_domains
    from facegan.jobs.run import make_example_maker

    if list_domains(dataset_dir) != shown.domains:
        raise DataError(
            f"The model knows the domains {', '.join(shown.domains)}, but those of {dataset_dir} "
            f"are {', '.join(list_domains(dataset_dir))}."
        )
    for batch in read_examples(make_example_maker(shown), dataset_dir, split, progress):
        yield batch["image"], batch["domain"], batch.get(LANDMARKS, [None] * len(batch["image"]))


def read_examples(
    maker: ExampleMaker,
    dataset_dir: str | os.PathLike[str],
    split: str,
    progress: ProgressFactory = no_progress,
) -> Iterator[dict[str, np.ndarray]]:
    """Reads a split once, in batches of examples as they are stored.

    Args:
        maker: What a record becomes; one of its arrays is ``image``.
        dataset_dir: Folder of a prepared dataset.
        split: As ``read_records`` takes it.
        progress: Opens the progress of a named stage.

    Yields:
        Arrays by the maker's names; ``image`` is [b, size, size, 3] uint8.

    Raises:
        DataError: There is no such split, it is empty, or its records cannot be used.
    """
    from facegan.datasets.pipeline import (
        PipelineConfig,
        count_records,
        iterate_batches,
        make_pipeline,
        read_records,
    )

    records = read_records(dataset_dir, split)
    total, done = count_records(records), 0
    config = PipelineConfig(batch_size=_BATCH_SIZE)
    batches = make_pipeline(records, maker, config, training=False)
    with progress(f"Read {split}") as report:
        for batch in iterate_batches(batches.as_numpy_iterator(), dataset_dir):
            report(done, total, "picture")
            yield {**batch, "image": to_uint8(batch["image"])}
            done += len(batch["image"])
        report(total, total, "picture")


def write_domains_page(
    page: str | os.PathLike[str], bundle: str | os.PathLike[str], scores: dict[str, Any]
) -> None:
    """Writes what ``evaluate_domains`` gave as an HTML page.

    Raises:
        ConfigError: The file cannot be written.
    """
    from facegan.evaluation.report_page import Table, write_page

    kinds = (_LATENT, _REFERENCE)
    measures = [name for name in scores[_LATENT] if name != "pairs"]
    columns = [f"{name.upper()}, {kind}" for name in measures for kind in kinds]
    rows = [
        [pair, *(scores[kind]["pairs"][pair][name] for name in measures for kind in kinds)]
        for pair in scores[_LATENT]["pairs"]
    ]
    rows.append(["mean", *(scores[kind][name] for name in measures for kind in kinds)])
    table = Table(heading="Pairs of domains", columns=["", *columns], rows=rows)
    write_page(page, f"Scores of {os.fspath(bundle)}", [table])
