import json
import pathlib

import numpy as np
import pytest
import skimage.data
import tensorflow_datasets as tfds

from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.datasets.mask_examples import MaskExample
from facegan.datasets.pipeline import PipelineConfig, make_pipeline, read_domains, read_records
from facegan.errors import ConfigError
from facegan.face.conditioning import MaskConditioningConfig
from facegan.face.labels import CELEBAMASK19
from facegan.face.parsing import ParserConfig
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from tests.celebamask_layout import write_picture


def _picture(value, height=40, width=60):
    image = np.full((height, width, 3), value, np.uint8)
    image[:, : (width - height) // 2] = 255 - value  # what the centred square leaves out
    return image


def _write(root, names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, _picture(10 * number))
    return root


def _build(source, data_dir, **settings):
    config = ImageFolderConfig(**{"size": 32, **settings})
    builder = Builder(
        data_dir=data_dir,
        config=find_config(Builder, config),
        source=source,
        workers=WorkersConfig(processes=0),
    )
    return builder, prepare_items(builder)


def _records(builder, split="train"):
    return {r["file"].decode(): r for r in builder.as_dataset(split=split).as_numpy_iterator()}


def test_folders_are_domains_and_splits(tmp_path):
    names = (
        "train/female/a.png",
        "train/male/b c é.png",
        "train/male/deep/er/c.png",
        "val/male/d.png",
    )
    builder, made = _build(_write(tmp_path / "in", names), tmp_path / "data")
    assert made["splits"] == {"train": 3, "validation": 1}
    assert builder.info.features["domain"].names == ["female", "male"]
    records = _records(builder)
    assert {file: int(r["domain"]) for file, r in records.items()} == {
        names[0]: 0,
        names[1]: 1,
        names[2]: 1,
    }
    for number, name in enumerate(names[:3]):
        np.testing.assert_array_equal(records[name]["image"], np.full((32, 32, 3), 10 * number))
    again = tfds.builder_from_directory(made["dataset_dir"])
    assert again.info.features["domain"].names == ["female", "male"]


def test_pictures_without_folders_are_one_domain(tmp_path):
    builder, made = _build(_write(tmp_path / "in", ("a.png", "b.jpg")), tmp_path / "data")
    assert made["splits"] == {"train": 2} and builder.info.features["domain"].names == ["all"]


def test_what_stands_beside_the_folders_is_left_out_by_name(tmp_path):
    root = _write(tmp_path / "in", ("train/x/a.png", "train/b.png", "c.png"))
    (root / "train/x/notes.txt").write_text("x")
    (root / "train/x/broken.png").write_bytes(b"")
    write_picture(root / "train/x/tiny.png", _picture(1, 15, 15))
    _, made = _build(root, tmp_path / "data")
    assert made["splits"] == {"train": 1}
    lines = (pathlib.Path(made["dataset_dir"]) / "left_out.jsonl").read_text().splitlines()
    assert {e["file"]: e["reason"] for e in map(json.loads, lines)} == {
        "c.png": "wrong_place",
        "train/b.png": "wrong_place",
        "train/x/broken.png": "empty",
        "train/x/notes.txt": "no_picture",
        "train/x/tiny.png": "too_small",
    }


def test_shares_are_stable_when_pictures_come_in(tmp_path):
    root = _write(tmp_path / "in", [f"{n}.png" for n in range(24)])
    one, made = _build(root, tmp_path / "a", test=0.3, validation=0.2)
    assert set(made["splits"]) == {"train", "validation", "test"}
    before = {split: set(_records(one, split)) for split in made["splits"]}
    _write(root, [f"more{n}.png" for n in range(12)])
    two, _ = _build(root, tmp_path / "b", test=0.3, validation=0.2)
    for split, files in before.items():
        assert files <= set(_records(two, split))


def test_portraits_are_aligned(media_dir, tmp_path):
    builder, made = _build(media_dir / "portraits", tmp_path / "data", size=128, align="ffhq")
    assert builder.info.features["domain"].names == ["female", "male"]
    assert sum(made["splits"].values()) >= 14
    for record in _records(builder).values():
        eyes = record["landmarks_xy_px"][36:48].mean(axis=0)
        np.testing.assert_allclose(eyes, (64, 60), atol=6)


def test_portraits_become_what_mask_models_learn_from(tmp_path):
    write_picture(_made(tmp_path / "in") / "a.png", skimage.data.astronaut())
    write_picture(tmp_path / "in" / "wall.png", _picture(90))
    parser = ParserConfig(size=64)
    builder, made = _build(tmp_path / "in", tmp_path / "data", parser=parser, identity=True)
    assert made["splits"] == {"train": 1} and made["left_out"] == {"no_face": 1}
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert report["schema"] == "celebamask19"
    assert builder.info.features["label_map"].names == list(CELEBAMASK19.labels)
    record = _records(builder)["a.png"]
    assert record["label_map"].shape == (32, 32, 1) and record["label_map"].max() < 19
    assert np.linalg.norm(record["descriptor"]) == pytest.approx(1.4, abs=0.3)
    maker = MaskExample(MaskConditioningConfig(size=32))
    records = read_records(made["dataset_dir"], "train")
    batch = next(iter(make_pipeline(records, maker, PipelineConfig(batch_size=2))))
    assert batch["colours"].shape == (2, 7, 3) and np.all(np.isfinite(batch["identity"]))


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("wrong", [{"align": "wing"}, {"min_scale": 2.0}, {"size": 65}])
def test_settings_are_checked(wrong):
    from facegan.config import decode, encode

    document = {**encode(ImageFolderConfig()), **wrong}
    with pytest.raises(ConfigError):
        decode(ImageFolderConfig, document)


def test_domains_are_read_apart_without_counting_again(tmp_path):
    names = ("a/1.png", "a/2.png", "b/3.png", "c/broken.png")
    root = _write(tmp_path / "in", names)
    (root / "c/broken.png").write_bytes(b"")
    _, made = _build(root, tmp_path / "data")
    domains, datasets = read_domains(made["dataset_dir"], "train")
    assert domains == ("a", "b") and [int(d.cardinality()) for d in datasets] == [2, 1]
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert report["counts"] == {"train/a": 2, "train/b": 1}
    _, part = read_domains(made["dataset_dir"], "train[:2]")
    assert sum(int(d.cardinality()) for d in part) == 2
