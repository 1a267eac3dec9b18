import numpy as np
import tensorflow_datasets as tfds

from facegan.datasets import record_facts
from facegan.image import encode_labels, encode_picture
from tests.datasets.checked_dataset import face, face_fields, labels, picture


def _fields(**more):
    return record_facts.find_fields(tfds.features.FeaturesDict(face_fields(**more)))


def _record(seed, **changes):
    record = face(seed, **changes)
    return {**record, "identity": record["identity"].encode()}


def test_fields_are_sorted_by_what_they_hold():
    fields = _fields(
        frames=tfds.features.Sequence(tfds.features.Image(shape=(8, 8, 3))),
        scores=tfds.features.Sequence(np.float32),
        domain=tfds.features.ClassLabel(names=["cat", "dog"]),
    )
    assert fields.pictures == ("image",)
    assert fields.strips == ("frames",)
    assert fields.has_labels and fields.has_landmarks
    assert fields.all_texts == ("identity", "domain")
    bare = record_facts.find_fields(tfds.features.FeaturesDict({"number": np.int64}))
    assert not (bare.pictures or bare.strips or bare.has_labels or bare.has_landmarks)


def test_a_record_is_named_by_its_place_and_by_what_it_says_of_itself():
    fields = _fields(domain=tfds.features.ClassLabel(names=["cat", "dog"]))
    record = {**_record(0, identity="Zoë"), "domain": np.int64(1)}
    assert fields.name_record("train", 3, record) == "train[3] (Zoë/dog)"
    assert fields.read_text({"domain": -1}, "domain") == "-1"
    numbered = record_facts.find_fields(tfds.features.FeaturesDict({"index": np.int64}))
    assert numbered.name_record("test", 0, {"index": np.int64(27)}) == "test[0] (index 27)"
    bare = record_facts.find_fields(tfds.features.FeaturesDict({"number": np.int64}))
    assert bare.name_record("test", 0, {"number": np.int64(27)}) == "test[0]"


def test_facts_are_measured():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = 200
    facts = record_facts.look_at(
        _fields(), "train", 0, _record(0, image=encode_picture(image), identity="ann")
    )
    (one,) = facts.pictures
    assert (one.size, one.brightness, one.fault) == ((20, 10), 100.0, "")
    assert facts.label_size == (32, 32) and facts.label_counts.sum() == 32 * 32
    assert facts.texts == {"identity": "ann"}
    # The landmarks reach to row 28 of 10.
    assert facts.far_outside.tolist() == [True] and facts.no_face.tolist() == [False]


def test_equal_bytes_have_equal_digests():
    digests = [
        record_facts.look_at(_fields(), "train", i, _record(i, image=encode_picture(picture(seed))))
        .pictures[0]
        .digest
        for i, seed in enumerate([0, 0, 1])
    ]
    assert digests[0] == digests[1] != digests[2]
    assert all(0 <= digest < 2**64 for digest in digests)


def test_faults_carry_the_records_name():
    label_map = encode_labels(labels(0, 1))
    facts = record_facts.look_at(
        _fields(), "train", 7, _record(0, image=b"", label_map=label_map[: len(label_map) // 2])
    )
    assert facts.pictures[0].size is None
    assert facts.pictures[0].fault.startswith("train[7] (person 0): image")
    assert facts.label_fault.startswith("train[7] (person 0): label_map")
    assert facts.label_counts is None
