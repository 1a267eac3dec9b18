"""Face parsing: which region each pixel of a face crop belongs to.

``LandmarkParser`` needs no trained weights: what lies within the face follows from the landmarks,
and hair, neck, clothes and background from place and colour, which it learns from the clip itself.
``NetworkParser`` runs an exported face parser.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np

from facegan.config import require_power_of_two
from facegan.errors import BundleError, ConfigError, DataError
from facegan.face.label_maps import colour_labels
from facegan.face.labels import CELEBAMASK19, LabelSchema, Palette, decode_schema
from facegan.face.landmarks import NUM_LANDMARKS, resize_landmarks
from facegan.face.region_colours import look_at
from facegan.face.region_models import (
    BACKGROUND,
    EAR,
    HAIR,
    RegionModels,
    learn_regions,
    loose_hair,
    region_odds,
)
from facegan.face.region_places import REGIONS
from facegan.face.region_shapes import FaceFrame, fill, frame_face, part_polygons
from facegan.image import resize

# Regions are found at half the picture's size, but with so many pixels at least and at most;
# borders are then drawn at full size.
_LEAST_WORK, _MOST_WORK = 128, 256
# Variance of codes at which the guided filter takes a change of the picture for an edge.
_EDGE = 40.0
# Islands smaller than this share of the picture are given to what is around them.
_LEAST_ISLAND = 0.004


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParserConfig:
    """What finds the regions of a face.

    Attributes:
        bundle: Folder of an exported face parser; None finds them by landmarks and colours alone.
        size: Height and width at which the latter looks at a crop, a power of two. A face parser
            has a size of its own.
    """

    KIND: ClassVar[str] = "parser"

    bundle: str | None = None
    size: int = 256

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 64, 1024)


class FaceParser(Protocol):
    """Finds the regions of faces.

    Attributes:
        schema: Whose ids it gives.
        size: Height and width of the crops it takes.
    """

    schema: LabelSchema
    size: int

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Takes a look at a few faces of a clip, so that the same colours mean the same later.

        Args:
            images: Crops [size, size, 3] uint8 RGB.
            landmarks_xy_px: [68, 2] of each, crop pixels.
        """

    def __call__(self, image: np.ndarray, landmarks_xy_px: np.ndarray) -> np.ndarray:
        """The regions of a crop [size, size, 3] uint8 RGB: [size, size] uint8 ids."""


class LandmarkParser:
    """Parses by landmarks and colours, in CelebAMask-HQ's labels.

    Nose, eyes, brows, lips and the inside of the mouth are drawn from the landmarks; skin, hair,
    neck, cloth, ears and background are told apart by colour and place. It has no glasses, hats or
    jewellery: they become what is behind or around them. Without ``fit`` each picture teaches its
    own colours.

    Args:
        config: Its size.
    """

    schema = CELEBAMASK19

    def __init__(self, config: ParserConfig | None = None) -> None:
        self.size = (config or ParserConfig()).size
        self._work = min(self.size, max(_LEAST_WORK, min(self.size // 2, _MOST_WORK)))
        self._models: RegionModels | None = None

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Learns the colours of a clip from some of its faces."""
        faces = [
            self._reduce(*self._check(image, landmarks))
            for image, landmarks in zip(images, landmarks_xy_px, strict=True)
        ]
        self._models = learn_regions(faces) if faces else None

    def __call__(self, image: np.ndarray, landmarks_xy_px: np.ndarray) -> np.ndarray:
        """The regions of one crop."""
        image, landmarks = self._check(image, landmarks_xy_px)
        looks, frame = self._reduce(image, landmarks)
        models = self._models or learn_regions([(looks, frame)])
        label_map = _decide(region_odds(looks, frame, models), image, frame, self.size)
        for name, polygon in part_polygons(landmarks).items():
            label_map[fill([polygon], self.size) > 0] = CELEBAMASK19.index(name)
        return label_map

    def _check(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if image.shape != (self.size, self.size, 3) or image.dtype != np.uint8:
            raise DataError(
                f"LandmarkParser takes crops [{self.size}, {self.size}, 3] uint8, got "
                f"{list(image.shape)} {image.dtype}."
            )
        landmarks = np.asarray(landmarks, np.float64)
        if landmarks.shape != (NUM_LANDMARKS, 2) or not np.isfinite(landmarks).all():
            raise DataError(
                f"LandmarkParser takes finite landmarks [{NUM_LANDMARKS}, 2], got "
                f"{list(landmarks.shape)}."
            )
        return image, landmarks

    def _reduce(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, FaceFrame]:
        small = resize_landmarks(landmarks, (self.size, self.size), (self._work, self._work))
        return look_at(image, self._work), frame_face(small, self._work)


def _decide(odds: np.ndarray, image: np.ndarray, frame: FaceFrame, size: int) -> np.ndarray:
    """The likeliest region of each pixel at full size, as ids."""
    guide = resize(image, *frame.up.shape)
    radius = max(2, round(0.05 * frame.unit_px))
    # Odds that agree within an area and change where the picture does.
    smooth = [
        cv2.ximgproc.guidedFilter(guide, cv2.merge(list(half)), radius, _EDGE)
        for half in (odds[:3], odds[3:])
    ]
    planes = np.stack([plane for half in smooth for plane in cv2.split(half)])
    which = planes.argmax(axis=0).astype(np.uint8)
    cleaned = which.copy()
    cleaned[loose_hair(which == HAIR, frame)] = BACKGROUND
    _drop_islands(cleaned)
    rows, columns = np.nonzero(cleaned != which)
    planes[cleaned[rows, columns], rows, columns] = planes[:, rows, columns].max(axis=0) + 2.0
    which = _largest([cv2.resize(plane, (size, size)) for plane in planes])
    which = cv2.medianBlur(which, 5)
    # The picture's left is the person's right.
    names = [*REGIONS[:-1], "r_ear"]
    label_map = np.array([CELEBAMASK19.index(name) for name in names], np.uint8)[which]
    right_half = cv2.resize((frame.across > 0).view(np.uint8), (size, size)) > 0
    label_map[(which == EAR) & right_half] = CELEBAMASK19.index("l_ear")
    return label_map


def _largest(planes: Sequence[np.ndarray]) -> np.ndarray:
    """The number [H, W] uint8 of the largest of some planes; numpy's argmax takes far longer."""
    which = np.zeros(planes[0].shape, np.uint8)
    most = planes[0]
    for number, plane in enumerate(planes[1:], 1):
        which[plane > most] = number
        most = np.maximum(most, plane)
    return which


def _drop_islands(which: np.ndarray) -> None:
    """Gives small islands of a region to what lies around them, in place."""
    least = _LEAST_ISLAND * which.size
    for region in np.flatnonzero(np.bincount(which.ravel())):
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(
            (which == region).view(np.uint8), connectivity=4
        )
        for number in range(1, count):
            if stats[number, cv2.CC_STAT_AREA] >= least:
                continue
            left, top, width, height = stats[number, :4]
            rows = slice(max(0, top - 2), top + height + 2)
            columns = slice(max(0, left - 2), left + width + 2)
            island = numbers[rows, columns] == number
            around = cv2.dilate(island.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
            neighbours = which[rows, columns][around & ~island]
            if len(neighbours):
                which[rows, columns][island] = np.bincount(neighbours).argmax()


class NetworkParser:
    """Parses by an exported face parser.

    Args:
        engine: Runs the parser's bundle (``facegan.render.engine``).

    Raises:
        BundleError: The bundle is no face parser.
    """

    def __init__(self, engine: Any) -> None:
        manifest = engine.manifest
        if manifest.labels is None or manifest.outputs[0].dtype == "float32":
            raise BundleError(
                f"The bundle of {manifest.model!r} is no face parser: it gives no label maps. "
                "Export a run of a parser preset."
            )
        self._engine = engine
        self._input = manifest.inputs[0].name
        self.schema = decode_schema(manifest.labels)
        self.size = manifest.image_size

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Nothing to learn: the network has seen its faces."""

    def __call__(self, image: np.ndarray, landmarks_xy_px: np.ndarray) -> np.ndarray:
        """The regions of one crop; the landmarks are not looked at."""
        return self._engine.generate({self._input: np.ascontiguousarray(image)[None]})[0]


def make_parser(
    config: ParserConfig, load_engine: Callable[[str], Any] | None = None
) -> FaceParser:
    """Makes the parser that a config names.

    Args:
        config: Which.
        load_engine: Loads a bundle by its folder and gives an engine that runs it.

    Raises:
        ConfigError: A bundle is named and nothing is there to load it.
        BundleError: The bundle cannot be loaded, or is no face parser.
    """
    if config.bundle is None:
        return LandmarkParser(config)
    if load_engine is None:
        raise ConfigError(f"Nothing is given that loads the face parser {config.bundle}.")
    return NetworkParser(load_engine(config.bundle))


def overlay_labels(
    image: np.ndarray, label_map: np.ndarray, palette: Palette, opacity: float = 0.5
) -> np.ndarray:
    """A picture with its regions in colour over it, their borders in full colour.

    Args:
        image: [H, W, 3] uint8.
        label_map: [H, W] uint8 ids of the palette's schema; background stays as it is.
        palette: The colours.
        opacity: Of the colours, 0 to 1.
    """
    colours = colour_labels(label_map, palette)
    share = np.where(label_map > 0, opacity, 0.0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    border = cv2.dilate(label_map, kernel) != cv2.erode(label_map, kernel)
    share[border & (label_map > 0)] = min(1.0, 1.6 * opacity)
    return cv2.blendLinear(image, colours, 1.0 - share, share)
