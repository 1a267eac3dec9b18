import dataclasses
import json

import pytest

from facegan.errors import ConfigError
from facegan.face.parsing import ParserConfig
from facegan.jobs.spade_video import SpadeVideoConfig, plan_spade_video
from facegan.jobs.video_job import run_config
from facegan.samples import write_sample_clip


@pytest.fixture
def config(tmp_path):
    return SpadeVideoConfig(
        style="style.mp4",
        content="content.mp4",
        output=str(tmp_path / "out.mp4"),
        size=64,
    )


def test_the_run_learns_from_the_job_s_parser_and_background(config):
    run = run_config(dataclasses.replace(config, size=128, overrides=()), ParserConfig(size=128))
    assert run.conditioning.parser.size == 128
    assert run.conditioning.size == run.recipe.generator.image_size == 128
    with pytest.raises(ConfigError, match="shown 'landmark_drawing'.*takes.*'label_map'"):
        run_config(dataclasses.replace(config, preset="pix2pix_tiny"), ParserConfig())
    with pytest.raises(ConfigError, match="shown 'label_map'.*takes.*'landmark_drawing'"):
        run_config(config)


def test_wrong_settings_are_named_before_any_work(config, tmp_path):
    clip = tmp_path / "a.mp4"
    write_sample_clip("collins", clip, duration_s=0.4, size=128, fps=10)
    config = dataclasses.replace(config, style=str(clip), content=str(clip))
    with pytest.raises(ConfigError, match="three codes"):
        dataclasses.replace(config, background=(1, 2, 300))
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"rules": [{"from": "skinn", "to": "neck"}]}))
    with pytest.raises(ConfigError, match="skin"):
        plan_spade_video(dataclasses.replace(config, rules=str(rules)))
    assert not config.work_path.exists()
