"""Reads the weights of Caffe's ``.caffemodel`` files without Caffe.

Such a file is one protocol-buffer message, NetParameter. Of it only this is needed:

    layers of the old kind   field 2: name is field 4, blobs are field 6
    layers of the new kind   field 100: name is field 1, blobs are field 7
    a blob                   num, channels, height, width are fields 1 to 4, the numbers field 5,
                             or in double precision 8, and the shape of new files field 7
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from facegan.errors import CheckpointError

# Field of the layers -> fields of a layer's name and blobs.
_LAYERS = {2: (4, 6), 100: (1, 7)}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Field of a blob's numbers -> their type, and how each is marked where they are not packed.
_NUMBERS = {5: ("<f4", _FIXED32), 8: ("<f8", _FIXED64)}


def read_caffe_file(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """Reads the blobs of all layers that have some.

    Args:
        path: A ``.caffemodel`` file.

    Returns:
        Layer name -> its blobs, float32: of a convolution the kernel [out, in, height, width], and
        the bias. They cannot be written to, and are read from the file when they are first used.

    Raises:
        CheckpointError: The file is damaged or no such file.
    """
    try:
        if not os.path.getsize(path):
            raise CheckpointError(f"{path} is empty.")
        # Mapped, not read: half a gigabyte, of which the classifier, rarely wanted, is most.
        layers = _read_net(np.memmap(path, np.uint8, mode="r").data)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged or no .caffemodel file: {error}.") from error
    if not layers:
        raise CheckpointError(f"{path} holds no layers with weights; is it a .caffemodel file?")
    return layers


def _read_net(data: memoryview) -> dict[str, list[np.ndarray]]:
    layers = {}
    for number, _, layer in _fields(data):
        if number in _LAYERS and isinstance(layer, memoryview):
            name_field, blob_field = _LAYERS[number]
            name, blobs = "", []
            for inner, _, value in _fields(layer):
                if isinstance(value, memoryview):
                    if inner == name_field:
                        name = bytes(value).decode("utf-8", "replace")
                    elif inner == blob_field:
                        blobs.append(_read_blob(value))
            if blobs:
                # Of layers that share a name the last counts, as in Caffe.
                layers[name] = blobs
    return layers


def _read_blob(data: memoryview) -> np.ndarray:
    old_shape: dict[int, int] = {}
    shape: list[int] | None = None
    parts: list[np.ndarray] = []
    for number, wire, value in _fields(data):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            old_shape[number] = value
        elif number == 7 and isinstance(value, memoryview):
            shape = _read_shape(value)
        elif number in _NUMBERS:
            dtype, single = _NUMBERS[number]
            if wire not in (_BYTES, single):
                raise ValueError("a blob's numbers are of an unknown kind")
            parts.append(np.frombuffer(value, dtype).astype(np.float32, copy=False))
    if len(parts) == 1:
        numbers = parts[0]
    else:
        numbers = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if shape is None:
        shape = [old_shape.get(i, 1) for i in (1, 2, 3, 4)] if old_shape else [len(numbers)]
    if math.prod(shape) != len(numbers):
        raise ValueError(f"a blob of shape {shape} has {len(numbers)} numbers")
    numbers = numbers.reshape(shape)
    numbers.flags.writeable = False
    return numbers


def _read_shape(data: memoryview) -> list[int]:
    shape: list[int] = []
    for number, _, value in _fields(data):
        if number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 1 and isinstance(value, memoryview):
            at = 0
            while at < len(value):
                size, at = _read_varint(value, at)
                shape.append(size)
    return shape


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field of a message.

    The value is a whole number, or else a memoryview. Fields of fixed width that follow one another
    with the same number come as one, as if they were packed: there may be millions.
    """
    at = 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has no number")
        if wire == _VARINT:
            value, at = _read_varint(data, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, at = _read_varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"field {number} is of an unknown kind")
        if length > len(data) - at:
            raise ValueError("a field reaches beyond its end")
        if wire == _BYTES or at - start != 1:
            yield number, wire, data[at : at + length]
            at += length
        else:
            run = _read_run(data[start:], 1 + length)
            yield number, wire, memoryview(run.tobytes())
            at = start + len(run) * (1 + length)


def _read_run(data: memoryview, width: int) -> np.ndarray:
    """Values of as many fields of ``width`` bytes, one of them the tag, as have the first's tag."""
    rows = np.frombuffer(data, np.uint8, count=len(data) // width * width).reshape(-1, width)
    count, ahead = 1, 16
    # Ever further ahead, so that short runs in a long message do not each look through all of it.
    while count < len(rows):
        other = np.flatnonzero(rows[count : count + ahead, 0] != rows[0, 0])
        if len(other):
            count += int(other[0])
            break
        count = min(count + ahead, len(rows))
        ahead *= 2
    return rows[:count, 1:]


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number has no end")
