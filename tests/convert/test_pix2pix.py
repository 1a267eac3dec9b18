import numpy as np
import pytest

from facegan.convert.pix2pix import read_pix2pix
from facegan.errors import CheckpointError
from tests.parity.fill import fill
from tests.parity.public_state import read_golden, small_state, write_checkpoint
from tests.parity.small_checkpoints import GOLDENS


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS / "pix2pix.npz")


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_files_tell_the_settings(golden, norm, tmp_path):
    paths = {
        given: write_checkpoint(
            tmp_path / f"{given}.pth", small_state(golden, fill, f"{net}_{norm}")
        )
        for given, net in (("checkpoint", "G"), ("discriminator", "D"))
    }
    found = read_pix2pix(paths)
    assert found.preset == "pix2pix_256" and list(found.weights) == ["generator", "discriminator"]
    told = {"base_width": 4, "norm": norm, "image_size": 256}
    generator = {**told, "in_channels": 3, "out_channels": 3, "max_width": 32, "outer_bias": False}
    discriminator = {**told, "condition_channels": 3, "num_layers": 3, "first_bias": True}
    assert found.settings == {
        "conditioning.size": 256,
        **{f"recipe.generator.{name}": value for name, value in generator.items()},
        **{f"recipe.discriminator.{name}": value for name, value in discriminator.items()},
    }


def test_a_net_of_fewer_levels_is_for_smaller_pictures(golden, tmp_path):
    state, inner = small_state(golden, fill, "G_batch"), "model.model.1" + ".model.3" * 5
    shallower = {}
    for name, value in state.items():
        if name.startswith(f"{inner}.model.3."):
            continue  # the levels below the seventh
        # The seventh becomes the innermost: no norm on the way down, and places that follow.
        place = name.removeprefix(f"{inner}.model.") if name.startswith(inner) else ""
        number, _, leaf = place.partition(".")
        if number == "2":
            continue
        renamed = {"5": "3", "6": "4"}.get(number)
        shallower[f"{inner}.model.{renamed}.{leaf}" if renamed else name] = value
    found = read_pix2pix({"checkpoint": write_checkpoint(tmp_path / "G.pth", shallower)})
    assert found.settings["conditioning.size"] == 128
    assert found.settings["recipe.generator.image_size"] == 128


def test_other_nets_are_refused(tmp_path):
    path = write_checkpoint(tmp_path / "G.pth", {"model.1.weight": np.zeros((4, 3, 7, 7), "f4")})
    with pytest.raises(CheckpointError, match=r"generator: model\.model\.0\.weight is missing"):
        read_pix2pix({"checkpoint": path})
