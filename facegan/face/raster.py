"""Landmarks -> drawing.

The drawing follows pix2pix for faces: jaw, brows and nose bridge as open lines; lower nose, eyes
and both lips as closed ones; on black.
"""

import dataclasses
from typing import ClassVar, Literal

import cv2
import numpy as np

from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import CLOSED, GROUPS, NUM_LANDMARKS

# Well apart in every channel, so that touching groups (lips, nose) can be told from each other.
GROUP_COLOURS: dict[str, tuple[int, int, int]] = {
    "jaw": (255, 255, 255),
    "right_brow": (255, 128, 0),
    "left_brow": (255, 255, 0),
    "nose_bridge": (0, 255, 128),
    "nose_lower": (0, 255, 0),
    "right_eye": (0, 128, 255),
    "left_eye": (0, 255, 255),
    "outer_lip": (255, 0, 0),
    "inner_lip": (255, 0, 255),
}

# Sub-pixel bits of OpenCV's line coordinates.
_SHIFT = 6


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DrawingConfig:
    """How landmarks are drawn.

    Attributes:
        line_width: Width of the lines in pixels of a 256 px drawing; it scales with the size.
        colours: ``white`` lines, or one colour for each of the ``groups``.
        inner_lip: Whether the inner lip line is drawn.
    """

    KIND: ClassVar[str] = "drawing"

    line_width: float = 2.0
    colours: Literal["white", "groups"] = "white"
    inner_lip: bool = True

    def __post_init__(self) -> None:
        if not 0.25 <= self.line_width <= 32.0:
            raise ConfigError(f"line_width must be from 0.25 to 32, got {self.line_width}.")


def draw_landmarks(
    landmarks_xy_px: np.ndarray, size_px: int, config: DrawingConfig | None = None
) -> np.ndarray:
    """Draws landmarks as smoothed lines with sub-pixel precision.

    Args:
        landmarks_xy_px: [68, 2], pixels of the drawing; points outside of it are clipped.
        size_px: Height and width of the drawing.
        config: How to draw.

    Returns:
        [size_px, size_px, 3] uint8.

    Raises:
        DataError: The landmarks have another shape or are not finite.
    """
    config = config or DrawingConfig()
    xy = np.asarray(landmarks_xy_px, np.float64)
    if xy.shape != (NUM_LANDMARKS, 2) or not np.isfinite(xy).all():
        raise DataError(
            f"draw_landmarks takes finite landmarks [68, 2], got {list(xy.shape)} with "
            f"{int((~np.isfinite(xy)).sum())} values that are not finite."
        )
    width = config.line_width * size_px / 256.0
    # OpenCV draws whole-pixel widths only; any other width is drawn on a finer canvas.
    factor = 1 if width >= 1.0 and abs(width - round(width)) < 0.05 else 2 if width >= 0.5 else 4
    canvas_px = size_px * factor
    thickness = max(1, round(width * factor))
    # Far-away points would overflow OpenCV's fixed point numbers.
    points = np.clip((xy + 0.5) * factor - 0.5, -4.0 * canvas_px, 5.0 * canvas_px)
    fixed = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    white = config.colours == "white"
    shape = (canvas_px, canvas_px) if white else (canvas_px, canvas_px, 3)
    canvas: np.ndarray = np.zeros(shape, np.uint8)
    for name, indices in GROUPS.items():
        if name == "inner_lip" and not config.inner_lip:
            continue
        line = fixed[indices[0] : indices[-1] + 1]
        colour = (255, 255, 255) if white else GROUP_COLOURS[name]
        cv2.polylines(canvas, [line], name in CLOSED, colour, thickness, cv2.LINE_AA, shift=_SHIFT)
    if factor > 1:
        canvas = cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(canvas, cv2.COLOR_GRAY2RGB) if white else canvas
