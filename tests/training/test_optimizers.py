import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.config import decode, encode
from facegan.errors import ConfigError
from facegan.training.devices import make_strategy
from facegan.training.optimizers import (
    AdamConfig,
    OptimizerConfig,
    RateFactor,
    SgdConfig,
    lazy_adam,
    make_optimizer,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """A config that leaves the choice."""

    optimizer: OptimizerConfig = AdamConfig()


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


def test_adams_weight_decay_is_coupled():
    adam = AdamConfig(learning_rate=0.1, beta_1=0.5, beta_2=0.9, epsilon=1e-8)
    decayed = make_optimizer(dataclasses.replace(adam, weight_decay=0.25), "net")
    plain = make_optimizer(adam, "net")
    weight, twin = (keras.Variable(np.array([1.0, -2.0], np.float32)) for _ in range(2))
    for gradient in ([0.5, -1.0], [0.25, 3.0], [-0.3, 0.0]):
        # PyTorch's Adam: a share of the weight is part of the gradient, moments included.
        plain.apply([np.array(gradient, np.float32) + 0.25 * np.array(twin)], [twin])
        decayed.apply([np.array(gradient, np.float32)], [weight])
    np.testing.assert_allclose(np.array(weight), np.array(twin), atol=1e-6)
    with pytest.raises(ConfigError, match="weight_decay must be >= 0, got -1"):
        AdamConfig(weight_decay=-1.0)


@pytest.mark.parametrize("every", [1, 4, 16])
def test_a_lazy_adam_learns_and_forgets_as_much_in_the_same_time(every):
    adam = AdamConfig(learning_rate=0.1, beta_1=0.5, beta_2=0.9, epsilon=1e-7, weight_decay=0.25)
    lazy = lazy_adam(adam, every)
    # In ``every`` steps it is applied once more.
    assert lazy.learning_rate * (every + 1) == pytest.approx(0.1 * every)
    assert lazy.beta_1 ** (every + 1) == pytest.approx(0.5**every)
    assert lazy.beta_2 ** (every + 1) == pytest.approx(0.9**every)
    same = dataclasses.replace(lazy, learning_rate=0.1, beta_1=0.5, beta_2=0.9)
    assert same == adam
    assert lazy_adam(dataclasses.replace(adam, beta_1=0.0), every).beta_1 == 0.0


def variables():
    """A kernel and a bias of a head, and a kernel of another layer."""
    with keras.name_scope("head"):
        kernel = keras.Variable(np.array([[1.0, -2.0]], np.float32), name="kernel")
        bias = keras.Variable(np.array([3.0], np.float32), name="bias")
    with keras.name_scope("stem"):
        other = keras.Variable(np.array([[5.0]], np.float32), name="kernel")
    return [kernel, bias, other]


GRADIENTS = (
    [np.array([[0.5, -1.0]]), np.array([2.0]), np.array([[1.0]])],
    [np.array([[0.25, 3.0]]), np.array([-1.0]), np.array([[4.0]])],
    [np.array([[-1.0, 0.5]]), np.array([0.5]), np.array([[0.0]])],
)
RATES = (0.1, 0.05, 0.02)


def sgd_by_hand(start, decays, factors):
    """PyTorch's rule in float64; the rate changes with each step."""
    weights = [np.array(w, np.float64) for w in start]
    velocities = [np.zeros_like(w) for w in weights]
    for rate, gradients in zip(RATES, GRADIENTS, strict=True):
        for i, gradient in enumerate(gradients):
            velocities[i] = 0.9 * velocities[i] + gradient + decays[i] * weights[i]
            weights[i] = weights[i] - rate * factors[i] * velocities[i]
    return weights


def run_sgd(config, weights):
    optimizer = make_optimizer(config, "net")
    for rate, gradients in zip(RATES, GRADIENTS, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([g.astype(np.float32) for g in gradients], weights)
    return optimizer


@pytest.mark.parametrize(
    ("decayed", "decays"), [("kernels", (0.1, 0.0, 0.1)), ("all", (0.1, 0.1, 0.1))]
)
def test_sgd_is_pytorchs_formula_under_a_changing_rate(decayed, decays):
    weights = variables()
    expected = sgd_by_hand(weights, decays, (10.0, 10.0, 1.0))
    config = SgdConfig(
        momentum=0.9,
        weight_decay=0.1,
        decayed=decayed,
        rate_factors=(RateFactor(variables="^head/", factor=10.0),),
    )
    run_sgd(config, weights)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(np.array(ours), theirs, rtol=1e-5)


def test_sgd_state_continues_in_another_optimizer():
    whole, halves = variables(), variables()
    config = SgdConfig(weight_decay=0.01)
    run_sgd(config, whole)
    first = make_optimizer(config, "net")
    first.learning_rate = RATES[0]
    first.apply([g.astype(np.float32) for g in GRADIENTS[0]], halves)
    second = make_optimizer(config, "net")
    second.build(halves)
    assert len(second.variables) == 2 + len(halves)  # step count, rate, velocities
    for target, source in zip(second.variables, first.variables, strict=True):
        target.assign(source)
    for rate, gradients in zip(RATES[1:], GRADIENTS[1:], strict=True):
        second.learning_rate = rate
        second.apply([g.astype(np.float32) for g in gradients], halves)
    for a, b in zip(whole, halves, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_sgd_on_two_replicas_adds_their_gradients(two_cpus):
    config = SgdConfig(
        weight_decay=0.1, rate_factors=(RateFactor(variables="^head/", factor=10.0),)
    )
    single = variables()
    expected = sgd_by_hand(single, (0.1, 0.0, 0.1), (10.0, 10.0, 1.0))
    strategy = make_strategy(len(two_cpus))
    with strategy.scope():
        weights = variables()
        optimizer = make_optimizer(config, "net")
        optimizer.build(weights)

    @tf.function
    def step(gradients):
        strategy.run(lambda: optimizer.apply([g / 2 for g in gradients], weights))

    for rate, gradients in zip(RATES, GRADIENTS, strict=True):
        optimizer.learning_rate = rate
        step([tf.constant(g, tf.float32) for g in gradients])
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(np.array(ours), theirs, rtol=1e-5)


def test_a_rate_factor_that_fits_nothing_is_refused():
    config = SgdConfig(rate_factors=(RateFactor(variables="tail", factor=10.0),))
    with pytest.raises(ConfigError, match="'tail' fits no variable.*'head/kernel'"):
        make_optimizer(config, "net").build(variables())


@pytest.mark.parametrize(
    "config",
    [
        AdamConfig(beta_1=0.9),
        SgdConfig(weight_decay=5e-4, rate_factors=(RateFactor(variables="head", factor=10.0),)),
    ],
    ids=lambda config: config.KIND,
)
def test_a_choice_of_optimizers_survives_json(config):
    assert decode(Holder, encode(Holder(optimizer=config))).optimizer == config


def test_adams_of_older_documents_have_no_kind():
    assert decode(AdamConfig, {"learning_rate": 0.1}) == AdamConfig(learning_rate=0.1)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (AdamConfig, {"learning_rate": 0.0}),
        (AdamConfig, {"beta_1": 1.0}),
        (AdamConfig, {"beta_2": -0.1}),
        (SgdConfig, {"learning_rate": -1.0}),
        (SgdConfig, {"momentum": 1.0}),
        (SgdConfig, {"weight_decay": -0.1}),
        (RateFactor, {"factor": -1.0, "variables": "head"}),
        (RateFactor, {"variables": "(", "factor": 1.0}),
    ],
)
def test_refuses(cls, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        cls(**values)
