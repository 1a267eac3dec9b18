"""Where the regions of a face lie, by its landmarks."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

# Sub-pixel bits of OpenCV's polygon coordinates.
_SHIFT = 4
# Height of the hair line over the ends of the jaw line, in eye distances, if nothing else tells.
_DOME = 1.3
# From the bridge of the nose to its base, in eye distances, of the mean face.
_NOSE = 0.81


@dataclasses.dataclass(frozen=True, slots=True)
class FaceFrame:
    """Places in terms of the face: from the middle of the eyes, in distances between the eyes.

    Attributes:
        across: [H, W] float32, to the right of the picture, from the middle of the head.
        up: [H, W] float32, towards the forehead.
        outside: [H, W] float32, distance from the face's outline, which follows the jaw and ends
            where hair usually begins; negative in it.
        below: [H, W] float32, the same from all that lies under the line of the jaw.
        unit_px: The distance between the eyes, seen from the front.
        turn: How far the head is turned to the right of the picture, about -1 to 1.
        ears_xy: [2, 2] float64, (across, up) of the middles of the person's right and left ear.
    """

    across: np.ndarray
    up: np.ndarray
    outside: np.ndarray
    below: np.ndarray
    unit_px: float
    turn: float
    ears_xy: np.ndarray


def face_axes(landmarks_xy_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Unit vectors to the picture's right and up the face, and the distance between the eyes.

    Neither follows the chin: a face must not turn or grow when it opens its mouth.
    """
    xy = landmarks_xy_px
    eyes = xy[42:48].mean(axis=0) - xy[36:42].mean(axis=0)
    ends = xy[16] - xy[0]
    right = eyes / max(np.linalg.norm(eyes), 1e-6) + ends / max(np.linalg.norm(ends), 1e-6)
    right = right / max(np.linalg.norm(right), 1e-6)
    if not right.any():
        right = np.array([1.0, 0.0])
    up = np.array([right[1], -right[0]])
    # The eyes of a turned head are seen nearer to each other, its nose as long as ever.
    nose = abs(float((xy[27] - xy[33]) @ up)) / _NOSE
    return right, up, max(float(np.linalg.norm(eyes)), 0.9 * nose, 2.0)


def frame_face(landmarks_xy_px: np.ndarray, size_px: int) -> FaceFrame:
    """Measures a picture of ``size_px`` by the landmarks [68, 2] of its face."""
    xy = landmarks_xy_px.astype(np.float64)
    right, up, unit = face_axes(xy)
    ends, half = (xy[0] + xy[16]) / 2, (xy[16] - xy[0]) / 2
    width = max(float(half @ right), 0.5 * unit)
    turn = float(np.clip((xy[27] - ends) @ right / width, -1.0, 1.0))
    # The head's middle lies behind the face: a turned face is seen at its side.
    origin = xy[36:48].mean(axis=0)
    middle = ends - right * (0.45 * turn * width)
    origin = origin + right * ((middle - origin) @ right)
    line = np.arange(size_px, dtype=np.float32)
    # Affine in row and column, so that two outer sums do it.
    x, y = (line - np.float32(origin[0])) / unit, (line - np.float32(origin[1])) / unit
    axes = np.array([right, up], np.float32)
    across = axes[0, 1] * y[:, None] + axes[0, 0] * x[None]
    above = axes[1, 1] * y[:, None] + axes[1, 0] * x[None]

    angles = np.linspace(0, np.pi, 17)[1:-1, None]
    dome = ends + half * np.cos(angles) + up * _DOME * unit * np.sin(angles)
    outside = _signed_distance(np.concatenate([xy[:17], dome]), size_px) / np.float32(unit)
    # Everything on the far side of the jaw from ear to ear, by straight lines down to the edge.
    drop = 4.0 * size_px
    below = np.concatenate([xy[2:15], [xy[14] - up * drop, xy[2] - up * drop]])
    ears = np.stack([xy[[0, 1, 2]].mean(axis=0), xy[[16, 15, 14]].mean(axis=0)]) - origin
    ears = np.stack([ears @ right, ears @ up], axis=1) / unit
    ears[:, 0] += (-0.1, 0.1)
    ears[:, 1] += 0.02
    return FaceFrame(
        across,
        above,
        outside,
        _signed_distance(below, size_px) / np.float32(unit),
        unit,
        turn,
        ears,
    )


def _signed_distance(polygon: np.ndarray, size_px: int) -> np.ndarray:
    """Distance [size_px, size_px] float32 from a polygon in pixels, negative in it."""
    inside = fill([polygon], size_px)
    # A polygon that lies outside the picture is infinitely far away.
    out = np.minimum(cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3), np.float32(4 * size_px))
    # Half a pixel each way makes up for the border between two pixels' centres.
    return out - cv2.distanceTransform(inside, cv2.DIST_L2, 3) + (inside - np.float32(0.5))


def round_off(points: np.ndarray, steps: int = 4) -> np.ndarray:
    """A closed smooth line through points [N, 2]: [N * steps, 2].

    The uniform Catmull-Rom spline, which passes through every point.
    """
    before, after, next_ = (np.roll(points, n, axis=0) for n in (1, -1, -2))
    t = (np.arange(steps) / steps)[None, :, None]
    curve = _spline(before[:, None], points[:, None], after[:, None], next_[:, None], t)
    return curve.reshape(-1, 2)


def open_line(points: np.ndarray, count: int) -> np.ndarray:
    """A smooth open line through points [N, 2], in ``count`` steps: [count, 2]."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    place = np.linspace(0, len(points) - 1, count)
    index = np.minimum(place.astype(int), len(points) - 2)
    p0, p1, p2, p3 = (padded[index + k] for k in range(4))
    return _spline(p0, p1, p2, p3, (place - index)[:, None])


def _spline(
    before: np.ndarray, start: np.ndarray, end: np.ndarray, after: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Points between ``start`` (t = 0) and ``end`` (t = 1) on the uniform Catmull-Rom spline."""
    bend = 2 * before - 5 * start + 4 * end - after
    return start + 0.5 * t * (
        (end - before) + t * (bend + t * (3 * (start - end) + after - before))
    )


# A mouth that gapes by more is open, in eye distances.
_OPEN = 0.03
# How far a brow reaches over and under the line of its landmarks, from its outer end to its
# inner, in eye distances.
_BROW_OVER = np.array([0.0, 0.015, 0.025, 0.025, 0.025, 0.02, 0.01, 0.0, -0.02])
_BROW_UNDER = np.array([0.02, 0.055, 0.085, 0.105, 0.115, 0.12, 0.12, 0.115, 0.08])


def part_polygons(landmarks_xy_px: np.ndarray) -> dict[str, np.ndarray]:
    """Outlines [N, 2] of what lies within the face, by label, in the order they are painted.

    A closed mouth has no ``mouth``, which is what is seen between the lips.
    """
    xy = landmarks_xy_px.astype(np.float64)
    right, up, unit = face_axes(xy)
    # Half the nose's width at the nostrils, on either side of its base.
    wing_r, wing_l = xy[31] - xy[33], xy[35] - xy[33]
    bridge = 0.17 * max(float((xy[42] - xy[39]) @ right), 0.3 * unit) * right
    nose = np.stack(
        [
            xy[27] - 0.95 * bridge + 0.12 * unit * up,
            xy[27] - 0.95 * bridge,
            xy[28] - 1.15 * bridge,
            xy[29] - 1.75 * bridge,
            xy[31] + 0.4 * wing_r + 0.2 * unit * up,
            xy[31] + 0.55 * wing_r + 0.1 * unit * up,
            xy[31] + 0.45 * wing_r + 0.02 * unit * up,
            xy[31] - 0.01 * unit * up,
            xy[32] - 0.01 * unit * up,
            xy[33] - 0.015 * unit * up,
            xy[34] - 0.01 * unit * up,
            xy[35] - 0.01 * unit * up,
            xy[35] + 0.45 * wing_l + 0.02 * unit * up,
            xy[35] + 0.55 * wing_l + 0.1 * unit * up,
            xy[35] + 0.4 * wing_l + 0.2 * unit * up,
            xy[29] + 1.75 * bridge,
            xy[28] + 1.15 * bridge,
            xy[27] + 0.95 * bridge,
            xy[27] + 0.95 * bridge + 0.12 * unit * up,
        ]
    )

    def eye(points: np.ndarray) -> np.ndarray:
        # The model's points on the lower lid stand on its edge of skin, and below the eyeball.
        lift = np.array([0.01, 0.01, 0.01, 0.01, 0.03, 0.03])[:, None]
        return round_off(points + lift * unit * up)

    def brow(points: np.ndarray) -> np.ndarray:
        """From the outer end to the inner."""
        line = open_line(points, len(_BROW_OVER))
        over = line + up * unit * _BROW_OVER[:, None]
        return np.concatenate([over, (line - up * unit * _BROW_UNDER[:, None])[::-1]])

    # The model's points under the lower lip stand in its shade, and a closed mouth gapes a little.
    lips = xy[48:60].copy()
    lips[7:] += 0.02 * unit * up
    gap = xy[60:68].copy()
    above, under = gap[[1, 2, 3]], gap[[7, 6, 5]]
    is_open = float(((above - under) @ up).mean()) > _OPEN * unit
    if not is_open:
        gap[[1, 2, 3]] = gap[[7, 6, 5]] = (above + under) / 2
    inner, outer = round_off(gap), round_off(lips)
    # Four steps a point: the corners of the mouth are the first point and the middle one.
    upper = np.concatenate([outer[:25], inner[16::-1]])
    lower = np.concatenate([outer[24:], outer[:1], inner[:1], inner[:15:-1]])
    # The picture's left is the person's right, and so is CelebAMask-HQ's "r_".
    parts = {
        "nose": nose,
        "r_eye": eye(xy[36:42]),
        "l_eye": eye(xy[42:48]),
        "r_brow": brow(xy[17:22]),
        "l_brow": brow(xy[26:21:-1]),
        "u_lip": upper,
        "l_lip": lower,
    }
    return {**parts, "mouth": inner} if is_open else parts


def fill(polygons: list[np.ndarray], size_px: int) -> np.ndarray:
    """Polygons [N, 2] as a mask [size_px, size_px] uint8 of 0 and 1."""
    mask = np.zeros((size_px, size_px), np.uint8)
    # Far-away points would overflow OpenCV's fixed point numbers.
    limit = 8.0 * size_px
    fixed = [
        np.rint(np.clip(points, -limit, limit) * (1 << _SHIFT)).astype(np.int32)
        for points in polygons
    ]
    cv2.fillPoly(mask, fixed, 1, cv2.LINE_8, _SHIFT)
    return mask
