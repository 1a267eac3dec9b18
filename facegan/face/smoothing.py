"""Smoothing of landmarks over time.

The One Euro filter smooths strongly while a value rests and hardly while it moves, so trembling
goes and speech stays. Live it lags a little; over a whole track it runs in both directions, which
takes the lag away.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from facegan.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SmoothingConfig:
    """How landmarks are smoothed; speeds are in eye distances per second.

    Attributes:
        enabled: Whether anything is smoothed.
        min_cutoff_hz: Cut-off frequency at rest; lower is calmer.
        beta: Cut-off gained per unit of speed, in Hz; higher follows quick moves more closely.
        d_cutoff_hz: Cut-off frequency of the speed estimate.
        bridge_frames: A face that is missing for at most this many frames is filled in between
            its neighbours, and counts as present.
    """

    KIND: ClassVar[str] = "one_euro"

    enabled: bool = True
    min_cutoff_hz: float = 2.0
    beta: float = 12.0
    d_cutoff_hz: float = 4.0
    bridge_frames: int = 5

    def __post_init__(self) -> None:
        if self.min_cutoff_hz <= 0.0 or self.d_cutoff_hz <= 0.0 or self.beta < 0.0:
            raise ConfigError(
                "min_cutoff_hz and d_cutoff_hz must be positive and beta not negative, got "
                f"{self.min_cutoff_hz}, {self.d_cutoff_hz} and {self.beta}."
            )
        if self.bridge_frames < 0:
            raise ConfigError(f"bridge_frames must not be negative, got {self.bridge_frames}.")


class OneEuroFilter:
    """A low-pass filter whose cut-off rises with the speed of the signal.

    Call input: values of any fixed shape, and their time; times must not run backwards.
    Call output: smoothed values, float64, of the same shape.

    Args:
        min_cutoff_hz: Cut-off frequency at rest.
        beta: Cut-off gained per unit of speed.
        d_cutoff_hz: Cut-off frequency of the speed estimate.

    Reference: Casiez, Roussel and Vogel, "1 Euro Filter", CHI 2012, algorithm 1.
    """

    def __init__(
        self, min_cutoff_hz: float = 1.0, beta: float = 0.0, d_cutoff_hz: float = 1.0
    ) -> None:
        self.min_cutoff_hz = min_cutoff_hz
        self.beta = beta
        self.d_cutoff_hz = d_cutoff_hz
        self._time_s: float | None = None
        self._raw = self._smooth = self._speed = np.zeros(0)

    def reset(self) -> None:
        """Forgets the past; the next values pass unchanged."""
        self._time_s = None

    def __call__(self, values: np.ndarray, time_s: float) -> np.ndarray:
        """Filters the values at one time."""
        values = np.asarray(values, np.float64)
        if self._time_s is None or values.shape != self._smooth.shape:
            self._time_s = time_s
            self._raw, self._smooth, self._speed = values, values, np.zeros_like(values)
            return values.copy()
        step = time_s - self._time_s
        if step < 0.0:
            raise DataError(f"OneEuroFilter got time {time_s} s after {self._time_s} s.")
        if step == 0.0:
            return self._smooth.copy()
        speed = (values - self._raw) / step
        self._speed = self._speed + _alpha(self.d_cutoff_hz, step) * (speed - self._speed)
        cutoff = self.min_cutoff_hz + self.beta * np.abs(self._speed)
        self._smooth = self._smooth + _alpha(cutoff, step) * (values - self._smooth)
        self._raw, self._time_s = values, time_s
        return self._smooth.copy()


def _alpha(cutoff_hz: np.ndarray | float, step_s: float) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * step_s)))


def smooth_offline(
    values: np.ndarray,
    times_s: np.ndarray,
    config: SmoothingConfig | None = None,
    *,
    present: np.ndarray | None = None,
    unit: float = 1.0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Smooths a whole recording without lag: the mean of a forward and a backward pass.

    Args:
        values: [N, ...], one row per frame; may be a memory map.
        times_s: [N], not decreasing.
        config: The filter's settings.
        present: [N] bool; each unbroken run of present rows is smoothed for itself, and other
            rows are copied.
        unit: Length that counts as 1 in the filter's speeds, such as the eye distance.
        out: Where the result goes, of the shape of ``values``; may be a memory map, must not be
            ``values`` itself.

    Returns:
        ``out``, or a new array of the dtype of ``values``.
    """
    config = config or SmoothingConfig()
    if len(values) != len(times_s):
        raise DataError(
            f"smooth_offline got {len(values)} rows of values and {len(times_s)} times."
        )
    out = np.empty_like(values) if out is None else out
    for start in range(0, len(values), 4096):
        out[start : start + 4096] = values[start : start + 4096]
    if not config.enabled:
        return out
    for start, stop in runs(np.ones(len(values), bool) if present is None else present):
        for direction in (1, -1):
            order = range(start, stop) if direction == 1 else range(stop - 1, start - 1, -1)
            one_euro = OneEuroFilter(config.min_cutoff_hz, config.beta, config.d_cutoff_hz)
            for i in order:
                row = one_euro(np.asarray(values[i]) / unit, direction * float(times_s[i]))
                out[i] = row * unit if direction == 1 else (out[i] + row * unit) / 2.0
    return out


def runs(present: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and stop of each unbroken run of True in [N] bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(present, np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield int(start), int(stop)
