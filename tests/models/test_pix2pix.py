import keras
import numpy as np
import pytest

from facegan.config import decode, encode
from facegan.errors import ConfigError
from facegan.models.pix2pix import (
    BlockDiscriminator,
    BlockDiscriminatorConfig,
    BlockGenerator,
    BlockGeneratorConfig,
    ConvBlock,
    PatchDiscriminator,
    PatchDiscriminatorConfig,
    UNetConfig,
    UNetGenerator,
    fold_batch_norm,
    make_discriminator,
    make_generator,
)
from tests.conformance.harness import randomize

SEED = np.array([1, 2], np.int32)


def count_parameters(model: keras.Model) -> int:
    """Trainable ones: PyTorch counts moving statistics as buffers."""
    model.build({name: (None, *s) for name, s in model.input_shapes().items()})
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (UNetConfig(), 54_413_955),
        (UNetConfig(in_channels=19), 54_430_339),
        (BlockGeneratorConfig(), 138_416_771),
        (PatchDiscriminatorConfig(), 2_768_705),
        (PatchDiscriminatorConfig(condition_channels=19), 2_785_089),
        (BlockDiscriminatorConfig(), 1_178_033),
        (BlockDiscriminatorConfig(base_width=32, num_blocks=5), 18_868_577),
    ],
    ids=repr,
)
def test_parameter_counts_are_the_published_ones(config, expected):
    make = make_generator if hasattr(config, "in_channels") else make_discriminator
    assert count_parameters(make(config)) == expected


def test_the_block_generator_of_48_channels_by_its_formula():
    # 311 million values are 1.2 GB; the formula is checked on nets that fit and applied to that.
    def formula(c, blocks):
        def conv(a, b, k):
            return a * b * k * k + b

        total = conv(3, c, 1) + conv(c, 3, 1)
        for i in range(1, blocks + 1):
            half, whole = c * 2 ** (i - 1), c * 2**i
            total += conv(half, whole, 3) + conv(whole, whole, 3) + 4 * whole
            total += 2 * conv(whole, half, 3) + conv(half, half, 3) + 4 * half
        return total

    small = BlockGeneratorConfig(image_size=16, base_width=6, num_blocks=3)
    assert count_parameters(BlockGenerator(small)) == formula(6, 3)
    assert formula(48, 6) == 311_408_835


def test_narrower_and_shallower_nets_have_fewer_parameters():
    full = count_parameters(UNetGenerator(UNetConfig(image_size=128)))
    capped = count_parameters(UNetGenerator(UNetConfig(image_size=128, max_width=256)))
    shallow = count_parameters(UNetGenerator(UNetConfig(image_size=128, depth=5)))
    nearest = count_parameters(UNetGenerator(UNetConfig(image_size=128, upsample="nearest")))
    assert full == 41_828_995
    assert capped < 0.35 * full
    assert shallow < 0.5 * full
    assert nearest < full


def test_unet_dropout_sits_from_the_fifth_level_to_above_the_innermost():
    rates = {d.name: d.rate for d in UNetGenerator(UNetConfig()).up_dropouts}
    assert rates == {f"up{i}_dropout": 0.5 if 5 <= i < 8 else 0.0 for i in range(2, 9)}
    assert len({d.stream for d in UNetGenerator(UNetConfig()).up_dropouts}) == 7


def test_unet_image_stays_in_range_and_float32_under_half_precision():
    config = UNetConfig(image_size=16, base_width=4, depth=3)
    model = UNetGenerator(config, dtype="mixed_bfloat16")
    image = model({"condition": np.ones((2, 16, 8, 3), np.float32)}, training=True)
    assert image.dtype == "float32"
    assert image.shape == (2, 16, 8, 3)
    assert np.all(np.abs(image) <= 1)


def test_unet_takes_other_sizes_once_built():
    model = UNetGenerator(UNetConfig(image_size=16, base_width=2, depth=3))
    for height, width in ((16, 16), (8, 24), (32, 16)):
        image = model({"condition": np.zeros((1, height, width, 3), np.float32)})
        assert image.shape == (1, height, width, 3)
    with pytest.raises(ConfigError, match="multiples of 8, got 12x16"):
        model({"condition": np.zeros((1, 12, 16, 3), np.float32)})


@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
def test_folding_batch_norm_keeps_the_image(upsample):
    config = UNetConfig(image_size=16, base_width=4, upsample=upsample, depth=3)
    model = UNetGenerator(config)
    model.build({"condition": (None, 16, 16, 3)})
    randomize(model)
    folded = fold_batch_norm(model)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    x = {"condition": x}
    assert not folded.non_trainable_variables
    image = np.asarray(model(x))
    assert 0.01 < image.std() < 0.9
    np.testing.assert_allclose(folded(x), image, atol=1e-5)
    half = fold_batch_norm(model, dtype="bfloat16")
    assert {v.dtype for v in half.down_convs[0].variables} == {"bfloat16"}
    assert half(x).dtype == "float32"
    assert np.mean(np.abs(half(x) - image)) < 0.02 * np.std(image) + 0.01


def test_folding_refuses_what_has_no_batch_norm():
    model = UNetGenerator(UNetConfig(image_size=16, base_width=2, norm="instance"))
    with pytest.raises(ConfigError, match="norm 'batch', got norm 'instance'"):
        fold_batch_norm(model)


def test_patch_discriminator_judges_patches_of_70_pixels():
    model = PatchDiscriminator(PatchDiscriminatorConfig(base_width=2, norm="instance"))
    blank = np.zeros((1, 256, 256, 3), np.float32)
    output = model({"condition": blank, "image": blank})
    assert output["logits"].shape == (1, 30, 30, 1)
    assert [f.shape[1] for f in output["features"]] == [128, 64, 32, 31]


def test_patch_discriminator_widths_stop_at_eightfold():
    model = PatchDiscriminator(PatchDiscriminatorConfig(image_size=128, base_width=2, num_layers=5))
    assert [conv.filters for conv in model.convs] == [2, 4, 8, 16, 16, 16]
    assert [conv.strides for conv in model.convs] == [2, 2, 2, 2, 2, 1]


def test_block_generator_is_linear_at_its_end_and_works_in_zero_to_one():
    model = BlockGenerator(BlockGeneratorConfig(image_size=16, base_width=2, num_blocks=1))
    model.build({"condition": (None, 16, 16, 3)})
    model.image_conv.bias.assign([0.0, 0.5, 2.0])
    model.image_conv.kernel.assign(np.zeros(model.image_conv.kernel.shape))
    image = np.asarray(model({"condition": np.zeros((1, 4, 6, 3), np.float32)}))
    np.testing.assert_allclose(image[0, 0, 0], [-1, 0, 3])


def test_block_generator_drops_everywhere_but_in_the_last_block():
    config = BlockGeneratorConfig(image_size=16, base_width=2, num_blocks=3, dropout=0.4)
    model = BlockGenerator(config)
    assert [b.dropout for b in model.down_blocks] == [0.4, 0.4, 0.4]
    assert [b.dropout for b in model.up_blocks] == [0.0, 0.4, 0.4]
    streams = [d.stream for b in [*model.down_blocks, *model.up_blocks] for d in b.dropouts]
    assert len(set(streams)) == len(streams)


def test_block_discriminator_leaves_out_the_second_blocks_norm():
    model = BlockDiscriminator(BlockDiscriminatorConfig(image_size=32, base_width=2))
    assert [b.norm for b in model.blocks] == ["batch", "none", "batch", "batch"]
    blank = np.zeros((1, 32, 16, 3), np.float32)
    output = model({"condition": blank, "image": blank})
    assert output["logits"].shape == (1, 2, 1, 1)
    assert [tuple(f.shape[1:3]) for f in output["features"]] == [(16, 8), (8, 4), (4, 2), (2, 1)]


def test_conv_block_order_is_conv_norm_dropout_activation():
    block = ConvBlock(2, norm="none", dropout=0.5)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype(np.float32)
    block.build(x.shape)
    for conv in block.convs:
        conv.kernel.assign(
            np.eye(2).reshape(1, 1, 2, 2)
            * np.eye(3)[1][:, None, None, None]
            * np.eye(3)[1][None, :, None, None]
        )
    leaky = np.where(x > 0, x, 0.04 * x)
    np.testing.assert_allclose(block(x), leaky, atol=1e-6)
    dropped = np.asarray(block(x, training=True, seed=SEED))
    # Each value is dropped by one of the two dropouts or scaled by both.
    assert np.all(np.isclose(dropped, 0) | np.isclose(dropped, 4 * leaky, atol=1e-5))


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (UNetConfig, {"image_size": 200}, "power of two"),
        (UNetConfig, {"depth": 9}, "depth must be from 2 to 8"),
        (UNetConfig, {"depth": 1}, "depth must be from 2"),
        (UNetConfig, {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        (UNetConfig, {"base_width": 0}, "base_width must be at least 1"),
        (PatchDiscriminatorConfig, {"image_size": 16, "num_layers": 3}, "needs image_size 32"),
        (PatchDiscriminatorConfig, {"num_layers": 0}, "num_layers must be at least 1"),
        (BlockGeneratorConfig, {"image_size": 32, "num_blocks": 6}, "at most 5"),
        (BlockDiscriminatorConfig, {"dropout": -0.1}, "dropout"),
    ],
)
def test_impossible_settings_are_refused(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        cls(**values)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(image_size=128, depth=5, norm="instance"),
        PatchDiscriminatorConfig(num_layers=2),
        BlockGeneratorConfig(num_blocks=4),
        BlockDiscriminatorConfig(dropout=0.1),
    ],
    ids=lambda config: config.KIND,
)
def test_configs_survive_json_and_choose_the_net(config):
    assert decode(type(config), encode(config)) == config
    make = make_generator if hasattr(config, "in_channels") else make_discriminator
    assert make(config).config == config


def test_missing_and_misshapen_inputs_are_named():
    model = PatchDiscriminator(PatchDiscriminatorConfig(image_size=32, base_width=2))
    blank = np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(ConfigError, match="takes a dict with the key 'image', got condition"):
        model({"condition": blank})
    with pytest.raises(ConfigError, match=r"'condition' of shape \[B, H, W, 3\]"):
        model({"condition": blank[..., :2], "image": blank})
