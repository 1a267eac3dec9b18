import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.training.optimizers import AdamConfig, make_optimizer


def test_one_step_is_adams_formula():
    config = AdamConfig(learning_rate=0.1, beta_1=0.5, beta_2=0.9, epsilon=1e-8)
    optimizer = make_optimizer(config, "net")
    weight = keras.Variable(np.array([1.0, -2.0], np.float32))
    for step, gradient in enumerate(([0.5, -1.0], [0.25, 3.0]), start=1):
        optimizer.apply([np.array(gradient, np.float32)], [weight])
        if step == 1:
            first = np.array(weight)
    np.testing.assert_allclose(first, [0.9, -1.9], atol=1e-6)  # the first step is lr * sign
    g1, g2 = np.array([0.5, -1.0]), np.array([0.25, 3.0])
    m = 0.5 * (0.5 * g1) + 0.5 * g2
    v = 0.9 * (0.1 * g1**2) + 0.1 * g2**2
    move = 0.1 * (m / (1 - 0.5**2)) / (np.sqrt(v / (1 - 0.9**2)) + 1e-8)
    np.testing.assert_allclose(np.array(weight), first - move, atol=1e-5)


@pytest.mark.parametrize("values", [{"learning_rate": 0.0}, {"beta_1": 1.0}, {"beta_2": -0.1}])
def test_refuses(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        AdamConfig(**values)
