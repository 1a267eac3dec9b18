"""The oriented square of the face data sets FFHQ and CelebA-HQ.

Models that were trained on those data expect a face exactly where their pictures have it: turned so
that it stands upright, and scaled by the distances of eyes and mouth. A portrait's matrix is a
similarity from picture to portrait pixels with the conventions of ``facegan.face.align``, so that
``paste_back`` with the inverse matrix puts a portrait back into its picture.

Reference: Karras et al., "Progressive Growing of GANs", ICLR 2018, appendix C; FFHQ uses the same
square (Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019, appendix A).
"""

import dataclasses
import math
from typing import ClassVar

import cv2
import numpy as np

from facegan.config import require_power_of_two
from facegan.errors import ConfigError, DataError
from facegan.face.align import extract_crop, invert_matrix
from facegan.face.landmarks import GROUPS, NUM_LANDMARKS

_RIGHT_EYE, _LEFT_EYE = list(GROUPS["right_eye"]), list(GROUPS["left_eye"])
_MOUTH_CORNERS = [48, 54]

# Shares of the square's side, as FFHQ was made: how far outside the picture the fade is complete,
# at least and beyond the square's own reach, and the standard deviation of the blur.
_FADE_LEAST, _FADE_BEYOND, _BLUR = 0.3, 0.1, 0.02


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PortraitConfig:
    """Which portraits are made.

    Attributes:
        size: Height and width in pixels, a power of two.
        max_enlargement: A face that would have to be enlarged by more than this is too small.
    """

    KIND: ClassVar[str] = "portrait"

    size: int = 256
    max_enlargement: float = 2.0

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, minimum=16)
        if not self.max_enlargement > 0.0:
            raise ConfigError(f"max_enlargement must be positive, got {self.max_enlargement}.")


def portrait_matrix(landmarks_xy_px: np.ndarray, size_px: int) -> np.ndarray:
    """Where a face's portrait lies in its picture.

    With the eyes e0 and e1 (the means of their six points) and the mouth's corners m0 and m1, the
    person's right before the left:

        x' = e1 - e0                        from eye to eye
        y' = (e0 + e1) / 2 - (m0 + m1) / 2  from mouth to eyes
        c  = (e0 + e1) / 2 - 0.1 y'         the square's centre
        s  = max(4.0 |x'|, 3.6 |y'|)        its side
        x  = normalise(x' - rotate90(y'))   its horizontal axis, to the right
        y  = rotate90(x)                    its vertical axis, upwards

    rotate90 turns counter-clockwise as it is seen. Pixel rows count downwards, so it takes (a, b)
    to (b, -a): right becomes up, and up becomes left.

    Args:
        landmarks_xy_px: [68, 2], picture pixels.
        size_px: Height and width of the portrait.

    Returns:
        [2, 3] float64 from picture to portrait pixels, never a reflection.

    Raises:
        DataError: These are not 68 finite points, or eyes and mouth all lie in one place.
    """
    xy = np.asarray(landmarks_xy_px, np.float64)
    if xy.shape != (NUM_LANDMARKS, 2) or not np.isfinite(xy).all():
        raise DataError(
            f"portrait_matrix takes finite landmarks [{NUM_LANDMARKS}, 2], got {list(xy.shape)}"
            f"{'' if np.isfinite(xy).all() else ' with values that are not finite'}."
        )
    e0, e1 = xy[_RIGHT_EYE].mean(axis=0), xy[_LEFT_EYE].mean(axis=0)
    across = e1 - e0
    up = (e0 + e1) / 2.0 - xy[_MOUTH_CORNERS].mean(axis=0)
    axis = across - _rotate90(up)
    length = math.hypot(*axis)
    if length < 1e-6:
        raise DataError("The landmarks' eyes and mouth show no direction, so nothing is upright.")
    axis /= length
    centre = (e0 + e1) / 2.0 - 0.1 * up
    scale = size_px / max(4.0 * math.hypot(*across), 3.6 * math.hypot(*up))
    # The portrait's own rows count downwards too.
    linear = scale * np.stack([axis, -_rotate90(axis)])
    return np.column_stack([linear, (size_px - 1) / 2.0 - linear @ centre])


def _rotate90(xy: np.ndarray) -> np.ndarray:
    return np.array([xy[1], -xy[0]])


def enlargement(matrix: np.ndarray) -> float:
    """How many portrait pixels stand side by side for one of the picture's."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def extract_portrait(image: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """Cuts a portrait out of a picture.

    What lies inside the picture is that of ``extract_crop``. Outside the picture is mirrored; away
    from the picture's edge it is ever more blurred, with a standard deviation of 0.02 of the side,
    and faded to the median colour, completely where the side's 0.3 or, if that is more, 0.1 beyond
    the square's reach is left behind.

    The authors pad and blur the picture first and then cut the square out of it. Their blur begins
    at a third of the fade's width inside the picture and is complete at its edge; here all of the
    picture is kept as it is, and blur begins at the edge. They sample the square bilinearly at 4096
    pixels and reduce that with a Lanczos filter; here the picture is shrunk by area and then
    sampled bilinearly, which is a little softer. They count landmarks from the edge of the first
    pixel, which moves a picture by half of one.

    Args:
        image: [H, W, 3] uint8.
        matrix: [2, 3] from picture to portrait pixels, as ``portrait_matrix`` gives it.
        size_px: Height and width of the portrait.

    Returns:
        [size_px, size_px, 3] uint8.

    Raises:
        DataError: The portrait lies wholly outside the picture.
    """
    portrait = extract_crop(image, matrix, size_px)
    outside, strength = _find_outside(matrix, image.shape[:2], size_px)
    if not outside.any():
        return portrait
    if outside.all():
        raise DataError(
            f"The portrait lies wholly outside its picture of {image.shape[1]}x{image.shape[0]} "
            "pixels; check the landmarks."
        )
    mirrored = extract_crop(image, matrix, size_px, mirror=True)
    mixed = np.where(outside[..., None], mirrored, portrait).astype(np.float32)
    blurred = cv2.GaussianBlur(mixed, (0, 0), _BLUR * size_px, borderType=cv2.BORDER_REFLECT)
    # The blur is complete at a third of the fade's width.
    mixed += (blurred - mixed) * np.minimum(3.0 * strength, 1.0)[..., None]
    median = np.median(portrait[~outside], axis=0).astype(np.float32)
    mixed += (median - mixed) * strength[..., None]
    portrait[outside] = np.rint(mixed[outside]).astype(np.uint8)
    return portrait


def _find_outside(
    matrix: np.ndarray, image_hw: tuple[int, ...], size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which of a portrait's pixels lie outside its picture, and how strongly each is faded.

    Returns:
        [size_px, size_px] bool, and float32 from 0 at the picture's edge to 1.
    """
    back = invert_matrix(matrix)
    side = size_px / enlargement(matrix)
    index = np.arange(size_px)
    outside = np.zeros((size_px, size_px), bool)
    strength = np.zeros((size_px, size_px), np.float32)
    for (a, b, start), length in zip(back, (image_hw[1], image_hw[0]), strict=True):
        place = a * index[None, :] + b * index[:, None] + start
        for beyond in (-0.5 - place, place - (length - 0.5)):
            outside |= beyond > 0.0
            width = max(_FADE_LEAST * side, float(beyond.max()) + _FADE_BEYOND * side)
            np.maximum(strength, (beyond / width).astype(np.float32), out=strength)
    return outside, strength
