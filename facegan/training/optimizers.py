"""Optimizers by config, with the constants of the papers' PyTorch code stated."""

import dataclasses

import keras

from facegan.errors import ConfigError
from facegan.training.schedules import ScheduleConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdamConfig:
    """Adam (Kingma and Ba 2015) with a learning-rate schedule.

    ``epsilon`` is PyTorch's default, not Keras'.
    """

    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    epsilon: float = 1e-8
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}.")
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}.")


def make_optimizer(config: AdamConfig, name: str) -> keras.Optimizer:
    """Makes the optimizer of one net.

    Args:
        config: Its constants. The trainer sets the learning rate before each update, by the
            schedule.
        name: The net's name, for the variables' paths.
    """
    return keras.optimizers.Adam(
        learning_rate=config.learning_rate,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        name=f"{name}_adam",
    )
