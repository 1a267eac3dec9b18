"""Brings one person's landmarks into another person's geometry.

A generator that was trained on one person S knows S's head shape, S's mouth and the places where
S's head has been. Landmarks of another person C are outside of that, so they are translated first:
fit_geometry summarises what a clip of a person showed, and a Retargeter built from two summaries
rewrites C's landmarks frame by frame as S's own face doing what C does.

A frame is taken apart into
  1. the pose of the head in the crop (position, scale, roll), from points that hardly deform;
  2. eight measures of the shape that is left (FEATURES: openings, brows, turn of the head), which
     are linear in the landmarks, and the directions in which that person's landmarks move with
     them, from a regression over the clip;
  3. what neither explains (rounding of the lips, a crooked smile, frown of the inner brows).
Pose and measures are mapped between the ranges that both clips showed, the rest is scaled with the
size of the part of the face, and S's neutral face and S's directions put the frame together again.
Last, the shape is held inside of what S's clip showed (a principal component model of S).
"""

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from facegan.errors import ConfigError, DataError

NUM_POINTS = 68
# The measures of a shape, in units of the distance between the eyes.
FEATURES = (
    "mouth_opening",
    "mouth_width",
    "right_eye_opening",
    "left_eye_opening",
    "right_brow_height",
    "left_brow_height",
    "yaw",
    "pitch",
)
POSE = ("x", "y", "log_scale", "roll_rad")
# Towards the camera, zero at the eye corners, in units of the distance between the eyes: medians
# over sixteen faces, made symmetric. Turning and nodding a little moves a point in proportion.
_HALF_JAW = (-0.84, -0.81, -0.77, -0.70, -0.60, -0.46, -0.31, -0.14)
_HALF_BROW = (0.01, 0.16, 0.26, 0.33, 0.36)
LANDMARK_DEPTHS = np.array(
    [*_HALF_JAW, -0.05, *_HALF_JAW[::-1], *_HALF_BROW, *_HALF_BROW[::-1]]
    + [0.30, 0.41, 0.50, 0.59, 0.23, 0.30, 0.36, 0.30, 0.23]  # nose
    + [-0.05, 0.07, 0.09, 0.05, 0.05, 0.05, 0.05, 0.09, 0.07, -0.05, 0.05, 0.05]  # eyes
    + [-0.14, 0.08, 0.20, 0.22, 0.20, 0.08, -0.14, -0.02, 0.05, 0.06, 0.05, -0.02]  # outer lip
    + [-0.11, 0.13, 0.15, 0.13, -0.11, 0.06, 0.08, 0.06]  # inner lip
)
LANDMARK_DEPTHS.flags.writeable = False

# Corners of the eyes, bridge and base of the nose: what speech and mimicry hardly move.
_RIGID = np.array([36, 39, 42, 45, 27, 28, 29, 30, 31, 33, 35])
_INNER_LIP_PAIRS = np.array([(61, 67), (62, 66), (63, 65)])
# Lips that touch are detected about this far apart, in eye distances, on every face looked at.
_CLOSED_MOUTH = 0.015
_CLOSED_FEATURES = np.array([0, 2, 3])  # openings: they keep their value through the clamp
# A source's range as wide as this is movement, not noise, and may be enlarged; heads and brows
# never are.
_CLEAR_MOVEMENT = np.array([0.25, 0.25, 0.06, 0.06, np.inf, np.inf, np.inf, np.inf])
# Weight of the generic direction in the regression, as a variance in eye distances squared: a
# measure that varies less than this over the clip follows the generic face, else the clip.
_PRIOR_VARIANCE = np.square([0.03, 0.03, 0.015, 0.015, 0.03, 0.03, 0.03, 0.03])
# Room outside of the observed range, where the soft limit bends: measures, then pose. The pose's
# is about what augmentation while training covers.
_FEATURE_ROOM = np.array([0.04, 0.04, 0.01, 0.01, 0.04, 0.04, 0.03, 0.03])
_POSE_ROOM = np.array([0.02, 0.02, 0.04, 0.04])
# A face of which no more frames were seen may move as the source does.
_FEW_FRAMES = 32
_MAX_COMPONENTS = 16
_MAX_FIT_FRAMES = 4000
# Per part of the face: its landmarks, and the pairs whose distances say how large the part is.
_PARTS: tuple[tuple[slice, tuple[int, int], tuple[int, int]], ...] = (
    (slice(0, 17), (1, 15), (27, 8)),
    (slice(17, 22), (17, 21), (27, 33)),
    (slice(22, 27), (22, 26), (27, 33)),
    (slice(27, 36), (31, 35), (27, 33)),
    (slice(36, 42), (36, 39), (36, 39)),
    (slice(42, 48), (42, 45), (42, 45)),
    (slice(48, 68), (48, 54), (48, 54)),
)


def _measuring_matrix() -> np.ndarray:
    """[8, 136]: FEATURES as linear functions of the flattened landmarks (x0, y0, x1, ...)."""
    out = np.zeros((len(FEATURES), NUM_POINTS, 2))
    for upper, lower in _INNER_LIP_PAIRS:
        out[0, lower, 1] += 1 / 3
        out[0, upper, 1] -= 1 / 3
    out[1, [54, 64], 0], out[1, [48, 60], 0] = 0.5, -0.5
    out[2, [41, 40], 1], out[2, [37, 38], 1] = 0.5, -0.5
    out[3, [47, 46], 1], out[3, [43, 44], 1] = 0.5, -0.5
    out[4, [36, 39], 1], out[4, 17:22, 1] = 0.5, -0.2
    out[5, [42, 45], 1], out[5, 22:27, 1] = 0.5, -0.2
    out[6, [30, 33], 0], out[6, [36, 39, 42, 45], 0] = 0.5, -0.25
    out[7, [30, 33], 1], out[7, [36, 39, 42, 45], 1] = 0.5, -0.25
    return out.reshape(len(FEATURES), -1)


_MEASURE = _measuring_matrix()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FaceGeometry:
    """What a clip showed of one person's face: proportions, ranges of movement, known shapes.

    Shapes are flattened landmarks (x0, y0, x1, ...) in the face's own frame: origin between the
    eyes, eyes level, distance between the eyes 1. Pose is in units of the crop's side. Ranges are
    (low, neutral, high). ``config.encode`` and ``config.decode`` turn it into JSON and back.
    """

    KIND: ClassVar[str] = "face_geometry"
    VERSION: ClassVar[int] = 1

    version: int = 1
    size_px: int  # side of the crop whose pixels the landmarks are counted in
    num_frames: int
    neutral: tuple[float, ...]  # [136] mouth closed, the rest as in the middle of the clip
    pose_ranges: tuple[tuple[float, float, float], ...]  # one of each POSE
    feature_ranges: tuple[tuple[float, float, float], ...]  # one of each FEATURES
    directions: tuple[tuple[float, ...], ...]  # [8][136] movement for one unit of each FEATURES
    mean: tuple[float, ...]  # [136]
    components: tuple[tuple[float, ...], ...]  # [<= 16][136] orthonormal
    component_std: tuple[float, ...]
    component_ranges: tuple[tuple[float, float], ...]
    rest_rms: float  # how far the clip's shapes lie outside of the components

    def __post_init__(self) -> None:
        if self.version != self.VERSION:
            raise ConfigError(
                f"The face geometry has version {self.version}; this facegan reads version "
                f"{self.VERSION}. Fit it again from the clip."
            )
        if self.size_px < 1:
            raise ConfigError(f"size_px must be at least 1, got {self.size_px}.")
        width, count = 2 * NUM_POINTS, len(self.components)
        lengths = {
            "neutral": (len(self.neutral), width),
            "mean": (len(self.mean), width),
            "pose_ranges": (len(self.pose_ranges), len(POSE)),
            "feature_ranges": (len(self.feature_ranges), len(FEATURES)),
            "directions": (len(self.directions), len(FEATURES)),
            "component_std": (len(self.component_std), count),
            "component_ranges": (len(self.component_ranges), count),
            **{f"directions[{i}]": (len(d), width) for i, d in enumerate(self.directions)},
            **{f"components[{i}]": (len(c), width) for i, c in enumerate(self.components)},
        }
        for name, (got, wanted) in lengths.items():
            if got != wanted:
                raise ConfigError(f"The face geometry's {name} has {got} items, not {wanted}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RetargetConfig:
    """How landmarks of one person are brought into another person's geometry."""

    enabled: bool = True
    # "style": the head stands where the target's head stood and moves there as the source's does.
    # "content": the head stays where the source's is in its own crop.
    pose: Literal["style", "content"] = "style"
    proportions: bool = True  # the target's neutral face; else the source's
    openings: bool = True  # fully open becomes fully open, closed stays closed; else equal sizes
    # Mouth and eyes that move little in the source are enlarged to the target's range, but never
    # more than this beyond equal sizes, so that noise is not either.
    max_gain: float = 1.5
    min_pose_gain: float = 0.5  # a head that moves more than the target's is damped down to this
    # Shapes may leave the range that the target's clip showed by about this many standard
    # deviations of each shape component; None leaves them free.
    clamp_sigma: float | None = 0.5

    def __post_init__(self) -> None:
        if not 1.0 <= self.max_gain <= 10.0:
            raise ConfigError(f"max_gain must be in [1, 10], got {self.max_gain}.")
        if not 0.0 <= self.min_pose_gain <= 1.0:
            raise ConfigError(f"min_pose_gain must be in [0, 1], got {self.min_pose_gain}.")
        if self.clamp_sigma is not None and not 0.0 < self.clamp_sigma <= 10.0:
            raise ConfigError(
                f"clamp_sigma must be in (0, 10], or null for no limit; got {self.clamp_sigma}."
            )


def fit_geometry(landmarks: np.ndarray, present: np.ndarray, size_px: int) -> FaceGeometry:
    """Summarises the landmarks of one person's clip.

    Args:
        landmarks: [N, 68, 2] in pixels of a square crop; frames without a face may hold NaN. Of
            more than 4000 frames with a face, 4000 spread evenly are looked at.
        present: [N] bool, True where there is a face.
        size_px: Side of the crop.

    Returns:
        The geometry. One frame is enough; what a clip does not show follows a generic face.

    Raises:
        ConfigError: The arrays do not fit together.
        DataError: No frame has a face.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_POINTS, 2):
        raise ConfigError(f"landmarks must be [N, 68, 2], got {landmarks.shape}.")
    if present.shape != landmarks.shape[:1]:
        raise ConfigError(f"present must be [{landmarks.shape[0]}], got {present.shape}.")
    if size_px < 1:
        raise ConfigError(f"size_px must be at least 1, got {size_px}.")
    chosen = np.flatnonzero(present)
    if len(chosen) > _MAX_FIT_FRAMES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _MAX_FIT_FRAMES).astype(int)]
    points = np.asarray(landmarks[chosen], np.float64) / size_px
    points = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(points):
        raise DataError(f"None of the {len(landmarks)} frames has a face to fit a geometry to.")

    shapes, pose = _normalise(points)
    flat = shapes.reshape(len(shapes), -1)
    features = flat @ _MEASURE.T
    feature_ranges = _ranges(features)
    feature_ranges[0, 1] = _CLOSED_MOUTH
    mean, feature_mean = flat.mean(axis=0), features.mean(axis=0)
    directions = _regress(flat - mean, features - feature_mean, mean)
    neutral = mean + (feature_ranges[:, 1] - feature_mean) @ directions

    centred = flat - mean
    _, singular, basis = np.linalg.svd(centred, full_matrices=False)
    std = singular / np.sqrt(len(flat))
    components = basis[: min(_MAX_COMPONENTS, int(np.count_nonzero(std > 1e-6)))]
    coefficients = centred @ components.T
    rest = centred - coefficients @ components
    bounds = np.quantile(coefficients, [0.002, 0.998], axis=0).T
    return FaceGeometry(
        size_px=int(size_px),
        num_frames=len(flat),
        neutral=_floats(neutral),
        pose_ranges=tuple(_floats(r) for r in _ranges(pose)),  # type: ignore[misc]
        feature_ranges=tuple(_floats(r) for r in feature_ranges),  # type: ignore[misc]
        directions=tuple(_floats(d) for d in directions),
        mean=_floats(mean),
        components=tuple(_floats(c) for c in components),
        component_std=_floats(std[: len(components)]),
        component_ranges=tuple(_floats(b) for b in bounds),  # type: ignore[misc]
        rest_rms=float(np.quantile(np.linalg.norm(rest, axis=1), 0.99)),
    )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    """Plain numbers of eight decimals: far below a thousandth of a pixel, and short as JSON."""
    return tuple(round(float(v), 8) for v in values)


def _ranges(values: np.ndarray) -> np.ndarray:
    """[N, K] -> [K, 3] low, middle, high; a half per cent at each end is left to outliers."""
    return np.quantile(values, [0.005, 0.5, 0.995], axis=0).T


def _normalise(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separates heads from shapes.

    Args:
        points: [N, 68, 2] in units of the crop's side.

    Returns:
        Shapes [N, 68, 2] in the face's own frame, and pose [N, 4] as POSE.
    """
    eyes = np.stack([points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)], axis=1)
    shapes = _into_eye_frame(points, eyes)
    for _ in range(3):
        reference = np.median(shapes, axis=0)
        eyes = np.stack([reference[36:42].mean(axis=0), reference[42:48].mean(axis=0)])
        shapes, pose = _align(points, _into_eye_frame(reference, eyes))
    return shapes, pose


def _into_eye_frame(points: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    z, e = _complex(points), _complex(eyes)
    return _real((z - e.mean(axis=-1, keepdims=True)) / (e[..., 1:] - e[..., :1]))


def _align(points: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares similarity of the rigid points onto a reference shape [68, 2].

    Two-dimensional similarities are multiplications of complex numbers: no decomposition needed,
    which keeps a frame far below a millisecond. Works on [68, 2] and on [N, 68, 2].
    """
    z, goal = _complex(points), _complex(reference)[_RIGID]
    rigid = z[..., _RIGID]
    goal_mean, mean = goal.mean(), rigid.mean(axis=-1, keepdims=True)
    # goal -> frame, so that the pose does not depend on noise of the frame's own scale
    turn = ((goal - goal_mean).conj() * (rigid - mean)).sum(axis=-1, keepdims=True)
    turn = turn / np.square(np.abs(goal - goal_mean)).sum()
    origin = mean - turn * goal_mean
    turn, shapes = turn[..., 0], _real((z - origin) / turn)
    origin = origin[..., 0]
    return shapes, np.stack(
        [origin.real, origin.imag, np.log(np.abs(turn)), np.angle(turn)], axis=-1
    )


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


def _real(values: np.ndarray) -> np.ndarray:
    return np.stack([values.real, values.imag], axis=-1)


def _regress(shapes: np.ndarray, features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """[8, 136]: how landmarks move with each measure; ridge regression towards a generic face.

    Both sides keep ``directions @ _MEASURE.T`` the identity, so moving along one direction
    changes one measure and no other.
    """
    prior = _generic_directions(mean.reshape(NUM_POINTS, 2))
    ridge = np.diag(_PRIOR_VARIANCE)
    left = features.T @ features / len(shapes) + ridge
    return np.linalg.solve(left, features.T @ shapes / len(shapes) + ridge @ prior)


def _generic_directions(face: np.ndarray) -> np.ndarray:
    """Directions [8, 136] of an average face, by anatomy, on the points [68, 2] of this one."""
    out = np.zeros((len(FEATURES), NUM_POINTS, 2))
    for points, down in (
        ((61, 62, 63), -0.25),
        ((50, 51, 52), -0.2),
        ((60, 64, 48, 54), 0.25),
        ((65, 66, 67), 0.75),
        ((56, 57, 58), 0.7),
        ((55, 59), 0.55),
        ((7, 8, 9), 0.65),
        ((5, 6, 10, 11), 0.5),
        ((4, 12), 0.3),
        ((3, 13), 0.1),
    ):
        out[0, points, 1] = down
    mouth_x = face[48:68, 0] - face[48:68, 0].mean()
    out[1, 48:68, 0] = mouth_x / np.ptp(mouth_x)
    for row, upper, lower in ((2, (37, 38), (41, 40)), (3, (43, 44), (47, 46))):
        out[row, upper, 1], out[row, lower, 1] = -0.8, 0.2
    out[4, 17:22, 1] = out[5, 22:27, 1] = -1.0
    out[6, :, 0] = out[7, :, 1] = LANDMARK_DEPTHS
    flat = _without_similarity(out, face).reshape(len(FEATURES), -1)
    return np.linalg.solve(flat @ _MEASURE.T, flat)


def _without_similarity(moves: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Takes from movements [K, 68, 2] what the alignment of the rigid points would undo."""
    z, m = _complex(face), _complex(moves)
    z = z - z[_RIGID].mean()
    shift = m[:, _RIGID].mean(axis=1, keepdims=True)
    turn = (z[_RIGID].conj() * (m[:, _RIGID] - shift)).sum(axis=1, keepdims=True)
    return _real(m - shift - z * turn / np.square(np.abs(z[_RIGID])).sum())


class Retargeter:
    """Rewrites the landmarks of one person as another person's; the work per frame is constant.

    Calling it takes [68, 2] in pixels of the source's crop (``source.size_px``) and returns
    float32 [68, 2] in pixels of the target's crop (``target.size_px``). No state is kept between
    calls. With ``enabled=False`` only the crop's size is changed. NaN in gives NaN out.
    """

    def __init__(
        self,
        source: FaceGeometry,
        target: FaceGeometry,
        config: RetargetConfig | None = None,
    ) -> None:
        self.config = config or RetargetConfig()
        self._source_size, self._target_size = source.size_px, target.size_px
        neutral_source = np.array(source.neutral)
        # The alignment needs the shape that the source's poses were measured against.
        self._reference = _reference_shape(source)
        self._source_neutral = neutral_source
        self._source_directions = np.array(source.directions)
        self._target_neutral = np.array(target.neutral)
        self._target_directions = np.array(target.directions)
        if not self.config.proportions:
            self._target_neutral = neutral_source
            self._target_directions = self._source_directions
        self._rest_scale = self._scales_of_parts(neutral_source, self._target_neutral)
        self._is_known = target.num_frames > _FEW_FRAMES
        if not self._is_known:
            target = self._with_movements(source, target)
        self._plan_features(source, target)
        self._plan_pose(source, target)
        self._plan_clamp(target)

    def __call__(self, landmarks_xy_px: np.ndarray) -> np.ndarray:
        if landmarks_xy_px.shape != (NUM_POINTS, 2):
            raise ConfigError(f"landmarks must be [68, 2], got {landmarks_xy_px.shape}.")
        points = np.asarray(landmarks_xy_px, np.float64) / self._source_size
        if not self.config.enabled:
            return (points * self._target_size).astype(np.float32)
        if not np.isfinite(points).all():
            return np.full((NUM_POINTS, 2), np.nan, np.float32)
        shape, pose = _align(points, self._reference)
        flat = shape.reshape(-1)
        features = _MEASURE @ flat
        moved = features - self._source_features[:, 1]
        rest = (flat - self._source_neutral - moved @ self._source_directions) * self._rest_scale
        rest -= (_MEASURE @ rest) @ self._target_directions
        wanted = np.where(moved > 0, self._gain_up, self._gain_down) * moved
        wanted = _soft_limit(wanted, self._low, self._high, _FEATURE_ROOM)
        out = self._clamp(self._target_neutral + wanted @ self._target_directions + rest)
        got = _MEASURE @ (out - self._target_neutral)
        out += (wanted - got)[_CLOSED_FEATURES] @ self._target_directions[_CLOSED_FEATURES]
        placed = self._place(_part_lips(out.reshape(NUM_POINTS, 2)), self._map_pose(pose))
        return (placed * self._target_size).astype(np.float32)

    def _with_movements(self, source: FaceGeometry, target: FaceGeometry) -> FaceGeometry:
        """A target that was hardly seen, with room for all that the source does."""
        own, goal = np.array(source.feature_ranges), np.array(target.feature_ranges)
        around = self._feature_scales(own, goal)[:, None] * (own - own[:, 1:2]) + goal[:, 1:2]
        features = np.stack(
            [
                np.minimum(goal[:, 0], around[:, 0]),
                goal[:, 1],
                np.maximum(goal[:, 2], around[:, 2]),
            ],
            axis=1,
        )
        own_pose, pose = np.array(source.pose_ranges), np.array(target.pose_ranges)
        grown = np.array([1.0, 1.0, 0.0, 0.0]) * (pose[2, 1] - own_pose[2, 1])
        moved = np.exp(grown)[:, None] * (own_pose - own_pose[:, 1:2]) + pose[:, 1:2]
        poses = np.stack(
            [np.minimum(pose[:, 0], moved[:, 0]), pose[:, 1], np.maximum(pose[:, 2], moved[:, 2])],
            axis=1,
        )
        return dataclasses.replace(
            target,
            feature_ranges=tuple(_floats(r) for r in features),  # type: ignore[misc]
            pose_ranges=tuple(_floats(r) for r in poses),  # type: ignore[misc]
        )

    def _plan_features(self, source: FaceGeometry, target: FaceGeometry) -> None:
        """Gains above and below neutral, from equal movement to equal share of the range."""
        own, goal = np.array(source.feature_ranges), np.array(target.feature_ranges)
        self._source_features = own
        sizes = self._feature_scales(own, goal)
        self._gain_up, self._gain_down = sizes, sizes
        self._low, self._high = np.full(len(FEATURES), -np.inf), np.full(len(FEATURES), np.inf)
        if self.config.openings:
            up, down = own[:, 2] - own[:, 1], own[:, 1] - own[:, 0]
            moves = np.clip((up + down) / _CLEAR_MOVEMENT, 0.0, 1.0)
            limit = sizes * (1.0 + (self.config.max_gain - 1.0) * moves)
            self._gain_up = _gain(goal[:, 2] - goal[:, 1], up, sizes, limit)
            self._gain_down = _gain(goal[:, 1] - goal[:, 0], down, sizes, limit)
            # Below closed there is nothing to map.
            self._gain_down[0] = sizes[0]
        if self.config.clamp_sigma is not None:
            self._low, self._high = goal[:, 0] - goal[:, 1], goal[:, 2] - goal[:, 1]

    def _feature_scales(self, own: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """[8] how much larger each measured part is in the target's face than in the source's."""
        scale = self._rest_scale.reshape(NUM_POINTS, 2)
        eyes = scale[36, 0], scale[42, 0]
        return np.array([scale[51, 1], scale[51, 0], *eyes, 1.0, 1.0, 1.0, 1.0])

    def _scales_of_parts(self, own: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """[136] sizes of the target's parts of the face relative to the source's, x and y."""
        own, goal = own.reshape(NUM_POINTS, 2), goal.reshape(NUM_POINTS, 2)
        out = np.ones((NUM_POINTS, 2))
        for part, *pairs in _PARTS:
            for axis, (a, b) in enumerate(pairs):
                size = np.linalg.norm(own[a] - own[b])
                ratio = np.linalg.norm(goal[a] - goal[b]) / max(float(size), 1e-3)
                out[part, axis] = np.clip(ratio, 0.6, 1.6)
        return out.reshape(-1)

    def _plan_pose(self, source: FaceGeometry, target: FaceGeometry) -> None:
        own, goal = np.array(source.pose_ranges), np.array(target.pose_ranges)
        # A head twice as large in its crop moves twice as far when it does the same.
        units = np.array([1.0, 1.0, 0.0, 0.0]) * (goal[2, 1] - own[2, 1])
        units = np.exp(units)
        room = (goal[:, 2] - goal[:, 0]) / 2 + _POSE_ROOM
        spread = np.maximum((own[:, 2] - own[:, 0]) / 2 * units, 1e-9)
        gain = np.clip(room / spread, self.config.min_pose_gain, 1.0)
        self._pose_gain = gain * units
        self._pose_own, self._pose_goal = own[:, 1], goal[:, 1]
        self._pose_low, self._pose_high = goal[:, 0] - goal[:, 1], goal[:, 2] - goal[:, 1]

    def _map_pose(self, pose: np.ndarray) -> np.ndarray:
        if self.config.pose == "content":
            return pose
        moved = (pose - self._pose_own) * self._pose_gain
        if self.config.clamp_sigma is not None:
            moved = _soft_limit(moved, self._pose_low, self._pose_high, _POSE_ROOM)
        return self._pose_goal + moved

    @staticmethod
    def _place(shape: np.ndarray, pose: np.ndarray) -> np.ndarray:
        turn = np.exp(complex(pose[2], pose[3]))
        return _real(_complex(shape) * turn + complex(pose[0], pose[1]))

    def _plan_clamp(self, target: FaceGeometry) -> None:
        sigma = self.config.clamp_sigma
        # Few frames do not show what a face can do.
        self._clamps = sigma is not None and self.config.proportions and self._is_known
        self._mean = np.array(target.mean)
        self._components = np.array(target.components).reshape(-1, 2 * NUM_POINTS)
        self._bounds = np.array(target.component_ranges).reshape(-1, 2)
        self._bound_room = np.array(target.component_std) * (sigma or 1.0) + 1e-4
        # A shape of another person never lies in the subspace exactly; this much may be outside
        # of it even if the target's clip is too short to have shown any.
        self._rest_limit = max(target.rest_rms, 0.02) * (1.0 + (sigma or 0.0))

    def _clamp(self, flat: np.ndarray) -> np.ndarray:
        if not self._clamps:
            return flat
        centred = flat - self._mean
        coefficients = self._components @ centred
        rest = centred - coefficients @ self._components
        coefficients = _soft_limit(
            coefficients, self._bounds[:, 0], self._bounds[:, 1], self._bound_room
        )
        size = float(np.sqrt(rest @ rest))
        if size > self._rest_limit:
            rest *= self._rest_limit / size
        return self._mean + coefficients @ self._components + rest


def _reference_shape(geometry: FaceGeometry) -> np.ndarray:
    """[68, 2] a shape with the rigid points that the geometry's poses were measured against."""
    return np.array(geometry.mean).reshape(NUM_POINTS, 2)


def _gain(goal: np.ndarray, own: np.ndarray, equal: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Ratio of two ranges, at most ``limit``; ``equal`` where neither clip moved."""
    ratio = np.maximum(goal, 0.0) / np.maximum(own, 1e-6)
    return np.where(np.maximum(goal, own) < 1e-6, equal, np.minimum(ratio, limit))


def _soft_limit(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """Leaves [low, high] as it is, and bends what lies outside into ``room`` around it.

    Its slope is nowhere above one, so it adds no jitter, and has no step.
    """
    inside = np.minimum(np.maximum(values, low), high)
    return inside + room * np.tanh((values - inside) / room)


def _part_lips(shape: np.ndarray) -> np.ndarray:
    """Pulls inner lips apart where the lower one crossed the upper one."""
    upper, lower = _INNER_LIP_PAIRS[:, 0], _INNER_LIP_PAIRS[:, 1]
    crossed = np.maximum(shape[upper, 1] - shape[lower, 1], 0.0) / 2
    shape[upper, 1] -= crossed
    shape[lower, 1] += crossed
    return shape
