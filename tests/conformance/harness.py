"""What the conformance tests share: making inputs, filling weights, calling, comparing."""

import inspect
import zlib
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tests.conformance.cases import Case


def make_inputs(case: Case) -> Any:
    """Float32 noise in [-1, 1], or ids, in the structure the case asks for; always the same."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))

    def noise(shape, name=""):
        if name in case.ids:
            return ops.convert_to_tensor(rng.integers(0, case.ids[name], shape).astype(np.int32))
        return ops.convert_to_tensor(rng.uniform(-1, 1, shape).astype(np.float32))

    if isinstance(case.inputs, dict):
        return {name: noise(shape, name) for name, shape in case.inputs.items()}
    return noise(case.inputs)


def dtype_of(tensor: Any) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def input_shapes(case: Case, batch: int | None = 2) -> Any:
    """The case's input shapes, with another batch size on request."""
    if isinstance(case.inputs, dict):
        return {name: (batch, *shape[1:]) for name, shape in case.inputs.items()}
    return (batch, *case.inputs[1:])


def make_built(case: Case, **kwargs: Any) -> keras.layers.Layer:
    """A built layer with random weights: the papers' start is so small that faults hide in it."""
    layer = case.make(**kwargs)
    layer.build(input_shapes(case))
    randomize(layer)
    return layer


def randomize(layer: keras.layers.Layer) -> None:
    """Gives every variable values that follow from its path below the layer."""
    for variable in layer.variables:
        path = variable.path.split("/", 1)[-1]
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        shape = tuple(variable.shape)
        if path.endswith("variance"):
            value = rng.uniform(0.5, 1.5, shape)
        elif path.endswith("gamma"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        else:
            value = 0.1 * rng.standard_normal(shape)
        variable.assign(value.astype(np.float32))


def call(layer: Any, inputs: Any, training: bool = False, seed: Any = None) -> Any:
    """Calls with the keywords that the layer's ``call`` takes."""
    known = inspect.signature(layer.call).parameters
    given = {"training": training, "seed": seed}
    return layer(inputs, **{name: value for name, value in given.items() if name in known})


def make_seed(*words: int) -> Any:
    return ops.convert_to_tensor(np.array(words or (1, 2), np.int32))


def arrays(outputs: Any) -> list[np.ndarray]:
    """The outputs as a flat list of float32 arrays."""
    return [np.asarray(ops.cast(value, "float32")) for value in tree.flatten(outputs)]


def assert_same(case: Case, first: Any, second: Any, factor: float = 1.0) -> None:
    """Fails unless two outputs agree within the case's tolerance times ``factor``."""
    first, second = arrays(first), arrays(second)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.shape == b.shape
        assert np.all(np.isfinite(a))
        scale = max(np.max(np.abs(a)), 1.0)
        np.testing.assert_allclose(b, a, rtol=0, atol=factor * case.tolerance * scale)


def scalar(outputs: Any) -> Any:
    """One number that depends on every output differently, to take a gradient of."""
    total = 0.0
    for value in tree.flatten(outputs):
        value = ops.cast(value, "float32")
        # Per example first: the mean over two replicas is then the mean over the batch.
        size = int(np.prod(value.shape[1:]))
        weights = np.sin(np.arange(size, dtype=np.float32) + 1).reshape(value.shape[1:])
        total = total + ops.mean(ops.sum(value * weights, axis=tuple(range(1, value.ndim))))
    return total


def as_model(case: Case, layer: keras.layers.Layer) -> keras.Model:
    """A net as it is; a layer inside the smallest model, which can be saved and exported."""
    if isinstance(layer, keras.Model):
        return layer
    if isinstance(case.inputs, dict):
        inputs = {name: keras.Input(shape[1:], name=name) for name, shape in case.inputs.items()}
    else:
        inputs = keras.Input(case.inputs[1:])
    return keras.Model(inputs, layer(inputs))
