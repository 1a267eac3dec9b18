"""Reads PyTorch's files of weights without PyTorch, and without running anything in them.

Such a file is a pickle, which can name any function to be called. Here the names that a pickle may
use are a closed list, and none of them does more than build an array or a plain container.

Both formats are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles before.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import os
import pathlib
import pickle
import zipfile
from typing import IO, Any

import numpy as np

from facegan.errors import CheckpointError

# Names of PyTorch's storages -> what their bytes are. bfloat16 is the upper half of a float32.
_STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
# What the first of a legacy file's pickles holds.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclasses.dataclass(frozen=True, slots=True)
class _StorageType:
    name: str


@dataclasses.dataclass(slots=True)
class _Storage:
    """The numbers behind some tensors; a legacy file has them after its pickles."""

    type: str
    count: int
    data: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): _StorageType(name) for name in _STORAGES},
}


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a file.

    Args:
        path: What ``torch.save`` wrote: a state dict, or a dict of such.

    Returns:
        Arrays by name; names of nested dicts are joined by dots. bfloat16 becomes float32. What is
        no tensor (numbers, texts, settings) is left out.

    Raises:
        CheckpointError: The file is damaged, is no such file, or names something to be called that
            building tensors does not need.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            found = _read_zip(file) if is_zip else _read_legacy(file)
        arrays: dict[str, np.ndarray] = {}
        _collect(found, "", arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    # A damaged pickle fails with whatever its broken instructions run into.
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or no file of PyTorch weights ({type(error).__name__})."
        ) from error
    if not arrays:
        raise CheckpointError(f"{path} holds no tensors.")
    return arrays


class _Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers, and refuses everything else."""

    def __init__(self, file: IO[bytes], load: Any):
        super().__init__(file, encoding="utf-8")
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise CheckpointError(
                f"The file wants to call {module}.{name}, which weights do not need; it is "
                "refused. Save a plain state dict from a program that you trust."
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        return self._load(pid)


def _read_zip(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise CheckpointError("It is a zip file, but not one of PyTorch weights.")
        folder = names[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise CheckpointError("Its numbers are big-endian, which is not supported.")
        storages: dict[str, _Storage] = {}

        def load(pid: Any) -> _Storage:
            kind, key, count = _storage_id(pid)
            if key not in storages:
                info = archive.getinfo(f"{folder}data/{key}")
                wanted = count * _STORAGES[kind].itemsize
                if info.file_size != wanted:
                    raise CheckpointError(
                        f"The storage {key} has {info.file_size} bytes, {wanted} are declared."
                    )
                data = np.frombuffer(archive.read(info), _STORAGES[kind])
                storages[key] = _Storage(kind, count, data)
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(names[0])), load).load()


def _read_legacy(file: IO[bytes]) -> Any:
    storages: dict[str, _Storage] = {}

    def load(pid: Any) -> _Storage:
        kind, key, count = _storage_id(pid)
        return storages.setdefault(key, _Storage(kind, count))

    def plain() -> Any:
        return _Unpickler(file, load).load()

    if plain() != _LEGACY_MAGIC:
        raise CheckpointError("It is no file of PyTorch weights.")
    plain()  # version of the protocol
    if plain().get("little_endian") is not True:
        raise CheckpointError("Its numbers are big-endian, which is not supported.")
    found = plain()
    for key in plain():
        storage = storages[key]
        count = int(np.frombuffer(_take(file, 8), "<i8")[0])
        if count != storage.count:
            raise CheckpointError(f"The storage {key} has {count} numbers, not {storage.count}.")
        dtype = _STORAGES[storage.type]
        storage.data = np.frombuffer(_take(file, count * dtype.itemsize), dtype)
    return found


def _take(file: IO[bytes], size: int) -> bytes:
    # What is there is asked first: a damaged length must not ask for all memory.
    here = file.tell()
    left = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    if not 0 <= size <= left:
        raise CheckpointError(f"The file ends too early: {size} bytes are wanted, {left} are left.")
    return file.read(size)


def _storage_id(pid: Any) -> tuple[str, str, int]:
    """Type, key and count of a pickle's reference to a storage."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise CheckpointError("A storage is described in an unknown way.")
    if not isinstance(pid[1], _StorageType):
        raise CheckpointError("A storage is of an unknown type.")
    return pid[1].name, str(pid[2]), int(pid[4])


def _collect(node: Any, name: str, into: dict[str, np.ndarray]) -> None:
    if isinstance(node, _Tensor):
        into[name] = _as_array(node, name)
    elif isinstance(node, dict):
        for key, value in node.items():
            _collect(value, f"{name}.{key}" if name else str(key), into)


def _as_array(tensor: _Tensor, name: str) -> np.ndarray:
    data = tensor.storage.data
    if data is None or len(tensor.size) != len(tensor.stride):
        raise CheckpointError(f"The tensor {name!r} has no numbers.")
    reach = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True)
    )
    bad = min((*tensor.size, *tensor.stride, tensor.offset), default=0) < 0
    if bad or (all(tensor.size) and reach >= len(data)):
        raise CheckpointError(f"The tensor {name!r} reaches outside of its numbers.")
    if not all(tensor.size):
        view = np.zeros(tensor.size, data.dtype)
    else:
        strides = tuple(stride * data.itemsize for stride in tensor.stride)
        view = np.lib.stride_tricks.as_strided(
            data[tensor.offset :], tensor.size, strides, writeable=False
        )
    if tensor.storage.type == "BFloat16Storage":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return np.array(view)
