"""The StyleGAN2 nets against stored outputs of the public PyTorch implementation.

goldens/stylegan2.npz holds noise and the outputs of all nets at 128 px; ``fill_stylegan2`` gives
the weights from the names in its ``keys``.
"""

import pathlib

import numpy as np
import pytest

from facegan.models.stylegan2 import (
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Synthesis,
    StyleGAN2SynthesisConfig,
    StyleMapping,
    StyleMappingConfig,
    repeat_w,
)
from tests.parity.fill import fill_stylegan2
from tests.parity.public_state import PublicState, read_golden

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "stylegan2.npz"
# Relative to the spread of the stored output.
TOLERANCE = 1e-4
SIZES = {"image_size": 128, "base_width": 16384}


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS)


class State(PublicState):
    """A StyleGAN2 net's."""

    def __init__(self, golden, net):
        super().__init__(golden, net, fill_stylegan2)
        # The filter is a constant here.
        kept = {k: v for k, v in self.values.items() if not k.endswith("resample_filter")}
        self.values = kept

    def give_dense(self, name, layer):
        self.give(f"{name}.weight", layer.kernel, np.transpose)
        self.give(f"{name}.bias", layer.bias)

    def give_kernel(self, name, layer, turned=False):
        def change(value):
            value = value[:, :, ::-1, ::-1] if turned else value
            return value.transpose(2, 3, 1, 0)

        self.give(f"{name}.weight", layer.kernel, change)

    def give_conv(self, name, layer):
        self.give_kernel(name, layer)
        if layer.bias is not None:
            self.give(f"{name}.bias", layer.bias)


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


@pytest.fixture(scope="module")
def mapping(golden):
    net, state = built(StyleMapping(StyleMappingConfig())), State(golden, "G.mapping")
    for i, layer in enumerate(net.denses):
        state.give_dense(f"fc{i}", layer)
    state.give("w_avg", net.w_avg)
    assert not state.values
    return net


@pytest.fixture(scope="module")
def synthesis(golden):
    net = built(StyleGAN2Synthesis(StyleGAN2SynthesisConfig(**SIZES)))
    state = State(golden, "G.synthesis")
    state.give("b4.const", net.const, lambda value: value.transpose(1, 2, 0))
    leaves = {"up": "conv0", "conv": "conv1", "rgb": "torgb"}
    for painter, affine in zip(net.painters, net.affines, strict=True):
        kind, size = painter.name.split("_")
        name = f"b{size}.{leaves[kind]}"
        # The public net's doubling convolutions hold their kernels turned by half a turn.
        state.give_kernel(name, painter.conv, turned=kind == "up")
        state.give(f"{name}.bias", painter.bias)
        state.give_dense(f"{name}.affine", affine)
        if kind != "rgb":
            state.give(f"{name}.noise_const", painter.noise_const)
            state.give(f"{name}.noise_strength", painter.noise_strength)
    assert not state.values
    return net


def assert_close(got, stored):
    error = np.abs(np.asarray(got) - stored).max() / stored.std()
    assert error < TOLERANCE


def test_mapping(golden, mapping):
    assert_close(mapping({"latent": golden["z"]}), golden["w"])
    assert_close(mapping({"latent": golden["z"]}, truncation=0.7), golden["w_trunc07"])


def test_synthesis(golden, synthesis):
    w = repeat_w(golden["w"], 12)
    assert_close(synthesis({"w": w}), golden["image_const_noise"])
    w = repeat_w(golden["w_trunc07"], 12)
    assert_close(synthesis({"w": w}, noise="none"), golden["image_trunc07_no_noise"])


def test_discriminator(golden):
    net = built(StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(**SIZES)))
    state = State(golden, "D")
    state.give_conv("b128.fromrgb", net.from_rgb)
    for i, block in enumerate(net.downs):
        size = 128 >> i
        state.give_conv(f"b{size}.conv0", block.conv_0)
        state.give_conv(f"b{size}.conv1", block.conv_1)
        state.give_conv(f"b{size}.skip", block.skip_conv)
    state.give_conv("b4.conv", net.last_conv)
    # The public net flattens channels first.
    state.give(
        "b4.fc.weight",
        net.dense.kernel,
        lambda value: value.reshape(512, 512, 4, 4).transpose(2, 3, 1, 0).reshape(-1, 512),
    )
    state.give("b4.fc.bias", net.dense.bias)
    state.give_dense("b4.out", net.head)
    assert not state.values
    logits = net({"image": golden["image_const_noise"]})["logits"]
    assert_close(logits, golden["logit"])
