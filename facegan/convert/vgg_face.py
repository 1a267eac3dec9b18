"""VGG-Face's weights: from the authors' Caffe file, or a PyTorch state dict, to a file of ours.

Reference: Parkhi et al., "Deep Face Recognition", BMVC 2015. The authors' weights are for
non-commercial use (Creative Commons BY-NC).
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facegan.config import unknown_name
from facegan.convert.vgg_weights import read_vgg
from facegan.convert.weights_file import refuse_existing, write_weights

_DEPTHS = (2, 2, 3, 3, 3)

CHANNEL_ORDERS = ("bgr", "rgb")


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
    arrays, left_over = read_vgg(path, "VGG-Face", _DEPTHS)
    if channel_order == "rgb":
        arrays["conv1_1/kernel"] = np.ascontiguousarray(arrays["conv1_1/kernel"][:, :, ::-1])
    write_weights(output, {"kind": np.array("vgg_face"), **arrays})
    return {
        "output": str(output),
        "convolutions": sum(_DEPTHS),
        "channel_order": channel_order,
        "left_over": left_over,
    }
