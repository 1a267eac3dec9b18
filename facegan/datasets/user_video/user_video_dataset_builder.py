"""Frames of people's own videos, with landmarks.

One person's videos are what a model of one face is trained on; a folder with a sub-folder for each
person makes a dataset of many, and ``clip.select="all"`` takes every face of a video.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facegan.config import encode, require_power_of_two, write_json
from facegan.datasets.builder import ItemsBuilderConfig, list_configs
from facegan.datasets.storage import (
    REPORT_NAME,
    list_left_out,
    manual_folder,
    prepare_dataset,
    quiet_tfds,
    read_report,
)
from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.conditioning import (
    FIT_FACES,
    LabelMapConditioner,
    LabelMapConditioningConfig,
    LoadEngine,
)
from facegan.face.labels import CELEBAMASK19
from facegan.face.landmarks import NUM_LANDMARKS, FaceDetector, resize_landmarks
from facegan.face.parsing import ParserConfig
from facegan.face.retarget import fit_geometry
from facegan.image import encode_labels, encode_picture, resize
from facegan.preparation.face_clips import (
    FaceClip,
    FaceClipConfig,
    FaceCrop,
    choose_evenly,
    fingerprint,
    open_face_clips,
    read_crops,
    sharpness,
)
from facegan.preparation.items import LeftOut, Rejected, count_reasons, tell_commonest
from facegan.preparation.user_video import (
    PersonVideo,
    VideoList,
    VideoSource,
    find_all_faces,
    list_videos,
    reason_of,
)
from facegan.preparation.workers import WorkersConfig
from facegan.progress import ProgressFactory, no_progress

GEOMETRY_NAME = "geometry.json"
_SIZES = (64, 128, 256, 512, 1024)

# Landmarks of a face at the edge of the frame may lie this far outside, in crop sides: the jaw of
# a close-up does, and the rest of the picture is as good as any.
_REACH = 0.05

# A face that is open holds a file open, of which a process may have a thousand.
_MOST_OPEN = 32


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UserVideoConfig:
    """What becomes of the videos.

    ``size`` is that of the stored crops; twice the size of training keeps augmented pictures
    sharper. ``max_frames`` counts for each person, over all their videos, faces and splits; None
    takes all. ``holdout`` is the last part of each video, kept for the split ``test``. With a
    ``parser`` records also hold a map of the face's regions, in CelebAMask-HQ's labels.
    """

    KIND: ClassVar[str] = "user_video"

    size: int = 256
    max_frames: int | None = 1000
    holdout: float = 0.0
    clip: FaceClipConfig = dataclasses.field(default_factory=FaceClipConfig)
    parser: ParserConfig | None = None

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"max_frames must be at least 1, got {self.max_frames}.")
        if not 0 <= self.holdout < 1:
            raise ConfigError(
                f"holdout must be in [0, 1), got {self.holdout}; 0.2 holds the last fifth out."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _Face:
    """A face of a video that is taken.

    Attributes:
        video: The video.
        place: Which of the video's chosen faces it is.
        clip: What is known of it, without landmarks; ``_Faces.open`` has them.
        inside: [N] bool, the frames that hold the whole face.
    """

    video: PersonVideo
    place: int
    clip: FaceClip
    inside: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class _Selection:
    """The frames of one face that are stored, by split, and those that are not, by reason."""

    face: _Face
    train_frames: int  # frames before the held-out part
    chosen: dict[str, np.ndarray]
    left_out: dict[str, np.ndarray]


class _Faces:
    """Opens the faces of videos, and keeps those open that were used last."""

    def __init__(self, load: Callable[[str], tuple[FaceClip, ...]]) -> None:
        self._load = functools.lru_cache(_MOST_OPEN)(load)

    def of_video(self, video: PersonVideo) -> list[_Face]:
        """The chosen faces of a video."""
        return [
            _Face(
                video,
                place,
                dataclasses.replace(clip, landmarks_xy_px=clip.landmarks_xy_px[:0].copy()),
                clip.inside_frame(_REACH),
            )
            for place, clip in enumerate(self._load(video.path))
        ]

    def open(self, face: _Face) -> FaceClip:
        """A face with its landmarks."""
        clips = self._load(face.video.path)
        if face.place >= len(clips) or len(clips[face.place]) != len(face.clip):
            raise VideoError(f"{face.video.path} was changed while it was being used.")
        return clips[face.place]


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of ``user_video``.

    Args:
        data_dir: Root of TFDS' datasets.
        config: One of ``BUILDER_CONFIGS`` by name, or an ``ItemsBuilderConfig``.
        version: As TFDS has it.
        videos: Video files of one person, or lists of them by person, or a folder; without them
            the manual folder is taken.
        work_dir: Where found faces are kept; by default beside the dataset. With Beam on several
            machines, a folder that all of them see.
        workers: Who searches the videos for faces; None does it in this process.
        detector: Used instead of the one that the config names, in this process only.
        progress: Told how far the stages are.
        load_engine: Loads the bundle of a face parser, where the config names one.
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES = {
        "1.0.0": "First version.",
        "1.1.0": "Several people, and several faces in a video; records name the person.",
        "1.2.0": "Label maps, on request.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the videos of one person (.mp4, .mov, .mkv, .webm, .avi or .m4v) into the folder, or "
        "those of several people into a sub-folder each, which names the person."
    )
    BUILDER_CONFIGS = list_configs(
        {f"{size}px": UserVideoConfig(size=size) for size in _SIZES}, "Crops of faces"
    )
    DEFAULT_BUILDER_CONFIG_NAME = "256px"

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        config: str | ItemsBuilderConfig | None = None,
        version: Any = None,
        videos: VideoSource = (),
        work_dir: str | os.PathLike[str] | None = None,
        workers: WorkersConfig | None = None,
        detector: FaceDetector | None = None,
        progress: ProgressFactory = no_progress,
        load_engine: LoadEngine | None = None,
    ):
        self._videos = _as_plain_values(videos)
        self._work_dir = None if work_dir is None else os.fspath(work_dir)
        # Without processes of its own the work is done here, where it is needed.
        here = workers is None or not (workers.processes or workers.beam_options)
        self._workers = None if here else workers
        if self._workers is not None and detector is not None:
            raise ConfigError(
                "A detector object works in this process only, got workers with processes of their "
                "own as well; name the detector in the settings, or leave workers out."
            )
        self._detector, self._progress, self._load_engine = detector, progress, load_engine
        super().__init__(data_dir=data_dir, config=config, version=version)
        # TFDS makes a builder again from these when it is unpickled.
        self._original_state.update(
            videos=self._videos,
            work_dir=self._work_dir,
            workers=workers,
            detector=detector,
            progress=progress,
            load_engine=load_engine,
        )

    @property
    def settings(self) -> UserVideoConfig:
        """What becomes of the videos."""
        return self.builder_config.settings

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.settings.size
        labels = {}
        if self.settings.parser is not None:
            labels["label_map"] = tfds.features.LabeledImage(
                labels=list(CELEBAMASK19.labels), shape=(size, size, 1), encoding_format="png"
            )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **labels,
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "landmarks_xy_px": tfds.features.Tensor(
                        shape=(NUM_LANDMARKS, 2), dtype=np.float32
                    ),
                    "frame_index": np.int64,
                    "pts": np.int64,
                    "time_s": np.float32,
                    "person": tfds.features.Text(),
                    "clip": tfds.features.Text(),
                    "track": np.int64,
                }
            ),
            supervised_keys=None,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        listing = list_videos(self._videos or manual_folder(dl_manager))
        work_dir = self._work_dir or pathlib.Path(self._data_dir_root) / f".{self.name}_work"
        opener = _Faces(
            functools.partial(
                open_face_clips,
                config=self.settings.clip,
                work_dir=work_dir,
                detector=self._detector,
                progress=self._progress,
            )
        )
        faces, left_out = self._find_faces(listing, work_dir, opener)
        selections = _select_frames(faces, opener, self.settings, self._progress)
        report = _describe(selections, self.settings)
        if listing.folder is not None:
            report |= _describe_left_out([*listing.refused, *left_out])
        # TFDS points data_path to the temporary folder now, so these appear with the records.
        folder = pathlib.Path(self.data_path)
        write_json(folder / REPORT_NAME, report)
        # A geometry is one face's, and nobody knows whether two faces are of one person.
        people = {face.video.person for face in faces}
        if len(people) == 1 and not any(face.place for face in faces):
            geometry = _fit_geometry(selections, opener, self.settings.size)
            write_json(folder / GEOMETRY_NAME, geometry)
        return {
            split: self._generate_examples(selections, opener, split)
            for split in _splits(self.settings.holdout)
        }

    def _find_faces(
        self, listing: VideoList, work_dir: str | os.PathLike[str], opener: _Faces
    ) -> tuple[list[_Face], list[LeftOut]]:
        """The faces of all videos, and the videos without."""
        failed: Mapping[str, LeftOut] = {}
        if self._workers is not None:
            failed = find_all_faces(
                listing.videos, self.settings.clip, work_dir, self._workers, self._progress
            )
        faces: list[_Face] = []
        left_out: list[LeftOut] = []
        for video in listing.videos:
            if video.path in failed:
                if not listing.tolerant:
                    raise _as_error(failed[video.path])
                left_out.append(failed[video.path])
                continue
            try:
                faces.extend(opener.of_video(video))
            except (Rejected, VideoError) as error:
                if not listing.tolerant:
                    raise
                detail = " ".join(str(error).split())
                left_out.append(LeftOut(video.file, reason_of(error), detail))
        if not faces:
            raise DataError(
                f"None of the {len(listing.videos)} videos of {listing.folder} can be used: "
                f"{tell_commonest(left_out, what='')}"
            )
        return faces, left_out

    def _generate_examples(
        self, selections: Sequence[_Selection], opener: _Faces, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        total = sum(len(selection.chosen[split]) for selection in selections)
        done = 0
        with self._progress(f"Write {split} frames") as callback:
            callback(0, total, "frame")
            for number, selection in enumerate(selections):
                if not len(selection.chosen[split]):
                    continue
                clip = opener.open(selection.face)
                for crop, labels in self._read_crops(clip, selection, split):
                    yield (
                        f"{number:04d}-{crop.index:08d}",
                        {
                            **labels,
                            "image": encode_picture(crop.image),
                            "landmarks_xy_px": crop.landmarks_xy_px,
                            "frame_index": crop.index,
                            "pts": crop.pts,
                            "time_s": crop.time_s,
                            "person": selection.face.video.person,
                            "clip": clip.name,
                            "track": clip.track,
                        },
                    )
                    done += 1
                    callback(done, total, "frame")

    def _read_crops(
        self, clip: FaceClip, selection: _Selection, split: str
    ) -> Iterator[tuple[FaceCrop, dict[str, bytes]]]:
        """The crops of a face, with their label maps where these are asked for."""
        settings, chosen = self.settings, selection.chosen[split]
        if settings.parser is None:
            for crop in read_crops(clip, chosen, settings.size):
                yield crop, {}
            return
        config = LabelMapConditioningConfig(size=settings.size, parser=settings.parser)
        conditioner = LabelMapConditioner(config, self._load_engine)
        size = conditioner.crop_size
        # What is held out teaches nothing, not even colours.
        looked_at = choose_evenly(selection.chosen["train"], FIT_FACES)
        faces = list(read_crops(clip, looked_at if len(looked_at) else chosen[:1], size))
        conditioner.fit([face.image for face in faces], [face.landmarks_xy_px for face in faces])
        for crop in read_crops(clip, chosen, size):
            label_map = conditioner(crop.landmarks_xy_px, crop.image)["label_map"]
            landmarks = resize_landmarks(
                crop.landmarks_xy_px, (size, size), (settings.size, settings.size)
            )
            image = resize(crop.image, settings.size, settings.size)
            crop = dataclasses.replace(crop, image=image, landmarks_xy_px=landmarks)
            yield crop, {"label_map": encode_labels(label_map)}


def build_user_video(
    videos: VideoSource,
    config: UserVideoConfig,
    data_dir: str | os.PathLike[str],
    *,
    work_dir: str | os.PathLike[str] | None = None,
    workers: WorkersConfig | None = None,
    overwrite: bool = False,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
    load_engine: LoadEngine | None = None,
) -> dict[str, Any]:
    """Makes a dataset of videos, or finds the one that was made of them before.

    The dataset's folder carries a name made of the settings and the videos' content: other videos
    or settings never meet old records.

    A video that was named and cannot be used is an error. Of several in a folder it is left out,
    and the report says why.

    Args:
        videos: Video files of one person; or lists of them by person; or a folder, in which each
            sub-folder holds one person's videos.
        config: What becomes of them.
        data_dir: Root of TFDS' datasets.
        work_dir: Where found faces are kept, so that a stopped call is picked up; by default
            below ``data_dir``. With Beam on several machines, a folder that all of them see.
        workers: Who searches the videos for faces; None does it in this process.
        overwrite: Make the dataset again where it is there.
        detector: Used instead of the one that the config names, in this process only.
        progress: Told how far the stages are.
        load_engine: Loads the bundle of a face parser, where the config names one.

    Returns:
        ``dataset_dir``, ``splits`` (records by split), ``left_out`` (frames, and videos of a
        folder, by reason) and ``report`` (the path of the report).

    Raises:
        VideoError: A file is not a video that can be used.
        DataError: No frame can be used, or the disk cannot be written.
        ConfigError: No video is named, or both a detector and workers.

    Example:
        >>> build_user_video(  # doctest: +SKIP
        ...     ["hopper.mp4"], UserVideoConfig(size=128, holdout=0.2), "data")["splits"]
        {'train': 200, 'test': 50}
    """
    if not isinstance(videos, os.PathLike) and not videos:
        raise ConfigError("build_user_video needs at least one video, got none.")
    digest = hashlib.sha256(str(encode(config)).encode())
    listing = list_videos(videos)
    for video in listing.videos:
        digest.update(_identify(video, listing.tolerant).encode())
    with quiet_tfds():
        builder = Builder(
            data_dir=data_dir,
            config=ItemsBuilderConfig(
                name=f"{config.size}px_{digest.hexdigest()[:12]}",
                description=f"Crops of {config.size}x{config.size} pixels of chosen videos.",
                settings=config,
            ),
            videos=videos,
            work_dir=work_dir,
            workers=workers,
            detector=detector,
            progress=progress,
            load_engine=load_engine,
        )
    folder = prepare_dataset(builder, overwrite=overwrite)
    report = read_report(folder)
    left_out: dict[str, int] = {}
    for part in (report, *report["clips"]):
        for reason, entry in part.get("left_out", {}).items():
            left_out[reason] = left_out.get(reason, 0) + entry["count"]
    return {
        "dataset_dir": str(folder),
        "splits": report["splits"],
        "left_out": left_out,
        "report": str(folder / REPORT_NAME),
    }


def _as_plain_values(videos: VideoSource) -> Any:
    if isinstance(videos, str | os.PathLike):
        return os.fspath(videos)
    if isinstance(videos, Mapping):
        return dict(videos)
    return tuple(os.fspath(video) for video in videos)


def _identify(video: PersonVideo, tolerant: bool) -> str:
    """Names a video's content and whose it is."""
    facts = {"name": pathlib.Path(video.path).stem}
    if video.person:
        facts["person"] = video.person
    try:
        return fingerprint(video.path, facts)
    except VideoError:
        if not tolerant:
            raise
        return f"unreadable {video.file}"


def _as_error(left: LeftOut) -> DataError | VideoError:
    """The error that another process met."""
    detail = left.detail if left.file in left.detail else f"{left.file}: {left.detail}"
    if left.reason in ("unreadable", "damaged"):
        return VideoError(detail)
    return Rejected(left.reason, detail)


def _splits(holdout: float) -> tuple[str, ...]:
    return ("train", "test") if holdout > 0 else ("train",)


def _select_frames(
    faces: Sequence[_Face], opener: _Faces, config: UserVideoConfig, progress: ProgressFactory
) -> list[_Selection]:
    """Decides for every frame of every face whether it is stored, and where."""
    selections = []
    for face, mine in zip(faces, _choose_frames(faces, config.max_frames), strict=True):
        found = face.clip.found
        boundary = max(1, round(len(found) * (1 - config.holdout)))
        train, test = mine[mine < boundary], mine[mine >= boundary]
        # Held-out frames are judged by, so blurred ones stay among them.
        sharp = train[_are_sharp(face, opener, train, config, progress)]
        usable = np.flatnonzero(face.inside)
        selections.append(
            _Selection(
                face=face,
                train_frames=boundary,
                chosen={"train": sharp, "test": test},
                left_out={
                    "no_face": np.flatnonzero(~found),
                    "face_outside_frame": np.flatnonzero(found & ~face.inside),
                    "blurred": np.setdiff1d(train, sharp),
                    "not_chosen": np.setdiff1d(usable, mine),
                },
            )
        )
    for split in _splits(config.holdout):
        if not any(len(selection.chosen[split]) for selection in selections):
            names = [face.video.path for face in faces]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise DataError(
                f"No frame is left for the split {split!r} of {', '.join(names[:3])}{more}; use "
                "longer videos, a larger max_frames or another holdout."
            )
    return selections


def _choose_frames(faces: Sequence[_Face], max_frames: int | None) -> list[np.ndarray]:
    """The frames of each face that its person's share allows, ascending."""
    people: dict[str, list[int]] = {}
    for number, face in enumerate(faces):
        people.setdefault(face.video.person, []).append(number)
    chosen = [np.zeros(0, np.int64)] * len(faces)
    for numbers in people.values():
        # One number for every frame of all clips in a row: spread evenly over the whole.
        starts = np.cumsum([0, *(len(faces[number].inside) for number in numbers)])
        candidates = np.flatnonzero(np.concatenate([faces[number].inside for number in numbers]))
        taken = choose_evenly(candidates, max_frames)
        for number, start, stop in zip(numbers, starts[:-1], starts[1:], strict=True):
            chosen[number] = taken[(taken >= start) & (taken < stop)] - start
    return chosen


def _are_sharp(
    face: _Face,
    opener: _Faces,
    frames: np.ndarray,
    config: UserVideoConfig,
    progress: ProgressFactory,
) -> np.ndarray:
    """Whether each of the frames [M] of a face is sharp, beside the others: [M] bool."""
    if config.clip.min_sharpness == 0 or not len(frames):
        return np.ones(len(frames), bool)
    values = np.zeros(len(frames))
    with progress(f"Check frames of {pathlib.Path(face.video.path).name}") as callback:
        callback(0, len(frames), "frame")
        for i, crop in enumerate(read_crops(opener.open(face), frames, config.size)):
            values[i] = sharpness(crop)
            callback(i + 1, len(frames), "frame")
    return values >= config.clip.min_sharpness * np.median(values)


def _describe(selections: Sequence[_Selection], config: UserVideoConfig) -> dict[str, Any]:
    """The report: what was taken of each clip, what was left out and why."""
    splits = _splits(config.holdout)
    return {
        "kind": "user_video_report",
        "version": 1,
        "config": encode(config),
        "splits": {
            split: sum(len(selection.chosen[split]) for selection in selections) for split in splits
        },
        "clips": [_describe_clip(selection, splits, config) for selection in selections],
    }


def _describe_clip(
    selection: _Selection, splits: Sequence[str], config: UserVideoConfig
) -> dict[str, Any]:
    video, clip = selection.face.video, selection.face.clip
    return {
        "file": video.file,
        **({"person": video.person} if video.person else {}),
        "frames": len(clip),
        "frame_rate": str(clip.info.frame_rate),
        "time_base": str(clip.info.time_base),
        "width": clip.info.width,
        "height": clip.info.height,
        "people": [
            {"track": track, "frames": frames, "face_px": round(side, 1)}
            for track, frames, side in clip.people
        ],
        "track": clip.track,
        "crop_side_px": int(clip.crops.side_px),
        "held_out_from": selection.train_frames if config.holdout > 0 else None,
        "splits": {split: len(selection.chosen[split]) for split in splits},
        "left_out": list_left_out(selection.left_out),
        "problems": list(clip.problems),
    }


def _describe_left_out(left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """The part of the report that says which videos were left out and why."""
    files = sorted(left_out, key=lambda entry: (entry.file, entry.reason))
    return {
        "left_out": {reason: {"count": count} for reason, count in count_reasons(left_out).items()},
        "files_left_out": [dataclasses.asdict(entry) for entry in files],
    }


def _fit_geometry(selections: Sequence[_Selection], opener: _Faces, size: int) -> dict[str, Any]:
    """The face's geometry over all frames that are not held out, stored or not."""
    landmarks = np.concatenate(
        [
            opener.open(selection.face).crop_landmarks(size)[: selection.train_frames]
            for selection in selections
        ]
    )
    present = np.concatenate(
        [selection.face.clip.found[: selection.train_frames] for selection in selections]
    )
    return encode(fit_geometry(landmarks, present, size))
