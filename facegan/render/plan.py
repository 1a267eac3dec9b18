"""What each frame of a render shows: whose landmarks, where they lie, what to do without a face.

A plan is made between the two passes of a render, when the whole clip has been looked at, and
answers for one frame at a time in constant time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from facegan import config as config_lib
from facegan.bundle import Manifest
from facegan.errors import BundleError, ConfigError
from facegan.face import conditioning as conditioning_lib
from facegan.face.align import (
    CropConfig,
    CropPath,
    estimate_similarity,
    invert_matrix,
    plan_crops,
    transform_points,
)
from facegan.face.analysis import Track
from facegan.face.conditioning import (
    Conditioner,
    DomainConditioningConfig,
    LabelMapConditioningConfig,
    LoadEngine,
    MaskConditioningConfig,
    decode_conditioning,
)
from facegan.face.landmarks import SKULL_POINTS
from facegan.face.parsing import ParserConfig
from facegan.face.portrait import PortraitPath, plan_portraits
from facegan.face.retarget import FaceGeometry, RetargetConfig, Retargeter, fit_geometry
from facegan.render.person import EMBEDDING, STYLE_IMAGE
from facegan.render.style import STYLE, domain_conditioning

MissingFace = Literal["hold", "copy", "blank"]

# Inputs that are the same in every frame.
_CONSTANTS = (STYLE_IMAGE, EMBEDDING, STYLE)
# Frames that the geometry of the source is fitted to; more change nothing but cost memory.
_GEOMETRY_FRAMES = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class ShownFace:
    """The face that a frame shows.

    Attributes:
        landmarks_xy_px: [68, 2] float32 in pixels of the generated picture, retargeted.
        patch_to_frame: [2, 3] float64 from pixels of the generated picture to frame pixels.
    """

    landmarks_xy_px: np.ndarray
    patch_to_frame: np.ndarray


class FacePlan:
    """Answers what a frame shows.

    Args:
        track: The chosen face over the clip, smoothed.
        crop: The square of each frame.
        size_px: Height and width of the generated picture.
        missing_face: What a frame without a face shows: ``"hold"`` the nearest face before it (or
            the first of the clip), ``"copy"`` the source, ``"blank"`` black.
        retargeter: Brings crop landmarks into the geometry that the generator knows; None leaves
            them.
    """

    def __init__(
        self,
        track: Track,
        crop: CropPath | PortraitPath,
        size_px: int,
        missing_face: MissingFace,
        retargeter: Retargeter | None,
    ) -> None:
        self.crop, self.size_px, self.missing_face = crop, size_px, missing_face
        self._track, self._retargeter = track, retargeter
        self.num_frames = len(track.present)
        self.num_missing = int(self.num_frames - np.count_nonzero(track.present))
        self._source = _sources(np.asarray(track.present), missing_face)

    def pts(self, index: int) -> int:
        """Time stamp of a frame."""
        return int(self._track.pts[index])

    def source(self, index: int) -> int:
        """The frame whose face frame ``index`` shows; -1 where it is copied or blank."""
        return int(self._source[index])

    def crop_landmarks(self, index: int, size_px: int) -> np.ndarray:
        """Landmarks [68, 2] float32 of frame ``index``, which has a face, in pixels of its crop."""
        matrix = self.crop.crop_matrix(index, size_px)
        in_frame = np.asarray(self._track.landmarks_xy_px[index], np.float64)
        return transform_points(matrix, in_frame).astype(np.float32)

    @property
    def retargets(self) -> bool:
        """Whether shown landmarks differ from those of the crop."""
        return self._retargeter is not None

    def spread_faces(self, count: int) -> np.ndarray:
        """At most ``count`` frames with a face, ascending and spread over the clip."""
        present = np.flatnonzero(self._track.present)
        if len(present) <= count:
            return present
        # The middles of `count` equal stretches.
        return present[((np.arange(count) + 0.5) * len(present) / count).astype(int)]

    def face(self, index: int) -> ShownFace | None:
        """The face that frame ``index`` shows; None where it is copied or blank."""
        source = self.source(index)
        if source < 0:
            return None
        in_frame = np.asarray(self._track.landmarks_xy_px[source], np.float64)
        matrix = self.crop.crop_matrix(source, self.size_px)
        in_crop = transform_points(matrix, in_frame).astype(np.float32)
        if self._retargeter is None:
            return ShownFace(in_crop, invert_matrix(matrix))
        shown = self._retargeter(in_crop)
        # The retargeted head stands where the target's head stood, so the way back to the frame
        # follows from the two heads and not from the crop.
        return ShownFace(shown, estimate_similarity(shown[SKULL_POINTS], in_frame[SKULL_POINTS]))


def _sources(present: np.ndarray, missing_face: MissingFace) -> np.ndarray:
    """[N] int64: the frame whose face is shown, -1 for none."""
    index = np.arange(len(present))
    if missing_face != "hold":
        return np.where(present, index, -1)
    last = np.maximum.accumulate(np.where(present, index, -1))
    return np.where(last < 0, int(np.argmax(present)), last)


def make_plan(
    track: Track,
    frame_hw: tuple[int, int],
    manifest: Manifest,
    *,
    crop: CropConfig,
    retarget: RetargetConfig,
    missing_face: MissingFace,
    geometry: Mapping[str, Any] | None = None,
) -> FacePlan:
    """Plans a render of one clip with one bundle.

    Args:
        track: The chosen face over the clip, smoothed.
        frame_hw: Height and width of the clip's frames.
        manifest: The bundle's.
        crop: Which square of the frame the generator's picture stands for.
        retarget: Whether and how the landmarks are brought into the generator's geometry.
        missing_face: What a frame without a face shows.
        geometry: Document of the geometry that landmarks are brought into; None takes the bundle's.

    Raises:
        DataError: No frame has a face.
        BundleError: The manifest's geometry is broken.
    """
    path: CropPath | PortraitPath
    if is_aligned(manifest):
        path = plan_portraits(track.landmarks_xy_px, track.present)
    else:
        path = plan_crops(track.landmarks_xy_px, track.present, frame_hw, crop)
    size = manifest.image_size
    retargeter = None
    geometry = geometry or manifest.geometry
    if retarget.enabled and geometry is not None:
        target = _read_geometry(geometry, size)
        source = _source_geometry(track, path, size)
        retargeter = Retargeter(source, target, retarget)
    return FacePlan(track, path, size, missing_face, retargeter)


def is_aligned(manifest: Manifest) -> bool:
    """Whether a bundle wants to see faces as FFHQ and CelebA-HQ have them."""
    document = manifest.conditioning or {}
    kinds = DomainConditioningConfig.KIND, MaskConditioningConfig.KIND
    return document.get("kind") in kinds and document["align"] == "ffhq"


def _read_geometry(document: Mapping[str, Any], size_px: int) -> FaceGeometry:
    try:
        geometry = config_lib.decode(FaceGeometry, document)
    except ConfigError as error:
        raise BundleError(f"The face geometry in the bundle is broken: {error}") from error
    # Everything else in it is relative to the side of the crop.
    return dataclasses.replace(geometry, size_px=size_px)


def _source_geometry(track: Track, crop: CropPath | PortraitPath, size_px: int) -> FaceGeometry:
    chosen = np.flatnonzero(np.asarray(track.present))
    if len(chosen) > _GEOMETRY_FRAMES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _GEOMETRY_FRAMES).astype(int)]
    landmarks = np.stack(
        [
            transform_points(
                crop.crop_matrix(int(i), size_px),
                np.asarray(track.landmarks_xy_px[i], np.float32),
            )
            for i in chosen
        ]
    )
    return fit_geometry(landmarks, np.ones(len(chosen), bool), size_px)


def make_conditioner(
    manifest: Manifest,
    parser: ParserConfig | None = None,
    load_engine: LoadEngine | None = None,
) -> Conditioner:
    """The conditioner that a bundle asks for.

    Args:
        manifest: The bundle's.
        parser: A face parser to take instead of the one that the bundle names.
        load_engine: Loads the bundle of a face parser, where one is named.

    Raises:
        ConfigError: This version does not know the conditioning.
        BundleError: The bundle has none, or wants other inputs than the conditioning makes.
    """
    if manifest.conditioning is None:
        raise BundleError(
            f"The bundle of {manifest.model!r} does not say how its inputs are made from a face, "
            "so it cannot render a video. Export a model that was trained on face drawings."
        )
    config = decode_conditioning(manifest.conditioning)
    if parser is not None:
        if not isinstance(config, LabelMapConditioningConfig | MaskConditioningConfig):
            raise ConfigError(
                f"The bundle of {manifest.model!r} takes {config.KIND!r} and needs no face parser; "
                "leave the parser out."
            )
        config = dataclasses.replace(config, parser=parser)
    wanted = tuple(spec.name for spec in manifest.inputs)
    if isinstance(config, DomainConditioningConfig):
        config = domain_conditioning(manifest)
    conditioner = conditioning_lib.make_conditioner(config, load_engine)
    if not set(conditioner.inputs) <= set(wanted) <= {*conditioner.inputs, *_CONSTANTS}:
        raise BundleError(
            f"The bundle of {manifest.model!r} takes the inputs {', '.join(wanted)}, but its "
            f"conditioning makes {', '.join(conditioner.inputs)}. Export the model again."
        )
    if conditioner.config.size != manifest.image_size:
        raise BundleError(
            f"The bundle of {manifest.model!r} draws conditions of {conditioner.config.size} px "
            f"for pictures of {manifest.image_size} px. Export the model again."
        )
    return conditioner
