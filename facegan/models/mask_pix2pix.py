"""Faces from segmentation maps, the colours of their regions, and an identity.

``MaskGenerator`` is a U-Net that is shown where each group of parts lies, twice: as masks, and
painted in the groups' colours. Where it is down to one pixel it is also told the colours and an
identity as plain numbers. ``ColourDiscriminator`` judges a picture beside its colour map and reads
the colour map off a picture. The discriminator of patches is pix2pix's, with masks as condition.

These are the nets of a public system for CelebAMask-HQ. Its parameter counts tell what its facts
leave open: no convolution but the last of a net has a bias, each but the outermost of a net is
followed by batch norm, that of one pixel included.

Reference: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, for U-Net and patches.
Differences from the system: pictures and colours are in [-1, 1] where it has [0, 1]; the colour
discriminator's scalar is the mean of its last maps, weighted, so that it fits any size.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import keras
from keras import ops

from facegan.config import require_power_of_two
from facegan.errors import ConfigError
from facegan.layers.convolution import PaddedConv2D, make_up_conv, normal_initializer
from facegan.layers.normalization import make_norm
from facegan.layers.randomness import SeededDropout
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel
from facegan.models.pix2pix import LEAKY_SLOPE

# Below it, the groups' masks at a pixel count as none.
_LEAST_COVER = 1e-6


def split_groups(label_map: Any, num_groups: int) -> Any:
    """The mask of each group of a label map.

    Args:
        label_map: [B, H, W] ids, 0 for background.
        num_groups: How many ids there are beside it.

    Returns:
        [B, H, W, num_groups] float32, 1 in the channel of the id less one, else 0.
    """
    ids = ops.arange(1, num_groups + 1, dtype="int32")
    return ops.cast(ops.expand_dims(ops.cast(label_map, "int32"), -1) == ids, "float32")


def colour_map(masks: Any, colours: Any) -> Any:
    """Paints each pixel in the colour of its group, or in the mean of those of its groups.

    Args:
        masks: [B, H, W, G], 1 where a group lies, else 0; in between a group counts in part.
        colours: [B, G, 3] in [-1, 1].

    Returns:
        [B, H, W, 3] float32 in [-1, 1], black (-1) where no group lies.
    """
    masks = ops.cast(masks, "float32")
    light = ops.cast(colours, "float32") + 1.0  # 0 is black
    painted = ops.matmul(masks, ops.expand_dims(light, 1))
    cover = ops.sum(masks, axis=-1, keepdims=True)
    return painted / ops.maximum(cover, _LEAST_COVER) - 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaskGeneratorConfig:
    """Settings of ``MaskGenerator``; the defaults are the system's net."""

    KIND: ClassVar[str] = "mask_unet"

    image_size: int = 256  # height and width, power of two; it is halved down to one pixel
    num_groups: int = 7
    identity_size: int = 128  # numbers that say who it is; 0 for a net that is not told
    base_width: int = 32  # channels of the outermost level; each level doubles them ...
    max_width: int = 256  # ... up to here
    # "none" has biases instead; it is what ``fold_batch_norm`` makes for serving.
    norm: Literal["batch", "none"] = "batch"
    dropout: float = 0.5  # in the innermost decoder levels ...
    num_dropout: int = 3  # ... as many as this
    upsample: Literal["transposed", "nearest"] = "transposed"

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        for name in ("num_groups", "base_width", "max_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.identity_size < 0:
            raise ConfigError(f"identity_size must be at least 0, got {self.identity_size}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}.")
        if not 0 <= self.num_dropout < self.levels:
            raise ConfigError(
                f"num_dropout must be from 0 to {self.levels - 1} at image_size "
                f"{self.image_size}, got {self.num_dropout}."
            )

    @property
    def levels(self) -> int:
        """How many times the picture is halved."""
        return self.image_size.bit_length() - 1

    def width(self, level: int) -> int:
        """Channels of a level; 1 is the outermost."""
        return min(self.base_width * 2 ** (level - 1), self.max_width)


@keras.saving.register_keras_serializable(package="facegan")
class MaskGenerator(ConfiguredModel):
    """Paints a face from where its groups of parts lie, their colours, and who it is.

    Call input: {"masks": [B, H, W, num_groups], 1 where a group lies, else 0; "colours":
    [B, num_groups, 3] float in [-1, 1]; "identity": [B, identity_size] float, if there is one}, H
    and W the config's ``image_size``; while training also a seed int32 [2] for the dropout.
    Call output: [B, H, W, 3] float32 in [-1, 1].
    """

    config_class = MaskGeneratorConfig

    def __init__(self, config: MaskGeneratorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "mask_generator", **kwargs})
        made = {"dtype": self.dtype_policy}
        last = config.levels
        # Without a norm to shift the maps, the convolution does.
        plain = config.norm == "none"
        self.down_convs, self.down_norms = [], []
        self.up_convs, self.up_norms, self.up_dropouts = [], [], []
        for level in range(1, last + 1):
            self.down_convs.append(
                PaddedConv2D(
                    config.width(level),
                    4,
                    strides=2,
                    padding=1,
                    use_bias=plain and level > 1,
                    name=f"down{level}_conv",
                    **made,
                )
            )
            norm = config.norm if level > 1 else "none"
            self.down_norms.append(make_norm(norm, name=f"down{level}_norm", **made))
            if level == 1:
                continue
            self.up_convs.append(
                make_up_conv(
                    config.upsample,
                    config.width(level - 1),
                    use_bias=plain,
                    name=f"up{level}_conv",
                    **made,
                )
            )
            self.up_norms.append(make_norm(config.norm, name=f"up{level}_norm", **made))
            rate = config.dropout if level > last - config.num_dropout else 0.0
            self.up_dropouts.append(
                SeededDropout(rate, stream=level, name=f"up{level}_dropout", **made)
            )
        # float32: the image is what comes out, and tanh is steep where bfloat16 is coarse.
        self.image_conv = make_up_conv(config.upsample, 3, name="up1_conv", dtype="float32")

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        config = self.config
        shapes: dict[str, tuple[int | None, ...]] = {
            "masks": (config.image_size, config.image_size, config.num_groups),
            "colours": (config.num_groups, 3),
        }
        if config.identity_size:
            shapes["identity"] = (config.identity_size,)
        return shapes

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        config = self.config
        shape = (*tuple(input_shape["masks"])[:3], config.num_groups + 3)
        skips: list[tuple[int | None, ...]] = []
        for conv, norm in zip(self.down_convs, self.down_norms, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
            skips.append(shape)
        skips[-1] = (*shape[:3], 3 * config.num_groups + config.identity_size)
        for i in reversed(range(len(self.up_convs))):
            shape = (*shape[:3], shape[3] + skips[i + 1][3])
            self.up_convs[i].build(shape)
            shape = self.up_convs[i].compute_output_shape(shape)
            self.up_norms[i].build(shape)
            self.up_dropouts[i].build(shape)
        self.image_conv.build((*shape[:3], shape[3] + skips[0][3]))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        config, dtype = self.config, self.compute_dtype
        masks, colours = inputs["masks"], inputs["colours"]
        shown = [ops.cast(masks, dtype), ops.cast(colour_map(masks, colours), dtype)]
        x = ops.concatenate(shown, axis=-1)
        skips: list[Any] = []
        for conv, norm in zip(self.down_convs, self.down_norms, strict=True):
            x = ops.leaky_relu(norm(conv(x), training=training), LEAKY_SLOPE)
            skips.append(x)
        known = [ops.reshape(colours, (-1, 3 * config.num_groups))]
        if config.identity_size:
            known.append(inputs["identity"])
        told = ops.concatenate([ops.cast(value, dtype) for value in known], axis=-1)
        skips[-1] = ops.reshape(told, (-1, 1, 1, told.shape[-1]))  # rank 4
        for i in reversed(range(len(self.up_convs))):
            x = self.up_convs[i](ops.concatenate([x, skips[i + 1]], axis=-1))
            x = self.up_norms[i](x, training=training)
            x = ops.relu(self.up_dropouts[i](x, training=training, seed=seed))
        return ops.tanh(self.image_conv(ops.concatenate([x, skips[0]], axis=-1)))

    def _check(self, inputs: Any) -> None:
        for name, shape in self.input_shapes().items():
            if not isinstance(inputs, Mapping) or name not in inputs:
                given = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
                raise ConfigError(
                    f"MaskGenerator takes a dict with the key {name!r} of shape "
                    f"{['B', *shape]}, got {given}."
                )
            value: Any = inputs[name]
            got = tuple(getattr(value, "shape", value))
            fits = len(got) == len(shape) + 1 and all(
                size in (None, wanted) for size, wanted in zip(got[1:], shape, strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"MaskGenerator takes {name!r} of shape {['B', *shape]}, got {list(got)}. "
                    "Change the net's config or the data's."
                )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ColourDiscriminatorConfig:
    """Settings of ``ColourDiscriminator``; the defaults are the system's net."""

    KIND: ClassVar[str] = "colour"

    image_size: int = 256
    base_width: int = 64  # channels of the first convolution; each doubles them ...
    max_width: int = 256  # ... up to here
    num_downs: int = 3  # halvings; the colour map is read at this size
    norm: Literal["batch", "instance"] = "batch"

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        for name in ("base_width", "max_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        most = self.image_size.bit_length() - 3
        if not 1 <= self.num_downs <= most:
            raise ConfigError(
                f"num_downs must be from 1 to {most} at image_size {self.image_size}, got "
                f"{self.num_downs}."
            )


@keras.saving.register_keras_serializable(package="facegan")
class ColourDiscriminator(ConfiguredModel):
    """Judges a picture beside its colour map, and reads the colour map off a picture.

    Call input: {"condition": [B, H, W, 3] colour map, "image": [B, H, W, 3]}, floats in [-1, 1], H
    and W multiples of 2^num_downs. A map that is to be read must not be shown: the condition is
    then ``blank``.
    Call output: {"logits": [B, 1] float32, "colour_map": [B, H / 2^num_downs, W / 2^num_downs, 3]
    float32 in [-1, 1]}.
    """

    config_class = ColourDiscriminatorConfig

    def __init__(self, config: ColourDiscriminatorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "colour_discriminator", **kwargs})
        made = {"dtype": self.dtype_policy}
        self.convs, self.norms = [], []
        for i in range(config.num_downs + 1):
            self.convs.append(
                PaddedConv2D(
                    min(config.base_width * 2**i, config.max_width),
                    3,
                    strides=2 if i < config.num_downs else 1,
                    padding=1,
                    use_bias=False,
                    name=f"conv{i + 1}",
                    **made,
                )
            )
            norm = config.norm if i > 0 else "none"
            self.norms.append(make_norm(norm, name=f"norm{i + 1}", **made))
        self.map_conv = PaddedConv2D(3, 3, padding=1, name="map_conv", dtype="float32")
        self.logit_dense = keras.layers.Dense(
            1, kernel_initializer=normal_initializer(), name="logit_dense", dtype="float32"
        )

    @staticmethod
    def blank(images: Any) -> Any:
        """The condition of pictures [B, H, W, 3] whose colour map is to be read: mid-grey."""
        return ops.zeros_like(images)

    def shrink(self, colours: Any) -> Any:
        """A colour map [B, H, W, 3] at the size at which it is read, by means of blocks."""
        factor = 2**self.config.num_downs
        return ops.average_pool(colours, factor, factor, data_format="channels_last")

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        return {"condition": (size, size, 3), "image": (size, size, 3)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = (*tuple(input_shape["image"])[:3], 6)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        self.map_conv.build(shape)
        self.logit_dense.build((shape[0], shape[3]))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        x = ops.concatenate([inputs["condition"], inputs["image"]], axis=-1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.leaky_relu(norm(conv(x), training=training), LEAKY_SLOPE)
        whole = ops.mean(ops.cast(x, "float32"), axis=(1, 2))  # rank 2
        return {"logits": self.logit_dense(whole), "colour_map": ops.tanh(self.map_conv(x))}

    def _check(self, inputs: Any) -> None:
        for name in ("condition", "image"):
            require_images("ColourDiscriminator", inputs, name, 3, 2**self.config.num_downs)
