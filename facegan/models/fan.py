"""Face alignment network: heatmaps of 98 landmarks; and what may be kept of a face's details.

Reference: Bulat and Tzimiropoulos, "How Far Are We from Solving the 2D & 3D Face Alignment
Problem?", ICCV 2017, section 3 (the network, with one hourglass); Wang et al., "Adaptive Wing Loss
for Robust Face Alignment via Heatmap Regression", ICCV 2019, sections 4 and 5 (98 landmarks, a map
of the face's boundaries, coordinates as input channels; the second network of its stack, to which
the first one's boundaries are shown, is not built).
"""

import dataclasses
import os
from typing import Any, ClassVar

import keras
from keras import ops

from facegan.errors import ConfigError
from facegan.face.landmarks import GROUPS
from facegan.layers.convolution import PaddedConv2D
from facegan.layers.normalization import make_norm
from facegan.layers.resize import mean_of_2x2, nearest_upsample
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel
from facegan.models.stored_weights import stored_arrays

HEATMAP_SIZE = 64
_IMAGE_SIZE = 4 * HEATMAP_SIZE
_DEPTH = 4  # halvings of the hourglass
# Of the 68 landmarks and of the 98 (WFLW's), those of nose and eyes.
_NOSE_EYES = {
    68: [
        i for name in ("nose_bridge", "nose_lower", "right_eye", "left_eye") for i in GROUPS[name]
    ],
    98: [*range(51, 76), 96, 97],
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FanConfig:
    """Settings of ``FAN``; the defaults are those of the public network for 98 landmarks."""

    KIND: ClassVar[str] = "fan"

    num_landmarks: int = 98
    width: int = 256

    def __post_init__(self) -> None:
        if self.num_landmarks < 1:
            raise ConfigError(f"num_landmarks must be at least 1, got {self.num_landmarks}.")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width must be a multiple of 8, got {self.width}.")


def _add_coordinates(features: Any) -> Any:
    """Adds y and x in [-1, 1] and the distance from the centre, at most 1, as channels."""
    batch, height, width = ops.shape(features)[:3]

    def line(count: Any) -> Any:
        count = ops.cast(count, "float32")
        return 2.0 * ops.arange(count, dtype="float32") / (count - 1.0) - 1.0

    x, y = line(width)[None, :, None], line(height)[:, None, None]
    x, y = x + 0.0 * y, y + 0.0 * x
    distance = ops.sqrt(ops.square(x) + ops.square(y))
    added = ops.concatenate([y, x, distance / ops.max(distance)], axis=-1)
    added = ops.broadcast_to(added[None], (batch, height, width, 3))
    return ops.concatenate([features, ops.cast(added, features.dtype)], axis=-1)


@keras.saving.register_keras_serializable(package="facegan")
class HierarchicalBlock(keras.layers.Layer):
    """Residual block whose three convolutions, each on the last, stand side by side in the output.

    Call input: [B, H, W, C] float. Call output: [B, H, W, filters].

    Args:
        filters: Output channels: half of the first convolution, a quarter of each of the others.
    """

    def __init__(self, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape: Any) -> None:
        made = {"dtype": self.dtype_policy}
        wide, half, quarter = input_shape[-1], self.filters // 2, self.filters // 4
        self.norms, self.convs = [], []
        for i, (before, after) in enumerate(((wide, half), (half, quarter), (quarter, quarter))):
            shape = (*input_shape[:3], before)
            self.norms.append(make_norm("batch", name=f"norm_{i}", **made))
            self.convs.append(
                PaddedConv2D(after, 3, padding=1, use_bias=False, name=f"conv_{i}", **made)
            )
            self.norms[i].build(shape)
            self.convs[i].build(shape)
        self.skip: tuple[Any, ...] = ()
        if wide != self.filters:
            norm = make_norm("batch", name="skip_norm", **made)
            conv = PaddedConv2D(self.filters, 1, use_bias=False, name="skip_conv", **made)
            for layer in (norm, conv):
                layer.build(input_shape)
            self.skip = (norm, conv)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x, parts = inputs, []
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(ops.relu(norm(x, training=training)))
            parts.append(x)
        skip = inputs
        if self.skip:
            norm, conv = self.skip
            skip = conv(ops.relu(norm(inputs, training=training)))
        return ops.concatenate(parts, axis=-1) + skip

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="facegan")
class FAN(ConfiguredModel):
    """Finds the landmarks of a face that fills a picture.

    Call input: {"image": [B, H, W, 3] in [-1, 1]}, H and W multiples of 64.
    Call output: {"heatmaps": [B, H / 4, W / 4, num_landmarks] float32, around 1 at a landmark,
    "boundaries": [B, H / 4, W / 4, 1]}.
    """

    config_class = FanConfig

    def __init__(self, config: FanConfig | None = None, **kwargs: Any):
        config = config or FanConfig()
        super().__init__(config, **{"name": "fan", **kwargs})
        made, width = {"dtype": self.dtype_policy}, config.width

        def block(filters: int, name: str) -> HierarchicalBlock:
            return HierarchicalBlock(filters, name=name, **made)

        self.first_conv = PaddedConv2D(
            width // 4, 7, strides=2, padding=3, name="first_conv", **made
        )
        self.first_norm = make_norm("batch", name="first_norm", **made)
        self.stem = [
            block(filters, f"stem_{i}") for i, filters in enumerate((width // 2, width // 2, width))
        ]
        self.place_conv = PaddedConv2D(width, 1, name="place_conv", **made)
        self.sides = [block(width, f"side_{i}") for i in range(_DEPTH)]
        self.befores = [block(width, f"before_{i}") for i in range(_DEPTH)]
        self.middle = block(width, "middle")
        self.afters = [block(width, f"after_{i}") for i in range(_DEPTH)]
        self.top = block(width, "top")
        self.last_conv = PaddedConv2D(width, 1, name="last_conv", **made)
        self.last_norm = make_norm("batch", name="last_norm", **made)
        self.to_maps = PaddedConv2D(config.num_landmarks + 1, 1, name="to_maps", **made)

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis."""
        return {"image": (_IMAGE_SIZE, _IMAGE_SIZE, 3)}

    def build(self, input_shape: Any) -> None:
        width = self.config.width
        free = (input_shape["image"][0], None, None)
        self.first_conv.build((*free, 6))
        self.first_norm.build((*free, width // 4))
        for layer, before in zip(self.stem, (width // 4, width // 2, width // 2), strict=True):
            layer.build((*free, before))
        self.place_conv.build((*free, width + 3))
        blocks = (*self.sides, *self.befores, self.middle, *self.afters, self.top)
        for layer in (*blocks, self.last_conv, self.last_norm, self.to_maps):
            layer.build((*free, width))

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> dict[str, Any]:
        require_images("FAN", inputs, "image", 3, 4 * 2**_DEPTH)
        x = 0.5 * ops.cast(inputs["image"], self.compute_dtype) + 0.5
        x = self.first_norm(self.first_conv(_add_coordinates(x)), training=training)
        x = mean_of_2x2(self.stem[0](ops.relu(x), training=training))
        for stem in self.stem[1:]:
            x = stem(x, training=training)
        x = self._hourglass(self.place_conv(_add_coordinates(x)), 0, training)
        x = self.last_conv(self.top(x, training=training))
        maps = self.to_maps(ops.relu(self.last_norm(x, training=training)))
        maps, count = ops.cast(maps, "float32"), self.config.num_landmarks
        return {"heatmaps": maps[..., :count], "boundaries": maps[..., count:]}

    def _hourglass(self, x: Any, level: int, training: bool) -> Any:
        if level == _DEPTH:
            return self.middle(x, training=training)
        low = self.befores[level](mean_of_2x2(x), training=training)
        low = self.afters[level](self._hourglass(low, level + 1, training), training=training)
        return self.sides[level](x, training=training) + nearest_upsample(low)


def load_fan(path: str | os.PathLike[str], **kwargs: Any) -> FAN:
    """Makes ``FAN`` with the weights of a file, by the paths of its variables.

    Args:
        path: ``.npz`` file with the weights of the network for 98 landmarks, each under the path of
            its variable, such as ``stem_0/conv_0/kernel``.
        **kwargs: To the model (name, dtype).

    Raises:
        CheckpointError: The file cannot be read as such.
    """
    net = FAN(FanConfig(), **kwargs)
    net.build({"image": (None, None, None, 3)})
    advice = (
        "Name a file with the weights of the network for 98 landmarks, or none, to take the "
        "landmarks of the dataset."
    )
    with stored_arrays(path, "FAN", advice) as stored:
        for variable in net.variables:
            variable.assign(stored[_path(variable)])
    net.trainable = False
    return net


def _path(variable: keras.Variable) -> str:
    return variable.path.partition("/")[2]  # without the net's own name


def landmark_heatmaps(landmarks_xy_px: Any, image_size: int) -> Any:
    """Draws landmarks as the network finds them.

    Args:
        landmarks_xy_px: [B, N, 2] float, pixels of a picture; NaN where there is none.
        image_size: The picture's height and width.

    Returns:
        [B, 64, 64, N] float32: a Gaussian of one pixel's width around each landmark, with the
        height 1; nothing for a landmark that is not there.
    """
    xy = ops.cast(landmarks_xy_px, "float32")
    known = ops.cast(ops.isfinite(xy), "float32")
    xy = (ops.where(known > 0, xy, 0.0) + 0.5) * (HEATMAP_SIZE / image_size) - 0.5
    apart = ops.arange(HEATMAP_SIZE, dtype="float32")[None, :, None, None] - xy[:, None]
    lines = ops.exp(-0.5 * ops.square(apart)) * known[:, None]  # [B, 64, N, 2]
    return lines[:, None, :, :, 0] * lines[:, :, None, :, 1]


def detail_masks(heatmaps: Any, image_size: int) -> dict[str, Any]:
    """Where structure of a face is kept: wide soft lines along its landmarks.

    At a coarse scale that is where jaw, brows, nose, eyes and mouth are; at fine ones, nose and
    eyes. The authors of StarGAN v2 shape their masks part by part; these are plainer.

    Args:
        heatmaps: [B, 64, 64, 68 or 98] float, of ``landmark_heatmaps`` or of ``FAN``.
        image_size: Height and width of the masks, a multiple of 64 or a part of it.

    Returns:
        "coarse_mask" and "fine_mask", [B, image_size, image_size, 1] float32 in [0, 1].

    Raises:
        ConfigError: It is another number of landmarks.
    """
    if heatmaps.shape[-1] not in _NOSE_EYES:
        raise ConfigError(
            f"detail_masks takes heatmaps of 68 or 98 landmarks, got {heatmaps.shape[-1]}."
        )
    chosen = ops.take(heatmaps, _NOSE_EYES[heatmaps.shape[-1]], axis=-1)
    both = ops.stack([ops.max(heatmaps, axis=-1), ops.max(chosen, axis=-1)], axis=-1)
    both = ops.clip(ops.cast(both, "float32"), 0.0, 1.0)
    # The landmarks of a line are up to five pixels apart.
    both = ops.max_pool(both, 5, 1, padding="same", data_format="channels_last")
    both = ops.average_pool(both, 3, 1, padding="same", data_format="channels_last")
    if image_size < HEATMAP_SIZE:
        factor = HEATMAP_SIZE // image_size
        both = ops.average_pool(both, factor, factor, data_format="channels_last")
    elif image_size > HEATMAP_SIZE:
        both = ops.image.resize(
            both, (image_size, image_size), interpolation="bilinear", data_format="channels_last"
        )
    return {"coarse_mask": both[..., :1], "fine_mask": both[..., 1:]}
