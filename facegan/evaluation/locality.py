"""How much of an edit lies where it should: squared colour differences inside and outside a mask.

Reference: Collins et al., "Editing in Style: Uncovering the Local Semantics of GANs", CVPR 2020,
section 4.2: the squared error in CIELAB, of which theirs is the mean outside.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from facegan.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Locality:
    """Mean squared differences of an edit.

    Attributes:
        inside: Over the pixels of the mask.
        outside: Over all others.
    """

    inside: float
    outside: float

    @property
    def ratio(self) -> float:
        """``inside`` by ``outside``; infinite or not a number where nothing changed outside."""
        if self.outside > 0:
            return self.inside / self.outside
        return math.inf if self.inside > 0 else math.nan


def colour_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The squared difference of each pixel in CIELAB.

    Args:
        before: [H, W, 3] uint8.
        after: The same picture edited.

    Returns:
        [H, W] float64, the mean over L, a and b, each of which has the range 0 to 1 (a and b with
        their zero at 128/255).

    Raises:
        ConfigError: These are no two pictures of one size.
    """
    for name, image in (("before", before), ("after", after)):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ConfigError(
                f"{name} must be a picture [H, W, 3] uint8, got {list(image.shape)} {image.dtype}."
            )
    if before.shape != after.shape:
        raise ConfigError(
            f"The pictures must have one size, got {list(before.shape)} and {list(after.shape)}."
        )
    # OpenCV scales L to 255 and adds 128 to a and b.
    a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2Lab) / 255.0 for image in (before, after))
    return ((a - b) ** 2).mean(axis=-1)


def measure_edit(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> Locality:
    """Compares an edit's change inside a mask with that outside.

    Args:
        before: [H, W, 3] uint8.
        after: The same picture edited.
        mask: [H, W] bool, where the edit should be seen.

    Raises:
        ConfigError: The sizes do not fit, or the mask is empty or all of the picture.
    """
    change = colour_change(before, after)
    if mask.shape != change.shape or mask.dtype != np.bool_:
        raise ConfigError(
            f"mask must be {list(change.shape)} bool, got {list(mask.shape)} {mask.dtype}."
        )
    if mask.all() or not mask.any():
        raise ConfigError(
            f"The mask has {int(mask.sum())} of {mask.size} pixels, so there is nothing to compare."
        )
    return Locality(float(change[mask].mean()), float(change[~mask].mean()))


def mean_locality(edits: Sequence[Locality]) -> Locality:
    """The means over edits; the ratio is then one of means, which no quiet edit can blow up."""
    if not edits:
        raise ConfigError("There is no edit to take the mean of.")
    return Locality(
        float(np.mean([edit.inside for edit in edits])),
        float(np.mean([edit.outside for edit in edits])),
    )
