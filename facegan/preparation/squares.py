"""The square of a picture that a model is shown: what is learnt from and what is changed alike."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from typing import Literal

import numpy as np

from facegan.errors import DataError
from facegan.face.align import transform_points
from facegan.face.landmarks import DetectorConfig
from facegan.face.portrait import extract_portrait, portrait_matrix, portrait_side_px
from facegan.image import resize
from facegan.preparation.faces import find_largest_face
from facegan.preparation.items import Rejected
from facegan.preparation.pictures import read_photo

Align = Literal["none", "ffhq"]


@dataclasses.dataclass(frozen=True, slots=True)
class Square:
    """A square that is cut out of a picture.

    Attributes:
        image: [S, S, 3] uint8.
        matrix: [2, 3] float64 from pixels of the picture to those of the square.
        landmarks_xy_px: [68, 2] float32 in pixels of the square; None where no face was looked for,
            or none found.
    """

    image: np.ndarray
    matrix: np.ndarray
    landmarks_xy_px: np.ndarray | None


def cut_square(
    image: np.ndarray,
    name: str,
    size_px: int,
    *,
    align: Align,
    detector: DetectorConfig,
    landmarks: bool = False,
    min_side_px: float = 0.0,
) -> Square:
    """Cuts the square of a picture out.

    Args:
        image: [H, W, 3] uint8.
        name: How messages call it.
        size_px: Height and width of the square.
        align: "ffhq" takes the oriented square around the largest face; "none" the centred one.
        detector: What finds the face.
        landmarks: Whether a face is looked for in a centred square, too.
        min_side_px: Least side of the square, in pixels of the picture (a dataset's ``min_scale``
            of its size).

    Raises:
        Rejected: "no_face", where one is needed; or "too_small".
    """
    if align == "ffhq":
        face = find_largest_face(image, detector)
        if face is None:
            raise Rejected("no_face", f"No face is found in {name}, so it cannot be aligned.")
        matrix = portrait_matrix(face.landmarks_xy_px, size_px)
        _check_side(portrait_side_px(matrix, size_px), min_side_px, name)
        points = transform_points(matrix, face.landmarks_xy_px).astype(np.float32)
        return Square(extract_portrait(image, matrix, size_px), matrix, points)
    side = min(image.shape[:2])
    _check_side(side, min_side_px, name)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    scale = size_px / side
    matrix = np.array(
        [
            [scale, 0.0, (0.5 - left) * scale - 0.5],
            [0.0, scale, (0.5 - top) * scale - 0.5],
        ]
    )
    face = find_largest_face(np.ascontiguousarray(square), detector) if landmarks else None
    found = None
    if face is not None:
        found = transform_points(matrix, face.landmarks_xy_px + (left, top)).astype(np.float32)
    return Square(resize(square, size_px, size_px), matrix, found)


def _check_side(side_px: float, least_px: float, name: str) -> None:
    if side_px < least_px:
        raise Rejected(
            "too_small",
            f"The square cut from {name} is {math.floor(side_px)} px wide, at least "
            f"{math.ceil(least_px)} are needed (min_scale).",
        )


def read_photo_file(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a photograph, upright: [H, W, 3] uint8 RGB.

    Raises:
        DataError: It cannot be read as one.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    return read_photo(data, str(path), turn_upright=True)
