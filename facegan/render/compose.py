"""One frame of a render, from what was generated to what is encoded."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from facegan.face.align import face_mask, paste_back, square_mask
from facegan.face.label_maps import paint_background
from facegan.render.plan import FacePlan, ShownFace
from facegan.video.deflicker import DeflickerConfig, FrameDeflicker


@dataclasses.dataclass(slots=True)
class Job:
    """A frame on its way through the stages.

    Attributes:
        index: Number of the frame.
        pts: Its time stamp.
        image: [H, W, 3] uint8, the source frame, where it is needed.
        face: The face to show, None for a frame that is copied or blank.
        inputs: What the generator is given, by name.
        generated: [S, S, 3] uint8, what it made of that; a fourth channel says how much of each
            pixel goes into a full frame.
        picture: What is encoded, uint8.
        guide: [S, S, 3] uint8, the source's face as large as the generated picture, where the
            generator looks at it; movement is read from it.
        label_map: [S, S] uint8, the regions of the face that are generated, likewise.
    """

    index: int
    pts: int
    image: np.ndarray | None = None
    face: ShownFace | None = None
    inputs: dict[str, np.ndarray] | None = None
    generated: np.ndarray | None = None
    picture: np.ndarray | None = None
    guide: np.ndarray | None = None
    label_map: np.ndarray | None = None


class Composer:
    """Steadies generated pictures and puts them where they belong, frame after frame.

    Args:
        plan: What each frame shows.
        full_frame: Whether the face is pasted into the source frame.
        deflicker: Of the generated pictures.
        feather: Width of the pasted face's soft edge as a share of the square.
        colour_match: Whether a pasted face takes the colours around it.
        paste: What of the generated picture is pasted: the face alone, or all of it.
        background: (r, g, b) of the background of generated pictures; None leaves it.
    """

    def __init__(
        self,
        plan: FacePlan,
        *,
        full_frame: bool,
        deflicker: DeflickerConfig,
        feather: float,
        colour_match: bool,
        paste: Literal["face", "square"] = "face",
        background: tuple[int, int, int] | None = None,
    ) -> None:
        self._plan, self._full_frame = plan, full_frame
        self._feather, self._colour_match = feather, colour_match
        self._paste, self._background = paste, background
        self._deflicker = None if deflicker.method == "off" else FrameDeflicker(deflicker)

    def __call__(self, job: Job) -> np.ndarray:
        """The picture of a frame: [S, S, 3] uint8, or [H, W, 3] for a full frame."""
        if job.generated is None or job.face is None:
            if self._deflicker is not None:
                self._deflicker.reset()
            return self._without_face(job)
        patch, shown = job.generated, None
        if patch.shape[-1] == 4:
            patch, shown = np.ascontiguousarray(patch[..., :3]), patch[..., 3]
        if self._deflicker is not None:
            patch = self._deflicker(patch, job.guide)
        if self._background is not None and job.label_map is not None:
            patch = paint_background(patch, job.label_map, self._background)
        if not self._full_frame or job.image is None:
            return patch
        if self._paste == "face":
            mask = face_mask(job.face.landmarks_xy_px, self._plan.size_px, self._feather)
        else:
            mask = square_mask(self._plan.size_px, self._feather)
        if shown is not None:
            mask = mask * (shown.astype(np.float32) / np.float32(255.0))
        return paste_back(
            job.image, patch, job.face.patch_to_frame, mask, colour_match=self._colour_match
        )

    def _without_face(self, job: Job) -> np.ndarray:
        size = self._plan.size_px
        shape = job.image.shape if self._full_frame and job.image is not None else (size, size, 3)
        if self._plan.missing_face == "blank" or job.image is None:
            return np.zeros(shape, np.uint8)
        if self._full_frame:
            return job.image
        return self._plan.crop.extract(job.image, job.index, size)
