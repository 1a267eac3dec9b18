"""How well a bundle draws what it never saw: the held-out part of its dataset."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from facegan.errors import BundleError, DataError
from facegan.face.conditioning import (
    DomainConditioningConfig,
    FewShotConditioningConfig,
    LabelMapConditioningConfig,
    LatentConditioningConfig,
    MaskConditioningConfig,
    PictureConditioningConfig,
    decode_conditioning,
)
from facegan.face.parsing import ParserConfig
from facegan.image import to_uint8

_BATCH_SIZE = 8
# What has no pairs of a real and a generated picture, or more measures than those of pairs, by the
# kind of its conditioning: what it does, and what ``tools/evaluate.py`` wants for it.
_MEASURED_ELSEWHERE = {
    MaskConditioningConfig.KIND: (
        "paints faces from maps of their regions",
        "--bundle, one or several of them, with --lpips, --inception and --parser",
    ),
    LatentConditioningConfig.KIND: (
        "makes faces of noise",
        "--bundle with --inception, --lpips or both, and --count",
    ),
    DomainConditioningConfig.KIND: (
        "turns pictures into those of other domains",
        "--bundle with --inception, --lpips or both, and --outputs",
    ),
    FewShotConditioningConfig.KIND: (
        "learns a face from a few pictures",
        "--run_dir in place of --bundle, with --work_dir and --shots",
    ),
}


def evaluate_holdout(
    bundle: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    split: str = "test",
    parser: ParserConfig | None = None,
) -> dict[str, Any]:
    """Scores a bundle on a split of the dataset that its run was trained on.

    Args:
        bundle: The exported model.
        dataset_dir: Folder of the prepared dataset.
        split: The split to judge on.
        parser: What finds the regions in generated pictures; by default what found those that the
            model was trained on.

    Returns:
        See ``facegan.evaluation.pairs.evaluate_pairs``: means over the pairs of real and generated
        pictures. For a model of label maps also ``segmentation``, scores of the regions found in
        the generated pictures against those that they were made of, and ``segmentation_real``, the
        same of the real pictures. A face parser has ``segmentation`` alone, of its maps against the
        dataset's.

    Raises:
        BundleError: It is no bundle, or of a kind that other measures are for; the message tells
            how to get them.
        DataError: The bundle takes no face, or there is no such split.
    """
    from facegan.evaluation.pairs import evaluate_pairs
    from facegan.face.identity import IdentityModel

    config, stream = _generate_pairs(bundle, dataset_dir, split)
    if isinstance(config, PictureConditioningConfig):
        return {"segmentation": _compare_maps(config.schema, stream)}
    pairs = list(stream)
    scores: dict[str, Any] = evaluate_pairs(
        [pair.real for pair in pairs],
        [pair.fake for pair in pairs],
        identity_model=IdentityModel(),
    )
    if isinstance(config, LabelMapConditioningConfig):
        from facegan.jobs.reparse import score_regions

        if parser is not None:
            config = dataclasses.replace(config, parser=parser)
        truth = [pair.label_map for pair in pairs if pair.label_map is not None]
        for name, pictures in (
            ("segmentation", [pair.fake for pair in pairs]),
            ("segmentation_real", [pair.real for pair in pairs]),
        ):
            scores[name] = score_regions(config, dataset_dir, truth, pictures)
    return scores


@dataclasses.dataclass(frozen=True, slots=True)
class _Pair:
    """A real picture, what the model made, and the label map where there is one."""

    real: np.ndarray
    fake: np.ndarray
    label_map: np.ndarray | None


def _generate_pairs(
    bundle: str | os.PathLike[str], dataset_dir: str | os.PathLike[str], split: str
) -> tuple[Any, Iterator[_Pair]]:
    """The bundle's conditioning, and the pairs of a split."""
    from facegan.bundle import read_manifest
    from facegan.datasets.pipeline import (
        PipelineConfig,
        iterate_batches,
        make_pipeline,
        read_records,
    )
    from facegan.jobs.run import make_example_maker
    from facegan.render.engine import load_engine

    manifest = read_manifest(bundle)
    if manifest.conditioning is None:
        raise DataError(f"{bundle} takes no face, so there is nothing to compare it with.")
    if (kind := manifest.conditioning.get("kind")) in _MEASURED_ELSEWHERE:
        what, flags = _MEASURED_ELSEWHERE[kind]
        raise BundleError(
            f"{bundle} {what}, which is not measured picture by picture; use tools/evaluate.py "
            f"{flags}."
        )
    config = decode_conditioning(manifest.conditioning)
    engine = load_engine(bundle)
    batches = make_pipeline(
        read_records(dataset_dir, split),
        make_example_maker(config),
        PipelineConfig(batch_size=_BATCH_SIZE),
        training=False,
    )

    def pairs() -> Iterator[_Pair]:
        for batch in iterate_batches(batches.as_numpy_iterator(), dataset_dir):
            real = to_uint8(batch["image"])
            inputs = {
                spec.name: to_uint8(batch[spec.name]) if spec.is_image else batch[spec.name]
                for spec in manifest.inputs
                if spec.name in batch
            }
            if "style_image" in {spec.name for spec in manifest.inputs}:
                inputs["style_image"] = real  # each picture in its own style: a reconstruction
            maps = batch.get("label_map", [None] * len(real))
            for triple in zip(real, engine.generate(inputs), maps, strict=True):
                yield _Pair(*triple)

    return config, pairs()


def _compare_maps(schema: str, pairs: Iterable[_Pair]) -> dict[str, Any]:
    from facegan.evaluation.segmentation import ConfusionMatrix
    from facegan.face.labels import find_schema

    matrix = ConfusionMatrix(find_schema(schema).num_labels)
    for pair in pairs:
        if pair.label_map is not None:
            matrix.update(pair.label_map, pair.fake)
    return matrix.scores(find_schema(schema))


def identity_to_person(
    video: str | os.PathLike[str], person: str | os.PathLike[str], every: int = 5
) -> dict[str, Any]:
    """How far the face of one video is from a person's: the mean distance of dlib descriptors.

    Args:
        video: The video to judge, such as a rendered one.
        person: A video of the person.
        every: Take each such frame of both.

    Returns:
        ``distance`` between all pairs of frames (below 0.6 dlib takes two pictures for one
        person), ``own_distance`` among the person's own frames, and ``coverage``, the share of
        judged frames in which a face was found.
    """
    from facegan.evaluation.identity import (
        cross_identity_score,
        describe_pictures,
        own_identity_score,
    )
    from facegan.face.identity import IdentityModel

    model = IdentityModel()
    judged = describe_pictures(model, _pictures(video, every))
    own = describe_pictures(model, _pictures(person, every))
    score = cross_identity_score(own, judged)
    return {
        "distance": score.distance,
        "own_distance": own_identity_score(own).distance,
        "coverage": score.coverage,
    }


def _pictures(path: str | os.PathLike[str], every: int) -> Iterator[np.ndarray]:
    from facegan.video.reader import VideoReader

    with VideoReader(pathlib.Path(path)) as reader:
        frames: Iterable[Any] = reader
        for frame in frames:
            if frame.index % every == 0:
                yield frame.image


def write_scores_page(
    page: str | os.PathLike[str], bundle: str | os.PathLike[str], scores: Mapping[str, Any]
) -> None:
    """Writes what ``evaluate_holdout`` gave as an HTML page.

    Raises:
        ConfigError: The file cannot be written.
    """
    from facegan.evaluation.report_page import Section, Table, write_page

    plain = [(name, value) for name, value in scores.items() if not isinstance(value, Mapping)]
    sections: list[Section] = []
    if plain:
        sections.append(Table(heading="Likeness", columns=["", "mean"], rows=plain))
    regions = {name: value for name, value in scores.items() if isinstance(value, Mapping)}
    if regions:
        means = [
            name for name, value in regions["segmentation"].items() if isinstance(value, float)
        ]
        columns = {"segmentation": "generated", "segmentation_real": "real, parsed anew"}
        names = [columns.get(name, name) for name in regions]
        sections.append(
            Table(
                heading="Regions",
                columns=["", *names],
                rows=[[name, *(value[name] for value in regions.values())] for name in means],
            )
        )
        labels = list(regions["segmentation"]["iou"])
        sections.append(
            Table(
                heading="IoU by region",
                columns=["", *names],
                rows=[
                    [label, *(value["iou"].get(label) for value in regions.values())]
                    for label in labels
                ],
            )
        )
    write_page(page, f"Scores of {pathlib.Path(bundle)}", sections)
