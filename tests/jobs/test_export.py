import dataclasses
import hashlib
import json

import pytest

from facegan.bundle import Provenance, read_manifest
from facegan.config import write_json
from facegan.errors import BundleError, CheckpointError
from facegan.jobs import run as run_lib
from facegan.jobs.export import (
    ServingFolder,
    export_run,
    plan_export,
    plan_serving,
)
from facegan.jobs.run import encode_run, load_config
from facegan.training.trainer import Trainer, settle
from tests import untrained

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


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run folder of a net as it is before training."""
    folder = tmp_path_factory.mktemp("runs") / "anna"
    folder.mkdir()
    config = untrained.pix2pix()
    config = dataclasses.replace(config, train=settle(config.train))
    session = Trainer(run_lib.make_recipe(config), config.train, run_dir=folder)
    write_json(folder / "config.json", encode_run(config))
    run_lib.write_conditioning(folder, config.conditioning, None)
    session.save()
    return folder


def test_what_is_told_and_kept_of_an_export(run_dir, tmp_path):
    pytest.importorskip("tensorflow_serving")
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    write_json(run_dir / "provenance.json", {"licence": "For research.", "preset": "pix2pix_tiny"})
    serving = ServingFolder(path=tmp_path / "serving", name="anna")
    result = export_run(run_dir, tmp_path / "anna", onnx=True, serving=serving)
    assert result["serving"] == str(tmp_path / "serving" / "anna" / "1")
    differences = {name: value for name, value in result.items() if "difference" in name}
    assert differences.pop("method_difference") is None
    assert differences.pop("max_code_difference") <= 1
    assert len(differences) == 4 and all(0 <= value < 1e-4 for value in differences.values())
    manifest = read_manifest(tmp_path / "serving" / "anna" / "1", verify=True)
    assert manifest.training["export_onnx_max_difference"] == result["onnx_max_difference"]
    assert manifest.provenance == Provenance(
        licence="For research.",
        preset="pix2pix_tiny",
        config_sha256=hashlib.sha256((run_dir / "config.json").read_bytes()).hexdigest(),
    )
    # Height and width are free, in multiples of 2 to the number of levels.
    assert manifest.inputs[0].shape == (None, None, None, 3) and manifest.size_multiple == 8


def test_where_the_served_version_would_stand(tmp_path):
    pytest.importorskip("tensorflow_serving")
    (tmp_path / "serving" / "anna" / "3").mkdir(parents=True)
    serving = ServingFolder(path=tmp_path / "serving")
    planned = plan_serving(tmp_path / "anna" / "1", serving)
    assert planned == str(tmp_path / "serving" / "anna" / "4")
    taken = ServingFolder(path=tmp_path / "serving", name="anna", version=3)
    with pytest.raises(BundleError, match="version 3 already"):
        plan_serving(tmp_path / "anna", taken)
    assert plan_serving(tmp_path / "anna", taken, overwrite=True).endswith("3")
