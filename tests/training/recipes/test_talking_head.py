import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.losses.adversarial import hinge_discriminator_loss, hinge_generator_loss
from facegan.losses.features import feature_matching_loss
from facegan.models.talking_head import (
    EmbedderConfig,
    TalkingHeadConfig,
    TalkingHeadDiscriminatorConfig,
)
from facegan.training.devices import make_strategy
from facegan.training.head_losses import HeadLossConfig
from facegan.training.optimizers import AdamConfig
from facegan.training.recipes import talking_head
from facegan.training.recipes.talking_head import ROWS, TalkingHeadRecipeConfig
from facegan.training.trainer import TrainConfig, Trainer
from tests.spectral import settle

SEED = np.array([1, 2], np.int32)
SIZE = 32
HEAD = TalkingHeadConfig(
    image_size=SIZE, base_width=2, num_blocks=1, embedding_size=16, unit_scale=True
)
JUDGE = TalkingHeadDiscriminatorConfig(image_size=SIZE, base_width=2, num_downs=4)
PLAIN = HeadLossConfig(content_weight=0.0, face_weight=0.0)
TRAIN = TrainConfig(steps=4, precision="float32", xla="off")


def make_recipe(**kwargs):
    return talking_head.Recipe(
        TalkingHeadRecipeConfig(
            **{
                "embedder": EmbedderConfig(image_size=SIZE, base_width=2, num_downs=4),
                "generator": HEAD,
                "discriminator": JUDGE,
                "num_videos": 5,
                "losses": PLAIN,
                # One phase to trace instead of three.
                "update": "simultaneous",
                "discriminator_steps": 1,
                **kwargs,
            }
        )
    )


def make_batch(videos=(3, 1), seed=0):
    rng = np.random.default_rng(seed)

    def pictures(*shape):
        return rng.uniform(-1, 1, (len(videos), *shape, SIZE, SIZE, 3)).astype(np.float32)

    return {
        "images": pictures(2),
        "conditions": pictures(2),
        "target": pictures(),
        "target_condition": pictures(),
        "video_index": np.array(videos, np.int64),
    }


def with_rows(batch, seed=3):
    rows = np.random.default_rng(seed).normal(size=(len(batch["target"]), 16)).astype(np.float32)
    return {**batch, ROWS: rows}


def compute(recipe, nets, batch, phase):
    return recipe.compute(phase, nets, batch, SEED, 0, {})


def test_losses_are_the_papers_formula():
    recipe = make_recipe(match_weight=3.0, update="alternating")
    nets, batch = recipe.build_nets("float32"), with_rows(make_batch())
    settle(*nets.values())
    shots = {name: batch[name] for name in ("images", "conditions")}
    embedding = nets["embedder"](shots, training=True)
    condition = batch["target_condition"]
    fake = nets["generator"]({"condition": condition, "embedding": embedding}, training=True)
    judged = {"condition": condition, "embedding": batch[ROWS]}
    real = nets["discriminator"]({**judged, "image": batch["target"]}, training=True)
    made = nets["discriminator"]({**judged, "image": fake}, training=True)
    match = np.abs(np.asarray(embedding) - batch[ROWS]).mean()
    features = float(feature_matching_loss(real["features"], made["features"]))
    # Ten times the sum over the five maps.
    expected = float(hinge_generator_loss(made["logits"])) + 50 * features + 3 * match
    result = compute(recipe, nets, batch, "generator")
    assert float(result.losses["G"]) == pytest.approx(expected, rel=1e-3)
    assert set(result.losses) == {"G"}
    expected = float(hinge_discriminator_loss(real["logits"], made["logits"]))
    result = compute(recipe, nets, batch, "discriminator_0")
    assert float(result.losses["D"]) == pytest.approx(expected, rel=1e-3)


def test_feed_forward_has_no_match():
    recipe = make_recipe(match_weight=0.0)
    nets = recipe.build_nets("float32")
    assert "G/match" not in compute(recipe, nets, with_rows(make_batch()), "both").terms


def test_phases_count_the_discriminator_s_updates():
    recipe = make_recipe(update="alternating", discriminator_steps=2)
    names = [phase.name for phase in recipe.phases]
    assert names == ["generator", "discriminator_0", "discriminator_1"]
    assert [phase.name for phase in make_recipe().phases] == ["both"]


@pytest.mark.parametrize(
    "update", [pytest.param("alternating", marks=pytest.mark.slow), "simultaneous"]
)
def test_a_step_changes_every_net_and_the_rows_of_its_videos(update):
    trainer = Trainer(make_recipe(update=update, discriminator_steps=2), TRAIN)
    before = {n: [np.array(v) for v in m.variables] for n, m in trainer.state.nets.items()}
    rows = trainer.state.tables[ROWS].values.numpy()
    terms = trainer.train_step(make_batch())
    assert all(np.isfinite(float(value)) for value in terms.values())
    for name, net in trainer.state.nets.items():
        changed = [
            not np.array_equal(a, b) for a, b in zip(before[name], net.variables, strict=True)
        ]
        assert sum(changed) > 0.8 * len(changed), name
    moved = (trainer.state.tables[ROWS].values.numpy() != rows).any(axis=1)
    assert moved.tolist() == [False, True, False, True, False]
    assert int(trainer.state.tables[ROWS].updates.numpy()) == 2


def test_two_replicas_equal_one(two_cpus):
    # With a tiny epsilon Adam turns the rounding of gradients that are 0 into whole steps.
    adam = AdamConfig(learning_rate=1e-3, beta_1=0.0, beta_2=0.9, epsilon=1e-3)
    results = []
    for replicas in (1, 2):
        recipe = make_recipe(generator_optimizer=adam, discriminator_optimizer=adam)
        trainer = Trainer(recipe, TRAIN, strategy=make_strategy(replicas))
        for seed in range(2):
            trainer.train_step(make_batch((4, 1), seed))
        state = trainer.state
        results.append(
            [np.array(v) for net in state.nets.values() for v in net.trainable_variables]
            + [state.tables[ROWS].values.numpy()]
        )
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)


def test_loss_scaling_learns_rows_too():
    config = TrainConfig(steps=4, precision="mixed_float16", xla="off")
    trainer = Trainer(make_recipe(), config)
    rows = trainer.state.tables[ROWS].values.numpy()
    for seed in range(6):
        terms = trainer.train_step(make_batch(seed=seed))
    assert np.isfinite(float(terms["D/adv"]))
    assert (trainer.state.tables[ROWS].values.numpy() != rows).any()


def test_embeddings_of_different_sizes_are_refused():
    with pytest.raises(ConfigError, match="embedder: 16, generator: 8, discriminator: 16"):
        make_recipe(generator=TalkingHeadConfig(image_size=SIZE, base_width=2, embedding_size=8))
