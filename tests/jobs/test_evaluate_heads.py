import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.jobs.evaluate_heads import HeadEvaluationConfig, _divide

# The evaluation itself: tests/integration/test_talking_head.py.


@pytest.mark.parametrize("total", [33, 40, 100])
def test_judged_frames_are_the_same_for_every_number_of_shots_and_never_learnt(total):
    parts = {count: _divide(total, count, 32, 32) for count in (1, 8, 32)}
    judged = parts[1][1]
    for count, (learnt, others) in parts.items():
        assert len(learnt) == len(set(learnt)) == count
        np.testing.assert_array_equal(others, judged)
        assert not set(learnt) & set(judged)
    assert set(parts[1][0]) < set(parts[32][0]) and set(parts[8][0]) < set(parts[32][0])
    assert len(judged) == min(32, total - 32)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="numbers from 1 up"):
        HeadEvaluationConfig(shots=(0, 8))
    with pytest.raises(ConfigError, match="test_frames must be at least 1"):
        HeadEvaluationConfig(test_frames=0)
