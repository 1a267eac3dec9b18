"""StarGAN v2's public checkpoints against stored outputs of the public PyTorch implementation.

goldens/stargan2.npz holds pictures, masks and the outputs of all nets at 128 px; ``fill`` gives the
weights from the names in its ``keys``.
"""

import pathlib

import numpy as np
import pytest

from facegan.jobs.convert_checkpoint import from_checkpoint
from facegan.models.configured import copy_net
from tests.parity.fill import fill
from tests.parity.public_state import assert_close, public_state, read_golden, write_checkpoint

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "stargan2.npz"


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS)


def parallel(golden, net):
    return {f"module.{name}": value for name, value in public_state(golden, fill, net).items()}


def averages(golden, generator):
    nets = {"mapping_network": "mapping_network", "style_encoder": "style_encoder"}
    return {name: parallel(golden, net) for name, net in {"generator": generator, **nets}.items()}


@pytest.fixture(scope="module")
def nets(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stargan_v2")
    averaged = averages(golden, "generator")
    last = {**averaged, "discriminator": parallel(golden, "discriminator")}
    return from_checkpoint(
        "stargan_v2",
        write_checkpoint(folder / "100000_nets_ema.ckpt", averaged),
        discriminator=write_checkpoint(folder / "100000_nets.ckpt", last),
    )


def test_generator(golden, nets):
    inputs = {"image": golden["x"], "style": golden["style_from_latent"]}
    assert_close(nets["generator"](inputs), golden["fake"])


def test_generator_with_the_high_pass_skip(golden, tmp_path):
    state = averages(golden, "generator_hpf")
    laplacian = np.full((3, 3), -1, np.float32)
    laplacian[1, 1] = 8
    state["generator"]["module.hpf.filter"] = laplacian
    path = write_checkpoint(tmp_path / "100000_nets_ema.ckpt", state)
    generator = from_checkpoint("stargan_v2", path)["generator"]
    assert generator.config.high_pass == 1.0
    # Without shortcuts its instance norms blow rounding up: some processors' convolutions in
    # float32 come to 2e-4. In float64 what is left is the stored outputs' own rounding.
    generator = copy_net(generator, "float64")
    inputs = {"image": golden["x"], "style": golden["style_from_latent"]}
    assert_close(generator(inputs), golden["fake_hpf"])
    masks = {
        "coarse_mask": golden["mask_eyes_mouth"],
        "fine_mask": golden["mask_face"],
    }
    assert_close(generator({**inputs, **masks}), golden["fake_hpf_masked"])


def test_mapping_network(golden, nets):
    style = nets["mapping"]({"latent": golden["z"], "domain": golden["y"]})
    assert_close(style, golden["style_from_latent"])


def test_style_encoder(golden, nets):
    style = nets["style_encoder"]({"image": golden["x"], "domain": golden["y"]})
    assert_close(style, golden["style_from_image"])


def test_discriminator(golden, nets):
    logits = nets["discriminator"]({"image": golden["x"], "domain": golden["y"]})["logits"]
    # Two numbers that lie close together: their own spread says little.
    np.testing.assert_allclose(np.asarray(logits)[:, 0], golden["logit"], rtol=1e-5)
