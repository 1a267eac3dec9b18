"""One clip of a face -> square crops with landmarks, for every builder that reads videos.

Finding the face runs once over the whole clip, into a file in a work folder that a later call
picks up. What follows from it (track, smoothing, crop path) is computed in memory and never
written. Pixels are then streamed frame by frame.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import cv2
import numpy as np

from facegan.config import encode
from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.align import CropConfig, CropPath, extract_crop, plan_crops, transform_points
from facegan.face.analysis import (
    LandmarkStore,
    analyse_frames,
    next_index,
    rank_tracks,
    select_track,
    smooth_track,
)
from facegan.face.landmarks import DetectorConfig, FaceDetector, make_detector
from facegan.face.smoothing import SmoothingConfig
from facegan.face.tracking import TrackerConfig
from facegan.progress import ProgressFactory, no_progress
from facegan.video.frames import ClipInfo
from facegan.video.reader import VideoReader, probe_clip

_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FaceClipConfig:
    """How a face is found in a clip and cut out of it.

    ``select`` is "largest" for the person who fills most of the clip, or a number: 0 for the
    largest, 1 for the next. A frame is blurred when it has less than ``min_sharpness`` times the
    median sharpness of its clip; 0 keeps all. A clip that holds fewer frames than it declares is
    refused unless ``allow_damaged``.
    """

    KIND: ClassVar[str] = "face_clip"

    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    tracker: TrackerConfig = dataclasses.field(default_factory=TrackerConfig)
    select: str | int = "largest"
    smoothing: SmoothingConfig = dataclasses.field(default_factory=SmoothingConfig)
    crop: CropConfig = dataclasses.field(default_factory=CropConfig)
    min_sharpness: float = 0.25
    allow_damaged: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_sharpness < 1:
            raise ConfigError(f"min_sharpness must be in [0, 1), got {self.min_sharpness}.")


@dataclasses.dataclass(frozen=True, slots=True)
class FaceClip:
    """A clip in which the face of every frame is known.

    Attributes:
        path: The video file.
        info: Facts about it.
        track: Id of the chosen person.
        people: (track id, frames, mean side of the face in pixels) of all people found, the most
            visible first.
        landmarks_xy_px: [N, 68, 2] float32 in frame pixels, smoothed; NaN where there is none.
        found: [N] bool, True where the face was really found, not only filled in.
        pts: [N] int64, timestamps in units of ``info.time_base``.
        crops: The square of each frame.
        problems: What was wrong with the file, one sentence each.
    """

    path: str
    info: ClipInfo
    track: int
    people: tuple[tuple[int, int, float], ...]
    landmarks_xy_px: np.ndarray
    found: np.ndarray
    pts: np.ndarray
    crops: CropPath
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name without ending."""
        return pathlib.Path(self.path).stem

    def __len__(self) -> int:
        return len(self.found)

    def crop_landmarks(self, size_px: int) -> np.ndarray:
        """Landmarks [N, 68, 2] float32 in pixels of each frame's crop of this size."""
        return np.stack(
            [
                transform_points(self.crops.crop_matrix(i, size_px), landmarks)
                for i, landmarks in enumerate(self.landmarks_xy_px)
            ]
        ).astype(np.float32)

    def inside_frame(self, reach: float = 0.0) -> np.ndarray:
        """Whether each frame holds the whole face: [N] bool, False where there is none.

        Args:
            reach: How far landmarks may lie outside the frame, as a share of the crop's side.
        """
        slack = reach * self.crops.side_px
        last = np.array([self.info.width, self.info.height]) - 1
        with np.errstate(invalid="ignore"):
            inside = (self.landmarks_xy_px >= -slack) & (self.landmarks_xy_px <= last + slack)
        return inside.all(axis=(1, 2)) & self.found


@dataclasses.dataclass(frozen=True, slots=True)
class FaceCrop:
    """One frame's face, cut out.

    Attributes:
        image: [S, S, 3] uint8.
        landmarks_xy_px: [68, 2] float32, crop pixels.
        index: The frame's number in the clip.
        pts: Timestamp in units of the clip's time base.
        time_s: Timestamp in seconds.
    """

    image: np.ndarray
    landmarks_xy_px: np.ndarray
    index: int
    pts: int
    time_s: float


def open_face_clip(
    path: str | os.PathLike[str],
    config: FaceClipConfig,
    work_dir: str | os.PathLike[str],
    *,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
) -> FaceClip:
    """Finds the face in every frame of a clip, or reads what an earlier call found.

    Args:
        path: The video file.
        config: Detector, tracker, smoothing and crop.
        work_dir: Folder for what was found; a stopped call is picked up there.
        detector: Used instead of the one that the config names.
        progress: Told the frames done.

    Raises:
        VideoError: The file is not a video that can be used, or is damaged.
        DataError: No frame has the chosen face.
    """
    path = os.fspath(path)
    info = probe_clip(path)
    work = pathlib.Path(work_dir)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make the folder {work}: {error.strerror or error}.") from error
    settings = {"detector": encode(config.detector), "tracker": encode(config.tracker)}
    name = fingerprint(path, settings)
    store_path = work / f"{pathlib.Path(path).stem}-{name[:12]}.landmarks"
    store, problems = _analyse(path, info, config, store_path, name, detector, progress)
    try:
        raw = select_track(store, config.select)
        smooth = smooth_track(raw, config.smoothing)
        crops = plan_crops(
            smooth.landmarks_xy_px, smooth.present, (info.height, info.width), config.crop
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return FaceClip(
        path=path,
        info=info,
        track=raw.track_id,
        people=tuple(rank_tracks(store)),
        landmarks_xy_px=smooth.landmarks_xy_px,
        found=raw.present,
        pts=raw.pts,
        crops=crops,
        problems=problems,
    )


def _analyse(
    path: str,
    info: ClipInfo,
    config: FaceClipConfig,
    store_path: pathlib.Path,
    name: str,
    detector: FaceDetector | None,
    progress: ProgressFactory,
) -> tuple[LandmarkStore, tuple[str, ...]]:
    start = next_index(store_path, name)
    with (
        VideoReader(path, start_index=start) as reader,
        progress(f"Find faces in {pathlib.Path(path).name}") as callback,
    ):
        store = analyse_frames(
            reader,
            store_path,
            detector or make_detector(config.detector),
            config.tracker,
            fingerprint=name,
            total=info.num_frames,
            progress=callback,
        )
        problems = tuple(reader.problems)
    declared = info.num_frames
    if declared is not None and store.num_frames < declared and not config.allow_damaged:
        raise VideoError(
            f"{path} declares {declared} frames but only {store.num_frames} can be decoded; it is "
            "truncated or damaged. Copy or encode it again, or set allow_damaged to use the rest."
        )
    return store, problems


def fingerprint(path: str | os.PathLike[str], settings: dict[str, Any]) -> str:
    """Names a file's content under certain settings: 64 hexadecimal digits.

    The length and the first, middle and last mebibyte stand for the content: hashing hours of
    video would take longer than opening them.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            digest.update(str(length).encode())
            for start in sorted({0, max(0, (length - _CHUNK_BYTES) // 2), length - _CHUNK_BYTES}):
                file.seek(max(0, start))
                digest.update(file.read(_CHUNK_BYTES))
    except OSError as error:
        raise VideoError(f"Cannot read {path}: {error.strerror or error}.") from error
    return digest.hexdigest()


def read_crops(clip: FaceClip, indices: np.ndarray, size_px: int) -> Iterator[FaceCrop]:
    """Cuts the face out of chosen frames, streaming.

    Args:
        clip: The clip.
        indices: [M] frame numbers, ascending; each needs landmarks.
        size_px: Height and width of the crops.

    Raises:
        VideoError: The file ends before the last chosen frame.
    """
    wanted = [int(i) for i in indices]
    if not wanted:
        return
    position = 0
    start = wanted[0]
    reader = VideoReader(clip.path, start_index=start, start_pts=int(clip.pts[start]))
    with reader:
        for frame in reader:
            if frame.index != wanted[position]:
                continue
            matrix = clip.crops.crop_matrix(frame.index, size_px)
            landmarks = transform_points(matrix, clip.landmarks_xy_px[frame.index])
            yield FaceCrop(
                image=extract_crop(frame.image, matrix, size_px),
                landmarks_xy_px=landmarks.astype(np.float32),
                index=frame.index,
                pts=frame.pts,
                time_s=frame.time_s,
            )
            position += 1
            if position == len(wanted):
                return
    raise VideoError(
        f"{clip.path} ended before frame {wanted[position]}, which it had earlier; it was changed "
        "or cannot be read any more."
    )


def sharpness(crop: FaceCrop) -> float:
    """How much fine detail the face of a crop has; comparable within one clip only."""
    size = crop.image.shape[0]
    low = np.clip(np.floor(crop.landmarks_xy_px.min(axis=0)), 0, size - 8).astype(int)
    high = np.clip(np.ceil(crop.landmarks_xy_px.max(axis=0)), low + 8, size).astype(int)
    grey = cv2.cvtColor(crop.image, cv2.COLOR_RGB2GRAY)[low[1] : high[1], low[0] : high[0]]
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def choose_evenly(candidates: np.ndarray, count: int | None) -> np.ndarray:
    """At most ``count`` of the candidates, evenly spread over them; all when ``count`` is None."""
    if count is None or count >= len(candidates):
        return candidates
    # The middles of `count` equal stretches: no stretch is favoured, whatever the remainder.
    return candidates[((np.arange(count) + 0.5) * len(candidates) / count).astype(int)]
