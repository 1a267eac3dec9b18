"""Builds and checks a dataset as one call, whichever it is."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from facegan import config as config_lib
from facegan.datasets import BUILDERS
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.storage import quiet_tfds
from facegan.datasets.user_video.user_video_dataset_builder import (
    UserVideoConfig,
    build_user_video,
)
from facegan.errors import ConfigError
from facegan.preparation.celebamask_hq import CelebAMaskHQConfig
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.items import count_reasons
from facegan.preparation.sources import open_source
from facegan.preparation.user_video import list_videos
from facegan.preparation.voxceleb import VoxCelebConfig
from facegan.preparation.workers import WorkersConfig
from facegan.progress import ProgressFactory, no_progress
from facegan.video.reader import probe_clip

# What becomes of the files, by dataset.
SETTINGS: Mapping[str, type] = {
    cls.KIND: cls
    for cls in (UserVideoConfig, CelebAMaskHQConfig, VoxCelebConfig, ImageFolderConfig)
}


def build_dataset(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    config: Any,
    data_dir: str | os.PathLike[str],
    *,
    work_dir: str | os.PathLike[str] | None = None,
    workers: WorkersConfig | None = None,
    keep_work: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Makes a dataset in a folder of its own.

    Args:
        source: Folder or zip file of the raw files; for ``user_video`` also a list of videos of
            one person.
        config: What becomes of them, an instance of one of ``SETTINGS``, which says what dataset
            it is.
        data_dir: Folder of the dataset.
        work_dir: Where half-finished work is kept; by default inside ``data_dir``. With Beam on
            several machines, a folder that all of them see.
        workers: Who does the work.
        keep_work: Keep the work folder's parts when the dataset is complete.
        resume: Use a folder that is not empty: a build that was stopped goes on, a finished one is
            found again, and other datasets in it stay.
        overwrite: Make this dataset again where it is there.
        progress: Shows the progress.

    Returns:
        ``dataset_dir``, ``splits`` (records by split), ``left_out`` (files, or frames of a
        person's videos, by reason), ``report``.

    Raises:
        FaceganError: A file, a setting or the folder cannot be used.
    """
    from facegan.render.engine import load_engine

    check_data_dir(data_dir, resume or overwrite)
    if isinstance(config, UserVideoConfig):
        if not isinstance(source, str | os.PathLike):
            for video in source:
                probe_clip(video)  # all of them, before the first is searched for minutes
        return build_user_video(
            source,
            config,
            data_dir,
            work_dir=work_dir,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
            load_engine=load_engine,
        )
    open_source(_one_source(source))  # before a folder is made for nothing
    cls = BUILDERS[config.KIND]
    with quiet_tfds():
        builder = cls(
            data_dir=data_dir,
            config=find_config(cls, config),
            source=_one_source(source),
            work_dir=work_dir,
            workers=workers,
            keep_work=keep_work,
            progress=progress,
            load_engine=load_engine,
        )
    return prepare_items(builder, overwrite=overwrite)


def plan_dataset(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    config: Any,
    data_dir: str | os.PathLike[str],
    *,
    allow_occupied: bool = False,
) -> dict[str, Any]:
    """Checks what ``build_dataset`` would be given, and describes what it would take."""
    check_data_dir(data_dir, allow_occupied)
    plan: dict[str, Any] = {"data_dir": str(data_dir), "config": config_lib.encode(config)}
    if isinstance(config, UserVideoConfig) and not isinstance(source, str | os.PathLike):
        clips = [probe_clip(video) for video in source]
        plan["videos"] = [
            {
                "file": str(clip.path),
                "frames": clip.num_frames,
                "fps": float(clip.frame_rate),
                "width": clip.width,
                "height": clip.height,
            }
            for clip in clips
        ]
        return plan
    if isinstance(config, UserVideoConfig):
        listed = list_videos(source)
        people: dict[str, int] = {}
        for video in listed.videos:
            people[video.person] = people.get(video.person, 0) + 1
        refused = [f"{entry.file}: {entry.detail}" for entry in listed.refused]
        return {**plan, "videos_by_person": people, "refused": refused}
    cls = BUILDERS[config.KIND]
    with quiet_tfds():
        builder = cls(data_dir=data_dir, config=find_config(cls, config))
    opened = open_source(_one_source(source))
    listing = builder.list_items(opened)
    return {
        **plan,
        "source": opened.describe(),
        "items": {split: len(items) for split, items in listing.splits.items()},
        "left_out": count_reasons(listing.left_out),
        **listing.facts,
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


def _one_source(source: Any) -> str:
    if not isinstance(source, str | os.PathLike):
        raise ConfigError("This dataset is made of one folder or zip file, not of a list of files.")
    return os.fspath(source)
