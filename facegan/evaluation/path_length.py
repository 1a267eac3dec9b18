"""Perceptual path length: how much pictures change along a way through the styles.

Reference: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial
Networks", CVPR 2019, section 4.1; at the ways' ends and of whole pictures, as Karras et al.,
"Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, measure it ("ppl2_wend" in their
code, which cuts pictures to the face in the older measures). Difference: the distance is the
caller's; that of this library is LPIPS by AlexNet and the authors' by VGG16, so that published
figures are not comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from facegan.errors import ConfigError, DataError
from facegan.image import resize
from facegan.progress import ProgressCallback

# Networks that distances are measured with have learnt from pictures of about this size.
_SIZE_PX = 256
# Pairs of pictures that are painted at once.
_BATCH_SIZE = 8
# Of the lengths: those outside of these percentiles are left out.
_PERCENTILES = (1.0, 99.0)


def perceptual_path_length(
    paint: Callable[[np.ndarray], np.ndarray],
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    draw: Callable[[int], np.ndarray],
    samples: int,
    *,
    sampling: Literal["end", "full"] = "end",
    epsilon: float = 1e-4,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> float:
    """The mean distance of two pictures a small step apart, in steps.

        E d(g(lerp(w, w'; t)), g(lerp(w, w'; t + epsilon))) / epsilon^2

    The lowest and the highest hundredth of the samples are left out, as by the authors.

    Args:
        paint: From styles [N, L, W] float32 to pictures [N, S, S, 3] float in [-1, 1], the same for
            the same styles and in full precision: rounding to codes, or to the 10 bits of
            TensorFloat-32, is larger than the step.
        distance: From pictures [N, S, S, 3] float and as many others to [N]. It is given pictures
            of at most 256 pixels; larger ones have been reduced by averaging areas.
        draw: From N to independent styles [N, L, W].
        samples: Pairs of pictures; the authors take 50,000.
        sampling: Where on the way: "end" is t = 0, "full" is t uniform in [0, 1).
        epsilon: The step.
        seed: Of t.
        progress: Called with the pairs so far.

    Raises:
        ConfigError: A number is too small, or pictures are no such pictures.
        DataError: Pictures are not finite.
    """
    if samples < 1 or epsilon <= 0:
        raise ConfigError(
            f"samples must be at least 1 and epsilon above 0, got {samples} and {epsilon}."
        )
    random = np.random.default_rng(seed)
    parts = []
    for start in range(0, samples, _BATCH_SIZE):
        if progress is not None:
            progress(start, samples, "pair")
        count = min(_BATCH_SIZE, samples - start)
        first, second = draw(count).astype(np.float64), draw(count).astype(np.float64)
        t = np.zeros(count) if sampling == "end" else random.random(count)
        places = (first + (second - first) * at[:, None, None] for at in (t, t + epsilon))
        images = _reduce(paint(np.concatenate([*places]).astype(np.float32)))
        parts.append(distance(images[:count], images[count:]).astype(np.float64))
    if progress is not None:
        progress(samples, samples, "pair")
    lengths = np.concatenate(parts) / epsilon**2
    if not np.isfinite(lengths).all():
        raise DataError(
            "The pictures on a path are not finite, so that they have no distance; the generator "
            "did not learn. Take an earlier checkpoint."
        )
    lowest = np.percentile(lengths, _PERCENTILES[0], method="lower")
    highest = np.percentile(lengths, _PERCENTILES[1], method="higher")
    return float(lengths[(lowest <= lengths) & (lengths <= highest)].mean())


def _reduce(images: np.ndarray) -> np.ndarray:
    """Pictures of at most 256 pixels."""
    height, width = images.shape[1:3] if images.ndim == 4 else (0, 1)
    if height != width or not np.issubdtype(images.dtype, np.floating):
        raise ConfigError(
            f"A path is measured on pictures [N, S, S, 3] float in [-1, 1], got {images.dtype} "
            f"{list(images.shape)}."
        )
    if height <= _SIZE_PX:
        return images
    return np.stack([resize(image, _SIZE_PX, _SIZE_PX) for image in images])
