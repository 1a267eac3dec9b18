"""Faces of a whole clip, written to disk while it is decoded.

A landmark store is a folder with a header, one fixed-size binary record for each face of each
frame (and one for a frame without a face), and the point up to which everything is whole. A killed
analysis goes on from that point and ends with the very same records.
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from facegan.config import read_json, write_json
from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import NUM_LANDMARKS, Face, FaceDetector, interocular_px
from facegan.face.smoothing import SmoothingConfig, runs, smooth_offline
from facegan.face.tracking import Describe, FaceTracker, TrackerConfig
from facegan.progress import ProgressCallback

KIND = "landmark_store"
VERSION = 1

# "track" is -1 in the record of a frame without a face.
RECORD = np.dtype(
    [
        ("index", "<i8"),
        ("pts", "<i8"),
        ("time_s", "<f8"),
        ("track", "<i4"),
        ("score", "<f4"),
        ("box_xyxy_px", "<f4", (4,)),
        ("landmarks_xy_px", "<f4", (NUM_LANDMARKS, 2)),
    ]
)

# Frames between two points from which a killed analysis can go on.
_FLUSH_EVERY = 120
# Records that are looked at together.
_CHUNK = 8192


class AnalysedFrame(Protocol):
    """What an analysis needs of a frame."""

    @property
    def image(self) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""

    @property
    def index(self) -> int:
        """Number of the frame in display order."""

    @property
    def pts(self) -> int:
        """Presentation time in units of ``time_base``."""

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of ``pts``."""


class LandmarkStore:
    """The faces of a clip, on disk.

    ``create`` begins one and ``open`` continues or reads one.
    """

    def __init__(self, path: pathlib.Path, state: Mapping[str, Any]) -> None:
        self.path = path
        self.next_index: int = state["next_index"]
        self.complete: bool = state["complete"]
        hw = state["frame_hw"]
        self.frame_hw: tuple[int, int] | None = None if hw is None else (hw[0], hw[1])
        self.tracker_state: Mapping[str, Any] | None = state["tracker"]
        self._num_records: int = state["num_records"]
        self._file: Any = None

    @classmethod
    def create(cls, path: str | os.PathLike[str], fingerprint: str) -> "LandmarkStore":
        """Begins an empty store, in place of one that may be there.

        Args:
            path: The store's folder.
            fingerprint: Names everything that the records depend on: clip, detector, settings.
        """
        folder = pathlib.Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "header.json").unlink(missing_ok=True)
            (folder / "records.bin").write_bytes(b"")
        except OSError as error:
            raise DataError(f"Cannot write {folder}: {error.strerror or error}.") from error
        store = cls(
            folder,
            {
                "next_index": 0,
                "complete": False,
                "frame_hw": None,
                "tracker": None,
                "num_records": 0,
            },
        )
        store._write_state()
        # The header comes last: a folder without it is no store yet.
        write_json(
            folder / "header.json",
            {
                "kind": KIND,
                "version": VERSION,
                "fingerprint": fingerprint,
                "record_bytes": RECORD.itemsize,
            },
        )
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], fingerprint: str | None = None) -> "LandmarkStore":
        """Opens a store at the last point up to which it is whole.

        Raises:
            DataError: There is no store, or it is broken, of another version, or of other input
                than the fingerprint says.
        """
        folder = pathlib.Path(path)
        try:
            header = read_json(folder / "header.json")
            state = read_json(folder / "state.json")
            size = (folder / "records.bin").stat().st_size
        except (ConfigError, OSError) as error:
            raise DataError(f"{folder} is not a landmark store: {error}") from error
        if not isinstance(header, dict) or (header.get("kind"), header.get("version")) != (
            KIND,
            VERSION,
        ):
            raise DataError(f"{folder} is not a landmark store of version {VERSION}; delete it.")
        if fingerprint is not None and header.get("fingerprint") != fingerprint:
            raise DataError(
                f"The landmark store {folder} was made from other input or settings; delete it "
                "or choose another folder."
            )
        try:
            store = cls(folder, state)
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"{folder}/state.json is broken; delete {folder}.") from error
        if size < store._num_records * RECORD.itemsize:
            raise DataError(f"{folder}/records.bin is too short; delete {folder}.")
        return store

    def append(self, index: int, pts: int, time_s: float, faces: Mapping[int, Face]) -> None:
        """Adds the faces of the next frame.

        Raises:
            DataError: The frame is not the next one, or the disk is full.
        """
        if index != self.next_index:
            raise DataError(
                f"The landmark store {self.path} expects frame {self.next_index} next, got "
                f"{index}; start reading the clip there."
            )
        records = np.zeros(max(1, len(faces)), RECORD)
        records["index"], records["pts"], records["time_s"] = index, pts, time_s
        records["track"] = -1
        for record, (number, face) in zip(records, faces.items(), strict=False):
            record["track"], record["score"] = number, face.score
            record["box_xyxy_px"] = face.box_xyxy_px
            record["landmarks_xy_px"] = face.landmarks_xy_px
        try:
            if self._file is None:
                # What a killed run wrote after its last flush is cut off here.
                self._file = (self.path / "records.bin").open("r+b")
                self._file.truncate(self._num_records * RECORD.itemsize)
                self._file.seek(0, os.SEEK_END)
            self._file.write(records.tobytes())
        except OSError as error:
            raise self._cannot_write(error) from error
        self._num_records += len(records)
        self.next_index = index + 1

    def flush(
        self, tracker_state: Mapping[str, Any] | None = None, *, complete: bool = False
    ) -> None:
        """Makes everything so far survive a kill.

        Args:
            tracker_state: The tracker's memory after the last frame, kept for going on.
            complete: Whether the clip has ended.
        """
        self.tracker_state, self.complete = tracker_state, complete
        try:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error
        self._write_state()

    def _write_state(self) -> None:
        try:
            write_json(
                self.path / "state.json",
                {
                    "next_index": self.next_index,
                    "num_records": self._num_records,
                    "complete": self.complete,
                    "frame_hw": self.frame_hw,
                    "tracker": self.tracker_state,
                },
            )
        except ConfigError as error:
            raise DataError(str(error)) from error

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"Cannot write {self.path}/records.bin: {error.strerror or error}.")

    def close(self) -> None:
        """Closes the file; what was not flushed is dropped by the next ``open``."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "LandmarkStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def num_frames(self) -> int:
        """Frames in the store, faces or not."""
        return self.next_index

    @property
    def records(self) -> np.ndarray:
        """All records in frame order: a read-only memory map of dtype ``RECORD``."""
        if self._num_records == 0:
            return np.zeros(0, RECORD)
        if self._file is not None:
            self._file.flush()
        path = self.path / "records.bin"
        return np.memmap(path, RECORD, mode="r", shape=(self._num_records,))


def next_index(path: str | os.PathLike[str], fingerprint: str) -> int:
    """The frame at which ``analyse_frames`` would go on; 0 where there is nothing to continue."""
    try:
        return LandmarkStore.open(path, fingerprint).next_index
    except DataError:
        return 0


def analyse_frames(
    frames: Iterable[AnalysedFrame],
    store_path: str | os.PathLike[str],
    detector: FaceDetector,
    config: TrackerConfig | None = None,
    *,
    fingerprint: str,
    describe: Describe | None = None,
    total: int | None = None,
    progress: ProgressCallback | None = None,
) -> LandmarkStore:
    """Tracks the faces of a clip and writes them to a landmark store, frame by frame.

    A store of the same fingerprint is continued, and one that is complete is returned as it is;
    any other content of the folder's store files is begun anew.

    Args:
        frames: Frames in display order, the first with the index that ``next_index`` gives.
        store_path: The store's folder.
        detector: Finds the faces.
        config: How they are tracked.
        fingerprint: Names everything that the result depends on: clip, detector, settings.
        describe: Recognises people who come back, such as ``IdentityModel().describe``.
        total: Number of frames in the clip, for ``progress``.
        progress: Called with the frames done.

    Returns:
        The complete store.

    Raises:
        DataError: A frame is not the next one, the frame size changes, or the disk is full.
    """
    try:
        store = LandmarkStore.open(store_path, fingerprint)
    except DataError:
        store = LandmarkStore.create(store_path, fingerprint)
    if store.complete:
        return store
    tracker = FaceTracker(detector, config, describe)
    if store.tracker_state is not None:
        tracker.restore(store.tracker_state)
    with store:
        if progress is not None:
            progress(store.next_index, total, "frame")
        for frame in frames:
            height, width = frame.image.shape[:2]
            if store.frame_hw not in (None, (height, width)):
                raise DataError(
                    f"Frame {frame.index} has {height}x{width} pixels, those before it "
                    f"{store.frame_hw}; re-encode the clip to one size."
                )
            store.frame_hw = (height, width)
            faces = tracker.update(frame.image)
            time_s = float(frame.pts * frame.time_base)
            store.append(frame.index, frame.pts, time_s, faces)
            if store.next_index % _FLUSH_EVERY == 0:
                store.flush(tracker.state())
            if progress is not None:
                progress(store.next_index, total, "frame")
        store.flush(tracker.state(), complete=True)
    return store


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One person over a clip; row i belongs to frame i.

    Attributes:
        track_id: The id in the store.
        landmarks_xy_px: [N, 68, 2] float32, NaN where the person is missing; backed by a file that
            vanishes with the object where there is a ``folder``, so that long clips need no memory.
        present: [N] bool.
        pts: [N] int64.
        times_s: [N] float64.
        folder: Where that file is; None keeps landmarks in memory.
    """

    track_id: int
    landmarks_xy_px: np.ndarray
    present: np.ndarray
    pts: np.ndarray
    times_s: np.ndarray
    folder: pathlib.Path | None = None


def rank_tracks(store: LandmarkStore) -> list[tuple[int, int, float]]:
    """The people in a store, the most visible first.

    Returns:
        (track id, frames, mean side of the box in pixels), ordered by the area shown, summed over
        the frames.
    """
    frames: dict[int, int] = {}
    sides: dict[int, float] = {}
    areas: dict[int, float] = {}
    records = store.records
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        side = (chunk["box_xyxy_px"][:, 2] - chunk["box_xyxy_px"][:, 0]).astype(np.float64)
        for number in np.unique(chunk["track"]).tolist():
            if number >= 0:
                mine = side[chunk["track"] == number]
                frames[number] = frames.get(number, 0) + len(mine)
                sides[number] = sides.get(number, 0.0) + float(mine.sum())
                areas[number] = areas.get(number, 0.0) + float((mine**2).sum())
    order = sorted(frames, key=lambda n: (-areas[n], n))
    return [(n, frames[n], sides[n] / frames[n]) for n in order]


def select_track(store: LandmarkStore, select: str | int = "largest") -> Track:
    """Takes one person out of a store.

    Args:
        store: An analysed clip.
        select: ``"largest"``, or a place in the order of ``rank_tracks`` from 0 on.

    Raises:
        DataError: No frame has a face.
        ConfigError: There are not that many people, or ``select`` is another text.
    """
    ranked = rank_tracks(store)
    if not ranked:
        raise DataError(
            f"No face was found in any of the {store.num_frames} frames; use a clip in which a "
            "face is seen from the front."
        )
    place = int(select) if str(select).isdigit() else {"largest": 0}.get(str(select))
    if place is None or place >= len(ranked):
        raise ConfigError(
            f"The face to take must be 'largest' or a number from 0 to {len(ranked) - 1} (largest "
            f"first), got {select!r}."
        )
    number, count = ranked[place][0], store.num_frames
    landmarks = _new_landmarks(count, store.path)
    present = np.zeros(count, bool)
    pts, times_s = np.zeros(count, np.int64), np.zeros(count, np.float64)
    records = store.records
    row = 0
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        pts[chunk["index"]], times_s[chunk["index"]] = chunk["pts"], chunk["time_s"]
        stop = int(chunk["index"][-1]) + 1
        landmarks[row:stop] = np.nan
        row = max(row, stop)
        mine = chunk[chunk["track"] == number]
        landmarks[mine["index"]] = mine["landmarks_xy_px"]
        present[mine["index"]] = True
    return Track(number, landmarks, present, pts, times_s, store.path)


def smooth_track(track: Track, config: SmoothingConfig | None = None) -> Track:
    """Fills short gaps of a track and smooths it without lag."""
    config = config or SmoothingConfig()
    if not config.enabled:
        return track
    filled, present = _bridge(track, config.bridge_frames)
    unit = _typical_eye_distance(track)
    landmarks = _new_landmarks(len(track.present), track.folder)
    smooth_offline(filled, track.times_s, config, present=present, unit=unit, out=landmarks)
    return dataclasses.replace(track, landmarks_xy_px=landmarks, present=present)


def _bridge(track: Track, most: int) -> tuple[np.ndarray, np.ndarray]:
    present = track.present.copy()
    gaps = [
        (start, stop)
        for start, stop in runs(~present)
        if 0 < start and stop < len(present) and stop - start <= most
    ]
    if not gaps:
        return track.landmarks_xy_px, present
    landmarks = _new_landmarks(len(track.present), track.folder)
    for start in range(0, len(present), _CHUNK):
        landmarks[start : start + _CHUNK] = track.landmarks_xy_px[start : start + _CHUNK]
    for start, stop in gaps:
        before, after = landmarks[start - 1].copy(), landmarks[stop].copy()
        length = track.times_s[stop] - track.times_s[start - 1]
        # A step that no face makes is a cut or a mix-up, and is left open.
        if np.linalg.norm(after - before, axis=1).mean() > interocular_px(before):
            continue
        for i in range(start, stop):
            part = (track.times_s[i] - track.times_s[start - 1]) / length if length > 0 else 0.0
            landmarks[i] = before + np.float32(part) * (after - before)
        present[start:stop] = True
    return landmarks, present


def _typical_eye_distance(track: Track) -> float:
    known = np.flatnonzero(track.present)
    if len(known) == 0:
        return 1.0
    some = known[np.linspace(0, len(known) - 1, min(len(known), 500)).astype(int)]
    return max(1.0, float(np.median(interocular_px(track.landmarks_xy_px[some]))))


def _new_landmarks(count: int, folder: pathlib.Path | None) -> np.ndarray:
    """[count, 68, 2] float32, in a file without a name that goes when the array goes."""
    shape = (count, NUM_LANDMARKS, 2)
    if folder is None or count == 0:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, np.float32, mode="w+", shape=shape)
    except OSError as error:
        raise DataError(f"Cannot write in {folder}: {error.strerror or error}.") from error
