import numpy as np

from facegan.training.trainer import TrainConfig, Trainer
from tests.training.toy_recipe import ToyRecipe

CONFIG = TrainConfig(precision="mixed_float16", xla="off")


def test_names_are_the_same_in_every_process_and_cover_everything():
    first = Trainer(ToyRecipe(), CONFIG).state.named_variables()
    second = Trainer(ToyRecipe(), CONFIG).state.named_variables()
    assert list(first) == list(second)
    assert "nets/generator/hidden/kernel" in first
    assert "ema/generator/hidden/kernel" in first
    assert "statistics/mean_loss" in first
    assert "loss_scales/main/scale" in first
    assert "step" in first
    # Adam: iteration, learning rate, and two moments for each of the four variables.
    assert sum(name.startswith("optimizers/generator/") for name in first) == 2 + 2 * 4


def test_averages_start_at_the_nets():
    state = Trainer(ToyRecipe(), CONFIG).state
    named = state.named_variables()
    np.testing.assert_array_equal(
        named["nets/generator/out/kernel"].numpy(), named["ema/generator/out/kernel"].numpy()
    )
