"""How well models of faces from segmentation maps follow a map and keep the face, side by side.

Every picture is painted from its own map, and in its own colours and identity from the map of the
picture after it. What was painted is parsed anew and compared with the map it was asked for, and
described anew and compared with who it should be; the first kind is also compared with the picture,
and both kinds as sets with the real ones. The real pictures go through the same: what they score
against their own maps is what the parser can give at best, and against the others' what a model
scores that changes nothing.

The public system has no measure of its own; these are those of its neighbours.

Reference: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019,
section 4, for the parser's agreement and the FID.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError, DataError
from facegan.evaluation.fid import GaussianStatistics, frechet_distance, make_inception
from facegan.evaluation.lpips import make_distance
from facegan.evaluation.pairs import compare_pictures
from facegan.evaluation.segmentation import ConfusionMatrix
from facegan.face.conditioning import (
    IDENTITY,
    LabelMapConditioner,
    LabelMapConditioningConfig,
    MaskConditioningConfig,
    decode_conditioning,
)
from facegan.face.identity import IdentityModel, identity_distance
from facegan.face.labels import find_schema
from facegan.face.landmarks import NUM_LANDMARKS, DetectorConfig
from facegan.face.mask_groups import draw_colour_map, split_groups
from facegan.face.parsing import ParserConfig
from facegan.image import resize
from facegan.jobs.evaluate_domains import read_examples
from facegan.preparation.faces import describe_landmarks
from facegan.preparation.small_faces import find_small_face
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import Engine, load_engine

RECONSTRUCTION, MANIPULATION = "reconstruction", "manipulation"
_KINDS = (RECONSTRUCTION, MANIPULATION)
# Each picture is lent the map of another one.
_LEAST_PICTURES = 2
_BATCH_SIZE = 16
# Pictures on a page are at least so high and wide.
_SHOWN_PX = 128
# What is measured, as a page tells of it.
_HEADINGS = {
    "ssim": "SSIM",
    "psnr_db": "PSNR (dB)",
    "l1": "L1",
    "lpips": "LPIPS",
    "pixel_accuracy": "Pixel accuracy",
    "mean_iou": "mIoU",
    "identity_distance": "Identity distance",
    "identity_distance_owner": "Identity distance to the owner",
    "faces": "Faces found",
    "fid": "FID",
}

_TITLES = {RECONSTRUCTION: "own map", MANIPULATION: "other map"}
_CAPTIONS = ("picture", "own map", "reconstruction", "other map", "manipulated")

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaskEvaluationConfig:
    """What is evaluated.

    Attributes:
        split: The pictures that are painted.
        inception: Weights for the FID, as ``make_inception`` has it; None leaves it out.
        lpips: Weights for the LPIPS, as ``make_lpips`` has it; None leaves it out.
        parser: What finds the regions of painted pictures.
        detector: What finds the faces for it, and for the identity.
    """

    KIND: ClassVar[str] = "mask_evaluation"

    split: str = "test"
    inception: str | None = None
    lpips: str | None = None
    parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
    detector: DetectorConfig = DetectorConfig()


@dataclasses.dataclass(frozen=True, slots=True)
class MaskSample:
    """A picture and what bundles make of it.

    Attributes:
        image: [S, S, 3] uint8.
        maps: The own map and the other picture's, [S, S, 3] uint8, both in the own colours.
        painted: By bundle, what it paints of the two: [S, S, 3] uint8 each.
    """

    image: np.ndarray
    maps: tuple[np.ndarray, np.ndarray]
    painted: Mapping[str, tuple[np.ndarray, np.ndarray]]


def evaluate_masks(
    bundles: Sequence[str | os.PathLike[str]],
    dataset_dir: str | os.PathLike[str],
    config: MaskEvaluationConfig | None = None,
    *,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Scores bundles of faces from segmentation maps on the same pictures.

    Args:
        bundles: The exported models, of one size and one schema of groups.
        dataset_dir: Folder of a prepared dataset with label maps.
        config: What is evaluated.
        progress: Opens the progress of a named stage.

    Returns:
        ``bundles``: by folder as given, ``reconstruction`` and ``manipulation`` with
        ``pixel_accuracy``, ``mean_iou`` and ``iou`` (by group) of the regions against the map that
        was asked for; ``faces``, the share of pictures in which a face is found (the rest counts as
        background all over, unless the parser is a bundle); ``identity_distance``, the mean of
        dlib's to the own picture, or None where no two faces were found; and ``fid``. The former
        also has ``ssim``, ``psnr_db``, ``l1`` and ``lpips`` against the picture, the latter
        ``identity_distance_owner``, to the picture whose map it was. What was not asked for, or
        cannot be had without dlib's models, is left out.
        ``real``: the same two of the real pictures themselves, but for what is trivial of them.
        Also ``pictures``, ``size``, ``schema``, ``parser`` (its bundle), ``fid_features`` and
        ``lpips_weights``.

    Raises:
        BundleError: A bundle is of another kind.
        ConfigError: No bundle is named, or one twice, or their sizes or schemas differ.
        DataError: There is no such split, or it has fewer than two pictures.
    """
    config = config or MaskEvaluationConfig()
    shown = _read_conditioning(bundles)
    examples = _read_examples(shown, dataset_dir, config.split, progress)
    measures = _Measures(config, shown)
    engines = {os.fspath(bundle): load_engine(bundle) for bundle in bundles}
    tallies = {name: {kind: _Tally(measures, kind) for kind in _KINDS} for name in engines}
    unchanged = {kind: _Tally(measures, kind) for kind in _KINDS}
    real = GaussianStatistics()
    count = 0
    pictures = (_Picture(example, measures.look_at(example["image"])) for example in examples)
    for pairs in _batches(_pair_up(pictures)):
        count += len(pairs)
        images = np.stack([own.example["image"] for own, _ in pairs])
        if measures.features is not None:
            real.update(measures.features(images))
        for kind in _KINDS:
            unchanged[kind].compare([own.looks for own, _ in pairs], pairs)
            asked = [_ask(kind, own.example, other.example) for own, other in pairs]
            for name, engine in engines.items():
                tallies[name][kind].add(_paint(engine, asked), pairs)
    return {
        "bundles": {
            name: {kind: tally.scores(real) for kind, tally in kinds.items()}
            for name, kinds in tallies.items()
        },
        "real": {
            kind: {k: v for k, v in tally.scores(real).items() if k != "identity_distance"}
            for kind, tally in unchanged.items()
        },
        "pictures": count,
        "size": shown.size,
        "schema": shown.schema,
        "parser": config.parser.bundle,
        "fid_features": None if measures.features is None else measures.features.source,
        "lpips_weights": None if measures.distance is None else measures.distance.source,
    }


def paint_samples(
    bundles: Sequence[str | os.PathLike[str]],
    dataset_dir: str | os.PathLike[str],
    split: str = "test",
    count: int = 4,
) -> list[MaskSample]:
    """What bundles make of the first pictures of a split, to look at.

    Args:
        bundles: The exported models, of one size and one schema of groups.
        dataset_dir: Folder of a prepared dataset with label maps.
        split: The pictures that are painted.
        count: How many at most.

    Raises:
        BundleError: A bundle is of another kind.
        ConfigError: No bundle is named, or one twice, or their sizes or schemas differ.
        DataError: There is no such split, or it has fewer than two pictures.
    """
    shown = _read_conditioning(bundles)
    examples = _read_examples(shown, dataset_dir, split, no_progress)
    pairs = list(itertools.islice(_pair_up(examples), count))
    own, other = ([_ask(kind, *pair) for pair in pairs] for kind in _KINDS)
    painted = {}
    for bundle in bundles:
        engine = load_engine(bundle)
        painted[os.fspath(bundle)] = (_paint(engine, own), _paint(engine, other))
    return [
        MaskSample(
            image=pairs[i][0]["image"],
            maps=(_draw(own[i]), _draw(other[i])),
            painted={name: (kinds[0][i], kinds[1][i]) for name, kinds in painted.items()},
        )
        for i in range(len(pairs))
    ]


def write_masks_page(
    page: str | os.PathLike[str], scores: Mapping[str, Any], samples: Sequence[MaskSample] = ()
) -> None:
    """Writes what ``evaluate_masks`` and ``paint_samples`` gave as an HTML page.

    Raises:
        ConfigError: The file cannot be written.
    """
    from facegan.evaluation.report_page import PictureRow, Section, Table, write_page

    rows = {**scores["bundles"], "real pictures": scores["real"]}
    first = next(iter(scores["bundles"].values()))
    columns = [(kind, name) for kind in _KINDS for name in _HEADINGS if name in first[kind]]
    note = (
        f"{scores['pictures']} pictures of {scores['size']} pixels. Own map: painted from the map "
        "of the picture itself. Other map: from that of the picture after it, in its own colours "
        "and identity. The real pictures are as good as the parser allows with their own maps, and "
        "with the others' as one that changes nothing."
    )
    sections: list[Section] = [
        Table(
            heading="Bundles",
            columns=["", *(f"{_HEADINGS[name]}, {_TITLES[kind]}" for kind, name in columns)],
            rows=[
                [name, *(found[kind].get(measure) for kind, measure in columns)]
                for name, found in rows.items()
            ],
            note=note,
        )
    ]
    for number, sample in enumerate(samples, 1):
        for name, painted in sample.painted.items():
            shown = (sample.image, sample.maps[0], painted[0], sample.maps[1], painted[1])
            side = max(_SHOWN_PX, scores["size"])
            sections.append(
                PictureRow(
                    heading=f"Picture {number}, {name}",
                    pictures=[
                        (caption, resize(image, side, side))
                        for caption, image in zip(_CAPTIONS, shown, strict=True)
                    ],
                )
            )
    write_page(page, "Scores of faces from segmentation maps", sections)


@dataclasses.dataclass(frozen=True, slots=True)
class _Looks:
    """What is found in a picture: its regions, and whether there is a face and whose."""

    label_map: np.ndarray
    has_face: bool
    descriptor: np.ndarray | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Picture:
    """A real picture: its example, and what is found in it."""

    example: Mapping[str, np.ndarray]
    looks: _Looks


class _Measures:
    """What looks at pictures."""

    def __init__(self, config: MaskEvaluationConfig, shown: MaskConditioningConfig) -> None:
        self.schema = find_schema(shown.schema)
        self.features = None if config.inception is None else make_inception(config.inception)
        self.distance = None if config.lpips is None else make_distance(config.lpips)
        self.describes = _can_describe()
        self._needs_landmarks = config.parser.bundle is None
        self.finds_faces = self._needs_landmarks or self.describes
        self._detector = config.detector
        regions = LabelMapConditioningConfig(
            size=shown.size, schema=shown.schema, parser=config.parser
        )
        self._regions = LabelMapConditioner(regions, load_engine)

    def look_at(self, image: np.ndarray) -> _Looks:
        face = find_small_face(image, self._detector) if self.finds_faces else None
        descriptor = None
        if face is not None and self.describes:
            descriptor = describe_landmarks(face.image, face.landmarks_xy_px)
        if not self._needs_landmarks:
            unseen = np.zeros((NUM_LANDMARKS, 2), np.float32)
            label_map = self._regions(unseen, image)["label_map"]
        elif face is not None:
            label_map = self._regions(face.landmarks_xy_px, face.image)["label_map"]
        else:
            label_map = np.zeros(image.shape[:2], np.uint8)
        return _Looks(label_map, face is not None, descriptor)


class _Tally:
    """What painted pictures of one kind score, gathered part by part."""

    def __init__(self, measures: _Measures, kind: str) -> None:
        self._measures, self._kind = measures, kind
        self._matrix = ConfusionMatrix(measures.schema.num_labels)
        self._statistics = GaussianStatistics()
        self._faces: list[bool] = []
        self._values: dict[str, list[float]] = {}
        if measures.describes:
            self._values["identity_distance"] = []
            if kind == MANIPULATION:
                self._values["identity_distance_owner"] = []

    def add(self, images: np.ndarray, pairs: Sequence[tuple[_Picture, _Picture]]) -> None:
        """Takes what was painted of pairs of a picture and one whose map it is lent."""
        measures = self._measures
        if self._kind == RECONSTRUCTION:
            real = np.stack([own.example["image"] for own, _ in pairs])
            for pair in zip(real, images, strict=True):
                for name, value in compare_pictures(*pair).items():
                    self._values.setdefault(name, []).append(value)
            if measures.distance is not None:
                distances = measures.distance(real, images)
                self._values.setdefault("lpips", []).extend(map(float, distances))
        if measures.features is not None:
            self._statistics.update(measures.features(images))
        self.compare([measures.look_at(image) for image in images], pairs)

    def compare(self, found: Sequence[_Looks], pairs: Sequence[tuple[_Picture, _Picture]]) -> None:
        """Takes what was found in pictures."""
        for looks, (own, other) in zip(found, pairs, strict=True):
            asked = own if self._kind == RECONSTRUCTION else other
            self._matrix.update(asked.example["label_map"], looks.label_map)
            self._faces.append(looks.has_face)
            for name, person in (("identity_distance", own), ("identity_distance_owner", other)):
                if name not in self._values or looks.descriptor is None:
                    continue
                if person.looks.descriptor is not None:
                    distance = identity_distance(person.looks.descriptor, looks.descriptor)
                    self._values[name].append(distance)

    def scores(self, real: GaussianStatistics) -> dict[str, Any]:
        """The means, and what is measured of all pictures together."""
        found = self._matrix.scores(self._measures.schema)
        scores: dict[str, Any] = {
            name: float(np.mean(values)) if values else None
            for name, values in self._values.items()
        }
        scores |= {name: found[name] for name in ("pixel_accuracy", "mean_iou", "iou")}
        if self._measures.finds_faces:
            scores["faces"] = float(np.mean(self._faces))
        if self._statistics.count:
            scores["fid"] = frechet_distance(real, self._statistics)
        return scores


def _can_describe() -> bool:
    try:
        IdentityModel()
    except ConfigError as error:
        logging.getLogger("facegan").warning("Identities are not compared: %s", error)
        return False
    return True


def _read_conditioning(bundles: Sequence[str | os.PathLike[str]]) -> MaskConditioningConfig:
    """What all the bundles are shown; with an identity if one of them is told it."""
    names = [os.fspath(bundle) for bundle in bundles]
    if not names or len({*names}) < len(names):
        raise ConfigError(
            f"Bundles to compare are named once each, got {', '.join(names) or 'none'}."
        )
    found: dict[str, MaskConditioningConfig] = {}
    for name in names:
        document = read_manifest(name).conditioning
        shown = None if document is None else decode_conditioning(document)
        if not isinstance(shown, MaskConditioningConfig):
            raise BundleError(
                f"The bundle {name} paints no faces from segmentation maps. Evaluate it by itself, "
                "or name an export of a mask_pix2pix run."
            )
        found[name] = shown
    first = found[names[0]]
    for name, shown in found.items():
        if (shown.size, shown.schema) != (first.size, first.schema):
            raise ConfigError(
                f"Bundles to compare must be of one size and schema, got {first.size} and "
                f"{first.schema!r} of {names[0]}, and {shown.size} and {shown.schema!r} of {name}. "
                "Evaluate them one by one."
            )
    told = any(shown.identity for shown in found.values())
    return dataclasses.replace(first, identity=told)


def _read_examples(
    shown: MaskConditioningConfig,
    dataset_dir: str | os.PathLike[str],
    split: str,
    progress: ProgressFactory,
) -> Iterator[dict[str, np.ndarray]]:
    """Examples of a split one by one, of which there are two at least."""
    from facegan.datasets.pipeline import count_records, read_records
    from facegan.jobs.run import make_example_maker

    count = count_records(read_records(dataset_dir, split))
    if count < _LEAST_PICTURES:
        raise DataError(
            f"The split {split!r} of {dataset_dir} has too few pictures, {count}: each is lent the "
            f"map of another, so at least {_LEAST_PICTURES} are needed. Name another split."
        )
    batches = read_examples(make_example_maker(shown), dataset_dir, split, progress)
    return (
        {name: values[i] for name, values in batch.items()}
        for batch in batches
        for i in range(len(batch["image"]))
    )


def _ask(
    kind: str, own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What a generator is shown of an example, by its own map or another's."""
    shown = own if kind == RECONSTRUCTION else other
    asked = {name: own[name] for name in ("colours", IDENTITY) if name in own}
    return {**asked, "masks": split_groups(shown["label_map"], len(own["colours"]))}


def _draw(asked: Mapping[str, np.ndarray]) -> np.ndarray:
    return draw_colour_map(asked["masks"], asked["colours"])


def _paint(engine: Engine, asked: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Pictures [B, S, S, 3] uint8."""
    names = [spec.name for spec in engine.manifest.inputs]
    return engine.generate({name: np.stack([one[name] for one in asked]) for name in names})


def _pair_up(values: Iterable[_T]) -> Iterator[tuple[_T, _T]]:
    """Each of at least one value with the next one, the last with the first."""
    iterator = iter(values)
    first = last = next(iterator)
    for value in iterator:
        yield last, value
        last = value
    yield last, first


def _batches(values: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(values)
    while batch := list(itertools.islice(iterator, _BATCH_SIZE)):
        yield batch
