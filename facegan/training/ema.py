"""Exponential moving average of a net's weights."""

import dataclasses
from collections.abc import Sequence

import keras
from keras import ops

from facegan.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """How slowly the average follows.

    ``decay`` is the share kept at each step. With ``ramp`` the first steps keep less, so that the
    random start is forgotten: min(decay, (1 + step) / (10 + step)). With a ``ramp_share`` the
    average's half-life is at most that share of the steps so far.
    """

    decay: float = 0.999
    ramp: bool = True
    ramp_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"ema.decay must be in [0, 1), got {self.decay}.")
        if self.ramp_share < 0:
            raise ConfigError(f"ema.ramp_share must be at least 0, got {self.ramp_share}.")


def ema_decay(config: EmaConfig, step: int) -> float:
    """The share of the old average that update number ``step`` (0-based) keeps."""
    decay = min(config.decay, (1.0 + step) / (10.0 + step)) if config.ramp else config.decay
    if config.ramp_share:
        half_life = config.ramp_share * step
        decay = min(decay, 0.5 ** (1.0 / half_life) if half_life else 0.0)
    return decay


def update_ema(
    averages: Sequence[keras.Variable], sources: Sequence[keras.Variable], decay
) -> None:
    """Moves each average towards its source: average = decay * average + (1 - decay) * source.

    Untrained variables, such as the moving statistics of batch norm, are averages already and are
    copied.
    """
    for average, source in zip(averages, sources, strict=True):
        if source.trainable:
            step = ops.cast(1.0 - decay, average.dtype)
            average.assign(average + step * (source - average))
        else:
            average.assign(source)
