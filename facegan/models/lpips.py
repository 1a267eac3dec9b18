"""LPIPS: how different two pictures look, by the features of AlexNet.

The weights are not part of this library: AlexNet's and the channels' come from a file that
``tools/convert_weights.py --from lpips`` makes, or from a seeded random stand-in.

Reference: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018, section 3 and equation 1; the network is Krizhevsky, "One weird trick for parallelizing
convolutional neural networks", 2014. As the authors' code of version 0.1 has it, the pictures are
scaled first and the root of the normalisation gets 1e-10 added outside; StarGAN v2's code adds it
inside, which shows only where a map is nearly dark.
"""

import dataclasses
import logging
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from facegan.errors import ConfigError
from facegan.layers.convolution import PaddedConv2D
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel
from facegan.models.stored_weights import stored_arrays

# Filters, kernel, stride and padding of the five convolutions.
_CONVS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
# Convolutions before which the largest of 3x3 is taken, at stride 2.
_POOLED = ("conv2", "conv3")
# Red, green, blue, of pictures in [-1, 1]: ImageNet's mean and standard deviation.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10
# From here on the second pooling has a place to take the largest of.
_LEAST_PX = 31


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LpipsConfig:
    """Settings of ``Lpips``; the published metric leaves none open."""

    KIND: ClassVar[str] = "lpips"


@keras.saving.register_keras_serializable(package="facegan")
class Lpips(ConfiguredModel):
    """Tells how different two pictures look, frozen, in float32 under every policy.

        d(x, y) = sum over the maps l of mean over places of sum over c of w_lc (x_lc - y_lc)^2

    where x_l and y_l are maps of the two after a ReLU, of unit length at each place.

    Call input: {"image": [B, H, W, 3], "other": [B, H, W, 3]}, float in [-1, 1], RGB, H and W at
    least 31.
    Call output: [B] float32, 0 for two that are the same.
    """

    config_class = LpipsConfig

    def __init__(self, config: LpipsConfig, **kwargs: Any):
        super().__init__(config, **{"name": "lpips", **kwargs, "autocast": False})
        self.trainable = False
        self.convs = [
            PaddedConv2D(
                filters,
                kernel_size,
                strides=strides,
                padding=padding,
                kernel_initializer="he_normal",
                name=f"conv{number}",
                dtype="float32",
                trainable=False,
            )
            for number, (filters, kernel_size, strides, padding) in enumerate(_CONVS, 1)
        ]
        self.linears = [
            PaddedConv2D(
                1,
                1,
                use_bias=False,
                # A tenth everywhere makes d the mean of 1 - cosine over places and five maps.
                kernel_initializer=keras.initializers.Constant(0.1),
                name=f"linear{number}",
                dtype="float32",
                trainable=False,
            )
            for number in range(1, len(_CONVS) + 1)
        ]

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis; height and width are free."""
        return {"image": (None, None, 3), "other": (None, None, 3)}

    def build(self, input_shape: Any) -> None:
        for name in ("image", "other"):
            require_images("Lpips", input_shape, name, 3)
        shape = (None, None, None, 3)
        for conv, linear in zip(self.convs, self.linears, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            linear.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        for name in ("image", "other"):
            require_images("Lpips", inputs, name, 3)
        shapes = [tuple(inputs[name].shape) for name in ("image", "other")]
        if any(None not in sizes and len({*sizes}) > 1 for sizes in zip(*shapes, strict=True)):
            raise ConfigError(
                "Lpips compares as many pictures of one size as of the other, got 'image' of "
                f"shape {list(shapes[0])} and 'other' of {list(shapes[1])}. Resize one of them."
            )
        return self.compare(self.maps(inputs["image"]), self.maps(inputs["other"]))

    def maps(self, images: Any) -> tuple[Any, ...]:
        """Gives the maps that are compared; the model must be built.

        Args:
            images: [B, H, W, 3] float in [-1, 1], RGB.

        Returns:
            Five maps [B, H', W', C] float32, of unit length over C.

        Raises:
            ConfigError: They are no such pictures, or smaller than 31 pixels.
        """
        require_images("Lpips", {"image": images}, "image", 3)
        height, width = images.shape[1:3]
        if any(size is not None and size < _LEAST_PX for size in (height, width)):
            raise ConfigError(
                f"Lpips takes pictures of at least {_LEAST_PX}x{_LEAST_PX} pixels, got "
                f"{height}x{width}, which its poolings leave nothing of. Enlarge them first."
            )
        x = (ops.cast(images, "float32") - np.asarray(_SHIFT, np.float32)) / np.asarray(
            _SCALE, np.float32
        )
        found = []
        for conv in self.convs:
            if conv.name in _POOLED:
                x = ops.max_pool(x, 3, 2, padding="valid", data_format="channels_last")
            x = ops.relu(conv(x))
            found.append(_to_unit_length(x))
        return tuple(found)

    def compare(self, maps: Any, others: Any) -> Any:
        """Weighs the squared differences of maps.

        Args:
            maps: What ``maps`` gave for B pictures.
            others: Likewise; one picture's maps are compared with all.

        Returns:
            [B] float32 distances.
        """
        total = 0.0
        for linear, a, b in zip(self.linears, maps, others, strict=True):
            total = total + ops.mean(linear(ops.square(a - b)), axis=(1, 2, 3))
        return total


def _to_unit_length(x: Any) -> Any:
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    # The root's slope at 0 is infinite, and would make the gradient of a dark place NaN.
    return x / (ops.sqrt(ops.maximum(squares, 1e-36)) + _EPSILON)


def make_lpips(source: str, **kwargs: Any) -> Lpips:
    """Makes a built ``Lpips``.

    Args:
        source: A file that ``tools/convert_weights.py --from lpips`` made, or "random" (the seeded
            stand-in, noted in the log: its distances, within 0 and 1, compare runs with each other
            and with nothing else).
        **kwargs: To the model (name, dtype).

    Raises:
        CheckpointError: The file cannot be read as such; the message tells of the stand-in.
    """
    model = Lpips(LpipsConfig(), **kwargs)
    model.build({name: (None, *shape) for name, shape in model.input_shapes().items()})
    if source == "random":
        logging.getLogger("facegan").warning(
            "LPIPS uses a random stand-in for AlexNet, not its trained weights."
        )
        _draw_kernels(model)
        return model
    advice = (
        "Name a file made with tools/convert_weights.py --from lpips, or random for a stand-in."
    )
    with stored_arrays(source, "LPIPS", advice) as stored:
        for conv, linear in zip(model.convs, model.linears, strict=True):
            conv.set_weights([stored[f"{conv.name}/{name}"] for name in ("kernel", "bias")])
            linear.set_weights([stored[f"{linear.name}/kernel"]])
    return model


def _draw_kernels(model: Lpips) -> None:
    """He's scaling keeps every map at about the size of the one before."""
    rng = np.random.default_rng(0)
    for conv in model.convs:
        shape = tuple(conv.kernel.shape)
        scale = np.sqrt(2 / np.prod(shape[:3]))
        conv.kernel.assign(scale * rng.standard_normal(shape, dtype=np.float32))
