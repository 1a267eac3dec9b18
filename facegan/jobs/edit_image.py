"""Gives a face the eyes, the nose or the mouth of another: photographs, drawn faces, and videos.

A photograph is aligned and projected: the style is looked for of which the model paints it. Then
the scales of the channels that make a part are taken from the other face, and what that changes
goes back into the photograph. Styles that were found, and the catalogue of what the channels mean,
are kept and used again.

Reference: Collins et al., "Editing in Style: Uncovering the Local Semantics of GANs", CVPR 2020.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from facegan.bundle import Manifest, TensorSpec, read_manifest
from facegan.config import encode
from facegan.errors import ConfigError, DataError
from facegan.face.align import change_mask, face_mask, invert_matrix, paste_back, square_mask
from facegan.face.conditioning import SOURCE, DomainConditioningConfig, encode_conditioning
from facegan.face.landmarks import DetectorConfig
from facegan.image import make_grid, to_float
from facegan.jobs.catalogue import CatalogueConfig, fit_catalogue
from facegan.jobs.face_styles import FaceStyle, StyleFinder, check_face, is_drawn
from facegan.jobs.picture_output import require_grid_room, require_picture_ending, write_picture
from facegan.models.local_editing import PARTS, Catalogue, EditConfig, load_catalogue, transfer
from facegan.preparation.file_names import VIDEO_ENDINGS
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import Arrays
from facegan.render.pipeline import RenderConfig, render_video
from facegan.render.sampling import latent_conditioning, write_w
from facegan.training.projector import ProjectionConfig
from facegan.video.deflicker import DeflickerConfig
from facegan.video.output import CONTAINERS, check_output

ALL_PARTS = "all"
STYLES_ENDING = ".npz"
CATALOGUE_NAME = "catalogue.npz"
# Frames of a video that are projected together.
_FRAMES = 8
# From a frame's style the next one's is near: the search there takes smaller steps.
_FOLLOWING_RATE = 0.2

# The first columns of a grid.
_ENDS = ("target", "target, painted", "reference", "reference, painted")

Kind = Literal["picture", "projection", "styles", "grid", "video"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EditImageConfig:
    """What becomes of a face.

    Attributes:
        parts: What it gets of the other face, one after the other; ("all",) is all that the
            catalogue knows.
        grid: One picture of both faces, what the model paints of them, each part's edit, and all.
        edit: Which channels are changed, and how far.
        projection: How the styles of photographs are looked for.
        frame_steps: Steps of that for a frame of a video, from the style of the one before.
        perceptual_net: What compares pictures meanwhile: "imagenet" (VGG19, downloaded by Keras),
            "random" (a stand-in), or a weights file.
        full_frame: Whether the edit goes back into the whole photograph or frame; without it the
            model's square is written.
        paste: What of it goes back: what the edit changed, the face, or the whole square. None
            takes what changed, in videos the face.
        colour_match: Whether it takes the colours around it.
        deflicker: Steadies a video.
        face: Which person of a video: "largest", or 0, 1, ... by size.
        detector: What finds faces.
    """

    KIND: ClassVar[str] = "edit_image"

    parts: tuple[str, ...] = ()
    grid: bool = False
    edit: EditConfig = dataclasses.field(default_factory=EditConfig)
    projection: ProjectionConfig = dataclasses.field(default_factory=ProjectionConfig)
    frame_steps: int = 60
    perceptual_net: str = "imagenet"
    full_frame: bool = True
    paste: Literal["change", "face", "square"] | None = None
    colour_match: bool = True
    deflicker: DeflickerConfig = dataclasses.field(default_factory=DeflickerConfig)
    face: Literal["largest"] | int = "largest"
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        if self.frame_steps < 1:
            raise ConfigError(f"frame_steps must be at least 1, got {self.frame_steps}.")
        if self.grid and self.parts:
            raise ConfigError("A grid shows every part; leave the parts out.")
        if ALL_PARTS in self.parts and len(self.parts) > 1:
            raise ConfigError(f"{ALL_PARTS!r} names every part; leave the others out.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """What was asked for, checked."""

    kind: Kind
    manifest: Manifest
    target: str
    references: tuple[str, ...]
    output: pathlib.Path
    folder: pathlib.Path
    catalogue: pathlib.Path


def edit_image(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    references: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    config: EditImageConfig | None = None,
    *,
    catalogue: str | os.PathLike[str] | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Edits a face.

    Args:
        bundle: An exported StyleGAN2.
        target: The face that is changed: a picture, a video, or "seed:3" for one that the model
            draws.
        references: The faces whose parts are taken: one, of a grid any number. Without one, the
            target is projected only: a picture ending writes what the model paints of it, ".npz"
            its styles, for ``tools/generate.py --w``.
        output: The file to write.
        config: What becomes of it, and how.
        catalogue: File of ``fit_catalogue``. None takes the work folder's, which is made first if
            there is none.
        work_dir: Where found styles and the catalogue are kept; by default ``<bundle>_editing``
            beside the bundle.
        overwrite: Replace an output that exists.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``kind``, and what there is to tell: ``parts``, ``psnr`` (of the projections, by
        face), for a grid its ``columns``, for a video what ``render_video`` tells.

    Raises:
        ConfigError: A setting is wrong, or the catalogue has no such part.
        BundleError: The bundle makes no faces of noise.
        DataError: A picture cannot be read or shows no face.
        CheckpointError: The network that compares pictures cannot be had.
        VideoError: A video cannot be read or written.
    """
    config = config or EditImageConfig()
    task = _check(bundle, target, references, output, config, catalogue, work_dir, overwrite)
    _make_folder(task.folder)
    known = None
    if task.references:
        known = _find_catalogue(bundle, task, catalogue is None, config, progress)
        parts = _chosen_parts(known, config)
    finder = StyleFinder(
        bundle,
        task.manifest,
        task.folder,
        config.projection,
        config.perceptual_net,
        config.detector,
    )
    others = [finder.find(reference, progress) for reference in task.references]
    told: dict[str, Any] = {"output": str(task.output), "kind": task.kind}
    if task.kind == "video":
        assert known is not None
        editor = _VideoEditor(finder, known, others[0], parts, config)
        return {
            **told,
            "parts": parts,
            **_edit_video(bundle, task, editor, config, overwrite, progress),
        }
    face = finder.find(task.target, progress)
    told["psnr"] = {f.name: round(f.psnr, 2) for f in (face, *others) if f.psnr is not None}
    if task.kind == "styles":
        write_w(task.output, face.w[None])
    elif task.kind == "projection":
        write_picture(task.output, face.painted)
    elif task.kind == "grid":
        assert known is not None
        rows = [_draw_row(finder, known, face, other, config.edit) for other in others]
        write_picture(task.output, make_grid(rows))
        told["columns"] = _columns(known)
    else:
        assert known is not None
        edited = _edit(finder, known, face.w[None], others[0].w[None], parts, config.edit)[0]
        write_picture(task.output, _put_back(face, edited, config))
        told["parts"] = parts
    return told


def plan_edit(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    references: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    config: EditImageConfig | None = None,
    *,
    catalogue: str | os.PathLike[str] | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Checks what ``edit_image`` would be given, and describes what it would do."""
    config = config or EditImageConfig()
    task = _check(bundle, target, references, output, config, catalogue, work_dir, overwrite)
    return {
        "bundle": str(bundle),
        "kind": task.kind,
        "target": task.target,
        "references": list(task.references),
        "output": str(task.output),
        "work_dir": str(task.folder),
        "catalogue": str(task.catalogue),
        "catalogue_exists": task.catalogue.is_file(),
        "config": encode(config),
    }


def _check(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    references: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    config: EditImageConfig,
    catalogue: str | os.PathLike[str] | None,
    work_dir: str | os.PathLike[str] | None,
    overwrite: bool,
) -> _Task:
    manifest = read_manifest(bundle)
    shown = latent_conditioning(manifest)
    place, face = pathlib.Path(output), os.fspath(target)
    others = tuple(os.fspath(reference) for reference in references)
    check_face(face, "target")
    for other in others:
        check_face(other, "reference")
        if pathlib.Path(other).suffix.lower() in VIDEO_ENDINGS:
            raise ConfigError(f"A reference is a picture, got the video {other}.")
    for used in (face, *others):
        if place.resolve() == pathlib.Path(used).resolve():
            raise ConfigError(f"The output {output} is read itself; give it another name.")
    kind = _find_kind(face, others, place, config)
    if kind == "video" and shown.align == "none":
        raise ConfigError(
            f"{bundle} is a model of pictures that are not aligned by a face, and the faces of a "
            "video tell what is changed. Take the frames as pictures."
        )
    if kind != "video" and config.face != "largest":
        raise ConfigError(
            "face chooses a person of a video; of a picture the largest face is taken."
        )
    if kind == "grid":
        # The catalogue may not be made yet; it can have so many parts.
        require_grid_room(len(others), len(_ENDS) + len(PARTS) + 1, shown.size)
    if catalogue is not None and not pathlib.Path(catalogue).is_file():
        raise ConfigError(
            f"The catalogue {catalogue} does not exist; leave it out, and one is made."
        )
    check_output(place, overwrite)
    folder = pathlib.Path(work_dir or os.path.normpath(bundle) + "_editing")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"The work folder {folder} is a file; name another.")
    return _Task(
        kind,
        manifest,
        face,
        others,
        place,
        folder,
        pathlib.Path(catalogue or folder / CATALOGUE_NAME),
    )


def _find_kind(
    target: str, references: tuple[str, ...], output: pathlib.Path, config: EditImageConfig
) -> Kind:
    video = not is_drawn(target) and pathlib.Path(target).suffix.lower() in VIDEO_ENDINGS
    if not references:
        if config.parts or config.grid or video:
            raise ConfigError("Name a reference: the face whose parts are taken.")
        if output.suffix.lower() == STYLES_ENDING:
            return "styles"
        require_picture_ending(output, "projection")
        return "projection"
    if config.grid:
        if video:
            raise ConfigError("A grid is made of pictures, and the target is a video.")
        require_picture_ending(output, "grid")
        return "grid"
    if not config.parts:
        raise ConfigError("Name the parts that are taken, as eyes,mouth or all, or ask for a grid.")
    if len(references) > 1:
        raise ConfigError(
            f"Parts are taken from one reference, got {len(references)}; a grid takes several."
        )
    if not video:
        require_picture_ending(output, "picture")
        return "picture"
    if output.suffix.lower() not in CONTAINERS:
        raise ConfigError(
            f"The output of a video must end in {', '.join(CONTAINERS)}, got {output.name!r}."
        )
    if config.paste == "change":
        raise ConfigError(
            "In a video the face or the square is pasted; what changes differs from frame to frame."
        )
    return "video"


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Cannot make the work folder {folder}: {error.strerror or error}. Name another."
        ) from error


def _find_catalogue(
    bundle: str | os.PathLike[str],
    task: _Task,
    own: bool,
    config: EditImageConfig,
    progress: ProgressFactory,
) -> Catalogue:
    """The catalogue that is named; or the work folder's, made if there is none for this bundle."""
    fingerprint = task.manifest.fingerprint()
    if own:
        try:
            usable = load_catalogue(task.catalogue).fingerprint == fingerprint
        except (ConfigError, DataError):  # none yet, or one of another version
            usable = False
        if not usable:
            how = CatalogueConfig(detector=config.detector)
            fit_catalogue(bundle, task.catalogue, how, overwrite=True, progress=progress)
    catalogue = load_catalogue(task.catalogue)
    catalogue.check_bundle(fingerprint)
    return catalogue


def _chosen_parts(catalogue: Catalogue, config: EditImageConfig) -> list[str]:
    parts = catalogue.parts if ALL_PARTS in config.parts else config.parts
    for part in parts:
        catalogue.choose(part, config.edit)  # refuses a part or a layer that is not there
    return list(parts)


def _edit(
    finder: StyleFinder,
    catalogue: Catalogue,
    w: np.ndarray,
    other_w: np.ndarray,
    parts: Sequence[str],
    config: EditConfig,
) -> np.ndarray:
    """Paints faces [N, L, W] with parts of another [1, L, W]: [N, S, S, 3] uint8."""
    scales = transfer(finder.find_scales(w), finder.find_scales(other_w), catalogue, parts, config)
    return finder.paint_scales(scales)


def _columns(catalogue: Catalogue) -> list[str]:
    return [*_ENDS, *catalogue.parts, ALL_PARTS]


def _draw_row(
    finder: StyleFinder,
    catalogue: Catalogue,
    face: FaceStyle,
    other: FaceStyle,
    config: EditConfig,
) -> list[np.ndarray]:
    row = []
    for shown in (face, other):
        row += [shown.painted if shown.square is None else shown.square.image, shown.painted]
    for parts in (*((part,) for part in catalogue.parts), catalogue.parts):
        row += list(_edit(finder, catalogue, face.w[None], other.w[None], parts, config))
    return row


def _put_back(face: FaceStyle, edited: np.ndarray, config: EditImageConfig) -> np.ndarray:
    """The edited square, in the photograph where there is one and it is wanted."""
    if face.photo is None or face.square is None or not config.full_frame:
        return edited
    size, landmarks = len(edited), face.square.landmarks_xy_px
    if config.paste == "square" or (config.paste == "face" and landmarks is None):
        mask = square_mask(size)
    elif config.paste == "face":
        mask = face_mask(landmarks, size)
    else:
        mask = change_mask(face.painted, edited)
    back = invert_matrix(face.square.matrix)
    return paste_back(face.photo, edited, back, mask, colour_match=config.colour_match)


class _VideoEditor:
    """An engine that projects the faces of a video's frames, edits them and paints them.

    Each batch begins its search at the style of the frame before, so that styles follow the face.
    """

    name, precision = "projection", "float32"

    def __init__(
        self,
        finder: StyleFinder,
        catalogue: Catalogue,
        reference: FaceStyle,
        parts: Sequence[str],
        config: EditImageConfig,
    ):
        self._finder, self._catalogue, self._reference = finder, catalogue, reference
        self._parts, self._config = parts, config
        self._first = finder.make_projector(config.projection)
        following = dataclasses.replace(
            config.projection,
            steps=config.frame_steps,
            noise=0.0,
            learning_rate=config.projection.learning_rate * _FOLLOWING_RATE,
        )
        self._following = finder.make_projector(following)
        self._last: np.ndarray | None = None
        size = finder.conditioning.size
        self.manifest = Manifest(
            model=finder.manifest.model,
            facegan_version=finder.manifest.facegan_version,
            inputs=(TensorSpec(name=SOURCE, shape=(None, size, size, 3)),),
            outputs=(TensorSpec(name="image", shape=(None, size, size, 3)),),
            image_size=size,
            # What a render looks at: pictures of faces, cut as the model has them.
            conditioning=encode_conditioning(DomainConditioningConfig(size=size, align="ffhq")),
            training={
                "bundle": finder.manifest.fingerprint(),
                "reference": reference.w.tobytes().hex(),
                "catalogue": catalogue.settings,
                "parts": list(parts),
                "config": encode(config),
            },
        )

    def generate(self, inputs: Arrays) -> np.ndarray:
        """Edits frames {"source": [B, S, S, 3] uint8}."""
        images = to_float(inputs[SOURCE])
        if self._last is None:
            w = self._first.project(images)
        else:
            start = np.repeat(self._last[None], len(images), axis=0)
            w = self._following.project(images, start)
        self._last = w[-1]
        other = self._reference.w[None]
        return _edit(self._finder, self._catalogue, w, other, self._parts, self._config.edit)


def _edit_video(
    bundle: str | os.PathLike[str],
    task: _Task,
    editor: _VideoEditor,
    config: EditImageConfig,
    overwrite: bool,
    progress: ProgressFactory,
) -> dict[str, Any]:
    return render_video(
        bundle,
        task.target,
        task.output,
        RenderConfig(
            output="full_frame" if config.full_frame else "generated",
            face=config.face,
            detector=config.detector,
            paste="square" if config.paste == "square" else "face",
            colour_match=config.colour_match,
            deflicker=config.deflicker,
            batch_size=_FRAMES,
        ),
        engine=editor,
        overwrite=overwrite,
        progress=progress,
    )
