import dataclasses

import pytest

from facegan.errors import ConfigError
from facegan.face.parsing import ParserConfig
from facegan.jobs.video_job import VideoJobConfig, _claim_work_folder


def make_config(tmp_path, **kwargs):
    style = tmp_path / "style.mp4"
    style.write_bytes(b"frames")
    settings = {"style": str(style), "content": "c.mp4", "output": str(tmp_path / "out.mp4")}
    return VideoJobConfig(**settings, preset="pix2pix_tiny", **kwargs)


def test_the_work_folder_stands_beside_the_output(tmp_path):
    assert make_config(tmp_path).work_path == tmp_path / "out_work"
    assert make_config(tmp_path, work_dir="w").work_path.name == "w"


def test_a_work_folder_belongs_to_what_was_learnt_in_it(tmp_path):
    config = make_config(tmp_path)
    _claim_work_folder(config, ParserConfig())
    _claim_work_folder(dataclasses.replace(config, content="other.mp4", steps=7), ParserConfig())
    with pytest.raises(ConfigError, match="belongs to another job .differing: size"):
        _claim_work_folder(dataclasses.replace(config, size=64), ParserConfig())
    with pytest.raises(ConfigError, match="differing: parser"):
        _claim_work_folder(config, ParserConfig(size=128))


@pytest.mark.parametrize("wrong", [{"size": 100}, {"steps": 0}, {"holdout": 1.0}, {"face": "all"}])
def test_wrong_settings_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_config(tmp_path, **wrong)
