"""Temporal filters on frames: what flickers is averaged over time, what moves is left alone.

``label_deflicker`` steadies label maps.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import cv2
import numpy as np

from facegan.errors import ConfigError

# Smaller flows are noise of the estimate; following them would blur a still picture step by step.
_LEAST_FLOW_PX = 0.25
# Where the flow there and back ends farther than this from its start, something has come into view
# or gone behind; in pixels of the reduced picture, a part of the flow's own length and at least.
_OCCLUDED_SHARE, _OCCLUDED_PX = 0.1, 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeflickerConfig:
    """Settings of ``FrameDeflicker``.

    Attributes:
        method: ``"motion"`` follows movement by optical flow and averages along it; ``"guarded"``
            averages each pixel in place where it hardly changes; ``"off"`` does nothing.
        strength: Share of the past in a steady pixel, 0 to 0.95.
        tolerance: Change in codes (0 to 255) at which the share of the past has fallen to
            37 per cent of ``strength``; larger changes are taken as real.
    """

    method: Literal["off", "guarded", "motion"] = "motion"
    strength: float = 0.6
    tolerance: float = 12.0

    def __post_init__(self) -> None:
        if self.method not in ("off", "guarded", "motion"):
            raise ConfigError(f"method must be 'off', 'guarded' or 'motion', got {self.method!r}.")
        if not 0 <= self.strength <= 0.95:
            raise ConfigError(f"strength must be 0 to 0.95, got {self.strength}.")
        if not 0 < self.tolerance <= 255:
            raise ConfigError(f"tolerance must be above 0 and at most 255, got {self.tolerance}.")


class FrameDeflicker:
    """Steadies a stream of frames; call it with each frame in order.

    Each pixel is blended with what was shown there before (``"motion"``: where it came from),
    with a weight that falls with the difference between the two. So noise below the tolerance is
    averaged away, while a blink, a cut or a moving edge passes at once. What was not to be seen
    before, by the flow there and back (Sundaram et al., ECCV 2010, equation 5), is not blended. A
    frame equal to all before it comes out unchanged.

    Call input: image [H, W, 3] uint8 RGB; optionally a guide of the same size from which the
    movement is read instead, such as the source frame of a generated one.
    Call output: [H, W, 3] uint8 RGB, a new array.
    """

    def __init__(self, config: DeflickerConfig | None = None) -> None:
        self.config = config or DeflickerConfig()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._shown: np.ndarray | None = None
        self._guide: np.ndarray | None = None
        change = np.arange(256, dtype=np.float32)
        self._weights = (
            self.config.strength * np.exp(-((change / self.config.tolerance) ** 2))
        ).astype(np.float32)

    @property
    def memory_frames(self) -> int:
        """Frames after which the past counts for less than half a code.

        A run that resumes gives the same pictures when it first feeds this many frames before
        the resume point.
        """
        if self.config.method == "off" or self.config.strength == 0:
            return 0
        return math.ceil(math.log(0.5 / 255) / math.log(self.config.strength))

    def reset(self) -> None:
        """Forgets the past, as at a cut."""
        self._shown = self._guide = None

    def __call__(self, image: np.ndarray, guide: np.ndarray | None = None) -> np.ndarray:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ConfigError(
                f"FrameDeflicker takes [H, W, 3] uint8 images, got {image.dtype} of shape "
                f"{image.shape}."
            )
        if guide is not None and guide.shape != image.shape:
            raise ConfigError(
                f"The guide of FrameDeflicker must have the image's shape {image.shape}, got "
                f"{guide.shape}."
            )
        if self.config.method == "off":
            return image.copy()
        if self._shown is not None and self._shown.shape != image.shape:
            self.reset()
        past, seen = self._past(image if guide is None else guide)
        if past is None:
            shown = image.copy()
        else:
            red, green, blue = cv2.split(cv2.absdiff(image, past))
            # Averaged over the neighbourhood: the noise of single pixels must not look like
            # movement, and weights must not jump from pixel to pixel.
            change = cv2.blur(cv2.max(cv2.max(red, green), blue), (5, 5))
            share = cv2.LUT(change, self._weights)
            if seen is not None:
                share *= seen
            shown = cv2.blendLinear(image, past, 1.0 - share, share)
        self._shown = shown
        return shown.copy()

    def _past(self, guide: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The frame shown before, moved to where its parts are now.

        Returns:
            The frame, and 1 where it was to be seen there and 0 where not, [H, W] float32; None for
            a frame that is not there or was not moved.
        """
        if self.config.method == "guarded":
            return self._shown, None
        grey = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        # Half the resolution gives the same flow for a face and costs a quarter.
        if min(height, width) >= 128:
            grey = cv2.resize(grey, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        before, self._guide = self._guide, grey
        if self._shown is None or before is None or min(grey.shape) < 16:
            return self._shown, None
        if np.array_equal(before, grey):
            return self._shown, None
        empty: Any = None
        flow = self._flow.calc(grey, before, empty)
        seen = seen_there(flow, self._flow.calc(before, grey, empty))
        flow *= np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        flow[cv2.magnitude(flow[..., 0], flow[..., 1]) < _LEAST_FLOW_PX] = 0
        moved_from = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        moved_from += pixel_grid(height, width)
        past = cv2.remap(
            self._shown, moved_from, empty, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return past, cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR)


@functools.lru_cache(maxsize=8)
def pixel_grid(height: int, width: int) -> np.ndarray:
    """The place (x, y) of each pixel, [height, width, 2] float32; not to be written to."""
    rows, columns = np.indices((height, width), np.float32)
    grid = np.stack([columns, rows], axis=-1)
    grid.flags.writeable = False
    return grid


def seen_there(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Tells what of a picture is to be seen in another: where the flow there leads back again.

    Args:
        flow: [h, w, 2] float32, (x, y) from each pixel of the picture to its place in the other.
        back: The same from the other to the picture.

    Returns:
        [h, w] float32, 1 where it is seen, 0 where it is hidden or outside.

    Reference: Sundaram et al., ECCV 2010, equation 5, with limits of our own.
    """
    empty: Any = None
    # Beyond the border is zero: what left the picture does not come back.
    returned = cv2.remap(back, flow + pixel_grid(*flow.shape[:2]), empty, cv2.INTER_LINEAR)
    gap = flow + returned
    off = cv2.magnitude(gap[..., 0], gap[..., 1])
    length = cv2.magnitude(flow[..., 0], flow[..., 1])
    return (off <= _OCCLUDED_PX + _OCCLUDED_SHARE * length).astype(np.float32)
