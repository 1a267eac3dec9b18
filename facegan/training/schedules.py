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
    "cosine" falls along half a cosine; "constant" stays. ``warmup_steps`` rise linearly first.
    """

    shape: Literal["constant", "linear", "cosine"] = "constant"
    hold: float = 0.5
    final: float = 0.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.hold <= 1.0:
            raise ConfigError(f"schedule.hold is a share of the run in [0, 1], got {self.hold}.")
        if not 0.0 <= self.final <= 1.0:
            raise ConfigError(f"schedule.final is a factor in [0, 1], got {self.final}.")
        if self.warmup_steps < 0:
            raise ConfigError(f"schedule.warmup_steps must be >= 0, got {self.warmup_steps}.")


def schedule_factor(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """The factor before update number ``step`` (0-based) of a run of ``total_steps``."""
    factor = 1.0
    if config.shape != "constant":
        start = config.hold * total_steps
        # The last update still moves: it is made at (total - 1), one share short of `final`.
        share = min(max((step - start) / max(total_steps - start, 1.0), 0.0), 1.0)
        fall = share if config.shape == "linear" else 0.5 * (1.0 - math.cos(math.pi * share))
        factor = 1.0 - (1.0 - config.final) * fall
    if step < config.warmup_steps:
        factor *= (step + 1) / config.warmup_steps
    return factor
