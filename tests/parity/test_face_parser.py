"""The face parsers against stored outputs of the public PyTorch implementations.

goldens/bisenet.npz and goldens/parser_unet.npz hold one input each, as the networks take it, and
what they make of it at full size; ``fill`` gives the weights from the names in ``keys``.
"""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

from facegan.models.face_parser import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BiSeNet,
    BiSeNetConfig,
    ParserUNet,
    ParserUNetConfig,
    make_label_net,
)
from tests.parity.fill import fill

GOLDENS = pathlib.Path(__file__).parent / "goldens"
# Of the output's spread. Float32 sums of up to 4608 products differ by a few 1e-7 between two
# libraries, and BiSeNet is twenty layers deep.
TOLERANCE = 1e-4

# Public module, with "norm" for its "bn" -> our layer.
BISENET_MODULES = (
    (r"cp\.resnet\.(conv|norm)1", r"stem/\1"),
    (r"cp\.resnet\.layer(\d)\.0\.downsample\.0", r"stage\1_block1/shortcut/conv"),
    (r"cp\.resnet\.layer(\d)\.0\.downsample\.1", r"stage\1_block1/shortcut/norm"),
    (r"cp\.resnet\.layer(\d)\.0\.(conv|norm)1", r"stage\1_block1/first/\2"),
    (r"cp\.resnet\.layer(\d)\.0\.(conv|norm)2", r"stage\1_block1/second/\2"),
    (r"cp\.resnet\.layer(\d)\.1\.(conv|norm)1", r"stage\1_block2/first/\2"),
    (r"cp\.resnet\.layer(\d)\.1\.(conv|norm)2", r"stage\1_block2/second/\2"),
    (r"cp\.arm(\d+)\.conv\.(conv|norm)", r"refine\1/refine/\2"),
    (r"cp\.arm(\d+)\.(conv|norm)_atten", r"refine\1/attention/\2"),
    (r"cp\.conv_head(\d+)\.(conv|norm)", r"context\1/\2"),
    (r"cp\.conv_avg\.(conv|norm)", r"global_context/\1"),
    (r"ffm\.convblk\.(conv|norm)", r"fusion/mix/\1"),
    (r"ffm\.conv1", r"fusion/narrow"),
    (r"ffm\.conv2", r"fusion/widen"),
    (r"conv_out\.conv\.(conv|norm)", r"head/\1"),
    (r"conv_out\.conv_out", r"logit_conv"),
    (r"conv_out(\d+)\.conv\.(conv|norm)", r"aux_head\1/\2"),
    (r"conv_out(\d+)\.conv_out", r"aux_logit_conv\1"),
)
UNET_MODULES = (
    (r"conv(\d)\.conv(\d)\.0", r"down\1_conv\2/conv"),
    (r"conv(\d)\.conv(\d)\.1", r"down\1_conv\2/norm"),
    (r"center\.conv(\d)\.0", r"down5_conv\1/conv"),
    (r"center\.conv(\d)\.1", r"down5_conv\1/norm"),
    (r"up_concat(\d)\.conv\.conv(\d)\.0", r"up\1_conv\2/conv"),
    (r"up_concat(\d)\.conv\.conv(\d)\.1", r"up\1_conv\2/norm"),
    (r"up_concat(\d)\.up", r"up\1_sample"),
    (r"final", r"logit_conv"),
)
LEAVES = {
    "norm": {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
    "conv": {"weight": "kernel", "bias": "bias"},
}


def load_golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return {name: file[name] for name in file.files}


def our_path(modules, name: str) -> str:
    module, leaf = name.rsplit(".", 1)
    for pattern, ours in modules:
        if match := re.fullmatch(pattern, module.replace("bn", "norm")):
            place = match.expand(ours)
            kind = "norm" if place.endswith("/norm") else "conv"
            return f"{place}/{LEAVES[kind][leaf]}"
    raise AssertionError(f"{name} has no counterpart")


def assign_state(model: keras.Model, golden: dict[str, np.ndarray], modules) -> None:
    """Writes the public weights into our net; every entry and every variable is used once."""
    model.build({name: (None, *shape) for name, shape in model.input_shapes().items()})
    ours = {v.path.split("/", 1)[1]: v for v in model.variables}
    for name, shape in json.loads(str(golden["keys"])).items():
        if name.endswith("num_batches_tracked"):
            continue
        value = fill(str(golden["salt"]) + name, tuple(shape))
        if value.ndim == 4:
            # [out, in, h, w] of a convolution and [in, out, h, w] of a transposed one both end as
            # [h, w, second, first].
            value = value.transpose(2, 3, 1, 0)
        variable = ours.pop(our_path(modules, name))
        assert tuple(variable.shape) == value.shape, name
        variable.assign(value)
    assert not ours


def to_ours(maps: np.ndarray) -> np.ndarray:
    return maps.transpose(0, 2, 3, 1).astype(np.float32)


def assert_close(ours, stored: np.ndarray, every: int) -> None:
    """Compares with a map of which every ``every``-th row and column is stored."""
    ours, stored = np.asarray(ours)[:, ::every, ::every], to_ours(stored)
    assert ours.shape == stored.shape
    difference = np.abs(ours - stored)
    assert np.max(difference) < TOLERANCE * np.ptp(stored)
    assert np.sqrt(np.mean(difference**2)) < 0.1 * TOLERANCE * np.std(stored)


@pytest.fixture(scope="module")
def bisenet():
    golden = load_golden("bisenet")
    net = BiSeNet(BiSeNetConfig())
    assign_state(net, golden, BISENET_MODULES)
    # The stored input is normalised already; ours starts from pictures in [-1, 1].
    pictures = (to_ours(golden["x"]) * IMAGENET_STD + IMAGENET_MEAN) * 2 - 1
    return golden, net, {"image": pictures.astype(np.float32)}


@pytest.fixture(scope="module")
def unet():
    golden = load_golden("parser_unet")
    net = ParserUNet(ParserUNetConfig())
    assign_state(net, golden, UNET_MODULES)
    return golden, net, {"image": to_ours(golden["x"])}


def test_bisenet_matches_the_public_implementation(bisenet):
    golden, net, inputs = bisenet
    outputs = net(inputs)
    assert_close(outputs["logits"], golden["logits"], 8)
    assert_close(outputs["aux_logits"][0], golden["logits16"], 16)
    assert_close(outputs["aux_logits"][1], golden["logits32"], 16)
    np.testing.assert_array_equal(np.argmax(outputs["logits"], axis=-1), golden["labels"])


def test_unet_matches_the_public_implementation(unet):
    golden, net, inputs = unet
    outputs = net(inputs)
    assert_close(outputs["logits"], golden["logits"], 4)
    np.testing.assert_array_equal(np.argmax(outputs["logits"], axis=-1), golden["labels"])


@pytest.mark.parametrize("name", ["bisenet", "unet"])
def test_the_served_net_gives_the_public_labels(name, request):
    golden, net, inputs = request.getfixturevalue(name)
    ours = np.asarray(make_label_net(net)(inputs)["label_map"])
    assert ours.dtype == np.uint8
    # Folded kernels are rounded anew: a pixel whose two best scores are that close may turn.
    assert np.mean(ours != golden["labels"]) < 1e-4
