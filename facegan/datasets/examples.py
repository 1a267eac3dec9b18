"""What a stored record becomes before it is batched: decode, move, draw.

The pipeline takes any ``ExampleMaker``; this module holds the one for faces that are conditioned
on a drawing of their landmarks. A dataset conditioned on something else (a label map, another
picture) brings its own maker and uses the same pipeline.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from facegan.datasets.transforms import Augmentation, move_pair
from facegan.face.conditioning import LANDMARKS, ConditioningConfig, LandmarkConditioner
from facegan.face.landmarks import NUM_LANDMARKS
from facegan.image import decode_picture, resize


class ExampleMaker(Protocol):
    """Turns one stored record into the arrays of one example.

    Attributes:
        fields: The records' fields that it reads.
        outputs: Shape, without batch, and dtype of each array it makes. Arrays of uint8 that end
            in [H, W, 3] are pictures: the pipeline brings them to [-1, 1].
    """

    fields: tuple[str, ...]
    outputs: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

    def __call__(
        self, record: Mapping[str, Any], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        """Makes the example of a record whose pictures are still encoded bytes."""


class LandmarkExample:
    """A face picture and the drawing of its landmarks, moved together.

    Reads the fields ``image`` (PNG or JPEG bytes of a square face crop) and ``landmarks_xy_px``
    ([68, 2], crop pixels). Gives the conditioner's arrays and ``image``, [size, size, 3] uint8.

    The move happens at the stored size and the result is then reduced to the conditioner's: a
    dataset stored at twice the size of training loses no sharpness to the warp.
    """

    fields: tuple[str, ...] = ("image", "landmarks_xy_px")
    outputs: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

    def __init__(self, config: ConditioningConfig):
        self.size = config.size
        self.conditioner = LandmarkConditioner(config)
        self.outputs = {
            name: ((config.size, config.size, 3), np.uint8)
            for name in (*self.conditioner.inputs, "image")
        }

    def __call__(
        self, record: Mapping[str, Any], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        """Makes the example of one record."""
        image = decode_picture(record["image"])
        image, landmarks = move_pair(image, record["landmarks_xy_px"], augmentation, self.size)
        return {**self.conditioner(landmarks), "image": image}


class PictureExample:
    """A picture as what is learnt and as what it is learnt from, and what else is known of it.

    Reads the field ``image`` and, where they are wanted, ``domain`` and ``landmarks_xy_px``
    ([68, 2], crop pixels; NaN where no face was found). Gives ``image``, [size, size, 3] uint8,
    ``domain``, a scalar int64, and ``landmarks_xy_px``, [68, 2] float32 in pixels of ``image``.
    """

    fields: tuple[str, ...]
    outputs: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

    def __init__(self, size: int, *, domain: bool = False, landmarks: bool = False):
        self.size = size
        outputs: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "image": ((size, size, 3), np.uint8)
        }
        if domain:
            outputs["domain"] = ((), np.int64)
        if landmarks:
            outputs[LANDMARKS] = ((NUM_LANDMARKS, 2), np.float32)
        self.fields, self.outputs = tuple(outputs), outputs

    def __call__(
        self, record: Mapping[str, Any], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        """Makes the example of one record."""
        image, example = decode_picture(record["image"]), {}
        if LANDMARKS in self.outputs:
            moved = move_pair(image, record[LANDMARKS], augmentation, self.size)
            image, example[LANDMARKS] = moved
        else:
            image = resize(augmentation.apply_to_image(image), self.size, self.size)
        example["image"] = image
        if "domain" in self.outputs:
            example["domain"] = np.asarray(record["domain"], np.int64)
        return example
