import json
import pathlib

import numpy as np
import pytest

from facegan.errors import CheckpointError
from facegan.training.checkpoint import (
    list_checkpoints,
    load_weights,
    restore_latest,
    restore_step,
    save_checkpoint,
)
from facegan.training.trainer import TrainConfig, Trainer
from tests.training.toy_recipe import ToyRecipe

CONFIG = TrainConfig(precision="float32", xla="off")


def make_state(**kwargs):
    return Trainer(ToyRecipe(**kwargs), CONFIG).state


def save(folder, state, step, **kwargs):
    state.step.assign(step)
    state.nets["generator"].get_layer("out").bias.assign(np.full(3, step, np.float32))
    return save_checkpoint(folder, state, "toy", **{"keep": 2, **kwargs})


def bias(state):
    return float(state.nets["generator"].get_layer("out").bias[0])


def test_newest_checkpoints_stay_and_chosen_ones_too(tmp_path):
    state = make_state()
    for step in (1, 2, 3, 4):
        save(tmp_path, state, step, keep_steps={1})
    assert [info.step for info in list_checkpoints(tmp_path)] == [1, 3, 4]
    fresh = make_state()
    assert restore_latest(tmp_path, fresh, "toy").step == 4
    assert bias(fresh) == 4.0
    assert int(fresh.step) == 4
    assert restore_step(tmp_path, fresh, "toy", 1).step == 1
    assert bias(fresh) == 1.0
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 2; it has \[1, 3, 4\]"):
        restore_step(tmp_path, fresh, "toy", 2)


def test_an_empty_folder_restores_nothing(tmp_path):
    assert restore_latest(tmp_path / "none", make_state(), "toy") is None


def _flip(path: pathlib.Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "missing", "index", "record"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    state = make_state()
    save(tmp_path, state, 1)
    newest = save(tmp_path, state, 2)
    data = next(newest.glob("state.data*"))
    if damage == "flip":
        _flip(data)
    elif damage == "truncate":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "empty":
        data.write_bytes(b"")
    elif damage == "missing":
        data.unlink()
    elif damage == "index":
        _flip(newest / "state.index")
    else:
        (newest / "checkpoint.json").write_text("{")
    fresh = make_state()
    with pytest.warns(UserWarning, match="damaged"):
        assert restore_latest(tmp_path, fresh, "toy").step == 1
    assert bias(fresh) == 1.0
    with pytest.raises(CheckpointError, match="damaged"):
        restore_step(tmp_path, fresh, "toy", 2)


def test_nothing_readable_is_an_error(tmp_path):
    newest = save(tmp_path, make_state(), 1)
    _flip(next(newest.glob("state.data*")))
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="None of the 1"):
        restore_latest(tmp_path, make_state(), "toy")


def test_another_models_checkpoint_is_refused(tmp_path):
    save(tmp_path, make_state(), 1)
    with pytest.raises(CheckpointError, match="'toy' run, not to 'other'"):
        restore_latest(tmp_path, make_state(), "other")
    with pytest.raises(CheckpointError, match="does not fit.*- .*norm"):
        restore_latest(tmp_path, make_state(norm=True), "toy")


def test_another_version_is_refused(tmp_path):
    path = save(tmp_path, make_state(), 1) / "checkpoint.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        restore_latest(tmp_path, make_state(), "toy")


def test_a_killed_writers_remains_are_swept(tmp_path):
    save(tmp_path, make_state(), 1)
    (tmp_path / ".step-00000002.77.tmp").mkdir()
    restore_latest(tmp_path, make_state(), "toy")
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_an_unwritable_folder_is_an_error_and_leaves_nothing(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint"):
        save(blocker / "checkpoints", make_state(), 1)


def test_load_weights_takes_nets_only(tmp_path):
    save(tmp_path, make_state(), 5)
    fresh = make_state()
    assert load_weights(tmp_path, fresh).step == 5
    assert bias(fresh) == 5.0
    assert int(fresh.step) == 0
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(tmp_path, make_state(norm=True))
    with pytest.raises(CheckpointError, match="no checkpoint to start from"):
        load_weights(tmp_path / "none", fresh)
