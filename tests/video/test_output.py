"""The file under construction."""

import pathlib

import pytest

from facegan.errors import VideoError
from facegan.video.output import CONTAINERS, check_output, container_format


def test_endings_name_containers():
    assert {container_format(pathlib.Path(f"a{s.upper()}")) for s in CONTAINERS} == {
        "mp4",
        "mov",
        "matroska",
    }
    with pytest.raises(VideoError, match="'.webm'"):
        container_format(pathlib.Path("a.webm"))


def test_checking_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "a.mp4", overwrite=False)
    assert list(tmp_path.iterdir()) == []
