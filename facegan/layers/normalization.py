"""Normalisation by name, with the constants of the papers' own code (PyTorch's defaults)."""

from typing import Any, Literal

import keras
from keras import ops

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
        return InstanceNorm(affine=bool(affine), **kwargs)
    if norm == "none":
        return keras.layers.Identity(**kwargs)
    raise unknown_name("norm", norm, ("batch", "sync_batch", "instance", "none"), what="value")


@keras.saving.register_keras_serializable(package="facegan")
class InstanceNorm(keras.layers.Layer):
    """Brings each channel of each image to mean 0 and variance 1.

    It equals Keras' GroupNormalization with a group for each channel, which splits the axis of
    channels in two; OpenVINO then takes longer over the statistics than over the convolutions.

    Call input: [B, H, W, C] float. Call output: the same.

    Args:
        affine: Whether a scale and an offset for each channel are learned.
    """

    def __init__(self, *, affine: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.affine = affine

    def build(self, input_shape: Any) -> None:
        self.gamma = self.beta = None
        if self.affine:
            shape = (input_shape[-1],)
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        if self.gamma is None:
            return normalize_instances(inputs)
        return normalize_instances(
            inputs, ops.reshape(self.gamma, (1, 1, 1, -1)), ops.reshape(self.beta, (1, 1, 1, -1))
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "affine": self.affine}


def normalize_instances(inputs: Any, scale: Any = None, offset: Any = None) -> Any:
    """Instance norm as a function, with statistics in float32.

    Args:
        inputs: [B, H, W, C] float.
        scale: What the normalised maps are multiplied by, [B or 1, 1, 1, C]; None for nothing.
        offset: What is added then, likewise.

    Returns:
        [B, H, W, C] in the type of the inputs.
    """
    x = ops.cast(inputs, "float32")
    mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)
    # One product and one sum per pixel, whatever there is to multiply and to add.
    gain = ops.rsqrt(variance + EPSILON)
    if scale is not None:
        gain = gain * ops.cast(scale, "float32")
    shift = -mean * gain
    if offset is not None:
        shift = shift + ops.cast(offset, "float32")
    return ops.cast(x * gain + shift, inputs.dtype)
