"""Who a face is: dlib's 128-D descriptor."""

import functools
from typing import Any

import numpy as np

from facegan.errors import DataError
from facegan.face.landmarks import (
    NUM_LANDMARKS,
    DlibDetector,
    find_dlib_model,
    import_dlib,
)

# Numbers of a descriptor.
IDENTITY_SIZE = 128


@functools.cache
def _network() -> Any:
    return import_dlib().face_recognition_model_v1(
        str(find_dlib_model("dlib_face_recognition_resnet_model_v1.dat"))
    )


class IdentityModel:
    """Describes faces so that pictures of one person lie closer than 0.6 to each other.

    A description takes some 65 ms on a CPU core and holds Python's global lock meanwhile, so it is
    for picking out people and for evaluation, not for every frame of a render.

    Reference: dlib's face recognition ResNet, trained with a metric loss; 0.6 is its own threshold.
    """

    def __init__(self) -> None:
        self._dlib = import_dlib()
        self._net = _network()
        self._detector: DlibDetector | None = None

    def describe(
        self, image: np.ndarray, landmarks_xy_px: np.ndarray | None = None
    ) -> np.ndarray | None:
        """The descriptor of one face.

        Args:
            image: [H, W, 3] uint8 RGB.
            landmarks_xy_px: [68, 2]; without them the largest face of the image is taken.

        Returns:
            [128] float32, or None where no landmarks are given and no face is found.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(
                f"describe takes an image [H, W, 3] uint8 RGB, got {image.dtype} "
                f"{list(image.shape)}."
            )
        if landmarks_xy_px is None:
            self._detector = self._detector or DlibDetector()
            faces = self._detector.detect(image)
            if not faces:
                return None
            landmarks_xy_px = faces[0].landmarks_xy_px
        xy = np.rint(np.asarray(landmarks_xy_px, np.float64)).astype(int)
        if xy.shape != (NUM_LANDMARKS, 2):
            raise DataError(f"describe takes landmarks [68, 2], got {list(xy.shape)}.")
        (left, top), (right, bottom) = xy.min(axis=0), xy.max(axis=0)
        shape = self._dlib.full_object_detection(
            self._dlib.rectangle(int(left), int(top), int(right), int(bottom)),
            [self._dlib.point(int(x), int(y)) for x, y in xy],
        )
        descriptor = self._net.compute_face_descriptor(np.ascontiguousarray(image), shape)
        return np.array(descriptor, np.float32)


def identity_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Euclidean distance of two descriptors [128]; below 0.6 they are taken for one person."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(np.linalg.norm(difference))
