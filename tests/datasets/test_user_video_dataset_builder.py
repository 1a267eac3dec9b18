import collections
import itertools
import json
import pathlib
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

import facegan.datasets
from facegan.config import decode, read_json
from facegan.datasets import pipeline
from facegan.datasets.examples import LandmarkExample
from facegan.datasets.user_video import user_video_dataset_builder as user_video
from facegan.datasets.user_video.user_video_dataset_builder import UserVideoConfig
from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.align import CropConfig
from facegan.face.conditioning import ConditioningConfig
from facegan.face.retarget import FaceGeometry
from facegan.image import decode_picture
from facegan.preparation.face_clips import FaceClipConfig, find_faces
from facegan.preparation.workers import WorkersConfig
from facegan.video.reader import VideoReader
from facegan.video.writer import VideoWriter
from tests.two_discs import HalvesDetector, two_discs

CLIP = FaceClipConfig(crop=CropConfig(mode="face", scale=1.5))


def _config(**kwargs):
    return UserVideoConfig(**{"size": 32, "clip": CLIP, **kwargs})


def _records(folder, split):
    return list(pipeline.read_records(folder, split).as_numpy_iterator())


def _frames(folder, split):
    return sorted(int(record["frame_index"]) for record in _records(folder, split))


@pytest.fixture
def build(tmp_path, disc_detector):
    def call(videos, config, **kwargs):
        kwargs = {"detector": disc_detector, **kwargs}
        return user_video.build_user_video(videos, config, tmp_path / "data", **kwargs)

    return call


def test_records_hold_crops_with_their_landmarks(write_disc_clip, moving_frames, build, capsys):
    made = build([write_disc_clip(moving_frames)], _config())
    assert capsys.readouterr().out == ""
    assert made["splits"] == {"train": 30} and made["left_out"] == {}
    records = _records(made["dataset_dir"], "train")
    assert sorted(int(record["frame_index"]) for record in records) == list(range(30))
    for record in records[:5]:
        image = decode_picture(record["image"])
        assert image.shape == (32, 32, 3)
        y, x = np.nonzero((image[..., 0].astype(int) - image[..., 1]) > 80)
        landmarks = record["landmarks_xy_px"]
        assert landmarks.dtype == np.float32
        np.testing.assert_allclose(landmarks.mean(axis=0), (x.mean(), y.mean()), atol=1.0)
        assert record["clip"] == b"clip" and record["track"] == 0 and record["person"] == b""
        assert record["time_s"] == pytest.approx(record["frame_index"] / 25)


def test_the_last_part_is_held_out_and_the_geometry_never_saw_it(
    write_disc_clip, frame_maker, build
):
    frames = [frame_maker((60, 48), radius=20 if n < 24 else 30, seed=n) for n in range(30)]
    made = build([write_disc_clip(frames)], _config(holdout=0.2))
    assert made["splits"] == {"train": 24, "test": 6}
    assert _frames(made["dataset_dir"], "train") == list(range(24))
    assert _frames(made["dataset_dir"], "test") == list(range(24, 30))
    path = pathlib.Path(made["dataset_dir"]) / user_video.GEOMETRY_NAME
    geometry = decode(FaceGeometry, read_json(path))
    assert (geometry.num_frames, geometry.size_px) == (24, 32)


def test_frames_are_chosen_evenly_over_all_videos(write_disc_clip, moving_frames, build):
    videos = [
        write_disc_clip(moving_frames, "one.mp4"),
        write_disc_clip(moving_frames[:15], "two.mp4"),
    ]
    made = build(videos, _config(max_frames=9))
    taken = {
        clip: sorted(int(r["frame_index"]) for r in group)
        for clip, group in itertools.groupby(
            sorted(_records(made["dataset_dir"], "train"), key=lambda r: r["clip"]),
            key=lambda r: r["clip"],
        )
    }
    assert taken == {b"one": [2, 7, 12, 17, 22, 27], b"two": [2, 7, 12]}
    assert made["left_out"] == {"not_chosen": 36}


def test_the_report_says_what_was_left_out_and_why(
    write_disc_clip, moving_frames, frame_maker, build
):
    moving_frames[3:5] = [frame_maker(None)] * 2
    moving_frames[10] = frame_maker((60, 48), sharp=False)
    strict = FaceClipConfig(crop=CLIP.crop, min_sharpness=0.8)
    made = build([write_disc_clip(moving_frames)], _config(clip=strict, holdout=0.2))
    report = json.loads(pathlib.Path(made["report"]).read_text())
    (clip,) = report["clips"]
    assert clip["left_out"]["no_face"]["ranges"][0][0] == 3
    assert clip["left_out"]["blurred"] == {"count": 1, "ranges": [[10, 10]]}
    kept = sum(report["splits"].values())
    assert kept + sum(made["left_out"].values()) == clip["frames"] == 30
    assert clip["file"] == "clip.mp4" and clip["held_out_from"] == 24
    assert [person["track"] for person in clip["people"]] == [clip["track"]] == [0]
    assert 24 <= clip["people"][0]["frames"] <= 28
    assert 10 not in _frames(made["dataset_dir"], "train")


def test_a_second_call_finds_the_dataset_and_other_settings_make_another(
    write_disc_clip, moving_frames, build, disc_detector
):
    path = write_disc_clip(moving_frames)
    first = build([path], _config())
    asked = disc_detector.calls
    assert build([path], _config()) == first
    other = build([path], _config(max_frames=5))
    assert disc_detector.calls == asked  # the faces were still known
    assert other["dataset_dir"] != first["dataset_dir"]
    path.unlink()
    changed = build([write_disc_clip(moving_frames[::-1])], _config())
    assert changed["dataset_dir"] != first["dataset_dir"]


def test_two_builds_have_the_same_records_in_the_same_order(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    path = write_disc_clip(moving_frames)
    a, b = (
        _records(
            user_video.build_user_video([path], _config(), tmp_path / name, detector=disc_detector)[
                "dataset_dir"
            ],
            "train",
        )
        for name in ("a", "b")
    )
    for x, y in zip(a, b, strict=True):
        assert x["image"] == y["image"] and x["frame_index"] == y["frame_index"]


def test_a_failed_build_leaves_nothing_and_is_picked_up(
    write_disc_clip, moving_frames, build, disc_detector, tmp_path
):
    class Stopping:
        def __init__(self):
            self.calls = 0

        def detect(self, image):
            self.calls += 1
            if self.calls > 20:
                raise KeyboardInterrupt
            return disc_detector.detect(image)

        def refine(self, image, box_xyxy_px):
            return next(iter(self.detect(image)), None)

    path = write_disc_clip(moving_frames)
    with pytest.raises(KeyboardInterrupt):
        build([path], _config(), detector=Stopping())
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    assert build([path], _config())["splits"] == {"train": 30}


def test_the_pipeline_takes_the_records(write_disc_clip, moving_frames, build):
    made = build([write_disc_clip(moving_frames)], _config())
    batches = pipeline.make_pipeline(
        pipeline.read_records(made["dataset_dir"], "train"),
        LandmarkExample(ConditioningConfig(size=32)),
        pipeline.PipelineConfig(batch_size=3),
    )
    (batch,) = batches.take(1)
    assert batch["image"].shape == batch["condition"].shape == (3, 32, 32, 3)


def test_tfds_knows_the_builder_and_it_reads_a_manual_folder(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    assert facegan.datasets.BUILDERS["user_video"] is user_video.Builder
    assert tfds.builder_cls("user_video") is user_video.Builder
    write_disc_clip(moving_frames, "manual/me.mp4")
    builder = tfds.builder("user_video/64px", data_dir=tmp_path / "data", detector=disc_detector)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    )
    assert builder.info.splits["train"].num_examples == 30
    assert builder.info.features["image"].shape == (64, 64, 3)


@pytest.mark.parametrize(
    "files, message", [((), "does not exist or is empty"), (("notes.txt",), "holds no video")]
)
def test_a_manual_folder_without_videos_is_refused(files, message, tmp_path):
    (tmp_path / "manual").mkdir()
    for name in files:
        (tmp_path / "manual" / name).touch()
    builder = user_video.Builder(data_dir=tmp_path / "data")
    with pytest.raises(DataError, match=message):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
        )


def test_a_pickled_builder_keeps_its_videos(tmp_path):
    builder = user_video.Builder(data_dir=tmp_path, config="128px", videos=["a.mp4"])
    again = pickle.loads(pickle.dumps(builder))
    assert again._videos == ("a.mp4",) and again.settings == builder.settings
    people = {"anna": ["a.mp4"], "ben": ["b.mp4"]}
    workers = WorkersConfig(processes=2)
    builder = user_video.Builder(data_dir=tmp_path, videos=people, workers=workers)
    again = pickle.loads(pickle.dumps(builder))
    assert again._videos == people and again._workers == workers


def test_a_split_without_frames_is_refused(write_disc_clip, moving_frames, frame_maker, build):
    moving_frames[24:] = [frame_maker(None)] * 6
    path = write_disc_clip(moving_frames)
    with pytest.raises(DataError, match="No frame is left for the split 'test'"):
        build([path], _config(holdout=0.2))


def test_no_videos_and_files_that_are_no_videos_are_refused(tmp_path, build):
    with pytest.raises(ConfigError, match="at least one video"):
        build([], _config())
    with pytest.raises(VideoError, match="none.mp4"):
        build([tmp_path / "none.mp4"], _config())
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(VideoError, match="text.mp4"):
        build([tmp_path / "text.mp4"], _config())


@pytest.mark.parametrize(
    "wrong", [{"size": 100}, {"max_frames": 0}, {"holdout": 1.0}, {"holdout": -0.1}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        UserVideoConfig(**wrong)


@pytest.fixture
def two_people(write_disc_clip, moving_frames, tmp_path):
    """A folder with two clips of Anna and one of Ben."""
    write_disc_clip(moving_frames, "in/anna/1.mp4")
    write_disc_clip(moving_frames[:10], "in/anna/2.mp4")
    write_disc_clip(moving_frames[::-1], "in/ben/1.mp4")
    return tmp_path / "in"


def _count(records, *names):
    return collections.Counter(tuple(record[name] for name in names) for record in records)


def test_each_sub_folder_is_a_person_with_frames_of_their_own(two_people, build):
    made = build(two_people, _config(max_frames=12))
    # Twelve of Anna's forty frames, evenly over both clips, and twelve of Ben's thirty.
    assert _count(_records(made["dataset_dir"], "train"), "person", "clip") == {
        (b"anna", b"1"): 9,
        (b"anna", b"2"): 3,
        (b"ben", b"1"): 12,
    }
    assert not (pathlib.Path(made["dataset_dir"]) / user_video.GEOMETRY_NAME).exists()
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert [(clip["person"], clip["file"]) for clip in report["clips"]] == [
        ("anna", "anna/1.mp4"),
        ("anna", "anna/2.mp4"),
        ("ben", "ben/1.mp4"),
    ]
    assert report["left_out"] == {} and report["files_left_out"] == []


def test_people_may_be_given_by_name(two_people, build):
    people = {
        "anna": [two_people / "anna/1.mp4", two_people / "anna/2.mp4"],
        "ben": [two_people / "ben/1.mp4"],
    }
    made = build(people, _config(max_frames=12))
    counted = _count(_records(made["dataset_dir"], "train"), "person")
    assert counted == {(b"anna",): 12, (b"ben",): 12}
    anna = build({"anna": people["anna"]}, _config())
    assert (pathlib.Path(anna["dataset_dir"]) / user_video.GEOMETRY_NAME).is_file()
    other = build({"carla": people["anna"]}, _config())
    assert other["dataset_dir"] != anna["dataset_dir"]


def test_the_report_of_a_list_says_no_more_than_it_did(two_people, build):
    made = build([two_people / "ben/1.mp4"], _config())
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert set(report) == {"kind", "version", "config", "splits", "clips"}
    assert "person" not in report["clips"][0]


def test_bad_files_of_a_folder_are_left_out_and_told(
    two_people, frame_maker, write_disc_clip, build, tmp_path
):
    (two_people / "ben" / "broken.mp4").write_bytes(b"junk" * 100)
    write_disc_clip([frame_maker(None)] * 5, "in/anna/empty room.mp4")
    whole = (two_people / "anna" / "1.mp4").read_bytes()
    (two_people / "anna" / "1.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    (two_people / "carla").symlink_to(tmp_path)
    made = build(two_people, _config())
    assert _count(_records(made["dataset_dir"], "train"), "person") == {
        (b"anna",): 10,
        (b"ben",): 30,
    }
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert {left["file"]: left["reason"] for left in report["files_left_out"]} == {
        "anna/1.mp4": "damaged",
        "anna/empty room.mp4": "no_face_in_clip",
        "ben/broken.mp4": "unreadable",
        "carla": "outside_tree",
    }
    assert report["left_out"]["damaged"] == {"count": 1}
    assert made["left_out"] == dict.fromkeys(
        ("damaged", "no_face_in_clip", "unreadable", "outside_tree"), 1
    )
    with pytest.raises(VideoError, match="broken.mp4"):
        build({"ben": [two_people / "ben/1.mp4", two_people / "ben/broken.mp4"]}, _config())


def test_a_folder_of_which_nothing_is_left_is_an_error(tmp_path, build):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"junk" * 100)
    with pytest.raises(VideoError, match="a.mp4 is not a video"):
        build(folder, _config())
    (folder / "b.mp4").touch()
    with pytest.raises(DataError, match="None of the 2 videos .* 2 are left out as unreadable"):
        build(folder, _config())


def test_all_faces_of_a_video_are_taken(write_disc_clip, tmp_path):
    path = write_disc_clip([two_discs(22, 26, seed=n) for n in range(30)])
    clip = FaceClipConfig(crop=CropConfig(mode="face", scale=1.2), select="all")
    made = user_video.build_user_video(
        [path], _config(clip=clip), tmp_path / "data", detector=HalvesDetector()
    )
    records = _records(made["dataset_dir"], "train")
    assert sorted(_count(records, "track").values()) == [30, 30]
    for record in records[:8]:
        # Each is cut around a face of its own, with the landmarks of that one.
        assert np.abs(record["landmarks_xy_px"].mean(axis=0) - 16).max() < 6
    assert not (pathlib.Path(made["dataset_dir"]) / user_video.GEOMETRY_NAME).exists()
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert {clip["track"] for clip in report["clips"]} == {0, 1}


def test_more_videos_than_may_stay_open(two_people, build, monkeypatch, disc_detector):
    many = build(two_people, _config())
    asked = disc_detector.calls
    monkeypatch.setattr(user_video, "_MOST_OPEN", 1)
    again = build(two_people, _config(), overwrite=True)
    assert disc_detector.calls == asked
    assert again == many and again["splits"] == {"train": 70}


@pytest.mark.parametrize("processes", [1, 2])
def test_workers_find_the_faces_and_the_records_stay_the_same(
    two_people, disc_detector, processes, tmp_path
):
    if processes > 1:
        pytest.importorskip("apache_beam")
    (two_people / "ben" / "broken.mp4").write_bytes(b"junk" * 100)
    # The children look for real faces, of which discs have none, so what they would find is there.
    for path in two_people.glob("*/[12].mp4"):
        find_faces(path, CLIP, tmp_path / "work", detector=disc_detector)
    asked = disc_detector.calls
    made = user_video.build_user_video(
        two_people,
        _config(),
        tmp_path / "data",
        work_dir=tmp_path / "work",
        workers=WorkersConfig(processes=processes),
    )
    here = user_video.build_user_video(
        two_people,
        _config(),
        tmp_path / "here",
        work_dir=tmp_path / "work",
        detector=disc_detector,
    )
    assert disc_detector.calls == asked
    assert made["splits"] == here["splits"] == {"train": 70}
    assert made["left_out"] == here["left_out"] == {"unreadable": 1}
    for one, other in zip(
        _records(made["dataset_dir"], "train"), _records(here["dataset_dir"], "train"), strict=True
    ):
        assert one["image"] == other["image"] and one["person"] == other["person"]


def test_workers_tell_of_a_named_video_that_cannot_be_used(two_people, tmp_path):
    (two_people / "broken.mp4").write_bytes(b"junk" * 100)
    with pytest.raises(VideoError, match="broken.mp4 is not a video"):
        user_video.build_user_video(
            [two_people / "broken.mp4"], _config(), tmp_path / "data", workers=WorkersConfig()
        )


def test_a_detector_object_and_workers_are_refused_together(disc_detector, tmp_path):
    def make(workers):
        user_video.Builder(data_dir=tmp_path, detector=disc_detector, workers=workers)

    for workers in (WorkersConfig(processes=1), WorkersConfig(processes=0, beam_options=("--a",))):
        with pytest.raises(ConfigError, match="works in this process only"):
            make(workers)
    make(WorkersConfig(processes=0))


@pytest.mark.parametrize("workers", [None, WorkersConfig(processes=1)])
def test_a_real_clip_through_dlib(workers, media_dir, tmp_path):
    pytest.importorskip("dlib")
    with VideoReader(media_dir / "clips" / "d10.mp4", size_hw=(256, 256)) as reader:
        info = reader.info
        with VideoWriter(
            tmp_path / "short.mp4",
            width=256,
            height=256,
            frame_rate=info.frame_rate,
            time_base=info.time_base,
        ) as writer:
            for frame in itertools.islice(reader, 25):
                writer.write(frame.image, frame.pts)
    made = user_video.build_user_video(
        [tmp_path / "short.mp4"],
        UserVideoConfig(size=64, holdout=0.2),
        tmp_path / "data",
        workers=workers,
    )
    assert made["splits"] == {"train": 20, "test": 5}
    record = _records(made["dataset_dir"], "train")[0]
    left_eye, right_eye = (
        record["landmarks_xy_px"][i].mean(axis=0) for i in (range(42, 48), range(36, 42))
    )
    assert right_eye[0] < 32 and left_eye[0] > right_eye[0]  # her right eye is left in the picture
    assert 15 < right_eye[1] < 45
