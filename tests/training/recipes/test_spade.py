import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.losses.adversarial import hinge_discriminator_loss, hinge_generator_loss
from facegan.losses.features import feature_matching_loss
from facegan.models.spade import SpadeConfig, SpadeDiscriminatorConfig, StyleEncoderConfig
from facegan.training.devices import make_strategy
from facegan.training.recipes.spade import Recipe, SpadeRecipeConfig
from facegan.training.trainer import TrainConfig, Trainer
from tests.spectral import settle

SEED = np.array([1, 2], np.int32)
SIZE = 128
TRAIN = TrainConfig(steps=10, precision="float32", xla="off")


def make_recipe(norm="instance", style=False, **kwargs):
    style_size = 6 if style else None
    settings = {"perceptual_weight": 0.0, **kwargs}
    return Recipe(
        SpadeRecipeConfig(
            generator=SpadeConfig(
                image_size=SIZE, base_width=1, hidden_width=4, norm=norm, style_size=style_size
            ),
            discriminator=SpadeDiscriminatorConfig(image_size=SIZE, base_width=4),
            encoder=StyleEncoderConfig(image_size=SIZE, style_size=6, base_width=2)
            if style
            else None,
            **settings,
        )
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 19, (2, SIZE // 8, SIZE // 8)).repeat(8, axis=1).repeat(8, axis=2)
    return {
        "label_map": labels.astype(np.uint8),
        "image": rng.uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32),
    }


def make_trainer(norm, replicas):
    return Trainer(
        make_recipe(norm, update="simultaneous"), TRAIN, strategy=make_strategy(replicas)
    )


def compute(recipe, nets, batch, phase):
    return recipe.compute(phase, nets, batch, SEED, 0, {})


def test_losses_are_the_papers_formula(batch):
    recipe = make_recipe(l1_weight=7.0, discriminator_weight=0.5)
    nets = recipe.build_nets("float32")
    settle(*nets.values())
    fake = nets["generator"]({"label_map": batch["label_map"]}, training=True)
    judge = nets["discriminator"]
    real = judge(batch, training=True)
    made = judge({**batch, "image": fake}, training=True)
    features = feature_matching_loss(real["features"], made["features"])
    l1 = np.abs(np.asarray(fake) - batch["image"]).mean()
    # Ten times the sum over the four maps of a scale, averaged over the scales.
    expected = float(hinge_generator_loss(made["logits"])) + 40 * float(features) + 7 * l1
    result = compute(recipe, nets, batch, "generator")
    assert float(result.losses["G"]) == pytest.approx(expected, rel=1e-3)
    expected = 0.5 * float(hinge_discriminator_loss(real["logits"], made["logits"]))
    result = compute(recipe, nets, batch, "discriminator")
    assert float(result.losses["D"]) == pytest.approx(expected, rel=1e-3)


def test_style_costs_its_distance_from_the_normal_distribution(batch):
    recipe = make_recipe(style=True, kl_weight=0.5)
    nets = recipe.build_nets("float32")
    assert set(recipe.optimizers) == set(nets) == {"generator", "encoder", "discriminator"}
    result = compute(recipe, nets, batch, "generator")
    adversarial, features = float(result.terms["G/adv"]), float(result.terms["G/feat"])
    expected = adversarial + 40 * features + 0.5 * float(result.terms["G/kl"])
    assert float(result.losses["G"]) == pytest.approx(expected, rel=1e-5)


def test_the_perceptual_stand_in_is_named(batch, caplog):
    recipe = make_recipe(perceptual_weight=2.0, perceptual_net="random")
    nets = recipe.build_nets("float32")
    assert not caplog.text
    recipe.prepare("float32")
    assert "random stand-in" in caplog.text
    assert "G/perceptual" in compute(recipe, nets, batch, "generator").terms


def train(trainer, batch, steps=2):
    for _ in range(steps):
        terms = trainer.train_step(batch)
    assert all(np.isfinite(float(value)) for value in terms.values())
    return {
        f"{name}/{variable.path}": np.array(variable)
        for name, net in trainer.state.nets.items()
        for variable in net.variables
    }


@pytest.mark.parametrize(
    "update", [pytest.param("alternating", marks=pytest.mark.slow), "simultaneous"]
)
def test_training_changes_every_net(batch, update):
    recipe = make_recipe(style=True, update=update)
    trainer = Trainer(recipe, TRAIN)
    first = train(trainer, batch, 1)
    second = train(trainer, batch, 1)
    for net in ("generator", "encoder", "discriminator"):
        names = [name for name in first if name.startswith(net) and "kernel" in name]
        assert names and any(not np.array_equal(first[name], second[name]) for name in names)


@pytest.mark.slow
def test_two_replicas_with_synchronised_batch_norm_equal_one(batch, two_cpus):
    one, two = (
        train(make_trainer("sync_batch", replicas), batch) for replicas in (1, len(two_cpus))
    )
    for name, value in one.items():
        # Adam divides by the root of tiny second moments, which blows up rounding.
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(two[name], value, atol=2e-3 * scale, err_msg=name)
    plain = train(make_trainer("batch", len(two_cpus)), batch, 1)
    moving = [name for name in one if name.endswith("moving_variance")]
    # Half the batch each gives other variances: what synchronising is for.
    assert any(np.abs(plain[name] - one[name]).max() > 1e-3 for name in moving)


def test_synchronised_norms_and_xla_exclude_each_other_on_several_devices(two_cpus):
    config = TrainConfig(steps=1, precision="float32", xla="on")
    with pytest.raises(ConfigError, match="synchronised over 2 devices.*train.xla=off"):
        Trainer(make_recipe("sync_batch"), config, strategy=make_strategy(len(two_cpus)))
    Trainer(make_recipe("sync_batch"), config)


def test_preview_shows_labels_in_colours_fake_and_image(batch):
    for style in (False, True):
        recipe = make_recipe(style=style)
        columns = recipe.preview(recipe.build_nets("float32"), batch)
        assert [tuple(c.shape) for c in columns] == [(2, SIZE, SIZE, 3)] * 3
        assert columns[0].min() >= -1 and columns[0].max() <= 1
        np.testing.assert_array_equal(columns[2], batch["image"])


def test_serving_takes_labels_and_with_a_style_a_picture(batch):
    serving = make_recipe().serving()
    assert [(s.name, s.dtype) for s in serving.inputs] == [("label_map", "uint8")]
    assert serving.inputs[0].shape == serving.outputs[0].shape[:3] == (None, None, None)
    assert serving.labels is not None and serving.labels.name == "celebamask19"
    recipe = make_recipe(style=True)
    assert None not in recipe.serving().inputs[0].shape[1:]  # the style becomes a map of one size
    serving, nets = recipe.serving(), recipe.build_nets("float32")
    served = serving.simplify(
        *(nets[n] for n in (serving.net, *serving.with_nets)), dtype="float32"
    )
    picture = served({"label_map": batch["label_map"], "style_image": batch["image"]})
    style = nets["encoder"]({"image": batch["image"]})["mean"]
    expected = nets["generator"]({"label_map": batch["label_map"], "style": style})
    np.testing.assert_allclose(picture, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"l1_weight": -1.0}, "recipe.l1_weight must be >= 0, got -1.0"),
        ({"schema": "groups7"}, "numbers of labels must be equal.*groups7.*8"),
        ({"generator": SpadeConfig(style_size=3)}, "style_size must be that of the encoder"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SpadeRecipeConfig(**wrong)
