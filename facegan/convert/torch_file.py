"""Reads PyTorch's files of weights without PyTorch, and without running anything in them.

Such a file is a pickle, which can name any function to be called. Here the names that a pickle may
use are a closed list, none of them does more than build an array or a plain container, and nothing
in a file can change them. Before a pickle is followed, its instructions are read through, so that
a damaged or forged length cannot ask for more memory than the file is long.

Both formats are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles before.
"""

from __future__ import annotations

import io
import mmap
import os
import pathlib
import pickle
import pickletools
import zipfile
from collections.abc import Callable
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

# Far above any net's. A few bytes of a pickle can nest one dict in itself a billion times over.
_MOST_ENTRIES = 100_000
_LONGEST_NAME = 1000
_MOST_AXES = 32

# Asks for the numbers of a storage: its type, its key, its count.
_FindStorage = Callable[[str, str, int], "_Storage"]


class _Fixed:
    """What a pickle is given to build with; its instruction BUILD would change an object."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise CheckpointError("The file wants to change what builds its tensors; it is refused.")


class _StorageType(_Fixed):
    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Storage(_Fixed):
    """The numbers behind some tensors; a legacy file has them after its pickles."""

    __slots__ = ("count", "data", "type")

    def __init__(self, type_name: str, count: int):
        self.type, self.count = type_name, count
        self.data: np.ndarray | None = None

    def fill(self, data: bytes, *, big_endian: bool = False) -> None:
        dtype = _STORAGES[self.type]
        numbers = np.frombuffer(data, dtype.newbyteorder(">") if big_endian else dtype)
        if self.type == "BFloat16Storage":
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
        numbers.flags.writeable = False
        self.data = numbers


class _Tensor(_Fixed):
    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class _Dict(dict[Any, Any]):
    """A dict with an order, as all are; attributes, such as a state dict's version, are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Function(_Fixed):
    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise CheckpointError("A tensor has no storage.")
    return _Tensor(storage, int(offset), _make_size(size), _make_size(stride))


def _make_size(sizes: Any) -> tuple[int, ...]:
    if len(sizes) > _MOST_AXES:
        raise CheckpointError(f"A tensor has {len(sizes)} axes.")
    return tuple(map(int, sizes))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


# The only names that a pickle may use.
_KNOWN: dict[tuple[str, str], _Fixed] = {
    ("collections", "OrderedDict"): _Function(_Dict),
    ("torch", "Size"): _Function(_make_size),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    **{("torch", name): _StorageType(name) for name in _STORAGES},
}


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a file.

    Args:
        path: What ``torch.save`` wrote: a state dict, or a dict of such.

    Returns:
        Arrays by name; names of nested dicts are joined by dots. They cannot be written to, and
        tensors that shared their numbers still do. bfloat16 becomes float32. What is not a tensor
        in a dict under a text or a whole number (settings, lists, counts) is left out.

    Raises:
        CheckpointError: The file is damaged, is no such file, or names something to be called that
            building tensors does not need.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(2) == b"PK"
            found = _read_zip(file) if is_zip else _read_legacy(file)
        arrays: dict[str, np.ndarray] = {}
        _collect(found, arrays)
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

    def __init__(self, file: IO[bytes], find_storage: _FindStorage):
        super().__init__(file, encoding="utf-8")
        self._find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise CheckpointError(
                f"The file wants to call {module}.{name}, which weights do not need; it is "
                "refused. Save a plain state dict from a program that you trust."
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise CheckpointError("A storage is described in an unknown way.")
        if not isinstance(pid[1], _StorageType):
            raise CheckpointError("A storage is of an unknown type.")
        if any(more is not None for more in pid[5:]):
            # A part of another storage: PyTorch wrote such before 0.4.
            raise CheckpointError("A storage is a part of another, which is not supported.")
        name, key, count = pid[1].name, str(pid[2]), int(pid[4])
        storage = self._find_storage(name, key, count)
        if (storage.type, storage.count) != (name, count):
            raise CheckpointError(f"The storage {key} is described in two ways.")
        return storage


def _load_pickle(stream: Any, find_storage: _FindStorage) -> Any:
    """Loads the pickle at a stream's position, and leaves the stream behind it."""
    start = stream.tell()
    remembered = 0
    # Reading the instructions fails at once where a length reaches beyond the end of the file.
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            remembered = max(remembered, int(argument or 0))
    end = stream.tell()
    # Python makes room for as many remembered objects as the greatest number says.
    if remembered > end - start:
        raise CheckpointError("Its pickle is damaged.")
    stream.seek(start)
    return _Unpickler(io.BytesIO(stream.read(end - start)), find_storage).load()


def _read_zip(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise CheckpointError("It is a zip file, but not one of PyTorch weights.")
        folder = names[0].removesuffix("data.pkl")
        left = os.fstat(file.fileno()).st_size

        def read(name: str) -> bytes:
            nonlocal left
            info = archive.getinfo(folder + name)
            left -= info.file_size
            # A compressed part, or one place of the file in many parts, can be of any size.
            if info.compress_type != zipfile.ZIP_STORED or left < 0:
                raise CheckpointError(
                    "Its parts are compressed or longer than the file, as PyTorch writes none."
                )
            return archive.read(info)

        order = read("byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
        if order not in (b"little", b"big"):
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
                storages[key].fill(data, big_endian=order == b"big")
            return storages[key]

        return _load_pickle(io.BytesIO(read("data.pkl")), find_storage)


def _read_legacy(file: IO[bytes]) -> Any:
    storages: dict[str, _Storage] = {}

    def find_storage(kind: str, key: str, count: int) -> _Storage:
        return storages.setdefault(key, _Storage(kind, count))

    # Mapped, because reading from a map never makes room for more than there is.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        if _load_pickle(stream, find_storage) != _LEGACY_MAGIC:
            raise CheckpointError("It is no file of PyTorch weights.")
        _load_pickle(stream, find_storage)  # version of the protocol
        # The machine that wrote it; the numbers are little-endian whatever that says.
        _load_pickle(stream, find_storage)
        found = _load_pickle(stream, find_storage)
        for key in _load_pickle(stream, find_storage):
            storage = storages[str(key)]
            count = int.from_bytes(_take(stream, 8), "little", signed=True)
            if count != storage.count:
                raise CheckpointError(
                    f"The storage {key} has {count} numbers, {storage.count} are declared."
                )
            storage.fill(_take(stream, count * _STORAGES[storage.type].itemsize))
    return found


def _take(stream: mmap.mmap, size: int) -> bytes:
    left = len(stream) - stream.tell()
    if not 0 <= size <= left:
        raise CheckpointError(f"The file ends too early: {size} bytes are wanted, {left} are left.")
    return stream.read(size)


def _collect(found: Any, into: dict[str, np.ndarray]) -> None:
    entries = 0

    def visit(node: Any, name: str) -> None:
        nonlocal entries
        entries += 1
        if entries > _MOST_ENTRIES or len(name) > _LONGEST_NAME:
            raise CheckpointError("It nests dicts deeper or wider than weights do.")
        if isinstance(node, _Tensor):
            if name in into:
                raise CheckpointError(f"It has two tensors of the name {name!r}.")
            into[name] = _as_array(node, name)
        elif isinstance(node, dict):
            for key, value in node.items():
                if isinstance(key, str | int):
                    visit(value, f"{name}.{key}" if name else str(key))

    visit(found, "")


def _as_array(tensor: _Tensor, name: str) -> np.ndarray:
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
