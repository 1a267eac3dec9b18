"""The signatures of a bundle, all over one traced network.

The network is traced once, as a function of float tensors; the signatures that take and give
pictures in another form call that function. So one more form costs a few kilobytes, and not the
network again in the file, in loading and in exporting.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facegan import image as image_lib
from facegan.bundle import (
    DESCRIBE,
    ENCODED,
    ENCODED_JPEG,
    GENERATE,
    MANIFEST_BYTES,
    QUERY,
    MethodSpec,
    TensorSpec,
)
from facegan.errors import ConfigError
from facegan.export import encoded
from facegan.layers.fast_paths import allow_fast_paths

Tensors = dict[str, tf.Tensor]

# The signature that every runtime can read, where ``serving_default`` is for TensorFlow alone.
PORTABLE = "portable"
# Channel counts that a JPEG can have.
_JPEG_CHANNELS = (1, 3)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServingSpec:
    """What is to be served.

    Args:
        model: A Keras model or another callable on a dict of tensors (its variables must be
            reachable as ``.variables``). It is called with ``training=False`` when it is a Keras
            model. It returns one tensor, or a dict with the names of ``outputs``.
        inputs: The tensors it takes; the first axis of each shape must be free (None).
        outputs: The tensors that are served.
        fast_paths: Whether TensorFlow alone will run the graph, so that layers may take their fast
            paths.
        methods: Further methods of the model that are served under their names.
        size_multiple: What height and width must be multiples of, where they are free; the graph
            refuses others.
    """

    model: keras.Model | Callable[[Tensors], Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fast_paths: bool = False
    methods: Mapping[str, MethodSpec] = dataclasses.field(default_factory=dict)
    size_multiple: int = 1

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ConfigError("A ServingSpec needs at least one input and one output.")
        for spec in self.inputs:
            if not spec.shape or spec.shape[0] is not None:
                raise ConfigError(
                    f"The batch axis of input {spec.name!r} must be free (None), "
                    f"got the shape {spec.shape}."
                )

    def call(self, inputs: Mapping[str, tf.Tensor]) -> Tensors:
        """Runs the model; returns its outputs by name, float ones as float32."""
        if isinstance(self.model, keras.Layer):
            result = self.model(dict(inputs), training=False)
        else:
            result = self.model(dict(inputs))
        if not isinstance(result, Mapping):
            result = {self.outputs[0].name: result}
        missing = [spec.name for spec in self.outputs if spec.name not in result]
        if missing:
            raise ConfigError(
                f"The model returns {sorted(result)}, but {missing} should be exported."
            )
        return {spec.name: tf.cast(result[spec.name], spec.dtype) for spec in self.outputs}

    def call_method(self, name: str, inputs: Mapping[str, tf.Tensor]) -> Tensors:
        """Runs one of the methods; it returns its only output, or a dict of several."""
        result = getattr(self.model, name)(dict(inputs))
        outputs = self.methods[name].outputs
        if not isinstance(result, Mapping):
            result = {outputs[0].name: result}
        return {spec.name: tf.cast(result[spec.name], spec.dtype) for spec in outputs}

    def method_reference(self, name: str, inputs: Mapping[str, np.ndarray]) -> Any:
        """What a method itself makes of NumPy inputs."""
        outputs = self.call_method(name, {k: tf.constant(v) for k, v in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def reference(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the model itself makes of NumPy inputs; the yardstick of ``verify_bundle``."""
        outputs = self.call({name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}


def signature_names(spec: ServingSpec) -> tuple[str, ...]:
    """Names of the signatures that a bundle of a model has."""
    names = ["serving_default", "uint8", ENCODED]
    if _gives_jpeg(spec.outputs):
        names.append(ENCODED_JPEG)
    names.append(DESCRIBE)
    if spec.fast_paths:
        names.append(PORTABLE)
    if spec.methods:
        names.append(GENERATE)
    return (*names, *spec.methods)


class Servable(tf.Module):
    """What is saved: the functions of all signatures over one set of variables.

    Args:
        spec: The model and its tensors.
        description: What the signature ``describe`` answers.
    """

    def __init__(self, spec: ServingSpec, description: str) -> None:
        super().__init__()
        self._spec, self._description = spec, description
        # A Keras 3 variable wraps the TensorFlow one that the graph reads.
        self._tracked = [
            variable.value if isinstance(variable, keras.Variable) else variable
            for variable in getattr(spec.model, "variables", ())
        ]
        floats = [_signature(spec.inputs)]
        files = [_encoded_signature(spec.inputs)]
        self.core = tf.function(self._call_core, input_signature=floats)
        # Reading files is loops and branches, which take a while to load: it is written once, too.
        self.from_files = tf.function(self._call_from_files, input_signature=files)
        functions = {
            "serving_default": self.core,
            "uint8": tf.function(
                self._call_uint8, input_signature=[_signature(spec.inputs, as_uint8=True)]
            ),
            ENCODED: tf.function(
                functools.partial(self._call_encoded, jpeg=False), input_signature=files
            ),
            ENCODED_JPEG: tf.function(
                functools.partial(self._call_encoded, jpeg=True), input_signature=files
            ),
            DESCRIBE: tf.function(
                self._describe, input_signature=[tf.TensorSpec((None,), tf.string, name=QUERY)]
            ),
            PORTABLE: tf.function(spec.call, input_signature=floats),
            GENERATE: self.core,
            **{
                name: tf.function(
                    functools.partial(spec.call_method, name),
                    input_signature=[_signature(method.inputs)],
                )
                for name, method in spec.methods.items()
            },
        }
        # What is kept here is written: the others would cost their graph.
        self.functions = {name: functions[name] for name in signature_names(spec)}

    def _call_core(self, inputs: Tensors) -> Tensors:
        checks = [
            _require_multiple(inputs[spec.name], spec, self._spec.size_multiple)
            for spec in self._spec.inputs
            if spec.has_free_size and self._spec.size_multiple > 1
        ]
        with tf.control_dependencies(checks), allow_fast_paths(self._spec.fast_paths):
            return self._spec.call({name: tf.identity(value) for name, value in inputs.items()})

    def _call_uint8(self, inputs: Tensors) -> Tensors:
        images = {spec.name for spec in self._spec.inputs if spec.is_image}
        outputs = self.core(
            {
                name: image_lib.to_float_tensor(value) if name in images else value
                for name, value in inputs.items()
            }
        )
        return {
            spec.name: image_lib.to_uint8_tensor(outputs[spec.name])
            if spec.is_image
            else outputs[spec.name]
            for spec in self._spec.outputs
        }

    def _call_from_files(self, inputs: Tensors) -> Tensors:
        outputs = self.core(
            {spec.name: _decode(inputs[spec.encoded_name], spec) for spec in self._spec.inputs}
        )
        return {
            spec.name: image_lib.to_uint8_tensor(outputs[spec.name])
            if spec.is_image and spec.is_encoded
            else outputs[spec.name]
            for spec in self._spec.outputs
        }

    def _call_encoded(self, inputs: Tensors, *, jpeg: bool) -> Tensors:
        outputs = self.from_files(inputs)
        return {
            spec.encoded_name: _encode(outputs[spec.name], spec, jpeg)
            for spec in self._spec.outputs
        }

    def _describe(self, query: tf.Tensor) -> Tensors:
        return {MANIFEST_BYTES: tf.fill(tf.shape(query), self._description)}


def _decode(value: tf.Tensor, spec: TensorSpec) -> tf.Tensor:
    if not spec.is_encoded:
        return value
    if spec.is_label_map:
        return encoded.decode_label_maps(value, spec)
    return image_lib.to_float_tensor(encoded.decode_pictures(value, spec))


def _encode(value: tf.Tensor, spec: TensorSpec, jpeg: bool) -> tf.Tensor:
    if not spec.is_encoded:
        return value
    if spec.is_label_map:
        return encoded.encode_label_maps(value)
    if jpeg and spec.shape[3] in _JPEG_CHANNELS:
        return encoded.encode_jpeg(value)
    return encoded.encode_png(value)


def _require_multiple(value: tf.Tensor, spec: TensorSpec, multiple: int) -> tf.Operation:
    return tf.debugging.assert_equal(
        tf.shape(value)[1:3] % multiple,
        0,
        message=f"Height and width of {spec.name} must be multiples of {multiple}.",
    )


def _gives_jpeg(outputs: tuple[TensorSpec, ...]) -> bool:
    return any(spec.is_image and spec.shape[3] in _JPEG_CHANNELS for spec in outputs)


def _signature(
    specs: tuple[TensorSpec, ...], *, as_uint8: bool = False
) -> dict[str, tf.TensorSpec]:
    return {
        spec.name: tf.TensorSpec(
            spec.shape, tf.uint8 if as_uint8 and spec.is_image else spec.dtype, name=spec.name
        )
        for spec in specs
    }


def _encoded_signature(specs: tuple[TensorSpec, ...]) -> dict[str, tf.TensorSpec]:
    return {
        spec.encoded_name: tf.TensorSpec((None,), tf.string, name=spec.encoded_name)
        if spec.is_encoded
        else tf.TensorSpec(spec.shape, spec.dtype, name=spec.name)
        for spec in specs
    }
