import dataclasses

import keras
import numpy as np
import pytest

from facegan.convert.fan import save_fan
from facegan.errors import CheckpointError, ConfigError
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.models.fan import FAN
from facegan.models.stargan_v2 import (
    MappingConfig,
    StarDiscriminatorConfig,
    StarGeneratorConfig,
    StarStyleEncoderConfig,
)
from facegan.training.devices import make_strategy
from facegan.training.optimizers import AdamConfig
from facegan.training.recipes.stargan_v2 import Recipe, StarganV2RecipeConfig, make_translator
from facegan.training.trainer import TrainConfig, Trainer

SIZE, SEED = 32, np.array([1, 2], np.int32)
TRAIN = TrainConfig(steps=9, precision="float32", xla="off")
WIDTHS = {"image_size": SIZE, "base_width": 4, "max_width": 8}


def make_recipe(high_pass=0.0, **kwargs):
    return Recipe(
        StarganV2RecipeConfig(
            **{
                "generator": StarGeneratorConfig(**WIDTHS, style_size=6, high_pass=high_pass),
                "mapping": MappingConfig(latent_size=5, width=8, style_size=6, num_domains=3),
                "style_encoder": StarStyleEncoderConfig(**WIDTHS, style_size=6, num_domains=3),
                "discriminator": StarDiscriminatorConfig(**WIDTHS, num_domains=3),
                **kwargs,
            }
        )
    )


def make_batch(count=2, seed=0, landmarks=False):
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, (3 * count, SIZE, SIZE, 3)).astype(np.float32)
    domain = rng.integers(0, 3, 3 * count)
    domain[2::3] = domain[1::3]
    batch = {"image": image, "domain": domain}
    if landmarks:
        batch["landmarks_xy_px"] = rng.uniform(0, SIZE, (3 * count, 68, 2)).astype(np.float32)
    return batch


def compute(recipe, nets, batch, phase, step=0):
    batch = {name: keras.ops.convert_to_tensor(value) for name, value in batch.items()}
    return recipe.compute(phase, nets, batch, SEED, step, {})


def softplus(x):
    return np.logaddexp(0.0, np.asarray(x, np.float64))


def judge(nets, image, domain):
    return np.asarray(nets["discriminator"]({"image": image, "domain": domain})["logits"])


@pytest.mark.parametrize("by", ["latent", "reference"])
def test_losses_are_the_papers_formulas(by):
    recipe = make_recipe(
        r1_weight=2.0,
        style_weight=3.0,
        diversity_weight=5.0,
        diversity_steps=100,
        cycle_weight=7.0,
    )
    nets, batch = recipe.build_nets("float32"), make_batch()
    x, y = batch["image"][::3], batch["domain"][::3]
    target = batch["domain"][1::3]
    if by == "latent":
        draws = [
            keras.random.normal((2, 5), seed=GivenSeed(fold_in(SEED, number))) for number in (0, 1)
        ]
        styles = [nets["mapping"]({"latent": z, "domain": target}) for z in draws]
    else:
        styles = [
            nets["style_encoder"]({"image": batch["image"][k::3], "domain": target}) for k in (1, 2)
        ]
    fake, other = (nets["generator"]({"image": x, "style": style}) for style in styles)
    found = nets["style_encoder"]({"image": fake, "domain": target})
    own = nets["style_encoder"]({"image": x, "domain": y})
    again = nets["generator"]({"image": fake, "style": own})

    def apart(a, b):
        return float(np.abs(np.asarray(a) - np.asarray(b)).mean())

    expected = (
        softplus(-judge(nets, fake, target)).mean()
        + 3.0 * apart(found, styles[0])
        - 5.0 * (1 - 25 / 100) * apart(fake, other)
        + 7.0 * apart(again, x)
    )
    result = compute(recipe, nets, batch, f"generator_{by}", step=25)
    assert float(result.losses["G"]) == pytest.approx(expected, rel=1e-4)
    result = compute(recipe, nets, batch, f"discriminator_{by}")
    penalty = float(result.terms[f"D/{by}/r1"])
    expected = softplus(-judge(nets, x, y)).mean() + softplus(judge(nets, fake, target)).mean()
    assert float(result.losses["D"]) == pytest.approx(expected + 2.0 * penalty, rel=1e-4)


def test_r1_is_how_steep_the_verdict_on_real_pictures_is():
    recipe = make_recipe()
    nets, batch = recipe.build_nets("float32"), make_batch()
    penalty = float(compute(recipe, nets, batch, "discriminator_reference").terms["D/reference/r1"])
    x, y = batch["image"][::3].astype(np.float64), batch["domain"][::3]
    # The slope along a direction, by finite differences, is at most the gradient's length.
    rng = np.random.default_rng(1)
    slopes = []
    for _ in range(50):
        way = rng.normal(size=x.shape)
        way /= np.sqrt((way**2).sum(axis=(1, 2, 3), keepdims=True))
        steps = [judge(nets, (x + sign * 0.5 * way).astype(np.float32), y) for sign in (1, -1)]
        slopes.append((steps[0] - steps[1])[:, 0])
    # A random direction in n dimensions sees 1/n of the squared length, on average.
    estimate = 0.5 * (np.square(slopes).mean(axis=0) * x[0].size).mean()
    assert 0.5 * estimate < penalty < 2.0 * estimate


def test_the_weight_of_the_diversity_falls_with_the_step_alone():
    recipe = make_recipe(diversity_weight=2.0, diversity_steps=100)
    weights = [float(recipe.diversity_weight(np.int64(step))) for step in (0, 25, 100, 500)]
    assert weights == [2.0, 1.5, 0.0, 0.0]


def test_each_phase_updates_its_own_nets():
    updates = {phase.name: phase.updates for phase in make_recipe().phases}
    assert updates == {
        "discriminator_latent": {"D": ("discriminator",)},
        "discriminator_reference": {"D": ("discriminator",)},
        "generator_latent": {"G": ("generator", "mapping", "style_encoder")},
        "generator_reference": {"G": ("generator",)},
    }


@pytest.mark.parametrize("high_pass", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_a_step_changes_every_net_and_their_averages(high_pass):
    trainer = Trainer(make_recipe(high_pass), TRAIN)

    def read(nets):
        return {name: [np.array(v) for v in net.variables] for name, net in nets.items()}

    before, averages = read(trainer.state.nets), read(trainer.state.ema_nets)
    terms = trainer.train_step(make_batch(landmarks=high_pass > 0))
    assert all(np.isfinite(float(value)) for value in terms.values())
    after = read(trainer.state.nets)
    for name, values in before.items():
        changed = [not np.array_equal(a, b) for a, b in zip(values, after[name], strict=True)]
        # Heads of domains that the batch does not have keep their zero biases.
        assert np.mean(changed) > 0.9, name
    assert set(averages) == {"generator", "mapping", "style_encoder"}
    for name, values in read(trainer.state.ema_nets).items():
        for old, new, average in zip(averages[name], after[name], values, strict=True):
            np.testing.assert_allclose(average, 0.999 * old + 0.001 * new, atol=1e-6)


def test_two_replicas_equal_one_by_references(two_cpus):
    # Latents are each replica's own draws. A large epsilon keeps Adam from making whole steps of
    # the rounding of gradients that are 0.
    adam = AdamConfig(learning_rate=1e-3, beta_1=0.0, beta_2=0.9, epsilon=1e-3, weight_decay=1e-2)
    results = []
    for replicas in (1, 2):
        recipe = make_recipe(optimizer=adam, mapping_optimizer=adam)
        recipe.phases = tuple(p for p in recipe.phases if p.name.endswith("reference"))
        trainer = Trainer(recipe, TRAIN, strategy=make_strategy(replicas))
        for seed in range(2):
            trainer.train_step(make_batch(seed=seed))
        results.append([np.array(v) for net in trainer.state.nets.values() for v in net.variables])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)


def test_details_are_found_by_the_network_of_a_file(tmp_path):
    net = FAN()
    net.build({"image": (None, None, None, 3)})
    save_fan(net, tmp_path / "fan.npz")
    recipe = make_recipe(1.0, fan=str(tmp_path / "fan.npz"))
    nets = recipe.build_nets("float32")
    recipe.prepare("float32")
    batch = make_batch()  # has no landmarks
    result = compute(recipe, nets, batch, "generator_reference")
    assert np.isfinite(float(result.losses["G"]))
    serving = recipe.serving()
    assert [spec.name for spec in serving.inputs] == ["source", "style"]
    served = serving.simplify(
        *(nets[name] for name in (serving.net, *serving.with_nets)), dtype="float32"
    )
    given = {"source": batch["image"], "style": np.zeros((6, 6), np.float32)}
    assert served(given).shape == (6, SIZE, SIZE, 3)
    with pytest.raises(CheckpointError, match="Cannot read FAN weights from .*none.npz"):
        make_recipe(1.0, fan=str(tmp_path / "none.npz")).prepare("float32")


def test_the_preview_shows_every_domain():
    recipe = make_recipe()
    columns = recipe.preview(recipe.build_nets("float32"), make_batch())
    assert [tuple(column.shape) for column in columns] == [(6, SIZE, SIZE, 3)] * 6
    np.testing.assert_array_equal(columns[1][0], columns[0][1])


def test_what_is_served_takes_landmarks_where_details_are_kept():
    names = {
        high_pass: [spec.name for spec in make_recipe(high_pass).serving().inputs]
        for high_pass in (0.0, 1.0)
    }
    assert names == {0.0: ["source", "style"], 1.0: ["source", "style", "landmarks_xy_px"]}
    sizes = [make_recipe(high_pass).serving().inputs[0].shape[1] for high_pass in (0.0, 1.0)]
    assert sizes == [None, SIZE]
    methods = make_recipe().serving().methods
    assert set(methods) == {"encode_style", "map_style"}
    assert methods["map_style"].inputs[1].value_range == (0.0, 2.0)


def test_what_is_served_computes_in_the_type_that_is_asked_for():
    nets = make_recipe().build_nets("float32")
    parts = [nets[name] for name in ("generator", "mapping", "style_encoder")]
    served = make_translator(*parts, dtype="bfloat16")
    given = {"image": make_batch()["image"], "style": np.ones((6, 6), np.float32)}
    assert served.compute_dtype == "bfloat16"
    expected = nets["generator"](given)
    given = {"source": given["image"], "style": given["style"]}
    apart = np.asarray(served(given)) - np.asarray(expected)
    assert 0 < np.abs(apart).max() < 0.3


def test_nets_that_do_not_fit_are_refused():
    config = make_recipe().config
    mapping = dataclasses.replace(config.mapping, style_size=7)
    with pytest.raises(ConfigError, match="style_size must be the same.*mapping: 7"):
        dataclasses.replace(config, mapping=mapping)
    with pytest.raises(ConfigError, match="diversity_steps must be at least 1"):
        dataclasses.replace(config, diversity_steps=0)
    with pytest.raises(ConfigError, match="cycle_weight must be >= 0"):
        dataclasses.replace(config, cycle_weight=-1.0)
