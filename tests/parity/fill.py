"""Weights that follow from a name and a shape.

The stored outputs of the public implementations were made with these, so a full-size network is
checked without storing its weights. The rule cannot change: the stored numbers depend on it.
"""

import zlib

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a state-dict entry, from a generator seeded by the name's CRC-32.

    Norm scales lie around 1, biases and moving means around 0, moving variances in [0.5, 1.5);
    kernels are scaled by their fan-in.
    """
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    shape = tuple(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        return (0.5 + rng.random(shape)).astype(np.float32)
    values = rng.standard_normal(shape)
    if leaf in ("running_mean", "bias"):
        values = 0.1 * values
    elif len(shape) == 1 and leaf == "weight":
        values = 1.0 + 0.1 * values
    elif len(shape) >= 2:
        values = values / np.sqrt(int(np.prod(shape[1:])))
    return values.astype(np.float32)


def fill_stylegan2(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for StyleGAN2, whose layers scale their weights while they run."""
    if name.endswith("weight"):
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        values = rng.standard_normal(shape).astype(np.float32)
        return values * 100 if "mapping.fc" in name else values
    values = fill(name, shape)
    if name.endswith("affine.bias"):
        return 1 + values
    return np.float32(0.1) * values if name.endswith("w_avg") else values
