"""Random inputs for a signature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facegan import image as image_lib
from facegan.bundle import TensorSpec

Arrays = dict[str, np.ndarray]


def settle_shape(
    spec: TensorSpec,
    batch_size: int,
    *,
    free_size: int = 64,
    free_hw: tuple[int, int] | None = None,
) -> tuple[int, ...]:
    """The shape of a tensor with its free axes settled; see ``sample_inputs``."""
    sizes = [size or free_size for size in spec.shape]
    sizes[0] = batch_size
    if free_hw is not None and (spec.is_image or spec.is_label_map):
        sizes[1:3] = [own or free for own, free in zip(spec.shape[1:3], free_hw, strict=True)]
    return tuple(sizes)


def sample_inputs(
    specs: Sequence[TensorSpec],
    batch_size: int,
    *,
    free_size: int = 64,
    free_hw: tuple[int, int] | None = None,
    seed: int = 0,
) -> Arrays:
    """Random inputs for a signature.

    Args:
        specs: The tensors to make.
        batch_size: First axis.
        free_size: Size of every other free axis.
        free_hw: Height and width of pictures and maps of ids where they are free, instead.
        seed: Of the random numbers.

    Returns:
        Arrays by name. Pictures are exact uint8 codes turned into [-1, 1], so that both signatures
        can be fed with the same values.
    """
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for spec in specs:
        shape = settle_shape(spec, batch_size, free_size=free_size, free_hw=free_hw)
        if spec.is_image:
            codes = random.integers(0, 256, shape, dtype=np.uint8)
            arrays[spec.name] = image_lib.to_float(codes)
        elif spec.dtype.startswith(("int", "uint")):
            low, high = spec.value_range or (0, 1)
            arrays[spec.name] = random.integers(int(low), int(high) + 1, shape).astype(spec.dtype)
        elif spec.value_range is not None:
            arrays[spec.name] = random.uniform(*spec.value_range, shape).astype(spec.dtype)
        else:
            arrays[spec.name] = random.standard_normal(shape).astype(spec.dtype)
    return arrays
