"""The manifest of an exported model: the only contract between training and rendering.

A bundle is a SavedModel folder with ``assets.extra/facegan.json`` in it (TensorFlow Serving leaves
``assets.extra`` alone) and, when asked for, ``model.onnx``. The manifest says what the tensors
mean, which picture the network wants to see, and what every file of the bundle hashes to. This
module reads and writes it without TensorFlow.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from facegan import config as config_lib
from facegan.errors import BundleError, ConfigError

MANIFEST_FILE = "assets.extra/facegan.json"
ONNX_FILE = "model.onnx"
# Another name of ``serving_default`` beside signatures of methods.
GENERATE = "generate"
# Signatures that take and give pictures as files in memory, and what comes out as PNG or JPEG.
ENCODED = "encoded"
ENCODED_JPEG = "encoded_jpeg"
# The signature that tells a client what it talks to: names of its input and its output.
DESCRIBE = "describe"
QUERY = "query"
MANIFEST_BYTES = "manifest_bytes"
# What is measured on a bundle once it is written has names in ``training`` that begin so.
MEASURED_PREFIX = "export_"

# TensorFlow Serving's REST interface takes outputs of such names for binary.
_BYTES_SUFFIX = "_bytes"
# Channel counts that picture files can have.
_FILE_CHANNELS = (1, 3, 4)

# Files up to this size are hashed at every reading; larger ones (weights) only when asked.
_SMALL_FILE_BYTES = 4_000_000
_HASHED_BLOCK_BYTES = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """What one input or output of a signature holds.

    Args:
        name: Its name in the signature.
        shape: Sizes including the batch axis; None where the size is free.
        dtype: Element type in the float signature.
        value_range: Least and greatest value, None where there is no fixed range.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Literal["float32", "int32", "int64", "uint8"] = "float32"
    value_range: tuple[float, float] | None = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("A tensor needs a name, got an empty text.")
        if any(size is not None and size < 1 for size in self.shape):
            raise ConfigError(
                f"The sizes of tensor {self.name!r} must be at least 1, got {self.shape}."
            )

    @property
    def is_image(self) -> bool:
        """Whether this is a picture in [-1, 1], which the uint8 signature takes as uint8."""
        return self.dtype == "float32" and len(self.shape) == 4 and self.value_range == (-1.0, 1.0)

    @property
    def is_label_map(self) -> bool:
        """Whether this is a map of ids, [B, H, W]."""
        return self.dtype != "float32" and len(self.shape) == 3

    @property
    def has_free_size(self) -> bool:
        """Whether this is a picture or a map of ids of any height and width."""
        return (self.is_image or self.is_label_map) and None in self.shape[1:3]

    @property
    def is_encoded(self) -> bool:
        """Whether the ``encoded`` signature has files in its place: pictures or maps of ids."""
        return self.is_label_map or (self.is_image and self.shape[3] in _FILE_CHANNELS)

    @property
    def encoded_name(self) -> str:
        """Its name in the ``encoded`` signature: ``image`` becomes ``image_bytes``."""
        return f"{self.name}{_BYTES_SUFFIX}" if self.is_encoded else self.name


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MethodSpec:
    """A signature beside the main ones, such as ``embed``: its inputs and outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileDigest:
    """Size and SHA-256 of one file of a bundle."""

    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a bundle comes from, and what must be said of the pictures it makes.

    Args:
        synthetic: The pictures are made and no photographs. Whoever shows them says so.
        licence: Under what terms the weights may be used, in words.
        config_sha256: Hash of the run's ``config.json`` as it was trained: equal for runs of equal
            settings. None where there was no run.
        preset: Name of the preset that the run started from, None where that is not known.
    """

    KIND: ClassVar[str] = "provenance"

    synthetic: bool = True
    licence: str = (
        "None was given: the weights come under the terms of the data that they were trained on."
    )
    config_sha256: str | None = None
    preset: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an exported model is and how it is to be fed.

    Args:
        model: Stem of the architecture, e.g. ``"pix2pix"``.
        facegan_version: Version of the library that wrote it.
        inputs: Tensors of the ``serving_default`` signature. The ``uint8`` signature has the same
            names; its pictures are uint8.
        outputs: Tensors that come back.
        image_size: Height and width of the generated picture in px that the network was made for.
        conditioning: Document of ``facegan.face.conditioning`` that says how the inputs are made
            from a face; None for a model that takes no face.
        size_multiple: What height and width of inputs must be multiples of, where they are free.
        geometry: Document of the face geometry the model was trained on, for retargeting.
        signatures: Names of the SavedModel's signatures.
        precision: Type in which the weights are stored and the network computes.
        runtime: Which runtimes read the SavedModel; "tensorflow" where its graph has operations
            that others lack. ``model.onnx`` is for all.
        labels: Document of the label schema (``facegan.face.labels``) that tells what the ids of
            label maps among inputs or outputs mean.
        methods: Further signatures by name.
        training: What is worth knowing about the training, free form. Names that begin with
            ``export_`` are what was measured on the written bundle.
        weights_sha256: Hash over the names and values of all variables that are served; empty in
            bundles of versions that did not tell.
        provenance: Where it comes from.
        files: Size and SHA-256 of each file, by path relative to the bundle.
    """

    KIND: ClassVar[str] = "bundle"
    VERSION: ClassVar[int] = 1

    model: str
    facegan_version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    image_size: int
    size_multiple: int = 1
    conditioning: dict[str, Any] | None = None
    geometry: dict[str, Any] | None = None
    signatures: tuple[str, ...] = ("serving_default", "uint8")
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    runtime: Literal["any", "tensorflow"] = "any"
    labels: dict[str, Any] | None = None
    methods: dict[str, MethodSpec] = dataclasses.field(default_factory=dict)
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights_sha256: str = ""
    provenance: Provenance = dataclasses.field(default_factory=Provenance)
    files: dict[str, FileDigest] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("image_size", "size_multiple"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for what, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [spec.name for spec in specs]
            if not names or len(set(names)) != len(names):
                raise ConfigError(f"{what} must have distinct names and not be empty, got {names}.")

    def fingerprint(self) -> str:
        """A hash over everything in the manifest; other weights give another one."""
        data = json.dumps(_document(self), sort_keys=True)
        return hashlib.sha256(data.encode()).hexdigest()


def _document(manifest: Manifest) -> dict[str, Any]:
    data = config_lib.encode(manifest)
    return {"kind": data.pop("kind"), "version": Manifest.VERSION, **data}


def encode_description(manifest: Manifest) -> str:
    """What a served bundle says of itself: its manifest as JSON, but for what is known only later.

    Left out are the hashes of its files and what was measured on them.
    """
    kept = {k: v for k, v in manifest.training.items() if not k.startswith(MEASURED_PREFIX)}
    document = _document(dataclasses.replace(manifest, training=kept, files={}))
    try:
        return json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(f"The manifest holds a value that JSON cannot carry: {error}.") from error


def decode_description(text: str | bytes) -> Manifest:
    """Reads what ``encode_description`` wrote.

    Raises:
        BundleError: It is no description of a bundle, or one of another version.
    """
    try:
        data = json.loads(text)
    except ValueError as error:  # UnicodeDecodeError is one
        raise BundleError(
            f"What the server tells of its model is broken: it is no JSON ({error}). Serve a "
            "bundle that facegan exported."
        ) from error
    return _decode_document(data, "the served bundle")


def write_manifest(
    bundle_dir: str | os.PathLike[str], manifest: Manifest, *, rehash: bool = True
) -> Manifest:
    """Writes the manifest of a bundle, whole or not at all.

    Args:
        bundle_dir: Folder of the SavedModel, complete but for the manifest.
        manifest: What to write.
        rehash: Fill ``files`` from what is in the folder now.

    Returns:
        The manifest as written.

    Raises:
        BundleError: The folder does not exist or cannot be written, or a value is not finite.
    """
    bundle_dir = pathlib.Path(bundle_dir)
    if not bundle_dir.is_dir():
        raise BundleError(f"{bundle_dir} is no folder; write the SavedModel before its manifest.")
    if rehash:
        manifest = dataclasses.replace(manifest, files=hash_files(bundle_dir))
    document = _document(manifest)
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"The manifest of {bundle_dir} holds a value that JSON cannot carry: {error}."
        ) from error
    path = bundle_dir / MANIFEST_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        config_lib.write_json(path, document)
    except (OSError, ConfigError) as error:
        raise BundleError(f"Cannot write the manifest {path}: {error}.") from error
    return manifest


def read_manifest(bundle_dir: str | os.PathLike[str], *, verify: bool = False) -> Manifest:
    """Reads the manifest of a bundle and checks that its files are the ones it describes.

    Args:
        bundle_dir: Folder of the bundle.
        verify: Hash every file. Else files over 4 MB are only checked for their size.

    Raises:
        BundleError: There is no such folder or no manifest in it, the manifest is broken or of
            another version, or a file is missing or has changed.
    """
    bundle_dir = pathlib.Path(bundle_dir)
    path = bundle_dir / MANIFEST_FILE
    if not bundle_dir.is_dir():
        raise BundleError(
            f"{bundle_dir} is no bundle: it must be the folder that the export wrote."
        )
    if not path.is_file():
        raise BundleError(
            f"{bundle_dir} is no bundle: {MANIFEST_FILE} is missing in it. Give the folder that "
            "the export wrote, or export the model again."
        )
    try:
        data = config_lib.read_json(path)
    except ConfigError as error:
        raise BundleError(f"The manifest of {bundle_dir} is broken: {error}") from error
    manifest = _decode_document(data, f"the bundle {bundle_dir}")
    for name, digest in manifest.files.items():
        _check_file(bundle_dir, name, digest, verify=verify)
    return manifest


def check_files(
    bundle_dir: str | os.PathLike[str], manifest: Manifest, names: Iterable[str] | None = None
) -> None:
    """Hashes files of a bundle and compares them with its manifest.

    Args:
        bundle_dir: Folder of the bundle.
        manifest: What it should be.
        names: Which files, by path relative to the bundle; None for all.

    Raises:
        BundleError: A file is missing or has changed.
    """
    for name in manifest.files if names is None else names:
        _check_file(pathlib.Path(bundle_dir), name, manifest.files[name], verify=True)


def _decode_document(data: Any, bundle: str) -> Manifest:
    if not isinstance(data, dict) or data.get("kind") != Manifest.KIND:
        raise BundleError(
            f"The manifest of {bundle} is broken: its 'kind' must be {Manifest.KIND!r}."
        )
    version = data.pop("version", None)
    if version != Manifest.VERSION:
        raise BundleError(
            f"The manifest of {bundle} has version {version!r}; this facegan reads version "
            f"{Manifest.VERSION}. Export the model again with this version, or install the one "
            "that wrote it."
        )
    try:
        return config_lib.decode(Manifest, data)
    except ConfigError as error:
        raise BundleError(f"The manifest of {bundle} is broken: {error}") from error


def _check_file(bundle_dir: pathlib.Path, name: str, digest: FileDigest, *, verify: bool) -> None:
    relative = pathlib.PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise BundleError(
            f"The manifest of {bundle_dir} is broken: {name!r} lies outside the bundle."
        )
    path = bundle_dir / relative
    if not path.is_file():
        raise BundleError(
            f"The bundle {bundle_dir} is incomplete: {name} is missing. Export the model again."
        )
    same = path.stat().st_size == digest.num_bytes
    if same and (verify or digest.num_bytes <= _SMALL_FILE_BYTES):
        same = _sha256(path) == digest.sha256
    if not same:
        raise BundleError(
            f"The bundle {bundle_dir} is damaged: {name} is not the file that was exported. "
            "Copy the bundle or export the model again."
        )


def hash_files(bundle_dir: str | os.PathLike[str]) -> dict[str, FileDigest]:
    """Size and SHA-256 of each file under a bundle but its manifest, by relative path."""
    bundle_dir = pathlib.Path(bundle_dir)
    digests = {}
    for path in sorted(bundle_dir.rglob("*")):
        name = path.relative_to(bundle_dir).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(bundle_dir).parts)
        if path.is_file() and name != MANIFEST_FILE and not hidden:
            digests[name] = FileDigest(num_bytes=path.stat().st_size, sha256=_sha256(path))
    return digests


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file of any size, in hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        # Large blocks: another thread may hold the interpreter between two of them.
        buffer = memoryview(bytearray(_HASHED_BLOCK_BYTES))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _sha256(path: pathlib.Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error.strerror or error}.") from error
