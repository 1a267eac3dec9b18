"""Exports a model as a bundle: a SavedModel with its manifest, verified before it gets its name.

The SavedModel has two signatures with the same tensor names: ``serving_default`` takes and returns
float32 pictures in [-1, 1], ``uint8`` takes and returns uint8 ones and converts inside the graph.
``encoded`` takes pictures and label maps as files in memory and returns PNG, ``encoded_jpeg`` the
same as JPEG; their tensors are called ``<name>_bytes``. ``describe`` returns the manifest. Batch
size is free in all. A model with fast paths has ``portable``, too: as ``serving_default``, without
operations that runtimes other than TensorFlow lack. A model with methods has each as a signature,
in float32, and the main one as ``generate``. TensorFlow Serving polls the folder above, so a bundle
is built beside its final place and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facegan import __version__
from facegan.bundle import (
    Manifest,
    Provenance,
    encode_description,
    write_manifest,
)
from facegan.errors import BundleError
from facegan.export.signatures import Servable, ServingSpec, signature_names
from facegan.export.verify import verify_bundle, verify_methods
from facegan.face.labels import LabelSchema, encode_schema


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
    provenance: Provenance | None = None,
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
        provenance: Where the model comes from.
        overwrite: Replace a folder that is there.
        tolerance: Greatest difference between the bundle and the model; the default follows the
            type the model computes in.

    Returns:
        The manifest. What was measured stands in ``training``: ``export_max_difference`` on random
        input, ``export_real_max_difference`` on the embedded portraits by way of the conditioning
        (None where they are not installed), ``export_max_code_difference`` of 255,
        ``export_method_difference`` as a share of the outputs (None without methods).

    Raises:
        BundleError: The folder exists, cannot be written, or the written model differs from the
            given one; nothing is left behind.
    """
    output_dir = pathlib.Path(output_dir)
    manifest = Manifest(
        model=model_name,
        facegan_version=__version__,
        inputs=spec.inputs,
        outputs=spec.outputs,
        image_size=image_size,
        size_multiple=spec.size_multiple,
        conditioning=None if conditioning is None else dict(conditioning),
        geometry=None if geometry is None else dict(geometry),
        signatures=signature_names(spec),
        precision=_precision(spec.model),
        runtime="tensorflow" if spec.fast_paths else "any",
        labels=None if labels is None else encode_schema(labels),
        methods=dict(spec.methods),
        training=dict(training_info or {}),
        weights_sha256=_hash_weights(spec.model),
        provenance=provenance or Provenance(),
    )
    with building(output_dir, overwrite=overwrite) as folder:
        servable = Servable(spec, encode_description(manifest))
        try:
            tf.saved_model.save(servable, str(folder), signatures=servable.functions)
        except (OSError, tf.errors.OpError) as error:
            raise BundleError(f"Cannot write the bundle {output_dir}: {error}.") from error
        write_manifest(folder, manifest)
        report = verify_bundle(folder, spec.reference, tolerance=tolerance)
        measured = {
            "export_max_difference": report.max_difference,
            "export_real_max_difference": report.real_max_difference,
            "export_max_code_difference": report.max_code_difference,
            "export_method_difference": verify_methods(folder, spec.method_reference),
        }
        training = {**manifest.training, **measured}
        return write_manifest(folder, dataclasses.replace(manifest, training=training))


def _precision(model: Any) -> Any:
    dtype = getattr(model, "compute_dtype", "float32")
    return dtype if dtype in ("float32", "bfloat16", "float16") else "float32"


def _hash_weights(model: Any) -> str:
    digest = hashlib.sha256()
    for variable in getattr(model, "variables", ()):
        name = variable.path if isinstance(variable, keras.Variable) else variable.name
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


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
