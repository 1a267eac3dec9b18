"""Finds the styles of which a generator paints a given picture.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020,
section 5 and appendix D; styles of their own for the layers (w+) after Abdal et al.,
"Image2StyleGAN", ICCV 2019. Differences: the noise maps stay as they are, so that the same styles
paint the same picture later; there is a term for the pixels; and w+ begins with the best style that
all layers share.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.progress import ProgressCallback
from facegan.training.perceptual_term import PerceptualTerm

# The perceptual term sees no larger pictures.
_MOST_PX = 256
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProjectionConfig:
    """How styles are looked for.

    Attributes:
        space: "w" looks for one style for all layers, whose pictures are as good as drawn ones and
            seldom alike; "w+" for one for each layer.
        steps: Of Adam.
        learning_rate: Of Adam, at its highest.
        rise: Share of the steps in which the rate rises, in a straight line.
        fall: Share at the end in which it falls, as a cosine.
        shared: Share of the steps, at the beginning, in which w+ moves as one style.
        noise: Standard deviation of what is added to the styles at first, as a share of that of the
            styles themselves: it helps over small hills.
        noise_until: Share of the steps after which nothing is added.
        perceptual_weight: Of the perceptual term.
        pixel_weight: Of the mean squared difference of the pixels.
        mean_weight: Of the squared distance from the mean style, in standard deviations: what stays
            near is easier to edit.
        seed: Of the noise.
    """

    KIND: ClassVar[str] = "projection"

    space: Literal["w", "w+"] = "w+"
    steps: int = 1000
    learning_rate: float = 0.1
    rise: float = 0.05
    fall: float = 0.25
    shared: float = 0.3
    noise: float = 0.05
    noise_until: float = 0.75
    perceptual_weight: float = 1.0
    pixel_weight: float = 1.0
    mean_weight: float = 0.0
    seed: int = 123

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"projection.steps must be at least 1, got {self.steps}.")
        if self.learning_rate <= 0:
            raise ConfigError(
                f"projection.learning_rate must be above 0, got {self.learning_rate}."
            )
        for name in ("rise", "fall", "shared", "noise_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"projection.{name} must be in [0, 1], got {getattr(self, name)}."
                )
        for name in ("noise", "perceptual_weight", "pixel_weight", "mean_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"projection.{name} must be >= 0, got {getattr(self, name)}.")
        if not (self.perceptual_weight or self.pixel_weight):
            raise ConfigError(
                "projection compares pictures by nothing: give perceptual_weight or pixel_weight."
            )

    def rate_at(self, done: float) -> float:
        """The learning rate when a share of the steps is done."""
        falling = min(1.0, (1.0 - done) / self.fall) if self.fall else 1.0
        rising = min(1.0, done / self.rise) if self.rise else 1.0
        return self.learning_rate * (0.5 - 0.5 * math.cos(math.pi * falling)) * rising

    def noise_at(self, done: float) -> float:
        """The noise, as a share of the styles' deviation, when a share of the steps is done."""
        left = 1.0 - done / self.noise_until if self.noise_until else 0.0
        return self.noise * max(0.0, left) ** 2


@dataclasses.dataclass(frozen=True, slots=True)
class StyleStatistics:
    """Where styles lie.

    Attributes:
        mean: [W] float32.
        deviation: Root of the mean squared distance from the mean, over all numbers of a style.
    """

    mean: np.ndarray
    deviation: float

    @classmethod
    def of(cls, styles: np.ndarray) -> StyleStatistics:
        """Of styles [N, W]."""
        mean = styles.mean(axis=0, dtype=np.float64)
        squares = np.square(styles - mean).sum(axis=1).mean()
        return cls(mean.astype(np.float32), float(np.sqrt(squares)))


class Projector:
    """Looks for the styles of pictures. Each picture's search is its own, whatever is beside it.

    Args:
        paint: From styles [N, L, W] to pictures [N, H, W, 3] around [-1, 1]; a function of tensors
            that has gradients.
        num_styles: L.
        statistics: Of styles that were drawn.
        perceptual: Compares pictures, prepared; None leaves that term out.
        config: How styles are looked for.
    """

    def __init__(
        self,
        paint: Callable[[Any], Any],
        num_styles: int,
        statistics: StyleStatistics,
        perceptual: PerceptualTerm | None,
        config: ProjectionConfig,
    ):
        self.config, self._paint, self._num_styles = config, paint, num_styles
        self._statistics = statistics
        self._perceptual = perceptual if config.perceptual_weight else None
        self._gradient = tf.function(self._find_gradient, autograph=False)

    def project(
        self,
        images: np.ndarray,
        start: np.ndarray | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Looks for the styles of pictures.

        Args:
            images: [N, H, W, 3] float32 in [-1, 1].
            start: [N, L, W] float32, where the search begins; its layers then go their own ways at
                once. None begins at the mean style.
            progress: Told the number of finished steps.

        Returns:
            [N, L, W] float32, for "w" the same in all layers.
        """
        config, statistics = self.config, self._statistics
        shape = (len(images), self._num_styles, len(statistics.mean))
        shared = 1.0 if config.space == "w" else config.shared if start is None else 0.0
        w = np.array(np.broadcast_to(statistics.mean if start is None else start, shape))
        if shared == 1.0:
            w[:] = w.mean(axis=1, keepdims=True)
        target = tf.constant(images)
        maps = self._describe(target)
        # Adam, on each number of each picture alone.
        first, second = np.zeros_like(w), np.zeros_like(w)
        for step in range(config.steps):
            done = (step + 0.5) / config.steps
            noise = self._draw_noise(step) * config.noise_at(done) * statistics.deviation
            if done < shared:
                noise = noise[:1]
            gradient = self._gradient(tf.constant(w + noise), target, maps).numpy()
            if done < shared:
                gradient[:] = gradient.mean(axis=1, keepdims=True)
            first += (1.0 - _BETA_1) * (gradient - first)
            second += (1.0 - _BETA_2) * (np.square(gradient) - second)
            size = np.sqrt(second / (1.0 - _BETA_2 ** (step + 1))) + _EPSILON
            w -= config.rate_at(done) / (1.0 - _BETA_1 ** (step + 1)) * first / size
            if progress:
                progress(step + 1, config.steps, "step")
        return w

    def _draw_noise(self, step: int) -> np.ndarray:
        """[L, W], the same for all pictures."""
        random = np.random.default_rng([self.config.seed, step])
        shape = (self._num_styles, len(self._statistics.mean))
        return random.standard_normal(shape).astype(np.float32)

    def _describe(self, images: Any) -> Any:
        if self._perceptual is None:
            return ()
        return self._perceptual.describe(_reduce(images))

    def _find_gradient(self, w: Any, target: Any, maps: Any) -> Any:
        config = self.config
        with tf.GradientTape() as tape:
            tape.watch(w)
            images = self._paint(w)
            loss = config.pixel_weight * tf.reduce_mean(tf.square(images - target))
            if self._perceptual is not None:
                term = self._perceptual.compare(_reduce(images), maps)
                loss += config.perceptual_weight * term
            if config.mean_weight:
                far = (w - self._statistics.mean) / self._statistics.deviation
                far = tf.reduce_mean(tf.reduce_sum(tf.square(far), axis=-1))
                loss += config.mean_weight * far
            # All terms are means over the pictures, of which none knows the others.
            loss *= tf.cast(tf.shape(w)[0], tf.float32)
        return tape.gradient(loss, w)


def _reduce(images: Any) -> Any:
    factor = max(images.shape[1] // _MOST_PX, 1)
    if factor == 1:
        return images
    return tf.nn.avg_pool2d(images, factor, factor, "VALID")
