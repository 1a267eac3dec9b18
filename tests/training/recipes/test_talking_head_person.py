import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.training.ema import EmaConfig
from facegan.training.recipes import talking_head_person
from facegan.training.recipes.talking_head_person import PersonRecipeConfig, start_from
from facegan.training.trainer import Trainer
from tests.training.recipes.test_talking_head import (
    HEAD,
    JUDGE,
    PLAIN,
    TRAIN,
    make_batch,
    make_recipe,
)


def test_a_person_begins_where_meta_learning_ended():
    meta = make_recipe().build_nets("float32")
    recipe = talking_head_person.Recipe(
        PersonRecipeConfig(
            generator=HEAD,
            discriminator=JUDGE,
            losses=PLAIN,
            ema=EmaConfig(decay=0.9),
            update="simultaneous",
            discriminator_steps=1,
        )
    )
    nets, averages = recipe.build_nets("float32"), recipe.build_nets("float32")
    embedding = np.linspace(0, 1, 16, dtype=np.float32)
    start_from(nets, {"generator": averages["generator"]}, meta, embedding)
    batch = make_batch()
    condition = batch["target_condition"]
    given = {"condition": condition, "embedding": np.stack([embedding] * 2)}
    for generator in (nets["generator"], averages["generator"]):
        np.testing.assert_allclose(
            generator({"condition": condition}), meta["generator"](given), atol=1e-3
        )
    judged = {"condition": condition, "image": batch["target"]}
    rows = {**judged, "embedding": given["embedding"]}
    np.testing.assert_allclose(
        nets["discriminator"](judged)["logits"], meta["discriminator"](rows)["logits"], rtol=1e-3
    )
    trainer = Trainer(recipe, TRAIN)
    terms = trainer.train_step({"condition": condition, "image": batch["target"]})
    assert {"G/adv", "G/feat", "D/adv"} <= set(terms)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="discriminator_steps must be at least 1, got 0"):
        PersonRecipeConfig(discriminator_steps=0)
