import numpy as np
import pytest

from facegan.config import decode, encode
from facegan.errors import ConfigError
from facegan.face import mask_groups
from facegan.image import to_uint8
from facegan.models.mask_pix2pix import (
    ColourDiscriminator,
    ColourDiscriminatorConfig,
    MaskGenerator,
    MaskGeneratorConfig,
    colour_map,
    split_groups,
)
from facegan.models.pix2pix import PatchDiscriminator, PatchDiscriminatorConfig, fold_batch_norm
from tests.conformance.harness import randomize

SEED = np.array([1, 2], np.int32)
TINY = MaskGeneratorConfig(image_size=16, num_groups=3, identity_size=5, base_width=2, max_width=4)


def build(model):
    model.build({name: (None, *s) for name, s in model.input_shapes().items()})
    return model


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def make_inputs(config=TINY, examples=2):
    rng = np.random.default_rng(0)
    size = config.image_size
    return {
        "masks": rng.integers(0, 2, (examples, size, size, config.num_groups)).astype(np.uint8),
        "colours": rng.uniform(-1, 1, (examples, config.num_groups, 3)).astype(np.float32),
        "identity": rng.normal(0, 0.1, (examples, config.identity_size)).astype(np.float32),
    }


def test_parameter_counts_are_the_published_ones():
    generator = build(MaskGenerator(MaskGeneratorConfig()))
    assert count(generator.trainable_variables) == 14_222_659
    assert count(generator.variables) == 14_228_099
    config = PatchDiscriminatorConfig(condition_channels=7, first_bias=False)
    judge = build(PatchDiscriminator(config))
    assert count(judge.trainable_variables) == 2_772_737
    assert count(judge.variables) == 2_774_529


def test_parameter_counts_by_arithmetic():
    # 4x4 kernels without bias; a scale and an offset for each channel that batch norm follows.
    downs = [(10, 32), (32, 64), (64, 128), (128, 256), *[(256, 256)] * 4]
    told = 7 * 3 + 128
    ups = [(256 + told, 256), *[(512, 256)] * 3, (512, 128), (256, 64), (128, 32)]
    kernels = sum(16 * a * b for a, b in (*downs, *ups))
    norms = sum(2 * b for _, b in (*downs[1:], *ups))
    assert kernels + norms + 16 * 64 * 3 + 3 == 14_222_659
    judge = [(10, 64), (64, 128), (128, 256), (256, 512)]
    assert sum(16 * a * b for a, b in judge) + 2 * (128 + 256 + 512) + 16 * 512 + 1 == 2_772_737
    reader = [(6, 64), (64, 128), (128, 256), (256, 256)]
    kernels = sum(9 * a * b for a, b in reader) + 2 * (128 + 256 + 256)
    heads = 9 * 256 * 3 + 3 + 256 + 1
    model = build(ColourDiscriminator(ColourDiscriminatorConfig()))
    assert count(model.trainable_variables) == kernels + heads


def test_groups_are_split_by_id():
    label_map = np.array([[[0, 1], [3, 1]]], np.uint8)
    masks = np.asarray(split_groups(label_map, 3))
    assert masks.dtype == np.float32
    np.testing.assert_array_equal(masks[0, 0], [[0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(masks[0, 1], [[0, 0, 1], [1, 0, 0]])


def test_the_colour_map_averages_overlaps_and_is_black_elsewhere():
    masks = np.zeros((1, 1, 4, 2), np.float32)
    masks[0, 0, :, :] = [[1, 0], [1, 1], [0, 0], [0, 0.25]]
    colours = np.array([[[1.0, 0.0, -0.5], [-1.0, 0.5, 0.5]]], np.float32)
    painted = np.asarray(colour_map(masks, colours))
    expected = [[1, 0, -0.5], [0, 0.25, 0], [-1, -1, -1], [-1, 0.5, 0.5]]
    np.testing.assert_allclose(painted[0, 0], expected, atol=1e-6)


def test_the_colour_map_is_that_of_the_face_package():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (2, 6, 5, 7)).astype(np.float32)
    colours = rng.uniform(-1, 1, (2, 7, 3)).astype(np.float32)
    painted = to_uint8(np.asarray(colour_map(masks, colours)))
    for i in range(2):
        drawn = mask_groups.draw_colour_map(masks[i], colours[i])
        assert np.abs(painted[i].astype(int) - drawn).max() <= 1
    label_map = rng.integers(0, 8, (6, 5)).astype(np.uint8)
    np.testing.assert_array_equal(
        split_groups(label_map[None], 7)[0], mask_groups.split_groups(label_map, 7)
    )


def test_it_is_halved_to_one_pixel_where_it_is_told_colours_and_identity():
    model = build(MaskGenerator(MaskGeneratorConfig(base_width=2, max_width=8)))
    assert len(model.down_convs) == 8
    assert model.up_convs[-1].kernel.shape[-1] == 8 + 21 + 128
    rates = [d.rate for d in reversed(model.up_dropouts)]
    assert rates == [0.5, 0.5, 0.5, 0, 0, 0, 0]
    assert len({d.stream for d in model.up_dropouts}) == 7


@pytest.mark.parametrize("name", ["masks", "colours", "identity"])
def test_every_input_changes_the_picture(name):
    model = build(MaskGenerator(TINY))
    randomize(model)
    inputs = make_inputs()
    image = np.asarray(model(inputs))
    assert image.shape == (2, 16, 16, 3) and np.all(np.abs(image) <= 1)
    changed = 1 - inputs[name] if name == "masks" else inputs[name] + 0.5
    assert np.abs(np.asarray(model({**inputs, name: changed})) - image).max() > 1e-3


def test_a_net_may_do_without_an_identity():
    config = MaskGeneratorConfig(image_size=16, identity_size=0, base_width=2, max_width=4)
    model = build(MaskGenerator(config))
    assert set(model.input_shapes()) == {"masks", "colours"}
    inputs = make_inputs(config)
    del inputs["identity"]
    assert model(inputs).shape == (2, 16, 16, 3)


@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
def test_folding_batch_norm_keeps_the_picture(upsample):
    config = MaskGeneratorConfig(
        image_size=16, num_groups=3, identity_size=5, base_width=4, upsample=upsample
    )
    model = build(MaskGenerator(config))
    randomize(model)
    folded = fold_batch_norm(model)
    assert isinstance(folded, MaskGenerator) and not folded.non_trainable_variables
    inputs = make_inputs(config)
    image = np.asarray(model(inputs))
    assert image.std() > 0.01
    np.testing.assert_allclose(folded(inputs), image, atol=1e-5)


def test_pictures_stay_float32_under_half_precision():
    model = MaskGenerator(TINY, dtype="mixed_bfloat16")
    image = model(make_inputs(), training=True, seed=SEED)
    assert image.dtype == "float32" and np.all(np.isfinite(image))


def test_the_discriminator_reads_a_map_of_32_pixels():
    model = ColourDiscriminator(ColourDiscriminatorConfig(base_width=2, max_width=4))
    assert [conv.filters for conv in model.convs] == [2, 4, 4, 4]
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    output = model({"condition": model.blank(picture), "image": picture})
    assert output["logits"].shape == (1, 1)
    assert output["colour_map"].shape == (1, 32, 32, 3)
    assert np.all(np.abs(output["colour_map"]) <= 1)
    blocks = picture.reshape(1, 32, 8, 32, 8, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(model.shrink(picture), blocks, atol=1e-6)
    assert not np.any(model.blank(picture))


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (MaskGeneratorConfig, {"image_size": 200}, "power of two"),
        (MaskGeneratorConfig, {"num_groups": 0}, "num_groups must be at least 1"),
        (MaskGeneratorConfig, {"identity_size": -1}, "identity_size must be at least 0"),
        (MaskGeneratorConfig, {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        (MaskGeneratorConfig, {"num_dropout": 8}, "num_dropout must be from 0 to 7"),
        (ColourDiscriminatorConfig, {"base_width": 0}, "base_width must be at least 1"),
        (ColourDiscriminatorConfig, {"image_size": 16, "num_downs": 3}, "from 1 to 2"),
    ],
)
def test_impossible_settings_are_refused(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        cls(**values)


@pytest.mark.parametrize("config", [TINY, ColourDiscriminatorConfig(norm="instance")], ids=repr)
def test_configs_survive_json(config):
    assert decode(type(config), encode(config)) == config


def test_missing_and_misshapen_inputs_are_named():
    model, inputs = MaskGenerator(TINY), make_inputs()
    with pytest.raises(ConfigError, match=r"the key 'identity' of shape \['B', 5\], got"):
        model({name: inputs[name] for name in ("masks", "colours")})
    with pytest.raises(ConfigError, match=r"'masks' of shape \['B', 16, 16, 3\], got \[2, 8, 16"):
        model({**inputs, "masks": inputs["masks"][:, :8]})
    with pytest.raises(ConfigError, match="takes a dict"):
        model(inputs["masks"])
