"""Whom a network paints, where that is told by pictures: constants of a whole render."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facegan import config as config_lib
from facegan.bundle import Manifest
from facegan.errors import ConfigError
from facegan.face.align import CropConfig
from facegan.face.conditioning import Conditioner
from facegan.face.landmarks import DetectorConfig
from facegan.face.retarget import fit_geometry
from facegan.image import decode_picture, resize, to_float
from facegan.preparation.shots import Shots, read_shots
from facegan.render.engine import Methods
from facegan.render.opened import OpenedBundle
from facegan.render.style import STYLE, StyleChoice, find_styles, style_files
from facegan.render.workspace import identify_file

# Input of a bundle whose style is read from a picture.
STYLE_IMAGE = "style_image"
# Input of a bundle that paints the person of an embedding, and the method that makes one.
EMBEDDING, EMBED = "embedding", "embed"


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """Whom a network paints.

    Attributes:
        constants: Inputs that are the same in every frame, without the batch axis.
        geometry: Document of the person's face geometry; None takes the bundle's.
        fingerprints: Of the files that this follows from.
    """

    constants: Mapping[str, np.ndarray]
    geometry: dict[str, Any] | None = None
    fingerprints: tuple[str, ...] = ()


def read_person(
    bundle: OpenedBundle,
    conditioner: Conditioner,
    *,
    style_image: str | None,
    portraits: Sequence[str],
    style: StyleChoice | None = None,
    crop: CropConfig,
    detector: DetectorConfig,
) -> Person:
    """Reads the pictures that a render's settings name; see ``RenderConfig``.

    Raises:
        ConfigError: Pictures are named that this model has no use for, or are missing.
        DataError: A picture cannot be read or shows no face.
    """
    manifest = bundle.manifest
    names = {spec.name for spec in manifest.inputs}
    _require("style_image", style_image, STYLE_IMAGE in names, manifest, "a style from a picture")
    _require("portraits", portraits, EMBEDDING in names, manifest, "a person from portraits")
    _require(
        "style",
        style,
        STYLE in names,
        manifest,
        "the style of a domain (as tools/translate.py does)",
    )
    if style:
        found = find_styles(bundle.methods, [style], detector)
        return Person({STYLE: found[0]}, None, style_files([style]))
    if style_image:
        return _read_style(manifest, style_image)
    if portraits:
        shots = read_shots(portraits, manifest.image_size, crop=crop, detector=detector)
        prints = tuple(identify_file(path) for path in portraits)
        return embed_person(bundle.methods, conditioner, shots, prints)
    return Person({})


def embed_person(
    methods: Methods,
    conditioner: Conditioner,
    shots: Shots,
    fingerprints: tuple[str, ...] = (),
) -> Person:
    """The person of some pictures, by the bundle's own embedder.

    Args:
        methods: The bundle's.
        conditioner: Its conditioner, which draws landmarks.
        shots: The pictures, as large as the bundle's.
        fingerprints: Of their files.
    """
    drawings = np.stack([conditioner(xy)["condition"] for xy in shots.landmarks_xy_px])
    inputs = {"images": to_float(shots.images)[None], "conditions": to_float(drawings)[None]}
    embedding = methods.run(EMBED, inputs)[EMBEDDING][0]
    present = np.ones(len(shots), bool)
    geometry = fit_geometry(shots.landmarks_xy_px, present, methods.manifest.image_size)
    return Person({EMBEDDING: embedding}, config_lib.encode(geometry), fingerprints)


def _require(name: str, value: Any, wanted: bool, manifest: Manifest, what: str) -> None:
    if wanted and not value:
        raise ConfigError(f"The bundle of {manifest.model!r} takes {what}; name it with {name}.")
    if value and not wanted:
        raise ConfigError(
            f"{name} is for models that take {what}, which {manifest.model!r} does not; leave it "
            "out."
        )


def _read_style(manifest: Manifest, path: str) -> Person:
    try:
        picture = decode_picture(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}.") from error
    spec = next(spec for spec in manifest.inputs if spec.name == STYLE_IMAGE)
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    height, width = spec.shape[1:3]
    square = resize(picture[top : top + side, left : left + side], height or side, width or side)
    return Person({STYLE_IMAGE: square}, None, (identify_file(path),))
