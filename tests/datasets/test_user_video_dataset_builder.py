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
from facegan.preparation.face_clips import FaceClipConfig
from facegan.video.reader import VideoReader
from facegan.video.writer import VideoWriter

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
        assert record["clip"] == b"clip" and record["track"] == 0
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


def test_a_real_clip_through_dlib(media_dir, tmp_path):
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
        [tmp_path / "short.mp4"], UserVideoConfig(size=64, holdout=0.2), tmp_path / "data"
    )
    assert made["splits"] == {"train": 20, "test": 5}
    record = _records(made["dataset_dir"], "train")[0]
    left_eye, right_eye = (
        record["landmarks_xy_px"][i].mean(axis=0) for i in (range(42, 48), range(36, 42))
    )
    assert right_eye[0] < 32 and left_eye[0] > right_eye[0]  # her right eye is left in the picture
    assert 15 < right_eye[1] < 45
