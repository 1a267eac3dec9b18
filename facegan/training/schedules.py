"""Values that change over training, as pure functions of the step.

Nothing here counts for itself, so a run that is killed and resumed sees the same values as one
that was never interrupted.
"""

import dataclasses
import math
from typing import Literal

from facegan.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """A factor in [final, 1] that multiplies a base value.

    ``shape`` "linear" holds 1 for the first ``hold`` of the run, then falls in a straight line to
    ``final`` at its end (Isola et al. train 100 epochs constant and 100 falling: hold 0.5);
    "cosine" falls along half a cosine; "poly" falls as the ``power`` of the share that is left;
    "constant" stays. ``warmup_steps`` rise first: linearly from 0, or with ``warmup_from`` above 0
    from that factor by equal ratios (the public BiSeNet code: from 1e-5 to 1e-2, so 0.001).
    """

    shape: Literal["constant", "linear", "cosine", "poly"] = "constant"
    hold: float = 0.5
    final: float = 0.0
    power: float = 0.9
    warmup_steps: int = 0
    warmup_from: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.hold <= 1.0:
            raise ConfigError(f"schedule.hold is a share of the run in [0, 1], got {self.hold}.")
        if not 0.0 <= self.final <= 1.0:
            raise ConfigError(f"schedule.final is a factor in [0, 1], got {self.final}.")
        if self.power <= 0:
            raise ConfigError(f"schedule.power must be above 0, got {self.power}.")
        if self.warmup_steps < 0:
            raise ConfigError(f"schedule.warmup_steps must be >= 0, got {self.warmup_steps}.")
        if not 0.0 <= self.warmup_from <= 1.0:
            raise ConfigError(
                f"schedule.warmup_from is a factor in [0, 1], got {self.warmup_from}."
            )


def schedule_factor(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """The factor before update number ``step`` (0-based) of a run of ``total_steps``."""
    factor = 1.0
    if config.shape != "constant":
        start = config.hold * total_steps
        # The last update still moves: it is made at (total - 1), one share short of `final`.
        share = min(max((step - start) / max(total_steps - start, 1.0), 0.0), 1.0)
        factor = 1.0 - (1.0 - config.final) * _fall(config, share)
    if step < config.warmup_steps:
        if config.warmup_from > 0:
            factor *= config.warmup_from ** (1.0 - step / config.warmup_steps)
        else:
            factor *= (step + 1) / config.warmup_steps
    return factor


def _fall(config: ScheduleConfig, share: float) -> float:
    """How much of the way from 1 to ``final`` is done after a share of it, in [0, 1]."""
    if config.shape == "poly":
        return 1.0 - (1.0 - share) ** config.power
    if config.shape == "cosine":
        return 0.5 * (1.0 - math.cos(math.pi * share))
    return share
