"""A few pictures of one person, as a few-shot model wants to see them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from facegan.errors import ConfigError, DataError
from facegan.face.align import CropConfig, extract_crop, plan_crops, transform_points
from facegan.face.landmarks import DetectorConfig
from facegan.preparation.face_clips import choose_evenly
from facegan.preparation.faces import find_largest_face
from facegan.preparation.squares import read_photo_file
from facegan.video.reader import VideoReader, count_frames

# Of a video so many times as many frames are searched as are wanted: some show no face.
_SPARE = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Shots:
    """Faces of one person.

    Attributes:
        images: [K, S, S, 3] uint8, square crops.
        landmarks_xy_px: [K, 68, 2] float32, crop pixels.
        names: Where each is from, for messages.
    """

    images: np.ndarray
    landmarks_xy_px: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_shots(
    paths: Sequence[str | os.PathLike[str]],
    size_px: int,
    *,
    crop: CropConfig | None = None,
    detector: DetectorConfig | None = None,
) -> Shots:
    """Reads pictures, finds the largest face in each and cuts it out.

    Args:
        paths: Picture files; pictures are turned upright as their cameras noted.
        size_px: Height and width of the crops.
        crop: Which square is cut out.
        detector: What finds the faces.

    Raises:
        ConfigError: There are no paths.
        DataError: A file cannot be read as a picture, or shows no face.
    """
    if not paths:
        raise ConfigError("At least one picture of the person is needed, got none.")
    found = []
    for path in map(pathlib.Path, paths):
        image = read_photo_file(path)
        face = find_largest_face(image, detector or DetectorConfig())
        if face is None:
            raise DataError(
                f"{path}: No face was found. Use pictures in which the face is seen from the "
                "front, at least 40 pixels wide."
            )
        found.append((image, face.landmarks_xy_px, str(path)))
    cut = [_cut([one], size_px, crop) for one in found]
    return Shots(
        np.concatenate([shots.images for shots in cut]),
        np.concatenate([shots.landmarks_xy_px for shots in cut]),
        tuple(shots.names[0] for shots in cut),
    )


def read_video_shots(
    path: str | os.PathLike[str],
    count: int,
    size_px: int,
    *,
    crop: CropConfig | None = None,
    detector: DetectorConfig | None = None,
) -> Shots:
    """Takes frames of a video that show a face, spread evenly over it.

    Args:
        path: The video.
        count: How many frames at most.
        size_px: Height and width of the crops.
        crop: Which square is cut out.
        detector: What finds the faces.

    Raises:
        VideoError: The video cannot be read.
        DataError: None of its frames shows a face.
    """
    wanted = set(choose_evenly(np.arange(count_frames(path)), _SPARE * count).tolist())
    found = []
    with VideoReader(path) as reader:
        for frame in reader:
            if frame.index in wanted:
                face = find_largest_face(frame.image, detector or DetectorConfig())
                if face is not None:
                    name = f"{path}#{frame.index}"
                    found.append((frame.image, face.landmarks_xy_px, name))
    if not found:
        raise DataError(
            f"{path}: No face was found. Use a video in which a face is seen from the front, at "
            "least 40 pixels wide."
        )
    chosen = choose_evenly(np.arange(len(found)), count)
    return _cut([found[int(index)] for index in chosen], size_px, crop)


def _cut(found: Sequence[tuple[np.ndarray, Any, str]], size_px: int, crop: Any) -> Shots:
    """Cuts faces out of frames of one size, all by the same rule."""
    # Frames far apart have no path to smooth.
    still = dataclasses.replace(crop or CropConfig(), smooth_frames=0.0)
    points = np.stack([xy for _, xy, _ in found])
    height, width = found[0][0].shape[:2]
    crops = plan_crops(points, np.ones(len(found), bool), (height, width), still)
    images, landmarks = [], []
    for number, (image, xy, _) in enumerate(found):
        matrix = crops.crop_matrix(number, size_px)
        images.append(extract_crop(image, matrix, size_px))
        landmarks.append(transform_points(matrix, xy).astype(np.float32))
    return Shots(np.stack(images), np.stack(landmarks), tuple(name for _, _, name in found))
