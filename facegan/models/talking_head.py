"""Few-shot talking heads: a person from a few pictures, moved by landmark drawings.

An embedder reads who is seen in some pictures; a generator paints a landmark drawing as that
person; a discriminator knows every video of the training by a row of a table.

Reference: Zakharov et al., "Few-Shot Adversarial Learning of Realistic Neural Talking Head Models",
ICCV 2019, section 3 and the supplement. Differences: channels last; pictures are in [-1, 1] outside
of the nets (inside they are in [0, 1], as the blocks that begin with a ReLU want them).
"""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from facegan.config import require_power_of_two
from facegan.errors import ConfigError
from facegan.layers.adaptive_norm import adaptive_instance_norm
from facegan.layers.attention import SelfAttention
from facegan.layers.normalization import make_norm
from facegan.layers.resize import half_pixel_upsample, mean_of_2x2
from facegan.layers.shapes import require_images
from facegan.layers.spectral import make_conv
from facegan.models.configured import ConfiguredModel, fold_spectral_norm


def _conv(spectral_norm: bool, filters: int, kernel_size: int, **kwargs: Any) -> Any:
    return make_conv(spectral_norm, filters, kernel_size, padding=kernel_size // 2, **kwargs)


def _convolve(conv: Any, inputs: Any, training: bool, spectral_norm: bool) -> Any:
    return conv(inputs, training=training) if spectral_norm else conv(inputs)


@keras.saving.register_keras_serializable(package="facegan")
class DownBlock(keras.layers.Layer):
    """Residual block that halves height and width.

    Call input: [B, H, W, C] float, H and W even. Call output: [B, H / 2, W / 2, filters].

    Args:
        filters: Output channels.
        kernel_size: Of the two convolutions.
        spectral_norm: Whether all kernels are spectrally normalised.
    """

    def __init__(
        self, filters: int, kernel_size: int = 3, spectral_norm: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.spectral_norm = filters, kernel_size, spectral_norm
        made = {"dtype": self.dtype_policy}
        self.skip_conv = _conv(spectral_norm, filters, 1, name="skip_conv", **made)
        self.conv_0 = _conv(spectral_norm, filters, kernel_size, name="conv_0", **made)
        self.conv_1 = _conv(spectral_norm, filters, kernel_size, name="conv_1", **made)

    def build(self, input_shape: Any) -> None:
        self.skip_conv.build(input_shape)
        self.conv_0.build(input_shape)
        self.conv_1.build((*input_shape[:3], self.filters))

    def call(self, inputs: Any, training: bool = False) -> Any:
        spectral = self.spectral_norm
        # A mean and a 1x1 convolution can change places; on fewer pixels the latter is cheaper.
        skip = _convolve(self.skip_conv, mean_of_2x2(inputs), training, spectral)
        x = _convolve(self.conv_0, ops.relu(inputs), training, spectral)
        x = _convolve(self.conv_1, ops.relu(x), training, spectral)
        return skip + mean_of_2x2(x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = [None if n is None else n // 2 for n in input_shape[1:3]]
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "spectral_norm": self.spectral_norm,
        }


@keras.saving.register_keras_serializable(package="facegan")
class StyledResBlock(keras.layers.Layer):
    """Residual block whose two instance norms take scale and shift from a style.

    Call input: {"features": [B, H, W, C] float, "style": [B, 4 C]}: scale and shift of the first
    norm, then of the second. Call output: [B, H, W, C].

    Args:
        spectral_norm: Whether the kernels are spectrally normalised.
        unit_scale: Whether 1 is added to the scales.
    """

    def __init__(self, spectral_norm: bool = True, unit_scale: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.spectral_norm, self.unit_scale = spectral_norm, unit_scale
        self.least_scale = 1.0 if unit_scale else 0.0

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape["features"])
        for name in ("conv_0", "conv_1"):
            conv = _conv(self.spectral_norm, shape[3], 3, name=name, dtype=self.dtype_policy)
            conv.build(shape)
            setattr(self, name, conv)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = inputs["features"]
        scale_0, shift_0, scale_1, shift_1 = ops.split(inputs["style"], 4, axis=-1)
        y = _convolve(self.conv_0, x, training, self.spectral_norm)
        y = ops.relu(adaptive_instance_norm(y, scale_0 + self.least_scale, shift_0))
        y = _convolve(self.conv_1, y, training, self.spectral_norm)
        return x + adaptive_instance_norm(y, scale_1 + self.least_scale, shift_1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape["features"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "spectral_norm": self.spectral_norm,
            "unit_scale": self.unit_scale,
        }


@keras.saving.register_keras_serializable(package="facegan")
class StyledUpBlock(keras.layers.Layer):
    """Residual block that doubles height and width, normalised by a style.

    Call input: {"features": [B, H, W, C] float, "style": [B, 2 C + 2 filters]}: scale and shift
    before the first convolution, then before the second.
    Call output: [B, 2H, 2W, filters].

    Args:
        filters: Output channels.
        spectral_norm: Whether the kernels are spectrally normalised.
        unit_scale: Whether 1 is added to the scales.
    """

    def __init__(
        self, filters: int, spectral_norm: bool = True, unit_scale: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters, self.spectral_norm, self.unit_scale = filters, spectral_norm, unit_scale
        self.least_scale = 1.0 if unit_scale else 0.0
        made = {"dtype": self.dtype_policy}
        self.skip_conv = _conv(spectral_norm, filters, 1, name="skip_conv", **made)
        self.conv_0 = _conv(spectral_norm, filters, 3, name="conv_0", **made)
        self.conv_1 = _conv(spectral_norm, filters, 3, name="conv_1", **made)

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape["features"])
        self.skip_conv.build(shape)
        self.conv_0.build(shape)
        self.conv_1.build((*shape[:3], self.filters))

    def call(self, inputs: Any, training: bool = False) -> Any:
        x, style = inputs["features"], inputs["style"]
        wide, spectral = 2 * x.shape[-1], self.spectral_norm
        scale_0, shift_0 = ops.split(style[:, :wide], 2, axis=-1)
        scale_1, shift_1 = ops.split(style[:, wide:], 2, axis=-1)
        # Bilinear weights add up to one, so that the 1x1 convolution may come first.
        skip = half_pixel_upsample(_convolve(self.skip_conv, x, training, spectral))
        y = ops.relu(adaptive_instance_norm(x, scale_0 + self.least_scale, shift_0))
        y = _convolve(self.conv_0, half_pixel_upsample(y), training, spectral)
        y = ops.relu(adaptive_instance_norm(y, scale_1 + self.least_scale, shift_1))
        return skip + _convolve(self.conv_1, y, training, spectral)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = tuple(input_shape["features"])
        size = [None if n is None else 2 * n for n in shape[1:3]]
        return (shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "spectral_norm": self.spectral_norm,
            "unit_scale": self.unit_scale,
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EmbedderConfig:
    """Settings of ``Embedder``; the defaults are the paper's."""

    KIND: ClassVar[str] = "talking_head_embedder"

    image_size: int = 256
    base_width: int = 64  # channels after the first block, doubled by each until 8 times as many
    num_downs: int = 6  # blocks that halve; self-attention follows the third
    spectral_norm: bool = True

    def __post_init__(self) -> None:
        _check_stack(self)

    @property
    def embedding_size(self) -> int:
        """Numbers that stand for a person."""
        return 8 * self.base_width


def _check_stack(config: Any) -> None:
    require_power_of_two("image_size", config.image_size, 32)
    if config.base_width < 1:
        raise ConfigError(f"base_width must be at least 1, got {config.base_width}.")
    # Instance norm makes nothing of a single pixel.
    most = config.image_size.bit_length() - 2
    if not 4 <= config.num_downs <= most:
        raise ConfigError(
            f"num_downs must be from 4 to {most} at {config.image_size} px, got "
            f"{config.num_downs}: at least 2x2 pixels have to be left."
        )


class _DownStack(ConfiguredModel):
    """What the embedder and the discriminator share: blocks that halve, and self-attention."""

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        policy = {"dtype": self.dtype_policy}
        self.downs = [
            DownBlock(
                config.base_width * min(2**i, 8),
                spectral_norm=config.spectral_norm,
                name=f"down_{i}",
                **policy,
            )
            for i in range(config.num_downs)
        ]
        self.attention = SelfAttention(name="attention", **policy)

    def _build_downs(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        for i, down in enumerate(self.downs):
            down.build(shape)
            shape = down.compute_output_shape(shape)
            if i == 2:
                self.attention.build(shape)
        return shape

    def _descend(self, images: Any, conditions: Any, training: bool) -> list[Any]:
        """Maps after each block for pictures [N, H, W, 3] and drawings of their landmarks."""
        x = ops.concatenate([images, conditions], axis=-1)
        x = ops.cast(0.5 * (x + 1.0), self.compute_dtype)
        maps = []
        for i, down in enumerate(self.downs):
            x = down(x, training=training)
            if i == 2:
                x = self.attention(x)
            maps.append(x)
        return maps


def _strongest(features: Any) -> Any:
    """relu(max over pixels): [N, H, W, C] -> [N, C] float32."""
    return ops.cast(ops.relu(ops.max(features, axis=(1, 2))), "float32")


@keras.saving.register_keras_serializable(package="facegan")
class Embedder(_DownStack):
    """Reads who is seen in pictures of one person: the mean over the pictures.

    Call input: {"images": [B, K, H, W, 3], "conditions": [B, K, H, W, 3]}, K pictures of each
    person and the drawings of their landmarks, in [-1, 1].
    Call output: [B, embedding_size] float32, at least 0.
    """

    config_class = EmbedderConfig

    def __init__(self, config: EmbedderConfig, **kwargs: Any):
        super().__init__(config, **{"name": "embedder", **kwargs})

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        shape = (None, self.config.image_size, self.config.image_size, 3)
        return {"images": shape, "conditions": shape}

    def build(self, input_shape: Any) -> None:
        shapes = {name: tuple(shape) for name, shape in input_shape.items()}
        self._check({name: (shape[0], *shape[2:]) for name, shape in shapes.items()})
        self._build_downs((None, *shapes["images"][2:4], 6))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        images, conditions = inputs["images"], inputs["conditions"]
        shots = ops.shape(images)[1]
        images, conditions = (
            ops.reshape(x, (-1, *ops.shape(x)[2:])) for x in (images, conditions)
        )  # rank 4
        self._check({"images": images, "conditions": conditions})
        found = _strongest(self._descend(images, conditions, training)[-1])
        return ops.mean(ops.reshape(found, (-1, shots, found.shape[-1])), axis=1)

    def _check(self, inputs: Any) -> None:
        for name in ("images", "conditions"):
            require_images("Embedder", inputs, name, 3, 2**self.config.num_downs)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TalkingHeadConfig:
    """Settings of ``TalkingHeadGenerator`` and ``PersonGenerator``; the defaults are the paper's.

    ``unit_scale`` lets the norms' scales start at 1: what the embedding gives is added to it.
    """

    KIND: ClassVar[str] = "talking_head"

    image_size: int = 256
    base_width: int = 64
    num_downs: int = 4  # blocks that halve, and as many that double; attention follows the third
    first_kernel_size: int = 9  # of the first block's two convolutions
    num_blocks: int = 5  # residual blocks at the smallest size
    embedding_size: int = 512
    unit_scale: bool = False
    spectral_norm: bool = True  # False is what ``fold_spectral_norm`` makes for serving

    def __post_init__(self) -> None:
        require_power_of_two("image_size", self.image_size, 32)
        for name in ("base_width", "num_blocks", "embedding_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 3 <= self.num_downs <= self.image_size.bit_length() - 2:
            raise ConfigError(
                f"num_downs must be from 3 to {self.image_size.bit_length() - 2} at "
                f"{self.image_size} px, got {self.num_downs}: attention follows the third, and at "
                "least 2x2 pixels have to be left."
            )
        if self.first_kernel_size < 1 or self.first_kernel_size % 2 == 0:
            raise ConfigError(
                f"first_kernel_size must be odd and positive, got {self.first_kernel_size}."
            )

    @property
    def down_filters(self) -> tuple[int, ...]:
        """Output channels of the blocks that halve."""
        return tuple(self.base_width * min(2**i, 8) for i in range(self.num_downs))

    @property
    def up_filters(self) -> tuple[int, ...]:
        """Output channels of the blocks that double."""
        return (*self.down_filters[-2::-1], 3)

    @property
    def style_sizes(self) -> tuple[int, ...]:
        """How many numbers of the style each styled block takes, in the order of the blocks."""
        wide = self.down_filters[-1]
        sizes = [4 * wide] * self.num_blocks
        for filters in self.up_filters:
            sizes.append(2 * (wide + filters))
            wide = filters
        return tuple(sizes)


class _Painter(ConfiguredModel):
    """A landmark drawing, painted in a given style."""

    config_class = TalkingHeadConfig

    def __init__(self, config: TalkingHeadConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        policy = {"dtype": self.dtype_policy}
        made = {"spectral_norm": config.spectral_norm, **policy}
        styled = {"unit_scale": config.unit_scale, **made}
        kernel_sizes = (config.first_kernel_size, *[3] * (config.num_downs - 1))
        self.downs = [
            DownBlock(filters, kernel_size, name=f"down_{i}", **made)
            for i, (filters, kernel_size) in enumerate(
                zip(config.down_filters, kernel_sizes, strict=True)
            )
        ]
        self.norms = [
            make_norm("instance", affine=True, name=f"norm_{i}", **policy)
            for i in range(config.num_downs)
        ]
        self.down_attention = SelfAttention(name="down_attention", **policy)
        self.blocks = [
            StyledResBlock(name=f"block_{i}", **styled) for i in range(config.num_blocks)
        ]
        self.ups = [
            StyledUpBlock(filters, name=f"up_{i}", **styled)
            for i, filters in enumerate(config.up_filters)
        ]
        self.up_attention = SelfAttention(name="up_attention", **policy)
        # At twice the size of the first attention: of four, the second block that doubles.
        self._attended_up = config.num_downs - 3

    def _build_painter(self, shape: tuple[int | None, ...]) -> None:
        for i, (down, norm) in enumerate(zip(self.downs, self.norms, strict=True)):
            down.build(shape)
            shape = down.compute_output_shape(shape)
            norm.build(shape)
            if i == 2:
                self.down_attention.build(shape)
        for block in self.blocks:
            block.build({"features": shape})
        for i, up in enumerate(self.ups):
            up.build({"features": shape})
            shape = up.compute_output_shape({"features": shape})
            if i == self._attended_up:
                self.up_attention.build(shape)

    def _paint(self, condition: Any, style: Any, training: bool) -> Any:
        """[B, H, W, 3] float32 in [-1, 1] from a drawing and a style [B, sum(style_sizes)]."""
        x = ops.cast(0.5 * (condition + 1.0), self.compute_dtype)
        for i, (down, norm) in enumerate(zip(self.downs, self.norms, strict=True)):
            x = norm(down(x, training=training))
            if i == 2:
                x = self.down_attention(x)
        sizes = self.config.style_sizes
        offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        styles = [style[:, at : at + size] for at, size in zip(offsets, sizes, strict=True)]
        for block in self.blocks:
            x = block({"features": x, "style": styles.pop(0)}, training=training)
        for i, up in enumerate(self.ups):
            x = up({"features": x, "style": styles.pop(0)}, training=training)
            if i == self._attended_up:
                x = self.up_attention(x)
        # The authors' sigmoid, in [-1, 1].
        return ops.tanh(0.5 * ops.cast(x, "float32"))

    def _check(self, inputs: Any) -> None:
        require_images(type(self).__name__, inputs, "condition", 3, 2**self.config.num_downs)


@keras.saving.register_keras_serializable(package="facegan")
class TalkingHeadGenerator(_Painter):
    """Paints a landmark drawing as the person of an embedding.

    Call input: {"condition": [B, H, W, 3] drawing in [-1, 1], "embedding": [B, embedding_size]}.
    Call output: [B, H, W, 3] float32 in [-1, 1].
    """

    def __init__(self, config: TalkingHeadConfig, **kwargs: Any):
        super().__init__(config, **{"name": "talking_head_generator", **kwargs})
        # The paper's matrix P.
        self.projection = keras.layers.Dense(
            sum(config.style_sizes),
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="projection",
            dtype="float32",
        )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        size = self.config.image_size
        return {"condition": (size, size, 3), "embedding": (self.config.embedding_size,)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        self.projection.build((None, self.config.embedding_size))
        self._build_painter(tuple(input_shape["condition"]))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        style = self.projection(inputs["embedding"])
        return self._paint(inputs["condition"], style, training)


@keras.saving.register_keras_serializable(package="facegan")
class PersonGenerator(_Painter):
    """Paints a landmark drawing as the one person it was fine-tuned on.

    The style is a variable of its own here (section 3.4); ``personal_generator`` makes one.

    Call input: {"condition": [B, H, W, 3] drawing in [-1, 1]}.
    Call output: [B, H, W, 3] float32 in [-1, 1].
    """

    def __init__(self, config: TalkingHeadConfig, **kwargs: Any):
        super().__init__(config, **{"name": "person_generator", **kwargs})
        self.style = self.add_weight(
            name="style",
            shape=(sum(config.style_sizes),),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,
        )

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"condition": (self.config.image_size, self.config.image_size, 3)}

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        self._build_painter(tuple(input_shape["condition"]))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> Any:
        self._check(inputs)
        condition = inputs["condition"]
        style = ops.broadcast_to(self.style, (ops.shape(condition)[0], self.style.shape[0]))
        return self._paint(condition, style, training)


def make_personal(person: PersonGenerator, generator: TalkingHeadGenerator, embedding: Any) -> None:
    """Gives a built ``PersonGenerator`` the weights of a generator and the style of an embedding.

        psi' = P e

    Args:
        person: Takes the weights; of the generator's config.
        generator: A built one.
        embedding: [embedding_size] float.
    """
    source = {variable.path.partition("/")[2]: variable for variable in generator.variables}
    for variable in person.variables:
        name = variable.path.partition("/")[2]
        if name != "style":
            variable.assign(source[name])
    person.style.assign(generator.projection(ops.reshape(embedding, (1, -1)))[0])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TalkingHeadDiscriminatorConfig:
    """Settings of ``TalkingHeadDiscriminator``; the defaults are the paper's."""

    KIND: ClassVar[str] = "talking_head_discriminator"

    image_size: int = 256
    base_width: int = 64
    num_downs: int = 6
    spectral_norm: bool = True

    def __post_init__(self) -> None:
        _check_stack(self)

    @property
    def embedding_size(self) -> int:
        """Numbers that stand for a video."""
        return 8 * self.base_width


@keras.saving.register_keras_serializable(package="facegan")
class TalkingHeadDiscriminator(_DownStack):
    """Judges a picture together with its drawing and, where one is given, its video.

        D(x, y, i) = V(x, y) . (W_i + w_0) + b

    (equation 5), where V ends in a residual block with instance norm and the strongest pixel of
    each channel.

    Call input: {"image": [B, H, W, 3], "condition": [B, H, W, 3]} in [-1, 1], and "embedding",
    [B, embedding_size], the rows W_i; without it they are 0.
    Call output: {"logits": [B, 1] float32, "features": the maps after each block}.
    """

    config_class = TalkingHeadDiscriminatorConfig

    def __init__(self, config: TalkingHeadDiscriminatorConfig, **kwargs: Any):
        super().__init__(config, **{"name": "talking_head_discriminator", **kwargs})
        policy = {"dtype": self.dtype_policy}
        wide = self.downs[-1].filters
        self.convs, self.norms = [], []
        for i in range(2):
            self.convs.append(_conv(config.spectral_norm, wide, 3, name=f"conv_{i}", **policy))
            self.norms.append(make_norm("instance", affine=True, name=f"norm_{i}", **policy))
        made = {"autocast": False}
        # The paper's w_0 and b.
        self.direction = self.add_weight(
            name="direction",
            shape=(wide,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            **made,
        )
        self.offset = self.add_weight(name="offset", shape=(1,), initializer="zeros", **made)

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        shape = (self.config.image_size, self.config.image_size, 3)
        return {
            "image": shape,
            "condition": shape,
            "embedding": (self.config.embedding_size,),
        }

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        shape = self._build_downs((*tuple(input_shape["image"])[:3], 6))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(shape)
            norm.build(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        self._check(inputs)
        maps = self._descend(inputs["image"], inputs["condition"], training)
        spectral = self.config.spectral_norm
        y = self.norms[0](_convolve(self.convs[0], maps[-1], training, spectral))
        y = self.norms[1](_convolve(self.convs[1], ops.relu(y), training, spectral))
        maps.append(maps[-1] + y)
        direction = self.direction
        if "embedding" in inputs:
            direction = direction + ops.cast(inputs["embedding"], "float32")
        score = ops.sum(_strongest(maps[-1]) * direction, axis=-1, keepdims=True)
        return {"logits": score + self.offset, "features": tuple(maps)}

    def _check(self, inputs: Any) -> None:
        for name in ("image", "condition"):
            require_images("TalkingHeadDiscriminator", inputs, name, 3, 2**self.config.num_downs)


class EmbeddedGenerator(keras.Model):
    """Embedder and generator, folded for serving; ``embed`` and ``generate`` share them.

    Call input: {"condition": [B, H, W, 3] drawing in [-1, 1], "embedding": [B, embedding_size]}.
    Call output: [B, H, W, 3] float32 in [-1, 1].
    """

    def __init__(self, generator: TalkingHeadGenerator, embedder: Embedder, **kwargs: Any):
        super().__init__(
            **{"name": "embedded_generator", "dtype": generator.dtype_policy, **kwargs}
        )
        self.generator, self.embedder = generator, embedder

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.generator(inputs, training=training)

    def embed(self, inputs: Any) -> Any:
        """[B, embedding_size] of {"images": [B, K, H, W, 3], "conditions": likewise}."""
        return self.embedder(inputs, training=False)


def fold_embedded(
    generator: TalkingHeadGenerator, embedder: Embedder, dtype: str = "float32"
) -> EmbeddedGenerator:
    """Makes what is served for many people: both nets with their spectral norms folded.

    Args:
        generator: A built one; computes in ``dtype``.
        embedder: A built one; runs once for a person, in float32.
        dtype: Type in which the generator computes and keeps its weights.
    """
    return EmbeddedGenerator(fold_spectral_norm(generator, dtype), fold_spectral_norm(embedder))
