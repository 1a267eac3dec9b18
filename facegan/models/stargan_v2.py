"""StarGAN v2: a picture of one domain in the style of another.

A style comes from noise (mapping network) or from a reference picture (style encoder), both with a
head for each domain; the generator repaints a picture in it; the discriminator has a verdict for
each domain.

Reference: Choi et al., "StarGAN v2: Diverse Image Synthesis for Multiple Domains", CVPR 2020,
section 2 and appendix A; the high-pass skip for faces is the authors' later addition. Differences:
channels last; the masks of the skip are inputs, so that they may come from any landmarks; with the
skip, the 1x1 convolutions of the decoder that the authors' nets own and never use are left out.
"""

import dataclasses
import math
from typing import Any, ClassVar

import keras
from keras import ops

from facegan.config import require_power_of_two
from facegan.errors import ConfigError
from facegan.layers.convolution import NearestUpConv2D, PaddedConv2D, PooledConv2D
from facegan.layers.normalization import make_norm, normalize_instances
from facegan.layers.resize import mean_of_2x2, nearest_upsample
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel

LEAKY_SLOPE = 0.2  # of the leaky ReLUs
# Sizes at which the high-pass skip joins encoder and decoder, the first one by the coarse mask.
_SKIP_SIZES = (32, 64, 128)
_HIGH_PASS = [[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]]
_SQRT_2 = math.sqrt(2.0)


def he_initializer() -> keras.initializers.Initializer:
    """N(0, 2 / fan_in), the start of all the kernels."""
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def _activate(x: Any) -> Any:
    return ops.leaky_relu(x, LEAKY_SLOPE)


def _activate_shared(x: Any) -> Any:
    """The same for the output of a convolution that is used elsewhere, too.

    TensorFlow's graph optimizer would join a leaky ReLU with such a convolution, find that it must
    not, complain, and leave the whole graph as it was.
    """
    return 0.5 * (1.0 + LEAKY_SLOPE) * x + 0.5 * (1.0 - LEAKY_SLOPE) * ops.abs(x)


def _conv(filters: int, kernel_size: int, **kwargs: Any) -> PaddedConv2D:
    return PaddedConv2D(
        filters,
        kernel_size,
        padding=kernel_size // 2,
        kernel_initializer=he_initializer(),
        **kwargs,
    )


@keras.saving.register_keras_serializable(package="facegan")
class PreactivatedBlock(keras.layers.Layer):
    """Residual block of the encoder and of the nets that judge, scaled to unit variance.

        y = (shortcut(x) + conv(act(norm(pool(conv(act(norm(x)))))))) / sqrt(2)

    Call input: [B, H, W, C] float. Call output: [B, H, W, filters], or half as high and wide.

    Args:
        filters: Output channels; if they are not the input's, the shortcut has a 1x1 convolution.
        normalize: Whether instance norms with learned scale and offset precede the activations.
        downsample: Whether means of 2x2 pixels are taken. H and W must be even then.
    """

    def __init__(
        self, filters: int, *, normalize: bool = False, downsample: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters, self.normalize, self.downsample = filters, normalize, downsample

    def build(self, input_shape: Any) -> None:
        made = {"dtype": self.dtype_policy}
        wide = input_shape[-1]
        self.norms = []
        if self.normalize:
            self.norms = [
                make_norm("instance", affine=True, name=f"norm_{i}", **made) for i in range(2)
            ]
            for norm in self.norms:
                norm.build((*input_shape[:3], wide))
        initial = {"kernel_initializer": he_initializer(), **made}
        self.conv_0 = (
            PooledConv2D(wide, name="conv_0", **initial)
            if self.downsample
            else _conv(wide, 3, name="conv_0", **made)
        )
        self.conv_1 = _conv(self.filters, 3, name="conv_1", **made)
        self.conv_0.build(input_shape)
        self.conv_1.build((*input_shape[:3], wide))
        self.skip_conv = None
        if wide != self.filters:
            self.skip_conv = _conv(self.filters, 1, use_bias=False, name="skip_conv", **made)
            self.skip_conv.build(input_shape)

    def call(self, inputs: Any) -> Any:
        x = self.norms[0](inputs) if self.norms else inputs
        x = self.conv_0(_activate(x) if self.norms else _activate_shared(x))
        x = self.conv_1(_activate(self.norms[1](x) if self.norms else x))
        # A mean and a 1x1 convolution can change places; on fewer pixels the latter is cheaper.
        skip = mean_of_2x2(inputs) if self.downsample else inputs
        if self.skip_conv is not None:
            skip = self.skip_conv(skip)
        return (skip + x) / _SQRT_2

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = list(input_shape[1:3])
        if self.downsample:
            size = [None if n is None else n // 2 for n in size]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "normalize": self.normalize,
            "downsample": self.downsample,
        }


@keras.saving.register_keras_serializable(package="facegan")
class StyleNorm(keras.layers.Layer):
    """Instance norm whose scale and offset a style gives.

        y = (1 + gamma(s)) norm(x) + beta(s)

    Call input: {"features": [B, H, W, C] float, "style": [B, S]}. Call output: [B, H, W, C].
    """

    def build(self, input_shape: Any) -> None:
        features, style = tuple(input_shape["features"]), tuple(input_shape["style"])
        self.dense = keras.layers.Dense(
            2 * features[-1],
            kernel_initializer=he_initializer(),
            name="dense",
            dtype=self.dtype_policy,
        )
        self.dense.build(style)

    def call(self, inputs: Any) -> Any:
        gamma, beta = ops.split(self.dense(inputs["style"])[:, None, None, :], 2, axis=-1)
        return normalize_instances(inputs["features"], 1.0 + gamma, beta)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape["features"])


@keras.saving.register_keras_serializable(package="facegan")
class StyledBlock(keras.layers.Layer):
    """Residual block of the decoder.

    Call input: {"features": [B, H, W, C] float, "style": [B, S]}.
    Call output: [B, H, W, filters], or twice as high and wide.

    Args:
        filters: Output channels.
        upsample: Whether pixels are repeated 2x2.
        shortcut: Whether the input is added, and the sum scaled to unit variance; without it the
            block gives what its convolutions give.
    """

    def __init__(
        self, filters: int, *, upsample: bool = False, shortcut: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters, self.upsample, self.shortcut = filters, upsample, shortcut
        self.norms = [StyleNorm(name=f"norm_{i}", dtype=self.dtype_policy) for i in range(2)]

    def build(self, input_shape: Any) -> None:
        features, style = tuple(input_shape["features"]), tuple(input_shape["style"])
        made = {"dtype": self.dtype_policy}
        narrow = (*features[:3], self.filters)
        for norm, shape in zip(self.norms, (features, narrow), strict=True):
            norm.build({"features": shape, "style": style})
        self.conv_0 = (
            NearestUpConv2D(
                self.filters, kernel_initializer=he_initializer(), name="conv_0", **made
            )
            if self.upsample
            else _conv(self.filters, 3, name="conv_0", **made)
        )
        self.conv_1 = _conv(self.filters, 3, name="conv_1", **made)
        self.conv_0.build(features)
        self.conv_1.build(narrow)
        self.skip_conv = None
        if self.shortcut and features[-1] != self.filters:
            self.skip_conv = _conv(self.filters, 1, use_bias=False, name="skip_conv", **made)
            self.skip_conv.build(features)

    def call(self, inputs: Any) -> Any:
        skip, style = inputs["features"], inputs["style"]
        x = self.conv_0(_activate(self.norms[0]({"features": skip, "style": style})))
        x = self.conv_1(_activate(self.norms[1]({"features": x, "style": style})))
        if not self.shortcut:
            return x
        # Repeating pixels and a 1x1 convolution can change places.
        if self.skip_conv is not None:
            skip = self.skip_conv(skip)
        if self.upsample:
            skip = nearest_upsample(skip)
        return (skip + x) / _SQRT_2

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = tuple(input_shape["features"])
        size = list(shape[1:3])
        if self.upsample:
            size = [None if n is None else 2 * n for n in size]
        return (shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "upsample": self.upsample,
            "shortcut": self.shortcut,
        }


@keras.saving.register_keras_serializable(package="facegan")
class DomainDense(keras.layers.Layer):
    """A dense layer for each domain.

    Call input: [B, C], the same for all domains, or [B, D, C], one for each.
    Call output: [B, D, units].

    Args:
        num_domains: D.
        units: Numbers in an output.
    """

    def __init__(self, num_domains: int, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_domains, self.units = num_domains, units

    def build(self, input_shape: Any) -> None:
        wide = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.num_domains, wide, self.units),
            # He's, of which the domains' axis must not count as part of the fan-in.
            initializer=keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / wide)),
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.num_domains, self.units), initializer="zeros"
        )

    def call(self, inputs: Any) -> Any:
        if len(inputs.shape) == 2:
            return ops.einsum("bi,dio->bdo", inputs, self.kernel) + self.bias
        return ops.einsum("bdi,dio->bdo", inputs, self.kernel) + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.num_domains, self.units)

    def get_config(self) -> dict[str, Any]:
        config = {"num_domains": self.num_domains, "units": self.units}
        return {**super().get_config(), **config}


def _of_domain(values: Any, domain: Any) -> Any:
    """[B, C] float32: of values [B, D, C] those of each example's domain [B]."""
    chosen = ops.one_hot(ops.cast(domain, "int32"), values.shape[1], dtype="float32")
    return ops.sum(ops.cast(values, "float32") * chosen[:, :, None], axis=1)


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StarGeneratorConfig:
    """Settings of ``StarGenerator``; the defaults are the paper's.

    ``high_pass`` divides what the high-pass skip lets through; 0 leaves the skip out.
    """

    KIND: ClassVar[str] = "stargan_v2"

    image_size: int = 256
    base_width: int = 64  # channels at full size, doubled by each halving
    max_width: int = 512
    style_size: int = 64
    high_pass: float = 0.0

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 32)
        _require_positive(self, "base_width", "max_width", "style_size")
        if self.high_pass < 0:
            raise ConfigError(f"high_pass must be at least 0, got {self.high_pass}.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at full size, at half, and so on."""
        halvings = self.image_size.bit_length() - 5 + (self.high_pass > 0)
        return tuple(min(self.base_width * 2**i, self.max_width) for i in range(halvings + 1))


@keras.saving.register_keras_serializable(package="facegan")
class StarGenerator(ConfiguredModel):
    """Repaints a picture in a style.

    Call input: {"image": [B, H, W, 3] in [-1, 1], "style": [B, style_size]}, and for a net with the
    high-pass skip optionally "coarse_mask" and "fine_mask", both [B, H, W, 1] in [0, 1]: where
    fine structure of the picture is kept, at 32 px and at 64 and 128 px.
    Call output: [B, H, W, 3] float32, around [-1, 1].
    """

    config_class = StarGeneratorConfig

    def __init__(self, config: StarGeneratorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "stargan_v2_generator", **kwargs})
        made = {"dtype": self.dtype_policy}
        widths = config.widths
        self.from_rgb = _conv(widths[0], 3, name="from_rgb", **made)
        self.downs = [
            PreactivatedBlock(width, normalize=True, downsample=True, name=f"down_{i}", **made)
            for i, width in enumerate(widths[1:])
        ]
        self.middles = [
            PreactivatedBlock(widths[-1], normalize=True, name=f"middle_{i}", **made)
            for i in range(2)
        ]
        styled = {"shortcut": not config.high_pass, **made}
        self.styled_middles = [
            StyledBlock(widths[-1], name=f"styled_middle_{i}", **styled) for i in range(2)
        ]
        self.ups = [
            StyledBlock(width, upsample=True, name=f"up_{i}", **styled)
            for i, width in enumerate(widths[-2::-1])
        ]
        self.norm = make_norm("instance", affine=True, name="norm", **made)
        self.to_rgb = _conv(3, 1, name="to_rgb", **made)

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        shapes: dict[str, tuple[int | None, ...]] = {
            "image": (size, size, 3),
            "style": (self.config.style_size,),
        }
        if self.config.high_pass:
            shapes |= {"coarse_mask": (size, size, 1), "fine_mask": (size, size, 1)}
        return shapes

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape, style = tuple(input_shape["image"]), tuple(input_shape["style"])
        self.from_rgb.build(shape)
        shape = self.from_rgb.compute_output_shape(shape)
        for block in (*self.downs, *self.middles):
            block.build(shape)
            shape = block.compute_output_shape(shape)
        for styled in (*self.styled_middles, *self.ups):
            given = {"features": shape, "style": style}
            styled.build(given)
            shape = styled.compute_output_shape(given)
        self.norm.build(shape)
        self.to_rgb.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        x = self.from_rgb(ops.cast(inputs["image"], self.compute_dtype))
        style = ops.cast(inputs["style"], self.compute_dtype)
        kept: list[Any] = []
        for down in self.downs:
            kept.append(x)
            x = down(x)
        for middle in self.middles:
            x = middle(x)
        for styled in self.styled_middles:
            x = styled({"features": x, "style": style})
        for up in self.ups:
            x = up({"features": x, "style": style})
            x = self._with_details(x, kept.pop(), inputs)
        return ops.cast(self.to_rgb(_activate(self.norm(x))), "float32")

    def _with_details(self, x: Any, features: Any, inputs: Any) -> Any:
        """Adds the high-pass filtered features of the encoder, where the masks let them through."""
        size = x.shape[1]
        if not self.config.high_pass or "fine_mask" not in inputs or size not in _SKIP_SIZES:
            return x
        mask = inputs["coarse_mask" if size == _SKIP_SIZES[0] else "fine_mask"]
        mask = ops.cast(_shrink(mask, mask.shape[1] // size), x.dtype)
        return x + high_pass(mask * features) / self.config.high_pass

    def _check(self, inputs: Any) -> None:
        multiple = 2 ** (len(self.config.widths) - 1)
        require_images("StarGenerator", inputs, "image", 3, multiple)
        masks = {"coarse_mask", "fine_mask"} & set(inputs)
        if len(masks) == 1:
            raise ConfigError(f"StarGenerator takes both masks or neither, got only {masks.pop()}.")
        size = self.config.image_size
        for name in masks:
            require_images("StarGenerator", inputs, name, 1, multiple)
            # Which features are kept is a matter of pixels, so a size must not go unnoticed.
            shape = tuple(getattr(inputs[name], "shape", inputs[name]))
            if shape[1:3] != (size, size):
                raise ConfigError(
                    f"StarGenerator takes {name!r} of {size}x{size} pixels, got "
                    f"{shape[1]}x{shape[2]}. Resize picture and masks, or set image_size."
                )


def high_pass(features: Any) -> Any:
    """Eight times a pixel less its eight neighbours; [B, H, W, C], zeros outside."""
    kernel = ops.cast(_HIGH_PASS, features.dtype)[:, :, None, None]
    kernel = ops.tile(kernel, (1, 1, features.shape[-1], 1))
    return ops.depthwise_conv(features, kernel, padding="same", data_format="channels_last")


def _shrink(mask: Any, factor: int) -> Any:
    """Bilinear samples at the centres of ``factor`` x ``factor`` pixels, as PyTorch takes them."""
    if factor == 1:
        return mask
    before, after = factor // 2 - 1, factor // 2
    mask = 0.5 * (mask[:, before::factor] + mask[:, after::factor])
    return 0.5 * (mask[:, :, before::factor] + mask[:, :, after::factor])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MappingConfig:
    """Settings of ``MappingNetwork``; the defaults are the paper's."""

    KIND: ClassVar[str] = "stargan_v2_mapping"

    latent_size: int = 16
    width: int = 512
    style_size: int = 64
    num_domains: int = 2

    def __post_init__(self) -> None:
        _require_positive(self, "latent_size", "width", "style_size", "num_domains")


@keras.saving.register_keras_serializable(package="facegan")
class MappingNetwork(ConfiguredModel):
    """Makes a domain's style of noise: four shared layers, and four for each domain.

    Call input: {"latent": [B, latent_size] from N(0, 1), "domain": [B] whole numbers}.
    Call output: [B, style_size] float32.
    """

    config_class = MappingConfig

    def __init__(self, config: MappingConfig, **kwargs: Any):
        super().__init__(config, **{"name": "mapping_network", **kwargs})
        made = {"dtype": self.dtype_policy}
        self.shared = [
            keras.layers.Dense(
                config.width, kernel_initializer=he_initializer(), name=f"shared_{i}", **made
            )
            for i in range(4)
        ]
        sizes = [config.width] * 3 + [config.style_size]
        self.heads = [
            DomainDense(config.num_domains, size, name=f"head_{i}", **made)
            for i, size in enumerate(sizes)
        ]

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"latent": (self.config.latent_size,), "domain": ()}

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape["latent"])
        for layer in (*self.shared, *self.heads):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        x = ops.cast(inputs["latent"], self.compute_dtype)
        for layer in self.shared:
            x = ops.relu(layer(x))
        for layer in self.heads[:-1]:
            x = ops.relu(layer(x))
        return _of_domain(self.heads[-1](x), inputs["domain"])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DomainNetConfig:
    """What ``StarStyleEncoder`` and ``StarDiscriminator`` have in common; the paper's defaults."""

    KIND: ClassVar[str] = "stargan_v2_domain_net"

    image_size: int = 256
    base_width: int = 64
    max_width: int = 512
    num_domains: int = 2

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 16)
        _require_positive(self, "base_width", "max_width", "num_domains")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at full size, at half, and so on down to 4x4 pixels."""
        halvings = self.image_size.bit_length() - 3
        return tuple(min(self.base_width * 2**i, self.max_width) for i in range(halvings + 1))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StarStyleEncoderConfig(DomainNetConfig):
    """Settings of ``StarStyleEncoder``; the defaults are the paper's."""

    KIND: ClassVar[str] = "stargan_v2_style_encoder"

    style_size: int = 64


class _DomainNet(ConfiguredModel):
    """A picture of a fixed size, and one vector for its domain."""

    def __init__(self, config: DomainNetConfig, head_size: int, **kwargs: Any):
        super().__init__(config, **kwargs)
        made = {"dtype": self.dtype_policy}
        widths = config.widths
        self.from_rgb = _conv(widths[0], 3, name="from_rgb", **made)
        self.downs = [
            PreactivatedBlock(width, downsample=True, name=f"down_{i}", **made)
            for i, width in enumerate(widths[1:])
        ]
        self.last_conv = PaddedConv2D(
            widths[-1], 4, kernel_initializer=he_initializer(), name="last_conv", **made
        )
        self.head = DomainDense(config.num_domains, head_size, name="head", **made)

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"image": (self.config.image_size, self.config.image_size, 3), "domain": ()}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = tuple(input_shape["image"])
        layers: tuple[Any, ...] = (self.from_rgb, *self.downs, self.last_conv)
        for layer in layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.head.build((shape[0], shape[3]))

    def _describe(self, inputs: Any) -> Any:
        self._check(inputs)
        x = self.from_rgb(ops.cast(inputs["image"], self.compute_dtype))
        for down in self.downs:
            x = down(x)
        # One pixel is left; taken out first, TensorFlow's graph optimizer does not stumble over the
        # gradient of the activation.
        x = self.last_conv(_activate(x))[:, 0, 0]
        return _of_domain(self.head(_activate(x)), inputs["domain"])

    def _check(self, inputs: Any) -> None:
        name, size = type(self).__name__, self.config.image_size
        require_images(name, inputs, "image", 3)
        shape = tuple(getattr(inputs["image"], "shape", inputs["image"]))
        if any(n not in (None, size) for n in shape[1:3]):
            raise ConfigError(
                f"{name} takes pictures of {size}x{size} pixels, got {shape[1]}x{shape[2]}. Resize "
                "them, or set image_size."
            )


@keras.saving.register_keras_serializable(package="facegan")
class StarStyleEncoder(_DomainNet):
    """Reads the style of a reference picture.

    Call input: {"image": [B, H, W, 3] in [-1, 1], H = W = image_size, "domain": [B] whole numbers}.
    Call output: [B, style_size] float32.
    """

    config_class = StarStyleEncoderConfig

    def __init__(self, config: StarStyleEncoderConfig, **kwargs: Any):
        super().__init__(config, config.style_size, **{"name": "style_encoder", **kwargs})

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        return self._describe(inputs)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StarDiscriminatorConfig(DomainNetConfig):
    """Settings of ``StarDiscriminator``; the defaults are the paper's."""

    KIND: ClassVar[str] = "stargan_v2_discriminator"


@keras.saving.register_keras_serializable(package="facegan")
class StarDiscriminator(_DomainNet):
    """Judges whether a picture is a real one of its domain.

    Call input: {"image": [B, H, W, 3] in [-1, 1], H = W = image_size, "domain": [B] whole numbers}.
    Call output: {"logits": [B, 1] float32}.
    """

    config_class = StarDiscriminatorConfig

    def __init__(self, config: StarDiscriminatorConfig, **kwargs: Any):
        super().__init__(config, 1, **{"name": "stargan_v2_discriminator", **kwargs})

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        return {"logits": self._describe(inputs)}
