"""A fixed image network whose features measure how alike two images look.

The weights are not part of this library. They come from a file, from Keras' own download, or, where
there are none, from a seeded random stand-in: random convolutions still compare edges and textures
over growing neighbourhoods, but know nothing of what pictures show.

Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, table 1, columns D and E; Parkhi et al., "Deep Face Recognition",
BMVC 2015, whose network is column D, trained on faces.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from facegan.config import unknown_name
from facegan.errors import CheckpointError
from facegan.layers.convolution import PaddedConv2D
from facegan.layers.shapes import require_images
from facegan.models.configured import ConfiguredModel
from facegan.models.stored_weights import stored_arrays

# Convolutions of each of the five blocks, table 1 of the paper, and their channels.
_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


def _conv_names(architecture: str) -> tuple[str, ...]:
    depths = _DEPTHS[architecture]
    return tuple(f"{b}_{i}" for b, count in enumerate(depths, 1) for i in range(1, count + 1))


# Weights of relu1_1 ... relu5_1 in Wang et al. 2018 (pix2pixHD) and after it in SPADE.
PYRAMID_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

# Mean per channel (blue, green, red, in 0 ... 255) of the weights that Keras distributes.
_CAFFE_MEAN = (103.939, 116.779, 123.68)
# The same of VGG-Face's weights.
_VGG_FACE_MEAN = (93.594, 104.7624, 129.1863)
# Mean and standard deviation per channel (red, green, blue, in 0 ... 1) of torchvision's weights.
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_STD = (0.229, 0.224, 0.225)

_VGG19_ADVICE = (
    "Set recipe.perceptual_net to a file made with tools/convert_weights.py --from vgg19, to the "
    "HDF5 file without the top that Keras distributes for keras.applications.VGG19, or to random "
    "for a stand-in."
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VGGFeaturesConfig:
    """Settings of ``VGGFeatures``."""

    KIND: ClassVar[str] = "vgg_features"

    architecture: Literal["vgg19", "vgg16"] = "vgg19"
    # "relu3_1": the third block's first convolution after its ReLU; "conv3_1": before it.
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    # What the weights expect: Keras' own are "caffe"; "none" feeds [-1, 1] as SPADE's code does.
    preprocessing: Literal["caffe", "vgg_face", "torchvision", "none"] = "caffe"

    def __post_init__(self) -> None:
        convs = _conv_names(self.architecture)
        allowed = [kind + conv for kind in ("relu", "conv") for conv in convs]
        for name in self.layers:
            if name not in allowed:
                raise unknown_name("layers", name, allowed, what="value")
        if not self.layers:
            raise unknown_name("layers", self.layers, allowed, what="value")


@keras.saving.register_keras_serializable(package="facegan")
class VGGFeatures(ConfiguredModel):
    """Gives feature maps of VGG16 or VGG19, frozen.

    Call input: {"image": [B, H, W, 3] float in [-1, 1], RGB}.
    Call output: tuple of maps in the order of ``config.layers``.
    """

    config_class = VGGFeaturesConfig

    def __init__(self, config: VGGFeaturesConfig, **kwargs: Any):
        super().__init__(config, **{"name": "vgg_features", **kwargs})
        self.trainable = False
        names = _conv_names(config.architecture)
        last = max(names.index(name[4:]) for name in config.layers)
        self.convs = [
            PaddedConv2D(
                _CHANNELS[int(conv[0]) - 1],
                3,
                padding=1,
                kernel_initializer="he_normal",
                name=f"conv{conv}",
                dtype=self.dtype_policy,
                trainable=False,
            )
            for conv in names[: last + 1]
        ]

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the call's inputs without the batch axis; height and width are free."""
        return {"image": (None, None, 3)}

    def build(self, input_shape: Any) -> None:
        require_images("VGGFeatures", input_shape, "image", 3)
        shape = (None, None, None, 3)
        for conv in self.convs:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool = False, seed: Any = None) -> tuple[Any, ...]:
        require_images("VGGFeatures", inputs, "image", 3)
        x = ops.cast(self._preprocess(inputs["image"]), self.compute_dtype)
        maps = {}
        for conv in self.convs:
            name = conv.name[4:]
            if name[2:] == "1" and name != "1_1":
                x = ops.max_pool(x, 2, 2, data_format="channels_last")
            maps[f"conv{name}"] = conv(x)
            maps[f"relu{name}"] = x = ops.relu(maps[f"conv{name}"])
        return tuple(maps[name] for name in self.config.layers)

    def _preprocess(self, images: Any) -> Any:
        if self.config.preprocessing == "none":
            return images
        images = (ops.cast(images, "float32") + 1) * 0.5
        if self.config.preprocessing in ("caffe", "vgg_face"):
            mean = _CAFFE_MEAN if self.config.preprocessing == "caffe" else _VGG_FACE_MEAN
            return ops.flip(images, axis=-1) * 255.0 - np.asarray(mean, np.float32)
        return (images - np.asarray(_TORCHVISION_MEAN, np.float32)) / np.asarray(
            _TORCHVISION_STD, np.float32
        )


def load_vgg19(
    path: str | os.PathLike[str], config: VGGFeaturesConfig | None = None, **kwargs: Any
) -> VGGFeatures:
    """Makes ``VGGFeatures`` with the weights of a file.

    Args:
        path: A file that ``tools/convert_weights.py --from vgg19`` made, or
            ``vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5`` as Keras distributes it, or
            weights saved from ``keras.applications.VGG19(include_top=False)``.
        config: Which maps. A converted file tells how pictures are prepared for its weights, and
            that takes the place of ``preprocessing``.
        **kwargs: To the model (name, dtype).

    Raises:
        CheckpointError: The file cannot be read as such.
    """
    if not _is_npz(path):
        return _copy_keras_vgg19(os.fspath(path), config, kwargs)
    with stored_arrays(path, "VGG19", _VGG19_ADVICE) as stored:
        _require_kind(stored, "vgg19")
        preprocessing = str(stored["preprocessing"])
        if preprocessing not in ("caffe", "torchvision"):
            raise ValueError(f"its preprocessing {preprocessing!r} is unknown")
        config = dataclasses.replace(
            config or VGGFeaturesConfig(),
            preprocessing=preprocessing,  # type: ignore[arg-type]
        )
        return _fill(VGGFeatures(config, **kwargs), stored)


def _is_npz(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError:  # what Keras says of it is told
        return False


def _require_kind(stored: Mapping[str, np.ndarray], kind: str) -> None:
    found = str(stored["kind"])
    if found != kind:
        raise ValueError(f"it holds the weights of {found!r}")


def _fill(model: VGGFeatures, stored: Mapping[str, np.ndarray]) -> VGGFeatures:
    """Builds a model with the arrays that a converter wrote."""
    model.build({"image": (None, None, None, 3)})
    for conv in model.convs:
        conv.set_weights([stored[f"{conv.name}/{name}"] for name in ("kernel", "bias")])
    return model


def download_vgg19(config: VGGFeaturesConfig | None = None, **kwargs: Any) -> VGGFeatures:
    """Makes ``VGGFeatures`` with Keras' ImageNet weights, downloaded once into Keras' cache.

    Raises:
        CheckpointError: They cannot be downloaded or read.
    """
    return _copy_keras_vgg19("imagenet", config, kwargs)


def _copy_keras_vgg19(
    weights: str, config: VGGFeaturesConfig | None, kwargs: dict[str, Any]
) -> VGGFeatures:
    try:
        source = keras.applications.VGG19(include_top=False, weights=weights)
    except Exception as error:  # Keras passes on whatever its HDF5 reader or the download raises.
        raise CheckpointError(
            f"Cannot read VGG19 weights from {weights}: {error}. {_VGG19_ADVICE}"
        ) from error
    model = VGGFeatures(config or VGGFeaturesConfig(), **kwargs)
    model.build({"image": (None, None, None, 3)})
    for conv in model.convs:
        layer = source.get_layer(f"block{conv.name[4]}_conv{conv.name[6:]}")
        conv.set_weights(layer.get_weights())
    return model


def make_vgg19(source: str, config: VGGFeaturesConfig | None = None, **kwargs: Any) -> VGGFeatures:
    """Makes ``VGGFeatures`` of VGG19 with the weights that a training config names.

    Args:
        source: "imagenet" (Keras' download), "random" (the seeded stand-in, noted in the log), or
            a weights file.
        config: Which maps.
        **kwargs: To the model (name, dtype).

    Raises:
        CheckpointError: The weights cannot be had; the message tells of the stand-in.
    """
    if source == "imagenet":
        return download_vgg19(config, **kwargs)
    if source == "random":
        _note_stand_in("VGG19", "its ImageNet weights")
        return random_stand_in(0, config, **kwargs)
    return load_vgg19(source, config, **kwargs)


def make_vgg_face(
    source: str, config: VGGFeaturesConfig | None = None, **kwargs: Any
) -> VGGFeatures:
    """Makes ``VGGFeatures`` of VGG-Face, a VGG16 that was trained to tell people apart.

    Args:
        source: A file that ``tools/convert_weights.py --from vgg_face`` made, or "random" (the
            seeded stand-in, noted in the log).
        config: Which maps.
        **kwargs: To the model (name, dtype).

    Raises:
        CheckpointError: The file cannot be read as such; the message tells of the stand-in.
    """
    if config is None:
        config = VGGFeaturesConfig(architecture="vgg16", preprocessing="vgg_face")
    if source == "random":
        _note_stand_in("VGG-Face", "weights trained on faces")
        return random_stand_in(1, config, **kwargs)
    advice = (
        "Set face_net of the recipe (recipe.losses.face_net of the talking heads) to a file made "
        "with tools/convert_weights.py --from vgg_face, or to random for a stand-in."
    )
    with stored_arrays(source, "VGG-Face", advice) as stored:
        _require_kind(stored, "vgg_face")
        return _fill(VGGFeatures(config, **kwargs), stored)


def _note_stand_in(name: str, lacking: str) -> None:
    logging.getLogger("facegan").warning(
        "The perceptual loss uses a random stand-in for %s, not %s.", name, lacking
    )


def random_stand_in(
    seed: int, config: VGGFeaturesConfig | None = None, **kwargs: Any
) -> VGGFeatures:
    """Makes ``VGGFeatures`` with random weights that follow from a seed.

    It stands in where no trained weights are at hand: He's scaling keeps every map at about the
    size of the one before, so the loss weighs the layers alike. It sees [-1, 1] directly.
    """
    config = dataclasses.replace(config or VGGFeaturesConfig(), preprocessing="none")
    model = VGGFeatures(config, **kwargs)
    model.build({"image": (None, None, None, 3)})
    rng = np.random.default_rng(seed)
    for conv in model.convs:
        shape = tuple(conv.kernel.shape)
        scale = np.sqrt(2 / np.prod(shape[:3]))
        conv.kernel.assign(scale * rng.standard_normal(shape, dtype=np.float32))
    return model
