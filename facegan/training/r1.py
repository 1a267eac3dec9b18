"""R1: a discriminator must not be steep on real pictures.

It stands here and not among the losses because it takes a gradient inside of one.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def r1_penalty(judge: Callable[[Any], Any], images: Any) -> tuple[Any, Any]:
    """Judges real pictures, and how steep the verdict is on them.

        R1 = 1/2 E |grad_x D(x)|^2

    Args:
        judge: From [B, H, W, 3] to logits of any shape [B, ...], each of its own picture.
        images: [B, H, W, 3] float.

    Returns:
        The logits, and the penalty: a float32 scalar that has a gradient itself.

    Reference: Mescheder et al., "Which Training Methods for GANs Do Actually Converge?", ICML 2018,
    section 4.1.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = judge(images)
        total = tf.reduce_sum(tf.cast(logits, tf.float32))
    gradient = tf.cast(tape.gradient(total, images), tf.float32)
    axes = list(range(1, len(images.shape)))
    return logits, 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=axes))
