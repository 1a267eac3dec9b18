import numpy as np
import pytest

from facegan.convert.stargan_v2 import read_stargan_v2
from facegan.errors import CheckpointError
from tests.parity.fill import fill
from tests.parity.public_state import read_golden, small_state, write_checkpoint
from tests.parity.small_checkpoints import GOLDENS, write_small

SIZES = {"image_size": 128, "base_width": 8, "max_width": 32}


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS / "stargan2.npz")


@pytest.fixture
def files(tmp_path):
    return write_small(tmp_path, "stargan_v2")


def settings_of(found, net):
    start = f"recipe.{net}."
    return {k.removeprefix(start): v for k, v in found.settings.items() if k.startswith(start)}


def test_the_files_tell_the_settings(files):
    found = read_stargan_v2({name: write_checkpoint(*file) for name, file in files.items()})
    assert found.preset == "stargan_v2_celebahq_256"
    assert settings_of(found, "generator") == {**SIZES, "style_size": 4, "high_pass": 1.0}
    mapping = {"latent_size": 16, "width": 32, "style_size": 4, "num_domains": 2}
    assert settings_of(found, "mapping") == mapping
    assert settings_of(found, "style_encoder") == {**SIZES, "style_size": 4, "num_domains": 2}
    assert settings_of(found, "discriminator") == {**SIZES, "num_domains": 2}
    assert found.settings["conditioning.domains"] == ["female", "male"]
    assert set(found.weights) == {
        *("generator", "mapping", "style_encoder", "discriminator", "fan"),
    }


def test_three_domains_of_animals(golden, files):
    path, state = files["checkpoint"]
    state = {**state, "generator": small_state(golden, fill, "generator")}
    del state["fan"]
    for net in ("mapping_network", "style_encoder"):
        third = {
            name.replace("unshared.1.", "unshared.2."): value
            for name, value in state[net].items()
            if name.startswith("unshared.1.")
        }
        state[net] = {**state[net], **third}
    found = read_stargan_v2({"checkpoint": write_checkpoint(path, state)})
    assert found.preset == "stargan_v2_afhq_256" and "fan" not in found.weights
    assert settings_of(found, "generator")["high_pass"] == 0.0
    assert found.settings["conditioning.domains"] == ["cat", "dog", "wild"]


@pytest.mark.parametrize(("divisor", "told"), [(1.0, 1.0), (4.0, 4.0), (None, 1.0)])
def test_how_much_the_skip_lets_through(files, divisor, told):
    path, state = files["checkpoint"]
    laplacian = np.full((3, 3), -1, np.float32)
    laplacian[1, 1] = 8
    generator = dict(state["generator"])
    generator.pop("hpf.filter")
    if divisor is not None:
        generator["hpf.filter"] = laplacian / divisor
    path = write_checkpoint(path, {**state, "generator": generator})
    found = read_stargan_v2({"checkpoint": path})
    assert settings_of(found, "generator")["high_pass"] == pytest.approx(told)


def test_other_files_are_refused(tmp_path):
    path = write_checkpoint(tmp_path / "a.ckpt", {"generator": {"x.weight": np.zeros(3, "f4")}})
    with pytest.raises(CheckpointError, match=r"generator\.from_rgb\.weight is missing"):
        read_stargan_v2({"checkpoint": path})
