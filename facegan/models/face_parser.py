"""Face parsing: which part of a face each pixel of a picture shows.

Two nets stand here. ``BiSeNet`` is that of the paper with a ResNet-18, as face parsers use it: the
ResNet's own maps of an eighth of the size take the place of the spatial path. ``ParserUNet`` is the
small U-Net that comes with the CelebAMask-HQ dataset. ``make_label_net`` turns either, once
trained, into the net that is served: norms folded into the convolutions, ids in place of logits.

Reference: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation",
ECCV 2018, section 3; He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1
(ResNet-18); Lee et al., "MaskGAN", CVPR 2020 (the dataset and its parser).
Differences from the public PyTorch code: channels last; each net normalises its pictures itself;
widths and depths are options.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from facegan.config import require_power_of_two
from facegan.errors import ConfigError
from facegan.layers.convolution import PaddedConv2D
from facegan.layers.normalization import EPSILON, make_norm
from facegan.layers.resize import bilinear_resize, nearest_upsample
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel

# Mean and standard deviation per channel (red, green, blue, in 0 ... 1) of ImageNet.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# BiSeNet's deepest maps have this share of the picture's height and width.
BISENET_STRIDE = 32

# "none" has biases instead; it is what ``fold_batch_norm`` makes for serving.
Norm = Literal["batch", "none"]

_INITIALIZER = "he_normal"


def _require_labels(num_labels: int) -> None:
    # Ids are served as uint8, and 255 marks pixels that are not counted.
    if not 2 <= num_labels <= 255:
        raise ConfigError(f"num_labels must be from 2 to 255, got {num_labels}.")


@keras.saving.register_keras_serializable(package="facegan")
class ConvNorm(keras.layers.Layer):
    """Convolution, norm and, unless it is left out, a ReLU.

    Call input: [B, H, W, C] float. Call output: [B, ceil(H / strides), ceil(W / strides), filters].

    Args:
        filters: Output channels.
        kernel_size: Height and width of the kernel, odd; the padding keeps the size.
        strides: Step in both directions.
        norm: "batch" or "none".
        relu: Whether the ReLU follows.
        use_bias: Whether the convolution has a bias although a norm follows; without a norm it
            always has one.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        norm: str = "batch",
        relu: bool = True,
        use_bias: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.norm_name, self.relu, self.use_bias = norm, relu, use_bias
        self.conv = PaddedConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=kernel_size // 2,
            use_bias=use_bias or norm == "none",
            kernel_initializer=_INITIALIZER,
            name="conv",
            dtype=self.dtype_policy,
        )
        self.norm = make_norm(norm, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = self.norm(self.conv(inputs), training=training)
        return ops.relu(x) if self.relu else x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "norm": self.norm_name,
            "relu": self.relu,
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(package="facegan")
class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions with norms beside a shortcut; ReLU after the sum.

    Call input: [B, H, W, C] float. Call output: [B, ceil(H / strides), ceil(W / strides), filters].

    Args:
        filters: Output channels.
        strides: Step of the first convolution.
        projects: Whether the shortcut is a 1x1 convolution with norm; else it is the identity, and
            the input must have the output's shape.
        norm: As ``ConvNorm`` has it.

    Reference: He et al. 2016, figure 2 and section 3.3, option B.
    """

    def __init__(
        self,
        filters: int,
        *,
        strides: int = 1,
        projects: bool = False,
        norm: str = "batch",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.strides, self.projects = filters, strides, projects
        self.norm_name = norm
        made = {"norm": norm, "dtype": self.dtype_policy}
        self.first = ConvNorm(filters, 3, strides=strides, name="first", **made)
        self.second = ConvNorm(filters, 3, relu=False, name="second", **made)
        self.shortcut = None
        if projects:
            self.shortcut = ConvNorm(
                filters, 1, strides=strides, relu=False, name="shortcut", **made
            )

    def build(self, input_shape: Any) -> None:
        self.first.build(input_shape)
        self.second.build(self.first.compute_output_shape(input_shape))
        if self.shortcut is not None:
            self.shortcut.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = self.second(self.first(inputs, training=training), training=training)
        if self.shortcut is not None:
            inputs = self.shortcut(inputs, training=training)
        return ops.relu(x + inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.first.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "projects": self.projects,
            "norm": self.norm_name,
        }


@keras.saving.register_keras_serializable(package="facegan")
class AttentionRefinement(keras.layers.Layer):
    """A 3x3 convolution whose channels are weighted by what the whole map shows.

    The weights come from means over all pixels, so while training each picture's norm is one value
    a channel: the batch needs two pictures at least. Call input: [B, H, W, C] float. Call output:
    [B, H, W, filters].

    Args:
        filters: Output channels.
        norm: As ``ConvNorm`` has it.

    Reference: Yu et al. 2018, figure 2 (b).
    """

    def __init__(self, filters: int, *, norm: str = "batch", **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.norm_name = filters, norm
        made = {"norm": norm, "dtype": self.dtype_policy}
        self.refine = ConvNorm(filters, 3, name="refine", **made)
        self.attention = ConvNorm(filters, 1, relu=False, name="attention", **made)

    def build(self, input_shape: Any) -> None:
        self.refine.build(input_shape)
        self.attention.build((input_shape[0], 1, 1, self.filters))

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = self.refine(inputs, training=training)
        weights = self.attention(_global_mean(x), training=training)
        return x * ops.sigmoid(weights)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "norm": self.norm_name}


@keras.saving.register_keras_serializable(package="facegan")
class FeatureFusion(keras.layers.Layer):
    """Mixes joined maps by a 1x1 convolution and adds them once more, weighted by channel.

    Call input: [B, H, W, C] float. Call output: [B, H, W, filters].

    Args:
        filters: Output channels.
        squeeze: Channels between the two layers that find the weights.
        norm: As ``ConvNorm`` has it.

    Reference: Yu et al. 2018, figure 2 (c).
    """

    def __init__(self, filters: int, squeeze: int, *, norm: str = "batch", **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.squeeze, self.norm_name = filters, squeeze, norm
        made = {"dtype": self.dtype_policy}
        self.mix = ConvNorm(filters, 1, norm=norm, name="mix", **made)
        bare = {"use_bias": False, "kernel_initializer": _INITIALIZER, **made}
        self.narrow = PaddedConv2D(squeeze, 1, name="narrow", **bare)
        self.widen = PaddedConv2D(filters, 1, name="widen", **bare)

    def build(self, input_shape: Any) -> None:
        self.mix.build(input_shape)
        self.narrow.build((input_shape[0], 1, 1, self.filters))
        self.widen.build((input_shape[0], 1, 1, self.squeeze))

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = self.mix(inputs, training=training)
        weights = ops.sigmoid(self.widen(ops.relu(self.narrow(_global_mean(x)))))
        return x + x * weights

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "squeeze": self.squeeze,
            "norm": self.norm_name,
        }


def _global_mean(maps: Any) -> Any:
    """[B, H, W, C] -> [B, 1, 1, C], summed in float32."""
    return ops.cast(ops.mean(ops.cast(maps, "float32"), axis=(1, 2), keepdims=True), maps.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BiSeNetConfig:
    """Settings of ``BiSeNet``; the defaults are the public face parser's."""

    KIND: ClassVar[str] = "bisenet"

    image_size: int = 512  # height and width it is made for, power of two
    num_labels: int = 19
    # Channels of the ResNet's first stage; all others are multiples. Half of it gives a net with a
    # quarter of the parameters and of the arithmetic.
    base_width: int = 64
    norm: Norm = "batch"
    aux_heads: bool = True  # the two heads that help while training

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, BISENET_STRIDE)
        _require_labels(self.num_labels)
        if self.base_width < 1:
            raise ConfigError(f"base_width must be at least 1, got {self.base_width}.")


@keras.saving.register_keras_serializable(package="facegan")
class BiSeNet(ConfiguredModel):
    """Gives each pixel a score for each label, by a ResNet-18 with context from the whole picture.

    Height and width are free as long as they are multiples of 32.

    Call input: {"image": [B, H, W, 3] float in [-1, 1], RGB}. While training, batch norm of pooled
    maps needs two pictures or more.
    Call output: {"logits": [B, H, W, num_labels] float32, "aux_logits": two such maps, of heads on
    the context after the ResNet's stage of 1/16 of the size and after that of 1/32}; without
    ``aux_heads`` only the first.
    """

    config_class = BiSeNetConfig

    def __init__(self, config: BiSeNetConfig, **kwargs: Any):
        super().__init__(config, **{"name": "bisenet", **kwargs})
        base = config.base_width
        made = {"norm": config.norm, "dtype": self.dtype_policy}
        self.stem = ConvNorm(base, 7, strides=2, name="stem", **made)
        self.stages = [
            [
                ResidualBlock(
                    base * 2**stage,
                    strides=2 if stage and not block else 1,
                    projects=bool(stage and not block),
                    name=f"stage{stage + 1}_block{block + 1}",
                    **made,
                )
                for block in range(2)
            ]
            for stage in range(4)
        ]
        self.global_context = ConvNorm(2 * base, 1, name="global_context", **made)
        self.refine32 = AttentionRefinement(2 * base, name="refine32", **made)
        self.refine16 = AttentionRefinement(2 * base, name="refine16", **made)
        self.context32 = ConvNorm(2 * base, 3, name="context32", **made)
        self.context16 = ConvNorm(2 * base, 3, name="context16", **made)
        self.fusion = FeatureFusion(4 * base, base, name="fusion", **made)
        self.head = ConvNorm(4 * base, 3, name="head", **made)
        # float32: the scores are what comes out.
        scores: dict[str, Any] = {
            "use_bias": False,
            "kernel_initializer": _INITIALIZER,
            "dtype": "float32",
        }
        self.logit_conv = PaddedConv2D(config.num_labels, 1, name="logit_conv", **scores)
        self.aux_heads, self.aux_logit_convs = [], []
        for stage in (16, 32) if config.aux_heads else ():
            self.aux_heads.append(ConvNorm(base, 3, name=f"aux_head{stage}", **made))
            self.aux_logit_convs.append(
                PaddedConv2D(config.num_labels, 1, name=f"aux_logit_conv{stage}", **scores)
            )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"image": (self.config.image_size, self.config.image_size, 3)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        base = self.config.base_width

        def maps(width: int) -> tuple[int | None, ...]:
            # No variable depends on height and width.
            return (None, None, None, width)

        self.stem.build(maps(3))
        shape = maps(base)
        for stage in self.stages:
            for block in stage:
                block.build(shape)
                shape = block.compute_output_shape(shape)
        self.global_context.build(maps(8 * base))
        self.refine32.build(maps(8 * base))
        self.refine16.build(maps(4 * base))
        self.context32.build(maps(2 * base))
        self.context16.build(maps(2 * base))
        self.fusion.build(maps(4 * base))
        self.head.build(maps(4 * base))
        self.logit_conv.build(maps(4 * base))
        for head, conv in zip(self.aux_heads, self.aux_logit_convs, strict=True):
            head.build(maps(2 * base))
            conv.build(maps(base))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        images = inputs["image"]
        height, width = ops.shape(images)[1:3]
        maps = self._backbone(_normalize_imagenet(images), training)
        context16, context32 = self._context(maps, training)
        fused = self.fusion(ops.concatenate([maps[0], context16], axis=-1), training=training)
        logits = self.logit_conv(self.head(fused, training=training))
        outputs = {"logits": bilinear_resize(logits, height, width)}
        if self.config.aux_heads:
            outputs["aux_logits"] = tuple(
                bilinear_resize(conv(head(context, training=training)), height, width)
                for head, conv, context in zip(
                    self.aux_heads, self.aux_logit_convs, (context16, context32), strict=True
                )
            )
        return outputs

    def _backbone(self, images: Any, training: bool) -> list[Any]:
        """The ResNet's maps at 1/8, 1/16 and 1/32 of the size."""
        x = self.stem(images, training=training)
        # After a ReLU, a border of zeros wins no maximum.
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = ops.max_pool(x, 3, 2, padding="valid", data_format="channels_last")
        maps = []
        for stage in self.stages:
            for block in stage:
                x = block(x, training=training)
            maps.append(x)
        return maps[1:]

    def _context(self, maps: list[Any], training: bool) -> tuple[Any, Any]:
        """The context path's maps at 1/8 and at 1/16 of the size."""
        _, maps16, maps32 = maps
        whole = self.global_context(_global_mean(maps32), training=training)
        x = self.refine32(maps32, training=training) + whole
        context32 = self.context32(nearest_upsample(x), training=training)
        x = self.refine16(maps16, training=training) + context32
        return self.context16(nearest_upsample(x), training=training), context32

    def _check(self, inputs: Any) -> None:
        require_images("BiSeNet", inputs, "image", 3, BISENET_STRIDE)


def _normalize_imagenet(images: Any) -> Any:
    mean, std = (np.asarray(v, np.float32) for v in (IMAGENET_MEAN, IMAGENET_STD))
    # One product and one sum: x (0.5 / std) + (0.5 - mean) / std.
    scale, shift = 0.5 / std, (0.5 - mean) / std
    return ops.cast(images, "float32") * scale + shift


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParserUNetConfig:
    """Settings of ``ParserUNet``; the defaults are those of CelebAMask-HQ's parser."""

    KIND: ClassVar[str] = "parser_unet"

    image_size: int = 512  # height and width it is made for, power of two
    num_labels: int = 19
    base_width: int = 16  # channels at full size; each level below doubles them
    depth: int = 4  # how many times the size is halved
    norm: Norm = "batch"

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        _require_labels(self.num_labels)
        if self.base_width < 1:
            raise ConfigError(f"base_width must be at least 1, got {self.base_width}.")
        deepest = self.image_size.bit_length() - 1
        if not 1 <= self.depth <= deepest:
            raise ConfigError(
                f"depth must be from 1 to {deepest} at image_size {self.image_size}, "
                f"got {self.depth}."
            )


@keras.saving.register_keras_serializable(package="facegan")
class ParserUNet(ConfiguredModel):
    """Gives each pixel a score for each label, by a U-Net of double convolutions.

    Height and width are free as long as they are multiples of 2 to the depth.

    Call input: {"image": [B, H, W, 3] float in [-1, 1], RGB}.
    Call output: {"logits": [B, H, W, num_labels] float32}.
    """

    config_class = ParserUNetConfig

    def __init__(self, config: ParserUNetConfig, **kwargs: Any):
        super().__init__(config, **{"name": "parser_unet", **kwargs})

        def pair(place: str, level: int) -> list[ConvNorm]:
            return [
                ConvNorm(
                    config.base_width * 2**level,
                    3,
                    norm=config.norm,
                    # The public code has these biases too, though the norm takes them out again.
                    use_bias=True,
                    name=f"{place}{level + 1}_conv{i}",
                    dtype=self.dtype_policy,
                )
                for i in (1, 2)
            ]

        self.down_convs = [pair("down", level) for level in range(config.depth + 1)]
        self.up_convs = [pair("up", level) for level in range(config.depth)]
        self.up_samples = [
            # Stride and kernel are equal, so the windows tile the plane: nothing to pad or cut.
            keras.layers.Conv2DTranspose(
                config.base_width * 2**level,
                2,
                strides=2,
                padding="valid",
                kernel_initializer=_INITIALIZER,
                name=f"up{level + 1}_sample",
                dtype=self.dtype_policy,
            )
            for level in range(config.depth)
        ]
        # float32: the scores are what comes out.
        self.logit_conv = PaddedConv2D(
            config.num_labels,
            1,
            kernel_initializer=_INITIALIZER,
            name="logit_conv",
            dtype="float32",
        )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"image": (self.config.image_size, self.config.image_size, 3)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        width = 3
        for pair in self.down_convs:
            for conv in pair:
                # No variable depends on height and width.
                conv.build((None, None, None, width))
                width = conv.filters
        for level in reversed(range(self.config.depth)):
            self.up_samples[level].build((None, None, None, width))
            # The upsampled maps and the skip connection have the same width.
            for conv in self.up_convs[level]:
                conv.build((None, None, None, width))
                width = conv.filters
        self.logit_conv.build((None, None, None, width))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        x = inputs["image"]
        skips: list[Any] = []
        for pair in self.down_convs:
            if skips:
                x = ops.max_pool(x, 2, 2, data_format="channels_last")
            for conv in pair:
                x = conv(x, training=training)
            skips.append(x)
        skips.pop()
        for level in reversed(range(self.config.depth)):
            x = ops.concatenate([skips.pop(), self.up_samples[level](x)], axis=-1)
            for conv in self.up_convs[level]:
                x = conv(x, training=training)
        return {"logits": self.logit_conv(x)}

    def _check(self, inputs: Any) -> None:
        require_images("ParserUNet", inputs, "image", 3, 2**self.config.depth)


ParserConfig = BiSeNetConfig | ParserUNetConfig
Parser = BiSeNet | ParserUNet


def make_parser_net(config: ParserConfig, **kwargs: Any) -> Parser:
    """Makes the parser that a config describes; ``kwargs`` go to the model (name, dtype)."""
    if isinstance(config, BiSeNetConfig):
        return BiSeNet(config, **kwargs)
    return ParserUNet(config, **kwargs)


def fold_batch_norm(net: Parser, dtype: str = "float32") -> Parser:
    """Makes a parser for serving whose convolutions contain the batch norm after them.

    Args:
        net: A built one with batch norm. It is left as it is.
        dtype: Type in which the new one computes and keeps its weights.

    Returns:
        A parser with ``norm="none"`` and without auxiliary heads and, up to rounding, the same
        logits at inference. It is not for training.

    Raises:
        ConfigError: The net has no batch norm or is not built.
    """
    if net.config.norm == "none" or not net.built:
        raise ConfigError(
            f"fold_batch_norm needs a built parser with norm 'batch', got norm "
            f"{net.config.norm!r}, built: {net.built}."
        )
    changes: dict[str, Any] = {"norm": "none"}
    if isinstance(net.config, BiSeNetConfig):
        changes["aux_heads"] = False
    config = dataclasses.replace(net.config, **changes)
    folded = make_parser_net(config, name=net.name, dtype=dtype)
    folded.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    given = {_path_in_net(v): np.asarray(v) for v in net.variables}
    for variable in folded.variables:
        path = _path_in_net(variable)
        unit, _, leaf = path.rpartition("conv/")
        if f"{unit}norm/gamma" in given:
            variable.assign(_folded_value(given, unit, leaf))
        else:
            variable.assign(given[path])
    return folded


def _path_in_net(variable: keras.Variable) -> str:
    # The first part of a path is the net's own name.
    return variable.path.split("/", 1)[1]


def _folded_value(given: dict[str, np.ndarray], unit: str, leaf: str) -> np.ndarray:
    """Kernel or bias of a ``ConvNorm``'s convolution that does what its norm does too."""
    gamma, beta, mean, variance = (
        given[f"{unit}norm/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    if leaf == "kernel":
        return given[f"{unit}conv/kernel"] * scale
    return beta + (given.get(f"{unit}conv/bias", 0.0) - mean) * scale


def make_label_net(parser: Parser, dtype: str = "float32") -> keras.Model:
    """Makes the net that serves a trained, built parser: folded norms, ids in place of scores.

    Args:
        parser: With batch norm, or folded already.
        dtype: Type in which a parser with batch norm then computes and keeps its weights.

    Returns:
        A net from {"image": [B, H, W, 3] float in [-1, 1], RGB} to {"label_map": [B, H, W] uint8,
        the id of the highest score}. It is not for training.
    """
    if parser.config.norm != "none":
        parser = fold_batch_norm(parser, dtype)
    inputs = {"image": keras.Input((None, None, 3), name="image")}
    # Of equal scores the first, as argmax has it, in a tenth of its time on a CPU; and Keras'
    # argmax handles bits in a way that ONNX has no operations for.
    ids = ops.squeeze(ops.top_k(parser(inputs)["logits"], 1)[1], axis=-1)  # [B, H, W]
    return keras.Model(inputs, {"label_map": ops.cast(ids, "uint8")}, name="label_net")
