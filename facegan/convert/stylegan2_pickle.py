"""Reads the networks of StyleGAN2-ADA's PyTorch files without PyTorch, and without their code.

Such a ``.pkl`` is a plain pickle of whole networks, each with the source text of its class, which
the authors' program runs when it opens the file. Here the text is passed over. A network is read
from what its modules hold: parameters, buffers and submodules by name, and plain settings.

The names that the file may use are a closed list, as in ``torch_file``. Beyond it, a name of the
authors' own packages (the augmentations, the training set's loader) or of PyTorch's layers becomes
a record without effect; any other name, as of Python's own functions, makes the file refused.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan.convert.closed_pickle import (
    Budget,
    Dict,
    Fixed,
    Function,
    Name,
    Record,
    call,
    load_pickle,
    make_set,
    refused_name,
)
from facegan.convert.torch_file import (
    TORCH_NAMES,
    Tensor,
    as_array,
    one_sentence,
    read_torch_bytes,
)
from facegan.errors import CheckpointError

NETWORKS = ("G_ema", "G", "D")

# Far above any net's.
_MOST_ENTRIES = 100_000
_DEEPEST = 32
_LONGEST_NAME = 1000
_MOST_AXES = 32
_LARGEST_SIZE = 2**62

# Packages whose names become records.
_UNUSED_PACKAGES = ("torch_utils", "dnnlib", "training", "torch.nn")
# PyTorch's constants, which are pickled by name.
_TORCH_CONSTANTS = re.compile(
    r"(?:bool|uint8|bfloat16|(?:int|float|complex)\d{1,3}|device"
    r"|(?:contiguous|preserve|channels_last)_format|channels_last)"
)
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

# Plain attributes of a module that are no settings.
_NO_SETTINGS = ("training", "dump_patches")
_INIT = {"_init_args": "init_args", "_init_kwargs": "init_kwargs"}

_NUMBERS = re.compile(r"[<>|=]?([fiub])([1248])")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredNetwork:
    """A network of a file.

    Attributes:
        class_name: Such as "Generator".
        state: Its parameters and persistent buffers by name, as in a state dict. They cannot be
            written to.
        settings: Plain attributes of the network, as ``z_dim``; under the name of a submodule, as
            ``synthesis``, those of it; and what it was made with as ``init_args`` and
            ``init_kwargs``.
    """

    class_name: str
    state: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]


class _DTypeRecord(Record):
    """NumPy's description of numbers; its byte order comes with the state."""

    __slots__ = ()

    def plain(self) -> np.dtype[Any] | None:
        code = self.arguments[0] if self.arguments else None
        match = _NUMBERS.fullmatch(code) if isinstance(code, str) else None
        if match is None:
            return None
        kind, size = match.groups()
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        try:
            return np.dtype(f"{'>' if order == '>' else '<'}{kind}{size}")
        except TypeError:  # such as f1
            return None


class _ArrayRecord(Record):
    """An array while it is built."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, column_order, data = state
            self.state = _make_array(data, dtype, shape, "F" if column_order else "C")


def _make_array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray | None:
    """An array that shows the bytes of a file; None if it is none of plain numbers."""
    kind = dtype.plain() if isinstance(dtype, _DTypeRecord) else None
    if kind is None or not isinstance(data, bytes | bytearray):
        return None
    shape = _make_shape(shape)
    if math.prod(shape) * kind.itemsize != len(data):
        raise CheckpointError(f"An array of {list(shape)} has {len(data)} bytes.")
    array = np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _make_shape(shape: Any) -> tuple[int, ...]:
    if not (isinstance(shape, tuple) and len(shape) <= _MOST_AXES):
        raise CheckpointError("An array has no shape.")
    if not all(isinstance(size, int) and 0 <= size <= _LARGEST_SIZE for size in shape):
        raise CheckpointError("An array has no possible shape.")
    return shape


def _make_number(dtype: Any, data: Any) -> Any:
    """NumPy's scalar as Python's."""
    array = _make_array(data, dtype, (), "C")
    return None if array is None else array.item()


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """Bytes as Python 3 pickles them for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("Its bytes are written in an unknown way.")
    return text.encode("latin-1")


def _reconstruct(kind: Any, base: Any, state: Any) -> Any:
    """An object as the oldest pickles describe it: an empty one, and for a dict what it holds."""
    made = call(kind, ())
    if isinstance(made, Dict) and isinstance(state, dict):
        made.update(state)
    return made


def _load_storage(data: Any) -> Any:
    if not isinstance(data, bytes | bytearray):
        raise CheckpointError("A tensor's numbers are no bytes.")
    return read_torch_bytes(bytes(data))


def _make_network(description: Any) -> Record:
    """A network or module, from the dict that the authors' program would make it of."""
    if not isinstance(description, dict) or not isinstance(description.get("state"), dict):
        raise CheckpointError("A network is described in an unknown way.")
    name = description.get("class_name")
    return Record(name if isinstance(name, str) else "", (), description["state"])


_ARRAY, _OBJECT = Name("numpy", "ndarray"), Name("builtins", "object")

_NAMES: dict[tuple[str, str], Fixed] = {
    **TORCH_NAMES,
    ("torch._utils", "_rebuild_parameter_with_state"): Function(lambda tensor, *_: tensor),
    ("torch.nn.parameter", "Parameter"): Function(lambda tensor=None, *_: tensor),
    ("torch.storage", "_load_from_bytes"): Function(_load_storage),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Function(_make_network),
    ("dnnlib.util", "EasyDict"): Function(Dict.of),
    ("dnnlib", "EasyDict"): Function(Dict.of),
    ("builtins", "set"): Function(make_set),
    ("builtins", "frozenset"): Function(make_set),
    ("builtins", "object"): _OBJECT,
    ("builtins", "dict"): Name("builtins", "dict"),
    ("copyreg", "__newobj__"): Function(lambda kind, *arguments: call(kind, arguments)),
    ("copyreg", "_reconstructor"): Function(_reconstruct),
    ("_codecs", "encode"): Function(_encode),
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): Function(lambda *arguments: _DTypeRecord("numpy.dtype", arguments)),
}
for _package in ("numpy.core", "numpy._core"):
    _NAMES |= {
        (f"{_package}.multiarray", "_reconstruct"): Function(
            lambda *arguments: _ArrayRecord("numpy.ndarray", arguments)
        ),
        (f"{_package}.multiarray", "scalar"): Function(_make_number),
        (f"{_package}.numeric", "_frombuffer"): Function(_make_array),
    }


def _find_name(module: str, name: str) -> Fixed:
    module = _OLD_MODULES.get(module, module)
    known = _NAMES.get((module, name))
    if known is not None:
        return known
    unused = any(module == one or module.startswith(f"{one}.") for one in _UNUSED_PACKAGES)
    if unused or (module == "torch" and _TORCH_CONSTANTS.fullmatch(name)):
        return Name(module, name)
    raise refused_name(module, name)


def read_stylegan2_pickle(path: str | os.PathLike[str]) -> dict[str, StoredNetwork]:
    """Reads the networks of a file.

    Args:
        path: A ``.pkl`` of StyleGAN2-ADA's PyTorch version: a published one, or a snapshot.

    Returns:
        Those of ``NETWORKS`` that it holds.

    Raises:
        CheckpointError: The file is damaged, is no such file, or names something that networks do
            not need.
    """
    path = pathlib.Path(path)
    with one_sentence(path, "no pickle of StyleGAN2-ADA networks"), open(path, "rb") as file:
        if file.read(2) == b"PK":
            raise CheckpointError("It is a zip file, not a pickle of StyleGAN2-ADA networks.")
        # Mapped, because reading from a map never makes room for more than there is.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            found = load_pickle(stream, _find_name, Budget(len(stream)))
        if not isinstance(found, dict):
            raise CheckpointError(
                "It is no dict of networks, as StyleGAN2-ADA's PyTorch version writes it. Files of "
                "the versions for TensorFlow are not read."
            )
        reader = _Reader()
        networks = {
            name: reader.read(name, found[name])
            for name in NETWORKS
            if isinstance(found.get(name), Record)
        }
        if not networks:
            raise CheckpointError(f"It holds none of the networks {', '.join(NETWORKS)}.")
    return networks


class _Reader:
    """Collects what networks hold; counts, because a module can stand in many places."""

    def __init__(self) -> None:
        self._left = _MOST_ENTRIES

    def read(self, name: str, network: Record) -> StoredNetwork:
        state: dict[str, np.ndarray] = {}
        settings = self._visit(network, f"{name}.", "", state)
        if not state:
            raise CheckpointError(f"The network {name} holds no tensors.")
        return StoredNetwork(
            class_name=network.name.rpartition(".")[2], state=state, settings=settings
        )

    def _count(self, start: str, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or len(start) > _LONGEST_NAME or depth > _DEEPEST:
            raise CheckpointError("It nests modules or settings deeper or wider than networks do.")

    def _visit(
        self, module: Any, network: str, start: str, into: dict[str, np.ndarray], depth: int = 0
    ) -> dict[str, Any]:
        """Adds the tensors of a module, and returns its settings."""
        self._count(start, depth)
        attributes = module.state if isinstance(module, Record) else None
        if not isinstance(attributes, dict):
            raise CheckpointError(f"{network}{start[:-1]} is no module.")
        unkept = attributes.get("_non_persistent_buffers_set")
        for kind in ("_parameters", "_buffers"):
            for name, value in self._members(attributes, kind):
                skipped = kind == "_buffers" and isinstance(unkept, set) and name in unkept
                if value is None or skipped:
                    continue
                self._count(start + name, depth)
                if not isinstance(value, Tensor):
                    raise CheckpointError(f"{network}{start}{name} is no tensor.")
                if start + name in into:
                    raise CheckpointError(f"It has two tensors of the name {start + name!r}.")
                into[start + name] = as_array(value, network + start + name)
        settings = {}
        for name, value in attributes.items():
            if not isinstance(name, str) or name in _NO_SETTINGS:
                continue
            plain = _INIT.get(name, name)
            if not plain.startswith("_") and self._is_plain(value, depth):
                settings[plain] = self._copy(value, depth)
        for name, value in self._members(attributes, "_modules"):
            if value is not None:
                settings[name] = self._visit(value, network, f"{start}{name}.", into, depth + 1)
        return settings

    def _members(self, attributes: dict[Any, Any], kind: str) -> list[tuple[str, Any]]:
        members = attributes.get(kind, {})
        if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
            raise CheckpointError("A module's tensors are no dict by name.")
        return list(members.items())

    def _is_plain(self, value: Any, depth: int) -> bool:
        """Whether a value is one of texts and numbers, or of lists and dicts of them."""
        self._count("", depth)
        if value is None or isinstance(value, str | int | float):
            return True
        if isinstance(value, dict):
            return all(
                isinstance(key, str) and self._is_plain(one, depth + 1)
                for key, one in value.items()
            )
        if isinstance(value, list | tuple):
            return all(self._is_plain(one, depth + 1) for one in value)
        return False

    def _copy(self, value: Any, depth: int) -> Any:
        self._count("", depth)
        if isinstance(value, dict):
            return {key: self._copy(one, depth + 1) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(one, depth + 1) for one in value]
        return value
