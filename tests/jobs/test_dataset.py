import pytest

from facegan.datasets.user_video.user_video_dataset_builder import UserVideoConfig
from facegan.errors import ConfigError, VideoError
from facegan.jobs.dataset import build_dataset, check_data_dir, plan_dataset


def test_a_folder_with_something_in_it_is_refused_unless_allowed(tmp_path):
    check_data_dir(tmp_path, False)
    check_data_dir(tmp_path / "new", False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not empty. Add --resume"):
        check_data_dir(tmp_path, False)
    check_data_dir(tmp_path, True)
    with pytest.raises(ConfigError, match="is a file"):
        check_data_dir(tmp_path / "file", True)


def test_nothing_is_made_for_what_is_no_video(tmp_path):
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 100)
    data_dir = tmp_path / "data"
    with pytest.raises(VideoError, match="junk.mp4"):
        build_dataset([tmp_path / "junk.mp4"], UserVideoConfig(size=64), data_dir)
    with pytest.raises(VideoError, match="junk.mp4"):
        plan_dataset([tmp_path / "junk.mp4"], UserVideoConfig(size=64), data_dir)
    assert not list(data_dir.rglob("dataset_info.json"))


def test_the_plan_tells_what_the_clip_is(media_dir, tmp_path):
    plan = plan_dataset([media_dir / "clips/d10.mp4"], UserVideoConfig(size=64), tmp_path)
    assert plan["videos"][0]["frames"] == 448
    assert plan["config"]["size"] == 64
