import json

import numpy as np
import pytest

from facegan.errors import CheckpointError, ConfigError
from facegan.jobs.convert_checkpoint import (
    SOURCES,
    convert_checkpoint,
    from_checkpoint,
    plan_conversion,
)
from facegan.jobs.export import export_run, load_nets
from facegan.jobs.run import make_recipe, read_run
from facegan.models.fan import FAN
from facegan.render.engine import load_engine
from facegan.training.trainer import Trainer
from tests.parity.public_state import write_checkpoint
from tests.parity.small_checkpoints import write, write_small


@pytest.fixture(scope="module", params=SOURCES)
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    files = write_small(folder, request.param)
    paths = {name: write(request.param, path, value) for name, (path, value) in files.items()}
    states = {name: value for name, (_, value) in files.items()}
    return request.param, paths, states


def test_the_run_folder_holds_the_nets_of_the_files(written, tmp_path):
    source, paths, _ = written
    nets = from_checkpoint(source, **paths)
    done = convert_checkpoint(source, run_dir=tmp_path / "run", **paths)
    assert done["untrained"] == []
    assert set(done["parameters"]) == set(nets) - {"fan"}
    loaded = load_nets(tmp_path / "run")
    for name, net in loaded.items():
        for ours, theirs in zip(net.variables, nets[name].variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    config = read_run(tmp_path / "run")
    if source == "stargan_v2":
        assert config.conditioning.domains == ("female", "male")
        assert config.recipe.fan == str(tmp_path / "run" / "fan.npz")
        assert isinstance(nets["fan"], FAN)
    export_run(tmp_path / "run", tmp_path / "bundle")
    engine = load_engine(tmp_path / "bundle", "tensorflow")
    assert engine.manifest.image_size == config.conditioning.size


def test_training_goes_on_from_a_converted_run(tmp_path):
    files = write_small(tmp_path, "pix2pix")
    paths = {name: write_checkpoint(path, value) for name, (path, value) in files.items()}
    quiet = ["recipe.perceptual_weight=0", "data.batch_size=1"]
    convert_checkpoint("pix2pix", run_dir=tmp_path / "run", overrides=quiet, **paths)
    config = read_run(tmp_path / "run")
    session = Trainer(make_recipe(config), config.train, run_dir=tmp_path / "run")
    assert session.restore() and session.step == 0
    random = np.random.default_rng(0)
    batch = {
        name: random.uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
        for name in ("condition", "image")
    }
    terms = session.train_step(batch)
    assert session.step == 1 and all(np.isfinite(float(value)) for value in terms.values())


def test_a_net_that_is_in_no_file_stays_untrained(written, tmp_path):
    source, paths, _ = written
    if "discriminator" not in SOURCES[source].files:
        pytest.skip("the source has one file")
    paths = {name: path for name, path in paths.items() if name != "discriminator"}
    assert "discriminator" not in from_checkpoint(source, **paths)
    done = convert_checkpoint(source, run_dir=tmp_path / "run", **paths)
    assert done["untrained"] == ["discriminator"]


def damaged(state, how):
    """A copy of a state dict in which one array is not as it should be; its name, and the state."""
    state = dict(state)
    outer = next((name for name, value in state.items() if isinstance(value, dict)), None)
    if outer is not None:
        name, state[outer] = damaged(state[outer], how)
        return f"{outer}.{name}", state
    name = [name for name, value in state.items() if np.ndim(value) == 4][2]
    value = state.pop(name)
    if how == "renamed":
        state[f"{name}_"] = value
    elif how == "wrong shape":
        state[name] = value[:, :, :-1] if value.shape[2] > 1 else value[:-1]
    elif how == "not finite":
        state[name] = np.full_like(value, np.inf)
    return name, state


def one_more(state):
    more = {"more": np.zeros(3, np.float32)}
    return "more", {**state, "G_ema": {**state["G_ema"], **more}} if "G_ema" in state else {
        **state,
        **more,
    }


@pytest.mark.parametrize("how", ["missing", "renamed", "wrong shape", "not finite", "one more"])
def test_what_does_not_fit_is_told_and_nothing_is_written(written, how, tmp_path):
    source, paths, states = written
    if how == "one more":
        name, state = one_more(states["checkpoint"])
    else:
        name, state = damaged(states["checkpoint"], how)
    wrong = write(source, tmp_path / "wrong.pth", state)
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(source, run_dir=tmp_path / "run", **{**paths, "checkpoint": wrong})
    told = str(caught.value)
    # The parsers' walk follows the file, and so tells of a missing array by our name.
    unnamed = how == "missing" and source in ("bisenet", "parser_unet")
    assert str(wrong) in told and ("nothing is there for" if unnamed else name) in told
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.pth"]


def test_a_file_that_is_cut_is_refused(written, tmp_path):
    source, paths, _ = written
    cut = tmp_path / "cut.pth"
    data = paths["checkpoint"].read_bytes()
    for part in (0.0, 0.3, 0.999):
        cut.write_bytes(data[: int(part * len(data))])
        with pytest.raises(CheckpointError, match="cut.pth"):
            from_checkpoint(source, **{**paths, "checkpoint": cut})


def test_files_of_other_nets_are_refused(written, tmp_path):
    source, paths, _ = written
    other = {"bisenet": "pix2pix"}.get(source, "bisenet")
    files = write_small(tmp_path, other)
    path = write_checkpoint(*files["checkpoint"])
    with pytest.raises(CheckpointError, match="is missing|not a pickle"):
        from_checkpoint(source, **{**paths, "checkpoint": path})


def test_settings_that_no_file_tells(written, tmp_path):
    source, paths, _ = written
    plan = plan_conversion(source, **paths, overrides=["train.steps=7"])
    assert plan["config"]["train"]["steps"] == 7
    json.dumps(plan)
    kind = plan["config"]["kind"]
    other = "pix2pix_256" if kind != "pix2pix" else "spade_celebamask_256"
    with pytest.raises(ConfigError, match=f"is of .*, but the checkpoint of '{kind}'"):
        plan_conversion(source, **paths, preset=other)


def test_unknown_sources_and_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="stargan_v2"):
        from_checkpoint("stargan", tmp_path)
    with pytest.raises(ConfigError, match=r"bisenet takes no file 'encoder' .*\(none\)"):
        from_checkpoint("bisenet", tmp_path, encoder=tmp_path)
    with pytest.raises(ConfigError, match=r"only discriminator\)"):
        from_checkpoint("pix2pix", tmp_path, encoder=tmp_path)
    with pytest.raises(CheckpointError, match="Cannot read"):
        from_checkpoint("pix2pix", tmp_path / "absent.pth")


def test_a_run_folder_that_is_not_empty_is_kept(tmp_path):
    files = write_small(tmp_path, "bisenet")
    path = write_checkpoint(*files["checkpoint"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        convert_checkpoint("bisenet", path, tmp_path / "run")
    assert (tmp_path / "run" / "mine.txt").exists()
    convert_checkpoint("bisenet", path, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "mine.txt").exists()
