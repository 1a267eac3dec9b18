"""Pictures of faces out of noise: samples, sheets, mixtures of two faces, and videos between faces.

A face has a number and follows from it alone: its seed, or its place among styles from files.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import re
from typing import Any, ClassVar

import numpy as np

from facegan.bundle import Manifest
from facegan.config import encode
from facegan.errors import ConfigError
from facegan.image import make_grid
from facegan.jobs.choice_text import find_layers, parse_numbers
from facegan.jobs.face_layouts import (
    GridConfig,
    Layout,
    MixingConfig,
    PicturesConfig,
    Sheet,
    TruncationsConfig,
    WalkConfig,
)
from facegan.jobs.picture_output import (
    WRITTEN_ENDINGS,
    check_folder,
    open_folder,
    require_grid_room,
    require_picture_ending,
    write_picture,
    write_video,
)
from facegan.preparation.file_names import PICTURE_ENDINGS, VIDEO_ENDINGS
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import EngineConfig, encode_settings
from facegan.render.faces import Faces
from facegan.render.opened import OpenedBundle, open_bundle
from facegan.render.sampling import BATCH_SIZE, latent_conditioning, read_w, style_shape, write_w
from facegan.render.workspace import identify_file
from facegan.video.output import CONTAINERS, check_output

SETTINGS_NAME = "generate.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig:
    """Which faces, and what is made of them.

    Attributes:
        seeds: The faces' numbers, as "3,17,20-25"; None takes 0, or all of ``w``.
        w: Files of styles (``render.sampling.read_w``), whose faces are taken instead of drawn
            ones; they are counted from 0 on, through all files.
        truncation: What is left of the distance from the mean face; less than 1 gives fewer odd
            faces and less variety.
        truncated_layers: In how many layers, counted from the coarsest; None is all.
        layout: What is made.
        engine: What runs the network.
    """

    KIND: ClassVar[str] = "generate"

    seeds: str | None = None
    w: tuple[str, ...] = ()
    truncation: float = 1.0
    truncated_layers: int | None = None
    layout: Layout = PicturesConfig()
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        several = isinstance(self.layout, TruncationsConfig)
        if self.seeds is not None:
            parse_numbers(self.seeds, "seeds")
        if not math.isfinite(self.truncation):
            raise ConfigError(f"truncation must be a finite number, got {self.truncation}.")
        if several and self.truncation != 1.0:
            raise ConfigError("truncation and truncations exclude each other; give one of them.")
        if self.truncated_layers is not None and self.truncation == 1.0 and not several:
            raise ConfigError("truncated_layers changes nothing without a truncation; give both.")
        if self.w and isinstance(self.layout, WalkConfig) and self.layout.space == "z":
            raise ConfigError('The styles of files have no latents; leave space out, or take "w".')


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What is to be done, found to be possible. ``extent`` is what is told of how much."""

    kind: str
    bundle: OpenedBundle
    numbers: tuple[int, ...]
    stored: np.ndarray | None
    extent: dict[str, Any]

    @property
    def manifest(self) -> Manifest:
        """What the bundle is."""
        return self.bundle.manifest


def generate(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: GenerateConfig,
    *,
    save_w: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Makes pictures or a video of faces that nobody has.

    In a folder a face's file is called by its number, ``seed000017.png``, or ``w000017.png``.

    Args:
        bundle: The exported model, or the address of a server that runs it.
        output: What to write: a folder or a picture, a picture for a sheet, a video for a walk.
        config: Which faces, and what is made of them.
        save_w: Also write the faces' styles to this .npz file: those down the side of a sheet, and
            those that a walk passes.
        resume: Go on in a folder that was not finished, or make more in it.
        overwrite: Replace what is there.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``kind``, and what there is to tell of it.

    Raises:
        ConfigError: Settings, bundle and output do not go together.
        BundleError: The bundle is broken, or of another kind.
        DataError: A file of styles cannot be read, or a picture cannot be written.
        VideoError: A file is there already, or a video cannot be written.
    """
    task = _check(bundle, output, config, save_w, resume, overwrite)
    faces = Faces(
        task.bundle.engine,
        task.bundle.methods,
        task.stored,
        config.truncation,
        config.truncated_layers,
    )
    output, layout = pathlib.Path(output), config.layout
    told: dict[str, Any] = {"output": str(output), "kind": task.kind, **task.extent}
    if isinstance(layout, WalkConfig):
        write_video(
            output,
            faces.walk(task.numbers, layout.steps, layout.space),
            count=task.extent["frames"],
            height_px=task.manifest.image_size,
            width_px=task.manifest.image_size,
            fps=layout.fps,
            overwrite=overwrite,
            progress=progress,
        )
    elif task.kind == "folder":
        told["written"] = _write_folder(faces, task, config, output, resume, progress)
    else:
        # A picture is a grid of one.
        sheet = layout if isinstance(layout, Sheet) else GridConfig()
        _write_sheet(faces, sheet, task.numbers, output, progress)
    if save_w is not None:
        write_w(save_w, faces.find_w(task.numbers))
        told["w"] = str(save_w)
    return told


def plan_generate(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: GenerateConfig,
    *,
    save_w: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Checks what ``generate`` would be given, and describes what it would do."""
    task = _check(bundle, output, config, save_w, resume, overwrite)
    return {
        **task.bundle.describe(),
        "kind": task.kind,
        "output": str(output),
        **task.extent,
        "config": encode(config),
    }


def _check(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: GenerateConfig,
    save_w: str | os.PathLike[str] | None,
    resume: bool,
    overwrite: bool,
) -> _Task:
    opened = open_bundle(bundle, config.engine)
    manifest = opened.manifest
    latent_conditioning(manifest)
    shape, place = style_shape(manifest), pathlib.Path(output)
    kind = _find_kind(place, config.layout)
    if config.truncated_layers is not None and not 1 <= config.truncated_layers <= shape[0]:
        raise ConfigError(
            f"truncated_layers must be 1 to {shape[0]}, the layers of this bundle; got "
            f"{config.truncated_layers}."
        )
    stored = np.concatenate([read_w(path, shape) for path in config.w]) if config.w else None
    numbers = _find_numbers(config.seeds, "seeds", stored)
    extent = _measure(config.layout, kind, len(numbers), shape[0])
    if isinstance(config.layout, MixingConfig):
        _find_numbers(config.layout.columns, "columns", stored)
    if kind == "picture" and len(numbers) > 1:
        raise ConfigError(
            f"The output {output} is one picture, and {len(numbers)} faces are asked for. Add "
            "--grid for a sheet of all, or name a folder."
        )
    if kind == "folder" and len(set(numbers)) < len(numbers):
        raise ConfigError("seeds names a face twice, and a folder holds each once; name it once.")
    if kind == "walk" and len(numbers) < 2:
        raise ConfigError("A video goes from face to face; name at least two of them.")
    if isinstance(config.layout, Sheet):
        require_grid_room(extent["rows"], extent["columns"], manifest.image_size)
    _check_inputs_stay((place, *([pathlib.Path(save_w)] if save_w else ())), bundle, config.w)
    if kind == "folder":
        check_folder(place, resume=resume, overwrite=overwrite)
    elif resume:
        raise ConfigError(f"One goes on in a folder, but {output} is a file; leave resume out.")
    else:
        check_output(place, overwrite)
    if save_w is not None:
        _check_save_w(pathlib.Path(save_w), place if kind == "folder" else None, resume, overwrite)
    return _Task(kind=kind, bundle=opened, numbers=numbers, stored=stored, extent=extent)


def _find_kind(output: pathlib.Path, layout: Layout) -> str:
    ending = output.suffix.lower()
    if isinstance(layout, WalkConfig):
        if ending not in CONTAINERS:
            raise ConfigError(
                f"The output of a walk must end in {', '.join(CONTAINERS)}, got {output.name!r}."
            )
    elif isinstance(layout, Sheet):
        require_picture_ending(output, "sheet")
    elif ending in WRITTEN_ENDINGS:
        return "picture"
    elif ending in (*PICTURE_ENDINGS, *VIDEO_ENDINGS, ".gif"):
        raise ConfigError(
            f"Pictures are written as {', '.join(WRITTEN_ENDINGS)} or into a folder, and videos as "
            f"{', '.join(CONTAINERS)}; got {output.name!r}."
        )
    else:
        return "folder"
    return layout.KIND


def _find_numbers(text: str | None, name: str, stored: np.ndarray | None) -> tuple[int, ...]:
    if text is None:
        return (0,) if stored is None else tuple(range(len(stored)))
    numbers = parse_numbers(text, name)
    if stored is not None and max(numbers) >= len(stored):
        raise ConfigError(
            f"{name} names {max(numbers)}, and the styles of the files are 0-{len(stored) - 1}."
        )
    return numbers


def _measure(layout: Layout, kind: str, num_faces: int, num_layers: int) -> dict[str, Any]:
    """How much is made, for the result and the plan."""
    if isinstance(layout, WalkConfig):
        return {"frames": num_faces * layout.steps, "fps": layout.fps}
    if isinstance(layout, PicturesConfig):
        return {"pictures": num_faces}
    rows, columns = layout.shape(num_faces)
    size: dict[str, Any] = {"rows": rows, "columns": columns}
    if isinstance(layout, MixingConfig):
        size["layers"] = list(find_layers(layout.layers, num_layers))
    return size


def _check_inputs_stay(
    written: tuple[pathlib.Path, ...], bundle: str | os.PathLike[str], files: tuple[str, ...]
) -> None:
    inputs = {pathlib.Path(file).resolve() for file in files}
    for path in written:
        if path.resolve().is_relative_to(pathlib.Path(bundle).resolve()):
            raise ConfigError(f"{path} lies in the bundle; write to another place.")
        if path.resolve() in inputs:
            raise ConfigError(f"{path} is read itself; write to another place.")


def _check_save_w(
    path: pathlib.Path, folder: pathlib.Path | None, resume: bool, overwrite: bool
) -> None:
    if path.suffix.lower() != ".npz":
        raise ConfigError(f"The file of styles must end in .npz, got {path.name!r}.")
    # The folder of pictures was checked, and need not be there yet.
    if folder is None or path.parent.resolve() != folder.resolve():
        check_output(path, overwrite or resume)


def _write_folder(
    faces: Faces,
    task: _Task,
    config: GenerateConfig,
    output: pathlib.Path,
    resume: bool,
    progress: ProgressFactory,
) -> int:
    """Writes the pictures that are not there yet; returns how many."""
    word = "seed" if task.stored is None else "w"
    names = {number: output / f"{word}{number:06d}.png" for number in task.numbers}
    earlier = []
    if (output / SETTINGS_NAME).is_file():
        # Others than are asked for now, too: a later call may ask for them.
        earlier = [p for p in output.iterdir() if re.fullmatch(r"(seed|w)\d{6,10}\.png", p.name)]
    settings = encode_settings(config)
    # More of the same may be made later, and from files that were moved.
    del settings["seeds"], settings["w"]
    made = {
        "bundle": task.manifest.fingerprint(),
        "config": settings,
        "w": [identify_file(path) for path in config.w],
    }
    replaced = [*names.values(), *earlier]
    open_folder(output, SETTINGS_NAME, made, resume=resume, replaced=replaced)
    missing = [number for number in task.numbers if not names[number].is_file()]
    done = len(names) - len(missing)
    with progress("Generate") as report:
        report(done, len(names), "picture")
        for start in range(0, len(missing), BATCH_SIZE):
            batch = missing[start : start + BATCH_SIZE]
            for number, image in zip(batch, faces.paint(faces.find_w(batch)), strict=True):
                write_picture(names[number], image)
                done += 1
                report(done, len(names), "picture")
    return len(missing)


def _write_sheet(
    faces: Faces,
    sheet: Sheet,
    numbers: tuple[int, ...],
    output: pathlib.Path,
    progress: ProgressFactory,
) -> None:
    rows: list[list[np.ndarray]] = []
    total, _ = sheet.shape(len(numbers))
    with progress("Generate") as report:
        report(0, total, "row")
        for w in sheet.rows(faces, numbers):
            rows.append(list(faces.paint(w)))
            report(len(rows), total, "row")
    if isinstance(sheet, MixingConfig):
        rows[0].insert(0, np.full_like(rows[0][0], 255))
    write_picture(output, make_grid(rows))
