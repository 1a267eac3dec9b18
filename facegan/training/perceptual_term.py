"""The perceptual term of a recipe: how alike two images look to a fixed network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from facegan.losses.features import perceptual_loss
from facegan.models.perceptual import (
    PYRAMID_WEIGHTS,
    VGGFeaturesConfig,
    make_vgg19,
    make_vgg_face,
)


class PerceptualTerm:
    """Compares images by the maps of a fixed network.

    Args:
        make: Makes the network, given ``dtype``; called when training begins.
        weights: Of its maps.
    """

    def __init__(self, make: Callable[..., keras.Model], weights: Sequence[float]):
        self._make, self._weights = make, tuple(weights)
        self._net: keras.Model | None = None

    def prepare(self, precision: str) -> None:
        """Gets the network; once, in the strategy's scope.

        Raises:
            CheckpointError: Its weights cannot be had.
        """
        if self._net is None:
            self._net = self._make(dtype=precision)

    def describe(self, images: Any) -> Any:
        """The network's maps of images [B, H, W, 3] in [-1, 1]."""
        if self._net is None:
            raise RuntimeError("PerceptualTerm is called before it is prepared.")
        return self._net({"image": images})

    def compare(self, fake: Any, maps: Any) -> Any:
        """Scalar float32 for images and the maps of those that they should be."""
        return perceptual_loss(self.describe(fake), maps, self._weights)

    def __call__(self, fake: Any, real: Any) -> Any:
        """Scalar float32 for images [B, H, W, 3] in [-1, 1]; no gradient goes to the real ones."""
        return self.compare(fake, self.describe(real))


def pyramid_term(source: str) -> PerceptualTerm:
    """VGG19's maps after the ReLUs, weighted as in pix2pixHD and SPADE.

    Args:
        source: Whose weights, as ``make_vgg19`` has it.
    """
    return PerceptualTerm(lambda **kwargs: make_vgg19(source, **kwargs), PYRAMID_WEIGHTS)


_FIRST_CONVS = tuple(f"conv{block}_1" for block in range(1, 6))


def content_term(source: str) -> PerceptualTerm:
    """VGG19's first maps of each block before the ReLUs, alike (Zakharov et al., section 3.2)."""
    config = VGGFeaturesConfig(layers=_FIRST_CONVS)
    return PerceptualTerm(lambda **kwargs: make_vgg19(source, config, **kwargs), (1.0,) * 5)


def face_term(source: str) -> PerceptualTerm:
    """The same of VGG-Face; ``source`` as ``make_vgg_face`` has it."""
    config = VGGFeaturesConfig(architecture="vgg16", layers=_FIRST_CONVS, preprocessing="vgg_face")
    return PerceptualTerm(lambda **kwargs: make_vgg_face(source, config, **kwargs), (1.0,) * 5)
