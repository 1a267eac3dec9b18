"""Pictures and videos of faces, or of whatever else was learnt, into another domain.

A picture becomes one picture a style, or a column of a grid, or a video that wanders from style to
style. A video keeps its frames, size and sound; one style is held over all of it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from facegan.config import encode, write_json
from facegan.errors import ConfigError, DataError
from facegan.face.align import face_mask, invert_matrix, paste_back, square_mask
from facegan.face.conditioning import LANDMARKS, SOURCE, DomainConditioningConfig
from facegan.face.landmarks import DetectorConfig
from facegan.image import make_grid
from facegan.jobs.picture_output import (
    GRID_GAP_PX,
    WRITTEN_ENDINGS,
    check_folder,
    open_folder,
    require_grid_room,
    require_picture_ending,
    write_picture,
    write_video,
)
from facegan.preparation.file_names import PICTURE_ENDINGS, VIDEO_ENDINGS
from facegan.preparation.items import Rejected
from facegan.preparation.squares import Square, cut_square, read_photo_file
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import Engine, EngineConfig, encode_settings
from facegan.render.opened import OpenedBundle, open_bundle
from facegan.render.pipeline import RenderConfig
from facegan.render.provenance import provenance_path
from facegan.render.style import (
    STYLE,
    StyleChoice,
    domain_conditioning,
    find_styles,
    read_reference,
)
from facegan.video.deflicker import DeflickerConfig
from facegan.video.output import CONTAINERS, check_output
from facegan.video.visible_label import require_label_text
from facegan.video.writer import MAX_SIDE_PX

REPORT_NAME, SETTINGS_NAME = "report.json", "translate.json"

_BATCH_SIZE = 10  # the styles of a picture in an evaluation
# How a video goes from one style to the next: 21 frames along a sigmoid, at 30 a second.
_STEPS = 1.0 / (1.0 + np.exp(-np.arange(-5.0, 5.25, 0.5)))
_FPS = 30


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TranslateConfig:
    """What is to become of the input.

    Attributes:
        domain: The domain, by name.
        references: Pictures whose styles are taken, or folders of such; none draws styles.
        styles: How many styles are drawn, without references.
        seed: The first one that is drawn; the others follow.
        grid: One picture of all: the input down the side, the styles along the top.
        full_frame: Whether what was made goes back into the whole picture or frame; None does so
            with videos.
        paste: What of it goes back: the face alone, or the whole square with hair and background.
            Pictures that are not aligned by a face go back whole.
        colour_match: Whether it takes the colours around it.
        deflicker: Steadies a video.
        face: Which person of a video: "largest", or 0, 1, ... by size.
        detector: What finds faces.
        engine: What runs the network.
        provenance: Whether a video says that it is synthetic, and a file beside it what it was made
            of and with.
        visible_label: Text in the corner of every frame of a video.
    """

    KIND: ClassVar[str] = "translate"

    domain: str
    references: tuple[str, ...] = ()
    styles: int = 1
    seed: int = 0
    grid: bool = False
    full_frame: bool | None = None
    paste: Literal["face", "square"] = "face"
    colour_match: bool = True
    deflicker: DeflickerConfig = dataclasses.field(default_factory=DeflickerConfig)
    face: Literal["largest"] | int = "largest"
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)
    provenance: bool = False
    visible_label: str | None = None

    def __post_init__(self) -> None:
        if self.styles < 1:
            raise ConfigError(f"styles must be at least 1, got {self.styles}.")
        if self.visible_label is not None:
            require_label_text(self.visible_label)
        if self.references and (self.styles > 1 or self.seed):
            raise ConfigError(
                "styles and seed are for styles that are drawn; with references, leave them out."
            )
        if self.grid and self.full_frame:
            raise ConfigError("A grid is made of squares; leave full_frame out, or the grid.")

    def choices(self) -> list[StyleChoice]:
        """The styles."""
        if not self.references:
            seeds = range(self.seed, self.seed + self.styles)
            return [StyleChoice(domain=self.domain, seed=seed) for seed in seeds]
        files = [file for path in self.references for file in list_pictures(path)]
        return [StyleChoice(domain=self.domain, reference=str(file)) for file in files]


Kind = Literal["video", "grid", "interpolation", "picture", "folder"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What is to be done, found to be possible. A video has no ``files``."""

    kind: Kind
    bundle: OpenedBundle
    conditioning: DomainConditioningConfig
    files: tuple[pathlib.Path, ...]
    choices: tuple[StyleChoice, ...]


def translate(
    bundle: str | os.PathLike[str],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: TranslateConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Turns a picture, a folder of pictures or a video into another domain.

    A picture becomes a picture; with an output that is a video, it wanders from style to style. The
    pictures of a folder become files of the same names in a folder, ``_0``, ``_1``, ... where there
    are several styles, and ``report.json`` says which were left out and why.

    Args:
        bundle: The exported model, or the address of a server that runs it.
        input: A picture, a folder of pictures, or a video.
        output: What to write.
        config: Into what, and how.
        resume: Go on in a folder of pictures that was not finished. Videos do so by themselves.
        overwrite: Replace what is there.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``kind``, and what there is to tell of it: for a folder the number of pictures
        that were left out, for a grid and a video of pictures which and why.

    Raises:
        ConfigError: The bundle has no such domain, or input and output do not go together.
        BundleError: The bundle is broken, or of another kind.
        DataError: A picture cannot be read, or shows no face where one is needed.
        VideoError: A video cannot be read or written.
    """
    task = _check(bundle, input, output, config, resume, overwrite)
    if task.kind == "video":
        style = task.choices[0]
        return _translate_video(bundle, input, output, config, style, overwrite, progress)
    engine = task.bundle.engine
    styles = find_styles(task.bundle.methods, task.choices, config.detector)
    painter = _Painter(engine, task.conditioning, config)
    output = pathlib.Path(output)
    if task.kind == "grid":
        return _write_grid(painter, task.files, styles, task.choices, output, progress)
    if task.kind == "interpolation":
        return _write_interpolation(painter, task.files, styles, output, overwrite, progress)
    if task.kind == "picture":
        return _translate_picture(painter, task.files[0], styles, output)
    root = pathlib.Path(input)
    open_folder(
        output,
        SETTINGS_NAME,
        {"bundle": task.bundle.manifest.fingerprint(), "config": encode_settings(config)},
        resume=resume,
        replaced=(
            name for file in task.files for name in _results(root, file, output, len(styles))
        ),
    )
    return _translate_folder(painter, root, task.files, styles, output, resume, progress)


def plan_translate(
    bundle: str | os.PathLike[str],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: TranslateConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Checks what ``translate`` would be given, and describes what it would do."""
    task = _check(bundle, input, output, config, resume, overwrite)
    return {
        **task.bundle.describe(),
        "domains": list(task.conditioning.domains),
        "kind": task.kind,
        "input": str(input),
        "output": str(output),
        "styles": [encode(choice) for choice in task.choices],
        "config": encode(config),
    }


def list_pictures(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """A picture file itself, or those below a folder, sorted by name.

    Raises:
        DataError: There is nothing of that name, or no picture in the folder.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; name a picture or a folder of pictures.")
    found = sorted(
        p for p in path.rglob("*") if p.suffix.lower() in PICTURE_ENDINGS and p.is_file()
    )
    if not found:
        raise DataError(f"{path} holds no pictures ({', '.join(PICTURE_ENDINGS)}).")
    return found


def _check(
    bundle: str | os.PathLike[str],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: TranslateConfig,
    resume: bool,
    overwrite: bool,
) -> _Task:
    opened = open_bundle(bundle, config.engine)
    conditioning = domain_conditioning(opened.manifest)
    conditioning.domain_index(config.domain)
    kind = _kind(pathlib.Path(input), pathlib.Path(output), config)
    if kind != "video" and (config.provenance or config.visible_label is not None):
        raise ConfigError("provenance and visible_label are for videos; leave them out.")
    choices, place = tuple(config.choices()), pathlib.Path(output)
    count = len(choices)
    if kind != "video" and config.face != "largest":
        raise ConfigError(
            "face chooses a person of a video; of a picture the largest face is taken."
        )
    for used in (input, *(choice.reference for choice in choices if choice.reference)):
        if place.resolve() == pathlib.Path(used).resolve():
            raise ConfigError(f"The output {output} is read itself; give it another name.")
    files = () if kind == "video" else tuple(list_pictures(input))
    if kind == "grid":
        require_grid_room(len(files) + bool(config.references), count + 1, conditioning.size)
    if kind == "interpolation":
        _check_height(input, len(files), conditioning.size)
    if kind == "video" and count > 1:
        raise ConfigError(f"A video is made in one style, got {count}.")
    if kind == "interpolation" and count < 2:
        raise ConfigError(
            "A video of pictures wanders between styles and needs at least two: several references "
            "or a higher number of styles."
        )
    if kind == "video" and conditioning.align == "none":
        raise ConfigError(
            f"{bundle} is a model of pictures that are not aligned by a face, and the faces of a "
            "video tell what is changed. Take the frames as a folder of pictures."
        )
    if kind == "folder":
        _check_folder(pathlib.Path(input), place, resume, overwrite)
    elif kind == "picture":
        for name in _numbered(place, count):
            check_output(name, overwrite)
    else:
        check_output(place, overwrite)
    if config.provenance:
        check_output(provenance_path(place), overwrite)
    return _Task(kind=kind, bundle=opened, conditioning=conditioning, files=files, choices=choices)


def _kind(input: pathlib.Path, output: pathlib.Path, config: TranslateConfig) -> Kind:
    if not input.exists():
        raise DataError(f"{input} does not exist; name a picture, a folder, or a video.")
    ending, wanted = input.suffix.lower(), output.suffix.lower()
    if input.is_file() and ending in VIDEO_ENDINGS:
        if config.grid:
            raise ConfigError("A grid is made of pictures, and the input is a video.")
        if wanted not in CONTAINERS:
            raise ConfigError(
                f"The output of a video must end in {', '.join(CONTAINERS)}, got {output.name!r}."
            )
        return "video"
    if input.is_file() and ending not in PICTURE_ENDINGS:
        raise ConfigError(
            f"The ending of {input} is that of no picture ({', '.join(PICTURE_ENDINGS)}) and no "
            f"video ({', '.join(VIDEO_ENDINGS)})."
        )
    if config.grid:
        require_picture_ending(output, "grid")
        return "grid"
    if wanted in CONTAINERS:
        return "interpolation"
    if input.is_file():
        require_picture_ending(output, "picture")
        return "picture"
    return "folder"


def _check_height(input: str | os.PathLike[str], count: int, size: int) -> None:
    """Refuses more pictures than stand one below the other in a video."""
    most = MAX_SIDE_PX // (size + GRID_GAP_PX)
    if count > most:
        raise ConfigError(
            f"{input} holds {count} pictures; what is written has room for {most} of {size} px, "
            "one below the other. Take fewer."
        )


def _check_folder(input: pathlib.Path, output: pathlib.Path, resume: bool, overwrite: bool) -> None:
    if output.suffix.lower() in WRITTEN_ENDINGS:
        raise ConfigError(
            f"The output {output} has the ending of a picture and the input is a folder. For one "
            "picture of all add --grid; else name a folder."
        )
    if output.resolve().is_relative_to(input.resolve()):
        raise ConfigError(
            f"The output folder {output} lies where the pictures are; name one outside of {input}."
        )
    check_folder(output, resume=resume, overwrite=overwrite)


class _Painter:
    """Cuts pictures, paints them in styles, and puts them back where that is wanted."""

    def __init__(
        self, engine: Engine, conditioning: DomainConditioningConfig, config: TranslateConfig
    ) -> None:
        self.engine, self.conditioning, self.config = engine, conditioning, config

    def cut(self, image: np.ndarray, name: str) -> Square:
        """The square of a picture that the network is shown."""
        shown = self.conditioning
        square = cut_square(
            image,
            name,
            shown.size,
            align=shown.align,
            detector=self.config.detector,
            landmarks=shown.landmarks,
        )
        if shown.landmarks and square.landmarks_xy_px is None:
            raise Rejected("no_face", f"No face is found in {name}, whose details would be kept.")
        return square

    def generate(self, square: Square, styles: np.ndarray) -> np.ndarray:
        """One square in styles [N, S]: [N, size, size, 3] uint8."""
        return paint_in_styles(self.engine, square.image, square.landmarks_xy_px, styles)

    def paint(self, square: Square, styles: np.ndarray, image: np.ndarray) -> list[np.ndarray]:
        """One picture in styles: squares, or the whole picture with them in it."""
        made = self.generate(square, styles)
        if not self.config.full_frame:
            return list(made)
        size, landmarks = self.conditioning.size, square.landmarks_xy_px
        if self.config.paste == "square" or landmarks is None:
            mask = square_mask(size)
        else:
            mask = face_mask(landmarks, size)
        back = invert_matrix(square.matrix)
        match = self.config.colour_match
        return [paste_back(image, patch, back, mask, colour_match=match) for patch in made]


def paint_in_styles(
    engine: Engine, image: np.ndarray, landmarks_xy_px: np.ndarray | None, styles: np.ndarray
) -> np.ndarray:
    """Paints one square in many styles.

    Args:
        engine: Runs the bundle.
        image: [size, size, 3] uint8.
        landmarks_xy_px: [68, 2] in pixels of it, for a bundle that is shown them.
        styles: [N, style_size] float32.

    Returns:
        [N, size, size, 3] uint8.
    """
    wanted, parts = {spec.name for spec in engine.manifest.inputs}, []
    for start in range(0, len(styles), _BATCH_SIZE):
        chosen = styles[start : start + _BATCH_SIZE]
        inputs = {SOURCE: np.repeat(image[None], len(chosen), axis=0), STYLE: chosen}
        if LANDMARKS in wanted:
            points = np.asarray(landmarks_xy_px, np.float32)
            inputs[LANDMARKS] = np.repeat(points[None], len(chosen), axis=0)
        parts.append(engine.generate(inputs))
    return np.concatenate(parts)


def _refusal(key: Any, error: DataError) -> dict[str, str]:
    """What a report says of a picture that is left out."""
    reason = error.reason if isinstance(error, Rejected) else "unusable"
    return {"file": str(key), "reason": reason, "detail": str(error)}


def _translate_picture(
    painter: _Painter, file: pathlib.Path, styles: np.ndarray, output: pathlib.Path
) -> dict[str, Any]:
    image = read_photo_file(file)
    paintings = painter.paint(painter.cut(image, str(file)), styles, image)
    names = _numbered(output, len(styles))
    for name, painting in zip(names, paintings, strict=True):
        write_picture(name, painting)
    return {"output": str(output), "kind": "picture", "written": [str(name) for name in names]}


def _translate_folder(
    painter: _Painter,
    root: pathlib.Path,
    files: Sequence[pathlib.Path],
    styles: np.ndarray,
    output: pathlib.Path,
    resume: bool,
    progress: ProgressFactory,
) -> dict[str, Any]:
    left_out: list[dict[str, str]] = []
    written = 0
    owners: dict[pathlib.Path, pathlib.Path] = {}
    with progress("Translate") as report:
        for number, file in enumerate(files):
            report(number, len(files), "picture")
            key = file.relative_to(root)
            names = _results(root, file, output, len(styles))
            if names[0] in owners:
                detail = f"Its result would have the same name as that of {owners[names[0]]}."
                left_out.append({"file": str(key), "reason": "name_taken", "detail": detail})
                continue
            if not (resume and all(name.is_file() for name in names)):
                try:
                    image = read_photo_file(file)
                    square = painter.cut(image, str(key))
                except DataError as error:
                    left_out.append(_refusal(key, error))
                    continue
                paintings = painter.paint(square, styles, image)
                for name, painting in zip(names, paintings, strict=True):
                    write_picture(name, painting)
            owners[names[0]] = key
            written += len(names)
        report(len(files), len(files), "picture")
    if not written:
        raise DataError(f"{root} gave no picture; the first: {left_out[0]['detail']}")
    result = {"output": str(output), "kind": "folder", "pictures": len(files), "written": written}
    write_json(output / REPORT_NAME, {**result, "left_out": left_out})
    return {**result, "left_out": len(left_out)}


def _write_grid(
    painter: _Painter,
    files: Sequence[pathlib.Path],
    styles: np.ndarray,
    choices: Sequence[StyleChoice],
    output: pathlib.Path,
    progress: ProgressFactory,
) -> dict[str, Any]:
    size = painter.conditioning.size
    white = np.full((size, size, 3), 255, np.uint8)
    rows = []
    references = [choice.reference for choice in choices if choice.reference is not None]
    if references:
        shown, detector = painter.conditioning, painter.config.detector
        rows.append([white, *(read_reference(path, shown, detector) for path in references)])
    squares, left_out = _find_squares(painter, files)
    with progress("Translate") as report:
        for number, square in enumerate(squares):
            report(number, len(squares), "picture")
            rows.append([square.image, *painter.generate(square, styles)])
        report(len(squares), len(squares), "picture")
    write_picture(output, make_grid(rows))
    counts = {"pictures": len(squares), "styles": len(styles), "left_out": left_out}
    return {"output": str(output), "kind": "grid", **counts}


def _write_interpolation(
    painter: _Painter,
    files: Sequence[pathlib.Path],
    styles: np.ndarray,
    output: pathlib.Path,
    overwrite: bool,
    progress: ProgressFactory,
) -> dict[str, Any]:
    """Each picture beside itself on its way through the styles and back to the first."""
    squares, left_out = _find_squares(painter, files)
    ends = zip(styles, np.roll(styles, -1, axis=0), strict=True)
    way = [(1.0 - step) * first + step * last for first, last in ends for step in _STEPS]

    def frames() -> Iterator[np.ndarray]:
        for start in range(0, len(way), _BATCH_SIZE):
            part = np.stack(way[start : start + _BATCH_SIZE]).astype(np.float32)
            made = [painter.generate(square, part) for square in squares]
            for number in range(len(part)):
                yield make_grid([[s.image, m[number]] for s, m in zip(squares, made, strict=True)])

    size = painter.conditioning.size
    write_video(
        output,
        frames(),
        count=len(way),
        height_px=len(squares) * (size + GRID_GAP_PX) - GRID_GAP_PX,
        width_px=2 * size + GRID_GAP_PX,
        fps=_FPS,
        overwrite=overwrite,
        progress=progress,
    )
    return {
        "output": str(output),
        "kind": "interpolation",
        "pictures": len(squares),
        "styles": len(styles),
        "left_out": left_out,
        "frames": len(way),
        "fps": float(_FPS),
    }


def _find_squares(
    painter: _Painter, files: Sequence[pathlib.Path]
) -> tuple[list[Square], list[dict[str, str]]]:
    """The squares of pictures, and which have none and why.

    Raises:
        DataError: None has one.
    """
    squares: list[Square] = []
    left_out = []
    for file in files:
        try:
            squares.append(painter.cut(read_photo_file(file), str(file)))
        except DataError as error:
            left_out.append(_refusal(file, error))
    if not squares:
        raise DataError(left_out[0]["detail"])
    return squares, left_out


def _translate_video(
    bundle: str | os.PathLike[str],
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: TranslateConfig,
    style: StyleChoice,
    overwrite: bool,
    progress: ProgressFactory,
) -> dict[str, Any]:
    from facegan.jobs.render import render_job

    full = config.full_frame is not False
    summary = render_job(
        bundle,
        video,
        output,
        RenderConfig(
            output="full_frame" if full else "generated",
            face=config.face,
            detector=config.detector,
            style=style,
            paste=config.paste,
            colour_match=config.colour_match,
            deflicker=config.deflicker,
            engine=config.engine,
            provenance=config.provenance,
            visible_label=config.visible_label,
        ),
        overwrite=overwrite,
        progress=progress,
    )
    return {"kind": "video", **summary}


def _results(
    root: pathlib.Path, file: pathlib.Path, output: pathlib.Path, count: int
) -> list[pathlib.Path]:
    """What is made of a file below ``root``, in so many styles."""
    return _numbered((output / file.relative_to(root)).with_suffix(".png"), count)


def _numbered(path: pathlib.Path, count: int) -> list[pathlib.Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(count)]
