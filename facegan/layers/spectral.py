"""Convolutions whose kernel is divided by its largest singular value.

Reference: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018,
algorithm 1. ``keras.layers.SpectralNormalization`` overwrites the kernel at every training call and
lets no gradient through the division; here the kernel stays as it is learned, as in PyTorch.
"""

from typing import Any

import keras
from keras import ops

from facegan.layers.convolution import PaddedConv2D

# Keeps the norm of a vanishing kernel from dividing by zero; PyTorch's constant.
_EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="facegan")
class SpectralConv2D(PaddedConv2D):
    """``PaddedConv2D`` with a spectrally normalised kernel W / sigma(W).

    With W as a matrix [filters, height * width * channels], one power iteration at each call while
    training brings v nearer to its first right singular vector:

        u = W v / |W v|,  v' = W^T u / |W^T u|,  sigma(W) = |W v'|

    and sigma's gradient treats v' as constant. Without training, sigma(W) = |W v| / |v|. The vector
    is kept and the kernel is not changed; ``normalized_kernel`` gives the quotient for export.
    """

    def build(self, input_shape: Any) -> None:
        size = self.kernel_size**2 * input_shape[-1]
        # In float32 under every policy: sigma divides whole kernels.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer=self.kernel_initializer,
            autocast=False,
        )
        self.singular_vector = self.add_weight(
            name="singular_vector",
            shape=(size,),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            trainable=False,
            autocast=False,
        )
        self._add_bias_weight()

    def call(self, inputs: Any, training: bool = False) -> Any:
        matrix = ops.reshape(self.kernel, (-1, self.filters))  # [h * w * c, filters]
        vector = ops.expand_dims(self.singular_vector, 0)  # [1, h * w * c]
        if training:
            fixed = ops.stop_gradient(matrix)
            left = _normalize(ops.matmul(vector, fixed))
            vector = _normalize(ops.matmul(left, ops.transpose(fixed)))
            self.singular_vector.assign(ops.squeeze(vector, 0))
        kernel = self.kernel / _sigma(matrix, vector)
        return self._convolve(inputs, ops.cast(kernel, self.compute_dtype))

    def normalized_kernel(self) -> Any:
        """The kernel that a call without training convolves with, float32."""
        matrix = ops.reshape(self.kernel, (-1, self.filters))
        return self.kernel / _sigma(matrix, ops.expand_dims(self.singular_vector, 0))


def _normalize(vector: Any) -> Any:
    return vector / ops.maximum(_length(vector), _EPSILON)


def _sigma(matrix: Any, vector: Any) -> Any:
    return ops.maximum(_length(ops.matmul(_normalize(vector), matrix)), _EPSILON)


def _length(vector: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(vector)))


def make_conv(spectral_norm: bool, filters: int, kernel_size: int, **kwargs: Any) -> PaddedConv2D:
    """Makes a ``SpectralConv2D`` or a ``PaddedConv2D`` of the same arguments."""
    cls = SpectralConv2D if spectral_norm else PaddedConv2D
    return cls(filters, kernel_size, **kwargs)
