import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.errors import ConfigError
from facegan.training.ema import EmaConfig, ema_decay, update_ema


def test_ramp_forgets_the_start():
    config = EmaConfig(decay=0.99)
    assert ema_decay(config, 0) == pytest.approx(0.1)
    assert ema_decay(config, 10) == pytest.approx(11 / 20)
    assert ema_decay(config, 10_000) == 0.99
    assert ema_decay(EmaConfig(decay=0.99, ramp=False), 0) == 0.99


def test_the_half_life_is_at_most_a_share_of_the_steps():
    config = EmaConfig(decay=0.99, ramp=False, ramp_share=0.05)
    assert ema_decay(config, 0) == 0.0  # the random start is forgotten at once
    # After 400 steps it is 20 steps, and so many steps leave half.
    assert ema_decay(config, 400) == pytest.approx(0.5 ** (1 / 20))
    assert ema_decay(config, 400) ** 20 == pytest.approx(0.5)
    # From ln 2 / (0.05 * 0.01005) = 1379 steps on, the decay itself is less.
    assert ema_decay(config, 1300) < 0.99
    assert ema_decay(config, 1400) == ema_decay(config, 10**6) == 0.99
    # Beside the other ramp, the smaller of the two counts.
    both = EmaConfig(decay=0.99, ramp_share=10.0)
    assert ema_decay(both, 10) == pytest.approx(11 / 20)
    assert ema_decay(EmaConfig(decay=0.99, ramp_share=0.05), 10) == pytest.approx(0.25)


@given(st.floats(0, 0.999), st.floats(-10, 10), st.floats(-10, 10))
def test_the_average_stays_between_its_inputs(decay, old, new):
    average, source = keras.Variable(np.float32(old)), keras.Variable(np.float32(new))
    update_ema([average], [source], decay)
    low, high = sorted((np.float32(old), np.float32(new)))
    assert low - 1e-5 <= float(average) <= high + 1e-5
    assert float(average) == pytest.approx(decay * old + (1 - decay) * new, abs=1e-4)


def test_buffers_are_copied():
    average = keras.Variable(np.float32(0.0), trainable=False)
    source = keras.Variable(np.float32(5.0), trainable=False)
    update_ema([average], [source], 0.9)
    assert float(average) == 5.0


def test_refuses():
    with pytest.raises(ConfigError, match=r"ema.decay must be in \[0, 1\), got 1.0"):
        EmaConfig(decay=1.0)
    with pytest.raises(ConfigError, match="ema.ramp_share must be at least 0, got -0.1"):
        EmaConfig(ramp_share=-0.1)
