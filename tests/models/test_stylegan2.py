import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.layers.fast_paths import allow_fast_paths
from facegan.models.configured import copy_net
from facegan.models.stylegan2 import (
    MinibatchDeviation,
    StyledConv2D,
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Synthesis,
    StyleGAN2SynthesisConfig,
    StyleMapping,
    StyleMappingConfig,
    mix_w,
    repeat_w,
)
from tests.conformance.harness import randomize

TINY = {"image_size": 16, "base_width": 64, "max_width": 8}


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tiny_synthesis():
    net = built(StyleGAN2Synthesis(StyleGAN2SynthesisConfig(**TINY, style_size=5)))
    randomize(net)
    return net


def num_parameters(net):
    # The authors count no stored noise and no mean style.
    return sum(int(np.prod(v.shape)) for v in built(net).trainable_variables)


# Layers of the mapping net, size, base width, parameters of the generator's nets together.
@pytest.mark.parametrize(
    ("layers", "size", "width", "generator", "discriminator"),
    [
        (2, 256, 16384, 23_191_522, 24_001_089),
        (8, 256, 16384, 24_767_458, 24_001_089),
        (8, 256, 32768, 30_034_338, 28_864_129),
        (8, 512, 32768, 30_276_583, 28_982_849),
        (8, 1024, 32768, 30_370_060, 29_012_513),
    ],
)
def test_parameters_are_the_authors(layers, size, width, generator, discriminator):
    sizes = {"image_size": size, "base_width": width}
    mapping = StyleMapping(StyleMappingConfig(num_layers=layers))
    synthesis = StyleGAN2Synthesis(StyleGAN2SynthesisConfig(**sizes))
    assert num_parameters(mapping) + num_parameters(synthesis) == generator
    judge = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(**sizes))
    assert num_parameters(judge) == discriminator


def test_noise_is_stored_random_or_none():
    layer = StyledConv2D(4)
    given = {"features": noise(2, 5, 6, 3), "style": noise(2, 3, seed=1)}
    layer.build({name: value.shape for name, value in given.items()})
    none = np.asarray(layer(given, noise="none"))
    # At the start noise has no strength.
    np.testing.assert_array_equal(layer(given), none)
    layer.noise_strength.assign(0.5)
    const = np.asarray(layer(given))
    assert np.abs(const - none).max() > 0.1
    np.testing.assert_array_equal(layer(given, training=True, noise="const"), const)
    random = np.asarray(layer(given, noise="random", seed=np.int32([1, 2])))
    assert np.abs(random - const).max() > 0.1
    with pytest.raises(ConfigError, match="needs a seed"):
        layer(given, noise="random")
    with pytest.raises(ConfigError, match="Did you mean 'const'"):
        layer(given, noise="cons")


def test_truncation_goes_towards_the_mean_style():
    net = built(StyleMapping(StyleMappingConfig(latent_size=4, style_size=3, num_layers=2)))
    net.w_avg.assign([1.0, 2.0, 3.0])
    z = noise(2, 4)
    w, mean = np.asarray(net({"latent": z})), np.asarray(net.w_avg)
    np.testing.assert_allclose(net({"latent": z}, truncation=0.0), np.tile(mean, (2, 1)))
    np.testing.assert_allclose(
        net({"latent": z}, truncation=0.7), mean + 0.7 * (w - mean), rtol=1e-5
    )
    layers = np.asarray(net.truncate(repeat_w(w, 3), 0.5, num_truncated=2))
    np.testing.assert_allclose(layers[:, 0], mean + 0.5 * (w - mean), rtol=1e-5)
    np.testing.assert_array_equal(layers[:, 2], w)
    with pytest.raises(ConfigError, match=r"num_truncated needs styles of shape \[B, L, W\]"):
        net.truncate(w, 0.5, num_truncated=2)


def test_only_training_moves_the_mean_style():
    config = StyleMappingConfig(latent_size=4, style_size=3, num_layers=2, average_decay=0.9)
    net, z = built(StyleMapping(config)), noise(2, 4)
    w = np.asarray(net({"latent": z}))
    np.testing.assert_array_equal(net.w_avg, np.zeros(3))
    np.testing.assert_array_equal(net({"latent": z}, training=True), w)
    np.testing.assert_allclose(net.w_avg, 0.1 * w.mean(axis=0), rtol=1e-5)


def test_a_latents_length_does_not_count():
    net, z = built(StyleMapping(StyleMappingConfig(latent_size=4, style_size=3))), noise(2, 4)
    np.testing.assert_allclose(net({"latent": z}), net({"latent": 5 * z}), rtol=1e-4)


def test_mixing_takes_fine_styles_from_the_second():
    first, second = np.zeros((2, 4, 3), np.float32), np.ones((2, 4, 3), np.float32)
    mixed = np.asarray(mix_w(first, second, 1))
    np.testing.assert_array_equal(mixed[:, :, 0], [[0, 1, 1, 1]] * 2)
    mixed = np.asarray(mix_w(first, second, np.array([3, 0])))
    np.testing.assert_array_equal(mixed[:, :, 0], [[0, 0, 0, 1], [1, 1, 1, 1]])


def test_styles_of_layers_can_be_changed():
    net, w = tiny_synthesis(), noise(2, 6, 5)
    styles = net.styles_of(w)
    assert list(styles) == [
        "conv_4", "rgb_4", "up_8", "conv_8", "rgb_8", "up_16", "conv_16", "rgb_16",
    ]  # fmt: skip
    whole = np.asarray(net({"w": w}))
    np.testing.assert_array_equal(net.paint_styles(styles), whole)
    edited = {**styles, "conv_8": styles["conv_8"] * np.float32([2, 1, 1, 1, 1, 1, 1, 1])}
    image, features = net.trace_styles(edited)
    before = net.trace_styles(styles)[1]
    assert np.abs(np.asarray(image) - whole).max() > 1e-4
    assert features["conv_8"].shape == (2, 8, 8, 8)
    np.testing.assert_array_equal(features["up_8"], before["up_8"])
    with pytest.raises(ConfigError, match="no other: conv_8 is missing or unknown"):
        net.paint_styles({name: style for name, style in styles.items() if name != "conv_8"})


def test_coarse_and_fine_styles_reach_their_layers():
    net, w = tiny_synthesis(), noise(1, 6, 5)
    changed = w.copy()
    changed[:, 3] += 1
    before, after = net.styles_of(w), net.styles_of(changed)
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert moved == ["rgb_8", "up_16"]


def test_deviation_is_that_of_groups_across_the_batch():
    x = noise(4, 3, 2, 5)
    out = np.asarray(MinibatchDeviation(2)(x))
    np.testing.assert_array_equal(out[..., :5], x)
    for i in range(2):
        deviation = np.sqrt(x[i::2].var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(out[i::2, :, :, 5], deviation, rtol=1e-5)
    # A smaller batch is one group, also when its size is known only at run time.
    free = tf.function(MinibatchDeviation(8), input_signature=[tf.TensorSpec((None, 3, 2, 5))])
    np.testing.assert_allclose(free(x), MinibatchDeviation(4)(x), rtol=1e-6)
    with pytest.raises(ConfigError, match="groups of 3, which a batch of 4"):
        MinibatchDeviation(3)(x)


def test_float64_copy_differs_by_rounding_alone():
    net, w = tiny_synthesis(), noise(2, 6, 5)
    exact = copy_net(net, "float64")
    assert exact.painters[0].conv.kernel.dtype == "float64"
    np.testing.assert_allclose(net({"w": w}), exact({"w": w}), atol=1e-4)


def test_clamp_bounds_what_the_convolutions_give():
    net = tiny_synthesis()
    low = built(StyleGAN2Synthesis(StyleGAN2SynthesisConfig(**TINY, style_size=5, conv_clamp=0.1)))
    for mine, its in zip(low.variables, net.variables, strict=True):
        mine.assign(its)
    features = low.trace_styles(low.styles_of(noise(2, 6, 5)))[1]
    largest = [np.abs(np.asarray(value)).max() for value in features.values()]
    assert max(largest) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_penalties_on_gradients_reach_the_weights(compiled):
    net, w = tiny_synthesis(), tf.constant(noise(2, 6, 5))
    judge = built(StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(**TINY)))
    randomize(judge)
    kernels = [net.painters[2].conv.kernel.value, judge.downs[0].conv_1.kernel.value]

    @tf.function(jit_compile=compiled)
    def gradients(w):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(w)
                image = net({"w": w})
            path = tf.reduce_sum(tf.square(inner.gradient(image, w)))
            with tf.GradientTape() as inner:
                inner.watch(image)
                logits = judge({"image": image})["logits"]
            r1 = tf.reduce_sum(tf.square(inner.gradient(logits, image)))
            loss = path + r1
        return outer.gradient(loss, kernels)

    with allow_fast_paths(not compiled):
        found = gradients(w)
    for gradient in map(np.asarray, found):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)


def test_bad_settings_and_inputs_are_refused():
    with pytest.raises(ConfigError, match="image_size"):
        StyleGAN2SynthesisConfig(image_size=100)
    with pytest.raises(ConfigError, match="base_width must be at least image_size"):
        StyleGAN2DiscriminatorConfig(image_size=64, base_width=32)
    with pytest.raises(ConfigError, match="conv_clamp must be at least 0, got -1"):
        StyleGAN2SynthesisConfig(conv_clamp=-1)
    with pytest.raises(ConfigError, match="num_layers must be greater than 0, got 0"):
        StyleMappingConfig(num_layers=0)
    with pytest.raises(ConfigError, match=r"average_decay must be in \[0, 1\]"):
        StyleMappingConfig(average_decay=2)
    with pytest.raises(ConfigError, match=r"'w' of shape \[B, 6, 5\], got \[2, 5\]"):
        tiny_synthesis()({"w": noise(2, 5)})
    mapping = built(StyleMapping(StyleMappingConfig(latent_size=4, num_layers=1)))
    with pytest.raises(ConfigError, match=r"'latent' of shape \[B, 4\], got \[2, 5\]"):
        mapping({"latent": noise(2, 5)})
    judge = built(StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(**TINY)))
    with pytest.raises(ConfigError, match="takes pictures of 16x16 pixels, got 32x32"):
        judge({"image": np.zeros((2, 32, 32, 3))})
