"""What jobs that make pictures write: single files, grids, videos, and folders that can go on."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from facegan.config import read_json, write_json
from facegan.errors import ConfigError, DataError
from facegan.image import write_image
from facegan.progress import ProgressFactory
from facegan.video.writer import VideoWriter

WRITTEN_ENDINGS = (".png", ".jpg", ".jpeg")
GRID_GAP_PX = 2
# JPEG has no more, and decoders of PNG hardly take it.
_MAX_SIDE_PX = 65500
# Three bytes of each must fit into the 2 GiB that an encoder is given at once.
_MAX_PIXELS = 700_000_000


def require_picture_ending(output: pathlib.Path, what: str) -> None:
    """Raises ConfigError unless the ending names a format that pictures are written in."""
    if output.suffix.lower() not in WRITTEN_ENDINGS:
        raise ConfigError(
            f"The output of a {what} must end in {', '.join(WRITTEN_ENDINGS)}, got {output.name!r}."
        )


def require_grid_room(rows: int, columns: int, size_px: int) -> None:
    """Raises ConfigError if so many squares, laid out by ``make_grid``, fit into no file."""
    height, width = (count * (size_px + GRID_GAP_PX) - GRID_GAP_PX for count in (rows, columns))
    if max(height, width) > _MAX_SIDE_PX or height * width > _MAX_PIXELS:
        raise ConfigError(
            f"A grid of {rows} x {columns} pictures of {size_px} px would have {height} x {width} "
            f"px; a file has at most {_MAX_SIDE_PX} on a side and {_MAX_PIXELS // 1_000_000} "
            "million in all. Take fewer."
        )


def check_folder(output: pathlib.Path, *, resume: bool, overwrite: bool) -> None:
    """Raises ConfigError unless pictures can go into a folder; nothing is made yet."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"The output {output} is a file; several pictures need a folder.")
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other; give one of them.")
    if output.is_dir() and any(output.iterdir()) and not (resume or overwrite):
        raise ConfigError(
            f"The output folder {output} is not empty. Add --resume to go on in it, --overwrite to "
            "make the pictures again, or name another."
        )


def open_folder(
    output: pathlib.Path,
    settings_name: str,
    made: Mapping[str, Any],
    *,
    resume: bool,
    replaced: Iterable[pathlib.Path],
) -> None:
    """Makes a folder of pictures, or finds that what is in it was made in the same way.

    Args:
        output: The folder.
        settings_name: The file in it that says how its pictures were made.
        made: What that file holds.
        resume: Keep the pictures that are there.
        replaced: Pictures that are removed, unless they are kept: whoever goes on after a kill
            then finds none of other settings.

    Raises:
        ConfigError: Pictures are to be kept that were made in another way.
        DataError: The folder cannot be made, or a picture not be removed.
    """
    record = output / settings_name
    if resume and record.is_file() and read_json(record) != made:
        raise ConfigError(
            f"The pictures in {output} were made by another bundle or with other settings "
            f"({settings_name} has them). Use the same, add --overwrite to make them again, or "
            "name another folder."
        )
    if resume and not record.is_file() and output.is_dir() and any(output.iterdir()):
        raise ConfigError(
            f"The output folder {output} holds files but no {settings_name}, so they are not of an "
            "earlier call; name another folder."
        )
    _make_folder(output)
    if not resume:
        for path in replaced:
            _remove(path)
    write_json(record, dict(made))


def write_picture(path: pathlib.Path, image: np.ndarray) -> None:
    """Writes an [H, W, 3] uint8 picture whole or not at all, with the folders above it."""
    _make_folder(path.parent)
    write_image(path, image)


def write_video(
    output: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    *,
    count: int,
    height_px: int,
    width_px: int,
    fps: int,
    overwrite: bool,
    progress: ProgressFactory,
) -> None:
    """Writes frames as they are made.

    Args:
        output: The file; its ending names the container.
        frames: [height_px, width_px, 3] uint8 each.
        count: How many come, for the progress.
        height_px: Height of them all.
        width_px: Width of them all.
        fps: Frames a second.
        overwrite: Replace a file that is there.
        progress: Opens the progress of the stage "Render".

    Raises:
        VideoError: The file cannot be written; nothing is left of it.
    """
    with (
        VideoWriter(
            output,
            width=width_px,
            height=height_px,
            frame_rate=fps,
            time_base=Fraction(1, fps),
            overwrite=overwrite,
        ) as writer,
        progress("Render") as report,
    ):
        report(0, count, "frame")
        for number, frame in enumerate(frames):
            writer.write(frame, number)
            report(number + 1, count, "frame")


def _make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make {path}: {error.strerror or error}.") from error


def _remove(path: pathlib.Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"Cannot remove {path}: {error.strerror or error}.") from error
