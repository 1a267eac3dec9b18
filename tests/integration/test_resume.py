"""A run that is killed at any moment goes on as if nothing had happened."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from facegan.jobs.run import encode_run, train_run
from facegan.training.checkpoint import list_checkpoints

# Batch norm, dropout and augmentation: everything that could remember or draw something.
SETTINGS = (
    'recipe.generator.norm="batch"',
    "recipe.generator.dropout=0.5",
    "recipe.discriminator.norm=batch",
    "train.steps=60",
    "train.checkpoint_every=7",
    "train.preview_every=1000",
)

CHILD = """
import json, sys
from facegan.jobs.run import decode_run, train_run
config = decode_run(json.load(open(sys.argv[1])))
train_run(config, data_dir=sys.argv[2], run_dir=sys.argv[3], resume=True)
"""


def tensors(run_dir):
    newest = list_checkpoints(run_dir / "checkpoints")[-1]
    reader = tf.train.load_checkpoint(str(newest.path / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return newest.step, {name: reader.get_tensor(name) for name in names}


def test_killed_twice_equals_unbroken_bit_for_bit(dataset, tiny_run, tmp_path, repo_dir):
    config = tiny_run(*SETTINGS)
    (tmp_path / "config.json").write_text(json.dumps(encode_run(config)))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(repo_dir), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def start(run_dir):
        arguments = [str(tmp_path / "config.json"), dataset["dataset_dir"], str(run_dir)]
        return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)

    assert start(whole).wait(timeout=300) == 0
    for wanted in (7, 28):
        process = start(killed)
        _wait_for_step(killed, wanted, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(killed).wait(timeout=300) == 0
    (step_a, a), (step_b, b) = tensors(whole), tensors(killed)
    assert step_a == step_b == 60
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    lines = [json.loads(x) for x in (killed / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))


def _wait_for_step(run_dir: pathlib.Path, step, process):
    limit = time.monotonic() + 200
    while time.monotonic() < limit:
        found = list_checkpoints(run_dir / "checkpoints")
        if found and found[-1].step >= step:
            return
        if process.poll() is not None:
            pytest.fail(f"the run ended with {process.returncode} before step {step}")
        time.sleep(0.02)
    pytest.fail(f"no checkpoint of step {step} in time")


@pytest.mark.parametrize("model", ["pix2pix", pytest.param("spade", marks=pytest.mark.slow)])
def test_more_steps_after_a_stop_equal_one_go(request, model, tmp_path):
    made = {"pix2pix": ("dataset", "tiny_run"), "spade": ("labelled_dataset", "tiny_spade_run")}
    dataset, make_run = (request.getfixturevalue(name) for name in made[model])
    config = make_run("train.steps=4")
    train_run(config, data_dir=dataset["dataset_dir"], run_dir=tmp_path / "a")
    from facegan.datasets.pipeline import make_pipeline, read_records
    from facegan.jobs.run import make_example_maker, make_recipe, read_run
    from facegan.training.trainer import Trainer

    settled = read_run(tmp_path / "a")
    records = read_records(dataset["dataset_dir"], "train")
    maker = make_example_maker(settled.conditioning)
    for stop in (2, 4):
        trainer = Trainer(make_recipe(settled), settled.train, run_dir=tmp_path / "b")
        trainer.restore()
        batches = make_pipeline(
            records, maker, settled.data, seed=settled.train.seed, start_step=trainer.step
        )
        trainer.fit(batches, until=stop)
    (_, a), (_, b) = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
