import numpy as np
import pytest

from facegan.models.configured import copy_net
from facegan.models.style_sampler import StyleSampler, scale_widths
from facegan.models.stylegan2 import (
    StyleGAN2Synthesis,
    StyleGAN2SynthesisConfig,
    StyleMapping,
    StyleMappingConfig,
)
from tests.conformance.harness import randomize

LATENT, STYLE, CLUSTER = 4, 5, 8
# What each layer scales the channels of: the feature maps that a layer before it gave.
GIVEN = {
    "conv_4": "const",
    "rgb_4": "conv_4",
    "up_8": "conv_4",
    "conv_8": "up_8",
    "rgb_8": "conv_8",
    "up_16": "conv_8",
    "conv_16": "up_16",
    "rgb_16": "conv_16",
}


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    randomize(net)
    return net


@pytest.fixture(scope="module")
def sampler():
    """One of 16 px with 8 channels at 4 and 8 px and 4 at 16."""
    config = StyleGAN2SynthesisConfig(image_size=16, base_width=64, max_width=8, style_size=STYLE)
    mapping = StyleMappingConfig(latent_size=LATENT, style_size=STYLE, num_layers=2)
    return StyleSampler(
        built(StyleGAN2Synthesis(config)), built(StyleMapping(mapping)), cluster_size=CLUSTER
    )


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


W = noise(2, 6, STYLE)


def features_of(sampler, w=W):
    """Layer -> the features whose channels it scales, [B, H, W, C]."""
    synthesis = sampler.synthesis
    _, features = synthesis.trace_styles(synthesis.styles_of(w), noise="const")
    features["const"] = np.tile(np.asarray(synthesis.const), (len(w), 1, 1, 1))
    return {name: np.asarray(features[given]) for name, given in GIVEN.items()}


def test_a_picture_of_scales_is_the_picture_of_their_styles(sampler):
    image = np.asarray(sampler({"w": W}))
    assert image.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(image, sampler.synthesis({"w": W}, noise="const"))
    scales = sampler.find_scales({"w": W})
    assert list(scales) == list(GIVEN)
    np.testing.assert_array_equal(sampler.paint_scales(scales), image)
    # One channel: a convolution would undo what scales all of them.
    changed = {**scales, "conv_8": scales["conv_8"] * np.float32([3, 1, 1, 1, 1, 1, 1, 1])}
    assert np.abs(np.asarray(sampler.paint_scales(changed)) - image).max() > 1e-4


def test_layers_have_the_widths_that_are_told(sampler):
    widths = {name: scale.shape[1] for name, scale in sampler.find_scales({"w": W}).items()}
    assert scale_widths(sampler.synthesis) == widths
    assert widths == dict.fromkeys(GIVEN, 8) | {"conv_16": 4, "rgb_16": 4}
    # The net need not be built for it.
    assert scale_widths(StyleGAN2Synthesis(sampler.synthesis.config)) == widths


def test_each_style_is_truncated_as_it_asks(sampler):
    latent = noise(3, LATENT, seed=1)
    mapped = np.asarray(sampler.mapping({"latent": latent}))
    mean = np.asarray(sampler.mapping.w_avg)
    assert np.abs(mapped - mean).max() > 1e-3
    found = sampler.map_style({"latent": latent, "truncation": np.float32([0.0, 1.0, 0.25])})
    assert found.shape == (3, 6, STYLE)
    expected = np.stack([mean, mapped[1], mean + 0.25 * (mapped[2] - mean)])
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 6, axis=1), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(sampler.mapping.w_avg), mean)


def test_features_are_those_of_the_layer_of_that_size(sampler):
    found = sampler.trace_features({"w": W})
    assert found.shape == (2, CLUSTER, CLUSTER, 8)
    np.testing.assert_array_equal(found, features_of(sampler)["rgb_8"])


def fit(membership, size):
    """By hand: the mean over the pixels that fall together, or the pixel that one lies in."""
    if size < CLUSTER:
        n = CLUSTER // size
        blocks = membership.reshape(2, size, n, size, n, -1)
        return blocks.mean(axis=(2, 4))
    places = np.arange(size) * CLUSTER // size
    return membership[:, places][:, :, places]


def test_channels_are_weighed_as_a_loop_does(sampler):
    membership = np.random.default_rng(2).uniform(size=(2, CLUSTER, CLUSTER, 3))
    membership = membership.astype(np.float32)
    found = sampler.weigh_channels({"w": W, "membership": membership})
    assert list(found) == list(GIVEN)
    for name, x in features_of(sampler).items():
        size, channels = x.shape[1], x.shape[3]
        shares = fit(membership, size)
        expected = np.zeros((2, 2, 3, channels))
        for b in range(2):
            for k in range(3):
                for c in range(channels):
                    weighed = x[b, :, :, c] * shares[b, :, :, k]
                    expected[b, 0, k, c] = weighed.mean()
                    expected[b, 1, k, c] = (x[b, :, :, c] * weighed).mean()
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_clusters_of_the_whole_picture_share_its_means_out(sampler):
    share = np.random.default_rng(3).uniform(size=(2, CLUSTER, CLUSTER, 1)).astype(np.float32)
    membership = np.concatenate([share, 1 - share], axis=-1)
    found = sampler.weigh_channels({"w": W, "membership": membership})
    for name, x in features_of(sampler).items():
        whole = np.stack([x.mean(axis=(1, 2)), np.square(x).mean(axis=(1, 2))], axis=1)
        np.testing.assert_allclose(np.sum(found[name], axis=2), whole, atol=1e-5, err_msg=name)


def test_maps_are_clustered_at_the_size_of_the_picture_at_most(sampler):
    assert StyleSampler(sampler.synthesis, sampler.mapping).cluster_size == 16
    assert sampler.cluster_size == CLUSTER


def test_a_copy_in_bfloat16_gives_about_the_same(sampler):
    low = StyleSampler(
        copy_net(sampler.synthesis, "bfloat16"), sampler.mapping, cluster_size=CLUSTER
    )
    assert low.compute_dtype == "bfloat16"
    membership = np.ones((2, CLUSTER, CLUSTER, 1), np.float32)

    def outputs(net):
        scales = net.find_scales({"w": W})
        weighed = net.weigh_channels({"w": W, "membership": membership})
        given = {"image": net({"w": W}), "again": net.paint_scales(scales)}
        given["features"] = net.trace_features({"w": W})
        return {**given, **scales, **{f"weight of {name}": x for name, x in weighed.items()}}

    exact = outputs(sampler)
    for name, value in outputs(low).items():
        assert value.dtype == "float32", name
        apart, size = np.abs(np.asarray(value) - exact[name]), np.abs(exact[name]).max()
        assert np.isfinite(value).all() and apart.max() < 0.1 * size, name


def test_it_holds_the_weights_of_both_nets(sampler):
    mine = {id(variable) for variable in sampler.variables}
    nets = (sampler.synthesis, sampler.mapping)
    assert mine == {id(variable) for net in nets for variable in net.variables}
