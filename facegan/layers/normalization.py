"""Normalisation by name, with the constants of the papers' own code (PyTorch's defaults)."""

from typing import Any, Literal

import keras

from facegan.config import unknown_name

NormName = Literal["batch", "sync_batch", "instance", "none"]

EPSILON = 1e-5
# Share of the old moving statistic that stays; PyTorch writes the same constant as momentum 0.1.
MOMENTUM = 0.9


def make_norm(norm: str, *, affine: bool | None = None, **kwargs: Any) -> keras.layers.Layer:
    """Makes a normalisation layer for channels-last feature maps.

    Statistics are computed in float32 under every dtype policy.

    Args:
        norm: "batch", "sync_batch" (statistics over the batches of all replicas), "instance" (each
            image and channel by itself) or "none" (identity).
        affine: Whether scale and offset are learned. None takes PyTorch's default: yes for batch
            norm, no for instance norm.
        **kwargs: ``name`` and ``dtype`` of the layer.

    Raises:
        ConfigError: The name is none of these.
    """
    if norm in ("batch", "sync_batch"):
        learned = affine is not False
        # Only TensorFlow has replicas here that could be synchronised.
        synchronized = norm == "sync_batch" and keras.backend.backend() == "tensorflow"
        return keras.layers.BatchNormalization(
            axis=-1,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            center=learned,
            scale=learned,
            # Isola et al.'s code draws the scales around one.
            gamma_initializer=keras.initializers.RandomNormal(mean=1.0, stddev=0.02),
            synchronized=synchronized,
            **kwargs,
        )
    if norm == "instance":
        return keras.layers.GroupNormalization(
            groups=-1,
            axis=-1,
            epsilon=EPSILON,
            center=bool(affine),
            scale=bool(affine),
            **kwargs,
        )
    if norm == "none":
        return keras.layers.Identity(**kwargs)
    raise unknown_name("norm", norm, ("batch", "sync_batch", "instance", "none"), what="value")
