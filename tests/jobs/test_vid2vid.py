import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError, VideoError
from facegan.jobs.vid2vid import Vid2VidConfig, vid2vid
from facegan.jobs.video_job import plan_video_job, run_config
from facegan.samples import write_sample_clip
from facegan.video.writer import VideoWriter

# The job itself: tests/integration/test_train_export_render.py.


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_sample_clip("collins", path, duration_s=0.4, size=128, fps=10)
    return str(path)


@pytest.fixture
def config(clip, tmp_path):
    return Vid2VidConfig(style=clip, content=clip, output=str(tmp_path / "out.mp4"))


def test_the_plan_tells_what_would_be_done(config, tmp_path):
    plan = plan_video_job(config)
    assert plan["content"]["frames"] == 4
    assert plan["content"]["audio"] is True
    assert plan["work_dir"] == str(tmp_path / "out_work")
    assert list(tmp_path.iterdir()) == []


def test_settings_reach_the_run(config):
    run = run_config(dataclasses.replace(config, size=64, steps=9, overrides=("train.seed=4",)))
    assert (run.conditioning.size, run.train.steps, run.train.seed) == (64, 9, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"size": 100}, "power of two"), ({"steps": 0}, "steps"), ({"holdout": 1.0}, "holdout")],
)
def test_wrong_settings_are_refused(config, change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, **change)


def test_content_without_a_face_is_refused_before_training(config, tmp_path):
    path = tmp_path / "grey.mp4"
    with VideoWriter(
        path, width=96, height=96, frame_rate=Fraction(10), time_base=Fraction(1, 10)
    ) as writer:
        for pts in range(12):
            writer.write(np.full((96, 96, 3), 90, np.uint8), pts)
    with pytest.raises(DataError, match="grey.mp4: No face was found"):
        vid2vid(dataclasses.replace(config, content=str(path)))
    assert not (tmp_path / "out_work").exists()


def test_a_wrong_setting_is_refused_before_anything_is_made(config, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'steps'"):
        vid2vid(dataclasses.replace(config, overrides=("train.stesp=4",)))
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_are_refused(config, tmp_path):
    with pytest.raises(VideoError):
        plan_video_job(dataclasses.replace(config, style=str(tmp_path / "none.mp4")))
    with pytest.raises((ConfigError, VideoError), match=r"\.txt"):
        plan_video_job(dataclasses.replace(config, output=str(tmp_path / "out.txt")))
    (tmp_path / "out.mp4").write_bytes(b"mine")
    with pytest.raises(VideoError, match="out.mp4"):
        plan_video_job(config)
    assert (tmp_path / "out.mp4").read_bytes() == b"mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="work folder .* is a file"):
        plan_video_job(
            dataclasses.replace(
                config, output=str(tmp_path / "b.mp4"), work_dir=str(tmp_path / "file")
            )
        )
