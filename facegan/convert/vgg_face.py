"""VGG-Face's weights: from the authors' Caffe file, or a PyTorch state dict, to a file of ours.

Reference: Parkhi et al., "Deep Face Recognition", BMVC 2015. The authors' weights are for
non-commercial use.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan.convert.caffe_file import read_caffe_file
from facegan.convert.torch_file import read_torch_file
from facegan.errors import CheckpointError

_DEPTHS = (2, 2, 3, 3, 3)
_CHANNELS = (64, 128, 256, 512, 512)
_CONVS = tuple(f"conv{b}_{i}" for b, n in enumerate(_DEPTHS, 1) for i in range(1, n + 1))


def convert_vgg_face(
    path: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool = False
) -> dict[str, Any]:
    """Writes the convolutions of VGG-Face as ``models.perceptual.make_vgg_face`` reads them.

    Args:
        path: ``VGG_FACE.caffemodel``, or a PyTorch file whose keys are ``conv1_1.weight`` or, as
            torchvision counts the layers of a VGG16, ``features.0.weight``. Both hold kernels
            [out, in, height, width] for pictures in the order blue, green, red.
        output: The ``.npz`` file to write.
        overwrite: Replace a file that is there.

    Returns:
        ``output``, ``convolutions``, and ``left_over``: names in the file that are not needed.

    Raises:
        CheckpointError: The file cannot be read, lacks a layer, or has one of another shape; or the
            output cannot be written.
    """
    output = pathlib.Path(output)
    if output.exists() and not overwrite:
        raise CheckpointError(f"{output} is there already. Allow overwriting, or name another.")
    caffe = os.fspath(path).endswith(".caffemodel")
    found, left_over = _from_caffe(path) if caffe else _from_torch(path)
    arrays, problems, channels = {"kind": np.array("vgg_face")}, [], 3
    for name in _CONVS:
        filters = _CHANNELS[int(name[4]) - 1]
        wanted = {"kernel": (filters, channels, 3, 3), "bias": (filters,)}
        for part, shape in wanted.items():
            value = found.get(f"{name}/{part}")
            if value is None:
                problems.append(f"{name}/{part} is missing")
            elif value.size != np.prod(shape) or (part == "kernel" and value.shape != shape):
                problems.append(f"{name}/{part} is {list(value.shape)}, not {list(shape)}")
            elif part == "kernel":
                arrays[f"{name}/kernel"] = value.astype(np.float32).transpose(2, 3, 1, 0)
            else:
                arrays[f"{name}/bias"] = value.astype(np.float32).reshape(shape)
        channels = filters
    if problems:
        shown = "; ".join(problems[:4]) + ("; ..." if len(problems) > 4 else "")
        raise CheckpointError(f"{path} is no VGG-Face: {shown}.")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, output)
    except OSError as error:
        raise CheckpointError(f"Cannot write {output}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return {"output": str(output), "convolutions": len(_CONVS), "left_over": left_over}


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
    found, left_over = {}, []
    for key, value in read_torch_file(path).items():
        name = names.get(key)
        if name is None:
            left_over.append(key)
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
