"""StyleGAN2-ADA's pickles against stored outputs of the public PyTorch implementation.

goldens/stylegan2.npz holds noise and the outputs of all nets at 128 px; ``fill_stylegan2`` gives
the weights from the names in its ``keys``.
"""

import pathlib

import numpy as np
import pytest

from facegan.jobs.convert_checkpoint import from_checkpoint
from facegan.models.stylegan2 import repeat_w
from tests.parity.public_state import assert_close, read_golden, stylegan2_state, write_networks

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "stylegan2.npz"


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS)


@pytest.fixture(scope="module")
def nets(golden, tmp_path_factory):
    networks = {"G_ema": stylegan2_state(golden, "G"), "D": stylegan2_state(golden, "D")}
    path = tmp_path_factory.mktemp("stylegan2") / "ffhq.pkl"
    return from_checkpoint("stylegan2", write_networks(path, networks, conv_clamp=256))


def test_mapping(golden, nets):
    latent = {"latent": golden["z"]}
    assert_close(nets["mapping"](latent), golden["w"])
    assert_close(nets["mapping"](latent, truncation=0.7), golden["w_trunc07"])


def test_synthesis(golden, nets):
    assert nets["generator"].config.conv_clamp == 256
    w = repeat_w(golden["w"], 12)
    assert_close(nets["generator"]({"w": w}), golden["image_const_noise"])
    w = repeat_w(golden["w_trunc07"], 12)
    assert_close(nets["generator"]({"w": w}, noise="none"), golden["image_trunc07_no_noise"])


def test_discriminator(golden, nets):
    logits = nets["discriminator"]({"image": golden["image_const_noise"]})["logits"]
    np.testing.assert_allclose(np.ravel(logits), np.ravel(golden["logit"]), rtol=1e-4)
