"""How different pictures look: LPIPS of pairs, and of all pairs in a group.

Reference: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018; Choi et al., "StarGAN v2: Diverse Image Synthesis for Multiple Domains", CVPR 2020,
whose evaluation takes the mean of a group as the diversity of what a generator makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from facegan.errors import ConfigError
from facegan.image import to_float

_BATCH_SIZE = 16


class LpipsDistance:
    """LPIPS of pictures as they are stored, or as they are painted.

    Args:
        model: A built ``Lpips``.
        source: Whose weights it has.
    """

    def __init__(self, model: Any, source: str):
        self._model, self.source = model, source

    def __call__(self, images: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[B] float32 distances of pictures [B, H, W, 3] uint8 from as many others.

        Raises:
            ConfigError: They are no such pictures, of two sizes, or smaller than 31 pixels.
        """
        return self._by_parts(np.asarray(images), np.asarray(others), self.maps)

    def between_floats(self, images: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[B] float32 distances of pictures [B, H, W, 3] float in [-1, 1] from as many others.

        They are not rounded to the 256 codes, which would hide what is less than one apart.

        Raises:
            ConfigError: They are no such pictures, of two sizes, or smaller than 31 pixels.
        """
        images, others = np.asarray(images), np.asarray(others)
        for given in (images, others):
            if not np.issubdtype(given.dtype, np.floating):
                raise ConfigError(
                    f"between_floats takes float pictures in [-1, 1], got {given.dtype}. Call the "
                    "distance itself with pictures as they are stored."
                )
        return self._by_parts(images, others, self._model.maps)

    def _by_parts(
        self, images: np.ndarray, others: np.ndarray, maps: Callable[[np.ndarray], Any]
    ) -> np.ndarray:
        if images.shape != others.shape:
            raise ConfigError(
                f"Pictures are compared one to one, got {list(images.shape)} and "
                f"{list(others.shape)}. Resize one of them, or leave some out."
            )
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(images), _BATCH_SIZE):
            part = slice(start, start + _BATCH_SIZE)
            parts.append(self.compare(maps(images[part]), maps(others[part])))
        return np.concatenate(parts)

    def maps(self, images: np.ndarray) -> tuple[Any, ...]:
        """The five maps of pictures [B, H, W, 3] uint8, as ``Lpips.maps`` gives them."""
        return self._model.maps(to_float(images))

    def compare(self, maps: Any, others: Any) -> np.ndarray:
        """[B] float32 distances of maps from those of as many others, or from those of one."""
        return np.asarray(self._model.compare(maps, others))


def make_distance(source: str) -> LpipsDistance:
    """Makes the distance.

    Args:
        source: A file that ``tools/convert_weights.py --from lpips`` made, or "random" (a seeded
            stand-in, noted in the log).

    Raises:
        CheckpointError: The weights cannot be had; the message tells of the stand-in.
    """
    from facegan.models.lpips import make_lpips

    return LpipsDistance(make_lpips(source), source)


def diversity(images: Sequence[np.ndarray] | np.ndarray, distance: LpipsDistance) -> float:
    """The mean LPIPS of all N (N - 1) / 2 pairs of a group.

    No pair is looked at: LPIPS is a squared difference of maps, so the mean over the pairs is twice
    the unbiased variance of the maps, weighed as the distance weighs them.

    Args:
        images: N pictures [H, W, 3] uint8 of one size.
        distance: Of two pictures.

    Raises:
        ConfigError: There are fewer than two, of several sizes, or smaller than 31 pixels.
    """
    from keras import ops

    sizes = {np.shape(image) for image in images}
    if len(images) < 2 or len(sizes) > 1:
        raise ConfigError(
            f"Diversity needs at least 2 pictures of one size, got {len(images)} of "
            f"{' and '.join(str(list(size)) for size in sorted(sizes)) or 'none'}."
        )
    count, scatter, mean = 0, 0.0, None
    for start in range(0, len(images), _BATCH_SIZE):
        maps = distance.maps(np.asarray(images[start : start + _BATCH_SIZE]))
        added = maps[0].shape[0]
        centre = [ops.mean(values, axis=0, keepdims=True) for values in maps]
        scatter += float(distance.compare(maps, centre).sum(dtype=np.float64))
        if mean is not None:
            # Chan et al. 1979: what two parts' means are apart counts by both parts' sizes.
            share = added / (count + added)
            scatter += float(distance.compare(centre, mean)[0]) * count * share
            centre = [m + (c - m) * share for m, c in zip(mean, centre, strict=True)]
        count, mean = count + added, centre
    return 2.0 * scatter / (count - 1)
