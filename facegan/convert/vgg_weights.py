"""The convolutions of VGG nets in other projects' files: what the converters of VGG nets share.

Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, table 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from facegan.convert.caffe_file import read_caffe_file
from facegan.convert.torch_file import read_torch_file
from facegan.convert.weights_file import find_problem, refuse_problems
from facegan.errors import CheckpointError

# Channels of the five blocks.
_CHANNELS = (64, 128, 256, 512, 512)

# How PyTorch's files begin: a zip archive, or a pickle.
_TORCH_SIGNS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def conv_names(depths: Sequence[int]) -> tuple[str, ...]:
    """Names of the convolutions, as conv1_1, of a net with so many in each block."""
    return tuple(f"conv{block}_{i}" for block, n in enumerate(depths, 1) for i in range(1, n + 1))


def is_torch_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file's first bytes are those of PyTorch, and not of Caffe.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(2) in _TORCH_SIGNS
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error


def read_vgg(
    path: str | os.PathLike[str], what: str, depths: Sequence[int]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads the convolutions of a Caffe file, or of a PyTorch state dict.

    Args:
        path: The file. Keys of a state dict are ``conv1_1.weight`` or, as torchvision counts the
            layers, ``features.0.weight``.
        what: The net, for messages.
        depths: How many convolutions it has in each of its five blocks.

    Returns:
        Float32 arrays as ``conv1_1/kernel`` [height, width, in, out] and ``conv1_1/bias``; the
        order of colours is the file's. And the names in the file that are not needed.

    Raises:
        CheckpointError: The file cannot be read, lacks a layer, or has one of another shape.
    """
    convs = conv_names(depths)
    found, left_over = _from_torch(path, convs) if is_torch_file(path) else _from_caffe(path, convs)
    arrays, problems, channels = {}, [], 3
    for name in convs:
        filters = _CHANNELS[int(name[4]) - 1]
        wanted = {"kernel": (filters, channels, 3, 3), "bias": (filters,)}
        for part, shape in wanted.items():
            value = found.get(f"{name}/{part}")
            if value is not None and part == "bias" and value.shape == (1, 1, 1, filters):
                value = value.reshape(shape)  # Caffe once gave every blob four axes
            problem = find_problem(value, shape)
            if problem:
                problems.append(f"{name}/{part} {problem}")
            elif value is not None:
                arrays[f"{name}/{part}"] = value.astype(np.float32)
        channels = filters
    refuse_problems(path, what, problems)
    for name in convs:
        kernel = arrays[f"{name}/kernel"].transpose(2, 3, 1, 0)
        arrays[f"{name}/kernel"] = np.ascontiguousarray(kernel)
    return arrays, left_over


def _from_caffe(
    path: str | os.PathLike[str], convs: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    found, left_over = {}, []
    for name, blobs in read_caffe_file(path).items():
        if name in convs and len(blobs) == 2:
            found[f"{name}/kernel"], found[f"{name}/bias"] = blobs
        else:
            left_over.append(name)
    return found, left_over


def _from_torch(
    path: str | os.PathLike[str], convs: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    names = _torch_names(convs)
    found: dict[str, np.ndarray] = {}
    left_over = []
    for key, value in read_torch_file(path).items():
        name = names.get(key)
        if name is None:
            left_over.append(key)
        elif name in found:
            raise CheckpointError(f"{path} has {name} twice, by the names of two layouts.")
        else:
            found[name] = value
    return found, left_over


def _torch_names(convs: Sequence[str]) -> Mapping[str, str]:
    """Keys of both usual layouts -> our names."""
    names, layer = {}, 0
    for conv in convs:
        if conv.endswith("_1") and layer:
            layer += 1  # a pooling layer
        for theirs, ours in (("weight", "kernel"), ("bias", "bias")):
            names[f"{conv}.{theirs}"] = names[f"features.{layer}.{theirs}"] = f"{conv}/{ours}"
        layer += 2  # the convolution and its ReLU
    return names
