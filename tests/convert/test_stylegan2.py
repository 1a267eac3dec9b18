import numpy as np
import pytest

from facegan.convert.stylegan2 import read_stylegan2
from facegan.errors import CheckpointError
from tests.parity.public_state import write_networks
from tests.parity.small_checkpoints import write_small


def settings_of(found, net):
    start = f"recipe.{net}."
    return {k.removeprefix(start): v for k, v in found.settings.items() if k.startswith(start)}


@pytest.mark.parametrize(("settings", "clamp"), [({}, 256.0), ({"conv_clamp": None}, 0.0)])
def test_the_file_tells_the_settings(tmp_path, settings, clamp):
    ((path, state),) = write_small(tmp_path, "stylegan2").values()
    found = read_stylegan2({"checkpoint": write_networks(path, state, **settings)})
    assert found.preset == "stylegan2_paper256" and found.settings["conditioning.size"] == 128
    sizes = {"image_size": 128, "base_width": 1024, "max_width": 32, "conv_clamp": clamp}
    assert settings_of(found, "generator") == {**sizes, "style_size": 32}
    assert settings_of(found, "discriminator") == sizes
    mapping = {"latent_size": 32, "style_size": 32, "num_layers": 8}
    assert settings_of(found, "mapping") == mapping


def test_networks_of_other_architectures_are_refused(tmp_path):
    ((path, state),) = write_small(tmp_path, "stylegan2").values()
    conditional = dict(state["G_ema"], **{"mapping.embed.weight": np.zeros((4, 4), np.float32)})
    residual = dict(state["G_ema"])
    del residual["synthesis.b8.conv1.bias"]
    filtered = dict(state["G_ema"])
    filtered["synthesis.b8.resample_filter"] = np.ones((4, 4), np.float32)
    for changed, told in (
        ({"G_ema": conditional}, "conditional"),
        ({"G_ema": residual}, r"b8\.conv1\.bias is missing"),
        ({"G_ema": filtered}, "is not the filter"),
        ({"G_ema": {"layers.0.weight": np.zeros((4, 4), np.float32)}}, "of other architectures"),
    ):
        write_networks(path, {**state, **changed})
        with pytest.raises(CheckpointError, match=told):
            read_stylegan2({"checkpoint": path})
    write_networks(path, {"G": state["G_ema"]})
    with pytest.raises(CheckpointError, match="no networks G_ema and D"):
        read_stylegan2({"checkpoint": path})
