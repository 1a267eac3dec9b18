import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.models.perceptual import VGGFeaturesConfig, make_vgg19
from facegan.models.style_sampler import StyleSampler
from facegan.models.stylegan2 import (
    StyleGAN2Synthesis,
    StyleGAN2SynthesisConfig,
    StyleMapping,
    StyleMappingConfig,
)
from facegan.training.perceptual_term import PerceptualTerm
from facegan.training.projector import ProjectionConfig, Projector, StyleStatistics

LAYERS, WIDTH = 2, 3
STATISTICS = StyleStatistics(np.float32([0.5, -0.5, 0.25]), 1.5)
# Pixels alone, of which everything is known by hand.
PIXELS = ProjectionConfig(steps=300, perceptual_weight=0.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


MATRIX = noise(LAYERS * WIDTH, 4 * 4 * 3) / 3


def paint(w):
    return tf.reshape(tf.reshape(w, (-1, LAYERS * WIDTH)) @ MATRIX, (-1, 4, 4, 3))


STYLES = noise(2, LAYERS, WIDTH, seed=1)
PICTURES = (STYLES.reshape(2, -1) @ MATRIX).reshape(2, 4, 4, 3)


def make_projector(config=PIXELS, perceptual=None, **changes):
    config = dataclasses.replace(config, **changes)
    return Projector(paint, LAYERS, STATISTICS, perceptual, config)


@pytest.fixture(scope="module")
def found():
    """What is found for both pictures at once."""
    return make_projector().project(PICTURES)


def test_the_styles_of_a_painted_picture_are_found(found):
    assert found.shape == STYLES.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, STYLES, atol=0.01)


def test_one_style_for_all_layers_is_the_nearest_one():
    found = make_projector(space="w").project(PICTURES)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    both = MATRIX.reshape(LAYERS, WIDTH, -1).sum(axis=0)
    nearest = np.linalg.lstsq(both.T, PICTURES.reshape(2, -1).T, rcond=None)[0].T
    np.testing.assert_allclose(found[:, 0], nearest, atol=0.01)


def test_pictures_do_not_know_of_each_other(found):
    projector = make_projector()
    for i in range(2):
        alone = projector.project(PICTURES[i : i + 1])
        np.testing.assert_allclose(alone, found[i : i + 1], atol=1e-3)


def test_a_few_steps_are_the_same_alone_to_rounding():
    # Before rounding has grown: Adam takes whole steps also of small gradients.
    config = dataclasses.replace(PIXELS, mean_weight=0.1, steps=5)
    together = make_projector(config).project(PICTURES)
    for i in range(2):
        alone = make_projector(config).project(PICTURES[i : i + 1])
        np.testing.assert_allclose(alone, together[i : i + 1], atol=1e-5)


def test_a_search_can_be_repeated(found):
    np.testing.assert_array_equal(make_projector().project(PICTURES), found)
    other = make_projector(seed=124, steps=20).project(PICTURES)
    assert not np.array_equal(other, make_projector(steps=20).project(PICTURES))
    # The seed is that of the noise, and of nothing else.
    silent = [make_projector(seed=s, noise=0.0, steps=20).project(PICTURES) for s in (1, 2)]
    np.testing.assert_array_equal(*silent)


def test_layers_go_together_first():
    projector = make_projector(steps=10, shared=0.5)
    seen = []
    gradient = projector._gradient

    def noting(w, target, maps):
        seen.append(np.asarray(w))
        return gradient(w, target, maps)

    projector._gradient = noting
    projector.project(PICTURES)
    alike = [bool(np.array_equal(w[:, 0], w[:, 1])) for w in seen]
    # The sixth gradient is the first that moves layers apart; its noise differs already.
    assert alike == [True] * 5 + [False] * 5
    # Both pictures get the same noise, and the mean style is where they begin.
    np.testing.assert_array_equal(seen[0][0], seen[0][1])
    random = np.random.default_rng([PIXELS.seed, 0]).standard_normal((LAYERS, WIDTH))[0]
    first = STATISTICS.mean + random * projector.config.noise_at(0.05) * 1.5
    np.testing.assert_allclose(seen[0][0], np.tile(first, (LAYERS, 1)), rtol=1e-5)


def test_the_first_steps_are_adams():
    # Without noise and with layers of their own: gradients by hand, in float64.
    config = dataclasses.replace(PIXELS, steps=8, shared=0.0, noise=0.0)
    found = make_projector(config).project(PICTURES)
    w = np.tile(STATISTICS.mean.astype(np.float64), (2, LAYERS, 1))
    first = second = np.zeros_like(w)
    for step in range(8):
        apart = w.reshape(2, -1) @ MATRIX - PICTURES.reshape(2, -1)
        gradient = (2 / 48 * apart @ MATRIX.T).reshape(w.shape)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        mean, size = first / (1 - 0.9 ** (step + 1)), np.sqrt(second / (1 - 0.999 ** (step + 1)))
        w = w - config.rate_at((step + 0.5) / 8) * mean / (size + 1e-8)
    np.testing.assert_allclose(found, w, atol=1e-5)


def test_a_start_is_where_the_search_begins():
    near = STYLES + 0.05 * noise(2, LAYERS, WIDTH, seed=2)
    config = dataclasses.replace(PIXELS, steps=4, learning_rate=0.01, noise=0.0, shared=1.0)
    found = make_projector(config).project(PICTURES, near)
    # Adam's first steps are no longer than the rate. Layers go their own ways at once.
    moved = found - near
    assert 1e-4 < np.abs(moved).max() < 4 * 0.01
    assert np.abs(moved[:, 0] - moved[:, 1]).max() > 1e-3
    shared = make_projector(config, space="w").project(PICTURES, near)
    np.testing.assert_array_equal(shared[:, 0], shared[:, 1])
    assert np.abs(shared - near.mean(axis=1, keepdims=True)).max() < 4 * 0.01


def test_the_mean_style_draws():
    weight = 0.3
    found = make_projector(mean_weight=weight, pixel_weight=0.5).project(PICTURES)
    # Of 0.5 |wM - x|^2 / 48 + 0.3 |w - mean|^2 / (2 layers 1.5^2) the least, by linear algebra.
    ridge = weight / (LAYERS * 1.5**2)
    mean = np.tile(STATISTICS.mean, LAYERS)
    matrix = 0.5 / 48 * MATRIX @ MATRIX.T + ridge * np.eye(LAYERS * WIDTH)
    right = 0.5 / 48 * PICTURES.reshape(2, -1) @ MATRIX.T + ridge * mean
    expected = np.linalg.solve(matrix, right.T).T
    np.testing.assert_allclose(found.reshape(2, -1), expected, atol=0.01)


def test_progress_is_told():
    told = []
    make_projector(steps=3).project(PICTURES, progress=lambda *args: told.append(args))
    assert told == [(1, 3, "step"), (2, 3, "step"), (3, 3, "step")]


class Noting(keras.Model):
    """Maps that are the pictures themselves, and the sizes at which they came."""

    sizes: list[tuple[int, ...]] = []

    def call(self, inputs):
        self.sizes.append(tuple(inputs["image"].shape[1:3]))
        return (inputs["image"],)


@pytest.mark.parametrize(("size", "seen"), [(16, 16), (512, 256)])
def test_the_network_sees_no_large_pictures(size, seen):
    net = Noting()
    Noting.sizes = []
    term = PerceptualTerm(lambda dtype: net, (1.0,))
    term.prepare("float32")

    # One colour and a chequered part, which fades away where four pixels become one.
    chequered = np.indices((size, size)).sum(axis=0)[:, :, None] % 2 - 0.5

    def paint(w):
        colour = tf.reshape(w[:, 0], (-1, 1, 1, 3))
        return colour + tf.reshape(w[:, 1, :1], (-1, 1, 1, 1)) * chequered.astype(np.float32)

    config = ProjectionConfig(steps=30, pixel_weight=0.0, noise=0.0, shared=0.0)
    start = np.zeros((1, 2, 3), np.float32)
    start[0, 1, 0] = 1.0
    wanted = np.float32([[[0.3, -0.2, 0.4], [0.0, 0.0, 0.0]]])
    projector = Projector(paint, 2, STATISTICS, term, config)
    found = projector.project(np.asarray(paint(wanted)), start)
    assert set(Noting.sizes) == {(seen, seen)}
    np.testing.assert_allclose(found[0, 0], wanted[0, 0], atol=0.05)
    moved = abs(found[0, 1, 0] - 1.0)
    assert moved < 1e-6 if seen < size else moved > 0.1


def test_terms_that_weigh_nothing_are_left_out():
    def never(images):
        raise AssertionError("the network was asked")

    term = PerceptualTerm(lambda dtype: never, (1.0,))
    term.prepare("float32")
    make_projector(perceptual=term, steps=1).project(PICTURES)


def test_pictures_of_a_net_come_nearer():
    config = StyleGAN2SynthesisConfig(image_size=32, base_width=256, max_width=8, style_size=6)
    nets = (
        StyleGAN2Synthesis(config),
        StyleMapping(StyleMappingConfig(latent_size=5, style_size=6, num_layers=2)),
    )
    for net in nets:
        net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    sampler = StyleSampler(*nets)
    drawn = sampler.map_style({"latent": noise(50, 5), "truncation": np.ones(50, np.float32)})
    statistics = StyleStatistics.of(np.asarray(drawn)[:, 0])
    pictures = np.asarray(sampler({"w": drawn[:2]}))
    layers = VGGFeaturesConfig(layers=("relu1_1", "relu2_1"))
    term = PerceptualTerm(lambda **kwargs: make_vgg19("random", layers, **kwargs), (0.5, 1.0))
    term.prepare("float32")
    projector = Projector(
        lambda w: sampler({"w": w}),
        config.num_styles,
        statistics,
        term,
        ProjectionConfig(steps=25),
    )

    def far(w):
        images = np.asarray(sampler({"w": w}))
        return float(np.square(images - pictures).mean()), float(term(images, pictures))

    before = far(np.tile(statistics.mean, (2, config.num_styles, 1)))
    after = far(projector.project(pictures))
    assert after[0] < 0.5 * before[0] and after[1] < 0.8 * before[1]


def test_the_rate_rises_and_falls():
    config = ProjectionConfig(learning_rate=0.2, rise=0.1, fall=0.5)
    assert config.rate_at(0.05) == pytest.approx(0.1)
    assert config.rate_at(0.1) == config.rate_at(0.5) == pytest.approx(0.2)
    assert config.rate_at(0.75) == pytest.approx(0.2 * 0.5)  # the middle of a cosine
    assert config.rate_at(0.875) == pytest.approx(0.2 * (0.5 - 0.5 * math.cos(math.pi / 4)))
    assert config.rate_at(1.0) == pytest.approx(0.0)
    flat = ProjectionConfig(learning_rate=0.2, rise=0.0, fall=0.0)
    assert [flat.rate_at(done) for done in (0.0, 0.5, 1.0)] == [0.2] * 3


def test_the_noise_fades_away():
    config = ProjectionConfig(noise=0.08, noise_until=0.5)
    assert config.noise_at(0.0) == pytest.approx(0.08)
    assert config.noise_at(0.25) == pytest.approx(0.02)
    assert config.noise_at(0.5) == config.noise_at(0.9) == 0.0
    assert ProjectionConfig(noise_until=0.0).noise_at(0.0) == 0.0


def test_statistics_of_styles():
    styles = np.float32([[1, 2], [3, 6], [5, -2]])
    statistics = StyleStatistics.of(styles)
    np.testing.assert_allclose(statistics.mean, [3, 2])
    # Squared distances from the mean: 4, 16 and 4 + 16.
    assert statistics.deviation == pytest.approx(np.sqrt(40 / 3))
    assert statistics.mean.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "projection.steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "projection.learning_rate must be above 0, got 0.0"),
        ({"rise": -0.1}, r"projection.rise must be in \[0, 1\], got -0.1"),
        ({"fall": 1.1}, r"projection.fall must be in \[0, 1\]"),
        ({"shared": 2.0}, r"projection.shared must be in \[0, 1\]"),
        ({"noise_until": -1.0}, r"projection.noise_until must be in \[0, 1\]"),
        ({"noise": -0.1}, "projection.noise must be >= 0"),
        ({"mean_weight": -1.0}, "projection.mean_weight must be >= 0"),
        ({"perceptual_weight": 0.0, "pixel_weight": 0.0}, "compares pictures by nothing: give"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ProjectionConfig(**settings)
