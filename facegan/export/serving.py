"""Writes the folder that TensorFlow Serving serves bundles from.

    DIR/models.config            which models there are
    DIR/batching_parameters.txt  how requests are joined into batches
    DIR/README.md                how to start the server and ask it
    DIR/NAME/1/, 2/, ...         versions of a model: bundles, each with requests to warm it up

A version appears whole, so the folder may be written to while it is served. What a person changed
in the two text files stays.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
import re
import shutil
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from facegan import image as image_lib
from facegan.bundle import ENCODED, MANIFEST_FILE, Manifest, TensorSpec, write_manifest
from facegan.bundle import read_manifest as read_bundle
from facegan.errors import BundleError, ConfigError
from facegan.export.random_inputs import settle_shape
from facegan.export.saved_model import building
from facegan.export.serving_readme import write_readme
from facegan.export.verify import encode_inputs

CONFIG_FILE = "models.config"
BATCHING_FILE = "batching_parameters.txt"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

# Where the folder stands inside of the server's container.
_CONTAINER_DIR = "/models"
# Small, because a picture takes long enough to fill a processor; a request that finds no company
# waits for two thousandths of a second.
_BATCHING = """\
# How TensorFlow Serving joins requests (--enable_batching --batching_parameters_file=...).
# The last of allowed_batch_sizes is max_batch_size; batches between two sizes are padded.
max_batch_size { value: 8 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 64 }
# As many batches are computed at a time: processor cores, or 1 to 2 with a GPU.
num_batch_threads { value: 2 }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
"""
_WARMED = ("serving_default", "uint8", ENCODED)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServedVersion:
    """One version of a model in a folder of TensorFlow Serving.

    Attributes:
        serving_dir: The folder of all models.
        name: What clients call the model.
        version: Its number; the server takes the highest.
    """

    serving_dir: pathlib.Path
    name: str
    version: int

    @property
    def path(self) -> pathlib.Path:
        """The bundle's folder."""
        return self.serving_dir / self.name / str(self.version)


def plan_version(
    bundle_dir: str | os.PathLike[str],
    serving_dir: str | os.PathLike[str],
    *,
    name: str | None = None,
    version: int | None = None,
    overwrite: bool = False,
) -> ServedVersion:
    """Where ``publish_bundle`` would write, checked without writing; the bundle need not exist yet.

    Raises:
        ConfigError: The name cannot be one, or the package that is needed is not installed.
        BundleError: The version exists, or the folder's ``models.config`` cannot be read.
    """
    serving_dir = pathlib.Path(serving_dir)
    name = _default_name(pathlib.Path(bundle_dir)) if name is None else name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"A served model's name has letters, digits, '_', '-' and '.', got {name!r}. "
            "Choose another."
        )
    if version is not None and version < 1:
        raise ConfigError(f"A version must be at least 1, got {version}.")
    _read_config(serving_dir / CONFIG_FILE)
    taken = _versions(serving_dir / name)
    if version is None:
        version = max(taken, default=0) + 1
    elif version in taken and not overwrite:
        raise BundleError(
            f"{serving_dir / name} has a version {version} already. Leave the version out to take "
            f"{max(taken) + 1}, or allow overwriting."
        )
    return ServedVersion(serving_dir=serving_dir, name=name, version=version)


def publish_bundle(
    bundle_dir: str | os.PathLike[str],
    serving_dir: str | os.PathLike[str],
    *,
    name: str | None = None,
    version: int | None = None,
    overwrite: bool = False,
) -> ServedVersion:
    """Copies a bundle into a folder that TensorFlow Serving serves, as a version of a model.

    Args:
        bundle_dir: The bundle.
        serving_dir: The folder of all models; made where it does not exist.
        name: What clients call the model; by default the name of the bundle's folder, or of the
            one above where that is a number.
        version: Number of the version; by default the next one.
        overwrite: Replace a version that exists. A running server keeps what it has loaded.

    Returns:
        What was written.

    Raises:
        ConfigError: As ``plan_version``.
        BundleError: Likewise; or the bundle is broken, or the folder cannot be written.
    """
    bundle_dir = pathlib.Path(bundle_dir)
    manifest = read_bundle(bundle_dir, verify=True)
    served = plan_version(bundle_dir, serving_dir, name=name, version=version, overwrite=overwrite)
    folder = served.serving_dir
    try:
        with building(served.path, overwrite=overwrite) as temporary:
            for file in (*manifest.files, MANIFEST_FILE):
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle_dir / file, temporary / file)
            batching = folder / BATCHING_FILE
            if not batching.exists():
                _write_text(batching, _BATCHING)
            _write_warmup(temporary / WARMUP_FILE, served.name, manifest, _batch_sizes(batching))
            write_manifest(temporary, manifest)
        _add_to_config(folder / CONFIG_FILE, served.name)
        _write_text(folder / "README.md", write_readme(_newest_manifests(folder)))
    except OSError as error:
        raise BundleError(f"Cannot write {folder}: {error.strerror or error}.") from error
    return served


def _default_name(bundle_dir: pathlib.Path) -> str:
    path = pathlib.Path(os.path.abspath(bundle_dir))
    return path.parent.name if path.name.isdigit() else path.name


def _versions(model_dir: pathlib.Path) -> list[int]:
    if not model_dir.is_dir():
        return []
    return sorted(int(path.name) for path in model_dir.iterdir() if path.name.isdigit())


def _newest_manifests(serving_dir: pathlib.Path) -> dict[str, Manifest]:
    """The manifest of the newest version of each model that is a bundle, by the model's name."""
    manifests = {}
    for entry in _read_config(serving_dir / CONFIG_FILE).model_config_list.config:
        versions = _versions(serving_dir / entry.name)
        if versions:
            path = serving_dir / entry.name / str(versions[-1])
            if (path / MANIFEST_FILE).is_file():
                manifests[entry.name] = read_bundle(path)
    return manifests


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"Writing for TensorFlow Serving needs tensorflow-serving-api, which cannot be "
            f'imported ({error}). Install it with pip install "facegan[serving]".'
        ) from error


def _read_config(path: pathlib.Path) -> Any:
    config = _import("tensorflow_serving.config.model_server_config_pb2").ModelServerConfig()
    if not path.exists():
        return config
    text_format = importlib.import_module("google.protobuf.text_format")
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise BundleError(
            f"{path} cannot be read as a ModelServerConfig ({error}). Mend it or take it away."
        ) from error
    return config


def _add_to_config(path: pathlib.Path, name: str) -> None:
    config = _read_config(path)
    models = config.model_config_list.config
    if any(entry.name == name for entry in models):
        return  # as it is: a person may have chosen versions in it
    models.add(name=name, base_path=f"{_CONTAINER_DIR}/{name}", model_platform="tensorflow")
    text_format = importlib.import_module("google.protobuf.text_format")
    _write_text(path, text_format.MessageToString(config))


def _write_text(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _batch_sizes(path: pathlib.Path) -> list[int]:
    """The batch sizes that a file of batching parameters allows, and 1."""
    lines = [line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    found = re.findall(r"allowed_batch_sizes\s*:\s*(\d+)", "\n".join(lines))
    return sorted({1, *map(int, found)})


def _write_warmup(
    path: pathlib.Path, name: str, manifest: Manifest, batch_sizes: list[int]
) -> None:
    """Writes requests that the server runs before it offers the model.

    They hold one value throughout, which the messages store once, so that the file stays small.
    """
    messages = _import("tensorflow_serving.apis.prediction_log_pb2")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in _WARMED:
            if signature not in manifest.signatures:
                continue
            for batch_size in batch_sizes:
                log = messages.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for key, value in _blank_inputs(manifest, signature, batch_size).items():
                    request.inputs[key].CopyFrom(value)
                writer.write(log.SerializeToString())


def _blank_inputs(manifest: Manifest, signature: str, batch_size: int) -> dict[str, Any]:
    size = manifest.image_size
    messages = {}
    for spec in manifest.inputs:
        shape = settle_shape(spec, batch_size, free_hw=(size, size))
        if signature == ENCODED and spec.is_encoded:
            one = {spec.name: _blank(spec, (1, *shape[1:]))}
            files = encode_inputs((spec,), one)[spec.encoded_name]
            proto = tf.make_tensor_proto(list(files) * batch_size, tf.string)
            messages[spec.encoded_name] = proto
            continue
        dtype = "uint8" if signature == "uint8" and spec.is_image else spec.dtype
        value = _blank(spec, ())
        if dtype != spec.dtype:
            value = image_lib.to_uint8(value)
        messages[spec.name] = tf.make_tensor_proto(value, dtype, shape)
    return messages


def _blank(spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """The least value of whole numbers, the middle of the range of others."""
    low, high = spec.value_range or (0.0, 0.0)
    return np.full(shape, (low + high) / 2 if spec.dtype == "float32" else low, spec.dtype)
