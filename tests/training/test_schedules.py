import pytest

from facegan.errors import ConfigError
from facegan.training.schedules import ScheduleConfig, schedule_factor


def test_constant_stays():
    assert [schedule_factor(ScheduleConfig(), s, 10) for s in (0, 5, 9, 20)] == [1.0] * 4


def test_linear_holds_then_falls():
    config = ScheduleConfig(shape="linear", hold=0.5)
    factors = [schedule_factor(config, s, 10) for s in range(11)]
    assert factors[:6] == [1.0] * 6
    assert factors[6:] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_cosine_ends_at_final():
    config = ScheduleConfig(shape="cosine", hold=0.0, final=0.1)
    assert schedule_factor(config, 5, 10) == pytest.approx(0.55)
    assert schedule_factor(config, 10, 10) == pytest.approx(0.1)
    assert schedule_factor(config, 99, 10) == pytest.approx(0.1)


def test_warmup_multiplies():
    config = ScheduleConfig(warmup_steps=4)
    assert [schedule_factor(config, s, 10) for s in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hold": 1.5}, "hold is a share"),
        ({"final": -0.1}, "final is a factor"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        ScheduleConfig(**values)
