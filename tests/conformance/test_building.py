"""Variables come out the same however a layer is built, and shapes are known before it runs."""

import keras
from keras import tree

from tests.conformance.cases import each_case
from tests.conformance.harness import call, dtype_of, input_shapes, make_inputs


def _variables(layer):
    return [(v.path, tuple(v.shape), v.trainable) for v in layer.variables]


@each_case
def test_building_first_equals_calling_first(case):
    built, called = case.make(name="same"), case.make(name="same")
    built.build(input_shapes(case, batch=None))
    assert built.built
    before = _variables(built)
    call(called, make_inputs(case))
    assert before == _variables(called)
    call(built, make_inputs(case))
    assert before == _variables(built)
    assert len({path for path, _, _ in before}) == len(before)


@each_case
def test_inferred_shapes_are_those_of_the_run(case):
    layer = case.make()
    inputs = make_inputs(case)
    symbols = tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype_of(x)), inputs)
    inferred = layer.compute_output_spec(symbols)
    outputs = call(case.make(), inputs)
    tree.assert_same_structure(inferred, outputs)
    for spec, value in zip(tree.flatten(inferred), tree.flatten(outputs), strict=True):
        assert tuple(spec.shape) == tuple(value.shape)
        assert spec.dtype == dtype_of(value)


@each_case
def test_default_names_do_not_count_up(case):
    layer = case.make()
    if isinstance(layer, keras.Model):
        assert case.make().name == layer.name
