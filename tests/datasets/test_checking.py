import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from facegan.datasets import check_page, checking
from facegan.errors import ConfigError, DataError
from facegan.face.labels import BISENET19, CELEBAMASK19, encode_schema
from facegan.image import encode_jpeg, encode_labels, encode_picture
from tests.datasets.checked_dataset import SIZE, face, face_fields, labels, picture, store


def _check(folder, records, *, fields=None, report=None, **kwargs):
    stored = store(folder, fields or face_fields(), records, report)
    return checking.check_dataset(stored, **kwargs)


def _problems(result, level=None):
    return [p for p in result["problems"] if level is None or p["level"] == level]


def _one(result, words):
    """The one problem that says so."""
    (problem,) = [p for p in result["problems"] if words in p["what"]]
    return problem


def test_a_dataset_without_faults_is_fine(tmp_path):
    report = {"splits": {"train": 3, "test": 1}, "left_out": {}, "counts": {"faces": 4}}
    result = _check(
        tmp_path, {"train": [face(i) for i in range(3)], "test": [face(9)]}, report=report
    )
    assert result["ok"]
    assert _problems(result, "error") == []
    # 16 labels of the schema are in none of these maps.
    assert [p["what"] for p in result["problems"]] == [
        "Of the schema 'celebamask19', 16 labels occur nowhere."
    ]
    assert result["splits"] == {
        "train": {"records": 3, "pictures": 3},
        "test": {"records": 1, "pictures": 1},
    }
    assert result["sizes"] == {"image": {"32x32": 4}, "label_map": {"32x32": 4}}
    assert result["landmarks"] == {"faces": 4, "without_face": 0, "far_outside": 0}
    assert result["duplicates"] == {"within_a_split": 0, "over_splits": 0}
    assert result["groups"]["identity"]["different"] == {"train": 3, "test": 1}
    assert result["counts"] == {"faces": 4}
    assert result["samples"] == {"train": [0, 1, 2], "test": [0]}
    assert json.loads(json.dumps(result)) == result


def test_the_same_dataset_gives_the_same_result(tmp_path):
    folder = store(tmp_path, face_fields(), {"train": [face(i % 7) for i in range(150)]})
    assert checking.check_dataset(folder) == checking.check_dataset(folder)


def test_label_shares_are_those_of_the_maps(tmp_path):
    result = _check(
        tmp_path,
        {
            "train": [
                face(0, label_map=encode_labels(labels(0, 1))),
                face(1, label_map=encode_labels(labels(0, 0, 1, 17))),
            ]
        },
    )
    by_name = {entry["name"]: entry for entry in result["labels"]}
    assert len(by_name) == CELEBAMASK19.num_labels
    assert by_name["skin"]["pixels"] == SIZE * SIZE * 3 // 4
    assert by_name["skin"]["pixel_share"] == pytest.approx(3 / 8)
    assert by_name["neck"]["pixel_share"] == pytest.approx(1 / 8)
    assert by_name["neck"]["picture_share"] == pytest.approx(1 / 2)
    assert by_name["hat"]["label_maps"] == 0


def test_ids_outside_of_the_schema_are_named(tmp_path):
    records = {"train": [face(0), face(1, label_map=encode_labels(labels(0, 19, 200)))]}
    result = _check(tmp_path, records)
    problem = _one(result, "outside of the schema 'celebamask19', 0 to 18")
    assert problem["level"] == "error" and problem["count"] == 1 and not result["ok"]
    assert problem["examples"][0].endswith("(person 1): 19, 200")
    assert [e["id"] for e in result["labels"] if e["name"] == "(outside of the schema)"] == [
        *(19, 200)
    ]


def test_the_report_tells_the_schema(tmp_path):
    own = {**encode_schema(BISENET19), "name": "mine", "labels": list(BISENET19.labels[:4])}
    own["flip_pairs"] = []
    for number, (told, name, ok) in enumerate(
        [("bisenet19", "bisenet19", True), (own, "mine", False), ("celebmask", None, False)]
    ):
        result = _check(
            tmp_path / str(number),
            {"train": [face(0, label_map=encode_labels(labels(0, 5)))]},
            report={"schema": told},
        )
        assert (result["schema"], result["ok"]) == (name, ok)
    assert "report.json" in _one(result, "'celebmask'")["what"]
    assert result["labels"][1]["id"] == 5


def test_pictures_that_cannot_be_decoded_are_named(tmp_path):
    whole = encode_jpeg(picture(3, 64))
    fields = face_fields(image=tfds.features.Image(shape=(None, None, 3)))
    result = _check(
        tmp_path,
        {
            "train": [
                face(0),
                face(1, image=b"GIF87a?"),
                face(2, image=whole[: len(whole) // 2]),
                face(3, label_map=encode_labels(labels(0, 1))[:60]),
                face(4, label_map=encode_picture(picture(4))),
            ]
        },
        fields=fields,
    )
    problem = _one(result, "2 of 5 pictures cannot be decoded")
    assert problem["level"] == "error"
    told = " ".join(problem["examples"])
    assert "(person 1): image" in told and "(person 2): image is cut off" in told
    told = " ".join(_one(result, "2 of 5 label maps cannot be read")["examples"])
    assert "(person 3)" in told and "(person 4)" in told


def test_identities_in_two_splits_are_an_error(tmp_path):
    records = {
        "train": [face(0, identity="ann"), face(1, identity="bob"), face(2, identity="bob")],
        "test": [face(3, identity="bob"), face(4, identity="eve")],
    }
    result = _check(tmp_path, records)
    problem = _one(result, "1 of 3 values of identity are in several splits")
    assert problem["level"] == "error" and problem["examples"] == ["bob: train, test"]
    assert result["groups"]["identity"]["values"]["train"] == {"ann": 1, "bob": 2}


def test_persons_in_two_splits_are_a_warning(tmp_path):
    fields = {"image": face_fields()["image"], "person": tfds.features.Text()}
    records = {
        split: [{"image": face(i)["image"], "person": "ann"}]
        for i, split in enumerate(["train", "test"])
    }
    result = _check(tmp_path, records, fields=fields)
    assert result["ok"]
    assert _one(result, "values of person")["level"] == "warning"


def test_identical_pictures_are_found_within_and_over_splits(tmp_path):
    same = face(0)["image"]
    records = {
        "train": [face(0), face(1, image=same), face(2, image=same), face(3)],
        "test": [face(4, image=same), face(5)],
    }
    result = _check(tmp_path, records)
    assert result["duplicates"] == {"within_a_split": 2, "over_splits": 1}
    (over,) = _one(result, "in more than one split, byte for byte")["examples"]
    assert over.count("train[") == 3 and over.count("test[") == 1
    assert _one(result, "repeat another")["level"] == "warning"


def test_sizes_that_do_not_fit_are_told(tmp_path):
    records = {
        "train": [
            face(0),
            face(1, image=encode_picture(picture(1, 48))),
            face(2, image=encode_picture(picture(2)[:, :20])),
        ]
    }
    result = _check(tmp_path, records)
    problem = _one(result, "2 of 3 label maps have another size")
    assert problem["level"] == "error"
    assert any("image 20x32, label_map 32x32" in example for example in problem["examples"])
    assert _one(result, "The pictures of image have 3 different sizes")["level"] == "warning"


def test_landmarks_without_a_face_and_far_outside_are_counted(tmp_path):
    near, far, infinite = (face(0)["landmarks_xy_px"].copy() for _ in range(3))
    near[3] = (SIZE * 1.2, -SIZE * 0.2)
    far[5, 0] = SIZE * 1.3
    infinite[0, 1] = -np.inf
    records = {
        "train": [
            face(0),
            face(1, landmarks_xy_px=near),
            face(2, landmarks_xy_px=far),
            face(3, landmarks_xy_px=infinite),
            face(4, landmarks_xy_px=np.full((68, 2), np.nan, np.float32)),
        ]
    }
    result = _check(tmp_path, records)
    assert result["landmarks"] == {"faces": 5, "without_face": 1, "far_outside": 2}
    told = " ".join(_one(result, "points more than 25% of a side")["examples"])
    assert "person 2" in told and "person 3" in told and "person 1" not in told
    assert result["ok"]


def test_black_and_background_only_are_warnings(tmp_path):
    records = {
        "train": [
            face(0, image=encode_picture(np.zeros((SIZE, SIZE, 3), np.uint8))),
            face(1, label_map=encode_labels(labels(0))),
        ]
    }
    result = _check(tmp_path, records)
    assert result["ok"]
    assert _one(result, "nearly black or white")["examples"][0].endswith("(person 0): mean 0.0")
    assert _one(result, "background only")["examples"][0].endswith("(person 1)")
    assert result["brightness"]["darkest"] == 0.0
    assert result["brightness"]["median"] == 0.0  # the lower of two
    assert 125 < result["brightness"]["brightest"] < 135


def _frames(seeds):
    return [encode_picture(picture(seed)) for seed in seeds]


def test_frames_of_videos_are_pictures(tmp_path):
    fields = {
        "images": tfds.features.Sequence(tfds.features.Image(shape=(SIZE, SIZE, 3))),
        "landmarks_xy_px": tfds.features.Tensor(shape=(None, 68, 2), dtype=np.float32),
        "identity": tfds.features.Text(),
        "video": tfds.features.Text(),
    }

    def video(name, seeds, faces=None, person="ann", **changes):
        count = len(seeds) if faces is None else faces
        marks = np.full((count, 68, 2), 16, np.float32)
        return {
            "images": _frames(seeds),
            "landmarks_xy_px": marks,
            "identity": person,
            "video": name,
            **changes,
        }

    records = {
        "train": [
            video("a", [0, 1, 2]),
            video("a", [3, 4], person="bob"),
            video("b", [5, 5]),
            video("c", [6, 7], faces=1),
            video("d", [8, 9], images=[*_frames([8]), b"broken"]),
            video("e", []),
        ]
    }
    result = _check(tmp_path, records, fields=fields)
    assert result["splits"]["train"] == {"records": 6, "pictures": 11}
    assert result["groups"]["video"]["different"] == {"train": 6}
    assert result["duplicates"]["within_a_split"] == 1
    assert result["landmarks"]["faces"] == 10
    (told,) = _one(result, "1 of 11 pictures cannot be decoded")["examples"]
    assert "(ann/d): images[1]" in told
    (told,) = _one(result, "not one set of landmarks a picture")["examples"]
    assert "1 sets of landmarks, 2 pictures" in told
    assert _one(result, "1 of 6 records hold no picture")["level"] == "error"


def test_classes_are_counted_by_name(tmp_path):
    fields = {
        "image": face_fields()["image"],
        "domain": tfds.features.ClassLabel(names=["cat", "dog"]),
        "file": tfds.features.Text(),
    }
    records = {
        "train": [
            {"image": face(i)["image"], "domain": int(i > 0), "file": f"{i}.png"} for i in range(3)
        ]
    }
    result = _check(tmp_path, records, fields=fields)
    assert list(result["groups"]) == ["domain"]
    assert result["groups"]["domain"]["values"] == {"train": {"cat": 1, "dog": 2}}
    assert result["labels"] == [] and result["landmarks"] == {} and result["schema"] is None
    assert result["ok"] and result["problems"] == []


def test_what_the_report_tells_is_taken_over(tmp_path):
    report = {
        "splits": {"train": 1, "validation": 0},
        "left_out": {"truncated": {"count": 2}, "not_chosen": {"count": 7}},
        "counts": {"missing_part:hair": 3, "frames": 8},
    }
    result = _check(tmp_path, {"train": [face(0)]}, report=report)
    assert result["left_out"] == {"not_chosen": 7, "truncated": 2}
    assert _one(result, "without parts")["examples"] == ["hair: 3"]
    problem = _one(result, "2 files or frames were left out")
    assert problem["examples"] == ["truncated: 2"]
    # TFDS has no empty split; the report knows that there was to be one.
    assert _one(result, "The split 'validation' is empty.")["level"] == "error"
    assert result["splits"]["validation"] == {"records": 0, "pictures": 0}


def test_clips_of_a_report_are_added_up(tmp_path):
    clips = [{"left_out": {"no_face": {"count": n, "ranges": []}}} for n in (3, 4)]
    result = _check(tmp_path, {"train": [face(0)]}, report={"clips": clips})
    assert result["left_out"] == {"no_face": 7}


def test_damaged_record_files_are_an_error_and_the_rest_is_looked_at(tmp_path):
    records = {"test": [face(0)], "train": [face(i) for i in range(1, 9)]}
    folder = store(tmp_path, face_fields(), records)
    (path,) = folder.glob("*train.tfrecord*")
    os.truncate(path, path.stat().st_size // 2)
    result = checking.check_dataset(folder)
    assert "'train' can be read to record" in _problems(result, "error")[0]["what"]
    assert not result["ok"]
    assert result["splits"]["test"]["records"] == 1
    # Records differ by a few bytes, so half of the file holds half of them, or one less.
    assert result["splits"]["train"]["records"] in (3, 4)
    samples = check_page.read_samples(folder, result)
    assert len(samples) == 1 + result["splits"]["train"]["records"]


def test_a_limit_and_samples_that_are_spread(tmp_path):
    folder = store(tmp_path, face_fields(), {"train": [face(i) for i in range(80)]})
    calls = []

    class Seen:
        def __init__(self, label):
            self.label = label

        def __enter__(self):
            return lambda done, total, unit: calls.append((self.label, done, total, unit))

        def __exit__(self, *_):
            return None

    result = checking.check_dataset(folder, limit=70, samples_per_split=4, progress=Seen)
    assert result["splits"]["train"]["records"] == 70 and result["limit"] == 70
    assert result["samples"] == {"train": [8, 26, 43, 61]}
    assert calls[0] == ("Check train", 0, 70, "record")
    assert calls[-1] == ("Check train", 70, 70, "record")
    assert checking.check_dataset(folder, samples_per_split=0)["samples"] == {"train": []}


def test_numbers_out_of_range_and_other_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="limit at least 1, got 16 and 0"):
        checking.check_dataset(tmp_path, limit=0)
    with pytest.raises(DataError, match="holds no prepared dataset"):
        checking.check_dataset(tmp_path)


def test_the_table_is_aligned_and_tells_all(tmp_path):
    report = {"left_out": {"truncated": {"count": 12}}, "counts": {"missing_part:hair": 3}}
    records = {
        "train": [face(i, identity="ann") for i in range(11)],
        "test": [face(20, identity="ann")],
    }
    result = _check(tmp_path, records, report=report)
    table = checking.format_table(result)
    lines = table.splitlines()
    start = lines.index("Splits")
    assert lines[start + 1 : start + 4] == [
        "  split  records  pictures  identity values",
        "  train       11        11                1",
        "  test         1         1                1",
    ]
    for words in ("celebamask19", "truncated", "missing_part:hair", "    ann: train, test"):
        assert words in table
    assert lines[-1] == "The dataset should not be trained on: 1 error, 3 warnings."
