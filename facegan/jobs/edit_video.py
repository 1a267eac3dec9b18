"""Gives the face of a video parts of another: each frame is projected, edited and painted again.

The search for a frame begins at the style of the frame before, and the noise is always the same, so
that what is painted follows the face and does not flicker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from facegan.bundle import Manifest, TensorSpec
from facegan.errors import DataError
from facegan.face.align import change_mask
from facegan.face.conditioning import SOURCE, DomainConditioningConfig, encode_conditioning
from facegan.face.landmarks import DetectorConfig
from facegan.image import to_float
from facegan.jobs.face_styles import StyleFinder
from facegan.models.local_editing import Catalogue, EditConfig
from facegan.preparation.faces import find_faces
from facegan.progress import ProgressCallback, ProgressFactory
from facegan.render.engine import Arrays
from facegan.render.pipeline import RenderConfig, render_video
from facegan.video.reader import VideoReader

# Frames that are projected together, and their pixels, at most.
_MOST_FRAMES, _MOST_PIXELS = 8, 1 << 20
# From a frame's style the next one's is near: the search there takes smaller steps.
_FOLLOWING_RATE = 0.2
# What is left in a frame of the frames before it, of where an edit changes the square.
_MASK_MEMORY = 0.8
# Parts that lie within the outline of a face.
_WITHIN_FACE = frozenset(("skin", "eyes", "brows", "nose", "mouth"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoEdit:
    """What becomes of the faces of a video.

    Attributes:
        catalogue: Of the bundle.
        reference_w: [num_styles, style_size] float32, of the face whose parts are taken.
        parts: Which.
        edit: Which channels are changed, and how far.
        frame_steps: Steps of the search for a frame, from the style of the one before.
        paste: What goes back: what the edit changes, or all that is painted of the face, or of the
            square.
    """

    catalogue: Catalogue
    reference_w: np.ndarray
    parts: tuple[str, ...]
    edit: EditConfig
    frame_steps: int
    paste: Literal["change", "face", "square"]

    @property
    def pasted(self) -> Literal["face", "square"]:
        """What of the square goes into the frame."""
        if self.paste != "change":
            return self.paste
        return "face" if _WITHIN_FACE.issuperset(self.parts) else "square"

    def describe(self) -> dict[str, Any]:
        """JSON values that the edited pictures follow from."""
        taken = hashlib.sha256(self.reference_w.tobytes())
        for part in self.parts:
            for chosen in self.catalogue.choose(part, self.edit).values():
                taken.update(chosen.tobytes())
        return {
            "taken": taken.hexdigest(),
            "strength": self.edit.strength,
            "frame_steps": self.frame_steps,
            "paste": self.paste,
        }


class _RenderEnded(Exception):
    """A search goes on for a render that has ended."""


class VideoEditor:
    """An engine that projects the faces of a video's frames, edits them and paints them.

    The first frame is searched for like a photograph. Each batch begins at the style of the frame
    before it.

    Args:
        finder: Finds styles.
        edit: What becomes of the faces.
        progress: Shows the first search.
    """

    name, precision = "projection", "float32"

    def __init__(self, finder: StyleFinder, edit: VideoEdit, progress: ProgressFactory):
        self._finder, self._edit, self._progress = finder, edit, progress
        following = dataclasses.replace(
            finder.projection,
            steps=edit.frame_steps,
            noise=0.0,
            learning_rate=finder.projection.learning_rate * _FOLLOWING_RATE,
        )
        self._following = finder.make_projector(following)
        self._last: np.ndarray | None = None
        self._mask: np.ndarray | None = None
        self._ended = False
        size = finder.conditioning.size
        self.batch_size = max(1, min(_MOST_FRAMES, _MOST_PIXELS // size**2))
        self.pasted = edit.pasted
        self.manifest = Manifest(
            model=finder.manifest.model,
            facegan_version=finder.manifest.facegan_version,
            inputs=(TensorSpec(name=SOURCE, shape=(None, size, size, 3)),),
            outputs=(TensorSpec(name="image", shape=(None, size, size, 3)),),
            image_size=size,
            # What a render looks at: pictures of faces, cut as the model has them.
            conditioning=encode_conditioning(DomainConditioningConfig(size=size, align="ffhq")),
            # A render that was killed goes on only with pictures that follow from the same.
            training={**finder.describe(), **edit.describe()},
        )

    def end(self) -> None:
        """Ends a search that runs: a render that ends waits for its stages."""
        self._ended = True

    def generate(self, inputs: Arrays) -> np.ndarray:
        """Edits frames {"source": [B, S, S, 3] uint8}: [B, S, S, 3] uint8, as they are painted.

        Where only what the edit changes goes back, a fourth channel says where that is.
        """
        images, edit = inputs[SOURCE], self._edit
        if self._last is None:
            self._last = self._finder.find_w(images[0], "the first face", self._watched)
        start = np.repeat(self._last[None], len(images), axis=0)
        w = self._following.project(to_float(images), start, progress=self._go_on)
        self._last = w[-1]
        edited = self._finder.paint_edited(
            w, edit.reference_w[None], edit.catalogue, edit.parts, edit.edit
        )
        if edit.paste != "change":
            return edited
        frames = zip(self._finder.paint(w), edited, strict=True)
        masks = np.stack([self._find_change(*frame) for frame in frames])
        shown = np.rint(masks * 255.0).astype(np.uint8)
        return np.concatenate([edited, shown[..., None]], axis=-1)

    def _find_change(self, painted: np.ndarray, edited: np.ndarray) -> np.ndarray:
        """Where an edit changes a frame's square, steadied: [S, S] float32."""
        mask = change_mask(painted, edited)
        if self._mask is not None:
            # The squares follow the face, so places in them are places in the face.
            mask = _MASK_MEMORY * self._mask + (1.0 - _MASK_MEMORY) * mask
        self._mask = mask.astype(np.float32)
        return self._mask

    def _go_on(self, done: int, total: int | None, unit: str) -> None:
        if self._ended:
            raise _RenderEnded

    @contextlib.contextmanager
    def _watched(self, label: str) -> Iterator[ProgressCallback]:
        with self._progress(label) as report:

            def tell(done: int, total: int | None, unit: str) -> None:
                self._go_on(done, total, unit)
                report(done, total, unit)

            yield tell


def require_face(video: str | os.PathLike[str], detector: DetectorConfig) -> None:
    """Raises DataError if a video shows nobody; most show somebody in the first frame."""
    with VideoReader(video) as reader:
        if not any(find_faces(frame.image, detector) for frame in reader):
            raise DataError(f"No face is found in any frame of {video}.")


def edit_video(
    bundle: str | os.PathLike[str],
    video: str | os.PathLike[str],
    output: pathlib.Path,
    editor: VideoEditor,
    config: RenderConfig,
    *,
    overwrite: bool,
    progress: ProgressFactory,
) -> dict[str, Any]:
    """Renders a video with an editor, which an interruption ends, too.

    Arguments, result and errors are those of ``render_video``; the batch size and what is pasted
    are the editor's.
    """

    @contextlib.contextmanager
    def ending(label: str) -> Iterator[ProgressCallback]:
        # The progress of a stage ends before the render waits for its threads.
        with progress(label) as report:
            try:
                yield report
            except BaseException:
                editor.end()
                raise

    return render_video(
        bundle,
        video,
        output,
        dataclasses.replace(config, batch_size=editor.batch_size, paste=editor.pasted),
        engine=editor,
        overwrite=overwrite,
        progress=ending,
    )
