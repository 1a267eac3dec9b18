"""Image-to-image translation with a conditional adversarial network.

Two generators and two discriminators stand here. ``UNetGenerator`` and ``PatchDiscriminator`` are
those of the paper. ``BlockGenerator`` and ``BlockDiscriminator`` are the nets of the vid2vid system
that made one person say what another says from landmark drawings; they are larger, made of blocks
of two 3x3 convolutions with pooling between them, and have the number of blocks, the number of
channels and the dropout rate as options.

Reference: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, section 6.1 (architectures) and 6.2 (initial weights).
Differences from the authors' PyTorch code: channels last; no bias before instance norm, which
would remove it again; the discriminators also return their feature maps.
"""

import dataclasses
from typing import Any, ClassVar, Literal, cast

import keras
from keras import ops

from facegan.config import require_power_of_two
from facegan.errors import ConfigError
from facegan.layers.convolution import PaddedConv2D, UpConv2D, make_up_conv
from facegan.layers.normalization import make_norm
from facegan.layers.randomness import SeededDropout
from facegan.layers.resize import BilinearUpsample
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel, Net

# The slope of every leaky ReLU in these nets; Keras' own default is another.
LEAKY_SLOPE = 0.2
# Levels of the U-Net nearer to the image than this one have no dropout.
FIRST_DROPOUT_LEVEL = 5


def _require_at_least(minimum: int, **values: int) -> None:
    for name, value in values.items():
        if value < minimum:
            raise ConfigError(f"{name} must be at least {minimum}, got {value}.")


def _require_rate(name: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {rate}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig:
    """Settings of ``UNetGenerator``; the defaults are the paper's net for 256 px."""

    KIND: ClassVar[str] = "unet"

    image_size: int = 256  # height and width it is made for, power of two
    in_channels: int = 3
    out_channels: int = 3
    base_width: int = 64  # channels of the outermost level; each level doubles them ...
    max_width: int = 512  # ... up to here
    # Levels, each halving the size. None goes down to one pixel as the paper does. Fewer leave out
    # the innermost levels, which hold most parameters and little of the arithmetic.
    depth: int | None = None
    # "none" has biases instead; it is what ``fold_batch_norm`` makes for serving.
    norm: Literal["batch", "instance", "none"] = "batch"
    dropout: float = 0.5  # in the inner decoder levels, from the fifth on
    upsample: Literal["transposed", "nearest"] = "transposed"
    # Biases of the first and the innermost convolution on the way down, which no norm follows.
    outer_bias: bool = False

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        _require_at_least(1, in_channels=self.in_channels, out_channels=self.out_channels)
        _require_at_least(1, base_width=self.base_width, max_width=self.max_width)
        _require_rate("dropout", self.dropout)
        deepest = self.image_size.bit_length() - 1
        if self.depth is not None and not 2 <= self.depth <= deepest:
            raise ConfigError(
                f"depth must be from 2 to {deepest} at image_size {self.image_size}, "
                f"got {self.depth}. None takes {deepest}."
            )

    @property
    def levels(self) -> int:
        """How many times the image is halved."""
        return self.depth if self.depth is not None else self.image_size.bit_length() - 1

    def width(self, level: int) -> int:
        """Channels of a level; 1 is the outermost."""
        return min(self.base_width * 2 ** (level - 1), self.max_width)


@keras.saving.register_keras_serializable(package="facegan")
class UNetGenerator(ConfiguredModel):
    """Turns a condition into an image by a U-Net.

    Height and width are free as long as they are multiples of 2 to the number of levels.

    Call input: {"condition": [B, H, W, in_channels] float in [-1, 1]}, and while training a seed
    int32 [2] for the dropout.
    Call output: [B, H, W, out_channels] float32 in [-1, 1].
    """

    config_class = UNetConfig

    def __init__(self, config: UNetConfig, **kwargs: Any):
        super().__init__(config, **{"name": "unet_generator", **kwargs})
        last = config.levels
        made = {"dtype": self.dtype_policy}
        self.down_convs, self.down_norms = [], []
        self.up_convs, self.up_norms, self.up_dropouts = [], [], []
        for level in range(1, last + 1):
            # The innermost level may be one pixel, whose statistics over one image are void.
            norm = config.norm if 1 < level < last else "none"
            # Without a norm to shift the maps, the convolution does.
            plain = config.norm == "none"
            outer = level in (1, last)
            self.down_convs.append(
                PaddedConv2D(
                    config.width(level),
                    4,
                    strides=2,
                    padding=1,
                    use_bias=config.outer_bias if outer else plain,
                    name=f"down{level}_conv",
                    **made,
                )
            )
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
            rate = config.dropout if FIRST_DROPOUT_LEVEL <= level < last else 0.0
            self.up_dropouts.append(
                SeededDropout(rate, stream=level, name=f"up{level}_dropout", **made)
            )
        # float32: the image is what comes out, and tanh is steep where bfloat16 is coarse.
        self.image_conv = make_up_conv(
            config.upsample, config.out_channels, name="up1_conv", dtype="float32"
        )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        return {"condition": (size, size, self.config.in_channels)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = tuple(input_shape["condition"])
        skips: list[tuple[int | None, ...]] = []
        for conv, norm in zip(self.down_convs, self.down_norms, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
            skips.append(shape)
        for i in reversed(range(len(self.up_convs))):
            self.up_convs[i].build(shape)
            shape = self.up_convs[i].compute_output_shape(shape)
            self.up_norms[i].build(shape)
            self.up_dropouts[i].build(shape)
            shape = (*shape[:3], shape[3] + skips[i][3])
        self.image_conv.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        x = inputs["condition"]
        skips: list[Any] = []
        for conv, norm in zip(self.down_convs, self.down_norms, strict=True):
            # The way up takes the ReLU of what is handed across, which a leaky one before it leaves
            # as it is; and what makes a value that is read once can be fused with what reads it.
            x = ops.leaky_relu(norm(conv(x), training=training), LEAKY_SLOPE)
            skips.append(x)
        x = skips.pop()
        for i in reversed(range(len(self.up_convs))):
            x = self.up_convs[i](ops.relu(x))
            x = self.up_norms[i](x, training=training)
            x = self.up_dropouts[i](x, training=training, seed=seed)
            x = ops.concatenate([skips.pop(), x], axis=-1)
        return ops.tanh(self.image_conv(ops.relu(x)))

    def _check(self, inputs: Any) -> None:
        config = self.config
        require_images("UNetGenerator", inputs, "condition", config.in_channels, 2**config.levels)


def fold_batch_norm(generator: Net, dtype: str = "float32") -> Net:
    """Makes a generator for serving whose convolutions contain the batch norm after them.

    Args:
        generator: A built U-Net with batch norm: a ``UNetGenerator``, or another class with lists
            of the same names. It is left as it is.
        dtype: Type in which the new one computes and keeps its weights; "bfloat16" saves the
            conversion of every weight at every call that a mixed policy makes.

    Returns:
        A generator with ``norm="none"`` and, up to rounding, the same outputs at inference. It is
        not for training.

    Raises:
        ConfigError: The generator has another norm or is not built.
    """
    if generator.config.norm != "batch" or not generator.built:
        raise ConfigError(
            f"fold_batch_norm needs a built generator with norm 'batch', got norm "
            f"{generator.config.norm!r}, built: {generator.built}."
        )
    config = dataclasses.replace(generator.config, norm="none")
    folded = type(generator)(config, name=generator.name, dtype=dtype)
    source, made = cast(Any, generator), cast(Any, folded)
    made.build({name: (None, *shape) for name, shape in source.input_shapes().items()})
    pairs = zip(
        [*source.down_convs, *source.up_convs, source.image_conv],
        [*source.down_norms, *source.up_norms, None],
        [*made.down_convs, *made.up_convs, made.image_conv],
        strict=True,
    )
    for conv, norm, target in pairs:
        if not isinstance(norm, keras.layers.BatchNormalization):
            target.set_weights(conv.get_weights())
            continue
        scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.epsilon)
        # The filters are the last axis of a kernel, but the third of a transposed one.
        transposed = isinstance(conv, UpConv2D)
        target.kernel.assign(conv.kernel * (scale[:, None] if transposed else scale))
        target.bias.assign(norm.beta - norm.moving_mean * scale)
    return folded


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PatchDiscriminatorConfig:
    """Settings of ``PatchDiscriminator``; the defaults judge patches of 70x70 pixels."""

    KIND: ClassVar[str] = "patch"

    image_size: int = 256
    condition_channels: int = 3
    image_channels: int = 3
    base_width: int = 64
    num_layers: int = 3  # convolutions of stride 2
    norm: Literal["batch", "instance"] = "batch"
    first_bias: bool = True  # of the first convolution, which no norm follows

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        _require_at_least(
            1, condition_channels=self.condition_channels, image_channels=self.image_channels
        )
        _require_at_least(1, base_width=self.base_width, num_layers=self.num_layers)
        smallest = 2 ** (self.num_layers + 2)
        if self.image_size < smallest:
            raise ConfigError(
                f"num_layers {self.num_layers} leaves nothing to judge of {self.image_size} px; "
                f"it needs image_size {smallest} or more, or fewer layers."
            )


@keras.saving.register_keras_serializable(package="facegan")
class PatchDiscriminator(ConfiguredModel):
    """Judges overlapping patches of an image together with its condition.

    Call input: {"condition": [B, H, W, condition_channels], "image": [B, H, W, image_channels]},
    floats in [-1, 1].
    Call output: {"logits": [B, H', W', 1] float32, "features": tuple of the maps after each
    activation}; H' is 30 for 256 px and three layers.
    """

    config_class = PatchDiscriminatorConfig

    def __init__(self, config: PatchDiscriminatorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "patch_discriminator", **kwargs})
        made = {"dtype": self.dtype_policy}
        self.convs, self.norms = [], []
        for i in range(config.num_layers + 1):
            first = i == 0
            self.convs.append(
                PaddedConv2D(
                    config.base_width * min(2**i, 8),
                    4,
                    strides=2 if i < config.num_layers else 1,
                    padding=1,
                    use_bias=first and config.first_bias,
                    name=f"conv{i + 1}",
                    **made,
                )
            )
            self.norms.append(
                make_norm("none" if first else config.norm, name=f"norm{i + 1}", **made)
            )
        self.logit_conv = PaddedConv2D(1, 4, padding=1, name="logit_conv", dtype="float32")

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return _pair_shapes(self.config)

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = _joined_shape(input_shape)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        self.logit_conv.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        x = ops.concatenate([inputs["condition"], inputs["image"]], axis=-1)
        features = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.leaky_relu(norm(conv(x), training=training), LEAKY_SLOPE)
            features.append(x)
        return {"logits": self.logit_conv(x), "features": tuple(features)}

    def _check(self, inputs: Any) -> None:
        for name, channels in (
            ("condition", self.config.condition_channels),
            ("image", self.config.image_channels),
        ):
            require_images("PatchDiscriminator", inputs, name, channels)


def _pair_shapes(config: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes of what a discriminator takes, without the batch axis."""
    size = config.image_size
    return {
        "condition": (size, size, config.condition_channels),
        "image": (size, size, config.image_channels),
    }


def _joined_shape(input_shape: Any) -> tuple[int | None, ...]:
    condition, image = tuple(input_shape["condition"]), tuple(input_shape["image"])
    return (*condition[:3], condition[3] + image[3])


@keras.saving.register_keras_serializable(package="facegan")
class ConvBlock(keras.layers.Layer):
    """Two 3x3 convolutions, each followed by batch norm, dropout and a leaky ReLU.

    Call: ``layer(x, training=..., seed=...)`` with x [B, H, W, C]; returns [B, H, W, filters].

    Args:
        filters: Output channels.
        norm: "batch", "instance" or "none".
        dropout: Share of values dropped after each convolution while training.
        stream: Which of the seed's streams the dropout draws from; it uses two, this and the next.
    """

    def __init__(
        self,
        filters: int,
        norm: str = "batch",
        dropout: float = 0.0,
        stream: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.norm, self.dropout, self.stream = filters, norm, dropout, stream
        made = {"dtype": self.dtype_policy}
        self.convs = [PaddedConv2D(filters, 3, padding=1, name=f"conv{i}", **made) for i in (1, 2)]
        self.norms = [make_norm(norm, name=f"norm{i}", **made) for i in (1, 2)]
        self.dropouts = [
            SeededDropout(dropout, stream=stream + i, name=f"dropout{i + 1}", **made)
            for i in (0, 1)
        ]

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        for i in (0, 1):
            self.convs[i].build(shape)
            shape = self.convs[i].compute_output_shape(shape)
            self.norms[i].build(shape)
            self.dropouts[i].build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        x = inputs
        for conv, norm, dropout in zip(self.convs, self.norms, self.dropouts, strict=True):
            x = dropout(norm(conv(x), training=training), training=training, seed=seed)
            x = ops.leaky_relu(x, LEAKY_SLOPE)
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "norm": self.norm,
            "dropout": self.dropout,
            "stream": self.stream,
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BlockGeneratorConfig:
    """Settings of ``BlockGenerator``; the defaults are those of the vid2vid system's demo."""

    KIND: ClassVar[str] = "blocks"

    image_size: int = 256
    in_channels: int = 3
    out_channels: int = 3
    base_width: int = 32  # channels at full size; each block doubles them
    num_blocks: int = 6
    dropout: float = 0.55

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        _require_at_least(1, in_channels=self.in_channels, out_channels=self.out_channels)
        _require_at_least(1, base_width=self.base_width, num_blocks=self.num_blocks)
        _require_blocks(self.image_size, self.num_blocks)
        _require_rate("dropout", self.dropout)


def _require_blocks(image_size: int, num_blocks: int) -> None:
    most = image_size.bit_length() - 1
    if num_blocks > most:
        raise ConfigError(
            f"num_blocks must be at most {most} at image_size {image_size}, got {num_blocks}: "
            "each block halves the size."
        )


@keras.saving.register_keras_serializable(package="facegan")
class BlockGenerator(ConfiguredModel):
    """Turns a condition into an image by a U-Net of double-convolution blocks.

    Its output layer is linear, as in the vid2vid system, so an untrained net leaves [-1, 1]; the
    conversion to uint8 clips. That system works on images in [0, 1]: the net's own arithmetic does
    the same, and the change of range stands at its entry and exit. A pixel loss in our range is
    therefore twice that system's: its L1 weight 350 is 175 here.

    Call input: {"condition": [B, H, W, in_channels] float in [-1, 1]}, and while training a seed
    int32 [2] for the dropout.
    Call output: [B, H, W, out_channels] float32, nominally in [-1, 1].

    Differences from that system's code: the dropout rate reaches every block but the last decoder
    block (there a misplaced argument leaves the encoder at 0.45 and the decoder without), and
    rendering does not drop.
    """

    config_class = BlockGeneratorConfig

    def __init__(self, config: BlockGeneratorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "block_generator", **kwargs})
        made = {"dtype": self.dtype_policy}
        self.in_conv = PaddedConv2D(config.base_width, 1, name="in_conv", **made)
        self.down_blocks, self.up_convs, self.up_blocks = [], [], []
        for i in range(1, config.num_blocks + 1):
            width = config.base_width * 2**i
            self.down_blocks.append(
                ConvBlock(width, dropout=config.dropout, stream=4 * i, name=f"down{i}", **made)
            )
            self.up_convs.append(PaddedConv2D(width // 2, 3, padding=1, name=f"up{i}_conv", **made))
            self.up_blocks.append(
                ConvBlock(
                    width // 2,
                    dropout=config.dropout if i > 1 else 0.0,
                    stream=4 * i + 2,
                    name=f"up{i}",
                    **made,
                )
            )
        self.pool = keras.layers.MaxPooling2D(2, name="pool", **made)
        self.upsample = BilinearUpsample(name="upsample", **made)
        self.image_conv = PaddedConv2D(config.out_channels, 1, name="image_conv", dtype="float32")

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        return {"condition": (size, size, self.config.in_channels)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = tuple(input_shape["condition"])
        self.in_conv.build(shape)
        shape = self.in_conv.compute_output_shape(shape)
        shapes = []
        for block in self.down_blocks:
            shapes.append(shape)
            block.build(shape)
            shape = self.pool.compute_output_shape(block.compute_output_shape(shape))
        for i in reversed(range(len(self.up_convs))):
            shape = self.upsample.compute_output_shape(shape)
            self.up_convs[i].build(shape)
            # The upsampled maps and the skip connection have the same width.
            self.up_blocks[i].build((*shapes[i][:3], 2 * shapes[i][3]))
            shape = shapes[i]
        self.image_conv.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        x = self.in_conv((inputs["condition"] + 1) * 0.5)
        skips = []
        for block in self.down_blocks:
            skips.append(x)
            x = self.pool(block(x, training=training, seed=seed))
        for i in reversed(range(len(self.up_convs))):
            x = self.up_convs[i](self.upsample(x))
            x = ops.concatenate([x, skips.pop()], axis=-1)
            x = self.up_blocks[i](x, training=training, seed=seed)
        return self.image_conv(x) * 2 - 1

    def _check(self, inputs: Any) -> None:
        config = self.config
        require_images(
            "BlockGenerator", inputs, "condition", config.in_channels, 2**config.num_blocks
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BlockDiscriminatorConfig:
    """Settings of ``BlockDiscriminator``; the defaults are those of the vid2vid system's demo."""

    KIND: ClassVar[str] = "block_patch"

    image_size: int = 256
    condition_channels: int = 3
    image_channels: int = 3
    base_width: int = 16
    num_blocks: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        _require_at_least(
            1, condition_channels=self.condition_channels, image_channels=self.image_channels
        )
        _require_at_least(1, base_width=self.base_width, num_blocks=self.num_blocks)
        _require_blocks(self.image_size, self.num_blocks)
        _require_rate("dropout", self.dropout)


@keras.saving.register_keras_serializable(package="facegan")
class BlockDiscriminator(ConfiguredModel):
    """Judges patches of an image together with its condition, by double-convolution blocks.

    Call input: {"condition": [B, H, W, condition_channels], "image": [B, H, W, image_channels]},
    floats in [-1, 1]; while training with dropout also a seed int32 [2].
    Call output: {"logits": [B, H / 2^num_blocks, W / 2^num_blocks, 1] float32, "features": tuple of
    the maps after each block}.
    """

    config_class = BlockDiscriminatorConfig

    def __init__(self, config: BlockDiscriminatorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "block_discriminator", **kwargs})
        made = {"dtype": self.dtype_policy}
        self.in_conv = PaddedConv2D(config.base_width, 1, name="in_conv", **made)
        self.blocks = [
            ConvBlock(
                config.base_width * 2**i,
                # The vid2vid system's second block has no batch norm.
                norm="none" if i == 2 else "batch",
                dropout=config.dropout,
                stream=2 * i,
                name=f"block{i}",
                **made,
            )
            for i in range(1, config.num_blocks + 1)
        ]
        self.pool = keras.layers.MaxPooling2D(2, name="pool", **made)
        self.logit_conv = PaddedConv2D(1, 1, name="logit_conv", dtype="float32")

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return _pair_shapes(self.config)

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = _joined_shape(input_shape)
        self.in_conv.build(shape)
        shape = self.in_conv.compute_output_shape(shape)
        for block in self.blocks:
            block.build(shape)
            shape = self.pool.compute_output_shape(block.compute_output_shape(shape))
        self.logit_conv.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        # In [0, 1], as in the vid2vid system.
        x = (ops.concatenate([inputs["condition"], inputs["image"]], axis=-1) + 1) * 0.5
        x = self.in_conv(x)
        features = []
        for block in self.blocks:
            x = self.pool(block(x, training=training, seed=seed))
            features.append(x)
        return {"logits": self.logit_conv(x), "features": tuple(features)}

    def _check(self, inputs: Any) -> None:
        for name, channels in (
            ("condition", self.config.condition_channels),
            ("image", self.config.image_channels),
        ):
            require_images("BlockDiscriminator", inputs, name, channels, 2**self.config.num_blocks)


GeneratorConfig = UNetConfig | BlockGeneratorConfig
DiscriminatorConfig = PatchDiscriminatorConfig | BlockDiscriminatorConfig


def make_generator(config: GeneratorConfig, **kwargs: Any) -> keras.Model:
    """Makes the generator that a config describes; ``kwargs`` go to the model (name, dtype)."""
    if isinstance(config, UNetConfig):
        return UNetGenerator(config, **kwargs)
    return BlockGenerator(config, **kwargs)


def make_discriminator(config: DiscriminatorConfig, **kwargs: Any) -> keras.Model:
    """Makes the discriminator that a config describes; ``kwargs`` go to the model (name, dtype)."""
    if isinstance(config, PatchDiscriminatorConfig):
        return PatchDiscriminator(config, **kwargs)
    return BlockDiscriminator(config, **kwargs)
