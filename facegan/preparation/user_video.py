"""Videos of people: which there are, and finding the faces in all of them.

    <folder>/*.mp4            one person, who has no name
    <folder>/anna/**/*.mp4    the person "anna"

Finding faces takes most of the time that videos need, and each video is a work of its own: any
number of processes or machines leave what they found in the work folder, where
``face_clips.open_face_clips`` then finds it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from facegan.config import encode
from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.analysis import next_index
from facegan.preparation.face_clips import (
    FaceClipConfig,
    ShortClipError,
    find_faces,
    locate_store,
)
from facegan.preparation.file_names import VIDEO_ENDINGS
from facegan.preparation.items import Item, LeftOut, Outcome, Rejected
from facegan.preparation.parts import PartFolder, cut_parts
from facegan.preparation.sources import FolderSource
from facegan.preparation.workers import WorkersConfig, run_parts
from facegan.progress import ProgressFactory, no_progress

# A folder, the videos of one person, or each person's videos.
VideoSource = (
    str
    | os.PathLike[str]
    | Sequence[str | os.PathLike[str]]
    | Mapping[str, Sequence[str | os.PathLike[str]]]
)

_ITEMS_PER_PART = 1


@dataclasses.dataclass(frozen=True, slots=True)
class PersonVideo:
    """A video of a person.

    Attributes:
        path: The file.
        person: Who is seen, "" where nothing names them.
        file: What reports call it: its name below the folder that was listed.
    """

    path: str
    person: str
    file: str


@dataclasses.dataclass(frozen=True, slots=True)
class VideoList:
    """Videos of people.

    Attributes:
        videos: In an order that does not change.
        folder: Where they were found, None where each was named.
        refused: What the folder holds and nobody may take.
    """

    videos: tuple[PersonVideo, ...]
    folder: str | None = None
    refused: tuple[LeftOut, ...] = ()

    @property
    def tolerant(self) -> bool:
        """Whether a video that cannot be used is left out; where it was meant, it is an error."""
        return self.folder is not None and len(self.videos) > 1


def list_videos(source: VideoSource) -> VideoList:
    """Finds the videos.

    Args:
        source: A folder, in which each sub-folder holds one person's videos, and videos beside
            them are of one more; or the videos of one person; or each person's videos.

    Raises:
        DataError: The folder is not there or holds no video.
        ConfigError: The lists are empty, or something else.
    """
    if isinstance(source, str | os.PathLike):
        return _list_folder(os.fspath(source))
    if not isinstance(source, Mapping):
        return VideoList(_of_one("", source))
    return VideoList(
        tuple(video for person, paths in source.items() for video in _of_one(person, paths))
    )


def _of_one(person: Any, paths: Any) -> tuple[PersonVideo, ...]:
    whose = f"the videos of {person!r}" if person else "the videos"
    if not isinstance(person, str):
        raise ConfigError(f"The name of a person must be a text, got {person!r}.")
    if isinstance(paths, str | os.PathLike) or not isinstance(paths, Sequence):
        raise ConfigError(f"Name {whose} as a list of files, got {paths!r}.")
    if not paths:
        raise ConfigError(f"Name at least one file in {whose}, got none.")
    return tuple(PersonVideo(os.fspath(path), person, pathlib.Path(path).name) for path in paths)


def _list_folder(folder: str) -> VideoList:
    if not os.path.isdir(folder):
        what = "is a file" if os.path.exists(folder) else "does not exist"
        raise DataError(
            f"{folder} {what}; name a folder of videos, unpacked, or the videos in a list."
        )
    source = FolderSource(folder)
    videos = []
    for entry in source.list_files():
        if entry.name.lower().endswith(VIDEO_ENDINGS):
            person, _, below = entry.name.partition("/")
            videos.append(
                PersonVideo(os.path.join(folder, entry.name), person if below else "", entry.name)
            )
    if not videos:
        refused = "".join(f" {left.file}: {left.detail}" for left in source.refused[:1])
        raise DataError(
            f"{folder} holds no video; allowed endings: {', '.join(VIDEO_ENDINGS)}.{refused}"
        )
    return VideoList(tuple(videos), folder, tuple(source.refused))


@dataclasses.dataclass(frozen=True, slots=True)
class FindFaces:
    """Finds the faces of one video and leaves them in the work folder; makes no record.

    Attributes:
        config: Detector and tracker.
        work_dir: The folder, which every process sees.
    """

    config: FaceClipConfig
    work_dir: str

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides which faces are found, and whether the clip may be used."""
        return {
            "dataset": "user_video",
            "detector": encode(self.config.detector),
            "tracker": encode(self.config.tracker),
            "allow_damaged": self.config.allow_damaged,
        }

    def __call__(self, item: Item) -> Outcome:
        """Looks at every frame of one video."""
        (path,) = item.files
        try:
            found = find_faces(path, self.config, self.work_dir)
        except VideoError as error:
            raise Rejected(reason_of(error), str(error)) from error
        return Outcome(counts={"frames": found.store.num_frames})


def reason_of(error: Rejected | VideoError) -> str:
    """Why a video cannot be used, as ``LeftOut.reason`` has it."""
    if isinstance(error, Rejected):
        return error.reason
    return "damaged" if isinstance(error, ShortClipError) else "unreadable"


def find_all_faces(
    videos: Sequence[PersonVideo],
    config: FaceClipConfig,
    work_dir: str | os.PathLike[str],
    workers: WorkersConfig,
    progress: ProgressFactory = no_progress,
) -> dict[str, LeftOut]:
    """Finds the faces of many videos, each in whatever process is free.

    A video that takes longer than the workers' time limit is gone on with as long as every turn
    gets further: an hour of video is not a video that hangs.

    Args:
        videos: The videos.
        config: Detector and tracker.
        work_dir: Where the faces are kept, for ``open_face_clips``.
        workers: Who works.
        progress: Told the videos done.

    Returns:
        The videos that cannot be used, by path.

    Raises:
        DataError: The work folder cannot be written, or the detector is not there.
    """
    work = FindFaces(config, os.path.abspath(work_dir))
    folder = PartFolder(os.path.join(work.work_dir, "parts"))
    failed: dict[str, LeftOut] = {}
    stores: dict[str, tuple[pathlib.Path, str]] = {}
    items: dict[str, Item] = {}
    for video in videos:
        path = os.path.abspath(video.path)
        try:
            stores[path] = locate_store(path, config, work.work_dir)
        except VideoError as error:
            failed[path] = LeftOut(video.file, "unreadable", str(error))
            continue
        key = stores[path][0].name
        # Copies of a video share what is found in it, so one of them is worked on.
        items.setdefault(key, Item(key, (path,), (os.path.getsize(path),)))
    waiting = list(items.values())
    outcomes: dict[str, LeftOut] = {}
    while waiting:
        begun = {item.key: next_index(*stores[item.files[0]]) for item in waiting}
        parts = cut_parts({"all": waiting}, work.fingerprint(), _ITEMS_PER_PART)
        run_parts(parts, folder, work, workers, progress, label="Find faces")
        outcomes.update(
            (item.key, left)
            for part in parts
            for item in part.items
            for left in folder.read_summary(part.name).left_out
        )
        # The faces stand in their own files; what failed is tried again by the next build.
        folder.remove(part.name for part in parts)
        waiting = [
            item
            for item in waiting
            if item.key in outcomes
            and outcomes[item.key].reason == "too_slow"
            and next_index(*stores[item.files[0]]) > begun[item.key]
        ]
        for item in waiting:
            del outcomes[item.key]
    return {
        video.path: dataclasses.replace(left, file=video.file)
        for video in videos
        if (left := _find_failure(os.path.abspath(video.path), failed, stores, outcomes))
    }


def _find_failure(
    path: str,
    failed: Mapping[str, LeftOut],
    stores: Mapping[str, tuple[pathlib.Path, str]],
    outcomes: Mapping[str, LeftOut],
) -> LeftOut | None:
    left = failed.get(path) or outcomes.get(stores[path][0].name)
    if left is not None and left.reason == "unusable":
        # No fault of the video: a full disk, a detector that is not installed.
        raise DataError(left.detail)
    return left
