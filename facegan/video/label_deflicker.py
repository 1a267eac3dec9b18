"""A temporal filter on label maps: what a region is called is decided by several frames together.

A parser looks at one frame at a time, so a pixel between hair and background may be the one now
and the other in the next frame. Here the frames around each frame vote. Votes follow the movement
of the picture, and where the picture has changed - an eye closes, a mouth opens, something comes
into view - the other frames have no vote.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, TypeVar

import cv2
import numpy as np

from facegan.errors import ConfigError

T = TypeVar("T")

# What a pixel's own frame counts more than another: with two votes each way it keeps its label.
_OWN_BONUS = 0.5
# By how many codes a picture must fit better after it is moved, for the movement to be believed.
_LEAST_GAIN = 2
# Flow is estimated on pictures of this side at most; a face moves smoothly.
_FLOW_PX = 128


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelDeflickerConfig:
    """Settings of ``LabelDeflicker``.

    Attributes:
        method: ``"majority"`` lets the frames around vote; ``"off"`` does nothing.
        radius: How many frames before and after a frame vote.
        tolerance: Change of the picture in codes (0 to 255), after movement is followed, up to
            which another frame has a vote. Larger changes are taken as real.
    """

    KIND: ClassVar[str] = "label_deflicker"

    method: Literal["off", "majority"] = "majority"
    radius: int = 2
    tolerance: float = 16.0

    def __post_init__(self) -> None:
        if self.method not in ("off", "majority"):
            raise ConfigError(f"method must be 'off' or 'majority', got {self.method!r}.")
        if not 1 <= self.radius <= 16:
            raise ConfigError(f"radius must be from 1 to 16 frames, got {self.radius}.")
        if not 0 < self.tolerance <= 255:
            raise ConfigError(f"tolerance must be above 0 and at most 255, got {self.tolerance}.")


@dataclasses.dataclass(slots=True)
class _Entry:
    item: Any
    label_map: np.ndarray
    guide: np.ndarray
    grey: np.ndarray


class LabelDeflicker:
    """Steadies a stream of label maps.

    Args:
        config: How.
    """

    def __init__(self, config: LabelDeflickerConfig | None = None) -> None:
        self.config = config or LabelDeflickerConfig()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    @property
    def reach_frames(self) -> int:
        """Frames before a frame that its result follows from.

        A stream that begins so many frames before a place goes on from there as the whole does.
        """
        return 0 if self.config.method == "off" else self.config.radius

    def filter(
        self, stream: Iterable[tuple[T, np.ndarray | None, np.ndarray | None]]
    ) -> Iterator[tuple[T, np.ndarray | None]]:
        """Steadies label maps in order, ``radius`` frames late.

        Args:
            stream: An item, its label map [H, W] uint8, and its guide [H, W, 3] uint8: the picture
                that the map is of. None for a frame without a map, which also acts as a cut.

        Yields:
            Each item with its new map, or None, in the same order. At most twice ``radius`` and
            one frames are kept.

        Raises:
            ConfigError: A map or guide has another form.
        """
        if self.config.method == "off":
            yield from ((item, label_map) for item, label_map, _ in stream)
            return
        radius = self.config.radius
        window: collections.deque[_Entry] = collections.deque(maxlen=2 * radius + 1)
        pending = 0  # entries at the end of the window that are not given out yet

        def give_out(keep: int) -> Iterator[tuple[T, np.ndarray | None]]:
            nonlocal pending
            while pending > keep:
                place = len(window) - pending
                yield window[place].item, self._vote(window, place)
                pending -= 1

        for item, label_map, guide in stream:
            if label_map is None or guide is None:
                yield from give_out(0)
                window.clear()
                yield item, label_map
                continue
            entry = self._enter(item, label_map, guide)
            if window and window[-1].label_map.shape != label_map.shape:
                yield from give_out(0)
                window.clear()
            window.append(entry)
            pending += 1
            yield from give_out(radius)
        yield from give_out(0)

    def _enter(self, item: T, label_map: np.ndarray, guide: np.ndarray) -> _Entry:
        if label_map.ndim != 2 or label_map.dtype != np.uint8:
            raise ConfigError(
                f"LabelDeflicker takes label maps [H, W] uint8, got {label_map.dtype} of shape "
                f"{label_map.shape}."
            )
        if guide.shape != (*label_map.shape, 3) or guide.dtype != np.uint8:
            raise ConfigError(
                f"The guide of a label map must be {(*label_map.shape, 3)} uint8, got "
                f"{guide.dtype} of shape {guide.shape}."
            )
        grey = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        factor = max(height, width) / _FLOW_PX
        if factor > 1:
            size = (max(16, round(width / factor)), max(16, round(height / factor)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return _Entry(item, label_map, guide, grey)

    def _vote(self, window: collections.deque[_Entry], place: int) -> np.ndarray:
        """The label map of one frame of the window, by the votes of those around it."""
        radius = self.config.radius
        own = window[place]
        maps, votes = [own.label_map], [np.full(own.label_map.shape, 1 + _OWN_BONUS, np.float32)]
        for other in range(max(0, place - radius), min(len(window), place + radius + 1)):
            if other == place:
                continue
            label_map, change = self._follow(window[other], own)
            maps.append(label_map)
            votes.append((change <= self.config.tolerance).astype(np.float32))
        best, most = own.label_map, np.zeros(own.label_map.shape, np.float32)
        for label_map in maps:
            count = sum(
                vote * (other_map == label_map) for other_map, vote in zip(maps, votes, strict=True)
            )
            wins = count > most
            best, most = np.where(wins, label_map, best), np.maximum(count, most)
        return best

    def _follow(self, other: _Entry, own: _Entry) -> tuple[np.ndarray, np.ndarray]:
        """Another frame's map as it would lie in this one, and how much the picture changed."""
        in_place = _change(other.guide, own.guide)
        label_map, guide = self._bring(other, own)
        moved = _change(guide, own.guide)
        # On a still picture the flow is noise; it counts only where it explains a change.
        follows = moved.astype(np.int16) + _LEAST_GAIN < in_place
        return np.where(follows, label_map, other.label_map), np.where(follows, moved, in_place)

    def _bring(self, other: _Entry, own: _Entry) -> tuple[np.ndarray, np.ndarray]:
        """Another frame's map and guide, with everything moved to where it is in this frame."""
        if np.array_equal(other.grey, own.grey) or min(own.grey.shape) < 16:
            return other.label_map, other.guide
        height, width = own.label_map.shape
        empty: Any = None
        flow = self._flow.calc(own.grey, other.grey, empty)
        flow *= np.array([width / own.grey.shape[1], height / own.grey.shape[0]], np.float32)
        if flow.shape[:2] != (height, width):
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        rows, columns = np.indices((height, width), np.float32)
        where = cv2.convertMaps(flow[..., 0] + columns, flow[..., 1] + rows, cv2.CV_16SC2)
        replicate = cv2.BORDER_REPLICATE
        label_map = cv2.remap(
            other.label_map, where[0], empty, cv2.INTER_NEAREST, borderMode=replicate
        )
        return label_map, cv2.remap(other.guide, *where, cv2.INTER_LINEAR, borderMode=replicate)


def _change(picture: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Difference of two pictures in codes, [H, W] uint8."""
    red, green, blue = cv2.split(cv2.absdiff(picture, own))
    # Over the neighbourhood: the noise of single pixels must not look like a change.
    return cv2.blur(cv2.max(cv2.max(red, green), blue), (5, 5))
