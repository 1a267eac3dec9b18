"""LPIPS' weights: from torchvision's AlexNet and the authors' linear weights to a file of ours.

Reference: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018; the linear weights are those of version 0.1.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facegan.convert.torch_file import read_torch_file
from facegan.convert.weights_file import (
    find_problem,
    refuse_existing,
    refuse_problems,
    write_weights,
)

# Layers of torchvision's AlexNet that are convolutions -> their kernels, [out, in, high, wide].
_CONVS = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


def convert_lpips(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    heads: str | os.PathLike[str],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the weights of LPIPS with AlexNet as ``models.lpips.make_lpips`` reads them.

    Args:
        path: torchvision's ``alexnet-owt-*.pth``, with keys as ``features.0.weight``.
        output: The ``.npz`` file to write.
        heads: The weights of the channels, ``alex.pth`` of LPIPS v0.1, with keys as
            ``lin0.model.1.weight``.
        overwrite: Replace a file that is there.

    Returns:
        ``output``, ``convolutions``, and ``left_over``: names in the two files that are not needed.

    Raises:
        CheckpointError: A file cannot be read, lacks a layer, or has one of another shape; a
            channel's weight is negative; or the output cannot be written.
    """
    output = pathlib.Path(output)
    refuse_existing(output, overwrite=overwrite)
    network, linear = read_torch_file(path), read_torch_file(heads)
    arrays: dict[str, np.ndarray] = {"kind": np.array("lpips")}
    network_problems, linear_problems = [], []
    for number, (layer, kernel) in enumerate(_CONVS.items(), 1):
        filters = kernel[0]
        for part, theirs, shape in (("kernel", "weight", kernel), ("bias", "bias", (filters,))):
            key = f"features.{layer}.{theirs}"
            value = network.pop(key, None)
            problem = find_problem(value, shape)
            if problem:
                network_problems.append(f"{key} {problem}")
            elif value is not None:
                arrays[f"conv{number}/{part}"] = value.astype(np.float32)
        key = f"lin{number - 1}.model.1.weight"
        value = linear.pop(key, None)
        problem = find_problem(value, (1, filters, 1, 1))
        if problem:
            linear_problems.append(f"{key} {problem}")
        elif value is not None and value.min() < 0:
            linear_problems.append(f"{key} has negative values")
        elif value is not None:
            arrays[f"linear{number}/kernel"] = value.astype(np.float32)
    refuse_problems(path, "AlexNet of torchvision", network_problems)
    refuse_problems(heads, "file of LPIPS' linear weights for AlexNet", linear_problems)
    for name, value in arrays.items():
        if name.endswith("/kernel"):
            arrays[name] = np.ascontiguousarray(value.transpose(2, 3, 1, 0))
    write_weights(output, arrays)
    return {
        "output": str(output),
        "convolutions": len(_CONVS),
        "left_over": [*network, *linear],
    }
