"""Several faces over time: one track for each person.

Searching a frame for faces costs some ten times as much as placing landmarks near a known box, so
the search runs on every Nth frame only, and where something speaks against the tracks.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from facegan.errors import ConfigError
from facegan.face.landmarks import (
    MEAN_SHAPE,
    Face,
    FaceDetector,
    box_from_landmarks,
    interocular_px,
)

# A descriptor of the person: (image [H, W, 3] uint8, landmarks [68, 2]) -> [D] or None.
Describe = Callable[[np.ndarray, np.ndarray], np.ndarray | None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackerConfig:
    """When faces are searched for and how tracks are kept.

    Attributes:
        detect_every: Frames from one search to the next while all goes well.
        retry_every: Frames from one search to the next while no face is in sight or a search
            missed a track.
        max_misses: Searches in a row that may miss a face which its landmarks still follow.
        lost_after: Frames after which a face that is out of sight gives up its place.
        match_overlap: Least intersection over union of two boxes of the same face.
        scene_change: Mean change of brightness, in 8-bit codes, between two frames that counts
            as a cut.
        same_person: Largest distance between two descriptors of one person.
    """

    KIND: ClassVar[str] = "tracker"

    detect_every: int = 10
    retry_every: int = 3
    max_misses: int = 2
    lost_after: int = 45
    match_overlap: float = 0.25
    scene_change: float = 28.0
    same_person: float = 0.55

    def __post_init__(self) -> None:
        for name in ("detect_every", "retry_every", "lost_after"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.max_misses < 0:
            raise ConfigError(f"max_misses must not be negative, got {self.max_misses}.")
        if not 0.0 < self.match_overlap < 1.0:
            raise ConfigError(f"match_overlap must be inside (0, 1), got {self.match_overlap}.")


@dataclasses.dataclass(slots=True)
class _Track:
    """What is known of one person; ``unseen`` counts the frames since the face was in sight."""

    face: Face
    velocity: np.ndarray
    unseen: int = 0
    misses: int = 0
    descriptor: np.ndarray | None = None


# Landmarks may lie this far from the mean shape (root mean square, in box sides), move their box
# by this share of its side from one frame to the next, and change its size by this factor.
_MAX_STRAIN = 0.13
_MAX_STEP = 0.4
_MAX_GROWTH = 1.3
# Tracked landmarks that differ from detected ones by this share of the eye distance have drifted.
_MAX_DRIFT = 0.08
# People who left the picture and are remembered, where descriptors tell them apart.
_MAX_REMEMBERED = 32


class FaceTracker:
    """Follows every face of a clip, frame after frame.

    Its whole memory can be taken out by ``state`` and put into another tracker by ``restore``,
    which then goes on exactly as the first would have.

    Args:
        detector: Finds faces and places landmarks.
        config: When to search.
        describe: Recognises a person who comes back; without it a face that was gone for longer
            than ``lost_after`` frames, or that moved while out of sight, gets a new id.
    """

    def __init__(
        self,
        detector: FaceDetector,
        config: TrackerConfig | None = None,
        describe: Describe | None = None,
    ) -> None:
        self.config = config or TrackerConfig()
        self._detector = detector
        self._describe = describe
        self._tracks: dict[int, _Track] = {}
        self._remembered: dict[int, np.ndarray] = {}
        self._next_id = 0
        self._since_search = 0
        self._thumbnail: np.ndarray | None = None

    def update(self, image: np.ndarray) -> dict[int, Face]:
        """Takes the next frame.

        Args:
            image: [H, W, 3] uint8 RGB.

        Returns:
            The faces in sight by track id; the first person seen has id 0.
        """
        cut = self._is_cut(image)
        if cut:
            # Landmarks placed at the old face's box would look like a face wherever they fall, and
            # whoever now stands at the old place may be somebody else.
            for number, track in list(self._tracks.items()):
                track.unseen = max(track.unseen, 1)
                if track.descriptor is not None:
                    self._forget(number)
        refined, lost = self._refine_all(image)
        if self._search_is_due(cut or lost):
            self._since_search = 1
            self._merge(image, refined, self._detector.detect(image))
        else:
            self._since_search += 1
            for number, face in refined.items():
                self._place(self._tracks[number], face)
        in_sight = {n: t.face for n, t in self._tracks.items() if t.unseen == 0}
        for number, track in list(self._tracks.items()):
            if track.unseen:
                track.unseen += 1
                if track.unseen > self.config.lost_after:
                    self._forget(number)
        return in_sight

    def _is_cut(self, image: np.ndarray) -> bool:
        rows, columns = (max(1, n // 48) for n in image.shape[:2])
        thumbnail = image[rows // 2 :: rows, columns // 2 :: columns, 1].astype(np.float32)
        before, self._thumbnail = self._thumbnail, thumbnail
        if before is None or before.shape != thumbnail.shape:
            return before is not None
        return float(np.abs(thumbnail - before).mean()) > self.config.scene_change

    def _search_is_due(self, alarmed: bool) -> bool:
        in_sight = [t for t in self._tracks.values() if t.unseen == 0]
        settled = bool(in_sight) and all(t.misses == 0 for t in in_sight)
        wait = self.config.detect_every if settled else self.config.retry_every
        return alarmed or self._since_search == 0 or self._since_search >= wait

    def _refine_all(self, image: np.ndarray) -> tuple[dict[int, Face], bool]:
        """Landmarks of the tracks in sight, and whether one of them was lost."""
        refined: dict[int, Face] = {}
        lost = False
        for number, track in self._tracks.items():
            if track.unseen:
                continue
            shift = np.tile(track.velocity, 2)
            face = self._detector.refine(image, track.face.box_xyxy_px + shift)
            if face is not None and _is_plausible(face, track.face):
                refined[number] = dataclasses.replace(face, score=track.face.score)
            else:
                track.unseen = 1
                lost = True
        return refined, lost

    def _merge(self, image: np.ndarray, refined: dict[int, Face], found: list[Face]) -> None:
        """Brings the faces of a search together with the tracks."""
        boxes = {
            n: refined[n].box_xyxy_px if n in refined else t.face.box_xyxy_px
            for n, t in self._tracks.items()
        }
        pairs = match_boxes(boxes, [f.box_xyxy_px for f in found], self.config.match_overlap)
        for number, face in refined.items():
            track = self._tracks[number]
            if number in pairs:
                detected = found[pairs[number]]
                # Following on keeps the landmarks' course smooth; only drift is worth a jump.
                keep = _distance(face, detected) <= _MAX_DRIFT
                chosen = dataclasses.replace(face, score=detected.score) if keep else detected
                self._place(track, chosen)
                track.misses = 0
            elif track.misses < self.config.max_misses:
                track.misses += 1
                self._place(track, face)
            else:
                track.unseen, track.misses = 1, 0
        for number, index in pairs.items():
            if number not in refined:
                self._return(number, found[index])
        taken = set(pairs.values())
        for index, face in enumerate(found):
            if index not in taken:
                self._add(image, face)

    def _add(self, image: np.ndarray, face: Face) -> None:
        for track in self._tracks.values():
            if track.unseen == 0 and overlap(track.face.box_xyxy_px, face.box_xyxy_px) > 0.5:
                return  # a second answer for a face that is already followed
        descriptor = None
        if self._describe is not None:
            descriptor = self._describe(image, face.landmarks_xy_px)
            number = self._recognise(descriptor)
            if number is not None:
                self._tracks.setdefault(number, _Track(face, np.zeros(2), 1, 0, descriptor))
                self._remembered.pop(number, None)
                self._return(number, face)
                return
        self._tracks[self._next_id] = _Track(face, np.zeros(2), descriptor=descriptor)
        self._next_id += 1

    def _recognise(self, descriptor: np.ndarray | None) -> int | None:
        if descriptor is None:
            return None
        known = dict(self._remembered)
        for number, track in self._tracks.items():
            if track.unseen and track.descriptor is not None:
                known[number] = track.descriptor
        distances = {n: float(np.linalg.norm(d - descriptor)) for n, d in known.items()}
        best = min(distances, key=distances.__getitem__, default=None)
        if best is None or distances[best] > self.config.same_person:
            return None
        return best

    def _return(self, number: int, face: Face) -> None:
        track = self._tracks[number]
        track.face, track.velocity = face, np.zeros(2)
        track.unseen = track.misses = 0

    def _place(self, track: _Track, face: Face) -> None:
        before, now = track.face.box_xyxy_px, face.box_xyxy_px
        track.velocity = ((now[:2] + now[2:]) - (before[:2] + before[2:])).astype(float) / 2.0
        track.face = face

    def _forget(self, number: int) -> None:
        descriptor = self._tracks.pop(number).descriptor
        if descriptor is not None:
            self._remembered[number] = descriptor
            while len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))

    def state(self) -> dict[str, Any]:
        """The tracker's memory as JSON values."""
        thumbnail = self._thumbnail
        return {
            "next_id": self._next_id,
            "since_search": self._since_search,
            "thumbnail": None if thumbnail is None else thumbnail.astype(int).tolist(),
            "remembered": [[n, d.tolist()] for n, d in self._remembered.items()],
            "tracks": [
                {
                    "id": number,
                    "landmarks": track.face.landmarks_xy_px.tolist(),
                    "box": track.face.box_xyxy_px.tolist(),
                    "score": track.face.score,
                    "velocity": track.velocity.tolist(),
                    "unseen": track.unseen,
                    "misses": track.misses,
                    "descriptor": (None if track.descriptor is None else track.descriptor.tolist()),
                }
                for number, track in self._tracks.items()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over the memory that ``state`` gave."""
        self._next_id = state["next_id"]
        self._since_search = state["since_search"]
        thumbnail = state["thumbnail"]
        self._thumbnail = None if thumbnail is None else np.array(thumbnail, np.float32)
        self._remembered = {n: np.array(d, np.float32) for n, d in state["remembered"]}
        self._tracks = {
            t["id"]: _Track(
                Face(
                    np.array(t["landmarks"], np.float32),
                    np.array(t["box"], np.float32),
                    t["score"],
                ),
                np.array(t["velocity"]),
                t["unseen"],
                t["misses"],
                None if t["descriptor"] is None else np.array(t["descriptor"], np.float32),
            )
            for t in state["tracks"]
        }


def overlap(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> float:
    """Intersection over union of two boxes [4]."""
    wide = min(a_xyxy[2], b_xyxy[2]) - max(a_xyxy[0], b_xyxy[0])
    high = min(a_xyxy[3], b_xyxy[3]) - max(a_xyxy[1], b_xyxy[1])
    common = max(0.0, float(wide)) * max(0.0, float(high))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a_xyxy, b_xyxy)]
    union = sum(areas) - common
    return common / union if union > 0.0 else 0.0


def match_boxes(
    tracks: Mapping[int, np.ndarray], found: list[np.ndarray], least: float
) -> dict[int, int]:
    """Pairs tracks with found boxes, the greatest overlap first.

    Args:
        tracks: Box [4] by track id.
        found: Boxes [4].
        least: Least overlap of a pair.

    Returns:
        Index into ``found`` by track id, for those that have a partner.
    """
    options = [
        (overlap(box, other), number, index)
        for number, box in tracks.items()
        for index, other in enumerate(found)
    ]
    pairs: dict[int, int] = {}
    for value, number, index in sorted(options, key=lambda o: (-o[0], o[1], o[2])):
        if value >= least and number not in pairs and index not in pairs.values():
            pairs[number] = index
    return pairs


def _distance(a: Face, b: Face) -> float:
    """Mean distance of the landmarks of two faces, in eye distances of the second."""
    apart = np.linalg.norm(a.landmarks_xy_px - b.landmarks_xy_px, axis=1).mean()
    return float(apart / max(float(interocular_px(b.landmarks_xy_px)), 1e-6))


def _is_plausible(face: Face, before: Face) -> bool:
    """Whether a face can follow another one frame later."""
    box, old = face.box_xyxy_px.astype(float), before.box_xyxy_px.astype(float)
    side, old_side = box[2] - box[0], old[2] - old[0]
    if not (old_side / _MAX_GROWTH <= side <= old_side * _MAX_GROWTH):
        return False
    step = np.hypot(*((box[:2] + box[2:]) - (old[:2] + old[2:]))) / 2.0
    return bool(step <= _MAX_STEP * old_side and strain(face.landmarks_xy_px) <= _MAX_STRAIN)


def strain(landmarks_xy_px: np.ndarray) -> float:
    """Distance of landmarks [68, 2] from the mean shape, RMS, in sides of their box.

    Head turns and open mouths stay below 0.1; scattered points do not.
    """
    xy = np.asarray(landmarks_xy_px, np.float64)
    box = box_from_landmarks(xy).astype(np.float64)
    side = max(float(box[2] - box[0]), 1e-6)
    roll = (xy[45] - xy[36]) @ np.array([1.0, 1.0j])
    turn = np.conj(roll) / max(abs(roll), 1e-6)
    middle = (box[:2] + box[2:]) / 2.0
    upright = ((xy - middle) @ np.array([1.0, 1.0j])) * turn / side
    mean = (MEAN_SHAPE - 0.5) @ np.array([1.0, 1.0j])
    return float(np.sqrt((np.abs(upright - mean) ** 2).mean()))
