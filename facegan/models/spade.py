"""Semantic image synthesis with spatially-adaptive normalisation: a picture from a label map.

Reference: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019.
Differences from the authors' code: channels last; label maps come as ids and are made one-hot
inside; no instance map; no bias before instance norm.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import keras
from keras import ops

from facegan.config import require_power_of_two
from facegan.errors import ConfigError
from facegan.layers.convolution import PaddedConv2D
from facegan.layers.fast_paths import fast_paths_allowed
from facegan.layers.label_windows import find_windows, grid_labels, one_hot_labels
from facegan.layers.normalization import make_norm
from facegan.layers.pooling import average_downsample
from facegan.layers.resize import nearest_upsample
from facegan.layers.shapes import require_images, require_labels
from facegan.layers.spectral import SpectralConv2D, make_conv
from facegan.models.configured import ConfiguredModel, fold_spectral_norm

# The slope of every leaky ReLU in these nets; Keras' own default is another.
LEAKY_SLOPE = 0.2
# Grids below this height have hardly two windows alike; looking them up would cost more.
LEAST_WINDOW_GRID = 32
_NORMS = Literal["sync_batch", "batch", "instance"]


def glorot_normal() -> keras.initializers.Initializer:
    """Glorot's normal start with a gain of 0.02, the authors' "xavier"."""
    return keras.initializers.VarianceScaling(
        scale=0.02**2, mode="fan_avg", distribution="untruncated_normal"
    )


@keras.saving.register_keras_serializable(package="facegan")
class SPADE(keras.layers.Layer):
    """Normalises feature maps, then scales and shifts each pixel by what its labels say.

        y = norm(x) (1 + gamma(m)) + beta(m)

    where gamma and beta are two 3x3 convolutions of relu(conv3x3(m)) and m is the one-hot label map
    on x's grid (equation 1 of the paper).

    Call input: {"features": [B, H, W, C], "labels": [B, H, W, num_labels] one-hot}. In place of
    "labels" it takes what ``find_windows`` gives, with the same result: the convolutions then run
    on what differs only.
    Call output: [B, H, W, C].

    Args:
        num_labels: Channels of the one-hot map.
        hidden_width: Channels between the convolutions.
        norm: As ``make_norm`` has it; without parameters.
    """

    def __init__(
        self, num_labels: int, hidden_width: int = 128, norm: str = "batch", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.num_labels, self.hidden_width, self.norm_name = num_labels, hidden_width, norm
        self.norm = make_norm(norm, affine=False, name="norm", dtype=self.dtype_policy)
        self.shared_conv = PaddedConv2D(
            hidden_width,
            3,
            padding=1,
            kernel_initializer=glorot_normal(),
            name="shared_conv",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any) -> None:
        features = tuple(input_shape["features"])
        self.norm.build(features)
        self.shared_conv.build((*features[:3], self.num_labels))
        made = {
            "padding": 1,
            "kernel_initializer": glorot_normal(),
            "dtype": self.dtype_policy,
        }
        self.gamma_conv = PaddedConv2D(features[3], 3, name="gamma_conv", **made)
        self.beta_conv = PaddedConv2D(features[3], 3, name="beta_conv", **made)
        for conv in (self.gamma_conv, self.beta_conv):
            conv.build((*features[:3], self.hidden_width))

    def call(self, inputs: Any, training: bool = False) -> Any:
        features = inputs["features"]
        if "labels" in inputs:
            hidden = ops.relu(self.shared_conv(inputs["labels"]))
            gamma, beta = self.gamma_conv(hidden), self.beta_conv(hidden)
            return self.norm(features, training=training) * (1 + gamma) + beta
        gamma, beta = self._window_tables(inputs)
        scale = 1 + gamma
        if self.norm_name != "instance" and not training:
            # The moving statistics are the same at every pixel, so they fit into the tables.
            deviation = ops.sqrt(self.norm.moving_variance + self.norm.epsilon)
            scale = scale / ops.cast(deviation, scale.dtype)
            beta = beta - ops.cast(self.norm.moving_mean, beta.dtype) * scale
        else:
            features = self.norm(features, training=training)
        window_of = inputs["window_of"]
        return features * ops.take(scale, window_of, axis=0) + ops.take(beta, window_of, axis=0)

    def _window_tables(self, inputs: Any) -> tuple[Any, Any]:
        """Gamma and beta at the centre of each window, [U, C] each."""
        shared, gamma, beta = self.shared_conv, self.gamma_conv, self.beta_conv
        patches = one_hot_labels(inputs["patches"], self.num_labels, self.compute_dtype)
        hidden = ops.relu(_filter(ops.reshape(patches, (-1, 9 * self.num_labels)), shared))
        # The second convolution pads the hidden maps with zeros, which a window has to know.
        hidden = hidden * ops.cast(ops.expand_dims(inputs["inside"], -1), hidden.dtype)
        hidden = ops.take(hidden, inputs["patch_of"], axis=0)  # [U, 3, 3, hidden_width]
        hidden = ops.reshape(hidden, (-1, 9 * self.hidden_width))
        return _filter(hidden, gamma), _filter(hidden, beta)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape["features"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "hidden_width": self.hidden_width,
            "norm": self.norm_name,
        }


def _filter(pixels: Any, conv: PaddedConv2D) -> Any:
    """What a convolution makes of single positions: [N, h * w * in] -> [N, out]."""
    return ops.matmul(pixels, ops.reshape(conv.kernel, (-1, conv.filters))) + conv.bias


@keras.saving.register_keras_serializable(package="facegan")
class SPADEBlock(keras.layers.Layer):
    """Residual block whose norms are SPADE (figure 4 of the paper).

    Call input: as ``SPADE``'s; the maps are on the same grid. Call output: [B, H, W, filters].

    Args:
        filters: Output channels.
        num_labels: Channels of the one-hot map.
        hidden_width: Of SPADE.
        norm: Of SPADE.
        spectral_norm: Whether the block's convolutions are spectrally normalised.
    """

    def __init__(
        self,
        filters: int,
        num_labels: int,
        hidden_width: int = 128,
        norm: str = "batch",
        spectral_norm: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.num_labels, self.hidden_width = filters, num_labels, hidden_width
        self.norm_name, self.spectral_norm = norm, spectral_norm

    def build(self, input_shape: Any) -> None:
        features = tuple(input_shape["features"])
        middle = min(features[3], self.filters)
        grid = features[:3]
        made = {"kernel_initializer": glorot_normal(), "dtype": self.dtype_policy}
        spade = {
            "num_labels": self.num_labels,
            "hidden_width": self.hidden_width,
            "norm": self.norm_name,
            "dtype": self.dtype_policy,
        }
        self.norm_0 = SPADE(**spade, name="norm_0")
        self.conv_0 = make_conv(self.spectral_norm, middle, 3, padding=1, name="conv_0", **made)
        self.norm_1 = SPADE(**spade, name="norm_1")
        self.conv_1 = make_conv(
            self.spectral_norm, self.filters, 3, padding=1, name="conv_1", **made
        )
        self.norm_s: SPADE | None = None
        self.conv_s: PaddedConv2D | None = None
        if features[3] != self.filters:
            self.norm_s = SPADE(**spade, name="norm_s")
            self.norm_s.build({"features": features})
            self.conv_s = make_conv(
                self.spectral_norm, self.filters, 1, use_bias=False, name="conv_s", **made
            )
            self.conv_s.build(features)
        self.norm_0.build({"features": features})
        self.conv_0.build(features)
        self.norm_1.build({"features": (*grid, middle)})
        self.conv_1.build((*grid, middle))

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = inputs["features"]
        shortcut = x
        if self.norm_s is not None and self.conv_s is not None:
            shortcut = self.norm_s(inputs, training=training)
            shortcut = _convolve(self.conv_s, shortcut, training)
        x = ops.leaky_relu(self.norm_0(inputs, training=training), LEAKY_SLOPE)
        x = _convolve(self.conv_0, x, training)
        x = self.norm_1({**inputs, "features": x}, training=training)
        x = _convolve(self.conv_1, ops.leaky_relu(x, LEAKY_SLOPE), training)
        return shortcut + x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*tuple(input_shape["features"])[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_labels": self.num_labels,
            "hidden_width": self.hidden_width,
            "norm": self.norm_name,
            "spectral_norm": self.spectral_norm,
        }


def _convolve(conv: PaddedConv2D, inputs: Any, training: bool) -> Any:
    if isinstance(conv, SpectralConv2D):
        return conv(inputs, training=training)
    return conv(inputs)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SpadeConfig:
    """Settings of ``SPADEGenerator``; the defaults are the paper's net for faces at 256 px."""

    KIND: ClassVar[str] = "spade"

    image_size: int = 256  # height and width it is made for, power of two
    num_labels: int = 19
    base_width: int = 64  # channels before the picture; 16 times as many at the start
    hidden_width: int = 128  # channels between the convolutions of each SPADE
    # How often the start is doubled: 5 times, 6 times, or 6 times and once more with half the
    # channels, the authors' names.
    upsampling: Literal["normal", "more", "most"] = "normal"
    norm: _NORMS = "sync_batch"
    spectral_norm: bool = True  # False is what ``fold_spectral_norm`` makes for serving
    style_size: int | None = None  # length of a style code to start from; None: from the labels

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 32)
        for name in ("base_width", "hidden_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 2 <= self.num_labels <= 255:
            raise ConfigError(f"num_labels must be from 2 to 255, got {self.num_labels}.")
        if self.style_size is not None and self.style_size < 1:
            raise ConfigError(
                f"style_size must be at least 1, or None for a start from the labels, got "
                f"{self.style_size}."
            )
        if self.image_size < 2**self.doublings:
            raise ConfigError(
                f"upsampling {self.upsampling!r} doubles {self.doublings} times and needs "
                f"image_size {2**self.doublings} or more, got {self.image_size}."
            )

    @property
    def doublings(self) -> int:
        """How many times the start grid is doubled."""
        return {"normal": 5, "more": 6, "most": 7}[self.upsampling]

    @property
    def blocks(self) -> tuple[tuple[str, int, bool], ...]:
        """Name, output channels and whether the maps are doubled before, block by block."""
        wide, more = 16 * self.base_width, self.upsampling != "normal"
        blocks = [("head_0", wide, False), ("middle_0", wide, True), ("middle_1", wide, more)]
        divisors = (2, 4, 8, 16, 32) if self.upsampling == "most" else (2, 4, 8, 16)
        blocks += [(f"up_{i}", wide // divisor, True) for i, divisor in enumerate(divisors)]
        return tuple(blocks)


@keras.saving.register_keras_serializable(package="facegan")
class SPADEGenerator(ConfiguredModel):
    """Turns a label map into an image.

    Height and width are free as long as they are multiples of 2 to the number of doublings; with a
    style they are those of the config.

    Call input: {"label_map": [B, H, W] ids, any integer type} and, with ``style_size``, "style":
    [B, style_size] float.
    Call output: [B, H, W, 3] float32 in [-1, 1].
    """

    config_class = SpadeConfig

    def __init__(self, config: SpadeConfig, **kwargs: Any):
        super().__init__(config, **{"name": "spade_generator", **kwargs})
        made = {"kernel_initializer": glorot_normal(), "dtype": self.dtype_policy}
        wide = 16 * config.base_width
        self.start: keras.layers.Layer
        if config.style_size is None:
            self.start = PaddedConv2D(wide, 3, padding=1, name="start", **made)
        else:
            grid = config.image_size // 2**config.doublings
            self.start = keras.layers.Dense(wide * grid**2, name="start", **made)
        self.blocks = [
            SPADEBlock(
                filters,
                config.num_labels,
                config.hidden_width,
                config.norm,
                config.spectral_norm,
                name=name,
                dtype=self.dtype_policy,
            )
            for name, filters, _ in config.blocks
        ]
        # float32: the image is what comes out, and tanh is steep where bfloat16 is coarse.
        self.image_conv = PaddedConv2D(
            3, 3, padding=1, name="image_conv", kernel_initializer=glorot_normal(), dtype="float32"
        )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        shapes: dict[str, tuple[int | None, ...]] = {"label_map": (size, size)}
        if self.config.style_size is not None:
            shapes["style"] = (self.config.style_size,)
        return shapes

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        config = self.config
        label_shape = tuple(input_shape["label_map"])
        if config.style_size is None:
            self.start.build((*label_shape, config.num_labels))
        else:
            self.start.build((label_shape[0], config.style_size))
        shape: tuple[int | None, ...] = (label_shape[0], None, None, 16 * config.base_width)
        for block in self.blocks:
            block.build({"features": shape})
            shape = (*shape[:3], block.filters)
        self.image_conv.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        config = self.config
        label_map = inputs["label_map"]
        factor = 2**config.doublings
        grids: dict[int, dict[str, Any]] = {}
        x = self._start(inputs, factor)
        for block, (_, _, doubled) in zip(self.blocks, config.blocks, strict=True):
            if doubled:
                x = nearest_upsample(x)
                factor //= 2
            if factor not in grids:
                grids[factor] = self._labels(label_map, factor)
            x = block({"features": x, **grids[factor]}, training=training)
        return ops.tanh(self.image_conv(ops.leaky_relu(x, LEAKY_SLOPE)))

    def _start(self, inputs: Any, factor: int) -> Any:
        if self.config.style_size is None:
            grid = grid_labels(inputs["label_map"], factor)
            return self.start(one_hot_labels(grid, self.config.num_labels, self.compute_dtype))
        grid = self.config.image_size // factor
        # Channels come first in the authors' vector too; any order learns as well.
        return ops.reshape(
            self.start(inputs["style"]), (-1, grid, grid, 16 * self.config.base_width)
        )

    def _labels(self, label_map: Any, factor: int) -> dict[str, Any]:
        """What the SPADEs of one grid size are told of the labels."""
        grid = grid_labels(label_map, factor)
        # A graph of free sizes is made for the size of the config.
        size = grid.shape[1] or self.config.image_size // factor
        if fast_paths_allowed() and size >= LEAST_WINDOW_GRID:
            return find_windows(grid, outside=-1)
        return {"labels": one_hot_labels(grid, self.config.num_labels, self.compute_dtype)}

    def _check(self, inputs: Any) -> None:
        require_labels("SPADEGenerator", inputs, "label_map", 2**self.config.doublings)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SpadeDiscriminatorConfig:
    """Settings of ``SPADEDiscriminator``; the defaults are the paper's."""

    KIND: ClassVar[str] = "spade_multiscale"

    image_size: int = 256
    num_labels: int = 19
    base_width: int = 64
    num_layers: int = 4  # convolutions before the logits; all but the last of stride 2
    num_scales: int = 2  # each judges the picture at half the size of the one before

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 32)
        for name in ("base_width", "num_layers", "num_scales"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 2 <= self.num_labels <= 255:
            raise ConfigError(f"num_labels must be from 2 to 255, got {self.num_labels}.")
        smallest = 2 ** (self.num_layers + self.num_scales - 2)
        if self.image_size < smallest:
            raise ConfigError(
                f"num_layers {self.num_layers} and num_scales {self.num_scales} leave nothing to "
                f"judge of {self.image_size} px; they need image_size {smallest} or more."
            )


@keras.saving.register_keras_serializable(package="facegan")
class SPADEDiscriminator(ConfiguredModel):
    """Judges patches of an image together with its label map, at several scales.

    Call input: {"label_map": [B, H, W] ids, "image": [B, H, W, 3] float in [-1, 1]}.
    Call output: {"logits": one [B, H', W', 1] float32 for each scale, "features": for each scale
    the maps after each activation}. H' is 35 and 19 for 256 px.
    """

    config_class = SpadeDiscriminatorConfig

    def __init__(self, config: SpadeDiscriminatorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "spade_discriminator", **kwargs})
        made = {"padding": 2, "kernel_initializer": glorot_normal()}
        policy = {"dtype": self.dtype_policy}
        self.convs, self.norms, self.logit_convs = [], [], []
        for scale in range(config.num_scales):
            convs, norms = [], []
            for i in range(config.num_layers):
                first, last = i == 0, i == config.num_layers - 1
                convs.append(
                    make_conv(
                        not first,
                        config.base_width * min(2**i, 8),
                        4,
                        strides=1 if last and not first else 2,
                        use_bias=first,
                        name=f"scale{scale}_conv{i}",
                        **made,
                        **policy,
                    )
                )
                norm = "none" if first else "instance"
                norms.append(make_norm(norm, name=f"scale{scale}_norm{i}", **policy))
            self.convs.append(convs)
            self.norms.append(norms)
            self.logit_convs.append(
                PaddedConv2D(1, 4, name=f"scale{scale}_logit_conv", dtype="float32", **made)
            )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        return {"label_map": (size, size), "image": (size, size, 3)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        image = tuple(input_shape["image"])
        for convs, norms, logit_conv in zip(self.convs, self.norms, self.logit_convs, strict=True):
            # No variable depends on height and width, which differ between the scales.
            shape = (image[0], None, None, self.config.num_labels + 3)
            for conv, norm in zip(convs, norms, strict=True):
                conv.build(shape)
                shape = conv.compute_output_shape(shape)
                norm.build(shape)
            logit_conv.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        image = ops.cast(inputs["image"], self.compute_dtype)
        labels = one_hot_labels(inputs["label_map"], self.config.num_labels, image.dtype)
        x = ops.concatenate([labels, image], axis=-1)
        logits, features = [], []
        for scale in range(self.config.num_scales):
            if scale:
                x = average_downsample(x)
            maps: list[Any] = []
            for conv, norm in zip(self.convs[scale], self.norms[scale], strict=True):
                y = _convolve(conv, maps[-1] if maps else x, training)
                maps.append(ops.leaky_relu(norm(y, training=training), LEAKY_SLOPE))
            logits.append(self.logit_convs[scale](maps[-1]))
            features.append(tuple(maps))
        return {"logits": tuple(logits), "features": tuple(features)}

    def _check(self, inputs: Any) -> None:
        require_labels("SPADEDiscriminator", inputs, "label_map")
        require_images("SPADEDiscriminator", inputs, "image", 3)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StyleEncoderConfig:
    """Settings of ``StyleEncoder``; the defaults are the paper's."""

    KIND: ClassVar[str] = "spade_style_encoder"

    image_size: int = 256
    style_size: int = 256
    base_width: int = 64  # channels after the first convolution, at most 8 times as many

    def __post_init__(self) -> None:
        # Six halvings of 64 px leave one pixel, which instance norm turns into nothing.
        require_power_of_two("image_size", self.image_size, 128)
        for name in ("style_size", "base_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


@keras.saving.register_keras_serializable(package="facegan")
class StyleEncoder(ConfiguredModel):
    """Reads the style of a picture as a normal distribution over style codes (appendix A).

    Call input: {"image": [B, image_size, image_size, 3] float in [-1, 1]}.
    Call output: {"mean": [B, style_size], "log_variance": [B, style_size]}, float32.
    """

    config_class = StyleEncoderConfig

    def __init__(self, config: StyleEncoderConfig, **kwargs: Any):
        super().__init__(config, **{"name": "spade_style_encoder", **kwargs})
        self.convs, self.norms = [], []
        for i, factor in enumerate((1, 2, 4, 8, 8, 8)):
            self.convs.append(
                SpectralConv2D(
                    factor * config.base_width,
                    3,
                    strides=2,
                    padding=1,
                    use_bias=False,
                    kernel_initializer=glorot_normal(),
                    name=f"conv{i}",
                    dtype=self.dtype_policy,
                )
            )
            self.norms.append(make_norm("instance", name=f"norm{i}", dtype=self.dtype_policy))
        made = {"kernel_initializer": glorot_normal(), "dtype": "float32"}
        self.mean = keras.layers.Dense(config.style_size, name="mean", **made)
        self.log_variance = keras.layers.Dense(config.style_size, name="log_variance", **made)

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"image": (self.config.image_size, self.config.image_size, 3)}

    def build(self, input_shape: Any) -> None:
        require_images("StyleEncoder", input_shape, "image", 3)
        shape = tuple(input_shape["image"])
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        grid = self.config.image_size // 2 ** len(self.convs)
        flat = (shape[0], grid**2 * shape[3])
        self.mean.build(flat)
        self.log_variance.build(flat)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        require_images("StyleEncoder", inputs, "image", 3)
        size = self.config.image_size
        x = inputs["image"]
        if tuple(x.shape[1:3]) != (size, size):
            raise ConfigError(
                f"StyleEncoder takes pictures of {size}x{size}, got {x.shape[1]}x{x.shape[2]}. "
                "Resize them, or change image_size in its config."
            )
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(ops.leaky_relu(x, LEAKY_SLOPE) if i else x, training=training))
        x = ops.leaky_relu(x, LEAKY_SLOPE)
        x = ops.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))
        return {"mean": self.mean(x), "log_variance": self.log_variance(x)}


class StyledGenerator(keras.Model):
    """A generator that reads its style from a picture, for serving.

    Call input: {"label_map": [B, H, W] ids, "style_image": [B, S, S, 3] float in [-1, 1]}; the
    style is the mean of what the encoder finds in the picture.
    Call output: [B, H, W, 3] float32 in [-1, 1].
    """

    def __init__(self, generator: SPADEGenerator, encoder: StyleEncoder, **kwargs: Any):
        super().__init__(**{"name": "styled_generator", "dtype": generator.dtype_policy, **kwargs})
        self.generator, self.encoder = generator, encoder

    def call(self, inputs: Any, training: bool = False) -> Any:
        code = self.encoder({"image": inputs["style_image"]}, training=training)
        return self.generator(
            {"label_map": inputs["label_map"], "style": code["mean"]}, training=training
        )


def fold_styled(
    generator: SPADEGenerator, encoder: StyleEncoder, dtype: str = "float32"
) -> StyledGenerator:
    """Makes a generator for serving that takes its style from a picture.

    Args:
        generator: A built one with a style; folded as ``fold_spectral_norm`` does.
        encoder: A built one; it goes on as it is, in float32.
        dtype: Type in which the generator computes and keeps its weights.
    """
    return StyledGenerator(fold_spectral_norm(generator, dtype), encoder)
