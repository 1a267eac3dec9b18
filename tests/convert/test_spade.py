import numpy as np
import pytest

from facegan.convert.spade import read_spade
from facegan.errors import CheckpointError
from tests.parity.fill import fill
from tests.parity.public_state import read_golden, small_state, write_checkpoint
from tests.parity.small_checkpoints import GOLDENS, write_small


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spade")
    files = write_small(folder, "spade")
    written = {name: write_checkpoint(path, value) for name, (path, value) in files.items()}
    plain = small_state(read_golden(GOLDENS / "spade.npz"), fill, "G")
    return {**written, "plain": write_checkpoint(folder / "plain.pth", plain)}


def test_the_files_tell_the_settings(paths):
    found = read_spade({name: paths[name] for name in ("checkpoint", "discriminator", "encoder")})
    assert found.preset == "spade_vae_celebamask_256"
    labels, size = {"num_labels": 19}, {"image_size": 256}
    told = {
        "generator": {
            **{**labels, **size, "base_width": 4, "hidden_width": 8, "style_size": 16},
            **{"norm": "sync_batch", "spectral_norm": True},
        },
        "discriminator": {**labels, **size, "base_width": 4, "num_layers": 4, "num_scales": 2},
        "encoder": {**size, "base_width": 4, "style_size": 16},
    }
    assert found.settings == {
        "conditioning.size": 256,
        **{
            f"recipe.{net}.{name}": value
            for net, values in told.items()
            for name, value in values.items()
        },
    }


def test_a_generator_without_a_style(paths):
    found = read_spade({"checkpoint": paths["plain"]})
    assert found.preset == "spade_celebamask_256" and list(found.weights) == ["generator"]
    assert "recipe.generator.style_size" not in found.settings


def test_the_style_encoder_has_to_fit(paths):
    with pytest.raises(CheckpointError, match="give the checkpoint of its encoder"):
        read_spade({"checkpoint": paths["checkpoint"]})
    with pytest.raises(CheckpointError, match="takes no style; leave the encoder out"):
        read_spade({"checkpoint": paths["plain"], "encoder": paths["encoder"]})


def test_other_nets_are_refused(tmp_path):
    path = write_checkpoint(tmp_path / "G.pth", {"fc.weight": np.zeros((4, 3, 3, 3), "f4")})
    with pytest.raises(CheckpointError, match="head_0.norm_0.mlp_shared.0.weight is missing"):
        read_spade({"checkpoint": path})
