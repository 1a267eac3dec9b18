import pytest

from facegan.errors import CheckpointError, ConfigError
from facegan.jobs.finetune import FinetuneConfig, finetune, person_config
from facegan.jobs.run import load_config

# The job itself: tests/integration/test_talking_head.py.


def test_a_person_s_run_follows_the_meta_learned_one():
    meta = load_config("talking_head_tiny")
    run = person_config(meta, 8, None, 2, ["train.seed=3"])
    assert run.kind == "talking_head_person" and run.train.seed == 3
    assert run.recipe.generator == meta.recipe.generator
    assert run.recipe.losses == meta.recipe.losses
    assert run.conditioning.drawing == meta.conditioning.drawing
    # 40 updates a picture, two pictures an update; no fewer than the recipe wants.
    assert (run.train.steps, run.data.batch_size) == (400, 2)
    assert person_config(meta, 32, None, 2, []).train.steps == 640
    assert run.recipe.generator_optimizer.schedule.shape == "constant"
    one = person_config(meta, 1, None, 2, [])
    assert (one.train.steps, one.data.batch_size) == (400, 1)


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="either pictures of the person or a video"):
        FinetuneConfig(run_dir="r")
    with pytest.raises(ConfigError, match="either pictures of the person or a video"):
        FinetuneConfig(run_dir="r", images=("a.jpg",), video="v.mp4")
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        FinetuneConfig(run_dir="r", images=("a.jpg",), steps=0)
    with pytest.raises(CheckpointError, match="is no run folder"):
        finetune(FinetuneConfig(run_dir=str(tmp_path), images=("a.jpg",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
