import pytest

from facegan.config import decode
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


def test_poly_falls_as_the_power_of_what_is_left():
    config = ScheduleConfig(shape="poly", hold=0.0, power=0.9)
    factors = [schedule_factor(config, s, 10) for s in (0, 5, 9, 10)]
    assert factors == pytest.approx([1.0, 0.5**0.9, 0.1**0.9, 0.0])
    raised = ScheduleConfig(shape="poly", hold=0.0, power=2.0, final=0.2)
    assert schedule_factor(raised, 5, 10) == pytest.approx(0.2 + 0.8 * 0.25)


def test_warmup_from_a_factor_rises_by_equal_ratios():
    config = ScheduleConfig(warmup_steps=4, warmup_from=1e-4)
    factors = [schedule_factor(config, s, 10) for s in range(5)]
    assert factors == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_the_parsers_rate_is_that_of_the_public_recipe():
    # 1e-5 to 1e-2 in 1000 steps, then (1 - share of the other 79000)^0.9.
    config = ScheduleConfig(
        shape="poly", hold=1000 / 80000, power=0.9, warmup_steps=1000, warmup_from=1e-3
    )

    def rate(step):
        return 1e-2 * schedule_factor(config, step, 80000)

    assert rate(0) == pytest.approx(1e-5)
    assert rate(500) == pytest.approx(1e-5 * 1000**0.5)
    assert rate(1000) == pytest.approx(1e-2)
    assert rate(40500) == pytest.approx(1e-2 * 0.5**0.9)


def test_what_was_stored_before_poly_still_means_the_same():
    old = {"shape": "linear", "hold": 0.4, "final": 0.0, "warmup_steps": 3}
    config = decode(ScheduleConfig, old)
    assert schedule_factor(config, 0, 10) == pytest.approx(1 / 3)
    assert schedule_factor(config, 7, 10) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hold": 1.5}, "hold is a share"),
        ({"final": -0.1}, "final is a factor"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0"),
        ({"warmup_from": 2.0}, "warmup_from is a factor"),
        ({"power": 0.0}, "power must be above 0"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        ScheduleConfig(**values)
