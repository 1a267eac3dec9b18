"""How much a generated video flickers, in figures that a frozen video does not win.

The movement is measured on the source video. An output that moves as its source does and is steady
otherwise scores best; one that flickers, and one that stands still while its source moves, score
worse.

Reference: the warping error follows Lai et al., "Learning Blind Video Temporal Consistency", ECCV
2018, section 4.2. There it is taken over all pixels, so a blurred or frozen video gains; here a
pixel costs only what it changes more than the source does at that place.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from facegan.errors import ConfigError
from facegan.face.landmarks import interocular_px

# A pixel is judged where the source's flow there and back ends within this distance of its start,
# in pixels, and explains the source's own picture to within this many codes.
_CONSISTENT_PX = 1.0
_EXPLAINED_CODES = 24.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlickerReport:
    """Flicker of one video.

    Attributes:
        frames: Number of frames.
        flicker: Mean, over pixels whose movement is known, of how much more the output changes
            along the source's movement than the source itself, in codes (0 to 255).
        warp_error: Mean change of the output along the source's movement, in codes.
        source_warp_error: The same of the source: noise and what the flow does not explain.
        motion_ratio: Mean change from frame to frame in place, output by source; about 1 for an
            output that moves with its source, 0 for a frozen one.
        label_churn: Share of pixels whose label changes along the movement; None without labels.
        judged: Share of pixels whose movement is known.
        series: ``flicker``, ``motion_ratio`` and ``label_churn`` by pair of frames.
    """

    frames: int
    flicker: float
    warp_error: float
    source_warp_error: float
    motion_ratio: float | None
    label_churn: float | None
    judged: float
    series: dict[str, tuple[float, ...]]


def measure_flicker(
    source: Iterable[np.ndarray],
    output: Iterable[np.ndarray],
    labels: Iterable[np.ndarray] | None = None,
) -> FlickerReport:
    """Measures the flicker of a video against the source that it follows.

    All are taken frame by frame, so generators over long videos are welcome.

    Args:
        source: The driving pictures [H, W, 3] uint8: crops that lie as the outputs do.
        output: The generated pictures, of the same shape.
        labels: Label maps [H, W] uint8 of the outputs.

    Raises:
        ConfigError: There are fewer than two frames, or the videos differ in length or size.
    """
    flow = _Flow()
    sums: dict[str, list[float]] = {
        name: [] for name in ("flicker", "warp", "source", "moved", "own", "churn", "judged")
    }
    before: tuple[Any, ...] | None = None
    frames = 0
    columns: list[Iterable[Any]] = [source, output]
    if labels is not None:
        columns.append(labels)
    end = object()
    for values in itertools.zip_longest(*columns, fillvalue=end):
        if any(value is end for value in values):
            raise ConfigError(f"The videos differ in length: one ends after {frames} frames.")
        now = tuple(np.asarray(value) for value in values)
        if now[0].shape != now[1].shape or now[0].ndim != 3:
            raise ConfigError(
                f"Source and output must be pictures [H, W, 3] of one size, got {now[0].shape} and "
                f"{now[1].shape} at frame {frames}."
            )
        frames += 1
        if before is not None:
            _measure_pair(flow, before, now, sums)
        before = now
    if frames < 2:
        raise ConfigError(f"Flicker is measured between frames; there are {frames}.")

    def mean(name: str) -> float:
        return float(np.mean(sums[name]))

    moved = [a / b for a, b in zip(sums["own"], sums["moved"], strict=True) if b > 0]
    series = {"flicker": tuple(sums["flicker"]), "motion_ratio": tuple(moved)}
    if labels is not None:
        series["label_churn"] = tuple(sums["churn"])
    return FlickerReport(
        frames=frames,
        flicker=mean("flicker"),
        warp_error=mean("warp"),
        source_warp_error=mean("source"),
        # Of the means: a pair of still frames has no ratio worth a mean.
        motion_ratio=mean("own") / mean("moved") if mean("moved") > 0 else None,
        label_churn=mean("churn") if labels is not None else None,
        judged=mean("judged"),
        series=series,
    )


def _measure_pair(
    flow: _Flow, before: tuple[Any, ...], now: tuple[Any, ...], sums: dict[str, list[float]]
) -> None:
    where, known = flow.between(now[0], before[0])
    source_change = _change(now[0], _warp(before[0], where))
    output_change = _change(now[1], _warp(before[1], where))
    known &= source_change < _EXPLAINED_CODES
    if known.any():
        excess = np.maximum(output_change - source_change, 0)
        sums["flicker"].append(float(excess[known].mean()))
        sums["warp"].append(float(output_change[known].mean()))
        sums["source"].append(float(source_change[known].mean()))
    else:  # a cut: nothing can be said of it
        for name in ("flicker", "warp", "source"):
            sums[name].append(0.0)
    sums["judged"].append(float(known.mean()))
    sums["moved"].append(float(cv2.absdiff(now[0], before[0]).mean()))
    sums["own"].append(float(cv2.absdiff(now[1], before[1]).mean()))
    if len(now) > 2:
        moved = _warp(before[2], where, nearest=True)
        sums["churn"].append(float((moved != now[2])[known].mean()) if known.any() else 0.0)


class _Flow:
    """Where each pixel of a picture was in the one before, and where that is sure."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def between(self, now: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[H, W, 2] float32 coordinates in ``before``, and [H, W] bool."""
        height, width = now.shape[:2]
        columns, rows = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        grid = np.stack([columns, rows], axis=-1)
        if min(height, width) < 16:
            return grid, np.ones((height, width), bool)
        first, second = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (now, before))
        empty: Any = None
        there = self._flow.calc(first, second, empty)
        back = self._flow.calc(second, first, empty)
        where = grid + there
        returned = there + _warp(back, where)
        inside = (where >= 0).all(axis=-1) & (where <= (width - 1, height - 1)).all(axis=-1)
        return where, inside & (np.linalg.norm(returned, axis=-1) < _CONSISTENT_PX)


def _warp(picture: np.ndarray, where: np.ndarray, nearest: bool = False) -> np.ndarray:
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    empty: Any = None
    return cv2.remap(picture, where, empty, method, borderMode=cv2.BORDER_REPLICATE)


def _change(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean absolute difference in codes over colours and 3x3 pixels, [H, W] float32."""
    return cv2.blur(cv2.absdiff(first, second).mean(axis=2, dtype=np.float32), (3, 3))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkMotion:
    """How landmarks of an output move beside those of its source.

    Attributes:
        jitter: Root mean square of the second difference of the output's landmarks from frame to
            frame, as a share of the distance between the eyes.
        source_jitter: The same of the source.
        follows: Correlation of the two's movements from frame to frame, 1 for an output that moves
            as its source does; None where one of them stands still.
        frames: Frames in which both have a face.
    """

    jitter: float
    source_jitter: float
    follows: float | None
    frames: int


def measure_landmark_motion(source_xy_px: np.ndarray, output_xy_px: np.ndarray) -> LandmarkMotion:
    """Compares landmark paths.

    Args:
        source_xy_px: [N, 68, 2]; NaN in frames without a face.
        output_xy_px: The same of the output, in pixels of a picture that lies as the source's.

    Raises:
        ConfigError: The paths differ in length, or fewer than three frames in a row have faces.
    """
    paths = [np.asarray(path, np.float64) for path in (source_xy_px, output_xy_px)]
    if paths[0].shape != paths[1].shape or paths[0].ndim != 3:
        raise ConfigError(
            f"Landmark paths must both be [N, 68, 2], got {paths[0].shape} and {paths[1].shape}."
        )
    scaled = []
    finite = np.isfinite(np.concatenate(paths, axis=1)).reshape(len(paths[0]), -1)
    present = np.logical_and.reduce(finite, axis=1)  # [N]
    triples = present[:-2] & present[1:-1] & present[2:]
    if not triples.any():
        raise ConfigError("Landmark motion needs three frames in a row with a face in both videos.")
    for path in paths:
        scaled.append(path / np.median(interocular_px(path[present])))
    jitters = [float(np.sqrt(np.mean(np.diff(path, 2, axis=0)[triples] ** 2))) for path in scaled]
    pairs = present[:-1] & present[1:]
    source, output = (np.diff(path, axis=0)[pairs].ravel() for path in scaled)
    follows = None
    if source.std() > 0 and output.std() > 0:
        follows = float(np.corrcoef(source, output)[0, 1])
    return LandmarkMotion(
        jitter=jitters[1], source_jitter=jitters[0], follows=follows, frames=int(present.sum())
    )
