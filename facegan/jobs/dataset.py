"""Builds a dataset as one call, whichever it is."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from facegan import config as config_lib
from facegan.datasets.user_video.user_video_dataset_builder import (
    UserVideoConfig,
    build_user_video,
)
from facegan.errors import ConfigError
from facegan.progress import ProgressFactory, no_progress
from facegan.video.reader import probe_clip


def build_dataset(
    videos: Sequence[str | os.PathLike[str]],
    config: UserVideoConfig,
    data_dir: str | os.PathLike[str],
    *,
    work_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Makes a dataset of a person's videos in a folder of its own.

    Args:
        videos: Video files of one person.
        config: What becomes of them.
        data_dir: Folder of the dataset.
        work_dir: Where found faces are kept; by default inside ``data_dir``.
        resume: Use a folder that is not empty: a build that was stopped goes on, a finished one is
            found again, and other datasets in it stay.
        overwrite: Make this dataset again where it is there.
        progress: Shows the progress.

    Returns:
        ``dataset_dir``, ``splits`` (records by split), ``left_out`` (frames by reason), ``report``.

    Raises:
        FaceganError: A video, a setting or the folder cannot be used.
    """
    check_data_dir(data_dir, resume or overwrite)
    for video in videos:
        probe_clip(video)  # all of them, before the first is searched for minutes
    return build_user_video(
        videos, config, data_dir, work_dir=work_dir, overwrite=overwrite, progress=progress
    )


def plan_dataset(
    videos: Sequence[str | os.PathLike[str]],
    config: UserVideoConfig,
    data_dir: str | os.PathLike[str],
    *,
    allow_occupied: bool = False,
) -> dict[str, Any]:
    """Checks what ``build_dataset`` would be given, and describes what it would take."""
    check_data_dir(data_dir, allow_occupied)
    clips = [probe_clip(video) for video in videos]
    return {
        "videos": [
            {
                "file": str(clip.path),
                "frames": clip.num_frames,
                "fps": float(clip.frame_rate),
                "width": clip.width,
                "height": clip.height,
            }
            for clip in clips
        ],
        "data_dir": str(data_dir),
        "config": config_lib.encode(config),
    }


def check_data_dir(data_dir: str | os.PathLike[str], allow_occupied: bool) -> None:
    """Raises ConfigError unless a folder can take a dataset."""
    folder = pathlib.Path(data_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"The dataset folder {folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not allow_occupied:
        raise ConfigError(
            f"The dataset folder {folder} is not empty. Add --resume to go on in it, --overwrite "
            "to make the dataset again, or name another."
        )
