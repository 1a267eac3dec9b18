import json
import pathlib
import pickle
import zipfile

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

import facegan.datasets
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.celebamask_hq.celebamask_hq_dataset_builder import Builder
from facegan.errors import DataError
from facegan.face.labels import CELEBAMASK19
from facegan.preparation.celebamask_hq import CelebAMaskHQConfig
from facegan.preparation.workers import WorkersConfig
from tests.celebamask_layout import draw_faces, write_layout

SPLITS = {0: "train", 1: "train", 2001: "validation", 7: "test"}
HERE = WorkersConfig(processes=0)


@pytest.fixture
def layout(tmp_path):
    faces = {index: draw_faces(64, index) for index in SPLITS}
    return write_layout(tmp_path / "CelebAMask-HQ", faces, SPLITS), faces


def _build(source, data_dir, size=64, **kwargs):
    config = find_config(Builder, CelebAMaskHQConfig(size=size, faces=kwargs.pop("faces", False)))
    builder = Builder(data_dir=data_dir, config=config, source=source, workers=HERE)
    made = prepare_items(builder, **kwargs)
    return builder, made


def _records(builder, split):
    return {int(r["index"]): r for r in builder.as_dataset(split=split).as_numpy_iterator()}


def _left_out(made):
    path = pathlib.Path(made["dataset_dir"]) / "left_out.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_pixel_of_the_label_map_comes_back(layout, tmp_path):
    root, faces = layout
    builder, made = _build(root, tmp_path / "data")
    assert made["splits"] == {"train": 2, "validation": 1, "test": 1} and made["left_out"] == {}
    for split in ("train", "validation", "test"):
        for index, record in _records(builder, split).items():
            assert SPLITS[index] == split
            np.testing.assert_array_equal(record["label_map"][..., 0], faces[index][1])
            assert record["image"].shape == (64, 64, 3)
            assert record["attributes"].tolist() == [(index + n) % 2 == 1 for n in range(40)]
            np.testing.assert_array_equal(record["pose"], [index + 0.5, -1.25, 3.0])
    assert builder.info.features["label_map"].names[4] == "l_eye"


def test_a_zip_gives_the_same_records(layout, tmp_path):
    root, _ = layout
    path = tmp_path / "CelebAMask-HQ.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    folder, _ = _build(root, tmp_path / "a")
    zipped, _ = _build(path, tmp_path / "b")
    for one, other in zip(
        folder.as_dataset(split="train").as_numpy_iterator(),
        zipped.as_dataset(split="train").as_numpy_iterator(),
        strict=True,
    ):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


def test_masks_follow_the_size_by_majority(layout, tmp_path):
    root, faces = layout
    builder, _ = _build(root, tmp_path / "data", size=32)
    small = _records(builder, "test")[7]["label_map"][..., 0]
    blocks = faces[7][1].reshape(32, 2, 32, 2).transpose(0, 2, 1, 3).reshape(32, 32, 4)
    counts = (blocks[..., None] == np.arange(19)).sum(axis=2)
    sure = counts.max(axis=-1) > 2
    np.testing.assert_array_equal(small[sure], counts.argmax(axis=-1)[sure])


def _replace(root, name, data):
    path = root / name
    assert path.exists() == (data is None or path.exists())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def _png(image):
    return cv2.imencode(".png", image)[1].tobytes()


MASK = "CelebAMask-HQ-mask-anno/0/00001_skin.png"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("CelebA-HQ-img/1.jpg", b"", "empty"),
        ("CelebA-HQ-img/1.jpg", b"not a picture" * 99, "not_a_picture"),
        (MASK, b"", "empty"),
        (MASK, _png(np.full((64, 64), 65535, np.uint16)), "wrong_mode"),
        (MASK, _png(np.full((64, 60), 255, np.uint8)), "wrong_shape"),
        ("CelebA-HQ-img/1.jpg", _png(np.zeros((60, 64, 3), np.uint8)), "wrong_shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_one_bad_file_is_named_and_the_rest_goes_on(layout, tmp_path, name, data, reason):
    root, _ = layout
    _replace(root, name, data)
    builder, made = _build(root, tmp_path / "data")
    assert made["splits"] == {"train": 1, "validation": 1, "test": 1}
    assert made["left_out"] == {reason: 1}
    (entry,) = _left_out(made)
    assert entry["reason"] == reason and ("1.jpg" in entry["detail"] or "00001" in entry["detail"])
    assert set(_records(builder, "train")) == {0}


def test_what_lacks_its_other_half_is_named(layout, tmp_path):
    root, _ = layout
    for path in (root / "CelebAMask-HQ-mask-anno" / "0").glob("00000_*.png"):
        path.unlink()
    (root / "CelebA-HQ-img" / "7.jpg").unlink()
    (root / "CelebA-HQ-img" / "copy of 1.jpg").write_bytes(b"x")
    (root / "CelebAMask-HQ-mask-anno" / "0" / "00001_chin.png").write_bytes(b"x")
    (root / "CelebAMask-HQ-mask-anno" / "0" / "00001_hat.png").unlink()
    (root / "CelebAMask-HQ-mask-anno" / "0" / "00001_skin.png").unlink()
    builder, made = _build(root, tmp_path / "data")
    assert made["splits"] == {"train": 1, "validation": 1}
    assert made["left_out"] == {"no_picture": 18, "bad_name": 2, "missing": 1}
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert report["counts"] == {"missing_part:skin": 1}
    assert "hat" not in {
        CELEBAMASK19.labels[n] for n in np.unique(_records(builder, "train")[1]["label_map"])
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CelebA-HQ-to-CelebA-mapping.txt", None, "CelebA-HQ-to-CelebA-mapping.txt"),
        ("CelebA-HQ-to-CelebA-mapping.txt", "idx orig\n", "no line with two numbers"),
        ("CelebAMask-HQ-attribute-anno.txt", "1\nA B\n0.jpg 1 -1\n", "line 3 .* 40 numbers"),
        ("CelebAMask-HQ-pose-anno.txt", "nothing\n", "names no picture"),
    ],
)
def test_annotation_files_that_cannot_be_used_are_named(layout, tmp_path, name, text, message):
    root, _ = layout
    _replace(root, name, None if text is None else text.encode())
    with pytest.raises(DataError, match=message):
        _build(root, tmp_path / "data")
    assert not list((tmp_path / "data").glob("celebamask_hq/*/1.0.0"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="CelebA-HQ-img"):
        _build(tmp_path / "other", tmp_path / "data")


def test_an_existing_dataset_of_other_files_is_not_taken_for_this_one(layout, tmp_path):
    root, _ = layout
    _, made = _build(root, tmp_path / "data")
    assert _build(root, tmp_path / "data")[1] == made
    (root / "CelebA-HQ-img" / "1.jpg").unlink()
    with pytest.raises(DataError, match="made of other files"):
        _build(root, tmp_path / "data")
    _, again = _build(root, tmp_path / "data", overwrite=True)
    assert again["splits"]["train"] == 1


def test_the_work_folder_is_gone_afterwards(layout, tmp_path):
    _build(layout[0], tmp_path / "data")
    assert not list((tmp_path / "data").glob(".*"))


def test_a_builder_survives_pickling(layout, tmp_path):
    builder = Builder(data_dir=tmp_path / "data", source=layout[0], workers=HERE)
    again = pickle.loads(pickle.dumps(builder))
    assert again.data_dir == builder.data_dir and again._source == builder._source


def test_tfds_loads_it_by_name(layout, tmp_path):
    dataset, info = tfds.load(
        "celebamask_hq/256px",
        split="train",
        data_dir=tmp_path / "data",
        with_info=True,
        builder_kwargs={"workers": HERE},
        download_and_prepare_kwargs={
            "download_config": tfds.download.DownloadConfig(manual_dir=layout[0])
        },
    )
    assert facegan.datasets.BUILDERS["celebamask_hq"] is Builder
    assert info.splits["train"].num_examples == 2
    assert next(iter(dataset))["image"].shape == (256, 256, 3)


class BuilderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["256px", "1024px"]
    SPLITS = {"train": 2, "validation": 1, "test": 1}
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        import tempfile

        root = pathlib.Path(tempfile.mkdtemp())
        faces = {index: draw_faces(512, index) for index in SPLITS}
        cls.dummy_data = write_layout(root / "manual" / "CelebAMask-HQ", faces, SPLITS).parent
        cls.EXAMPLE_DIR = str(cls.dummy_data)
        super().setUpClass()


def test_the_sample_comes_back_pixel_for_pixel(media_dir, tmp_path):
    folder = media_dir / "celebamask_hq_sample"
    faces = {}
    for index in (0, 1):
        image = cv2.cvtColor(cv2.imread(str(folder / f"{index}.jpg")), cv2.COLOR_BGR2RGB)
        faces[index] = (image, cv2.imread(str(folder / f"{index}.png"), cv2.IMREAD_UNCHANGED))
    root = write_layout(tmp_path / "hq", faces, {0: "train", 1: "train"})
    builder, made = _build(root, tmp_path / "data", size=512, faces=True)
    assert made["splits"] == {"train": 2} and made["left_out"] == {}
    for index, record in _records(builder, "train").items():
        np.testing.assert_array_equal(record["label_map"][..., 0], faces[index][1])
        assert record["has_face"] and np.linalg.norm(record["descriptor"]) == pytest.approx(
            1.4, abs=0.3
        )
        eyes = record["landmarks_xy_px"][36:48].mean(axis=0)
        assert abs(eyes - (256, 245)).max() < 30
