"""The faces of a single picture, with what finds them loaded once per process."""

import functools
from collections.abc import Sequence

import numpy as np

from facegan.face.identity import IdentityModel
from facegan.face.landmarks import DetectorConfig, Face, FaceDetector, make_detector
from facegan.preparation.items import Rejected


@functools.cache
def _detector(config: DetectorConfig) -> FaceDetector:
    return make_detector(config)


@functools.cache
def _identity_model() -> IdentityModel:
    return IdentityModel()


def find_faces(image: np.ndarray, config: DetectorConfig) -> list[Face]:
    """All faces of a picture [H, W, 3] uint8 RGB, the largest first."""
    return _detector(config).detect(image)


def find_largest_face(image: np.ndarray, config: DetectorConfig) -> Face | None:
    """The largest face of a picture [H, W, 3] uint8 RGB, None where there is none."""
    faces = find_faces(image, config)
    return faces[0] if faces else None


def require_one_face(faces: Sequence[Face], name: str) -> None:
    """Raises Rejected, "no_face" or "several_faces", unless a picture of this name shows one."""
    if not faces:
        raise Rejected("no_face", f"No face is found in {name}.")
    if len(faces) > 1:
        raise Rejected("several_faces", f"{len(faces)} faces are found in {name}, not one.")


def describe_face(image: np.ndarray, face: Face) -> np.ndarray:
    """Who a face is: [128] float32."""
    return describe_landmarks(image, face.landmarks_xy_px)


def describe_landmarks(image: np.ndarray, landmarks_xy_px: np.ndarray) -> np.ndarray:
    """The same of the face with these landmarks [68, 2] in a picture [H, W, 3] uint8 RGB."""
    descriptor = _identity_model().describe(image, landmarks_xy_px)
    assert descriptor is not None  # it is None only where it has to find the face itself
    return descriptor
