"""The identity term of a recipe: whether two pictures show the same person to a fixed network."""

from __future__ import annotations

from typing import Any

from keras import ops

from facegan.losses.features import cosine_loss
from facegan.models.perceptual import VGGFeaturesConfig, make_vgg_face
from facegan.training.perceptual_term import PerceptualTerm

_CONFIG = VGGFeaturesConfig(architecture="vgg16", layers=("relu5_3",), preprocessing="vgg_face")


class IdentityTerm(PerceptualTerm):
    """Compares faces by the last maps of VGG-Face, averaged over the picture.

    Unlike dlib's descriptor it can be differentiated. What it says does not depend on where in the
    picture something is, so that a face in another layout may still be the same person's.

    Args:
        source: Whose weights, as ``make_vgg_face`` has it.
    """

    def __init__(self, source: str):
        super().__init__(lambda **kwargs: make_vgg_face(source, _CONFIG, **kwargs), (1.0,))

    def describe(self, images: Any) -> Any:
        """Who is seen on images [B, H, W, 3] in [-1, 1]: [B, 512] float32."""
        (maps,) = super().describe(images)
        return ops.mean(ops.cast(maps, "float32"), axis=(1, 2))

    def compare(self, fake: Any, maps: Any) -> Any:
        """Scalar float32 for images and the descriptors of those whose person they should show."""
        return cosine_loss(self.describe(fake), maps)
