"""A bundle of faces from segmentation maps whose network is a plain function.

Each region is painted in the colour that is told; what is none in the identity's first three
numbers and half of the third region's colour, as nets let colours show where they do not belong.
"""

import numpy as np
import tensorflow as tf

from facegan.bundle import TensorSpec
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.face.conditioning import MaskConditioningConfig, encode_conditioning
from tests.toy_bundle import image_spec


class MaskPuppet:
    """The function."""

    def __call__(self, inputs):
        masks = inputs["masks"]
        painted = tf.einsum("bhwg,bgc->bhwc", masks, inputs["colours"])
        nothing = 1.0 - tf.reduce_sum(masks, axis=-1, keepdims=True)
        light = inputs["identity"][:, :3] + 0.5 * inputs["colours"][:, 2]
        return painted + nothing * light[:, None, None, :]


def paint(label_map, colours, identity):
    """What the puppet paints of ids [S, S], in floats."""
    light = identity[:3] + 0.5 * colours[2]
    return np.concatenate([light[None], colours])[label_map]


def export_mask_puppet(path, *, size=64, **conditioning):
    """Writes the bundle."""
    config = MaskConditioningConfig(size=size, **conditioning)
    groups = config.num_groups
    masks = (None, size, size, groups)
    spec = ServingSpec(
        model=MaskPuppet(),
        inputs=(
            TensorSpec(name="masks", shape=masks, value_range=(0.0, 1.0)),
            TensorSpec(name="colours", shape=(None, groups, 3)),
            TensorSpec(name="identity", shape=(None, 128), value_range=None),
        ),
        outputs=(image_spec("image", size),),
    )
    export_bundle(
        path,
        spec,
        model_name="puppet",
        image_size=size,
        conditioning=encode_conditioning(config),
    )
    return path
