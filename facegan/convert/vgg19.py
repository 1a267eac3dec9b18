"""VGG19's ImageNet weights: from torchvision's file, or the authors' for Caffe, to a file of ours.

The two were trained on pictures of other ranges: torchvision's on red, green, blue in [0, 1], less
a mean and by a deviation; the authors' on blue, green, red in [0, 255], less a mean. That could be
folded into the first convolution but for its border, where zeros stand around the picture: a zero
there is the mean of one range and not quite that of the other. So the file that is written says
which preparation its weights expect, and ``models.perceptual`` does that one.

Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facegan.config import unknown_name
from facegan.convert.vgg_weights import is_torch_file, read_vgg
from facegan.convert.weights_file import refuse_existing, write_weights

_DEPTHS = (2, 2, 4, 4, 4)

PREPROCESSINGS = ("caffe", "torchvision")


def convert_vgg19(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    preprocessing: str | None = None,
) -> dict[str, Any]:
    """Writes the convolutions of VGG19 as ``models.perceptual.make_vgg19`` reads them.

    Args:
        path: torchvision's ``vgg19-*.pth``, whose keys are as ``features.0.weight``, or
            ``VGG_ILSVRC_19_layers.caffemodel``.
        output: The ``.npz`` file to write.
        overwrite: Replace a file that is there.
        preprocessing: How pictures are prepared for the weights, one of ``PREPROCESSINGS``; None is
            "torchvision" for a file of PyTorch and "caffe" for one of Caffe. No file tells: some of
            PyTorch hold the authors' weights, with torchvision's names.

    Returns:
        ``output``, ``convolutions``, ``preprocessing``, and ``left_over``: names in the file that
        are not needed.

    Raises:
        ConfigError: The preprocessing is unknown.
        CheckpointError: The file cannot be read, lacks a layer, or has one of another shape; or the
            output cannot be written.
    """
    if preprocessing is not None and preprocessing not in PREPROCESSINGS:
        raise unknown_name("preprocessing", preprocessing, PREPROCESSINGS, what="value")
    output = pathlib.Path(output)
    refuse_existing(output, overwrite=overwrite)
    arrays, left_over = read_vgg(path, "VGG19", _DEPTHS)
    if preprocessing is None:
        preprocessing = "torchvision" if is_torch_file(path) else "caffe"
    write_weights(
        output,
        {"kind": np.array("vgg19"), "preprocessing": np.array(preprocessing), **arrays},
    )
    return {
        "output": str(output),
        "convolutions": sum(_DEPTHS),
        "preprocessing": preprocessing,
        "left_over": left_over,
    }
