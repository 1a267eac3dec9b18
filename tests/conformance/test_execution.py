"""Compiled execution equals eager execution, and half precision stays finite."""

import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from tests.conformance.cases import each_case, each_random_case
from tests.conformance.harness import (
    arrays,
    assert_same,
    call,
    make_built,
    make_inputs,
    make_seed,
    scalar,
)


@each_case
def test_compiled_equals_eager(case):
    layer, inputs, seed = make_built(case), make_inputs(case), make_seed()

    @tf.function(jit_compile=True)
    def compiled(inputs, seed):
        # Random bits need not be the same in compiled code, so a random layer runs without them.
        return call(layer, inputs, training=not case.random, seed=seed)

    eager = call(make_built(case), inputs, training=not case.random, seed=seed)
    assert_same(case, eager, compiled(inputs, seed))


@each_random_case
def test_training_with_a_seed_compiles(case):
    layer, inputs = make_built(case), make_inputs(case)

    @tf.function(jit_compile=True)
    def compiled(inputs, seed):
        return call(layer, inputs, training=True, seed=seed)

    first = arrays(compiled(inputs, make_seed(1, 2)))
    same = arrays(compiled(inputs, make_seed(1, 2)))
    other = arrays(compiled(inputs, make_seed(1, 3)))
    assert all(np.all(np.isfinite(a)) for a in first)
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    # Moving statistics have changed in between, but training does not read them.
    assert_same(case, first, same, factor=0)


@each_case
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_finite_with_float32_variables(case, policy):
    layer, inputs = make_built(case, dtype=policy), make_inputs(case)
    with tf.GradientTape() as tape:
        outputs = call(layer, inputs, training=True, seed=make_seed())
        loss = scalar(outputs)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert all(v.dtype == "float32" for v in layer.variables)
    for value in arrays([*tree.flatten(outputs), *gradients]):
        assert np.all(np.isfinite(value))
    # Fresh ones: training has moved the statistics.
    expected = arrays(call(make_built(case), inputs))
    # bfloat16 keeps 8 bits; a net of toy size multiplies that error by its depth at most.
    for exact, rough in zip(
        expected, arrays(call(make_built(case, dtype=policy), inputs)), strict=True
    ):
        assert np.mean(np.abs(exact - rough)) < 0.1 * max(1.0, np.mean(np.abs(exact)))
