"""VoxCeleb 1 and 2: what belongs together, and one video's work.

    VoxCeleb2   <id>/<video>/<clip>.mp4, below dev/ and test/ as its archives unpack
    VoxCeleb1   <id>/1.6/<video>/<frame>.jpg, or without the folder 1.6

An identity is a person, a video one recording of them, a clip a stretch of it. What a few-shot
model is shown as one video comes out as one record: frames of all its clips, in order.

Reference: Nagrani et al., "VoxCeleb: a large-scale speaker identification dataset", Interspeech
2017; Chung et al., "VoxCeleb2: Deep Speaker Recognition", Interspeech 2018.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from facegan.config import encode, require_power_of_two
from facegan.errors import ConfigError, FaceganError, VideoError
from facegan.face.align import CropConfig, extract_crop, plan_crops, transform_points
from facegan.face.landmarks import DetectorConfig
from facegan.image import encode_jpeg
from facegan.preparation.face_clips import choose_evenly
from facegan.preparation.faces import find_largest_face
from facegan.preparation.file_names import VIDEO_ENDINGS
from facegan.preparation.items import (
    Item,
    LeftOut,
    Listing,
    Outcome,
    Rejected,
    check_shares,
    split_by_name,
)
from facegan.preparation.pictures import read_photo
from facegan.preparation.sources import FileEntry, Source
from facegan.video.reader import VideoReader, count_frames

_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")
_SPLIT_FOLDERS = {"dev": "train", "train": "train", "val": "validation", "test": "test"}
_SPLIT_ORDER = ("train", "validation", "test")

# VoxCeleb2 holds files that are only the head of a video.
_TINY_BYTES = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VoxCelebConfig:
    """What becomes of the clips.

    Attributes:
        size: Height and width of the stored frames.
        frames_per_clip: Frames taken from a clip, evenly over it; of VoxCeleb1, where a video is
            one folder of pictures, as many from the folder.
        min_frames: A record with fewer frames that show a face is left out.
        record: What one record holds, a whole "video" or a single "clip".
        validation: Share of the identities for validation, where the source has no split.
        test: Share of the identities for testing, where the source has no split.
        crop: Which part of the frame is taken. VoxCeleb2's frames are face crops already and are
            taken whole.
        detector: What finds the face.
    """

    KIND: ClassVar[str] = "voxceleb"

    size: int = 256
    frames_per_clip: int = 20
    min_frames: int = 9
    record: Literal["video", "clip"] = "video"
    validation: float = 0.0
    test: float = 0.02
    crop: CropConfig = dataclasses.field(default_factory=CropConfig)
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        check_shares(self.validation, self.test)
        if not 1 <= self.min_frames or not 1 <= self.frames_per_clip:
            raise ConfigError(
                "frames_per_clip and min_frames must be at least 1, got "
                f"{self.frames_per_clip} and {self.min_frames}."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class VideoWork:
    """The clips of one video -> frames with landmarks.

    Attributes:
        source: Where the files are.
        config: What becomes of them.
    """

    source: Source
    config: VoxCelebConfig

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the records' bytes."""
        return {"dataset": "voxceleb", **encode(self.config)}

    def __call__(self, item: Item) -> Outcome:
        """Makes the record of one video."""
        left_out: list[LeftOut] = []
        counts = {"frames_without_face": 0}
        images: list[bytes] = []
        landmarks: list[np.ndarray] = []
        clip_of_frame: list[int] = []
        frame_index: list[int] = []
        clips = self._clips(item)
        for number, files in enumerate(clips):
            try:
                found = list(self._faces_of_clip(files, left_out, counts))
            except FaceganError as error:
                reason = error.reason if isinstance(error, Rejected) else "unreadable"
                left_out.append(LeftOut(files[0], reason, " ".join(str(error).split())))
                continue
            for index, image, points in found:
                images.append(encode_jpeg(image))
                landmarks.append(points)
                clip_of_frame.append(number)
                frame_index.append(index)
        if len(images) < self.config.min_frames:
            detail = (
                f"{len(images)} frames show a face, {self.config.min_frames} are needed "
                "(min_frames)."
            )
            left_out.append(LeftOut(item.key, "too_few_frames", detail))
            return Outcome((), tuple(left_out), counts)
        record = {
            "images": images,
            "landmarks_xy_px": np.stack(landmarks),
            "clip_of_frame": np.array(clip_of_frame, np.int32),
            "frame_index": np.array(frame_index, np.int64),
            "identity": item.data["identity"],
            "video": item.data["video"],
            "video_index": item.data["video_index"],
        }
        counts["frames"] = len(images)
        return Outcome(((item.key, record),), tuple(left_out), counts)

    @staticmethod
    def _clips(item: Item) -> Sequence[tuple[str, ...]]:
        # Pictures are the frames of one clip; videos are a clip each.
        return [item.files] if item.data["pictures"] else [(file,) for file in item.files]

    def _faces_of_clip(
        self, files: tuple[str, ...], left_out: list[LeftOut], counts: dict[str, int]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Index, crop [S, S, 3] uint8 and landmarks [68, 2] of the frames that show a face."""
        if files[0].lower().endswith(VIDEO_ENDINGS):
            frames = self._read_video(files[0])
        else:
            frames = self._read_pictures(files, left_out)
        found: list[tuple[int, np.ndarray, np.ndarray]] = []
        for index, image in frames:
            face = find_largest_face(image, self.config.detector)
            if face is None:
                counts["frames_without_face"] += 1
            elif found and found[0][1].shape != image.shape:
                detail = "Its size differs from that of the clip's other frames."
                left_out.append(LeftOut(f"{files[0]}#{index}", "wrong_shape", detail))
            else:
                found.append((index, image, face.landmarks_xy_px))
        if not found:
            raise Rejected("no_face", f"None of the chosen frames of {files[0]} shows a face.")
        points = np.stack([xy for _, _, xy in found])
        height, width = found[0][1].shape[:2]
        # Frames a second apart have no path to smooth.
        still = dataclasses.replace(self.config.crop, smooth_frames=0.0)
        crops = plan_crops(points, np.ones(len(found), bool), (height, width), still)
        for number, (index, image, xy) in enumerate(found):
            matrix = crops.crop_matrix(number, self.config.size)
            yield (
                index,
                extract_crop(image, matrix, self.config.size),
                transform_points(matrix, xy).astype(np.float32),
            )

    def _read_video(self, file: str) -> Iterator[tuple[int, np.ndarray]]:
        with self.source.open_local(file) as path:
            # What the file declares is a claim; a clip that was cut off declares its old length.
            total = count_frames(path)
            wanted = set(choose_evenly(np.arange(total), self.config.frames_per_clip).tolist())
            last = max(wanted, default=-1)
            with VideoReader(path) as reader:
                for frame in reader:
                    if frame.index in wanted:
                        yield frame.index, frame.image
                    if frame.index == last:
                        return
                raise VideoError(f"{file} ends before frame {last}: {' '.join(reader.problems)}")

    def _read_pictures(
        self, files: tuple[str, ...], left_out: list[LeftOut]
    ) -> Iterator[tuple[int, np.ndarray]]:
        for index in choose_evenly(np.arange(len(files)), self.config.frames_per_clip):
            file = files[index]
            try:
                yield int(index), read_photo(self.source.read(file), file, turn_upright=True)
            except Rejected as error:
                left_out.append(LeftOut(file, error.reason, str(error)))


def list_videos(source: Source, config: VoxCelebConfig) -> Listing:
    """Finds the videos, by split, identity and recording.

    Where the files stand below dev/ (or train/), val/ and test/, that is the split; else identities
    are shared out by their names, so that no identity is in two splits and none moves when others
    come in.
    """
    left_out: list[LeftOut] = []
    groups: dict[tuple[str, str, str], list[FileEntry]] = {}
    for entry in source.list_files():
        place = _place(entry, left_out)
        if place is None:
            continue
        split, identity, video = place
        split = split or split_by_name(identity, config.validation, config.test)
        if config.record == "clip" and entry.name.lower().endswith(VIDEO_ENDINGS):
            video = f"{video}/{entry.name.rpartition('/')[2].rpartition('.')[0]}"
        groups.setdefault((split, identity, video), []).append(entry)
    home: dict[str, str] = {}
    for split, identity, _ in sorted(groups, key=lambda key: _SPLIT_ORDER.index(key[0])):
        home.setdefault(identity, split)
    splits: dict[str, list[Item]] = {split: [] for split in _SPLIT_ORDER}
    for (split, identity, video), entries in sorted(groups.items()):
        if home[identity] != split:
            detail = f"Its identity is in the split {home[identity]} too; splits must not overlap."
            left_out.extend(LeftOut(entry.name, "identity_twice", detail) for entry in entries)
            continue
        entries.sort(key=lambda entry: entry.name)
        splits[split].append(
            Item(
                key=f"{identity}/{video}",
                files=tuple(entry.name for entry in entries),
                sizes=tuple(entry.size_bytes for entry in entries),
                data={
                    "identity": identity,
                    "video": video,
                    "video_index": len(splits[split]),
                    "pictures": not entries[0].name.lower().endswith(VIDEO_ENDINGS),
                },
            )
        )
    facts = {
        "identities": {
            split: len({item.data["identity"] for item in items}) for split, items in splits.items()
        },
        "videos": {split: len(items) for split, items in splits.items()},
    }
    return Listing(splits, [*left_out, *source.refused], facts=facts)


def _place(entry: FileEntry, left_out: list[LeftOut]) -> tuple[str | None, str, str] | None:
    """Split, identity and video of a file by the folders it is in, None for other files."""
    folders = entry.name.split("/")[:-1]
    lower = entry.name.lower()
    if not lower.endswith(VIDEO_ENDINGS + _PICTURE_ENDINGS):
        return None  # sound, lists, licences: VoxCeleb's trees hold them beside the frames
    if lower.endswith(_PICTURE_ENDINGS) and len(folders) > 2 and folders[-2] == "1.6":
        folders = [*folders[:-2], folders[-1]]
    if len(folders) < 2:
        detail = "It must stand in a folder of its video within a folder of its identity."
        left_out.append(LeftOut(entry.name, "wrong_place", detail))
        return None
    if entry.size_bytes < _TINY_BYTES and lower.endswith(VIDEO_ENDINGS):
        what = "holds nothing" if entry.size_bytes == 0 else f"has {entry.size_bytes} bytes"
        left_out.append(LeftOut(entry.name, "tiny", f"It {what}; no clip is that small."))
        return None
    named = [_SPLIT_FOLDERS[name] for name in folders[:-2] if name in _SPLIT_FOLDERS]
    return (named[-1] if named else None), folders[-2], folders[-1]
