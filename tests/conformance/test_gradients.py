"""A gradient reaches every trainable variable and the input."""

import numpy as np
import tensorflow as tf
from keras import tree

from tests.conformance.cases import each_case
from tests.conformance.harness import call, dtype_of, make_built, make_inputs, make_seed, scalar


@each_case
def test_gradient_reaches_every_trainable_variable(case):
    layer, inputs = make_built(case), make_inputs(case)
    with tf.GradientTape() as tape:
        moving = [value for value in tree.flatten(inputs) if dtype_of(value) == "float32"]
        tape.watch(moving)
        loss = scalar(call(layer, inputs, training=True, seed=make_seed()))
    variables = [(v.path, v.value) for v in layer.trainable_variables]
    sources = [value for _, value in variables] + moving
    names = [path for path, _ in variables] + [f"input {i}" for i in range(10)]
    for name, gradient in zip(names, tape.gradient(loss, sources), strict=False):
        assert gradient is not None, name
        # A number added to all keys of an attention changes no softmax; rounding alone is left.
        if not name.endswith("key/bias"):
            assert np.any(np.asarray(gradient) != 0), name
