import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.losses.adversarial import bce_discriminator_loss, bce_generator_loss
from facegan.models.pix2pix import PatchDiscriminatorConfig, UNetConfig
from facegan.training.recipes.pix2pix import Pix2PixConfig, Recipe

SEED = np.array([1, 2], np.int32)


def make_recipe(**kwargs):
    return Recipe(
        Pix2PixConfig(
            generator=UNetConfig(image_size=16, base_width=4, depth=2, norm="instance", dropout=0),
            discriminator=PatchDiscriminatorConfig(
                image_size=16, base_width=4, num_layers=1, norm="instance"
            ),
            **kwargs,
        )
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
        for name in ("condition", "image")
    }


def compute(recipe, nets, batch, phase):
    return recipe.compute(phase, nets, batch, SEED, 0, {})


def test_losses_are_the_papers_formula(batch):
    recipe = make_recipe(l1_weight=7.0, adversarial_weight=3.0, discriminator_weight=0.5)
    nets = recipe.build_nets("float32")
    fake = nets["generator"]({"condition": batch["condition"]}, training=True, seed=SEED)
    judge = nets["discriminator"]
    real_logits = judge(batch, training=True, seed=SEED)["logits"]
    fake_logits = judge({**batch, "image": fake}, training=True, seed=SEED)["logits"]
    l1 = np.abs(np.asarray(fake) - batch["image"]).mean()
    generator = compute(recipe, nets, batch, "generator").losses["G"]
    expected = 7.0 * l1 + 3.0 * float(bce_generator_loss(fake_logits))
    assert float(generator) == pytest.approx(expected, rel=1e-5)
    discriminator = compute(recipe, nets, batch, "discriminator").losses["D"]
    expected = 0.5 * float(bce_discriminator_loss(real_logits, fake_logits))
    assert float(discriminator) == pytest.approx(expected, rel=1e-5)


def test_simultaneous_losses_equal_the_alternating_ones(batch):
    nets = make_recipe().build_nets("float32")
    alternating, both = make_recipe(), make_recipe(update="simultaneous")
    assert [p.name for p in alternating.phases] == ["discriminator", "generator"]
    assert [p.name for p in both.phases] == ["both"]
    joint = compute(both, nets, batch, "both")
    for phase, loss in (("discriminator", "D"), ("generator", "G")):
        single = compute(alternating, nets, batch, phase).losses[loss]
        assert float(joint.losses[loss]) == pytest.approx(float(single), rel=1e-6)


def test_optional_terms_are_reported_and_weighted(batch):
    plain = make_recipe(adversarial_weight=0.0)
    nets = plain.build_nets("float32")
    base = compute(plain, nets, batch, "generator")
    assert set(base.terms) == {"G/l1"}
    full = make_recipe(
        adversarial_weight=0.0, feature_weight=2.0, perceptual_weight=5.0, perceptual_net="random"
    )
    full.prepare("float32")
    result = compute(full, nets, batch, "generator")
    assert set(result.terms) == {"G/l1", "G/feat", "G/perceptual"}
    added = 2.0 * float(result.terms["G/feat"]) + 5.0 * float(result.terms["G/perceptual"])
    assert float(result.losses["G"]) == pytest.approx(float(base.losses["G"]) + added, rel=1e-5)


def test_preview_shows_condition_fake_and_image(batch):
    recipe = make_recipe()
    nets = recipe.build_nets("float32")
    columns = recipe.preview(nets, batch)
    assert [tuple(c.shape) for c in columns] == [(2, 16, 16, 3)] * 3
    np.testing.assert_array_equal(columns[0], batch["condition"])
    np.testing.assert_array_equal(columns[2], batch["image"])


def test_serving_names_the_generator():
    serving = make_recipe().serving()
    assert serving.net == "generator"
    assert serving.inputs[0].shape == (None, None, None, 3)
    assert serving.size_multiple == 2 ** make_recipe().config.generator.levels
    assert isinstance(make_recipe().build_nets("float32")[serving.net], keras.Model)


def test_negative_weights_are_refused():
    with pytest.raises(ConfigError, match="recipe.l1_weight must be >= 0, got -1.0"):
        make_recipe(l1_weight=-1.0)
