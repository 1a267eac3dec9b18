import pytest

from facegan.errors import ConfigError
from facegan.jobs.reenact import ReenactConfig, plan_reenact
from facegan.samples import write_sample_clip

# The job itself: tests/integration/test_talking_head.py.


def make(**kwargs):
    return ReenactConfig(
        **{"portraits": ("a.jpg",), "driving": "v.mp4", "output": "out.mp4", **kwargs}
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one of run_dir, bundle and preset.*got none"),
        ({"run_dir": "r", "bundle": "b"}, "got run_dir, bundle"),
        ({"run_dir": "r", "portraits": ()}, "at least one picture"),
        ({"run_dir": "r", "steps": -1}, "at least 0, got -1"),
        ({"bundle": "b", "steps": 4}, "A bundle cannot learn"),
        ({"preset": "talking_head_tiny", "steps": 0}, "has learnt nothing yet"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_the_plan_tells_what_would_be_done(tmp_path):
    clip, portrait = tmp_path / "v.mp4", tmp_path / "a.jpg"
    write_sample_clip("collins", clip, duration_s=0.4, size=128, fps=10)
    config = make(
        portraits=(str(portrait),),
        driving=str(clip),
        output=str(tmp_path / "out.mp4"),
        preset="talking_head_tiny",
    )
    with pytest.raises(ConfigError, match="a.jpg does not exist"):
        plan_reenact(config)
    portrait.write_bytes(b"x")
    plan = plan_reenact(config)
    assert plan["untrained"] and plan["frames"] == 4
    assert plan["work_dir"] == str(tmp_path / "out_work")
