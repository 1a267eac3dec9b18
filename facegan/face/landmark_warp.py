"""Bends a picture so that the face in it takes another face's shape."""

from __future__ import annotations

import cv2
import numpy as np

from facegan.face.align import estimate_similarity, transform_points
from facegan.face.landmarks import SKULL_POINTS

# The bend is smooth; it is computed for every so many pixels.
_STEP_PX = 4
# Widths of the bells that displacements are spread by, coarse to fine, in widths of the jaw, and
# how far a landmark may stay from its place for the bend to stay smooth.
_WIDTHS = (0.35, 0.1)
_RIDGE = 0.05


def bend_to_landmarks(
    image: np.ndarray, from_xy_px: np.ndarray, to_xy_px: np.ndarray
) -> np.ndarray:
    """Moves a picture's landmarks to other places, and what is around them along.

    Far from the face all moves as the skull does: shifted, turned and scaled. What is left is
    spread by Gaussian bells around the landmarks, first wide ones, then narrow ones for what those
    leave. Beyond the border the outermost pixels go on.

    Args:
        image: [H, W, 3] uint8.
        from_xy_px: [68, 2], where the landmarks are.
        to_xy_px: [68, 2], where they shall be.

    Returns:
        [H, W, 3] uint8.
    """
    start, goal = np.asarray(from_xy_px, np.float64), np.asarray(to_xy_px, np.float64)
    height, width = image.shape[:2]
    x = np.arange(0, width + _STEP_PX, _STEP_PX)
    y = np.arange(0, height + _STEP_PX, _STEP_PX)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float64)
    # Backwards: where does each new pixel come from?
    rigid = estimate_similarity(goal[SKULL_POINTS], start[SKULL_POINTS])
    source = transform_points(rigid, grid)
    left = start - transform_points(rigid, goal)
    jaw = max(float(np.linalg.norm(goal[16] - goal[0])), 1.0)
    for share in _WIDTHS:
        bells = _bells(goal, goal, share * jaw)
        weights = np.linalg.solve(bells + _RIDGE * np.eye(len(goal)), left)
        source = source + _bells(grid, goal, share * jaw) @ weights
        left = left - bells @ weights
    coarse = source.reshape(len(y), len(x), 2).astype(np.float32)
    # Node (i, j) of the grid is pixel (4 i, 4 j).
    across, down = np.meshgrid(
        np.arange(width, dtype=np.float32) / _STEP_PX,
        np.arange(height, dtype=np.float32) / _STEP_PX,
    )
    x_map, y_map = cv2.split(cv2.remap(coarse, across, down, cv2.INTER_LINEAR))
    return cv2.remap(image, x_map, y_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _bells(points: np.ndarray, centres: np.ndarray, width_px: float) -> np.ndarray:
    """[N, K] exp(-d^2 / 2 w^2) between points [N, 2] and centres [K, 2]."""
    squared = ((points[:, None] - centres[None]) ** 2).sum(axis=-1)
    return np.exp(squared * (-0.5 / width_px**2))
