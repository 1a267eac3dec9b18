"""What a bundle is shown in use: the embedded portraits by way of its own conditioning.

Random numbers try every value; drawings, maps and faces are what the network was trained on, and
where a fault would be seen. The portraits' landmarks are the mean face's, laid on their eyes: near
enough for a drawing, and no detector is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facegan import image as image_lib
from facegan.bundle import TensorSpec
from facegan.errors import ConfigError, DataError
from facegan.export.random_inputs import Arrays, sample_inputs, settle_shape
from facegan.face.align import estimate_similarity, transform_points
from facegan.face.conditioning import (
    LANDMARKS,
    LabelMapConditioningConfig,
    MaskConditioningConfig,
    decode_conditioning,
    make_conditioner,
)
from facegan.face.label_maps import resize_labels
from facegan.face.landmarks import GROUPS, MEAN_SHAPE
from facegan.face.parsing import ParserConfig
from facegan.samples import SampleName, sample_portrait

_PORTRAITS: tuple[SampleName, ...] = ("collins", "hopper")
# Where the eyes are in the portraits, right one first, in shares of their side.
_EYES = {
    "collins": ((0.404, 0.406), (0.586, 0.412)),
    "hopper": ((0.407, 0.432), (0.593, 0.422)),
}


def real_inputs(
    specs: Sequence[TensorSpec],
    conditioning: Mapping[str, Any] | None,
    *,
    free_hw: tuple[int, int],
    free_size: int = 3,
) -> Arrays | None:
    """Inputs of a signature for the two portraits, a batch of two.

    Args:
        specs: The tensors to make. What the conditioning makes comes from there; other pictures are
            the portrait, and all other tensors normal or uniform draws.
        conditioning: The bundle's document.
        free_hw: Height and width where they are free.
        free_size: Size of every other free axis.

    Returns:
        Arrays by name, or None where the portraits are not installed.
    """
    try:
        portraits = [sample_portrait(name) for name in _PORTRAITS]
    except ConfigError:
        return None
    drawn = sample_inputs(specs, len(portraits), free_hw=free_hw, free_size=free_size, seed=1)
    made = [
        _condition(portrait, name, conditioning)
        for portrait, name in zip(portraits, _PORTRAITS, strict=True)
    ]
    arrays: Arrays = {}
    for spec in specs:
        shape = settle_shape(spec, 1, free_hw=free_hw, free_size=free_size)[1:]
        values = [
            _fill(spec, shape, portrait, given)
            for portrait, given in zip(portraits, made, strict=True)
        ]
        known = all(value is not None for value in values)
        arrays[spec.name] = np.stack(values) if known else drawn[spec.name]  # type: ignore[arg-type]
    return arrays


def _condition(
    portrait: np.ndarray, name: str, conditioning: Mapping[str, Any] | None
) -> dict[str, np.ndarray]:
    """What a bundle's conditioning makes of a portrait; nothing where it makes nothing of faces."""
    if conditioning is None:
        return {}
    try:
        config = decode_conditioning(conditioning)
        if isinstance(config, LabelMapConditioningConfig | MaskConditioningConfig):
            # A parser of its own is another bundle, which may not be here.
            config = dataclasses.replace(config, parser=ParserConfig())
        if isinstance(config, MaskConditioningConfig):
            config = dataclasses.replace(config, identity=False)
        conditioner = make_conditioner(config)
        size = conditioner.crop_size
        image = image_lib.resize(portrait, size, size)
        landmarks = (size * _unit_landmarks(name)).astype(np.float32)
        conditioner.fit([image], [landmarks])
        return conditioner(landmarks, image)
    except (ConfigError, DataError):
        return {}


def _unit_landmarks(name: str) -> np.ndarray:
    """[68, 2] in shares of the portrait's side."""
    eyes = [MEAN_SHAPE[list(GROUPS[group])].mean(axis=0) for group in ("right_eye", "left_eye")]
    matrix = estimate_similarity(np.asarray(eyes), np.asarray(_EYES[name]))
    return transform_points(matrix, np.asarray(MEAN_SHAPE, np.float64))


def _fill(
    spec: TensorSpec,
    shape: tuple[int, ...],
    portrait: np.ndarray,
    made: Mapping[str, np.ndarray],
) -> np.ndarray | None:
    """One example of a tensor; None where a portrait says nothing about it."""
    given = made.get(spec.name)
    if spec.name == LANDMARKS:
        return None if given is None or given.shape != shape else given.astype(spec.dtype)
    if spec.is_label_map:
        return None if given is None else resize_labels(given, *shape).astype(spec.dtype)
    pictures = spec.value_range == (-1.0, 1.0) and len(shape) >= 3 and shape[-1] == 3
    if pictures:  # [..., H, W, 3]: several of a person are the same one
        picture = given if given is not None and given.dtype == np.uint8 else portrait
        resized = image_lib.to_float(image_lib.resize(picture, *shape[-3:-1]))
        return np.broadcast_to(resized, shape)
    if given is not None and given.shape == shape:
        return given.astype(spec.dtype)
    return None
