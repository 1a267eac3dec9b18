import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.models.stargan_v2 import (
    MappingConfig,
    MappingNetwork,
    StarDiscriminator,
    StarDiscriminatorConfig,
    StarGenerator,
    StarGeneratorConfig,
    StarStyleEncoder,
    StarStyleEncoderConfig,
    high_pass,
)

TINY = {"image_size": 32, "base_width": 4, "max_width": 8}


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


def pictures(channels=3, seed=0, low=-1.0):
    values = np.random.default_rng(seed).uniform(low, 1, (2, 32, 32, channels))
    return values.astype(np.float32)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (StarGenerator(StarGeneratorConfig()), 33_892_995),
        # The authors' net owns 172,032 more, the shortcuts that it does not use.
        (StarGenerator(StarGeneratorConfig(high_pass=1.0)), 43_467_395 - 172_032),
        (MappingNetwork(MappingConfig()), 2_438_272),
        (MappingNetwork(MappingConfig(num_domains=3)), 3_259_072),
        (StarStyleEncoder(StarStyleEncoderConfig()), 20_916_928),
        (StarStyleEncoder(StarStyleEncoderConfig(num_domains=3)), 20_949_760),
        (StarDiscriminator(StarDiscriminatorConfig()), 20_852_290),
        (StarDiscriminator(StarDiscriminatorConfig(num_domains=3)), 20_852_803),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_parameters_are_the_authors(net, expected):
    assert built(net).count_params() == expected


def test_a_domain_has_a_head_of_its_own():
    net = built(MappingNetwork(MappingConfig(width=8, style_size=4, num_domains=3)))
    latent = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    mixed = np.asarray(net({"latent": latent, "domain": np.array([2, 0, 1])}))
    for row, domain in enumerate((2, 0, 1)):
        alone = net({"latent": latent, "domain": np.full(3, domain)})
        np.testing.assert_allclose(mixed[row], np.asarray(alone)[row], rtol=1e-5)
    assert not np.allclose(mixed[0], np.asarray(net({"latent": latent, "domain": np.zeros(3)}))[0])


def test_high_pass_is_a_pixel_less_its_neighbours():
    x = np.random.default_rng(2).normal(size=(1, 4, 5, 2)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = sum(padded[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3))
    np.testing.assert_allclose(high_pass(x), 9 * x - around, atol=1e-5)


def test_masks_let_details_through():
    config = StarGeneratorConfig(**TINY, style_size=4, high_pass=2.0)
    net = built(StarGenerator(config))
    inputs = {"image": pictures(), "style": np.zeros((2, 4), np.float32)}
    closed = {name: np.zeros((2, 32, 32, 1)) for name in ("coarse_mask", "fine_mask")}
    plain = net(inputs)
    np.testing.assert_allclose(net({**inputs, **closed}), plain, atol=1e-6)
    opened = net({**inputs, **closed, "coarse_mask": np.ones((2, 32, 32, 1))})
    assert np.abs(np.asarray(opened) - plain).max() > 1e-2
    # At 32 px the coarse one counts.
    face = net({**inputs, **closed, "fine_mask": np.ones((2, 32, 32, 1))})
    np.testing.assert_allclose(face, plain, atol=1e-6)


def test_bad_settings_and_inputs_are_refused():
    with pytest.raises(ConfigError, match="high_pass must be at least 0, got -1"):
        StarGeneratorConfig(high_pass=-1)
    with pytest.raises(ConfigError, match="image_size"):
        StarDiscriminatorConfig(image_size=100)
    with pytest.raises(ConfigError, match="num_domains must be at least 1, got 0"):
        MappingConfig(num_domains=0)
    net = built(StarGenerator(StarGeneratorConfig(**TINY, style_size=4, high_pass=1.0)))
    inputs = {"image": pictures(), "style": np.zeros((2, 4)), "fine_mask": pictures(1)}
    with pytest.raises(ConfigError, match="both masks or neither, got only fine_mask"):
        net(inputs)
    small = {name: np.zeros((2, 16, 16, 1)) for name in ("fine_mask", "coarse_mask")}
    with pytest.raises(ConfigError, match="of 32x32 pixels, got 16x16"):
        net({**inputs, **small})
    judge = built(StarDiscriminator(StarDiscriminatorConfig(**TINY)))
    with pytest.raises(ConfigError, match="takes pictures of 32x32 pixels, got 64x64"):
        judge({"image": np.zeros((1, 64, 64, 3)), "domain": np.zeros(1)})
