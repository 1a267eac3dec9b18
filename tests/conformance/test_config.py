"""A layer's config is plain JSON, names every constructor argument, and rebuilds the layer."""

import inspect
import json

import keras

from tests.conformance.cases import each_case
from tests.conformance.harness import assert_same, call, input_shapes, make_inputs, randomize

BASE_ARGUMENTS = set(inspect.signature(keras.layers.Layer.__init__).parameters)


@each_case
def test_config_round_trip(case):
    layer = case.make()
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    for built in (layer, again):
        built.build(input_shapes(case))
        randomize(built)
    inputs = make_inputs(case)
    assert_same(case, call(layer, inputs), call(again, inputs), factor=0)


@each_case
def test_config_names_every_constructor_argument(case):
    layer = case.make()
    if not type(layer).__module__.startswith("facegan."):
        return
    arguments = set(inspect.signature(type(layer).__init__).parameters) - BASE_ARGUMENTS
    assert set(layer.get_config()) - BASE_ARGUMENTS == arguments
