"""Gives a face the eyes, the nose or the mouth of another: photographs, drawn faces, and videos.

A photograph is aligned and projected: the style is looked for of which the model paints it. Then
the scales of the channels that make a part are taken from the other face, and what that changes
goes back into the photograph. Styles that were found, and the catalogue of what the channels mean,
are kept and used again.

What can be wrong is found before minutes are spent: pictures are read and their faces found, the
network that compares them is loaded, and a face is looked for in a video, before the catalogue is
made and anything projected.

Reference: Collins et al., "Editing in Style: Uncovering the Local Semantics of GANs", CVPR 2020.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from facegan.bundle import Manifest, read_manifest
from facegan.config import encode, unknown_name
from facegan.errors import ConfigError, DataError
from facegan.face.align import change_mask, face_mask, invert_matrix, paste_back, square_mask
from facegan.face.landmarks import DetectorConfig
from facegan.image import make_grid
from facegan.jobs.catalogue import CatalogueConfig, fit_catalogue
from facegan.jobs.edit_video import VideoEdit, VideoEditor, edit_video, require_face
from facegan.jobs.face_styles import (
    FaceStyle,
    StyleFinder,
    check_face,
    check_perceptual_net,
    find_seed,
)
from facegan.jobs.picture_output import require_grid_room, require_picture_ending, write_picture
from facegan.models.local_editing import PARTS, Catalogue, EditConfig, load_catalogue
from facegan.preparation.file_names import VIDEO_ENDINGS
from facegan.progress import ProgressFactory, no_progress
from facegan.render.pipeline import RenderConfig
from facegan.render.sampling import latent_conditioning, style_shape, write_w
from facegan.training.projector import ProjectionConfig
from facegan.video.deflicker import DeflickerConfig
from facegan.video.output import CONTAINERS, check_output
from facegan.video.reader import probe_clip

ALL_PARTS = "all"
STYLES_ENDING = ".npz"
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
        fit: How the catalogue is made, if none is named; the detector is the one below.
        projection: How the styles of photographs are looked for.
        frame_steps: Steps of that for a frame of a video, from the style of the one before.
        perceptual_net: What compares pictures meanwhile: "imagenet" (VGG19, downloaded by Keras),
            "random" (a stand-in), or a weights file.
        full_frame: Whether the edit goes back into the whole photograph or frame; without it the
            model's square is written.
        paste: What of it goes back: what the edit changed, or all that the model paints of the
            face, or of the whole square. None takes what changed, in a video only
            within the face unless a part lies outside of it.
        colour_match: Whether it takes the colours around it.
        deflicker: Steadies a video.
        face: Which person of a video: "largest", or 0, 1, ... by size.
        detector: What finds faces.
    """

    KIND: ClassVar[str] = "edit_image"

    parts: tuple[str, ...] = ()
    grid: bool = False
    edit: EditConfig = dataclasses.field(default_factory=EditConfig)
    fit: CatalogueConfig = dataclasses.field(default_factory=CatalogueConfig)
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
        if len(set(self.parts)) < len(self.parts):
            raise ConfigError(f"parts names one twice: {', '.join(self.parts)}; name it once.")
        if self.paste is not None and (self.grid or not self.full_frame):
            raise ConfigError(
                "paste says what goes back into a photograph or a frame, and none is written; "
                "leave it out."
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What was asked for, found to be possible.

    Attributes:
        catalogue: Its file; without references none is needed.
        known: That catalogue, if there is one already.
    """

    kind: Kind
    manifest: Manifest
    target: str
    references: tuple[str, ...]
    output: pathlib.Path
    folder: pathlib.Path
    catalogue: pathlib.Path
    known: Catalogue | None


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

    Called again after it was interrupted, it takes what it had found: the catalogue, the styles of
    whole pictures, and finished segments of a video. A video's search then begins anew at the first
    frame that is missing.

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
        work_dir: Where found styles and the catalogue are kept, of any number of bundles; by
            default ``<bundle>_editing`` beside the bundle.
        overwrite: Replace an output that exists.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``kind``, and what there is to tell: ``psnr`` (of what the model paints of
        photographs, by their names; None where it is equal), ``parts``, ``changed`` (the share of a
        picture's square that looks different), of a grid its ``columns``, of a video what
        ``render_video`` tells.

    Raises:
        ConfigError: A setting is wrong, or the catalogue has no such part.
        BundleError: The bundle makes no faces of noise.
        DataError: A picture cannot be read or shows no face, or a video has none.
        CheckpointError: The network that compares pictures cannot be had.
        VideoError: The output is there already or cannot be written, or a video cannot be read.
    """
    config = config or EditImageConfig()
    task = _check(bundle, target, references, output, config, catalogue, work_dir, overwrite)
    finder = StyleFinder(
        bundle,
        task.manifest,
        task.folder,
        config.projection,
        config.perceptual_net,
        config.detector,
    )
    if task.kind == "video":
        require_face(task.target, config.detector)
        source = None
    else:
        source = finder.read(task.target)
    others = [finder.read(reference) for reference in task.references]
    finder.prepare(None if source is None else [source, *others])
    _make_folder(task.folder)
    told: dict[str, Any] = {"output": str(task.output), "kind": task.kind}
    if not others:
        assert source is not None  # a video needs a reference
        face = finder.find(source, progress)
        if task.kind == "styles":
            write_w(task.output, face.w[None])
        else:
            write_picture(task.output, face.painted)
        return {**told, "psnr": _tell_psnr([face])}
    known = task.known or _make_catalogue(bundle, task, config, progress)
    parts = _choose_parts(known, config)
    styles = [finder.find(other, progress) for other in others]
    if source is None:
        rendered = _edit_video(
            bundle, task, finder, known, styles[0].w, parts, config, overwrite, progress
        )
        return {**told, "parts": parts, "psnr": _tell_psnr(styles), **rendered}
    face = finder.find(source, progress)
    told["psnr"] = _tell_psnr([face, *styles])
    if task.kind == "grid":
        rows = [_draw_row(finder, known, face, style, config.edit) for style in styles]
        write_picture(task.output, make_grid(rows))
        return {**told, "columns": _columns(known)}
    (edited,) = finder.paint_edited(face.w[None], styles[0].w[None], known, parts, config.edit)
    write_picture(task.output, _put_back(face, edited, config))
    changed = round(float(change_mask(face.painted, edited).mean()), 4)
    return {**told, "parts": parts, "changed": changed}


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
    parts = _choose_parts(task.known, config)
    if config.grid and task.known is not None:
        parts = list(task.known.parts)
    return {
        "bundle": str(bundle),
        "kind": task.kind,
        "target": task.target,
        "references": list(task.references),
        "parts": parts,
        "output": str(task.output),
        "work_dir": str(task.folder),
        "catalogue": str(task.catalogue) if task.references else None,
        "catalogue_exists": task.known is not None,
        "config": encode(config),
    }


def is_video(target: str) -> bool:
    """Whether a target is a video, by its ending."""
    return find_seed(target) is None and pathlib.Path(target).suffix.lower() in VIDEO_ENDINGS


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
    style_shape(manifest)
    place, face = pathlib.Path(output), os.fspath(target)
    others = tuple(os.fspath(reference) for reference in references)
    check_face(face, "target")
    for other in others:
        check_face(other, "reference")
        if is_video(other):
            raise ConfigError(f"A reference is a picture, got the video {other}.")
    check_perceptual_net(config.perceptual_net)
    kind = _find_kind(face, others, place, config)
    if kind == "video":
        if shown.align == "none":
            raise ConfigError(
                f"{bundle} is a model of pictures that are not aligned by a face, and the faces of "
                "a video tell what is changed. Take the frames as pictures."
            )
        probe_clip(face)
    elif config.face != "largest":
        raise ConfigError(
            "face chooses a person of a video; of a picture the largest face is taken."
        )
    elif shown.align == "none" and config.paste == "face":
        raise ConfigError(
            f"{bundle} is a model of pictures that are not aligned by a face, so paste must be "
            "change or square."
        )
    if kind == "grid":
        # The catalogue may not be made yet; it can have so many parts.
        require_grid_room(len(others), len(_ENDS) + len(PARTS) + 1, shown.size)
    folder = pathlib.Path(work_dir or f"{os.path.abspath(bundle)}_editing")
    path = folder / _catalogue_name(manifest, config) if catalogue is None else catalogue
    path = pathlib.Path(path)
    for used in (face, *others, str(path)):
        if place.resolve() == pathlib.Path(used).resolve():
            raise ConfigError(f"The output {output} is read itself; give it another name.")
    for written in (place, folder):
        if written.resolve().is_relative_to(pathlib.Path(bundle).resolve()):
            raise ConfigError(f"{written} lies in the bundle; name another place.")
    check_output(place, overwrite)
    _check_folder(folder)
    known = None
    if others:
        known = _find_catalogue(path, manifest, named=catalogue is not None)
        _choose_parts(known, config)
    elif catalogue is not None:
        raise ConfigError("A catalogue is for edits, and no reference is named; leave it out.")
    return _Task(
        kind=kind,
        manifest=manifest,
        target=face,
        references=others,
        output=place,
        folder=folder,
        catalogue=path,
        known=known,
    )


def _find_kind(
    target: str, references: tuple[str, ...], output: pathlib.Path, config: EditImageConfig
) -> Kind:
    video = is_video(target)
    if not references:
        if config.parts or config.grid or video:
            raise ConfigError("Name a reference: the face whose parts are taken.")
        if config.paste is not None:
            raise ConfigError("Without a reference nothing is pasted; leave paste out.")
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
    if _same_face(target, references[0]):
        raise ConfigError(f"Target and reference are both {target}: nothing would change.")
    if not video:
        require_picture_ending(output, "picture")
        if config.paste is not None and find_seed(target) is not None:
            raise ConfigError(f"{target} is a drawn face, in no photograph; leave paste out.")
        return "picture"
    if output.suffix.lower() not in CONTAINERS:
        raise ConfigError(
            f"The output of a video must end in {', '.join(CONTAINERS)}, got {output.name!r}."
        )
    return "video"


def _same_face(one: str, other: str) -> bool:
    if find_seed(one) is not None or find_seed(other) is not None:
        return find_seed(one) == find_seed(other)
    return pathlib.Path(one).samefile(other)


def _check_folder(folder: pathlib.Path) -> None:
    """Raises ConfigError unless the work folder can be written; nothing is left behind."""
    above = folder
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise ConfigError(f"The work folder {folder} cannot be: {above} is a file. Name another.")
    try:
        # Permission bits do not tell about read-only disks; trying does.
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise ConfigError(
            f"The work folder {folder} cannot be written: {error.strerror or error}. Name another "
            "as work_dir."
        ) from error


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Cannot make the work folder {folder}: {error.strerror or error}. Name another as "
            "work_dir."
        ) from error


def _catalogue_name(manifest: Manifest, config: EditImageConfig) -> str:
    """A name that tells all that a catalogue follows from."""
    described = json.dumps([manifest.fingerprint(), encode(_how_to_fit(config))], sort_keys=True)
    return f"catalogue-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"


def _how_to_fit(config: EditImageConfig) -> CatalogueConfig:
    return dataclasses.replace(config.fit, detector=config.detector)


def _find_catalogue(path: pathlib.Path, manifest: Manifest, *, named: bool) -> Catalogue | None:
    """The catalogue of a file; None if it is the work folder's, and missing or of no use."""
    if named and not path.is_file():
        raise ConfigError(f"The catalogue {path} does not exist; leave it out, and one is made.")
    try:
        catalogue = load_catalogue(path)
    except (ConfigError, DataError):
        if named:
            raise
        return None
    if catalogue.fingerprint == manifest.fingerprint():
        return catalogue
    if named:
        raise ConfigError(
            f"The catalogue {path} was made for another bundle, whose channels mean other things. "
            "Leave it out, and one is made."
        )
    return None


def _make_catalogue(
    bundle: str | os.PathLike[str],
    task: _Task,
    config: EditImageConfig,
    progress: ProgressFactory,
) -> Catalogue:
    how = _how_to_fit(config)
    fit_catalogue(bundle, task.catalogue, how, overwrite=True, progress=progress)
    return load_catalogue(task.catalogue)


def _choose_parts(known: Catalogue | None, config: EditImageConfig) -> list[str]:
    """The parts that are taken; those of a catalogue that is not made yet as they are named.

    Raises:
        ConfigError: No catalogue could have such a part, or this one has not, or no such layer.
    """
    all_parts = PARTS if known is None else known.parts
    for part in config.parts:
        if part not in (*PARTS, *all_parts, ALL_PARTS):
            raise unknown_name("A part", part, (*all_parts, ALL_PARTS), what="value")
        if part not in (*all_parts, ALL_PARTS):
            raise ConfigError(
                f"The catalogue knows no part {part!r}, only {', '.join(all_parts)}: none of its "
                f"{len(known.names) if known else 0} clusters tells it best. More clusters may; or "
                "take another part."
            )
    if known is None:
        return list(config.parts)
    parts = list(known.parts if ALL_PARTS in config.parts else config.parts)
    for part in parts:
        known.choose(part, config.edit)  # refuses a layer that is not there
    return parts


def _tell_psnr(faces: Sequence[FaceStyle]) -> dict[str, float | None]:
    return {
        face.source.name: round(face.psnr, 2) if math.isfinite(face.psnr) else None
        for face in faces
        if face.psnr is not None
    }


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
        square = shown.source.square
        row += [shown.painted if square is None else square.image, shown.painted]
    for parts in (*((part,) for part in catalogue.parts), catalogue.parts):
        row += list(finder.paint_edited(face.w[None], other.w[None], catalogue, parts, config))
    return row


def _put_back(face: FaceStyle, edited: np.ndarray, config: EditImageConfig) -> np.ndarray:
    """The edited square, in the photograph where there is one and it is wanted."""
    photo, square = face.source.photo, face.source.square
    if photo is None or square is None or not config.full_frame:
        return edited
    size = len(edited)
    if config.paste == "square":
        mask = square_mask(size)
    elif config.paste == "face" and square.landmarks_xy_px is not None:
        mask = face_mask(square.landmarks_xy_px, size)
    else:
        mask = change_mask(face.painted, edited)
    back = invert_matrix(square.matrix)
    return paste_back(photo, edited, back, mask, colour_match=config.colour_match)


def _edit_video(
    bundle: str | os.PathLike[str],
    task: _Task,
    finder: StyleFinder,
    catalogue: Catalogue,
    reference_w: np.ndarray,
    parts: Sequence[str],
    config: EditImageConfig,
    overwrite: bool,
    progress: ProgressFactory,
) -> dict[str, Any]:
    edit = VideoEdit(
        catalogue=catalogue,
        reference_w=reference_w,
        parts=tuple(parts),
        edit=config.edit,
        frame_steps=config.frame_steps,
        # A square that goes into no frame is the model's own.
        paste=config.paste or ("change" if config.full_frame else "square"),
    )
    how = RenderConfig(
        output="full_frame" if config.full_frame else "generated",
        face=config.face,
        detector=config.detector,
        colour_match=config.colour_match,
        deflicker=config.deflicker,
    )
    editor = VideoEditor(finder, edit, progress)
    return edit_video(
        *(bundle, task.target, task.output, editor, how), overwrite=overwrite, progress=progress
    )
