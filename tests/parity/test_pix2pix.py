"""pix2pix' public checkpoints against stored outputs of the public PyTorch implementation.

goldens/pix2pix.npz holds one input and the outputs of G and D under batch norm and instance norm,
all at full size; ``fill`` gives the weights from the names in its ``keys``.
"""

import pathlib

import numpy as np
import pytest

from facegan.jobs.convert_checkpoint import from_checkpoint
from tests.parity.fill import fill
from tests.parity.public_state import assert_close, public_state, read_golden, write_checkpoint

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "pix2pix.npz"


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_nets_match_the_public_implementation(golden, norm, tmp_path):
    paths = {
        net: write_checkpoint(
            tmp_path / f"latest_net_{net}.pth", public_state(golden, fill, f"{net}_{norm}")
        )
        for net in "GD"
    }
    nets = from_checkpoint("pix2pix", paths["G"], discriminator=paths["D"])
    assert nets["generator"].config.norm == nets["discriminator"].config.norm == norm
    assert_close(nets["generator"]({"condition": golden["x"]}), golden[f"fake_{norm}"])
    inputs = {"condition": golden["x"], "image": golden[f"fake_{norm}"]}
    assert_close(nets["discriminator"](inputs)["logits"], golden[f"logit_{norm}"])


def test_biases_beside_instance_norms(golden, tmp_path):
    """The authors' nets have them: two count, and what an instance norm takes away again does not.

    A bias behind which nothing stands but a norm may be anything.
    """
    state = public_state(golden, fill, "G_instance")
    kernels = [name for name in state if name.endswith(".weight")]
    ups = [name for name in kernels if name.endswith((".5.weight", "3.weight"))]
    for name in kernels:
        filters = state[name].shape[1 if name in ups else 0]
        state.setdefault(name.replace("weight", "bias"), np.zeros(filters, np.float32))
    path = write_checkpoint(tmp_path / "latest_net_G.pth", state)
    plain = np.asarray(from_checkpoint("pix2pix", path)["generator"]({"condition": golden["x"]}))
    assert_close(plain, golden["fake_instance"])
    state["model.model.1.model.1.bias"] = state["model.model.1.model.1.bias"] + 1
    write_checkpoint(path, state)
    same = from_checkpoint("pix2pix", path)["generator"]({"condition": golden["x"]})
    np.testing.assert_array_equal(same, plain)
    state["model.model.0.bias"] = state["model.model.0.bias"] + 1
    write_checkpoint(path, state)
    other = np.asarray(from_checkpoint("pix2pix", path)["generator"]({"condition": golden["x"]}))
    assert np.abs(other - plain).mean() > 0.01
