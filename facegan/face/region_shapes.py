"""Where the regions of a face lie, by its landmarks."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

# Sub-pixel bits of OpenCV's polygon coordinates.
_SHIFT = 4
# Height of the head's upper half over the ends of the jaw line, in eye distances.
_DOME = 1.45


@dataclasses.dataclass(frozen=True, slots=True)
class FaceFrame:
    """Places in terms of the face: from the bridge of the nose, in distances between the eyes.

    Attributes:
        across: [H, W] float32, to the right of the picture.
        up: [H, W] float32, towards the forehead.
        outside: [H, W] float32, distance from the face's outline; 0 in it.
        inside: [H, W] bool, within the face's outline, the forehead up to where hair may begin.
        below: [H, W] bool, under the line of the jaw.
        unit_px: The distance between the eyes.
    """

    across: np.ndarray
    up: np.ndarray
    outside: np.ndarray
    inside: np.ndarray
    below: np.ndarray
    unit_px: float


def frame_face(landmarks_xy_px: np.ndarray, size_px: int) -> FaceFrame:
    """Measures a picture of ``size_px`` by the landmarks [68, 2] of its face."""
    xy = landmarks_xy_px.astype(np.float64)
    right_eye, left_eye = xy[36:42].mean(axis=0), xy[42:48].mean(axis=0)
    # A turned head has its eyes nearer to each other than an upright one: height tells too.
    height = float(np.linalg.norm(xy[27] - xy[8]))
    unit = max(float(np.linalg.norm(left_eye - right_eye)), 0.5 * height, 2.0)
    up = xy[27] - xy[8]
    up = up / max(np.linalg.norm(up), 1e-6)
    right = np.array([-up[1], up[0]])
    rows, columns = np.mgrid[0:size_px, 0:size_px].astype(np.float32)
    x, y = (columns - xy[27, 0]) / unit, (rows - xy[27, 1]) / unit
    across, above = x * right[0] + y * right[1], x * up[0] + y * up[1]

    ends = (xy[0] + xy[16]) / 2
    half = (xy[16] - xy[0]) / 2
    angles = np.linspace(0, np.pi, 17)[1:-1, None]
    dome = ends + half * np.cos(angles) + up * _DOME * unit * np.sin(angles)
    inside = fill([np.concatenate([xy[:17], dome])], size_px) > 0
    outside = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 3) / unit
    # Everything on the far side of the jaw from ear to ear, by straight lines down to the edge.
    far = 4.0 * size_px
    drop = [xy[14] - up * far, xy[2] - up * far]
    below = fill([np.concatenate([xy[2:15], drop])], size_px) > 0
    return FaceFrame(across, above, outside, inside, below & ~inside, unit)


def part_polygons(landmarks_xy_px: np.ndarray) -> dict[str, np.ndarray]:
    """Outlines [N, 2] of what lies within the face, by label, in the order they are painted."""
    xy = landmarks_xy_px.astype(np.float64)
    up = xy[27] - xy[8]
    up = up / max(np.linalg.norm(up), 1e-6)
    unit = max(float(np.linalg.norm(xy[42:48].mean(axis=0) - xy[36:42].mean(axis=0))), 2.0)
    bridge = 0.16 * (xy[42] - xy[39])
    wing = 0.5
    nose = np.stack(
        [
            xy[27] - bridge,
            xy[29] - 1.2 * bridge,
            xy[31] + wing * (xy[31] - xy[33]) + 0.14 * unit * up,
            xy[31] + wing * (xy[31] - xy[33]),
            xy[32] - 0.03 * unit * up,
            xy[33] - 0.05 * unit * up,
            xy[34] - 0.03 * unit * up,
            xy[35] + wing * (xy[35] - xy[33]),
            xy[35] + wing * (xy[35] - xy[33]) + 0.14 * unit * up,
            xy[29] + 1.2 * bridge,
            xy[27] + bridge,
        ]
    )

    def brow(points: np.ndarray) -> np.ndarray:
        return np.concatenate([points + 0.07 * unit * up, (points - 0.09 * unit * up)[::-1]])

    # The picture's left is the person's right, and so is CelebAMask-HQ's "r_".
    return {
        "nose": nose,
        "r_eye": xy[36:42],
        "l_eye": xy[42:48],
        "r_brow": brow(xy[17:22]),
        "l_brow": brow(xy[22:27]),
        "mouth": xy[60:68],
        "u_lip": np.concatenate([xy[48:55], xy[[64, 63, 62, 61, 60]]]),
        "l_lip": np.concatenate([xy[54:60], xy[[48, 60, 67, 66, 65, 64]]]),
    }


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
