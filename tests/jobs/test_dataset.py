import shlex

import numpy as np
import pytest

from facegan.config import set_by_name
from facegan.datasets.user_video.user_video_dataset_builder import UserVideoConfig
from facegan.errors import ConfigError, VideoError
from facegan.jobs.dataset import SETTINGS, build_dataset, check_data_dir, plan_dataset
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from tests.celebamask_layout import write_picture


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


def test_the_readmes_settings_are_possible(repo_dir):
    found = 0
    for line in (repo_dir / "README.md").read_text().splitlines():
        words = shlex.split(line, comments=True) if line.startswith("python tools/") else [""] * 2
        if words[1] == "tools/build_dataset.py" and "--dataset" in words:
            name = words[words.index("--dataset") + 1]
            chosen = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            set_by_name(SETTINGS[name](), chosen)
            found += 1
    assert found > 3


@pytest.fixture
def pictures(tmp_path):
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, np.full((40, 40, 3), 99, np.uint8))
    (tmp_path / "in" / "b" / "empty.png").touch()
    return tmp_path / "in"


def test_a_folder_becomes_a_dataset_and_is_found_again(pictures, tmp_path):
    config, workers = ImageFolderConfig(size=32), WorkersConfig(processes=1)
    made = build_dataset(pictures, config, tmp_path / "data", workers=workers)
    assert made["splits"] == {"train": 3} and made["left_out"] == {"empty": 1}
    again = build_dataset(pictures, config, tmp_path / "data", workers=workers, resume=True)
    assert again == made
    with pytest.raises(ConfigError, match="not empty"):
        build_dataset(pictures, config, tmp_path / "data", workers=workers)


def test_the_plan_counts_what_a_folder_holds(pictures, tmp_path):
    plan = plan_dataset(pictures, ImageFolderConfig(size=32), tmp_path / "data")
    assert plan["items"] == {"train": 4, "validation": 0, "test": 0}
    assert plan["domains"] == ["a", "b"] and plan["left_out"] == {}
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


def test_a_list_of_files_is_refused_where_a_folder_is_wanted(pictures, tmp_path):
    with pytest.raises(ConfigError, match="one folder or zip file"):
        build_dataset([pictures / "a/1.png"], ImageFolderConfig(size=32), tmp_path / "data")


def test_every_builder_has_settings():
    from facegan.datasets import BUILDERS

    assert set(SETTINGS) == set(BUILDERS)
