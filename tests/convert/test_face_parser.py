import numpy as np
import pytest

from facegan.convert.face_parser import read_bisenet, read_parser_unet
from facegan.errors import CheckpointError
from tests.parity.public_state import write_checkpoint
from tests.parity.small_checkpoints import write_small

READERS = {"bisenet": read_bisenet, "parser_unet": read_parser_unet}
TOLD = {
    "bisenet": ("bisenet19", {"num_labels": 19, "base_width": 4, "aux_heads": True}),
    "parser_unet": ("celebamask19", {"num_labels": 19, "base_width": 4}),
}


@pytest.mark.parametrize("source", sorted(READERS))
def test_the_file_tells_the_settings(source, tmp_path):
    path = write_checkpoint(*write_small(tmp_path, source)["checkpoint"])
    found = READERS[source]({"checkpoint": path})
    schema, settings = TOLD[source]
    assert found.settings == {
        **{f"recipe.parser.{name}": value for name, value in settings.items()},
        "recipe.schema": schema,
        "conditioning.schema": schema,
    }


def test_bisenet_without_the_heads_that_help_training(tmp_path):
    path, state = write_small(tmp_path, "bisenet")["checkpoint"]
    state = {
        name: v for name, v in state.items() if not name.startswith(("conv_out16", "conv_out32"))
    }
    found = read_bisenet({"checkpoint": write_checkpoint(path, state)})
    assert found.settings["recipe.parser.aux_heads"] is False


def test_other_labels_are_refused(tmp_path):
    path, state = write_small(tmp_path, "parser_unet")["checkpoint"]
    state = {**state, "final.weight": np.zeros((8, 4, 1, 1), "f4")}
    with pytest.raises(CheckpointError, match="tells 8 labels apart"):
        read_parser_unet({"checkpoint": write_checkpoint(path, state)})
