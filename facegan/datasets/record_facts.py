"""What is kept of one record while a dataset is checked.

A record is looked at alone, in any thread, and its pictures are forgotten; what remains is small.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from facegan.errors import DataError
from facegan.face.label_maps import count_labels
from facegan.preparation.pictures import read_label_ids, read_photo

LABEL_MAP = "label_map"
LANDMARKS = "landmarks_xy_px"

# Texts that tell a record, from the general to the particular.
_NAMING = ("identity", "person", "video", "clip", "file", "domain")
# Landmarks of a face at the border lie a little outside; this part of a side is no accident.
FAR_OUTSIDE = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class Fields:
    """Which of a dataset's features are what.

    Attributes:
        pictures: One picture a record.
        strips: Several pictures a record, as the frames of a video.
        has_labels: Whether there is a label map.
        has_landmarks: Whether there are landmarks, [68, 2] or [frames, 68, 2].
        texts: Names by which a record can be told.
        classes: Names of the classes by feature.
    """

    pictures: tuple[str, ...]
    strips: tuple[str, ...]
    has_labels: bool
    has_landmarks: bool
    texts: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]

    def name_record(self, split: str, index: int, record: Mapping[str, Any]) -> str:
        """As TFDS cuts a split, and what the record says of itself: ``train[3] (anna/clip_2)``."""
        told = [self.read_text(record, name) for name in _NAMING if name in self.all_texts]
        if not told and "index" in record:
            told = [f"index {int(record['index'])}"]
        return f"{split}[{index}]" + (f" ({'/'.join(told)})" if told else "")

    @property
    def all_texts(self) -> tuple[str, ...]:
        """Texts and classes."""
        return (*self.texts, *self.classes)

    def read_text(self, record: Mapping[str, Any], name: str) -> str:
        """A text, or the name of a class."""
        if name in self.classes:
            names, number = self.classes[name], int(record[name])
            return names[number] if 0 <= number < len(names) else str(number)
        return record[name].decode("utf-8", "replace")


@dataclasses.dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is kept of one picture; ``size`` is (width, height)."""

    field: str
    digest: int
    size: tuple[int, int] | None = None
    brightness: float = 0.0
    fault: str = ""


@dataclasses.dataclass(slots=True)
class RecordFacts:
    """What is kept of one record."""

    name: str
    texts: dict[str, str]
    pictures: list[PictureFacts]
    label_counts: np.ndarray | None = None  # [256] int64
    label_size: tuple[int, int] | None = None
    label_fault: str = ""
    no_face: np.ndarray | None = None  # [sets] bool
    far_outside: np.ndarray | None = None  # [sets] bool
    landmark_fault: str = ""


def find_fields(features: tfds.features.FeaturesDict) -> Fields:
    """Sorts TFDS' features of a dataset by what they hold."""
    pictures, strips, texts = [], [], []
    classes = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            if name != LABEL_MAP:
                pictures.append(name)
        elif isinstance(feature, tfds.features.Sequence):
            if isinstance(feature.feature, tfds.features.Image):
                strips.append(name)
        elif isinstance(feature, tfds.features.ClassLabel):
            classes[name] = tuple(feature.names or ())
        elif isinstance(feature, tfds.features.Text):
            texts.append(name)
    return Fields(
        pictures=tuple(pictures),
        strips=tuple(strips),
        has_labels=LABEL_MAP in features,
        has_landmarks=LANDMARKS in features,
        texts=tuple(texts),
        classes=classes,
    )


def look_at(fields: Fields, split: str, index: int, record: Mapping[str, Any]) -> RecordFacts:
    """Decodes what is in a record, strictly, and measures it.

    Args:
        fields: Of the dataset.
        split: The record's split.
        index: The record's number in it.
        record: As ``read_records`` gives it, pictures encoded.
    """
    name = fields.name_record(split, index, record)
    texts = {text: fields.read_text(record, text) for text in fields.all_texts}
    facts = RecordFacts(name=name, texts=texts, pictures=[])
    for field in fields.pictures:
        facts.pictures.append(_look_at_picture(field, record[field], f"{name}: {field}"))
    for field in fields.strips:
        for number, data in enumerate(record[field]):
            facts.pictures.append(_look_at_picture(field, data, f"{name}: {field}[{number}]"))
    if fields.has_labels:
        try:
            label_map = read_label_ids(record[LABEL_MAP], f"{name}: {LABEL_MAP}")
            facts.label_counts = count_labels(label_map)
            facts.label_size = (label_map.shape[1], label_map.shape[0])
        except DataError as error:
            facts.label_fault = str(error)
    if fields.has_landmarks:
        _look_at_landmarks(record[LANDMARKS], facts)
    return facts


def _look_at_picture(field: str, data: bytes, name: str) -> PictureFacts:
    digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    try:
        # Decoders for training neither turn pictures nor mind whether they are cut off.
        picture = read_photo(data, name, turn_upright=False)
    except DataError as error:
        return PictureFacts(field, digest, fault=str(error))
    size = (picture.shape[1], picture.shape[0])
    return PictureFacts(field, digest, size, float(picture.mean()))


def _look_at_landmarks(landmarks: np.ndarray, facts: RecordFacts) -> None:
    sets = np.asarray(landmarks, np.float64).reshape(-1, *landmarks.shape[-2:])  # [sets, 68, 2]
    if len(sets) != len(facts.pictures):
        facts.landmark_fault = f"{len(sets)} sets of landmarks, {len(facts.pictures)} pictures"
    no_face = np.array([np.isnan(points).any() for points in sets], np.bool_)
    far = np.zeros(len(sets), np.bool_)
    for number, (points, picture) in enumerate(zip(sets, facts.pictures, strict=False)):
        if picture.size is not None and not no_face[number]:
            share = points / picture.size
            far[number] = share.min() < -FAR_OUTSIDE or share.max() > 1 + FAR_OUTSIDE
    facts.no_face, facts.far_outside = no_face, far
