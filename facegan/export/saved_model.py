"""Exports a model as a bundle: a SavedModel with its manifest, verified before it gets its name.

The SavedModel has two signatures with the same tensor names: ``serving_default`` takes and returns
float32 pictures in [-1, 1], ``uint8`` takes and returns uint8 ones and converts inside the graph.
Batch size is free in both. A model with fast paths has a third, ``portable``: as
``serving_default``, without operations that runtimes other than TensorFlow lack. A model with
methods has each as a signature, in float32, and the main one as ``generate``, too. TensorFlow
Serving polls the folder above, so a bundle is built beside its final place and renamed when it is
whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facegan import __version__
from facegan import image as image_lib
from facegan.bundle import GENERATE, Manifest, MethodSpec, TensorSpec, write_manifest
from facegan.errors import BundleError, ConfigError
from facegan.export.verify import verify_bundle, verify_methods
from facegan.face.labels import LabelSchema, encode_schema
from facegan.layers.fast_paths import allow_fast_paths

Tensors = dict[str, tf.Tensor]

# The signature that every runtime can read, where ``serving_default`` is for TensorFlow alone.
PORTABLE = "portable"


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
    """

    model: keras.Model | Callable[[Tensors], Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fast_paths: bool = False
    methods: Mapping[str, MethodSpec] = dataclasses.field(default_factory=dict)

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


class _Servable(tf.Module):
    """The two signatures over one set of variables."""

    def __init__(self, spec: ServingSpec) -> None:
        super().__init__()
        self._spec = spec
        # A Keras 3 variable wraps the TensorFlow one that the graph reads.
        self._tracked = [
            variable.value if isinstance(variable, keras.Variable) else variable
            for variable in getattr(spec.model, "variables", ())
        ]
        self.float_function = tf.function(
            self._call_float, input_signature=[_signature(spec.inputs, as_uint8=False)]
        )
        self.uint8_function = tf.function(
            self._call_uint8, input_signature=[_signature(spec.inputs, as_uint8=True)]
        )

        self.portable_function = tf.function(
            self._spec.call, input_signature=[_signature(spec.inputs, as_uint8=False)]
        )
        self.method_functions = {
            name: tf.function(
                functools.partial(self._spec.call_method, name),
                input_signature=[_signature(method.inputs, as_uint8=False)],
            )
            for name, method in spec.methods.items()
        }

    @property
    def signatures(self) -> dict[str, Any]:
        signatures = {"serving_default": self.float_function, "uint8": self.uint8_function}
        if self._spec.fast_paths:
            signatures[PORTABLE] = self.portable_function
        if self.method_functions:
            signatures[GENERATE] = self.float_function
        return {**signatures, **self.method_functions}

    def _call_float(self, inputs: Tensors) -> Tensors:
        with allow_fast_paths(self._spec.fast_paths):
            return self._spec.call(inputs)

    def _call_uint8(self, inputs: Tensors) -> Tensors:
        images = {spec.name for spec in self._spec.inputs if spec.is_image}
        outputs = self._call_float(
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


def _signature(specs: tuple[TensorSpec, ...], *, as_uint8: bool) -> dict[str, tf.TensorSpec]:
    return {
        spec.name: tf.TensorSpec(
            spec.shape, tf.uint8 if as_uint8 and spec.is_image else spec.dtype, name=spec.name
        )
        for spec in specs
    }


def export_bundle(
    output_dir: str | os.PathLike[str],
    spec: ServingSpec,
    *,
    model_name: str,
    image_size: int,
    conditioning: Mapping[str, Any] | None = None,
    geometry: Mapping[str, Any] | None = None,
    labels: LabelSchema | None = None,
    training_info: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    tolerance: float | None = None,
) -> Manifest:
    """Writes a bundle that gives what the model gives, or nothing.

    Args:
        output_dir: Folder of the bundle; for TensorFlow Serving its name is the version number.
        spec: Model, inputs and outputs.
        model_name: Stem of the architecture, e.g. ``"pix2pix"``.
        image_size: Height and width of the generated picture in px.
        conditioning: How the inputs are made from a face (``face.conditioning`` document).
        geometry: Face geometry the model was trained on (``face.retarget`` document).
        labels: What the ids of label maps among inputs or outputs mean.
        training_info: What is worth knowing about the training.
        overwrite: Replace a folder that is there.
        tolerance: Greatest difference between the bundle and the model; the default follows the
            type the model computes in.

    Returns:
        The manifest; ``training["export_max_difference"]`` tells what was measured.

    Raises:
        BundleError: The folder exists, cannot be written, or the written model differs from the
            given one; nothing is left behind.
    """
    output_dir = pathlib.Path(output_dir)
    precision = _precision(spec.model)
    with building(output_dir, overwrite=overwrite) as folder:
        try:
            servable = _Servable(spec)
            tf.saved_model.save(
                servable,
                str(folder),
                signatures=servable.signatures,
            )
        except (OSError, tf.errors.OpError) as error:
            raise BundleError(f"Cannot write the bundle {output_dir}: {error}.") from error
        manifest = Manifest(
            model=model_name,
            facegan_version=__version__,
            inputs=spec.inputs,
            outputs=spec.outputs,
            image_size=image_size,
            conditioning=None if conditioning is None else dict(conditioning),
            geometry=None if geometry is None else dict(geometry),
            signatures=tuple(servable.signatures),
            precision=precision,
            runtime="tensorflow" if spec.fast_paths else "any",
            labels=None if labels is None else encode_schema(labels),
            methods=dict(spec.methods),
            training=dict(training_info or {}),
        )
        write_manifest(folder, manifest)
        report = verify_bundle(folder, spec.reference, tolerance=tolerance)
        verify_methods(folder, spec.method_reference)
        training = {**manifest.training, "export_max_difference": report.max_difference}
        return write_manifest(folder, dataclasses.replace(manifest, training=training))


def _precision(model: Any) -> Any:
    dtype = getattr(model, "compute_dtype", "float32")
    return dtype if dtype in ("float32", "bfloat16", "float16") else "float32"


@contextlib.contextmanager
def building(output_dir: pathlib.Path, *, overwrite: bool) -> Iterator[pathlib.Path]:
    """Gives a hidden folder beside ``output_dir`` that takes its name when the block succeeds.

    When the block raises, the hidden folder is removed and what stood under the name stays.
    """
    output_dir = pathlib.Path(os.path.abspath(output_dir))
    if output_dir.exists() and not overwrite:
        raise BundleError(
            f"{output_dir} exists already. Choose another folder, or allow overwriting."
        )
    folder = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.tmp")
    retired = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.old")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise BundleError(f"Cannot create {output_dir}: {error.strerror or error}.") from error
    try:
        yield folder
        if output_dir.exists():
            os.rename(output_dir, retired)
        os.rename(folder, output_dir)
    except OSError as error:
        raise BundleError(f"Cannot write {output_dir}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if retired.exists() and not output_dir.exists():
            os.rename(retired, output_dir)
        shutil.rmtree(retired, ignore_errors=True)
