import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.models.style_sampler import StyleSampler
from facegan.models.stylegan2 import (
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Synthesis,
    StyleGAN2SynthesisConfig,
    StyleMappingConfig,
)
from facegan.training.ada import AdaConfig, augment_pictures
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig
from facegan.training.recipes.stylegan2 import Recipe, StyleGAN2RecipeConfig, automatic
from facegan.training.trainer import TrainConfig, Trainer

SIZE, LATENT, STYLE, LAYERS = 16, 5, 6, 6
SEED = np.array([1, 2], np.int32)
WIDTHS = {"image_size": SIZE, "base_width": 128, "max_width": 8}
ADAM = AdamConfig(learning_rate=0.002, beta_1=0.0, beta_2=0.99)
ADA = AdaConfig(start=0.6, interval=2, rise_steps=20)
BOTH = pytest.mark.parametrize("augment", [None, ADA], ids=["plain", "ada"])


def make_recipe(**kwargs):
    return Recipe(
        StyleGAN2RecipeConfig(
            **{
                "generator": StyleGAN2SynthesisConfig(**WIDTHS, style_size=STYLE),
                "mapping": StyleMappingConfig(latent_size=LATENT, style_size=STYLE, num_layers=2),
                "discriminator": StyleGAN2DiscriminatorConfig(**WIDTHS, group_size=2),
                "augment": None,
                **kwargs,
            }
        )
    )


def make_nets(recipe):
    """Nets whose biases and strengths of noise have left 0."""
    nets, rng = recipe.build_nets("float32"), np.random.default_rng(0)
    for net in nets.values():
        for variable in net.trainable_variables:
            if np.ptp(variable) == 0:
                variable.assign(variable + 0.2 * rng.standard_normal(variable.shape))
    return nets


def make_batch(count=4, seed=0):
    rng = np.random.default_rng(seed)
    return {"image": rng.uniform(-1, 1, (count, SIZE, SIZE, 3)).astype(np.float32)}


def compute(recipe, nets, batch, phase, step=0, **statistics):
    batch = {name: tf.constant(value) for name, value in batch.items()}
    given = {**recipe.statistics, **statistics}
    given = {name: tf.constant(value, tf.float32) for name, value in given.items()}
    return recipe.compute(phase, nets, batch, SEED, np.int64(step), given)


def softplus(x):
    return np.logaddexp(0.0, np.asarray(x, np.float64))


def draw_latents(number, count):
    return keras.random.normal((count, LATENT), seed=GivenSeed(fold_in(SEED, number)))


def draw_styles(nets, count, mixing=0.9):
    """By hand: layer by layer the first or the second latent's."""
    latents = (draw_latents(number, count) for number in (0, 1))
    first, second = (np.asarray(nets["mapping"]({"latent": latent})) for latent in latents)
    shares = [keras.random.uniform((count,), seed=GivenSeed(fold_in(SEED, n))) for n in (2, 3)]
    w = np.repeat(first[:, None], LAYERS, axis=1)
    for i, (mixed, start) in enumerate(np.transpose(shares)):
        if mixed < mixing:
            w[i, 1 + int(start * (LAYERS - 1)) :] = second[i]
    return w


def paint(nets, w):
    return nets["generator"]({"w": w}, training=True, seed=fold_in(SEED, 6))


def judge(nets, image, stream, augment=None, probability=None):
    if augment is not None:
        probability = augment.start if probability is None else probability
        image = augment_pictures(augment, image, probability, fold_in(SEED, stream))
    return nets["discriminator"]({"image": image})["logits"]


@BOTH
def test_the_adversarial_losses_are_cross_entropies(augment):
    recipe = make_recipe(augment=augment)
    nets, batch = make_nets(recipe), make_batch()
    w = draw_styles(nets, 4)
    assert len(np.unique(w[:, :, 0])) > 4  # some are mixed
    fake = paint(nets, w)
    fake_logits = judge(nets, fake, 4, augment)
    real_logits = judge(nets, batch["image"], 5, augment)
    result = compute(recipe, nets, batch, "generator")
    expected = softplus(-np.asarray(fake_logits)).mean()
    assert float(result.losses["G"]) == pytest.approx(expected, rel=1e-4)
    assert float(result.terms["G/adv"]) == pytest.approx(expected, rel=1e-4)
    result = compute(recipe, nets, batch, "discriminator")
    real, fake = softplus(-np.asarray(real_logits)).mean(), softplus(fake_logits).mean()
    assert float(result.terms["D/real"]) == pytest.approx(real, rel=1e-4)
    assert float(result.terms["D/fake"]) == pytest.approx(fake, rel=1e-4)
    assert float(result.losses["D"]) == pytest.approx(real + fake, rel=1e-4)
    if augment is None:
        assert result.statistics == {} and set(result.terms) == {"D/real", "D/fake"}
    else:
        assert float(result.terms["D/sign"]) == np.sign(real_logits).mean()


@BOTH
def test_r1_is_of_the_pictures_before_they_are_varied(augment):
    recipe = make_recipe(augment=augment, r1_weight=3.0, r1_every=7)
    nets, batch = make_nets(recipe), make_batch()
    image = tf.constant(batch["image"])
    with tf.GradientTape() as tape:
        tape.watch(image)
        logits = judge(nets, image, 5, augment)
    slopes = np.asarray(tape.gradient(logits, image), np.float64)
    expected = 0.5 * np.square(slopes).sum(axis=(1, 2, 3)).mean()
    result = compute(recipe, nets, batch, "r1")
    assert float(result.terms["D/r1"]) == pytest.approx(expected, rel=1e-3)
    assert float(result.losses["r1"]) == pytest.approx(3.0 * 7 * expected, rel=1e-3)


@pytest.mark.parametrize(("shrink", "count"), [(2, 2), (3, 1), (8, 1)])
def test_path_lengths_are_evened_out_on_a_smaller_batch(shrink, count):
    recipe = make_recipe(path_weight=3.0, path_every=5, path_decay=0.25, path_shrink=shrink)
    assert recipe.statistics == {"path_length": 0.0}
    nets = make_nets(recipe)
    w = tf.constant(draw_styles(nets, count))
    with tf.GradientTape() as tape:
        tape.watch(w)
        image = paint(nets, w)
        noise = keras.random.normal(image.shape, seed=GivenSeed(fold_in(SEED, 4)))
        total = tf.reduce_sum(image * noise) / SIZE
    slopes = np.asarray(tape.gradient(total, w), np.float64)
    lengths = np.sqrt(np.square(slopes).sum(axis=2).mean(axis=1))
    mean = 0.5 + 0.25 * (lengths.mean() - 0.5)
    penalty = np.square(lengths - mean).mean()
    result = compute(recipe, nets, make_batch(), "path", path_length=0.5)
    assert float(result.statistics["path_length"]) == pytest.approx(mean, rel=1e-4)
    assert float(result.terms["G/path_length"]) == pytest.approx(mean, rel=1e-4)
    assert float(result.terms["G/path"]) == pytest.approx(penalty, rel=1e-3)
    assert float(result.losses["path"]) == pytest.approx(3.0 * 5 * penalty, rel=1e-3)


def test_the_probability_follows_the_verdicts_on_real_pictures():
    augment = AdaConfig(target=0.3, start=0.1, interval=3, rise_steps=10, limit=0.65)
    recipe = make_recipe(augment=augment)
    assert recipe.statistics == {"path_length": 0.0, "ada_probability": 0.1, "ada_sign": 0.0}
    nets, batch = make_nets(recipe), make_batch()
    probability, signs, statistics, seen = 0.1, [], {}, []
    # A mean of 1; of 1/3, which still is above the target; of -1.
    for step, sign in enumerate([1, 1, 1, 1, 1, -1, -1, -1, -1, 1]):
        nets["discriminator"].head.bias.assign([100.0 * sign])
        result = compute(recipe, nets, batch, "discriminator", step, **statistics)
        if step in (3, 6, 9):
            probability += np.sign(np.mean(signs) - 0.3) * 3 / 10
            probability, signs = min(max(probability, 0.0), 0.65), []
        signs.append(sign)
        statistics = result.statistics
        assert float(statistics["ada_probability"]) == pytest.approx(probability)
        assert float(statistics["ada_sign"]) == pytest.approx(np.mean(signs))
        assert float(result.terms["D/ada"]) == pytest.approx(probability)
        assert float(result.terms["D/sign"]) == sign
        # The step's own pictures are varied with it already.
        real = softplus(-np.asarray(judge(nets, batch["image"], 5, augment, probability)))
        assert float(result.terms["D/real"]) == pytest.approx(real.mean(), rel=1e-4, abs=1e-30)
        seen.append(round(probability, 3))
    assert seen == [0.1] * 3 + [0.4] * 3 + [0.65] * 3 + [0.35]


class NotingSynthesis(StyleGAN2Synthesis):
    """Keeps the styles that it was given last."""

    def call(self, inputs, **kwargs):
        self.seen = np.asarray(inputs["w"])
        return super().call(inputs, **kwargs)


def drawn_styles(mixing, count=200):
    """What the generator's phase draws, and the styles of its first and second latents."""
    recipe = make_recipe(style_mixing=mixing)
    nets = make_nets(recipe)
    nets["generator"] = NotingSynthesis(recipe.config.generator, name="generator")
    nets["generator"].build({"w": (None, LAYERS, STYLE)})
    compute(recipe, nets, make_batch(count), "generator")
    styles = [nets["mapping"]({"latent": draw_latents(n, count)}) for n in (0, 1)]
    return nets["generator"].seen, *(np.asarray(style)[:, None] for style in styles)


def test_without_mixing_all_layers_share_a_style():
    w, first, _ = drawn_styles(0.0)
    np.testing.assert_array_equal(w, np.repeat(first, LAYERS, axis=1))


def test_mixed_pictures_have_the_second_style_from_some_layer_on():
    w, first, second = drawn_styles(1.0)
    of_first, of_second = (w == first).all(axis=2), (w == second).all(axis=2)
    assert (of_first ^ of_second).all()
    counts = of_first.sum(axis=1)
    for layers, count in zip(of_first, counts, strict=True):
        assert list(layers) == [True] * count + [False] * (LAYERS - count)
    # Each crossover is as likely: of 200, 40 each, give or take 3.5 times their deviation of 5.7.
    sizes = {int(n): int((counts == n).sum()) for n in np.unique(counts)}
    assert set(sizes) == {1, 2, 3, 4, 5} and all(abs(n - 40) < 20 for n in sizes.values())


def test_so_large_a_share_is_mixed():
    w, first, _ = drawn_styles(0.3)
    mixed = (w != first).any(axis=(1, 2)).mean()
    assert mixed == pytest.approx(0.3, abs=0.11)  # 3.5 deviations


@pytest.mark.parametrize(
    ("phase", "count"), [("generator", 4), ("path", 2), ("discriminator", 4), ("r1", 0)]
)
def test_the_mean_style_is_that_of_the_first_latents(phase, count):
    recipe = make_recipe(style_mixing=1.0)
    nets = make_nets(recipe)
    start = np.linspace(-1, 1, STYLE).astype(np.float32)
    nets["mapping"].w_avg.assign(start)
    compute(recipe, nets, make_batch(), phase)
    expected = start
    if count:
        mean = np.mean(nets["mapping"]({"latent": draw_latents(0, count)}), axis=0)
        expected = 0.995 * start + 0.005 * mean
    np.testing.assert_allclose(nets["mapping"].w_avg, expected, atol=1e-6)


def test_draws_follow_from_the_seed():
    recipe = make_recipe(augment=ADA)
    nets, batch = make_nets(recipe), make_batch()
    for phase in ("generator", "path", "discriminator", "r1"):
        first, same = (compute(recipe, nets, batch, phase).losses for _ in range(2))
        other = recipe.compute(
            phase, nets, {"image": tf.constant(batch["image"])}, SEED + 1, 0, recipe.statistics
        ).losses
        for name in first:
            assert float(first[name]) == float(same[name]) != float(other[name])


@pytest.fixture(scope="module")
def trainer():
    """One whose phases run at every step, so that a test may pick one of them."""
    augment = dataclasses.replace(ADA, interval=50)
    recipe = make_recipe(augment=augment, path_every=1, r1_every=1, ema=EmaConfig(decay=0.75))
    return Trainer(recipe, TrainConfig(steps=99, precision="float32", xla="off"))


def read(nets):
    return {
        f"{name}/{variable.path.partition('/')[2]}": np.array(variable)
        for name, net in nets.items()
        for variable in net.variables
    }


def read_statistics(trainer):
    return {name: float(value) for name, value in trainer.state.statistics.items()}


@pytest.mark.parametrize(
    ("phase", "nets", "left", "counts"),
    [
        ("generator", ("generator", "mapping"), "", ""),
        # Colours' biases are no part of how far a picture moves.
        ("path", ("generator", "mapping"), "rgb_4/bias rgb_8/bias rgb_16/bias", "path_length"),
        ("discriminator", ("discriminator",), "", "ada_sign"),
        # Behind the deviation the net is linear but for kinks, and biases have no say in slopes.
        ("r1", ("discriminator",), "last_conv/bias dense/bias head/bias", ""),
    ],
)
def test_a_phase_changes_its_own_nets(trainer, monkeypatch, phase, nets, left, counts):
    phases = trainer.recipe.phases
    monkeypatch.setattr(trainer.recipe, "phases", tuple(p for p in phases if p.name == phase))
    trainable = {
        f"{name}/{variable.path.partition('/')[2]}"
        for name, net in trainer.state.nets.items()
        for variable in net.trainable_variables
    }
    before, averages = read(trainer.state.nets), read(trainer.state.ema_nets)
    statistics = read_statistics(trainer)
    terms = trainer.train_step(make_batch())
    assert all(np.isfinite(float(value)) for value in terms.values())
    after = read(trainer.state.nets)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    own = {name for name in trainable if name.startswith(nets)}
    unmoved = {f"{nets[0]}/{name}" for name in left.split()}
    mean_style = set() if phase == "r1" else {"mapping/w_avg"}
    assert changed == own - unmoved | mean_style
    now = read_statistics(trainer)
    assert {name for name in now if now[name] != statistics[name]} == set(counts.split())
    # The generator's nets are averaged after every step; what is no weight is copied.
    assert set(trainer.state.ema_nets) == {"generator", "mapping"}
    decay = min(0.75, trainer.step / (9 + trainer.step))
    for name, value in read(trainer.state.ema_nets).items():
        kept = decay if name in trainable else 0.0
        expected = kept * averages[name] + (1 - kept) * after[name]
        np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=name)


def test_adam_makes_room_for_the_regularizers_steps():
    recipe = make_recipe(optimizer=ADAM, path_every=4, r1_every=16)
    generator, discriminator = (recipe.optimizers[n] for n in ("generator", "discriminator"))
    assert recipe.optimizers["mapping"] == generator
    assert generator.learning_rate == pytest.approx(0.0016)  # 4 / 5 of 0.002
    assert generator.beta_2 == pytest.approx(0.99**0.8) and generator.beta_1 == 0.0
    assert discriminator.learning_rate == pytest.approx(0.002 * 16 / 17)
    assert discriminator.beta_2 == pytest.approx(0.99 ** (16 / 17))


def test_terms_that_weigh_nothing_have_no_phase():
    updates = {phase.name: (phase.updates, phase.every) for phase in make_recipe().phases}
    styled = ("generator", "mapping")
    assert updates == {
        "generator": ({"G": styled}, 1),
        "path": ({"path": styled}, 4),
        "discriminator": ({"D": ("discriminator",)}, 1),
        "r1": ({"r1": ("discriminator",)}, 16),
    }
    recipe = make_recipe(path_weight=0.0, optimizer=ADAM)
    assert [phase.name for phase in recipe.phases] == ["generator", "discriminator", "r1"]
    assert recipe.optimizers["generator"] == ADAM != recipe.optimizers["discriminator"]
    assert recipe.statistics == {}
    recipe = make_recipe(r1_weight=0.0, optimizer=ADAM, ema=None)
    assert [phase.name for phase in recipe.phases] == ["generator", "path", "discriminator"]
    assert recipe.optimizers["discriminator"] == ADAM != recipe.optimizers["generator"]
    assert recipe.ema_nets == ()


# Size, batch; widths in 1024ths, rate, R1's weight, group, steps in which the probability rises.
@pytest.mark.parametrize(
    ("size", "batch", "width", "rate", "r1", "group", "rise"),
    [
        (1024, 4, 32, 0.002, 52.4288, 4, 125_000),
        (1024, 32, 32, 0.002, 6.5536, 4, 15_625),
        (512, 8, 32, 0.0025, 6.5536, 4, 62_500),
        (256, 16, 16, 0.0025, 0.8192, 4, 31_250),
        (256, 2, 16, 0.0025, 6.5536, 2, 250_000),
        (64, 64, 16, 0.0025, 0.0128, 4, 7_812),
    ],
)
def test_automatic_settings_are_the_authors(size, batch, width, rate, r1, group, rise):
    config = automatic(size, batch)
    for net in (config.generator, config.discriminator):
        assert (net.image_size, net.base_width, net.max_width) == (size, 1024 * width, 512)
        assert net.conv_clamp == 256
    assert config.mapping == StyleMappingConfig(latent_size=512, style_size=512, num_layers=2)
    assert config.discriminator.group_size == group
    assert config.r1_weight == pytest.approx(r1) and config.r1_every == 16
    assert (config.path_weight, config.path_every, config.path_decay) == (2.0, 4, 0.01)
    assert (config.path_shrink, config.style_mixing) == (2, 0.9)
    adam = config.optimizer
    assert adam.learning_rate == rate
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.0, 0.99, 1e-8)
    assert config.augment == AdaConfig(target=0.6, interval=4, rise_steps=rise)
    # batch * 10 / 32 thousand pictures are 312.5 steps, whatever the batch.
    assert config.ema.decay**312.5 == pytest.approx(0.5)
    assert (config.ema.ramp, config.ema.ramp_share) == (False, 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r1_every": 0}, "recipe.r1_every must be at least 1, got 0"),
        ({"path_every": 0}, "recipe.path_every must be at least 1"),
        ({"path_shrink": 0}, "recipe.path_shrink must be at least 1"),
        ({"style_mixing": 1.5}, r"recipe.style_mixing must be in \[0, 1\], got 1.5"),
        ({"path_decay": -0.1}, r"recipe.path_decay must be in \[0, 1\]"),
        ({"r1_weight": -1.0}, "recipe.r1_weight must be >= 0"),
        ({"path_weight": -1.0}, "recipe.path_weight must be >= 0"),
        (
            {"mapping": StyleMappingConfig(style_size=7)},
            "style_size must be the same for generator and mapping, got 6 and 7",
        ),
        (
            {"discriminator": StyleGAN2DiscriminatorConfig(image_size=32)},
            "image_size must be the same for generator and discriminator, got 16 and 32",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(make_recipe().config, **change)


def test_the_preview_shows_drawn_pictures_and_some_nearer_the_mean():
    recipe = make_recipe()
    nets, batch = make_nets(recipe), make_batch(3)
    nets["mapping"].w_avg.assign(np.linspace(-1, 1, STYLE))
    columns = recipe.preview(nets, batch)
    assert [tuple(column.shape) for column in columns] == [(3, SIZE, SIZE, 3)] * 8
    np.testing.assert_array_equal(columns[0], batch["image"])
    for number, truncation in ((0, 1.0), (3, 1.0), (4, 0.7), (6, 0.7)):
        seed = fold_in(np.zeros(2, np.int32), number)
        latent = keras.random.normal((3, LATENT), seed=GivenSeed(seed))
        w, mean = np.asarray(nets["mapping"]({"latent": latent})), np.asarray(nets["mapping"].w_avg)
        w = np.repeat((mean + truncation * (w - mean))[:, None], LAYERS, axis=1)
        expected = nets["generator"]({"w": w}, noise="const")
        np.testing.assert_allclose(columns[1 + number], expected, atol=1e-4)
    again = recipe.preview(nets, batch)
    for first, second in zip(columns, again, strict=True):
        np.testing.assert_array_equal(first, second)


def given_for(specs):
    rng = np.random.default_rng(1)
    # None is the batch and, of what is shown to a cluster, how many clusters there are.
    shapes = {spec.name: [2 if n is None else n for n in spec.shape] for spec in specs}
    return {name: rng.uniform(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def assert_as_told(outputs, specs):
    assert list(outputs) == [spec.name for spec in specs]
    for spec in specs:
        value = outputs[spec.name]
        assert value.dtype == spec.dtype and len(value.shape) == len(spec.shape)
        for told, found in zip(spec.shape, value.shape, strict=True):
            assert found == (2 if told is None else told), spec.name


@pytest.mark.parametrize("size", [SIZE, 64])  # smaller and larger than what is clustered
def test_what_is_served_is_as_it_is_told(size):
    widths = {**WIDTHS, "image_size": size}
    recipe = make_recipe(
        generator=StyleGAN2SynthesisConfig(**widths, style_size=STYLE),
        discriminator=StyleGAN2DiscriminatorConfig(**widths),
    )
    nets, serving = recipe.build_nets("float32"), recipe.serving()
    assert (serving.net, serving.with_nets, serving.fast_paths) == (
        *("generator", ("mapping",)),
        True,
    )
    served = serving.simplify(*(nets[n] for n in ("generator", "mapping")), dtype="float32")
    assert isinstance(served, StyleSampler) and served.cluster_size == min(size, 32)
    assert_as_told({"image": served(given_for(serving.inputs))}, serving.outputs)
    assert list(serving.methods) == [
        *("map_style", "find_scales", "paint_scales", "trace_features", "weigh_channels")
    ]
    for name, method in serving.methods.items():
        outputs = getattr(served, name)(given_for(method.inputs))
        if not isinstance(outputs, dict):
            outputs = {method.outputs[0].name: outputs}
        assert_as_told(outputs, method.outputs)
    low = serving.simplify(*(nets[n] for n in ("generator", "mapping")), dtype="bfloat16")
    assert low.compute_dtype == "bfloat16" and low.mapping is nets["mapping"]
