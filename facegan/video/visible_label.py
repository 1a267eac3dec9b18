"""A short text in the corner of every frame, for whoever only sees the picture.

Light letters on a translucent dark box, the same in every frame, so they do not flicker. The size
follows the frame: letters stay readable at 128 px and unobtrusive at 1080.
"""

from __future__ import annotations

import cv2
import numpy as np

from facegan.errors import ConfigError

DEFAULT_TEXT = "AI-generated"

# Height of a capital as a share of the frame's shorter side, its least in px, and how much smaller
# long texts may be.
_CAPITAL_SHARE, _USUAL_CAPITAL_PX = 0.03, 7
_LEAST_SHARE, _LEAST_CAPITAL_PX = 0.6, 5
# Padding of the box by the height of a capital, and the gap to the frame's edges by its side.
_PADDING_SHARE, _GAP_SHARE = 0.6, 0.015
_BOX_OPACITY, _BOX_CODE, _LETTER_CODE = 0.65, 16.0, 245.0
_DRAWN_SCALE, _DRAWN_THICKNESS, _CANVAS_PX = 3.0, 7, 300


def require_label_text(text: str) -> None:
    """Raises ConfigError unless a label can say ``text``."""
    if not text.strip() or not text.isascii() or not text.isprintable():
        raise ConfigError(
            "A visible label is made of ASCII letters, digits and signs in one line, got "
            f"{text!r}; the font has no others."
        )


class VisibleLabel:
    """Writes a text into the lower right corner of frames.

    Args:
        text: ASCII.
        height_px: Height of the frames.
        width_px: Width of the frames.

    Raises:
        ConfigError: The text has other characters, or there is no room for it.
    """

    def __init__(self, text: str, height_px: int, width_px: int) -> None:
        require_label_text(text)
        side = min(height_px, width_px)
        self._size_hw = (height_px, width_px)
        gap = max(2, round(_GAP_SHARE * side))
        letters = None
        usual = max(_USUAL_CAPITAL_PX, round(_CAPITAL_SHARE * side))
        least = max(_LEAST_CAPITAL_PX, round(_LEAST_SHARE * usual))
        for capital in range(usual, least - 1, -1):
            letters = _draw_letters(text, capital, round(_PADDING_SHARE * capital))
            if letters.shape[0] + gap <= height_px and letters.shape[1] + gap <= width_px:
                break
        else:
            raise ConfigError(
                f"The visible label {text!r} has no room in frames of {width_px}x{height_px} px; "
                "take a shorter one."
            )
        bottom, right = height_px - gap, width_px - gap
        self._place = (
            slice(bottom - letters.shape[0], bottom),
            slice(right - letters.shape[1], right),
        )
        covered = _BOX_OPACITY * (1.0 - letters)
        self._kept = ((1.0 - _BOX_OPACITY) * (1.0 - letters))[..., None].astype(np.float32)
        self._added = (covered * _BOX_CODE + letters * _LETTER_CODE)[..., None].astype(np.float32)

    @property
    def box_px(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the box."""
        rows, columns = self._place
        return columns.start, rows.start, columns.stop, rows.stop

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A copy of a frame with the label on it.

        Args:
            image: [H, W, 3] uint8.
        """
        if image.shape[:2] != self._size_hw:
            raise ConfigError(
                f"The label was made for frames of {self._size_hw[1]}x{self._size_hw[0]} px, got "
                f"one of shape {image.shape}."
            )
        labelled = image.copy()
        part = labelled[self._place].astype(np.float32)
        labelled[self._place] = np.rint(part * self._kept + self._added).astype(np.uint8)
        return labelled


def _draw_letters(text: str, capital_px: int, padding_px: int) -> np.ndarray:
    """How much each pixel of the box is covered by letters, [h, w] in 0..1."""
    # Drawn large and made small: smooth at every size, and the same whatever OpenCV's font is.
    drawn = _draw_large(text)
    capital_rows = np.flatnonzero(_draw_large("H").any(axis=1))
    # The height of a text with a capital, so that "..." does not fill the box.
    rows = np.flatnonzero(_draw_large("H" + text).any(axis=1))
    columns = np.flatnonzero(drawn.any(axis=0))
    drawn = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    share = capital_px / len(capital_rows)
    height, width = (max(1, round(side * share)) for side in drawn.shape)
    letters = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    return np.pad(letters.astype(np.float32) / np.float32(255.0), padding_px)


def _draw_large(text: str) -> np.ndarray:
    """Letters of 255 on 0, with room on all sides; all texts stand on the same row."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, _), _ = cv2.getTextSize(text, font, _DRAWN_SCALE, _DRAWN_THICKNESS)
    canvas = np.zeros((_CANVAS_PX, width + _CANVAS_PX), np.uint8)
    place = (_CANVAS_PX // 2, 2 * _CANVAS_PX // 3)
    cv2.putText(canvas, text, place, font, _DRAWN_SCALE, 255, _DRAWN_THICKNESS, cv2.LINE_AA)
    return canvas
