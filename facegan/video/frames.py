"""Frames, facts about a clip, and what reads and writes frames.

Times are exact: a frame carries its integer time stamp and the rational unit it counts in, and
nothing here goes through a float frame rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a clip.

    Attributes:
        image: [H, W, 3] uint8 RGB, upright (a rotation flag of the file is already applied).
        index: Position in display order, the first frame of the file is 0.
        pts: Time stamp in units of ``time_base``; grows from frame to frame.
        time_base: Seconds per unit of ``pts``.
    """

    image: np.ndarray
    index: int
    pts: int
    time_base: Fraction

    @property
    def time_s(self) -> float:
        """When the frame is shown, in seconds on the clip's own clock."""
        return float(self.pts * self.time_base)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipInfo:
    """What a video file says about itself, with its first frame decoded to be sure.

    Attributes:
        path: The file.
        width: Width of the upright frames, in pixels.
        height: Height of the upright frames, in pixels.
        frame_rate: Average frames per second, exact where the file is (30000/1001). Only a
            description: a clip of variable rate is right only by its time stamps.
        time_base: Seconds per unit of the frames' time stamps.
        num_frames: Frames as declared by the file, None where it does not say. A damaged file
            may hold fewer; ``count_frames`` counts.
        duration_s: Length of the video stream as declared, None where the file does not say.
        rotation_deg: Clockwise turn, 0, 90, 180 or 270, that the reader applies to the stored
            pictures.
        pixel_aspect: Width of a pixel divided by its height; 1 for nearly every clip.
        codec: Name of the video codec.
        has_audio: Whether there is at least one audio stream.
        audio_codec: Name of the audio codec, None without audio.
        audio_start_s: When the sound starts on the clip's clock, None where unknown.
        audio_duration_s: Length of the sound as declared, None where the file does not say.
    """

    path: str
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    num_frames: int | None
    duration_s: float | None
    rotation_deg: int
    pixel_aspect: Fraction
    codec: str
    has_audio: bool
    audio_codec: str | None
    audio_start_s: float | None
    audio_duration_s: float | None


class FrameSource(Protocol):
    """Anything that yields the frames of a clip in display order."""

    @property
    def info(self) -> ClipInfo:
        """Facts about the clip."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames, one at a time."""
        ...


class FrameSink(Protocol):
    """Anything that takes the frames of a clip in display order."""

    def write(self, image: np.ndarray, pts: int) -> None:
        """Takes one frame, [H, W, 3] uint8 RGB, with its time stamp."""
        ...

    def close(self) -> None:
        """Finishes the clip; only then does it stand under its name."""
        ...

    def abort(self) -> None:
        """Gives the clip up and leaves nothing under its name."""
        ...
