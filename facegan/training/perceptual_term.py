"""The perceptual term of a recipe: how alike two images look to a fixed network."""

from __future__ import annotations

from typing import Any

import keras

from facegan.losses.features import perceptual_loss
from facegan.models.perceptual import PYRAMID_WEIGHTS, make_vgg19


class PerceptualTerm:
    """Compares images by VGG19's maps, weighted as in pix2pixHD and SPADE.

    Args:
        source: Whose weights, as ``make_vgg19`` has it.
    """

    def __init__(self, source: str):
        self._source = source
        self._net: keras.Model | None = None

    def prepare(self, precision: str) -> None:
        """Gets the network; once, in the strategy's scope.

        Raises:
            CheckpointError: Its weights cannot be had.
        """
        if self._net is None:
            self._net = make_vgg19(self._source, dtype=precision)

    def __call__(self, fake: Any, real: Any) -> Any:
        """Scalar float32 for images [B, H, W, 3] in [-1, 1]; no gradient goes to the real ones."""
        if self._net is None:
            raise RuntimeError("PerceptualTerm is called before it is prepared.")
        return perceptual_loss(
            self._net({"image": fake}), self._net({"image": real}), PYRAMID_WEIGHTS
        )
