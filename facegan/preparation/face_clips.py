"""One clip of a face, or of several -> square crops with landmarks.

Finding the faces runs once over the whole clip, into a file in a work folder that a later call
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

from facegan.config import encode, read_json, write_json
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
from facegan.preparation.items import Rejected
from facegan.progress import ProgressFactory, no_progress
from facegan.video.frames import ClipInfo
from facegan.video.reader import VideoReader, probe_clip

_CHUNK_BYTES = 1 << 20

# With select="all", faces that are narrower on average are people in the background.
_MIN_FACE_PX = 40

_PROBLEMS_NAME = "problems.json"


class ShortClipError(VideoError):
    """A clip holds fewer frames than it declares."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FaceClipConfig:
    """How a face is found in a clip and cut out of it.

    Attributes:
        detector: What finds faces.
        tracker: How they are followed.
        select: "largest" for the person who fills most of the clip, or a number: 0 for the
            largest, 1 for the next. "all" takes everyone who is seen long and large enough.
        min_track_frames: With "all", a face in fewer frames is not taken.
        smoothing: How landmarks are smoothed.
        crop: Which part of the frame is taken.
        min_sharpness: A frame is blurred when it has less than this share of the median sharpness
            of its clip; 0 keeps all.
        allow_damaged: Use a clip that holds fewer frames than it declares, instead of refusing it.
    """

    KIND: ClassVar[str] = "face_clip"

    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    tracker: TrackerConfig = dataclasses.field(default_factory=TrackerConfig)
    select: str | int = "largest"
    min_track_frames: int = 25
    smoothing: SmoothingConfig = dataclasses.field(default_factory=SmoothingConfig)
    crop: CropConfig = dataclasses.field(default_factory=CropConfig)
    min_sharpness: float = 0.25
    allow_damaged: bool = False

    def __post_init__(self) -> None:
        if self.select not in ("largest", "all") and not str(self.select).isdigit():
            raise ConfigError(
                "select must be 'largest', 'all' or a number from 0 (the largest face) on, got "
                f"{self.select!r}."
            )
        if self.min_track_frames < 1:
            raise ConfigError(f"min_track_frames must be at least 1, got {self.min_track_frames}.")
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

    def landmarks_in_crop(self, index: int, size_px: int) -> np.ndarray:
        """Landmarks [68, 2] float32 of one frame in pixels of its crop of this size."""
        matrix = self.crops.crop_matrix(index, size_px)
        return transform_points(matrix, self.landmarks_xy_px[index]).astype(np.float32)

    def crop_landmarks(self, size_px: int) -> np.ndarray:
        """Landmarks [N, 68, 2] float32 in pixels of each frame's crop of this size."""
        return np.stack([self.landmarks_in_crop(i, size_px) for i in range(len(self))])

    def spread_faces(self, count: int) -> np.ndarray:
        """At most ``count`` frames in which the face was found, spread over the clip."""
        return choose_evenly(np.flatnonzero(self.found), count)

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


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFaces:
    """All faces of a clip, in every frame.

    Attributes:
        info: Facts about the clip.
        store: The faces, on disk.
        problems: What was wrong with the file, one sentence each.
    """

    info: ClipInfo
    store: LandmarkStore
    problems: tuple[str, ...]


def open_face_clip(
    path: str | os.PathLike[str],
    config: FaceClipConfig,
    work_dir: str | os.PathLike[str],
    *,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
) -> FaceClip:
    """Finds the one chosen face in every frame of a clip; see ``open_face_clips``.

    Raises:
        ConfigError: ``select`` is "all".
    """
    if config.select == "all":
        raise ConfigError('select must name one face here: "largest", or a number; got "all".')
    (clip,) = open_face_clips(path, config, work_dir, detector=detector, progress=progress)
    return clip


def open_face_clips(
    path: str | os.PathLike[str],
    config: FaceClipConfig,
    work_dir: str | os.PathLike[str],
    *,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
) -> tuple[FaceClip, ...]:
    """Follows the chosen faces through a clip; arguments and errors are those of ``find_faces``.

    Returns:
        A clip for each chosen face, the most visible first; never none.

    Raises:
        Rejected: No frame has the chosen face ("no_face_in_clip", "no_such_face").
    """
    path = os.fspath(path)
    found = find_faces(path, config, work_dir, detector=detector, progress=progress)
    people = tuple(rank_tracks(found.store))
    places = _choose_faces(path, config, people, found.store.num_frames)
    try:
        return tuple(_follow(path, found, config, place, people) for place in places)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def locate_store(
    path: str | os.PathLike[str], config: FaceClipConfig, work_dir: str | os.PathLike[str]
) -> tuple[pathlib.Path, str]:
    """Where the faces of a clip are kept, and the fingerprint that they carry.

    Raises:
        VideoError: The file cannot be read.
    """
    settings = {"detector": encode(config.detector), "tracker": encode(config.tracker)}
    name = fingerprint(path, settings)
    return pathlib.Path(work_dir) / f"{pathlib.Path(path).stem}-{name[:12]}.landmarks", name


def find_faces(
    path: str | os.PathLike[str],
    config: FaceClipConfig,
    work_dir: str | os.PathLike[str],
    *,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
) -> FoundFaces:
    """Finds all faces in every frame of a clip, or reads what an earlier call found.

    Args:
        path: The video file.
        config: Detector and tracker.
        work_dir: Folder for what was found; a stopped call is picked up there.
        detector: Used instead of the one that the config names.
        progress: Told the frames done.

    Raises:
        VideoError: The file is not a video that can be used, or is damaged.
        DataError: The work folder cannot be written.
    """
    path = os.fspath(path)
    info = probe_clip(path)
    work = pathlib.Path(work_dir)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make the folder {work}: {error.strerror or error}.") from error
    store_path, name = locate_store(path, config, work)
    store, problems = _analyse(path, info, config, store_path, name, detector, progress)
    declared = info.num_frames
    if declared is not None and store.num_frames < declared and not config.allow_damaged:
        raise ShortClipError(
            f"{path} declares {declared} frames but only {store.num_frames} can be decoded; it is "
            "truncated or damaged. Copy or encode it again, or set allow_damaged to use the rest."
        )
    return FoundFaces(info, store, problems)


def _choose_faces(
    path: str, config: FaceClipConfig, people: tuple[tuple[int, int, float], ...], num_frames: int
) -> list[int]:
    """Places of the chosen people in the ranking, never none."""
    if not people:
        raise Rejected(
            "no_face_in_clip",
            f"{path}: No face was found in any of the {num_frames} frames; use a clip in which a "
            "face is seen from the front.",
        )
    if config.select == "all":
        chosen = [
            place
            for place, (_, frames, side_px) in enumerate(people)
            if frames >= config.min_track_frames and side_px >= _MIN_FACE_PX
        ]
        if not chosen:
            raise Rejected(
                "no_face_in_clip",
                f"{path}: No face is seen in {config.min_track_frames} frames (min_track_frames) "
                f"and {_MIN_FACE_PX} px wide; the longest track has "
                f"{max(frames for _, frames, _ in people)} frames.",
            )
        return chosen
    place = 0 if config.select == "largest" else int(config.select)
    if place >= len(people):
        raise Rejected(
            "no_such_face",
            f"{path}: The face to take must be 'largest' or a number from 0 to {len(people) - 1} "
            f"(largest first), got {config.select!r}.",
        )
    return [place]


def _follow(
    path: str,
    found: FoundFaces,
    config: FaceClipConfig,
    place: int,
    people: tuple[tuple[int, int, float], ...],
) -> FaceClip:
    """One face of an analysed clip, smoothed, with its crops."""
    raw = select_track(found.store, place)
    smooth = smooth_track(raw, config.smoothing)
    frame_hw = (found.info.height, found.info.width)
    crops = plan_crops(smooth.landmarks_xy_px, smooth.present, frame_hw, config.crop)
    return FaceClip(
        path=path,
        info=found.info,
        track=raw.track_id,
        people=people,
        landmarks_xy_px=smooth.landmarks_xy_px,
        found=raw.present,
        pts=raw.pts,
        crops=crops,
        problems=found.problems,
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
    problems_path = store_path / _PROBLEMS_NAME
    if _is_complete(store_path, name) and problems_path.is_file():
        # The reader would decode the clip up to where it was left, which is its end.
        return LandmarkStore.open(store_path, name), tuple(read_json(problems_path))
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
    try:
        write_json(problems_path, list(problems))
    except ConfigError as error:
        raise DataError(str(error)) from error
    return store, problems


def _is_complete(store_path: pathlib.Path, name: str) -> bool:
    try:
        return LandmarkStore.open(store_path, name).complete
    except DataError:
        return False


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
            yield FaceCrop(
                image=extract_crop(frame.image, matrix, size_px),
                landmarks_xy_px=clip.landmarks_in_crop(frame.index, size_px),
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
