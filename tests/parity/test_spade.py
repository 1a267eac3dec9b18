"""SPADE's public checkpoints against stored outputs of the public PyTorch implementation.

goldens/spade.npz holds one label map and the outputs of G, of G with a style, of D and of E, all
at full size; ``fill`` gives the weights from the names in its ``keys``, and the vectors of the
spectral norm are stored.
"""

import pathlib

import numpy as np
import pytest

from facegan.jobs.convert_checkpoint import from_checkpoint
from facegan.layers.fast_paths import allow_fast_paths
from facegan.models.configured import fold_spectral_norm
from tests.parity.fill import fill
from tests.parity.public_state import assert_close, public_state, read_golden, write_checkpoint

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "spade.npz"

# Of the authors' nets at 256 px and 19 labels.
PARAMETERS = {"generator": 92_538_819, "discriminator": 5_566_594}
STYLED = {"generator": 109_205_443, "encoder": 10_463_424}


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS)


@pytest.fixture(scope="module")
def nets(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spade")
    return from_checkpoint(
        "spade",
        write_checkpoint(folder / "latest_net_G.pth", public_state(golden, fill, "G")),
        discriminator=write_checkpoint(
            folder / "latest_net_D.pth", public_state(golden, fill, "D")
        ),
    )


def count(net):
    return sum(int(np.prod(v.shape)) for v in net.trainable_variables)


def test_generator_matches_the_public_implementation(golden, nets):
    assert {name: count(net) for name, net in nets.items()} == PARAMETERS
    assert_close(nets["generator"]({"label_map": golden["label"]}), golden["fake"])


def test_generator_for_serving_matches_it_by_either_path(golden, nets):
    folded = fold_spectral_norm(nets["generator"])
    for fast in (False, True):
        with allow_fast_paths(fast):
            assert_close(folded({"label_map": golden["label"]}), golden["fake"])


def test_discriminator_matches_the_public_implementation(golden, nets):
    out = nets["discriminator"]({"label_map": golden["label"], "image": golden["fake"]})
    for scale in range(2):
        logits = out["logits"][scale]
        assert_close(logits, golden[f"d{scale}_logit"])
        mean = np.mean(logits, axis=(1, 2))
        np.testing.assert_allclose(mean, golden[f"d{scale}_4_mean"], rtol=1e-4)
        for number, maps in enumerate(out["features"][scale]):
            mean = np.mean(maps, axis=(1, 2))
            np.testing.assert_allclose(mean, golden[f"d{scale}_{number}_mean"], rtol=1e-4)


def test_nets_with_a_style_match_the_public_implementation(golden, tmp_path):
    nets = from_checkpoint(
        "spade",
        write_checkpoint(tmp_path / "latest_net_G.pth", public_state(golden, fill, "Gvae")),
        encoder=write_checkpoint(tmp_path / "latest_net_E.pth", public_state(golden, fill, "E")),
    )
    assert {name: count(net) for name, net in nets.items()} == STYLED
    inputs = {"label_map": golden["label"], "style": golden["z"]}
    assert_close(nets["generator"](inputs), golden["fake_vae"])
    out = nets["encoder"]({"image": golden["fake"]})
    assert_close(out["mean"], golden["mu"])
    assert_close(out["log_variance"], golden["logvar"])
