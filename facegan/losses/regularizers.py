"""Losses on what a network has learnt itself, not on what it makes."""

from typing import Any

from keras import ops


def kl_loss(mean: Any, log_variance: Any, *, reduce: bool = True) -> Any:
    """Distance of normal distributions from the standard one.

        KL(N(mean, exp(log_variance)) | N(0, 1)) = 1/2 sum(mean^2 + exp(log_variance) - 1
                                                           - log_variance)

    Args:
        mean: [B, N] float.
        log_variance: [B, N] float.
        reduce: False returns one value for each example.

    Returns:
        The sum over N, in float32: its mean over the examples, or [B].

    Reference: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.
    """
    mean, log_variance = ops.cast(mean, "float32"), ops.cast(log_variance, "float32")
    terms = ops.square(mean) + ops.exp(log_variance) - 1 - log_variance
    examples = 0.5 * ops.sum(terms, axis=-1)
    return ops.mean(examples) if reduce else examples
