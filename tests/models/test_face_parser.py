import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.config import decode, encode
from facegan.errors import ConfigError
from facegan.models.face_parser import (
    AttentionRefinement,
    BiSeNet,
    BiSeNetConfig,
    FeatureFusion,
    ParserUNet,
    ParserUNetConfig,
    ResidualBlock,
    fold_batch_norm,
    make_label_net,
    make_parser_net,
)
from tests.conformance.harness import randomize

TOY_BISENET = BiSeNetConfig(image_size=64, num_labels=5, base_width=4)
TOY_UNET = ParserUNetConfig(image_size=32, num_labels=5, base_width=4, depth=3)
each_toy = pytest.mark.parametrize("config", [TOY_BISENET, TOY_UNET], ids=lambda c: c.KIND)


def build(config, **kwargs):
    net = make_parser_net(config, **kwargs)
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def conv(inputs, outputs, size):
    return inputs * outputs * size**2


def unet_parameters(base, labels, depth):
    """Two convolutions with bias and norm a level and way, 2x2 transposed ones, a 1x1 one."""
    widths = [base * 2**i for i in range(depth + 1)]
    total, before = 0, 3
    for width in widths:
        total += conv(before, width, 3) + conv(width, width, 3) + 2 * 3 * width
        before = width
    for width in widths[:-1]:
        total += conv(2 * width, width, 2) + width
        total += conv(2 * width, width, 3) + conv(width, width, 3) + 2 * 3 * width
    return total + conv(base, labels, 1) + labels


def bisenet_parameters(base, labels):
    """ResNet-18 without its classifier, the context path, the fusion, three heads."""

    def unit(inputs, outputs, size):
        return conv(inputs, outputs, size) + 2 * outputs

    total, before = unit(3, base, 7), base
    for width in (base, 2 * base, 4 * base, 8 * base):
        total += unit(before, width, 3) + 3 * unit(width, width, 3)
        total += unit(before, width, 1) if before != width else 0
        before = width
    context = 2 * base
    for inputs in (4 * base, 8 * base):
        total += unit(inputs, context, 3) + unit(context, context, 1) + unit(context, context, 3)
    total += unit(8 * base, context, 1)
    fused = 4 * base
    total += unit(fused, fused, 1) + 2 * conv(fused, base, 1)
    total += unit(fused, fused, 3) + conv(fused, labels, 1)
    return total + 2 * (unit(context, base, 3) + conv(base, labels, 1))


@pytest.mark.parametrize(
    ("config", "by_formula", "published"),
    [
        (ParserUNetConfig(), unet_parameters(16, 19, 4), 1_944_355),
        (BiSeNetConfig(), bisenet_parameters(64, 19), 13_300_416),
        (TOY_UNET, unet_parameters(4, 5, 3), None),
        (BiSeNetConfig(base_width=16, num_labels=8), bisenet_parameters(16, 8), None),
    ],
)
def test_parameter_counts(config, by_formula, published):
    net = build(config)
    count = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    assert count == by_formula
    assert published is None or count == published


def test_bisenet_gives_three_maps_of_the_pictures_size():
    net = BiSeNet(TOY_BISENET)
    for height, width in ((64, 64), (32, 96), (64, 32)):
        outputs = net({"image": noise(2, height, width, 3)})
        assert outputs["logits"].shape == (2, height, width, 5)
        assert [m.shape for m in outputs["aux_logits"]] == [(2, height, width, 5)] * 2
    with pytest.raises(ConfigError, match="multiples of 32, got 48x64"):
        net({"image": noise(1, 48, 64, 3)})
    with pytest.raises(ConfigError, match=r"'image' of shape \[B, H, W, 3\]"):
        net({"image": noise(1, 64, 64, 1)})


def test_unet_gives_a_map_of_the_pictures_size():
    net = ParserUNet(TOY_UNET)
    for height, width in ((32, 32), (8, 40)):
        outputs = net({"image": noise(2, height, width, 3)})
        assert {name: value.shape for name, value in outputs.items()} == {
            "logits": (2, height, width, 5)
        }
    with pytest.raises(ConfigError, match="multiples of 8, got 12x16"):
        net({"image": noise(1, 12, 16, 3)})


@each_toy
def test_scores_are_float32_under_half_precision(config):
    net = build(config, dtype="mixed_bfloat16")
    outputs = net({"image": noise(2, 32, 32, 3)}, training=True)
    assert {m.dtype.name for m in tf.nest.flatten(outputs)} == {"float32"}


def test_a_residual_block_of_zero_kernels_passes_its_positive_input():
    block = ResidualBlock(3)
    x = noise(1, 4, 4, 3)
    block.build(x.shape)
    for unit in (block.first, block.second):
        unit.conv.kernel.assign(np.zeros(unit.conv.kernel.shape))
    np.testing.assert_allclose(block(x), np.maximum(x, 0), atol=1e-6)
    assert block.shortcut is None
    halving = ResidualBlock(6, strides=2, projects=True)
    assert halving(x).shape == (1, 2, 2, 6)


def test_attention_weighs_whole_channels():
    layer = AttentionRefinement(3, norm="none")
    x = noise(2, 4, 6, 2)
    layer.build(x.shape)
    randomize(layer)
    refined = np.asarray(layer.refine(x))
    kernel = np.asarray(layer.attention.conv.kernel)[0, 0]
    weights = refined.mean(axis=(1, 2)) @ kernel + np.asarray(layer.attention.conv.bias)
    expected = refined / (1 + np.exp(-weights))[:, None, None, :]
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


def test_fusion_adds_the_weighted_maps_to_themselves():
    layer = FeatureFusion(4, 2, norm="none")
    x = noise(2, 4, 6, 3)
    layer.build(x.shape)
    randomize(layer)
    mixed = np.asarray(layer.mix(x))
    narrow = np.maximum(mixed.mean(axis=(1, 2)) @ np.asarray(layer.narrow.kernel)[0, 0], 0)
    weights = 1 / (1 + np.exp(-narrow @ np.asarray(layer.widen.kernel)[0, 0]))
    expected = mixed * (1 + weights[:, None, None, :])
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@each_toy
def test_folding_keeps_the_scores(config):
    net = build(config)
    randomize(net)
    folded = fold_batch_norm(net)
    inputs = {"image": noise(2, 32, 64, 3)}
    scores = np.asarray(net(inputs)["logits"])
    assert not folded.non_trainable_variables
    assert set(folded(inputs)) == {"logits"}
    assert scores.std() > 0.05
    np.testing.assert_allclose(folded(inputs)["logits"], scores, atol=2e-5 * np.ptp(scores))
    half = fold_batch_norm(net, dtype="bfloat16")
    assert half(inputs)["logits"].dtype == "float32"
    assert np.mean(np.abs(half(inputs)["logits"] - scores)) < 0.05 * np.std(scores)


@each_toy
def test_folding_goes_by_the_names_of_any_net(config):
    net = build(config, name="parser")
    randomize(net)
    folded = fold_batch_norm(net)
    assert folded.name == "parser"
    folded_again = build(folded.config, name="other")
    with pytest.raises(ConfigError, match="got norm 'none', built: True"):
        fold_batch_norm(folded_again)
    with pytest.raises(ConfigError, match="got norm 'batch', built: False"):
        fold_batch_norm(make_parser_net(config))


@each_toy
def test_the_label_net_gives_the_highest_scores_ids(config):
    net = build(config)
    randomize(net)
    label_net = make_label_net(net)
    inputs = {"image": noise(2, 32, 64, 3)}
    label_map = label_net(inputs, training=False)["label_map"]
    assert label_map.dtype == "uint8"
    expected = np.argmax(net(inputs)["logits"], axis=-1)
    assert len(np.unique(expected)) > 1
    assert np.mean(np.asarray(label_map) == expected) > 0.999
    assert label_net.variables
    assert isinstance(label_net, keras.Model)
    again = make_label_net(fold_batch_norm(net))
    np.testing.assert_array_equal(again(inputs)["label_map"], label_map)


@each_toy
def test_the_label_net_traces_with_a_free_batch(config):
    label_net = make_label_net(build(config))
    size = config.image_size
    signature = {"image": tf.TensorSpec((None, size, size, 3))}
    traced = tf.function(lambda x: label_net(x), input_signature=[signature])
    inputs = {"image": noise(3, size, size, 3)}
    np.testing.assert_array_equal(traced(inputs)["label_map"], label_net(inputs)["label_map"])


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (BiSeNetConfig, {"image_size": 448}, "image_size must be a power of two"),
        (BiSeNetConfig, {"image_size": 16}, "one of 32"),
        (BiSeNetConfig, {"num_labels": 1}, "num_labels must be from 2 to 255, got 1"),
        (BiSeNetConfig, {"base_width": 0}, "base_width must be at least 1"),
        (ParserUNetConfig, {"num_labels": 256}, "num_labels must be from 2 to 255, got 256"),
        (ParserUNetConfig, {"base_width": 0}, "base_width must be at least 1"),
        (ParserUNetConfig, {"depth": 0}, "depth must be from 1 to 9"),
        (ParserUNetConfig, {"image_size": 16, "depth": 5}, "depth must be from 1 to 4"),
    ],
)
def test_impossible_settings_are_refused(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        cls(**values)


@each_toy
def test_configs_survive_json_and_choose_the_net(config):
    assert decode(type(config), encode(config)) == config
    assert make_parser_net(config).config == config
