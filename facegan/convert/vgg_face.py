"""VGG-Face's weights: from the authors' Caffe file, or a PyTorch state dict, to a file of ours.

Reference: Parkhi et al., "Deep Face Recognition", BMVC 2015. The authors' weights are for
non-commercial use (Creative Commons BY-NC).
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan.config import unknown_name
from facegan.convert.caffe_file import read_caffe_file
from facegan.convert.torch_file import read_torch_file
from facegan.convert.weights_file import (
    find_problem,
    refuse_existing,
    refuse_problems,
    write_weights,
)
from facegan.errors import CheckpointError

_DEPTHS = (2, 2, 3, 3, 3)
_CHANNELS = (64, 128, 256, 512, 512)
_CONVS = tuple(f"conv{b}_{i}" for b, n in enumerate(_DEPTHS, 1) for i in range(1, n + 1))

CHANNEL_ORDERS = ("bgr", "rgb")

# How PyTorch's files begin: a zip archive, or a pickle.
_TORCH_SIGNS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def convert_vgg_face(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    channel_order: str = "bgr",
) -> dict[str, Any]:
    """Writes the convolutions of VGG-Face as ``models.perceptual.make_vgg_face`` reads them.

    Args:
        path: ``VGG_FACE.caffemodel``, or a PyTorch file whose keys are ``conv1_1.weight`` or, as
            torchvision counts the layers of a VGG16, ``features.0.weight``.
        output: The ``.npz`` file to write.
        overwrite: Replace a file that is there.
        channel_order: The order of colours that the weights expect, which no file tells: "bgr" as
            the authors' Caffe file; "rgb" as PyTorch files made from MatConvNet's
            (``vgg_face_dag``), whose means are given as 129.2, 104.8, 93.6. What is written expects
            "bgr" either way.

    Returns:
        ``output``, ``convolutions``, ``channel_order``, and ``left_over``: names in the file that
        are not needed.

    Raises:
        ConfigError: The order of colours is unknown.
        CheckpointError: The file cannot be read, lacks a layer, or has one of another shape; or the
            output cannot be written.
    """
    if channel_order not in CHANNEL_ORDERS:
        raise unknown_name("channel_order", channel_order, CHANNEL_ORDERS, what="value")
    output = pathlib.Path(output)
    refuse_existing(output, overwrite=overwrite)
    found, left_over = _from_torch(path) if _is_torch(path) else _from_caffe(path)
    arrays, problems, channels = {"kind": np.array("vgg_face")}, [], 3
    for name in _CONVS:
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
    refuse_problems(path, "VGG-Face", problems)
    for name in _CONVS:
        kernel = arrays[f"{name}/kernel"].transpose(2, 3, 1, 0)
        if name == "conv1_1" and channel_order == "rgb":
            kernel = kernel[:, :, ::-1]
        arrays[f"{name}/kernel"] = np.ascontiguousarray(kernel)
    write_weights(output, arrays)
    return {
        "output": str(output),
        "convolutions": len(_CONVS),
        "channel_order": channel_order,
        "left_over": left_over,
    }


def _is_torch(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) in _TORCH_SIGNS
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error


def _from_caffe(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    found, left_over = {}, []
    for name, blobs in read_caffe_file(path).items():
        if name in _CONVS and len(blobs) == 2:
            found[f"{name}/kernel"], found[f"{name}/bias"] = blobs
        else:
            left_over.append(name)
    return found, left_over


def _from_torch(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    names = _torch_names()
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


def _torch_names() -> Mapping[str, str]:
    """Keys of both usual layouts -> our names."""
    names, layer = {}, 0
    for conv in _CONVS:
        if conv.endswith("_1") and layer:
            layer += 1  # a pooling layer
        for theirs, ours in (("weight", "kernel"), ("bias", "bias")):
            names[f"{conv}.{theirs}"] = names[f"features.{layer}.{theirs}"] = f"{conv}/{ours}"
        layer += 2  # the convolution and its ReLU
    return names
