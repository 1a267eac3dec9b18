"""Writes a bundle's network as ONNX beside its SavedModel, verified by ONNX Runtime."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import numpy as np
import tensorflow as tf

from facegan.bundle import MANIFEST_FILE, ONNX_FILE, Manifest, read_manifest, write_manifest
from facegan.errors import BundleError, ConfigError
from facegan.export.signatures import PORTABLE
from facegan.export.verify import LoadedBundle, make_trials, max_difference

_CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"
# The newest operator set that tf2onnx 1.17 writes.
_OPSET = 18
# Two runtimes sum in another order: 4e-6 was measured on a U-Net, more on deeper networks.
_TOLERANCE = 1e-3


def write_onnx(
    bundle_dir: str | os.PathLike[str],
    reference: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None,
    *,
    tolerance: float = _TOLERANCE,
) -> Manifest:
    """Adds ``model.onnx``, the float signature without fast paths, to a bundle.

    The batch axis stays free. A ``model.onnx`` that is there already is replaced.

    Args:
        bundle_dir: A complete bundle.
        reference: Computes what the model gives, ``ServingSpec.reference``; without it the
            SavedModel is what ``model.onnx`` is compared with.
        tolerance: Greatest accepted difference on outputs in [-1, 1].

    Returns:
        The bundle's new manifest; ``training["export_onnx_max_difference"]`` and
        ``"export_onnx_real_max_difference"`` tell what was measured, as ``export_bundle`` does.

    Raises:
        BundleError: The bundle is damaged, cannot be converted, or the converted network gives
            something else; the bundle stays as it was.
        ConfigError: tf2onnx or onnxruntime is not installed.
    """
    bundle_dir = pathlib.Path(bundle_dir)
    tf2onnx = _import("tf2onnx")
    runtime = _import("onnxruntime")
    manifest = read_manifest(bundle_dir, verify=True)
    temporary = bundle_dir / f".{ONNX_FILE}.{os.getpid()}.tmp"
    try:
        _convert(bundle_dir, manifest, temporary, tf2onnx)
        worst = _verify(bundle_dir, manifest, temporary, runtime, reference)
        if max(worst.values()) > tolerance:
            raise BundleError(
                f"The ONNX network of {bundle_dir} differs from the "
                f"{'SavedModel' if reference is None else 'model'} by {max(worst.values()):.3g}; "
                f"at most {tolerance:.3g} is accepted. Serve the SavedModel."
            )
        measured = {
            "export_onnx_max_difference": worst[False],
            "export_onnx_real_max_difference": worst.get(True),
        }
        manifest = dataclasses.replace(manifest, training={**manifest.training, **measured})
        # Without a manifest the bundle is refused as incomplete, never read as damaged, should
        # the process die between the two writes.
        (bundle_dir / MANIFEST_FILE).unlink()
        os.replace(temporary, bundle_dir / ONNX_FILE)
        return write_manifest(bundle_dir, manifest)
    except OSError as error:
        raise BundleError(f"Cannot write {ONNX_FILE} in {bundle_dir}: {error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"Writing ONNX needs {name}, which cannot be imported ({error}). "
            'Install it with pip install "facegan[onnx]".'
        ) from error


def _convert(
    bundle_dir: pathlib.Path, manifest: Manifest, path: pathlib.Path, tf2onnx: ModuleType
) -> None:
    loaded = tf.saved_model.load(str(bundle_dir))
    portable = PORTABLE in manifest.signatures
    signature = loaded.signatures[PORTABLE if portable else "serving_default"]
    specs = [tf.TensorSpec(s.shape, s.dtype, name=s.name) for s in manifest.inputs]
    names = [s.name for s in manifest.inputs]

    @tf.function(input_signature=specs)
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return signature(**dict(zip(names, tensors, strict=True)))

    try:
        with _optimizing_in_place():
            tf2onnx.convert.from_function(
                serve, input_signature=specs, opset=_OPSET, output_path=str(path)
            )
    # tf2onnx raises bare ValueError, KeyError, AttributeError ... for operations it lacks.
    except Exception as error:
        raise BundleError(
            f"The network of {bundle_dir} cannot be written as ONNX: {error}. Serve the SavedModel."
        ) from error


@contextlib.contextmanager
def _optimizing_in_place() -> Iterator[None]:
    """Keeps tf2onnx from copying the graph, weights and all, before each of its optimizations.

    It could go back to the copy when one fails. For 92 million weights the copies took more than
    22 GB; without them 13 GB are enough.
    """
    before = os.environ.get(_CATCH_ERRORS)
    os.environ[_CATCH_ERRORS] = "FALSE"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CATCH_ERRORS]
        else:
            os.environ[_CATCH_ERRORS] = before


def _verify(
    bundle_dir: pathlib.Path,
    manifest: Manifest,
    path: pathlib.Path,
    runtime: ModuleType,
    reference: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None,
) -> dict[bool, float]:
    """Greatest difference on random (False) and on real inputs (True)."""
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # The runtime's own exception classes have no public common base but Exception.
    except Exception as error:
        raise BundleError(
            f"The network of {bundle_dir} cannot be written as ONNX: ONNX Runtime refuses it "
            f"({error}). Serve the SavedModel."
        ) from error
    if reference is None:
        bundle = LoadedBundle(bundle_dir)

        def reference(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            return bundle.run("serving_default", inputs)

    names = [spec.name for spec in manifest.outputs]
    worst: dict[bool, float] = {}
    for trial in make_trials(manifest):
        got: dict[str, np.ndarray] = dict(zip(names, session.run(names, trial.inputs), strict=True))
        found = max_difference(reference(trial.inputs), got, manifest, path)
        worst[trial.is_real] = max(worst.get(trial.is_real, 0.0), found)
    return worst
