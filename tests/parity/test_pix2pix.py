"""The pix2pix nets against stored outputs of the public PyTorch implementation.

goldens/pix2pix.npz holds one input and the outputs of G and D under batch norm and instance norm,
all at full size; ``fill`` gives the weights from the names in its ``keys``.
"""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

from facegan.models.pix2pix import (
    PatchDiscriminator,
    PatchDiscriminatorConfig,
    UNetConfig,
    UNetGenerator,
)
from tests.parity.fill import fill

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "pix2pix.npz"
LEVELS = 8
# The largest value of the stored outputs is near 1 for images and 3 for logits; float32 sums of
# up to 8192 products differ by a few 1e-6 between two libraries, so 1e-4 would hide no fault.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS) as file:
        return {name: file[name] for name in file.files}


def load_state(golden, net: str) -> dict[str, np.ndarray]:
    shapes = json.loads(str(golden["keys"]))
    salt = str(golden["salt"])
    return {
        name.removeprefix(f"{net}."): fill(salt + name, tuple(shape))
        for name, shape in shapes.items()
        if name.startswith(f"{net}.")
    }


def unet_layer_name(module: str) -> tuple[str, str]:
    """Public module path -> (name of our layer, what it is).

    Each level of the public net wraps the next as its module 3 (the outermost as module 1). Inside
    a level: 1 and 2 are the down convolution and its norm, 5 and 6 the up convolution and its norm.
    The outermost level begins with its convolution (0, then 3 for the way up), and the innermost
    has no level inside and no norm on the way down (1, then 3 and 4).
    """
    path = [int(n) for n in re.findall(r"model\.(\d+)", module)]
    level, position = len(path), path[-1]
    if level == 1:
        return {0: ("down1_conv", "down"), 3: ("up1_conv", "up")}[position]
    if level == LEVELS:
        place = {1: ("down", "conv"), 3: ("up", "conv"), 4: ("up", "norm")}[position]
    else:
        place = {
            1: ("down", "conv"),
            2: ("down", "norm"),
            5: ("up", "conv"),
            6: ("up", "norm"),
        }[position]
    direction, what = place
    return f"{direction}{level}_{what}", direction if what == "conv" else "norm"


def patch_layer_name(module: str) -> tuple[str, str]:
    position = int(module.rsplit(".", 1)[-1])
    return {
        0: ("conv1", "down"),
        2: ("conv2", "down"),
        3: ("norm2", "norm"),
        5: ("conv3", "down"),
        6: ("norm3", "norm"),
        8: ("conv4", "down"),
        9: ("norm4", "norm"),
        11: ("logit_conv", "down"),
    }[position]


def assign_state(model: keras.Model, state: dict[str, np.ndarray], layer_name) -> None:
    """Writes a public state dict into our net; every entry and every variable is used once."""
    layers = {layer.name: layer for layer in model.layers}
    left = {variable.path for variable in model.variables}
    for name, value in state.items():
        module, leaf = name.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        ours, kind = layer_name(module)
        if kind == "norm":
            attribute = {
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            }[leaf]
        else:
            attribute = {"weight": "kernel", "bias": "bias"}[leaf]
        if kind != "norm" and leaf == "weight":
            # [out, in, h, w] of a convolution and [in, out, h, w] of a transposed one both end as
            # [h, w, second, first].
            value = value.transpose(2, 3, 1, 0)
        variable = getattr(layers[ours], attribute)
        assert tuple(variable.shape) == value.shape, name
        variable.assign(value)
        left.remove(variable.path)
    assert not left


def to_ours(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 2, 3, 1)


def assert_close(ours, stored: np.ndarray) -> None:
    stored = to_ours(stored)
    ours = np.asarray(ours)
    assert ours.shape == stored.shape
    assert np.max(np.abs(ours - stored)) < TOLERANCE
    assert np.linalg.norm(ours - stored) / np.linalg.norm(stored) < TOLERANCE


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_generator_matches_the_public_implementation(golden, norm):
    model = UNetGenerator(UNetConfig(norm=norm))
    model.build({"condition": (None, 256, 256, 3)})
    assign_state(model, load_state(golden, f"G_{norm}"), unet_layer_name)
    fake = model({"condition": to_ours(golden["x"])})
    assert_close(fake, golden[f"fake_{norm}"])


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_discriminator_matches_the_public_implementation(golden, norm):
    model = PatchDiscriminator(PatchDiscriminatorConfig(norm=norm))
    model.build({"condition": (None, 256, 256, 3), "image": (None, 256, 256, 3)})
    assign_state(model, load_state(golden, f"D_{norm}"), patch_layer_name)
    inputs = {"condition": to_ours(golden["x"]), "image": to_ours(golden[f"fake_{norm}"])}
    assert_close(model(inputs)["logits"], golden[f"logit_{norm}"])
