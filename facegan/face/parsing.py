"""Face parsing: which region each pixel of a face crop belongs to.

``LandmarkParser`` needs no trained weights: what lies within the face follows from the landmarks,
and hair, neck, clothes and background from their colours, which it learns from the clip itself.
``NetworkParser`` runs an exported face parser.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np

from facegan.config import require_power_of_two
from facegan.errors import BundleError, ConfigError, DataError
from facegan.face.label_maps import colour_labels
from facegan.face.labels import CELEBAMASK19, LabelSchema, Palette, decode_schema
from facegan.face.landmarks import NUM_LANDMARKS
from facegan.face.region_colours import (
    LEAST_PIXELS,
    MOST,
    learn_colours,
    look_up,
    sort_out,
    to_lab,
    unlike,
)
from facegan.face.region_shapes import FaceFrame, fill, frame_face, part_polygons
from facegan.image import resize

# Colours are compared at this part of the picture's size; borders are then drawn at full size.
_REDUCE = 2
# Regions that are found by colour and place.
_REGIONS = ("background", "skin", "hair", "neck", "cloth", "ear")
# A colour that costs less than this for a region may be that region's.
_ALIKE = 5.0
# Hair may be as brown as skin in the shade, so less sets it apart.
_HAIRLESS = 3.0
# How many times likelier a colour over the face must be as hair than as background.
_LIKELIER = 1.3
# Share of the pixels, where a region should be, that must look like nothing else.
_LEAST_SHARE = 0.15
# Variance of codes at which the guided filter takes a change of the picture for an edge.
_EDGE = 60.0
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

    Skin, nose, eyes, brows, lips and the inside of the mouth are drawn from the landmarks; hair,
    neck, cloth, ears and background are told apart by colour and place. It has no glasses, hats or
    jewellery: they become what is behind or around them. Without ``fit`` each picture teaches its
    own colours.

    Args:
        config: Its size.
    """

    schema = CELEBAMASK19

    def __init__(self, config: ParserConfig | None = None) -> None:
        self.size = (config or ParserConfig()).size
        self._tables: dict[str, np.ndarray] | None = None

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Learns the colours of a clip from some of its faces."""
        faces = [
            self._reduce(*self._check(image, landmarks))
            for image, landmarks in zip(images, landmarks_xy_px, strict=True)
        ]
        self._tables = _learn(faces) if faces else None

    def __call__(self, image: np.ndarray, landmarks_xy_px: np.ndarray) -> np.ndarray:
        """The regions of one crop."""
        image, landmarks = self._check(image, landmarks_xy_px)
        lab, frame = self._reduce(image, landmarks)
        tables = self._tables or _learn([(lab, frame)])
        costs = _place(frame, _smooth(look_up(lab, tables), lab, frame))
        label_map = _decide(costs, frame, self.size)
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
        size = self.size // _REDUCE
        small = resize(image, size, size)
        # The centre of the first pixel is at 0 in both.
        frame = frame_face((landmarks + 0.5) / _REDUCE - 0.5, size)
        return cv2.medianBlur(to_lab(small), 3), frame


def _learn(faces: Sequence[tuple[np.ndarray, FaceFrame]]) -> dict[str, np.ndarray]:
    """Tables of colour costs by region, from crops in CIELAB with their frames."""

    def pixels(where: Callable[[FaceFrame], np.ndarray]) -> np.ndarray:
        return np.concatenate([lab[where(frame)] for lab, frame in faces])

    tables: dict[str, np.ndarray] = {}
    skin = pixels(_is_surely_skin)
    if len(skin) >= LEAST_PIXELS:  # else the face lies outside the picture
        tables["skin"] = learn_colours(skin)
    edge, above = pixels(_is_surely_background), pixels(_may_be_hair)
    # Hair may reach the edge of the picture, and what is behind may show over the hair. Over a
    # bald head there is nothing else than at the edge, and so no hair.
    hair = unlike(above, tables, _HAIRLESS)
    hair, edge = sort_out(hair, edge, _LIKELIER)
    if len(edge) >= LEAST_PIXELS:
        tables["background"] = learn_colours(edge)
    if len(hair) >= max(LEAST_PIXELS, _LEAST_SHARE * len(above)):
        tables["hair"] = learn_colours(hair)
    low = pixels(_may_be_cloth)
    cloth = unlike(low, tables, _ALIKE)
    if len(cloth) >= max(LEAST_PIXELS, _LEAST_SHARE * len(low)):
        tables["cloth"] = learn_colours(cloth)
    return tables


def _is_surely_skin(frame: FaceFrame) -> np.ndarray:
    middle = (np.abs(frame.across) < 0.75) & (frame.up < -0.3) & (frame.up > -1.0)
    mouth = (np.abs(frame.across) < 0.45) & (frame.up < -0.8)
    return frame.inside & middle & ~mouth


def _is_surely_background(frame: FaceFrame) -> np.ndarray:
    height, width = frame.up.shape
    edge = np.zeros((height, width), bool)
    band = max(2, width // 16)
    edge[:band] = edge[:, :band] = edge[:, -band:] = True
    return edge & (frame.up > -0.8) & (frame.outside > 0.7)


def _may_be_hair(frame: FaceFrame) -> np.ndarray:
    above = (frame.up > 0.9) & (np.abs(frame.across) < 0.9)
    return above & (frame.outside > 0.02) & (frame.outside < 0.4)


def _may_be_cloth(frame: FaceFrame) -> np.ndarray:
    height = len(frame.up)
    low = np.zeros(frame.up.shape, bool)
    low[-max(2, height // 10) :] = True
    return (frame.up < -2.2) & (low | (frame.up < -2.8)) & (np.abs(frame.across) < 2.4)


def _smooth(
    colours: Mapping[str, np.ndarray], lab: np.ndarray, frame: FaceFrame
) -> dict[str, np.ndarray]:
    """Colour costs that agree within an area and change where the picture does."""
    radius = max(2, round(0.07 * frame.unit_px))
    return {
        name: cv2.ximgproc.guidedFilter(lab, cost, radius, _EDGE) for name, cost in colours.items()
    }


def _place(frame: FaceFrame, colours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Costs by region [H, W] float32 from colour and place, in nats."""
    never = np.full(frame.up.shape, 2 * MOST, np.float32)
    up, across, outside = frame.up, np.abs(frame.across), frame.outside
    face = frame.inside & (up < 0.35)
    skin_colour = colours.get("skin", np.zeros_like(never))
    costs: dict[str, np.ndarray] = dict.fromkeys(_REGIONS, never)
    # The lower face is skin whatever the light does to it; over the brows colour decides.
    costs["skin"] = np.where(
        frame.inside, np.where(face, -6.0, 0.0) + np.minimum(skin_colour, 12.0), never
    )
    if "hair" in colours:
        far = 6.0 * np.maximum(outside - 0.65, 0) + 1.0 * np.maximum(-1.2 - up, 0)
        costs["hair"] = colours["hair"] + far + np.where(face, 6.0, 0.0) + 1.0
    costs["background"] = colours.get("background", np.full_like(never, 8.0)) + np.where(
        frame.inside, 2 * MOST, 3.0 * np.maximum(0.3 - outside, 0) + np.where(frame.below, 3.0, 0.0)
    )
    # Right under the chin there is neck, dark as its shadow may be. Farther down it widens into
    # shoulders, as far as skin goes.
    width = 0.8 + 0.7 * np.maximum(-1.9 - up, 0)
    shaded = (across < 0.65) & (up > -2.3)
    costs["neck"] = np.where(
        frame.below | (~frame.inside & (up < -1.9)),
        np.where(shaded, np.minimum(skin_colour, 6.0) - 4.0, skin_colour)
        + 8.0 * np.maximum(across - width, 0)
        - 2.0,
        never,
    )
    if "cloth" in colours:
        costs["cloth"] = np.where(
            up < -1.5, colours["cloth"] + 5.0 * np.maximum(up + 2.6, 0), never
        )
    beside = (outside < 0.32) & (across > 0.7) & (up < 0.3) & (up > -0.85)
    costs["ear"] = np.where(beside & ~frame.inside, skin_colour - 1.0, never)
    return {name: cost.astype(np.float32) for name, cost in costs.items()}


def _decide(costs: Mapping[str, np.ndarray], frame: FaceFrame, size: int) -> np.ndarray:
    """The cheapest region of each pixel at full size."""
    # Bounded, or a third region would win between two of which each is out of place in the other.
    large = [
        cv2.resize(np.minimum(costs[name], MOST), (size, size), interpolation=cv2.INTER_LINEAR)
        for name in _REGIONS
    ]
    which = np.argmin(np.stack(large), axis=0).astype(np.uint8)
    which = _drop_islands(cv2.medianBlur(which, 5))
    # The picture's left is the person's right.
    names = [*_REGIONS[:-1], "r_ear"]
    label_map = np.array([CELEBAMASK19.index(name) for name in names], np.uint8)[which]
    right_half = cv2.resize((frame.across > 0).view(np.uint8), (size, size)) > 0
    is_ear = which == _REGIONS.index("ear")
    label_map[is_ear & right_half] = CELEBAMASK19.index("l_ear")
    return label_map


def _drop_islands(which: np.ndarray) -> np.ndarray:
    """Gives small islands of a region to what lies around them."""
    least = _LEAST_ISLAND * which.size
    for region in range(len(_REGIONS)):
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
    return which


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
