"""Small bundles for tests: a network with every kind of layer that matters, and two puppets."""

import keras
import numpy as np
import tensorflow as tf

from facegan.bundle import TensorSpec
from facegan.export.saved_model import ServingSpec, export_bundle


def image_spec(name, size):
    return TensorSpec(name=name, shape=(None, size, size, 3))


class ToyGenerator(keras.Model):
    """Convolution, batch norm, dropout, transposed convolution, tanh; seeded weights."""

    def __init__(self, seed=0, dtype=None):
        super().__init__(dtype=dtype)
        init = keras.initializers.RandomNormal(0.0, 0.2, seed=seed)
        args = {"padding": "same", "kernel_initializer": init, "dtype": self.dtype_policy}
        self.down = keras.layers.Conv2D(8, 4, strides=2, name="down", **args)
        self.norm = keras.layers.BatchNormalization(name="norm", dtype=self.dtype_policy)
        self.drop = keras.layers.Dropout(0.5, name="drop", seed=seed, dtype=self.dtype_policy)
        self.up = keras.layers.Conv2DTranspose(3, 4, strides=2, name="up", **args)

    def call(self, inputs, training=False):
        x = keras.ops.leaky_relu(self.down(inputs["condition"]), 0.2)
        x = self.drop(self.norm(x, training=training), training=training)
        return keras.ops.tanh(keras.ops.cast(self.up(x), "float32"))


def toy_spec(size=32, seed=0, dtype=None):
    model = ToyGenerator(seed, dtype)
    model({"condition": np.zeros((1, size, size, 3), np.float32)})
    # Statistics as training leaves them, so that training mode would be seen in the numbers.
    model.norm.moving_mean.assign(np.linspace(-0.3, 0.3, 8))
    model.norm.moving_variance.assign(np.linspace(0.5, 2.0, 8))
    return ServingSpec(
        model=model, inputs=(image_spec("condition", size),), outputs=(image_spec("image", size),)
    )


def export_toy(path, *, size=32, seed=0, **changes):
    spec = toy_spec(size, seed)
    return export_bundle(path, spec, model_name="toy", image_size=size, **changes), spec


def export_puppet(path, function, *, size, **changes):
    """A bundle whose generator is a plain function of the condition, [B, S, S, 3] in [-1, 1]."""
    spec = ServingSpec(
        model=lambda inputs: function(inputs["condition"]),
        inputs=(image_spec("condition", size),),
        outputs=(image_spec("image", size),),
    )
    return export_bundle(path, spec, model_name="puppet", image_size=size, **changes)


def repeat_drawing(condition):
    """The puppet that shows the drawing it is given."""
    return condition


def flat_colour(condition):
    """The puppet that shows one colour, RGB (255, 0, 255), whatever it is given."""
    colour = tf.constant([1.0, -1.0, 1.0])
    return tf.zeros_like(condition) + colour
