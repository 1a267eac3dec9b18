"""What is drawn follows from the seed alone."""

import numpy as np
import pytest

from facegan.errors import ConfigError
from tests.conformance.cases import each_case
from tests.conformance.harness import arrays, call, make_built, make_inputs, make_seed


def _run(case, *, training, seed):
    return arrays(call(make_built(case), make_inputs(case), training=training, seed=seed))


@each_case
def test_same_seed_gives_the_same_output(case):
    first = _run(case, training=True, seed=make_seed(3, 4))
    again = _run(case, training=True, seed=make_seed(3, 4))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


@each_case
def test_only_random_layers_depend_on_the_seed(case):
    first = _run(case, training=True, seed=make_seed(3, 4))
    other = _run(case, training=True, seed=make_seed(3, 5))
    equal = all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert equal != case.random


@each_case
def test_inference_needs_no_seed_and_training_without_one_is_refused(case):
    _run(case, training=False, seed=None)
    if case.random:
        with pytest.raises(ConfigError, match="seed"):
            _run(case, training=True, seed=None)
    else:
        _run(case, training=True, seed=None)


@each_case
def test_layers_hold_no_random_state(case):
    assert not [v.path for v in make_built(case).variables if "seed" in v.path]
