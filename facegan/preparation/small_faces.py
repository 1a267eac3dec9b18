"""Faces in pictures that may be too small for a detector, such as those of small generators."""

from __future__ import annotations

import dataclasses

import numpy as np

from facegan.face.landmarks import DetectorConfig, resize_landmarks
from facegan.image import resize
from facegan.preparation.faces import find_largest_face

# Detectors find no face in smaller pictures.
_LEAST_SEARCHED_PX = 256


@dataclasses.dataclass(frozen=True, slots=True)
class SmallFace:
    """A face and the picture in which it was found.

    Attributes:
        image: [H, W, 3] uint8, the picture, enlarged if it was small.
        landmarks_xy_px: [68, 2] in its pixels.
    """

    image: np.ndarray
    landmarks_xy_px: np.ndarray

    def resize(self, height_px: int, width_px: int) -> SmallFace:
        """The same at another size."""
        return SmallFace(
            resize(self.image, height_px, width_px),
            resize_landmarks(self.landmarks_xy_px, self.image.shape[:2], (height_px, width_px)),
        )


def find_small_face(image: np.ndarray, config: DetectorConfig) -> SmallFace | None:
    """The largest face of a picture [H, W, 3] uint8 RGB of any size, None where there is none."""
    height, width = image.shape[:2]
    scale = max(1.0, _LEAST_SEARCHED_PX / min(height, width))
    image = resize(image, round(scale * height), round(scale * width))
    face = find_largest_face(image, config)
    return None if face is None else SmallFace(image, face.landmarks_xy_px)
