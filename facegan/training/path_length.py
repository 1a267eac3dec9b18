"""Path length: a step of one size in w should change the picture by one size, whichever way.

It stands here and not among the losses because it takes a gradient inside of one.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from facegan.layers.randomness import GivenSeed


def path_length_penalty(
    paint: Callable[[Any], Any], w: Any, mean: Any, seed: Any, *, decay: float = 0.01
) -> tuple[Any, Any]:
    """Measures how far pictures move with their styles, and how much that differs.

        E (|J_w^T y| - a)^2, y ~ N(0, 1) / sqrt(pixels)

    where a is the moving mean of |J_w^T y|. Of styles that differ from layer to layer, the squared
    lengths are averaged over the layers.

    Args:
        paint: From styles [B, L, W] to pictures [B, H, W, 3].
        w: [B, L, W] float.
        mean: The moving mean so far, a float32 scalar.
        seed: int32 [2].
        decay: What the moving mean takes of each new one.

    Returns:
        The penalty, a float32 scalar that has a gradient itself, and the new moving mean.

    Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020,
    section 3.2.
    """
    with tf.GradientTape() as tape:
        tape.watch(w)
        images = paint(w)
        height, width = images.shape[1:3]
        noise = keras.random.normal(tf.shape(images), seed=GivenSeed(seed))
        total = tf.reduce_sum(images * noise) / (height * width) ** 0.5
    gradient = tf.cast(tape.gradient(total, w), tf.float32)
    lengths = tf.sqrt(tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=2), axis=1))
    mean = mean + decay * (tf.reduce_mean(lengths) - mean)
    # The mean follows the lengths and is no target that they could move.
    return tf.reduce_mean(tf.square(lengths - tf.stop_gradient(mean))), tf.stop_gradient(mean)
