"""Randomness without hidden state: every draw follows from a seed that the caller passes.

A seed is an int32 tensor of shape [2]. Keras' own Dropout keeps its state in a variable that no
checkpoint holds, so a run resumed from one draws other masks than the unbroken run; here the
trainer makes one seed per step and each layer derives its own from it.
"""

from typing import Any

import keras
from keras import ops

from facegan.errors import ConfigError

# Odd multipliers below 2^31 with no simple relation to one another; products wrap around in int32.
_MULTIPLIERS = (0x2C1B3C6D, 0x297A2D39)
_WORD_STEPS = (0x1E3779B9, 0x5851F42D)


def fold_in(seed: Any, data: Any) -> Any:
    """Derives a new seed from a seed and a number.

    Both words of the result depend on every bit of both words and of the number, so neither
    nearby numbers nor chains such as (step 1, layer 3) and (step 3, layer 1) meet.

    Args:
        seed: int32 [2].
        data: A whole number, Python int or int32 scalar tensor.

    Returns:
        int32 [2].
    """
    seed = ops.cast(seed, "int32")
    if isinstance(data, int):
        data = (data + 2**31) % 2**32 - 2**31
    data = ops.cast(data, "int32")
    first = _mix(seed[0] + _mix(data * _WORD_STEPS[0] + _WORD_STEPS[1]))
    second = _mix(seed[1] + _mix(data * _WORD_STEPS[1] + _WORD_STEPS[0]))
    return ops.stack([_mix(first + second * _WORD_STEPS[0]), _mix(second + first * _WORD_STEPS[1])])


def _mix(word: Any) -> Any:
    """One-to-one scrambling of an int32 word: xor with its upper half, multiply, twice."""
    for multiplier in _MULTIPLIERS:
        # The mask makes int32's arithmetic shift a logical one.
        upper = ops.bitwise_and(ops.right_shift(word, 15), 0x1FFFF)
        word = ops.bitwise_xor(word, upper) * multiplier
    return ops.bitwise_xor(word, ops.bitwise_and(ops.right_shift(word, 15), 0x1FFFF))


class GivenSeed(keras.random.SeedGenerator):
    """Hands a seed tensor to ``keras.random``, which else takes only ints and stateful generators.

    It serves one draw: a second draw from the same seed would repeat the first.

    Args:
        seed: int32 [2].
    """

    # The base class would create a variable; there is no state here.
    def __init__(self, seed: Any):
        self._seed = seed

    def next(self, ordered: bool = True) -> Any:
        # JAX takes the words of a key unsigned.
        return ops.cast(self._seed, "uint32") if keras.backend.backend() == "jax" else self._seed


@keras.saving.register_keras_serializable(package="facegan")
class SeededDropout(keras.layers.Layer):
    """Sets a share of the values to zero while training and scales the others up.

    Call: ``layer(x, training=..., seed=...)`` with x float of any shape and seed int32 [2]. Without
    training, or at rate 0, x comes back as it is and no seed is needed.

    Args:
        rate: Share of values dropped, in [0, 1).
        stream: Which of the seed's streams this layer draws from; layers of one net that are given
            the same seed need different ones.

    Raises:
        ConfigError: The rate is outside [0, 1), or a call while training has no seed.
    """

    def __init__(self, rate: float, stream: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ConfigError(f"The dropout rate must be in [0, 1), got {rate}.")
        self.rate = rate
        self.stream = stream

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        if not training or self.rate == 0:
            return inputs
        if seed is None:
            raise ConfigError(
                f"{self.name} drops values while training and needs a seed: pass "
                "seed=<int32 tensor of shape [2]> to the call, or set the dropout rate to 0."
            )
        given = GivenSeed(fold_in(seed, self.stream))
        return keras.random.dropout(inputs, self.rate, seed=given)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "stream": self.stream}
