"""A temporal filter on label maps: what a region is called is decided by several frames together.

A parser looks at one frame at a time, so a pixel between hair and background may be the one now
and the other in the next frame. Here the frames around each frame vote. Votes follow the movement
of the picture, and where the picture has changed - an eye closes, a mouth opens, something comes
into view - the other frames have no vote. A label gives way only to one that is seen both before
and after: so what has just been uncovered, and the frames at a cut, keep what they have.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, TypeVar

import cv2
import numpy as np

from facegan.errors import ConfigError
from facegan.video.deflicker import pixel_grid, seen_there

T = TypeVar("T")

# What a pixel's own frame counts more than another: at two votes each way it keeps its label.
_OWN_BONUS = 0.5
# By how many codes a picture must fit better after it is moved, for the movement to be believed.
_LEAST_GAIN = 2
# Flow is estimated on pictures of this side at most; a face moves smoothly.
_FLOW_PX = 128
# Of the occlusion mask, which is blended where it is enlarged or moved.
_SEEN = 0.5


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
class _Step:
    """The movement between a frame and a neighbour of it.

    Attributes:
        flow: [h, w, 2] float32, (x, y) in pixels of the reduced picture: where each pixel of the
            frame is in the neighbour.
        seen: [h, w] float32, 1 where the flow back leads to the start, else 0.
    """

    flow: np.ndarray
    seen: np.ndarray


@dataclasses.dataclass(slots=True)
class _Entry:
    item: Any
    label_map: np.ndarray
    guide: np.ndarray
    grey: np.ndarray
    to_previous: _Step | None = None
    to_next: _Step | None = None


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
            if window:
                self._connect(window[-1], entry)
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

    def _connect(self, before: _Entry, after: _Entry) -> None:
        """Finds the movement between neighbours once, for all the votes that it carries."""
        if np.array_equal(before.grey, after.grey) or min(after.grey.shape) < 16:
            forth = back = np.zeros((*after.grey.shape, 2), np.float32)
        else:
            empty: Any = None
            forth = self._flow.calc(before.grey, after.grey, empty)
            back = self._flow.calc(after.grey, before.grey, empty)
        before.to_next = _Step(forth, seen_there(forth, back))
        after.to_previous = _Step(back, seen_there(back, forth))

    def _vote(self, window: collections.deque[_Entry], place: int) -> np.ndarray:
        """The label map of one frame of the window, by the votes of those around it."""
        own = window[place]
        before = [self._follow(other, own, step) for other, step in self._path(window, place, -1)]
        after = [self._follow(other, own, step) for other, step in self._path(window, place, 1)]
        result = own.label_map.copy()
        if not before or not after:
            return result
        disputed = np.zeros(own.label_map.shape, bool)
        for label_map, _ in before + after:
            disputed |= label_map != own.label_map
        # Few pixels are; all frames agree on the others.
        sides = [[(m[disputed], vote[disputed]) for m, vote in side] for side in (before, after)]
        best = kept = own.label_map[disputed]  # [N]
        most = 1 + _OWN_BONUS + sum(vote * (m == kept) for side in sides for m, vote in side)
        for label, _ in sides[0]:
            counts = [sum(vote * (m == label) for m, vote in side) for side in sides]
            # What one side alone says may be a change that comes to stay, or goes.
            wins = (counts[0] > 0) & (counts[1] > 0) & (counts[0] + counts[1] > most)
            best, most = np.where(wins, label, best), np.where(wins, counts[0] + counts[1], most)
        result[disputed] = best
        return result

    def _path(
        self, window: collections.deque[_Entry], place: int, direction: Literal[-1, 1]
    ) -> Iterator[tuple[_Entry, _Step]]:
        """The frames on one side of a frame, and the movement to each: neighbours' in a chain."""
        path: _Step | None = None
        for away in range(1, self.config.radius + 1):
            last, other = place + (away - 1) * direction, place + away * direction
            if not 0 <= other < len(window):
                return
            step = window[last].to_previous if direction == -1 else window[last].to_next
            if step is None:
                return
            path = step if path is None else self._chain(path, step)
            yield window[other], path

    def _chain(self, first: _Step, second: _Step) -> _Step:
        where = first.flow + pixel_grid(*first.flow.shape[:2])
        return _Step(
            first.flow + _sample(second.flow, where), first.seen * _sample(second.seen, where)
        )

    def _follow(self, other: _Entry, own: _Entry, step: _Step) -> tuple[np.ndarray, np.ndarray]:
        """Another frame's map as it would lie in this one, and its vote, [H, W] float32."""
        height, width = own.label_map.shape
        in_place = _change(other.guide, own.guide)
        flow, seen = step.flow, step.seen
        if flow.shape[:2] != (height, width):
            flow = flow * np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
            seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR)
        where = flow + pixel_grid(height, width)
        moved = _change(_sample(other.guide, where), own.guide)
        # On a still picture the flow is noise; it counts only where it explains a change.
        follows = cv2.subtract(in_place, moved) > _LEAST_GAIN
        label_map = np.where(
            follows, _sample(other.label_map, where, cv2.INTER_NEAREST), other.label_map
        )
        change = np.where(follows, moved, in_place)
        vote = (change <= self.config.tolerance) & (seen > _SEEN)
        return label_map, vote.astype(np.float32)


def _sample(values: np.ndarray, where: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The values at places (x, y), [H, W, 2] float32; those at the border beyond it."""
    empty: Any = None
    return cv2.remap(values, where, empty, method, borderMode=cv2.BORDER_REPLICATE)


def _change(picture: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Difference of two pictures in codes, [H, W] uint8."""
    red, green, blue = cv2.split(cv2.absdiff(picture, own))
    # Over the neighbourhood: the noise of single pixels must not look like a change.
    return cv2.blur(cv2.max(cv2.max(red, green), blue), (5, 5))
