"""Frames of a person's own videos, with landmarks: what a model of one face is trained on."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facegan.config import encode, require_power_of_two, write_json
from facegan.datasets.storage import (
    REPORT_NAME,
    list_left_out,
    manual_folder,
    prepare_dataset,
    quiet_tfds,
    read_report,
)
from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import NUM_LANDMARKS, FaceDetector
from facegan.face.retarget import fit_geometry
from facegan.image import encode_picture
from facegan.preparation.face_clips import (
    FaceClip,
    FaceClipConfig,
    choose_evenly,
    fingerprint,
    open_face_clip,
    read_crops,
    sharpness,
)
from facegan.progress import ProgressFactory, no_progress

GEOMETRY_NAME = "geometry.json"
_SIZES = (64, 128, 256, 512, 1024)
_VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")

# Landmarks of a face at the edge of the frame may lie this far outside, in crop sides: the jaw of
# a close-up does, and the rest of the picture is as good as any.
_REACH = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UserVideoConfig:
    """What becomes of the videos.

    ``size`` is that of the stored crops; twice the size of training keeps augmented pictures
    sharper. ``max_frames`` counts over all videos and splits, None takes all. ``holdout`` is the
    last part of each video, kept for the split ``test``.
    """

    KIND: ClassVar[str] = "user_video"

    size: int = 256
    max_frames: int | None = 1000
    holdout: float = 0.0
    clip: FaceClipConfig = dataclasses.field(default_factory=FaceClipConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"max_frames must be at least 1, got {self.max_frames}.")
        if not 0 <= self.holdout < 1:
            raise ConfigError(
                f"holdout must be in [0, 1), got {self.holdout}; 0.2 holds the last fifth out."
            )


@dataclasses.dataclass(eq=False, kw_only=True)
class UserVideoBuilderConfig(tfds.core.BuilderConfig):
    """A ``UserVideoConfig`` under a name for TFDS."""

    settings: UserVideoConfig = dataclasses.field(default_factory=UserVideoConfig)


@dataclasses.dataclass(frozen=True, slots=True)
class _Selection:
    """The frames of one clip that are stored, by split, and those that are not, by reason."""

    clip: FaceClip
    train_frames: int  # frames before the held-out part
    chosen: dict[str, np.ndarray]
    left_out: dict[str, np.ndarray]


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of ``user_video``.

    Args:
        data_dir: Root of TFDS' datasets.
        config: One of ``BUILDER_CONFIGS`` by name, or a ``UserVideoBuilderConfig``.
        version: As TFDS has it.
        videos: Video files of one person; without them all videos of the manual folder are taken.
        work_dir: Where found faces are kept; by default beside the dataset.
        detector: Used instead of the one that the config names.
        progress: Told how far the stages are.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the videos of one person (.mp4, .mov, .mkv, .webm, .avi or .m4v) into the folder."
    )
    BUILDER_CONFIGS = [
        UserVideoBuilderConfig(
            name=f"{size}px",
            description=f"Crops of {size}x{size} pixels.",
            settings=UserVideoConfig(size=size),
        )
        for size in _SIZES
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "256px"

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        config: str | UserVideoBuilderConfig | None = None,
        version: Any = None,
        videos: Sequence[str | os.PathLike[str]] = (),
        work_dir: str | os.PathLike[str] | None = None,
        detector: FaceDetector | None = None,
        progress: ProgressFactory = no_progress,
    ):
        self._videos = tuple(os.fspath(video) for video in videos)
        self._work_dir = None if work_dir is None else os.fspath(work_dir)
        self._detector, self._progress = detector, progress
        super().__init__(data_dir=data_dir, config=config, version=version)
        # TFDS makes a builder again from these when it is unpickled.
        self._original_state.update(
            videos=self._videos, work_dir=self._work_dir, detector=detector, progress=progress
        )

    @property
    def settings(self) -> UserVideoConfig:
        """What becomes of the videos."""
        return self.builder_config.settings

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.settings.size
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "landmarks_xy_px": tfds.features.Tensor(
                        shape=(NUM_LANDMARKS, 2), dtype=np.float32
                    ),
                    "frame_index": np.int64,
                    "pts": np.int64,
                    "time_s": np.float32,
                    "clip": tfds.features.Text(),
                    "track": np.int64,
                }
            ),
            supervised_keys=None,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        videos = self._videos or _find_videos(manual_folder(dl_manager))
        work_dir = self._work_dir or pathlib.Path(self._data_dir_root) / f".{self.name}_work"
        clips = [
            open_face_clip(
                video,
                self.settings.clip,
                work_dir,
                detector=self._detector,
                progress=self._progress,
            )
            for video in videos
        ]
        selections = _select_frames(clips, self.settings, self._progress)
        # TFDS points data_path to the temporary folder now, so these appear with the records.
        folder = pathlib.Path(self.data_path)
        write_json(folder / REPORT_NAME, _describe(selections, self.settings))
        write_json(folder / GEOMETRY_NAME, _fit_geometry(selections, self.settings.size))
        return {
            split: self._generate_examples(selections, split)
            for split in _splits(self.settings.holdout)
        }

    def _generate_examples(
        self, selections: Sequence[_Selection], split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        total = sum(len(selection.chosen[split]) for selection in selections)
        done = 0
        with self._progress(f"Write {split} frames") as callback:
            callback(0, total, "frame")
            for number, selection in enumerate(selections):
                clip = selection.clip
                for crop in read_crops(clip, selection.chosen[split], self.settings.size):
                    yield (
                        f"{number:04d}-{crop.index:08d}",
                        {
                            "image": encode_picture(crop.image),
                            "landmarks_xy_px": crop.landmarks_xy_px,
                            "frame_index": crop.index,
                            "pts": crop.pts,
                            "time_s": crop.time_s,
                            "clip": clip.name,
                            "track": clip.track,
                        },
                    )
                    done += 1
                    callback(done, total, "frame")


def build_user_video(
    videos: Sequence[str | os.PathLike[str]],
    config: UserVideoConfig,
    data_dir: str | os.PathLike[str],
    *,
    work_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Makes a dataset of videos, or finds the one that was made of them before.

    The dataset's folder carries a name made of the settings and the videos' content: other videos
    or settings never meet old records.

    Args:
        videos: Video files of one person.
        config: What becomes of them.
        data_dir: Root of TFDS' datasets.
        work_dir: Where found faces are kept, so that a stopped call is picked up; by default
            below ``data_dir``.
        overwrite: Make the dataset again where it is there.
        detector: Used instead of the one that the config names.
        progress: Told how far the stages are.

    Returns:
        ``dataset_dir``, ``splits`` (records by split), ``left_out`` (frames by reason) and
        ``report`` (the path of the report).

    Raises:
        VideoError: A file is not a video that can be used.
        DataError: No frame can be used, or the disk cannot be written.

    Example:
        >>> build_user_video(  # doctest: +SKIP
        ...     ["hopper.mp4"], UserVideoConfig(size=128, holdout=0.2), "data")["splits"]
        {'train': 200, 'test': 50}
    """
    if not videos:
        raise ConfigError("build_user_video needs at least one video, got none.")
    digest = hashlib.sha256(str(encode(config)).encode())
    for video in videos:
        digest.update(fingerprint(os.fspath(video), {"name": pathlib.Path(video).stem}).encode())
    with quiet_tfds():
        builder = Builder(
            data_dir=data_dir,
            config=UserVideoBuilderConfig(
                name=f"{config.size}px_{digest.hexdigest()[:12]}",
                description=f"Crops of {config.size}x{config.size} pixels of chosen videos.",
                settings=config,
            ),
            videos=videos,
            work_dir=work_dir,
            detector=detector,
            progress=progress,
        )
    folder = prepare_dataset(builder, overwrite=overwrite)
    report = read_report(folder)
    left_out: dict[str, int] = {}
    for clip in report["clips"]:
        for reason, entry in clip["left_out"].items():
            left_out[reason] = left_out.get(reason, 0) + entry["count"]
    return {
        "dataset_dir": str(folder),
        "splits": report["splits"],
        "left_out": left_out,
        "report": str(folder / REPORT_NAME),
    }


def _find_videos(folder: pathlib.Path) -> list[str]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _VIDEO_ENDINGS)
    if not found:
        raise DataError(f"{folder} holds no video; allowed endings: {', '.join(_VIDEO_ENDINGS)}.")
    return [os.fspath(path) for path in found]


def _splits(holdout: float) -> tuple[str, ...]:
    return ("train", "test") if holdout > 0 else ("train",)


def _select_frames(
    clips: Sequence[FaceClip], config: UserVideoConfig, progress: ProgressFactory
) -> list[_Selection]:
    """Decides for every frame of every clip whether it is stored, and where."""
    inside = [clip.inside_frame(_REACH) for clip in clips]
    # One number for every frame of all clips in a row: spread evenly over the whole.
    starts = np.cumsum([0, *(len(clip) for clip in clips)])
    candidates = np.flatnonzero(np.concatenate(inside))
    taken = choose_evenly(candidates, config.max_frames)
    selections = []
    for clip, good, start in zip(clips, inside, starts, strict=False):
        mine = taken[(taken >= start) & (taken < start + len(clip))] - start
        boundary = max(1, round(len(clip) * (1 - config.holdout)))
        train, test = mine[mine < boundary], mine[mine >= boundary]
        # Held-out frames are judged by, so blurred ones stay among them.
        sharp = train[_are_sharp(clip, train, config, progress)]
        usable = np.flatnonzero(good)
        selections.append(
            _Selection(
                clip=clip,
                train_frames=boundary,
                chosen={"train": sharp, "test": test},
                left_out={
                    "no_face": np.flatnonzero(~clip.found),
                    "face_outside_frame": np.flatnonzero(clip.found & ~good),
                    "blurred": np.setdiff1d(train, sharp),
                    "not_chosen": np.setdiff1d(usable, mine),
                },
            )
        )
    for split in _splits(config.holdout):
        if not any(len(selection.chosen[split]) for selection in selections):
            names = ", ".join(selection.clip.path for selection in selections)
            raise DataError(
                f"No frame is left for the split {split!r} of {names}; use longer videos, a "
                "larger max_frames or another holdout."
            )
    return selections


def _are_sharp(
    clip: FaceClip, frames: np.ndarray, config: UserVideoConfig, progress: ProgressFactory
) -> np.ndarray:
    """Whether each of the frames [M] of a clip is sharp, beside the others: [M] bool."""
    if config.clip.min_sharpness == 0 or not len(frames):
        return np.ones(len(frames), bool)
    values = np.zeros(len(frames))
    with progress(f"Check frames of {pathlib.Path(clip.path).name}") as callback:
        callback(0, len(frames), "frame")
        for i, crop in enumerate(read_crops(clip, frames, config.size)):
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
        "clips": [
            {
                "file": pathlib.Path(selection.clip.path).name,
                "frames": len(selection.clip),
                "frame_rate": str(selection.clip.info.frame_rate),
                "time_base": str(selection.clip.info.time_base),
                "width": selection.clip.info.width,
                "height": selection.clip.info.height,
                "people": [
                    {"track": track, "frames": frames, "face_px": round(side, 1)}
                    for track, frames, side in selection.clip.people
                ],
                "track": selection.clip.track,
                "crop_side_px": int(selection.clip.crops.side_px),
                "held_out_from": selection.train_frames if config.holdout > 0 else None,
                "splits": {split: len(selection.chosen[split]) for split in splits},
                "left_out": list_left_out(selection.left_out),
                "problems": list(selection.clip.problems),
            }
            for selection in selections
        ],
    }


def _fit_geometry(selections: Sequence[_Selection], size: int) -> dict[str, Any]:
    """The face's geometry over all frames that are not held out, stored or not."""
    landmarks = np.concatenate(
        [selection.clip.crop_landmarks(size)[: selection.train_frames] for selection in selections]
    )
    present = np.concatenate(
        [selection.clip.found[: selection.train_frames] for selection in selections]
    )
    return encode(fit_geometry(landmarks, present, size))
