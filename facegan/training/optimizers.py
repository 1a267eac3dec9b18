"""Optimizers by config, with the constants of the papers' PyTorch code stated."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras

from facegan.errors import ConfigError
from facegan.training.schedules import ScheduleConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdamConfig:
    """Adam (Kingma and Ba 2015) with a learning-rate schedule.

    ``epsilon`` is PyTorch's default, not Keras'. ``weight_decay`` is coupled, as in PyTorch's Adam:
    it adds that share of every weight to its gradient.
    """

    KIND: ClassVar[str] = "adam"

    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}.")
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        _require_decay(self.weight_decay)


def lazy_adam(config: AdamConfig, every: int) -> AdamConfig:
    """The same Adam for a net that gets one step more, of a regularizer, at every ``every``-th one.

    With c = every / (every + 1) the learning rate is c times what it was and both betas are raised
    to c, so that rates and memories per training step stay (Karras et al., "Analyzing and Improving
    the Image Quality of StyleGAN", appendix B).
    """
    share = every / (every + 1)
    return dataclasses.replace(
        config,
        learning_rate=config.learning_rate * share,
        beta_1=config.beta_1**share,
        beta_2=config.beta_2**share,
    )


def _require_decay(weight_decay: float) -> None:
    if weight_decay < 0:
        raise ConfigError(f"weight_decay must be >= 0, got {weight_decay}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RateFactor:
    """A factor on the learning rate of some variables.

    Attributes:
        variables: Regular expression that is searched for in a variable's path, such as
            ``parser/aux_head16/conv/kernel``.
        factor: What their learning rate is multiplied by; 0 leaves them as they are.
    """

    variables: str
    factor: float

    def __post_init__(self) -> None:
        try:
            re.compile(self.variables)
        except re.error as error:
            raise ConfigError(
                f"rate_factors.variables must be a regular expression, got {self.variables!r}: "
                f"{error}."
            ) from error
        if self.factor < 0:
            raise ConfigError(f"rate_factors.factor must be >= 0, got {self.factor}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SgdConfig:
    """Stochastic gradient descent with momentum and weight decay, as PyTorch has it.

    ``weight_decay`` is coupled: it adds that share of a weight to its gradient, before momentum.
    ``decayed`` "kernels" spares biases and the scales and shifts of norms. Of ``rate_factors`` the
    first that fits a variable counts.
    """

    KIND: ClassVar[str] = "sgd"

    learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 0.0
    decayed: Literal["kernels", "all"] = "kernels"
    rate_factors: tuple[RateFactor, ...] = ()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}.")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum}.")
        _require_decay(self.weight_decay)


OptimizerConfig = AdamConfig | SgdConfig


class MomentumSgd(keras.optimizers.Optimizer):
    """Makes the steps that ``SgdConfig`` describes.

    For a gradient g, a weight w and its velocity v:

        v = momentum v + g + weight_decay w
        w = w - learning_rate factor v

    Keras' own SGD has the learning rate inside the velocity, so that a falling rate goes on with
    steps of the higher one, and decays weights apart from the gradient.

    Args:
        config: Its constants.
        **kwargs: Of ``keras.optimizers.Optimizer``.
    """

    def __init__(self, config: SgdConfig, **kwargs: Any):
        super().__init__(learning_rate=config.learning_rate, **kwargs)
        self.config = config
        self._velocities: list[keras.Variable] = []
        # By the variable's number: on a replica only the tensor behind a variable is at hand,
        # which has no path.
        self._factors: list[float] = []
        self._decays: list[float] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        config = self.config
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        self._factors = [_rate_factor(config, v.path) for v in variables]
        self._decays = [
            config.weight_decay if config.decayed == "all" or len(v.shape) > 1 else 0.0
            for v in variables
        ]
        unused = [
            f.variables
            for f in config.rate_factors
            if not any(re.search(f.variables, v.path) for v in variables)
        ]
        if unused:
            raise ConfigError(
                f"rate_factors.variables {unused[0]!r} fits no variable of the net; their paths "
                f"are such as {variables[0].path!r} and {variables[-1].path!r}."
            )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its velocity."""
        index = self._get_variable_index(variable)
        learning_rate = keras.ops.cast(learning_rate, variable.dtype)
        gradient = keras.ops.cast(gradient, variable.dtype)
        if self._decays[index]:
            gradient = gradient + self._decays[index] * variable
        velocity = self._velocities[index]
        moved = self.config.momentum * velocity + gradient
        self.assign(velocity, moved)
        self.assign_sub(variable, self._factors[index] * learning_rate * moved)


class CoupledAdam(keras.optimizers.Adam):
    """Adam on gradients to which a share of each weight is added.

    Keras' own weight decay is that of AdamW: it shrinks weights apart from the gradient.

    Args:
        decay: The share.
        **kwargs: Of ``keras.optimizers.Adam``.
    """

    def __init__(self, decay: float, **kwargs: Any):
        super().__init__(**kwargs)
        self._decay = decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its moments."""
        gradient = keras.ops.cast(gradient, variable.dtype) + self._decay * variable
        super().update_step(gradient, variable, learning_rate)


def _rate_factor(config: SgdConfig, path: str) -> float:
    return next((f.factor for f in config.rate_factors if re.search(f.variables, path)), 1.0)


def make_optimizer(config: OptimizerConfig, name: str) -> keras.Optimizer:
    """Makes the optimizer of one net.

    Args:
        config: Its constants. The trainer sets the learning rate before each update, by the
            schedule.
        name: The net's name, for the variables' paths.
    """
    if isinstance(config, SgdConfig):
        return MomentumSgd(config, name=f"{name}_sgd")
    constants = {
        "learning_rate": config.learning_rate,
        "beta_1": config.beta_1,
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "name": f"{name}_adam",
    }
    if config.weight_decay:
        return CoupledAdam(config.weight_decay, **constants)
    return keras.optimizers.Adam(**constants)
