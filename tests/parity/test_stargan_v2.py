"""The StarGAN v2 nets against stored outputs of the public PyTorch implementation.

goldens/stargan2.npz holds pictures, masks and the outputs of all nets at 128 px; ``fill`` gives the
weights from the names in its ``keys``.
"""

import pathlib

import numpy as np
import pytest

from facegan.models.configured import copy_net
from facegan.models.stargan_v2 import (
    MappingConfig,
    MappingNetwork,
    StarDiscriminator,
    StarDiscriminatorConfig,
    StarGenerator,
    StarGeneratorConfig,
    StarStyleEncoder,
    StarStyleEncoderConfig,
)
from tests.parity.fill import fill
from tests.parity.public_state import PublicState, read_golden

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "stargan2.npz"
# Relative to the spread of the stored output.
TOLERANCE = 1e-4
SIZES = {"image_size": 128, "base_width": 128}


@pytest.fixture(scope="module")
def golden():
    return read_golden(GOLDENS)


class State(PublicState):
    """A StarGAN v2 net's."""

    def __init__(self, golden, net):
        super().__init__(golden, net, fill)

    def give_layer(self, name, layer):
        def change(value):
            return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T

        self.give(f"{name}.weight", layer.kernel, change)
        if layer.bias is not None:
            self.give(f"{name}.bias", layer.bias)

    def give_norm(self, name, norm):
        self.give(f"{name}.weight", norm.gamma)
        self.give(f"{name}.bias", norm.beta)

    def give_block(self, name, block):
        self.give_layer(f"{name}.conv1", block.conv_0)
        self.give_layer(f"{name}.conv2", block.conv_1)
        for i, norm in enumerate(block.norms, 1):
            if hasattr(norm, "dense"):
                self.give_layer(f"{name}.norm{i}.fc", norm.dense)
            else:
                self.give_norm(f"{name}.norm{i}", norm)
        if block.skip_conv is not None:
            self.give_layer(f"{name}.conv1x1", block.skip_conv)

    def give_heads(self, names, layer):
        for variable, leaf in ((layer.kernel, "weight"), (layer.bias, "bias")):
            values = [self.values.pop(f"{name}.{leaf}").T for name in names]
            variable.assign(np.stack(values))


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


def make_generator(golden, net, high_pass):
    generator = built(StarGenerator(StarGeneratorConfig(**SIZES, high_pass=high_pass)))
    state = State(golden, net)
    state.give_layer("from_rgb", generator.from_rgb)
    for i, block in enumerate((*generator.downs, *generator.middles)):
        state.give_block(f"encode.{i}", block)
    for i, block in enumerate((*generator.styled_middles, *generator.ups)):
        state.give_block(f"decode.{i}", block)
    state.give_norm("to_rgb.0", generator.norm)
    state.give_layer("to_rgb.2", generator.to_rgb)
    # With the skip the public net owns shortcuts that it never uses.
    unused = {"hpf.filter", "decode.4.conv1x1.weight", "decode.5.conv1x1.weight"}
    assert set(state.values) == (unused if high_pass else set())
    return generator


def give_judge(state, net, first):
    state.give_layer(f"{first}.0", net.from_rgb)
    for i, block in enumerate(net.downs, 1):
        state.give_block(f"{first}.{i}", block)
    state.give_layer(f"{first}.7", net.last_conv)


def assert_close(got, stored):
    error = np.abs(np.asarray(got) - stored).max() / stored.std()
    assert error < TOLERANCE


def test_generator(golden):
    generator = make_generator(golden, "generator", 0.0)
    inputs = {"image": golden["x"], "style": golden["style_from_latent"]}
    assert_close(generator(inputs), golden["fake"])


def test_generator_with_the_high_pass_skip(golden):
    # Without shortcuts its instance norms blow rounding up: some processors' convolutions in
    # float32 come to 2e-4. In float64 what is left is the stored outputs' own rounding.
    generator = copy_net(make_generator(golden, "generator_hpf", 1.0), "float64")
    inputs = {"image": golden["x"], "style": golden["style_from_latent"]}
    assert_close(generator(inputs), golden["fake_hpf"])
    masks = {
        "coarse_mask": golden["mask_eyes_mouth"],
        "fine_mask": golden["mask_face"],
    }
    assert_close(generator({**inputs, **masks}), golden["fake_hpf_masked"])


def test_mapping_network(golden):
    net, state = built(MappingNetwork(MappingConfig())), State(golden, "mapping_network")
    for i, layer in enumerate(net.shared):
        state.give_layer(f"shared.{2 * i}", layer)
    for i, layer in enumerate(net.heads):
        state.give_heads([f"unshared.{domain}.{2 * i}" for domain in range(2)], layer)
    assert not state.values
    style = net({"latent": golden["z"], "domain": golden["y"]})
    assert_close(style, golden["style_from_latent"])


def test_style_encoder(golden):
    net = built(StarStyleEncoder(StarStyleEncoderConfig(**SIZES)))
    state = State(golden, "style_encoder")
    give_judge(state, net, "shared")
    state.give_heads(["unshared.0", "unshared.1"], net.head)
    assert not state.values
    style = net({"image": golden["x"], "domain": golden["y"]})
    assert_close(style, golden["style_from_image"])


def test_discriminator(golden):
    net = built(StarDiscriminator(StarDiscriminatorConfig(**SIZES)))
    state = State(golden, "discriminator")
    give_judge(state, net, "main")
    state.give("main.9.weight", net.head.kernel, lambda value: value.reshape(2, -1, 1))
    state.give("main.9.bias", net.head.bias, lambda value: value[:, None])
    assert not state.values
    logits = net({"image": golden["x"], "domain": golden["y"]})["logits"]
    # Two numbers that lie close together: their own spread says little.
    np.testing.assert_allclose(np.asarray(logits)[:, 0], golden["logit"], rtol=1e-5)
