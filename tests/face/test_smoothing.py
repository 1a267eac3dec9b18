"""The One Euro filter, live and over a whole recording."""

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face.smoothing import OneEuroFilter, SmoothingConfig, runs, smooth_offline

TIMES = np.arange(300) / 30.0


def test_two_steps_by_hand():
    one_euro = OneEuroFilter(min_cutoff_hz=1.0, beta=0.5, d_cutoff_hz=2.0)
    assert one_euro(np.array([1.0]), 0.0) == 1.0
    # dt = 0.1: speed 20 -> smoothed by alpha(2 Hz) = 0.4 pi / (1 + 0.4 pi)
    alpha_d = 0.4 * np.pi / (1 + 0.4 * np.pi)
    cutoff = 1.0 + 0.5 * alpha_d * 20.0
    alpha = 0.2 * np.pi * cutoff / (1 + 0.2 * np.pi * cutoff)
    assert one_euro(np.array([3.0]), 0.1)[0] == pytest.approx(1.0 + alpha * 2.0)


def test_reset_and_constant_input():
    one_euro = OneEuroFilter(1.0, 1.0)
    for t in (0.0, 0.1, 0.2):
        np.testing.assert_array_equal(one_euro(np.array([4.0, -2.0]), t), [4.0, -2.0])
    one_euro.reset()
    assert one_euro(np.array([9.0, 9.0]), 0.0).tolist() == [9.0, 9.0]


def test_time_must_not_run_backwards():
    one_euro = OneEuroFilter()
    one_euro(np.zeros(1), 1.0)
    assert one_euro(np.ones(1), 1.0) == 0.0
    with pytest.raises(DataError, match="after"):
        one_euro(np.ones(1), 0.5)


def test_offline_has_no_lag_where_live_has():
    wave = np.sin(2 * np.pi * 1.5 * TIMES)[:, None]
    config = SmoothingConfig(min_cutoff_hz=1.0, beta=0.0)
    live = OneEuroFilter(1.0, 0.0)
    lagging = np.stack([live(v, t) for v, t in zip(wave, TIMES, strict=True)])
    smooth = smooth_offline(wave, TIMES, config)

    def lag(signal):
        shifts = range(-8, 9)
        scores = [np.dot(np.roll(signal[30:-30, 0], -s), wave[30:-30, 0]) for s in shifts]
        return shifts[int(np.argmax(scores))]

    assert lag(lagging) >= 2
    assert lag(smooth) == 0


def test_noise_at_rest_falls_and_a_quick_move_stays():
    rng = np.random.default_rng(0)
    step = np.where(TIMES < 5.0, 0.0, 0.3)[:, None]
    noisy = step + 0.005 * rng.standard_normal((300, 1))
    smooth = smooth_offline(noisy, TIMES)
    assert (smooth - step)[20:130].std() < 0.6 * (noisy - step)[20:130].std()
    # The step of a third of the eye distance is through within two frames on either side.
    assert smooth[147, 0] < 0.1 and smooth[152, 0] > 0.2


def test_runs_are_smoothed_apart_and_gaps_kept():
    values = np.ones((9, 2), np.float32)
    values[4] = np.nan
    values[5:] = 100.0
    present = np.array([True] * 4 + [False] + [True] * 4)
    smooth = smooth_offline(values, np.arange(9.0), present=present)
    assert (smooth[:4] == 1.0).all() and np.isnan(smooth[4]).all() and (smooth[5:] == 100.0).all()
    assert smooth.dtype == np.float32
    assert list(runs(present)) == [(0, 4), (5, 9)]
    assert list(runs(np.zeros(3, bool))) == []


def test_off_copies():
    values = np.random.default_rng(0).random((5, 3))
    out = smooth_offline(values, np.arange(5.0), SmoothingConfig(enabled=False))
    np.testing.assert_array_equal(out, values)
    assert out is not values


def test_unit_scales_speeds_only():
    values = np.cumsum(np.random.default_rng(0).standard_normal((60, 1)), axis=0)
    a = smooth_offline(values, TIMES[:60])
    b = smooth_offline(values * 50, TIMES[:60], unit=50.0)
    np.testing.assert_allclose(b, a * 50, rtol=1e-9)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="positive"):
        SmoothingConfig(min_cutoff_hz=0.0)
    with pytest.raises(ConfigError, match="bridge_frames"):
        SmoothingConfig(bridge_frames=-1)
    with pytest.raises(DataError, match="times"):
        smooth_offline(np.zeros((3, 1)), np.zeros(2))
