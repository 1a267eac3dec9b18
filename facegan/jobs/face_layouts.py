"""What numbered faces become: files, a grid, a sheet of truncations or mixtures, or a video."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from facegan.errors import ConfigError
from facegan.jobs.choice_text import find_layers, parse_numbers, split_layers
from facegan.render.faces import Faces, Space


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PicturesConfig:
    """A file for each face."""

    KIND: ClassVar[str] = "pictures"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GridConfig:
    """All faces on one sheet, as square as possible."""

    KIND: ClassVar[str] = "grid"

    def shape(self, num_faces: int) -> tuple[int, int]:
        """Rows and columns."""
        columns = math.ceil(math.sqrt(num_faces))
        return math.ceil(num_faces / columns), columns

    def rows(self, faces: Faces, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The styles of each row's pictures."""
        _, width = self.shape(len(numbers))
        for start in range(0, len(numbers), width):
            yield faces.find_w(numbers[start : start + width])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TruncationsConfig:
    """A sheet with a row for each face and a column for each truncation."""

    KIND: ClassVar[str] = "truncations"

    truncations: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.truncations or not all(map(math.isfinite, self.truncations)):
            raise ConfigError(f"truncations must be finite numbers, got {self.truncations}.")

    def shape(self, num_faces: int) -> tuple[int, int]:
        """Rows and columns."""
        return num_faces, len(self.truncations)

    def rows(self, faces: Faces, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The styles of each row's pictures."""
        return faces.truncation_rows(numbers, self.truncations)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MixingConfig:
    """A sheet of the faces, down the side, that take layers of others, along the top.

    Attributes:
        columns: The others' numbers, as "4-6,9".
        layers: Which, as ``choice_text.find_layers`` reads them.
    """

    KIND: ClassVar[str] = "mixing"

    columns: str
    layers: str = "coarse"

    def __post_init__(self) -> None:
        parse_numbers(self.columns, "columns")
        split_layers(self.layers)

    def shape(self, num_faces: int) -> tuple[int, int]:
        """Rows and columns, with those that show the faces themselves."""
        return num_faces + 1, len(parse_numbers(self.columns, "columns")) + 1

    def rows(self, faces: Faces, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The styles of each row's pictures; the first row lacks its first."""
        columns = parse_numbers(self.columns, "columns")
        return faces.mixing_rows(numbers, columns, find_layers(self.layers, faces.num_layers))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WalkConfig:
    """A video from face to face and back to the first, which it reaches after its last frame.

    Attributes:
        seconds: From one face to the next, slow at either end.
        fps: Frames a second.
        space: Where the way lies: "w", straight between styles, or "z", around the sphere of
            latents.
    """

    KIND: ClassVar[str] = "walk"

    seconds: float = 2.0
    fps: int = 30
    space: Space = "w"

    def __post_init__(self) -> None:
        if self.fps < 1 or not 1 <= self.seconds * self.fps < math.inf:
            raise ConfigError(
                "seconds and fps must give at least one frame from face to face, got "
                f"{self.seconds} and {self.fps}."
            )

    @property
    def steps(self) -> int:
        """Frames from one face to the next."""
        return round(self.seconds * self.fps)


Sheet = GridConfig | TruncationsConfig | MixingConfig
Layout = PicturesConfig | Sheet | WalkConfig
