"""Faces by number: their styles, mixtures of those, and ways between them, painted by a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from facegan.render.engine import Engine, Methods
from facegan.render.sampling import (
    BATCH_SIZE,
    draw_seeded_latents,
    find_mean_w,
    map_latents,
    paint_w,
    slerp,
    truncate_w,
)

Space = Literal["w", "z"]


class Faces:
    """Faces that follow from their numbers alone.

    Args:
        engine: Paints.
        methods: Of the same bundle.
        stored: [N, num_styles, style_size] float32: a face's number is its place there. None draws
            faces, of which the number is the seed.
        truncation: What is left of the distance from the mean style.
        num_truncated: In how many layers, counted from the coarsest; None is all.
    """

    def __init__(
        self,
        engine: Engine,
        methods: Methods,
        stored: np.ndarray | None = None,
        truncation: float = 1.0,
        num_truncated: int | None = None,
    ) -> None:
        self._engine, self._methods, self._stored = engine, methods, stored
        self._truncation, self._num_truncated = truncation, num_truncated
        self._mean_w = find_mean_w(methods)

    @property
    def num_layers(self) -> int:
        """How many styles a picture takes."""
        return len(self._mean_w)

    def find_w(self, numbers: Sequence[int]) -> np.ndarray:
        """Truncated styles: [N, num_styles, style_size] float32."""
        if self._stored is not None:
            return self._truncate(self._stored[list(numbers)], self._truncation)
        return self._map(draw_seeded_latents(self._methods, numbers))

    def paint(self, w: np.ndarray) -> Iterator[np.ndarray]:
        """Styles as ``find_w`` gives them: [size, size, 3] uint8, one after the other."""
        return paint_w(self._engine, w)

    def truncation_rows(
        self, numbers: Iterable[int], truncations: Sequence[float]
    ) -> Iterator[np.ndarray]:
        """For each face its styles at each truncation, on top of its own."""
        for number in numbers:
            w = self.find_w([number])
            yield np.concatenate([self._truncate(w, truncation) for truncation in truncations])

    def mixing_rows(
        self, rows: Iterable[int], columns: Sequence[int], layers: Sequence[int]
    ) -> Iterator[np.ndarray]:
        """The columns' styles; then for each row its own and, for each column, mixed ones.

        Reference: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial
        Networks", CVPR 2019, figure 3.

        Args:
            rows: Faces that keep their styles in all other layers.
            columns: Faces whose styles are taken in ``layers``.
            layers: From 0 for the coarsest.
        """
        taken = self.find_w(columns)
        yield taken
        for number in rows:
            w = self.find_w([number])
            mixed = np.repeat(w, len(taken), axis=0)
            mixed[:, layers] = taken[:, layers]
            yield np.concatenate([w, mixed])

    def walk(self, numbers: Sequence[int], steps: int, space: Space) -> Iterator[np.ndarray]:
        """Pictures on the way from face to face and back to the first.

        Args:
            numbers: The faces.
            steps: Pictures from one face to the next; their distances follow a cosine, so that the
                way rests at each face.
            space: "w" goes straight from style to style, "z" around the sphere of latents.

        Yields:
            [size, size, 3] uint8.
        """
        ends = draw_seeded_latents(self._methods, numbers) if space == "z" else self.find_w(numbers)
        shares = (0.5 - 0.5 * np.cos(np.pi * np.arange(steps) / steps)).astype(np.float32)
        legs = list(zip(ends, np.roll(ends, -1, axis=0), strict=True))
        between = slerp if space == "z" else _straight
        for start in range(0, steps * len(legs), BATCH_SIZE):
            places = range(start, min(start + BATCH_SIZE, steps * len(legs)))
            points = np.stack([between(*legs[i // steps], shares[i % steps]) for i in places])
            yield from self.paint(self._map(points) if space == "z" else points)

    def _map(self, latents: np.ndarray) -> np.ndarray:
        return self._truncate(map_latents(self._methods, latents), self._truncation)

    def _truncate(self, w: np.ndarray, truncation: float) -> np.ndarray:
        return truncate_w(w, self._mean_w, truncation, self._num_truncated)


def _straight(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    return first + share * (last - first)
