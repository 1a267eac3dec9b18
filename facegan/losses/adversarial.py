"""Adversarial losses on a discriminator's logits.

Every generator loss takes the logits of generated images, every discriminator loss those of real
and of generated ones. Logits are one tensor of any shape [B, ...] (a map of patches is averaged) or
a list or tuple of them, one for each scale: each scale is averaged, then the scales. Everything is
computed in float32.

A discriminator loss is the sum of its real and its generated half, without a factor. Isola et al.
halve theirs; that weight belongs to the recipe.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops


def _average(logits: Any, term: Callable[[Any], Any], reduce: bool) -> Any:
    """Mean of ``term`` over patches and scales: scalar, or [B] without ``reduce``."""
    scales = logits if isinstance(logits, list | tuple) else [logits]
    total = 0.0
    for scale in scales:
        values = term(ops.cast(scale, "float32"))
        axes = tuple(range(1, len(values.shape)))
        total = total + (ops.mean(values, axis=axes) if axes else values)
    examples = total / len(scales)
    return ops.mean(examples) if reduce else examples


def bce_generator_loss(fake_logits: Any, *, reduce: bool = True) -> Any:
    """Non-saturating cross-entropy: -log D(fake) (Goodfellow et al. 2014, section 3)."""
    return _average(fake_logits, lambda x: ops.softplus(-x), reduce)


def bce_discriminator_loss(real_logits: Any, fake_logits: Any, *, reduce: bool = True) -> Any:
    """Cross-entropy: -log D(real) - log(1 - D(fake))."""
    return _average(real_logits, lambda x: ops.softplus(-x), reduce) + _average(
        fake_logits, ops.softplus, reduce
    )


def lsgan_generator_loss(fake_logits: Any, *, reduce: bool = True) -> Any:
    """Least squares: (D(fake) - 1)^2 (Mao et al. 2017, equation 9 without the half)."""
    return _average(fake_logits, lambda x: ops.square(x - 1), reduce)


def lsgan_discriminator_loss(real_logits: Any, fake_logits: Any, *, reduce: bool = True) -> Any:
    """Least squares: (D(real) - 1)^2 + D(fake)^2."""
    return _average(real_logits, lambda x: ops.square(x - 1), reduce) + _average(
        fake_logits, ops.square, reduce
    )


def hinge_generator_loss(fake_logits: Any, *, reduce: bool = True) -> Any:
    """Hinge: -D(fake) (Lim and Ye 2017)."""
    return _average(fake_logits, lambda x: -x, reduce)


def hinge_discriminator_loss(real_logits: Any, fake_logits: Any, *, reduce: bool = True) -> Any:
    """Hinge: max(0, 1 - D(real)) + max(0, 1 + D(fake))."""
    return _average(real_logits, lambda x: ops.relu(1 - x), reduce) + _average(
        fake_logits, lambda x: ops.relu(1 + x), reduce
    )


@dataclasses.dataclass(frozen=True, slots=True)
class AdversarialLoss:
    """The two sides of one adversarial game."""

    generator: Callable[..., Any]
    discriminator: Callable[..., Any]


ADVERSARIAL = {
    "bce": AdversarialLoss(bce_generator_loss, bce_discriminator_loss),
    "lsgan": AdversarialLoss(lsgan_generator_loss, lsgan_discriminator_loss),
    "hinge": AdversarialLoss(hinge_generator_loss, hinge_discriminator_loss),
}
