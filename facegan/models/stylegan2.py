"""StyleGAN2: pictures from noise by way of styles, one for each layer.

The mapping net makes a style w of noise; each convolution of the synthesis net gets from its w the
scales of its input channels; the discriminator compares a picture with its neighbours in the batch.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020;
clamping and widths as in Karras et al., "Training Generative Adversarial Networks with Limited
Data", NeurIPS 2020. Differences: channels last; all kernels are those of a correlation, where the
authors' doubling convolutions hold theirs turned by half a turn.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import keras
from keras import ops

from facegan.config import require_power_of_two, unknown_name
from facegan.errors import ConfigError
from facegan.layers.equalized import EqualizedConv2D, EqualizedDense, clip, scaled_leaky_relu
from facegan.layers.modulated import ModulatedConv2D, precise_dtype
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.layers.resample import fir_upsample
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel

NoiseName = Literal["random", "const", "none"]

_EPSILON = 1e-8
_SQRT_HALF = math.sqrt(0.5)


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} must be greater than 0, got {getattr(config, name)}.")


def _require_clamp(config: Any) -> None:
    if config.conv_clamp < 0:
        raise ConfigError(f"conv_clamp must be at least 0, got {config.conv_clamp}.")


def _require_shape(net: Any, inputs: Any, name: str) -> None:
    expected = net.input_shapes()[name]
    given: Any = inputs.get(name, ()) if isinstance(inputs, Mapping) else ()
    shape = tuple(getattr(given, "shape", given))
    if len(shape) != 1 + len(expected) or shape[1:] != expected:
        sizes = ", ".join(map(str, expected))
        advice = " Repeat a style for all layers by repeat_w." if name == "w" else ""
        raise ConfigError(
            f"{type(net).__name__} takes a dict with {name!r} of shape [B, {sizes}], got "
            f"{list(shape)}.{advice}"
        )


def repeat_w(w: Any, num_layers: int) -> Any:
    """The same style for every layer: [B, W] -> [B, num_layers, W]."""
    return ops.repeat(w[:, None, :], num_layers, axis=1)


def mix_w(first: Any, second: Any, crossover: Any) -> Any:
    """Takes the coarse layers' styles from one face and the fine ones' from another.

    Args:
        first: [B, L, W] float.
        second: [B, L, W] float.
        crossover: The first layer that gets ``second``'s; whole numbers, one or [B].

    Returns:
        [B, L, W].
    """
    layers = ops.arange(first.shape[1], dtype="int32")[None, :, None]
    limits = ops.reshape(ops.cast(crossover, "int32"), (-1, 1, 1))
    return ops.where(layers < limits, first, second)


@keras.saving.register_keras_serializable(package="facegan")
class StyledConv2D(keras.layers.Layer):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU.

    Call: ``layer({"features": [B, H, W, C] float, "style": [B, C]}, training=..., seed=...,
    noise=...)``. Call output: [B, H, W, filters], or twice as high and wide. Noise is "random" (a
    new map for each example, from the seed), "const" (the stored map) or "none"; without a word it
    is random while training and the stored one else. A layer is built for one height and width.

    Args:
        filters: Output channels.
        upsample: Whether height and width are doubled with a smoothing filter.
        clamp: Outputs are cut off at +-``clamp``; 0 lets them be.
    """

    def __init__(self, filters: int, *, upsample: bool = False, clamp: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.upsample, self.clamp = filters, upsample, clamp
        self.conv = ModulatedConv2D(
            filters, upsample=upsample, name="conv", dtype=self.dtype_policy
        )

    def build(self, input_shape: Any) -> None:
        self.conv.build(input_shape)
        size = self.conv.compute_output_shape(input_shape)[1:3]
        self.noise_const = self.add_weight(
            name="noise_const",
            shape=size,
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            trainable=False,
        )
        self.noise_strength = self.add_weight(name="noise_strength", shape=(), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(
        self, inputs: Any, training: bool = False, seed: Any = None, noise: NoiseName | None = None
    ) -> Any:
        x = self.conv(inputs)
        noise = ("random" if training else "const") if noise is None else noise
        if noise == "random":
            x = x + self._draw(x, seed) * self.noise_strength
        elif noise == "const":
            x = x + (self.noise_const * self.noise_strength)[:, :, None]
        elif noise != "none":
            raise unknown_name("noise", noise, ("random", "const", "none"), what="value")
        return scaled_leaky_relu(x + self.bias, clamp=self.clamp)

    def _draw(self, x: Any, seed: Any) -> Any:
        if seed is None:
            raise ConfigError(
                f"{self.name} draws noise and needs a seed: pass seed=<int32 tensor of shape [2]> "
                "to the call, or noise='const' or 'none'."
            )
        shape = (*ops.shape(x)[:3], 1)
        return keras.random.normal(shape, dtype=x.dtype, seed=GivenSeed(seed))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "upsample": self.upsample,
            "clamp": self.clamp,
        }


@keras.saving.register_keras_serializable(package="facegan")
class StyledRGB(keras.layers.Layer):
    """Colours of feature maps, by a modulated 1x1 convolution that is not demodulated.

    Call input: {"features": [B, H, W, C] float, "style": [B, C]}.
    Call output: [B, H, W, 3].

    Args:
        clamp: Outputs are cut off at +-``clamp``; 0 lets them be.
    """

    def __init__(self, *, clamp: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.clamp = clamp
        self.conv = ModulatedConv2D(3, 1, demodulate=False, name="conv", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.conv.build(input_shape)
        self.bias = self.add_weight(name="bias", shape=(3,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return clip(self.conv(inputs) + self.bias, self.clamp)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clamp": self.clamp}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StyleMappingConfig:
    """Settings of ``StyleMapping``; the defaults are the paper's.

    ``average_decay`` is the share of the old mean style that stays after a training call.
    """

    KIND: ClassVar[str] = "stylegan2_mapping"

    latent_size: int = 512
    style_size: int = 512
    num_layers: int = 8
    lr_multiplier: float = 0.01
    average_decay: float = 0.995

    def __post_init__(self) -> None:
        _require_positive(self, "latent_size", "style_size", "num_layers", "lr_multiplier")
        if not 0 <= self.average_decay <= 1:
            raise ConfigError(f"average_decay must be in [0, 1], got {self.average_decay}.")


@keras.saving.register_keras_serializable(package="facegan")
class StyleMapping(ConfiguredModel):
    """Makes a style w of noise, and keeps the mean of all styles in ``w_avg``.

    Call: ``net({"latent": [B, latent_size] from N(0, 1)}, training=..., truncation=...)``.
    Call output: [B, style_size] float32, brought closer to the mean by ``truncate`` if a truncation
    is given. A training call moves the mean; where a draw should not count (the second one of style
    mixing), leave ``training`` out, which changes nothing else.
    """

    config_class = StyleMappingConfig

    def __init__(self, config: StyleMappingConfig, **kwargs: Any):
        super().__init__(config, **{"name": "stylegan2_mapping", **kwargs})
        self.denses = [
            EqualizedDense(
                config.style_size,
                lr_multiplier=config.lr_multiplier,
                name=f"dense_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(config.num_layers)
        ]

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"latent": (self.config.latent_size,)}

    def build(self, input_shape: Any) -> None:
        _require_shape(self, input_shape, "latent")
        shape = tuple(input_shape["latent"])
        for layer in self.denses:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.w_avg = self.add_weight(
            name="w_avg", shape=(self.config.style_size,), initializer="zeros", trainable=False
        )

    def call(
        self, inputs: Any, training: bool = False, seed: Any = None, truncation: Any = None
    ) -> Any:
        _require_shape(self, inputs, "latent")
        x = ops.cast(inputs["latent"], precise_dtype(self))
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + _EPSILON)
        for layer in self.denses:
            x = scaled_leaky_relu(layer(x))
        w = ops.cast(x, "float32")
        if training:
            mean = ops.cast(ops.mean(w, axis=0), self.w_avg.dtype)
            self.w_avg.assign(mean + (self.w_avg - mean) * self.config.average_decay)
        return w if truncation is None else self.truncate(w, truncation)

    def truncate(self, w: Any, truncation: Any, num_truncated: int | None = None) -> Any:
        """Brings styles closer to the mean: fewer odd faces for less variety.

        Args:
            w: [B, W] or, layer by layer, [B, L, W] float.
            truncation: What is left of the distance: 1 leaves the styles, 0 gives the mean.
            num_truncated: How many layers, counted from the coarsest, are truncated; None is all.

        Returns:
            Of w's shape.

        Raises:
            ConfigError: A number of layers is given for styles without that axis.
        """
        if num_truncated is not None and len(w.shape) != 3:
            raise ConfigError(
                f"num_truncated needs styles of shape [B, L, W], got {list(w.shape)}. "
                "Repeat them by repeat_w first."
            )
        mean = ops.cast(self.w_avg, w.dtype)
        nearer = mean + (w - mean) * truncation
        if num_truncated is None:
            return nearer
        return ops.concatenate([nearer[:, :num_truncated], w[:, num_truncated:]], axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StyleGAN2SynthesisConfig:
    """Settings of ``StyleGAN2Synthesis``; the defaults are the paper's for 1024 px.

    ``conv_clamp`` bounds the outputs of the convolutions, for half precision; 0 leaves them.
    """

    KIND: ClassVar[str] = "stylegan2"

    image_size: int = 1024
    base_width: int = 32768  # channels times pixels of a row, up to max_width
    max_width: int = 512
    style_size: int = 512
    conv_clamp: float = 256.0

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 8)
        _require_positive(self, "max_width", "style_size")
        _require_base_width(self)
        _require_clamp(self)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Heights and widths of the levels in px, from 4 up to the picture's."""
        return tuple(2**i for i in range(2, self.image_size.bit_length()))

    def width_at(self, size: int) -> int:
        """Channels of feature maps of ``size`` x ``size`` pixels."""
        return min(self.base_width // size, self.max_width)

    @property
    def num_styles(self) -> int:
        """How many styles w a picture takes."""
        return 2 * len(self.sizes)


def _require_base_width(config: Any) -> None:
    if config.base_width < config.image_size:
        raise ConfigError(
            f"base_width must be at least image_size, which leaves one channel; got "
            f"{config.base_width} for {config.image_size} px."
        )


@keras.saving.register_keras_serializable(package="facegan")
class StyleGAN2Synthesis(ConfiguredModel):
    """Paints a picture of styles.

    Call: ``net({"w": [B, num_styles, style_size]}, training=..., seed=..., noise=...)``; the first
    styles are those of the coarsest layers. Noise is as ``StyledConv2D`` has it.
    Call output: [B, H, W, 3] float32, around [-1, 1].

    ``call`` is ``paint_styles(styles_of(w))``. In between, the styles of single layers can be
    changed, which is what local editing does.
    """

    config_class = StyleGAN2SynthesisConfig

    def __init__(self, config: StyleGAN2SynthesisConfig, **kwargs: Any):
        super().__init__(config, **{"name": "stylegan2_synthesis", **kwargs})
        made = {"dtype": self.dtype_policy}
        clamped = {"clamp": config.conv_clamp, **made}
        # Depends on no input; made here, shapes can be inferred before the net is built.
        self.const = self.add_weight(
            name="const",
            shape=(4, 4, self.config.width_at(4)),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        # From coarse to fine. An RGB layer shares its w with the convolution after it.
        self.painters: list[Any] = []
        self.w_indices: list[int] = []
        self.shapes_in: list[tuple[int, int, int]] = []
        for level, size in enumerate(config.sizes):
            width, half = config.width_at(size), size // 2
            if level:
                self.painters.append(
                    StyledConv2D(width, upsample=True, name=f"up_{size}", **clamped)
                )
                self.w_indices.append(2 * level - 1)
                self.shapes_in.append((half, half, config.width_at(half)))
            self.painters += [
                StyledConv2D(width, name=f"conv_{size}", **clamped),
                StyledRGB(name=f"rgb_{size}", **clamped),
            ]
            self.w_indices += [2 * level, 2 * level + 1]
            self.shapes_in += [(size, size, width)] * 2
        self.affines = [
            EqualizedDense(shape[-1], bias_start=1.0, name=f"style_{painter.name}", **made)
            for painter, shape in zip(self.painters, self.shapes_in, strict=True)
        ]

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"w": (self.config.num_styles, self.config.style_size)}

    def build(self, input_shape: Any) -> None:
        _require_shape(self, input_shape, "w")
        batch = tuple(input_shape["w"])[0]
        for painter, affine, shape in zip(self.painters, self.affines, self.shapes_in, strict=True):
            affine.build((batch, self.config.style_size))
            painter.build({"features": (batch, *shape), "style": (batch, shape[-1])})

    def call(
        self, inputs: Any, training: bool = False, seed: Any = None, noise: NoiseName | None = None
    ) -> Any:
        _require_shape(self, inputs, "w")
        styles = self.styles_of(inputs["w"])
        return self.paint_styles(styles, training=training, seed=seed, noise=noise)

    def styles_of(self, w: Any) -> dict[str, Any]:
        """The scales that each layer's input channels get.

        Args:
            w: [B, num_styles, style_size] float.

        Returns:
            Layer -> [B, C], from coarse to fine: "conv_4", "rgb_4", "up_8", "conv_8", "rgb_8", ...
        """
        w = ops.cast(w, self.compute_dtype)
        return {
            painter.name: affine(w[:, index])
            for painter, affine, index in zip(
                self.painters, self.affines, self.w_indices, strict=True
            )
        }

    def paint_styles(
        self,
        styles: Mapping[str, Any],
        *,
        training: bool = False,
        seed: Any = None,
        noise: NoiseName | None = None,
    ) -> Any:
        """Paints a picture of the layers' own styles, as ``styles_of`` gives them.

        Args:
            styles: Layer -> [B, C] float, for every layer.
            training: Whether noise is random unless ``noise`` says otherwise.
            seed: int32 [2]; random noise needs it.
            noise: "random", "const" or "none".

        Returns:
            [B, H, W, 3] float32.

        Raises:
            ConfigError: A layer has no style, or there is one for a layer that does not exist.
        """
        return self.trace_styles(styles, training=training, seed=seed, noise=noise)[0]

    def trace_styles(
        self,
        styles: Mapping[str, Any],
        *,
        training: bool = False,
        seed: Any = None,
        noise: NoiseName | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """The same as ``paint_styles``, with what each convolution gave: layer -> [B, H, W, C]."""
        names = [painter.name for painter in self.painters]
        if set(styles) != set(names):
            wrong = ", ".join(sorted(set(styles) ^ set(names)))
            raise ConfigError(
                f"{self.name} takes a style for each of its layers and no other: {wrong} is "
                f"missing or unknown. Change what styles_of gives; its layers are "
                f"{', '.join(names)}."
            )
        x = ops.cast(self.const, self.compute_dtype)[None]  # rank 4; the styles bring the batch
        image: Any = None
        features = {}
        for i, painter in enumerate(self.painters):
            given = {"features": x, "style": styles[painter.name]}
            if isinstance(painter, StyledRGB):
                # Summed up over many levels, and so not in half precision.
                colours = ops.cast(painter(given), precise_dtype(self))
                image = colours if image is None else fir_upsample(image) + colours
            else:
                own = None if seed is None else fold_in(seed, i)
                x = painter(given, training=training, seed=own, noise=noise)
                features[painter.name] = x
        return ops.cast(image, "float32"), features


@keras.saving.register_keras_serializable(package="facegan")
class MinibatchDeviation(keras.layers.Layer):
    """Adds a channel that tells how different the examples of a group are.

    Groups are formed across the batch: example i is with i + B / group_size and so on. A batch
    smaller than a group is one group.

    Call input: [B, H, W, C] float, B a multiple of the group's size.
    Call output: [B, H, W, C + 1].

    Args:
        group_size: Examples in a group.

    Reference: Karras et al., "Progressive Growing of GANs", ICLR 2018, section 3.
    """

    def __init__(self, group_size: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.group_size = group_size

    def call(self, inputs: Any) -> Any:
        batch, height, width, channels = ops.shape(inputs)
        if isinstance(batch, int):
            group = min(self.group_size, batch)
            if batch % group:
                raise ConfigError(
                    f"{self.name} compares the examples of groups of {group}, which a batch of "
                    f"{batch} cannot be split into. Change the batch size or group_size."
                )
        else:
            group = ops.minimum(self.group_size, batch)
        x = ops.cast(inputs, precise_dtype(self))
        x = ops.reshape(x, (group, -1, height, width, channels))  # rank 5
        deviation = ops.sqrt(ops.var(x, axis=0) + _EPSILON)  # rank 4: a group is one
        mean = ops.cast(ops.mean(deviation, axis=(1, 2, 3), keepdims=True), inputs.dtype)
        channel = ops.tile(mean, (group, height, width, 1))
        return ops.concatenate([inputs, channel], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "group_size": self.group_size}


@keras.saving.register_keras_serializable(package="facegan")
class ResidualDownBlock(keras.layers.Layer):
    """Two convolutions that halve height and width, beside one of 1x1.

    Call input: [B, H, W, C] float, H and W even. Call output: [B, H / 2, W / 2, filters].

    Args:
        filters: Output channels.
        clamp: Outputs of the 3x3 convolutions are cut off at +-``clamp``; 0 lets them be.
    """

    def __init__(self, filters: int, *, clamp: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.clamp = filters, clamp

    def build(self, input_shape: Any) -> None:
        made = {"clamp": self.clamp, "dtype": self.dtype_policy}
        self.conv_0 = EqualizedConv2D(input_shape[-1], name="conv_0", **made)
        # The sum of two of variance 1 has variance 1 again.
        self.conv_1 = EqualizedConv2D(
            self.filters, downsample=True, gain=_SQRT_HALF, name="conv_1", **made
        )
        self.skip_conv = EqualizedConv2D(
            self.filters,
            1,
            downsample=True,
            use_bias=False,
            activate=False,
            gain=_SQRT_HALF,
            name="skip_conv",
            dtype=self.dtype_policy,
        )
        for layer in (self.conv_0, self.conv_1, self.skip_conv):
            layer.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.skip_conv(inputs) + self.conv_1(self.conv_0(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = [None if n is None else n // 2 for n in input_shape[1:3]]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "clamp": self.clamp}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StyleGAN2DiscriminatorConfig:
    """Settings of ``StyleGAN2Discriminator``; the defaults are the paper's for 1024 px.

    ``conv_clamp`` bounds the outputs of the convolutions, for half precision; 0 leaves them.
    """

    KIND: ClassVar[str] = "stylegan2_discriminator"

    image_size: int = 1024
    base_width: int = 32768  # channels times pixels of a row, up to max_width
    max_width: int = 512
    group_size: int = 4  # examples whose deviation is measured
    conv_clamp: float = 256.0

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 8)
        _require_positive(self, "max_width", "group_size")
        _require_base_width(self)
        _require_clamp(self)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at full size, at half, and so on down to 4x4 pixels."""
        halvings = self.image_size.bit_length() - 3
        sizes = [self.image_size >> i for i in range(halvings + 1)]
        return tuple(min(self.base_width // size, self.max_width) for size in sizes)


@keras.saving.register_keras_serializable(package="facegan")
class StyleGAN2Discriminator(ConfiguredModel):
    """Judges whether a picture is real.

    Call input: {"image": [B, H, W, 3] in [-1, 1]}, H = W = image_size, B a multiple of group_size
    or smaller. Call output: {"logits": [B, 1] float32}.
    """

    config_class = StyleGAN2DiscriminatorConfig

    def __init__(self, config: StyleGAN2DiscriminatorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "stylegan2_discriminator", **kwargs})
        made = {"dtype": self.dtype_policy}
        clamped = {"clamp": config.conv_clamp, **made}
        widths = config.widths
        self.from_rgb = EqualizedConv2D(widths[0], 1, name="from_rgb", **clamped)
        self.downs = [
            ResidualDownBlock(width, name=f"down_{i}", **clamped)
            for i, width in enumerate(widths[1:])
        ]
        self.deviation = MinibatchDeviation(config.group_size, name="deviation", **made)
        self.last_conv = EqualizedConv2D(widths[-1], name="last_conv", **clamped)
        self.dense = EqualizedDense(widths[-1], name="dense", **made)
        self.head = EqualizedDense(1, name="head", **made)

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"image": (self.config.image_size, self.config.image_size, 3)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = tuple(input_shape["image"])
        layers: tuple[Any, ...] = (self.from_rgb, *self.downs, self.deviation, self.last_conv)
        for layer in layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.dense.build((shape[0], math.prod(shape[1:])))
        self.head.build((shape[0], self.config.widths[-1]))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        x = self.from_rgb(ops.cast(inputs["image"], self.compute_dtype))
        for down in self.downs:
            x = down(x)
        x = self.last_conv(self.deviation(x))
        x = ops.reshape(x, (-1, math.prod(x.shape[1:])))  # rank 2
        x = scaled_leaky_relu(self.dense(x))
        return {"logits": ops.cast(self.head(x), "float32")}

    def _check(self, inputs: Any) -> None:
        name, size = type(self).__name__, self.config.image_size
        require_images(name, inputs, "image", 3)
        shape = tuple(getattr(inputs["image"], "shape", inputs["image"]))
        if any(n not in (None, size) for n in shape[1:3]):
            raise ConfigError(
                f"{name} takes pictures of {size}x{size} pixels, got {shape[1]}x{shape[2]}. Resize "
                "them, or set image_size."
            )
