import json

import pytest

from facegan.errors import CheckpointError
from facegan.jobs.export import export_run, plan_export
from facegan.jobs.run import encode_run, load_config

# What an exported run is, tests/integration/test_train_export_render.py shows.


def test_a_run_without_a_checkpoint_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(CheckpointError, match="no run folder"):
        export_run(tmp_path / "none", tmp_path / "bundle")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.json").write_text(json.dumps(encode_run(load_config("pix2pix_tiny"))))
    for call in (plan_export, lambda path: export_run(path, tmp_path / "bundle")):
        with pytest.raises(CheckpointError, match="no checkpoint yet; train it first"):
            call(run_dir)
    assert not (tmp_path / "bundle").exists()
