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

import cv2
import numpy as np

from facegan.errors import DataError
from facegan.face.align import compose_matrices, extract_crop, invert_matrix, smooth_gaussian
from facegan.face.landmarks import GROUPS, NUM_LANDMARKS
from facegan.image import resize

_RIGHT_EYE, _LEFT_EYE = list(GROUPS["right_eye"]), list(GROUPS["left_eye"])
_MOUTH_CORNERS = [48, 54]

# Shares of the square's side, as FFHQ was made: how far outside the picture the fade is complete,
# at least and beyond the square's own reach, and the standard deviation of the blur.
_FADE_LEAST, _FADE_BEYOND, _BLUR = 0.3, 0.1, 0.02
# The share of the fade's width in which the blur sets in. A slower one would leave a kaleidoscope
# of mirrored hair; a sudden one shows as a line.
_BLUR_WITHIN = 0.1


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


def portrait_side_px(matrix: np.ndarray, size_px: int) -> float:
    """The side, in picture pixels, of the square that a portrait's matrix cuts out."""
    return size_px / math.hypot(matrix[0, 0], matrix[1, 0])


def extract_portrait(image: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """Cuts a portrait out of a picture, without aliasing when it shrinks.

    What lies inside the picture is left as it is. Outside, the picture is mirrored, and away from
    its edge blurred, with a standard deviation of 0.02 of the square's side, and faded to the
    median colour. The fade is complete at 0.3 of the side or, if that is more, at 0.1 beyond the
    square's reach; the blur after a tenth of that way.

    The authors pad and blur the picture first and cut the square out of it then. Their blur begins
    inside the picture, at a third of the fade's width, and is complete at the edge. They sample the
    square bilinearly at 4096 pixels and reduce it with a Lanczos filter; here a square that shrinks
    is sampled at twice its size and reduced by area, which leaves it a little softer. FFHQ's
    landmarks count from the edge of the first pixel, which moves a picture by half of one.

    Args:
        image: [H, W, 3] uint8.
        matrix: [2, 3] from picture to portrait pixels, as ``portrait_matrix`` gives it.
        size_px: Height and width of the portrait.

    Returns:
        [size_px, size_px, 3] uint8.

    Raises:
        DataError: The portrait lies wholly outside the picture.
    """
    portrait = _extract(image, matrix, size_px, mirror=False)
    outside, strength = _find_outside(matrix, image.shape[:2], size_px)
    if not outside.any():
        return portrait
    if outside.all():
        raise DataError(
            f"The portrait lies wholly outside its picture of {image.shape[1]}x{image.shape[0]} "
            "pixels; check the landmarks."
        )
    mirrored = _extract(image, matrix, size_px, mirror=True)
    mixed = np.where(outside[..., None], mirrored, portrait).astype(np.float32)
    blurred = cv2.GaussianBlur(mixed, (0, 0), _BLUR * size_px, borderType=cv2.BORDER_REFLECT)
    mixed += (blurred - mixed) * np.minimum(strength / _BLUR_WITHIN, 1.0)[..., None]
    median = np.median(portrait[~outside], axis=0).astype(np.float32)
    mixed += (median - mixed) * strength[..., None]
    return np.rint(mixed).astype(np.uint8)  # inside, where the strength is 0, as it was


@dataclasses.dataclass(frozen=True, slots=True)
class PortraitPath:
    """One portrait for each frame of a clip.

    Attributes:
        matrices: [N, 2, 3] float64, from frame pixels to a portrait of one pixel.
    """

    matrices: np.ndarray

    def crop_matrix(self, index: int, size_px: int) -> np.ndarray:
        """[2, 3] float64 from frame pixels to pixels of the portrait of ``size_px``."""
        shift = (size_px - 1) / 2.0
        enlarge = np.array([[size_px, 0.0, shift], [0.0, size_px, shift]])
        return compose_matrices(enlarge, self.matrices[index])

    def extract(self, image: np.ndarray, index: int, size_px: int) -> np.ndarray:
        """The portrait of a frame [H, W, 3] uint8: [size_px, size_px, 3] uint8."""
        return extract_portrait(image, self.crop_matrix(index, size_px), size_px)


def plan_portraits(
    landmarks_xy_px: np.ndarray, present: np.ndarray, smooth_frames: float = 2.0
) -> PortraitPath:
    """Where the portraits of a clip's frames lie.

    A portrait's side follows from the mouth's height, too, and would pump while a person speaks;
    it is smoothed over ten times as many frames as place and turn.

    Args:
        landmarks_xy_px: [N, 68, 2], the face of each frame; may be a memory map.
        present: [N] bool, False where the frame has no face.
        smooth_frames: Standard deviation of the smoothing, in frames.

    Raises:
        DataError: No frame has a face.
    """
    known = np.flatnonzero(np.asarray(present, bool))
    if not len(known):
        raise DataError(f"None of the {len(present)} frames has a face, so none has a portrait.")
    matrices = np.stack([portrait_matrix(landmarks_xy_px[i], 1) for i in known])
    scale = np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
    turn = np.unwrap(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    # The portrait's only pixel is its centre.
    centre = np.stack([invert_matrix(matrix)[:, 2] for matrix in matrices])
    frames = np.arange(len(present))
    rows = np.column_stack([centre, turn, np.log(scale)])
    rows = np.column_stack([np.interp(frames, known, column) for column in rows.T])
    rows[:, :3] = smooth_gaussian(rows[:, :3], smooth_frames)
    rows[:, 3:] = smooth_gaussian(rows[:, 3:], 10.0 * smooth_frames, "line")
    cosine, sine = np.exp(rows[:, 3]) * np.cos(rows[:, 2]), np.exp(rows[:, 3]) * np.sin(rows[:, 2])
    linear = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)
    shift = -np.einsum("nij,nj->ni", linear, rows[:, :2])
    return PortraitPath(np.concatenate([linear, shift[:, :, None]], axis=2))


def _extract(image: np.ndarray, matrix: np.ndarray, size_px: int, mirror: bool) -> np.ndarray:
    if portrait_side_px(matrix, size_px) <= size_px:
        return extract_crop(image, matrix, size_px, mirror=mirror)
    # Sampling between pixels blurs by up to one of them: at twice the size, by up to half of one.
    twice = np.column_stack([2.0 * matrix[:, :2], 2.0 * matrix[:, 2] + 0.5])
    return resize(extract_crop(image, twice, 2 * size_px, mirror=mirror), size_px, size_px)


def _find_outside(
    matrix: np.ndarray, image_hw: tuple[int, ...], size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which of a portrait's pixels lie outside its picture, and how strongly each is faded.

    Returns:
        [size_px, size_px] bool, and float32 from 0 at the picture's edge to 1.
    """
    back = invert_matrix(matrix)
    side = portrait_side_px(matrix, size_px)
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
