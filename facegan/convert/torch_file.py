"""Reads PyTorch's files of weights without PyTorch, and without running anything in them.

Such a file is a pickle, which can name any function to be called. Here the names that a pickle may
use are a closed list, none of them does more than build an array or a plain container, and nothing
in a file can change them; ``closed_pickle`` follows its instructions.

Both formats are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles before.
"""

from __future__ import annotations

import io
import mmap
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from facegan.convert.closed_pickle import (
    Budget,
    Dict,
    Fixed,
    Function,
    load_pickle,
    refused_name,
)
from facegan.errors import CheckpointError

# The start of a part of a zip archive: of its 30 bytes, the last two numbers tell how long its name
# and what is added to it are, behind which its data begins.
_ZIP_HEADER = struct.Struct("<26xHH")

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

# Far above any net's. A few bytes of a pickle can nest one dict in itself a billion times over.
_MOST_ENTRIES = 100_000
_LONGEST_NAME = 1000
_MOST_AXES = 32
_LARGEST_SIZE = 2**62

# Asks for the numbers of a storage: its type, its key, its count.
_FindStorage = Callable[[str, str, int], "_Storage"]


class _StorageType(Fixed):
    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Storage(Fixed):
    """The numbers behind some tensors; a legacy file has them after its pickles."""

    __slots__ = ("count", "data", "type")

    def __init__(self, type_name: str, count: int):
        self.type, self.count = type_name, count
        self.data: np.ndarray | None = None

    def fill(self, data: memoryview, *, big_endian: bool = False) -> None:
        dtype = _STORAGES[self.type]
        numbers = np.frombuffer(data, dtype.newbyteorder(">") if big_endian else dtype)
        if self.type == "BFloat16Storage":
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
        numbers.flags.writeable = False
        self.data = numbers


class Tensor(Fixed):
    """A tensor of a file; ``as_array`` gives its numbers."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, _Storage):
        raise CheckpointError("A tensor has no storage.")
    (offset,) = _make_size([offset])
    return Tensor(storage, offset, _make_size(size), _make_size(stride))


def _make_size(sizes: Any = ()) -> tuple[int, ...]:
    if len(sizes) > _MOST_AXES:
        raise CheckpointError(f"A tensor has {len(sizes)} axes.")
    if not all(isinstance(size, int) and abs(size) <= _LARGEST_SIZE for size in sizes):
        raise CheckpointError("A tensor's size is no number, or no possible one.")
    return tuple(sizes)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


# The only names that a pickle of weights may use.
TORCH_NAMES: dict[tuple[str, str], Fixed] = {
    ("collections", "OrderedDict"): Function(Dict.of),
    ("torch", "Size"): Function(_make_size),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    **{("torch", name): _StorageType(name) for name in _STORAGES},
}


def _find_name(module: str, name: str) -> Fixed:
    try:
        return TORCH_NAMES[module, name]
    except KeyError:
        raise refused_name(module, name) from None


@contextmanager
def one_sentence(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Says what is wrong with a file, whatever reading it raises.

    Args:
        path: The file.
        what: What it was taken for, with an article or "no": "no file of PyTorch weights".

    Raises:
        CheckpointError: In place of any other exception.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    # A damaged pickle fails with whatever its broken instructions run into.
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or {what} ({type(error).__name__}).") from error


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a file.

    Args:
        path: What ``torch.save`` wrote: a state dict, or a dict of such.

    Returns:
        Arrays by name; names of nested dicts are joined by dots. They show the file's own bytes
        and cannot be written to; tensors that shared their numbers still do. bfloat16 becomes
        float32. What is not a tensor in a dict under a text or a whole number (settings, lists,
        counts) is left out.

    Raises:
        CheckpointError: The file is damaged, is no such file, or names something to be called that
            building tensors does not need.
    """
    path = pathlib.Path(path)
    arrays: dict[str, np.ndarray] = {}
    with one_sentence(path, "no file of PyTorch weights"), open(path, "rb") as file:
        # Mapped, because that makes room for nothing; the arrays keep the map open.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = memoryview(mapped)
        found = _read_zip(file, data) if data[:2] == b"PK" else _read_legacy(mapped, data)
        _collect(found, arrays)
    if not arrays:
        raise CheckpointError(f"{path} holds no tensors.")
    return arrays


def read_torch_bytes(data: bytes) -> Any:
    """Reads a file of PyTorch that is held in memory, by the same list of names.

    Returns:
        Whatever it holds: a storage, a ``Tensor``, plain values. Numbers are not copied.

    Raises:
        CheckpointError: As ``read_torch_file``, and whatever broken instructions raise.
    """
    read = _read_zip if data.startswith(b"PK") else _read_legacy
    return read(io.BytesIO(data), memoryview(data))


def _describe_storage(pid: Any, find_storage: _FindStorage) -> _Storage:
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise CheckpointError("A storage is described in an unknown way.")
    if not isinstance(pid[1], _StorageType):
        raise CheckpointError("A storage is of an unknown type.")
    if any(more is not None for more in pid[5:]):
        # A part of another storage: PyTorch wrote such before 0.4.
        raise CheckpointError("A storage is a part of another, which is not supported.")
    name, key, (count,) = pid[1].name, _make_key(pid[2]), _make_size([pid[4]])
    storage = find_storage(name, key, count)
    if (storage.type, storage.count) != (name, count):
        raise CheckpointError(f"The storage {key} is described in two ways.")
    return storage


def _make_key(key: Any) -> str:
    if not isinstance(key, str | int) or len(str(key)) > _LONGEST_NAME:
        raise CheckpointError("A storage is described in an unknown way.")
    return str(key)


def _read_zip(file: IO[bytes], whole: memoryview) -> Any:
    """Reads the newer format; ``whole`` is all that ``file`` gives."""
    left = len(whole)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise CheckpointError("It is a zip file, but not one of PyTorch weights.")
        folder = names[0].removesuffix("data.pkl")
        budget = Budget(left)

        def read(name: str) -> memoryview:
            nonlocal left
            info = archive.getinfo(folder + name)
            left -= info.file_size
            # A compressed part, or one place of the file in many parts, can be of any size.
            if info.compress_type != zipfile.ZIP_STORED or left < 0:
                raise CheckpointError(
                    "Its parts are compressed or longer than the file, as PyTorch writes none."
                )
            archive.open(info).close()  # its own header is the one that the directory tells of
            start = info.header_offset + _ZIP_HEADER.size
            lengths = _ZIP_HEADER.unpack(whole[info.header_offset : start])
            start += sum(lengths)
            part = whole[start : start + info.file_size]
            if len(part) != info.file_size or zlib.crc32(part) != info.CRC:
                raise CheckpointError(f"Its part {name} is damaged.")
            return part

        order = read("byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
        if bytes(order) not in (b"little", b"big"):
            raise CheckpointError("Its byte order is unknown.")
        storages: dict[str, _Storage] = {}

        def find_storage(kind: str, key: str, count: int) -> _Storage:
            if key not in storages:
                storages[key] = _Storage(kind, count)
                data = read(f"data/{key}")
                wanted = count * _STORAGES[kind].itemsize
                if len(data) != wanted:
                    raise CheckpointError(
                        f"The storage {key} has {len(data)} bytes, {wanted} are declared."
                    )
                storages[key].fill(data, big_endian=bytes(order) == b"big")
            return storages[key]

        return load_pickle(
            io.BytesIO(bytes(read("data.pkl"))),
            _find_name,
            budget,
            lambda pid: _describe_storage(pid, find_storage),
        )


def _read_legacy(stream: Any, data: memoryview) -> Any:
    """Reads the older format; ``data`` is all that ``stream`` gives."""
    storages: dict[str, _Storage] = {}
    budget = Budget(len(data))

    def find_storage(kind: str, key: str, count: int) -> _Storage:
        return storages.setdefault(key, _Storage(kind, count))

    def load() -> Any:
        return load_pickle(
            stream, _find_name, budget, lambda pid: _describe_storage(pid, find_storage)
        )

    def take(size: int) -> memoryview:
        at = stream.tell()
        if not 0 <= size <= len(data) - at:
            raise CheckpointError(
                f"The file ends too early: {size} bytes are wanted, {len(data) - at} are left."
            )
        stream.seek(at + size)
        return data[at : at + size]

    if load() != _LEGACY_MAGIC:
        raise CheckpointError("It is no file of PyTorch weights.")
    load()  # version of the protocol
    load()  # the machine that wrote it; the numbers are little-endian whatever that says
    found = load()
    keys = load()
    for key in keys if isinstance(keys, list) else ():
        key = _make_key(key)
        storage = storages[key]
        count = int.from_bytes(take(8), "little", signed=True)
        if count != storage.count:
            raise CheckpointError(
                f"The storage {key} has {count} numbers, {storage.count} are declared."
            )
        storage.fill(take(count * _STORAGES[storage.type].itemsize))
    return found


def _collect(found: Any, into: dict[str, np.ndarray]) -> None:
    entries = 0

    def visit(node: Any, name: str) -> None:
        nonlocal entries
        entries += 1
        if entries > _MOST_ENTRIES or len(name) > _LONGEST_NAME:
            raise CheckpointError("It nests dicts deeper or wider than weights do.")
        if isinstance(node, Tensor):
            if name in into:
                raise CheckpointError(f"It has two tensors of the name {name!r}.")
            into[name] = as_array(node, name)
        elif isinstance(node, dict):
            for key, value in node.items():
                if isinstance(key, str | int):
                    visit(value, f"{name}.{key}" if name else str(key))

    visit(found, "")


def as_array(tensor: Tensor, name: str) -> np.ndarray:
    """The numbers of a tensor, which cannot be written to; ``name`` is for the message.

    Raises:
        CheckpointError: It shows what is not among its storage's numbers.
    """
    data, size, stride, offset = tensor.storage.data, tensor.size, tensor.stride, tensor.offset
    if data is None or len(size) != len(stride):
        raise CheckpointError(f"The tensor {name!r} has no numbers.")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    empty = 0 in size
    if min((*size, *stride, offset)) < 0 or (not empty and last >= len(data)):
        raise CheckpointError(f"The tensor {name!r} reaches outside of its numbers.")
    if empty:
        return np.zeros(size, data.dtype)
    # Not copied: tensors that all show one storage would multiply it.
    view = np.lib.stride_tricks.as_strided(
        data[offset:], size, [step * data.itemsize for step in stride], writeable=False
    )
    if view.size > len(data) and view.size > _MOST_ENTRIES:
        raise CheckpointError(f"The tensor {name!r} is {list(size)} of only {len(data)} numbers.")
    return view
