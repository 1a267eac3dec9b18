"""Self-attention over the pixels of a feature map.

Reference: Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019, section 3.
"""

from typing import Any

import keras
from keras import ops

from facegan.layers.convolution import PaddedConv2D


@keras.saving.register_keras_serializable(package="facegan")
class SelfAttention(keras.layers.Layer):
    """Adds to each pixel what the pixels that resemble it hold.

        y_i = x_i + gamma sum_j softmax_j(query(x_i) . key(x_j)) value(x_j)

    with three 1x1 convolutions and a learned gamma that starts at 0 (equations 1 to 3). The softmax
    is computed in float32.

    Call input: [B, H, W, C] float. Call output: the same shape.

    Args:
        reduction: By how many times queries and keys have fewer channels.
    """

    def __init__(self, reduction: int = 8, **kwargs: Any):
        super().__init__(**kwargs)
        self.reduction = reduction

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        narrow = max(1, channels // self.reduction)
        self.query = PaddedConv2D(narrow, 1, name="query", dtype=self.dtype_policy)
        self.key = PaddedConv2D(narrow, 1, name="key", dtype=self.dtype_policy)
        self.value = PaddedConv2D(channels, 1, name="value", dtype=self.dtype_policy)
        for conv in (self.query, self.key, self.value):
            conv.build(input_shape)
        self.gamma = self.add_weight(name="gamma", shape=(), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        height, width = ops.shape(inputs)[1:3]

        def flat(values: Any) -> Any:
            return ops.reshape(values, (-1, height * width, values.shape[-1]))  # rank 3

        query, key = flat(self.query(inputs)), flat(self.key(inputs))
        likeness = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        shares = ops.softmax(ops.cast(likeness, "float32"), axis=-1)
        mixed = ops.matmul(ops.cast(shares, inputs.dtype), flat(self.value(inputs)))
        return inputs + self.gamma * ops.reshape(mixed, ops.shape(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}
