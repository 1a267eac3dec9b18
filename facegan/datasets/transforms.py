"""Paired augmentation: one random move for a picture and everything that is drawn beside it.

An ``Augmentation`` is drawn once an example, from (seed, example number) alone, and then applied
to each part of it: pictures, label maps and landmarks all follow the same affine map, so what was
aligned stays aligned. Amounts are shares of the picture's side; one draw fits every size.

Coordinates are in pixels with the centre of the first pixel at 0, as OpenCV's warps have them.
"""

import dataclasses
import math
from typing import ClassVar

import cv2
import numpy as np

from facegan.errors import ConfigError
from facegan.face.landmarks import FLIP_ORDER, resize_landmarks
from facegan.image import resize

# Free control points of the warp along each side.
_CONTROLS = 5
# How bright red, green and blue are (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How far training examples are moved.

    The share ``1 - probability`` of the examples stays as stored. A flip swaps the sides of a
    face, partings and birthmarks included, so it is off for data of a single person. The warp is
    a smooth random field that bends picture and landmarks together: brows, eyes and mouth come to
    stand as the person never held them, and a generator learns to draw them there. A zoom enlarges
    the picture further and shows any part of it that fills the frame: with ``scale`` 0.25 and
    ``zoom`` 1.6, sizes go from 0.75 to 2. Brightness, contrast and saturation change the picture
    only, not what is drawn beside it.
    """

    KIND: ClassVar[str] = "augment"

    probability: float = 0.8
    shift: float = 0.04  # at most, each way, as a share of the side
    scale: float = 0.06  # at most, up and down: 0.06 is 0.94 .. 1.06
    rotation_deg: float = 4.0  # at most, each way
    warp: float = 0.0  # standard deviation of the field's control points, share of the side
    landmark_jitter: float = 0.003  # standard deviation of each coordinate, share of the side
    flip: bool = False
    brightness: float = 0.0  # at most, each way, as a share of the value range
    contrast: float = 0.0  # at most, up and down
    saturation: float = 0.0  # at most, up and down
    zoom: float = 1.0  # at most so many times, all ratios from 1 alike

    def __post_init__(self) -> None:
        limits = {
            "probability": 1.0,
            "shift": 0.5,
            "scale": 0.5,
            "rotation_deg": 180.0,
            "warp": 0.02,  # beyond, the field folds over itself
            "landmark_jitter": 0.1,
            "brightness": 0.5,
            "contrast": 0.9,
            "saturation": 1.0,
        }
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(
                    f"augment.{name} must lie in [0, {limit:g}], got {getattr(self, name)}; "
                    "0 switches it off."
                )
        if not 1 <= self.zoom <= 4:
            raise ConfigError(
                f"augment.zoom must lie in [1, 4], got {self.zoom}; 1 switches it off."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Augmentation:
    """One draw of an ``AugmentConfig``; ``sample_augmentation`` makes it."""

    shift_xy: tuple[float, float] = (0.0, 0.0)  # shares of the side
    scale: float = 1.0
    rotation_deg: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    warp: float = 0.0  # standard deviation, share of the side
    warp_key: tuple[int, int] = (0, 0)
    landmark_jitter: float = 0.0  # standard deviation, share of the side
    jitter_key: tuple[int, int] = (0, 0)
    choice_key: tuple[int, int] | None = None  # None: choices are spread evenly

    def matrix(self, width_px: int, height_px: int) -> np.ndarray:
        """The affine map [2, 3] float64 from old to new pixel coordinates, mirroring included."""
        centre = np.array([(width_px - 1) / 2, (height_px - 1) / 2])
        angle = math.radians(self.rotation_deg)
        cosine, sine = math.cos(angle) * self.scale, math.sin(angle) * self.scale
        linear = np.array([[cosine, -sine], [sine, cosine]])
        if self.flip:
            linear[:, 0] *= -1
        moved = centre + np.array(self.shift_xy) * (width_px, height_px)
        return np.concatenate([linear, (moved - linear @ centre)[:, None]], axis=1)

    def choose(self, total: int, count: int) -> np.ndarray:
        """Which ``count`` of ``total`` things an example is made of: [count] int64, all different.

        Drawn at random, or without a ``choice_key`` spread evenly over all in ascending order.
        """
        if self.choice_key is None:
            return ((np.arange(count) + 0.5) * total / count).astype(np.int64)
        return _generator(*self.choice_key).permutation(total)[:count]

    def apply_to_image(self, image: np.ndarray) -> np.ndarray:
        """Moves and recolours a picture [H, W, C] uint8; what comes in is mirrored from inside."""
        moved = self._warp(image, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)
        if self.brightness != 0 or self.contrast != 1:
            codes = np.arange(256, dtype=np.float64)
            table = (codes - 127.5) * self.contrast + 127.5 + self.brightness * 255
            moved = cv2.LUT(moved, np.clip(np.rint(table), 0, 255).astype(np.uint8))
        if self.saturation != 1:
            # Away from or towards each pixel's own grey.
            mixing = self.saturation * np.eye(3) + (1 - self.saturation) * np.array(_LUMA)
            moved = cv2.transform(moved, mixing)
        return moved

    def apply_to_labels(self, labels: np.ndarray, outside: int) -> np.ndarray:
        """Moves a map of label ids [H, W] uint8; what comes in from outside gets ``outside``.

        Ids that differ between the sides of a face are for the caller to swap after a flip, by
        its label schema.
        """
        return self._warp(labels, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, outside)

    def apply_to_landmarks(
        self, landmarks_xy_px: np.ndarray, width_px: int, height_px: int
    ) -> np.ndarray:
        """Moves and jitters 68 landmarks [68, 2] of a picture; returns float32.

        A flip also swaps the points of the two sides of the face.
        """
        landmarks = np.asarray(landmarks_xy_px, np.float32)
        if self.flip:
            landmarks = landmarks[FLIP_ORDER]  # the matrix mirrors the coordinates
        matrix = self.matrix(width_px, height_px)
        moved = landmarks @ matrix[:, :2].T + matrix[:, 2]
        if self.warp > 0:
            moved = _follow(self._field(width_px, height_px), moved)
        if self.landmark_jitter > 0:
            noise = _generator(*self.jitter_key).standard_normal(landmarks.shape)
            moved = moved + noise * self.landmark_jitter * width_px
        return moved.astype(np.float32)

    def _warp(self, image: np.ndarray, method: int, border: int, value: int = 0) -> np.ndarray:
        height, width = image.shape[:2]
        matrix = self.matrix(width, height)
        if not np.array_equal(matrix, np.eye(2, 3)):
            image = cv2.warpAffine(
                image, matrix, (width, height), flags=method, borderMode=border, borderValue=value
            )
        if self.warp > 0:
            field = self._field(width, height)
            columns, rows = np.meshgrid(
                np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
            )
            image = cv2.remap(
                image,
                columns - field[..., 0],
                rows - field[..., 1],
                method,
                borderMode=border,
                borderValue=value,
            )
        return image

    def _field(self, width_px: int, height_px: int) -> np.ndarray:
        """The warp's displacement of each pixel, [H, W, 2] float32; nothing moves at the border."""
        inner = _generator(*self.warp_key).standard_normal((_CONTROLS, _CONTROLS, 2))
        controls = np.pad(inner * self.warp * width_px, ((1, 1), (1, 1), (0, 0)))
        size = (width_px, height_px)
        return cv2.resize(controls.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)


def sample_augmentation(config: AugmentConfig, seed: int, number: int) -> Augmentation:
    """Draws the augmentation of one example, a pure function of its arguments.

    Args:
        config: How far examples are moved.
        seed: Seed of the run, in [0, 2**63).
        number: The example's number in the endless stream of training examples.
    """
    draw = _generator(seed, number)
    # All numbers are drawn whatever the config, so that switching one amount off leaves the
    # others as they were.
    keep, shift_x, shift_y, scale, rotation, flip, brightness, contrast = draw.random(8)
    # New amounts are drawn behind the older ones, which stay as they were.
    saturation, zoom, part_x, part_y = draw.random(4)
    choice_key = (seed ^ (1 << 61), number)
    if keep >= config.probability:
        return Augmentation(choice_key=choice_key)
    zoom = config.zoom**zoom
    # The enlarged picture reaches so far beyond the frame on each side.
    beyond = float(zoom - 1) / 2
    return Augmentation(
        shift_xy=(
            _spread(shift_x, config.shift) + _spread(part_x, beyond),
            _spread(shift_y, config.shift) + _spread(part_y, beyond),
        ),
        scale=(1 + _spread(scale, config.scale)) * float(zoom),
        rotation_deg=_spread(rotation, config.rotation_deg),
        flip=config.flip and bool(flip < 0.5),
        brightness=_spread(brightness, config.brightness),
        contrast=1 + _spread(contrast, config.contrast),
        saturation=1 + _spread(saturation, config.saturation),
        # Keys of their own: the stream of `draw` stays free for further amounts.
        warp=config.warp,
        warp_key=(seed ^ (1 << 62), number),
        landmark_jitter=config.landmark_jitter,
        jitter_key=(seed ^ (1 << 63), number),
        choice_key=choice_key,
    )


def move_pair(
    image: np.ndarray, landmarks_xy_px: np.ndarray, augmentation: Augmentation, size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Moves a picture [H, W, C] and its landmarks together, then brings both to ``size_px``.

    Returns:
        [size_px, size_px, C], and [68, 2] float32 in its pixels.
    """
    height, width = image.shape[:2]
    landmarks = augmentation.apply_to_landmarks(landmarks_xy_px, width, height)
    image = augmentation.apply_to_image(image)
    if (height, width) == (size_px, size_px):
        return image, landmarks
    landmarks = resize_landmarks(landmarks, (height, width), (size_px, size_px))
    return resize(image, size_px, size_px), landmarks


def _follow(field: np.ndarray, points_xy_px: np.ndarray) -> np.ndarray:
    """Where points go when a picture is warped by out(x) = in(x - field(x))."""
    # The new place q solves q = p + field(q); the field is gentle, so this settles.
    moved = points_xy_px
    for _ in range(8):
        at = moved.astype(np.float32)
        shift = cv2.remap(
            field, at[:, None, 0], at[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        moved = points_xy_px + shift.reshape(-1, 2)
    return moved


def _spread(uniform: float, amount: float) -> float:
    return float((2 * uniform - 1) * amount)


def _generator(seed: int, number: int) -> np.random.Generator:
    # A counter-based generator takes its whole state from the key: no warm-up, no hashing, and
    # neighbouring numbers give independent streams.
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
