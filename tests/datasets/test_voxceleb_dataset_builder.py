import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.voxceleb.voxceleb_dataset_builder import Builder
from facegan.errors import ConfigError, DataError
from facegan.face.align import CropConfig
from facegan.face.landmarks import DetectorConfig
from facegan.preparation.voxceleb import VoxCelebConfig
from facegan.preparation.workers import WorkersConfig
from facegan.video.reader import VideoReader
from tests.celebamask_layout import write_picture

CONFIG = VoxCelebConfig(size=64, frames_per_clip=4, min_frames=3, test=0.0)


def _build(source, data_dir, config=CONFIG, processes=0, **kwargs):
    builder = Builder(
        data_dir=data_dir,
        config=find_config(Builder, config),
        source=source,
        workers=WorkersConfig(processes=processes),
        **kwargs,
    )
    return builder, prepare_items(builder)


def _records(builder, split="train"):
    dataset = builder.as_dataset(split=split).as_numpy_iterator()
    return {f"{r['identity'].decode()}/{r['video'].decode()}": r for r in dataset}


@pytest.fixture(scope="module")
def short_clips(media_dir, tmp_path_factory):
    """The first frames of two real clips, as small videos."""
    from fractions import Fraction

    from facegan.video.writer import VideoWriter

    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for name in ("d10", "d18"):
        path = folder / f"{name}.mp4"
        with VideoReader(media_dir / "clips" / f"{name}.mp4", size_hw=(224, 224)) as reader:
            with VideoWriter(
                path, width=224, height=224, frame_rate=25, time_base=Fraction(1, 25)
            ) as writer:
                for frame in reader:
                    writer.write(frame.image, frame.index)
                    if frame.index == 15:
                        break
        paths.append(path)
    return paths


@pytest.fixture
def tree(short_clips, tmp_path):
    """VoxCeleb2's layout, with corrupt and tiny files."""
    root = tmp_path / "vox2"
    for number, place in enumerate(
        ("dev/mp4/id1/vidA/00001", "dev/mp4/id1/vidA/00002", "dev/mp4/id1/vidB/00001")
    ):
        path = root / f"{place}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(short_clips[number % 2], path)
    test = root / "test/mp4/id2/vid C ü/00001.mp4"
    test.parent.mkdir(parents=True)
    shutil.copy(short_clips[0], test)
    whole = short_clips[0].read_bytes()
    (root / "dev/mp4/id1/vidB/00002.mp4").write_bytes(whole[: len(whole) // 3])
    (root / "dev/mp4/id1/vidB/00003.mp4").write_bytes(b"")
    (root / "dev/mp4/id1/vidB/00004.mp4").write_bytes(b"junk" * 1000)
    (root / "dev/mp4/id1/vidB/00005.m4a").write_bytes(b"sound")
    overlap = root / "test/mp4/id1/vidD/00001.mp4"
    overlap.parent.mkdir(parents=True)
    shutil.copy(short_clips[0], overlap)
    return root


def test_frames_of_a_video_come_out_together(tree, tmp_path):
    builder, made = _build(tree, tmp_path / "data")
    assert made["splits"] == {"train": 2, "test": 1}
    records = _records(builder)
    assert set(records) == {"id1/vidA", "id1/vidB"}
    video = records["id1/vidA"]
    assert video["clip_of_frame"].tolist() == [0] * 4 + [1] * 4
    assert video["frame_index"].tolist() == [2, 6, 10, 14] * 2
    assert video["images"].shape == (8, 64, 64, 3)
    assert video["landmarks_xy_px"].shape == (8, 68, 2)
    nose = video["landmarks_xy_px"][:, 30]
    assert (nose > 12).all() and (nose < 52).all()
    assert sorted(int(r["video_index"]) for r in records.values()) == [0, 1]
    assert set(_records(builder, "test")) == {"id2/vid C ü"}


def test_bad_files_are_named_and_identities_never_overlap(tree, tmp_path):
    _, made = _build(tree, tmp_path / "data")
    lines = (pathlib.Path(made["dataset_dir"]) / "left_out.jsonl").read_text().splitlines()
    left_out = {entry["file"]: entry["reason"] for entry in map(json.loads, lines)}
    assert left_out == {
        "dev/mp4/id1/vidB/00002.mp4": "unreadable",
        "dev/mp4/id1/vidB/00003.mp4": "tiny",
        "dev/mp4/id1/vidB/00004.mp4": "unreadable",
        "test/mp4/id1/vidD/00001.mp4": "identity_twice",
    }
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert report["identities"] == {"train": 1, "validation": 0, "test": 1}
    assert report["counts"]["frames"] == 16 and report["counts"]["frames_without_face"] == 0


def test_a_record_may_be_a_clip(tree, tmp_path):
    config = VoxCelebConfig(size=64, frames_per_clip=4, min_frames=3, record="clip")
    builder, made = _build(tree, tmp_path / "data", config)
    assert set(_records(builder)) == {"id1/vidA/00001", "id1/vidA/00002", "id1/vidB/00001"}
    assert made["left_out"]["too_few_frames"] == 2  # the two that cannot be read


@pytest.mark.slow
def test_one_and_two_processes_and_a_resumed_build_give_the_same(tree, tmp_path):
    builds = []
    for name, processes in (("one", 1), ("two", 2)):
        builder, made = _build(tree, tmp_path / name, processes=processes)
        builds.append((builder, made["splits"], made["left_out"]))
    (one, *report), (two, *other_report) = builds
    assert report == other_report
    for split in report[0]:
        pairs = zip(
            one.as_dataset(split=split).as_numpy_iterator(),
            two.as_dataset(split=split).as_numpy_iterator(),
            strict=True,
        )
        for a, b in pairs:
            for name, value in a.items():
                np.testing.assert_array_equal(value, b[name])


def test_pictures_in_voxceleb1s_layout(media_dir, tmp_path):
    with VideoReader(media_dir / "clips" / "d18.mp4", size_hw=(200, 200)) as reader:
        for frame in reader:
            if frame.index % 3 == 0:
                path = tmp_path / f"vox1/A.J._Buckley/1.6/1zcIwhmdeo4/{frame.index:07d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_picture(path, frame.image)
            if frame.index == 30:
                break
    (tmp_path / "vox1/A.J._Buckley/1.6/1zcIwhmdeo4/0000000.jpg").write_bytes(b"")
    config = VoxCelebConfig(size=64, frames_per_clip=20, min_frames=3, test=0.0)
    builder, made = _build(tmp_path / "vox1", tmp_path / "data", config)
    (record,) = _records(builder).values()
    assert (record["identity"], record["video"]) == (b"A.J._Buckley", b"1zcIwhmdeo4")
    assert len(record["images"]) == 10 and made["left_out"] == {"empty": 1}


def test_a_source_without_videos_is_refused(tmp_path):
    (tmp_path / "none" / "id1").mkdir(parents=True)
    (tmp_path / "none" / "id1" / "a.mp4").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match="wrong_place, such as id1/a.mp4"):
        _build(tmp_path / "none", tmp_path / "data")


@pytest.mark.parametrize(
    "wrong", [{"min_frames": 0}, {"test": 0.6, "validation": 0.4}, {"size": 100}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError):
        VoxCelebConfig(**wrong)


def test_faces_are_cut_where_they_are_in_wide_frames(media_dir, tmp_path):
    target = tmp_path / "wide/id9/v/00001.mp4"
    target.parent.mkdir(parents=True)
    shutil.copy(media_dir / "clips" / "s18.mp4", target)
    config = VoxCelebConfig(
        size=128,
        frames_per_clip=3,
        min_frames=1,
        test=0.0,
        crop=CropConfig(scale=1.6),
        detector=DetectorConfig(),
    )
    builder, _ = _build(tmp_path / "wide", tmp_path / "data", config)
    (record,) = _records(builder).values()
    height = np.ptp(record["landmarks_xy_px"][:, :, 1], axis=1)
    assert (height > 50).all() and (record["landmarks_xy_px"] > 0).all()


def test_it_is_a_normal_builder():
    builder = tfds.builder("voxceleb/128px_clips", data_dir="/nowhere")
    assert builder.settings.record == "clip" and builder.info.features["images"].shape[1:] == (
        128,
        128,
        3,
    )
