"""Training recipe of the face parsers: label maps from pictures.

Reference: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation",
ECCV 2018, the loss function with two auxiliary heads and the implementation details.
Differences from the public face parser's recipe, which ``bisenet_celebamask_512`` follows: the
ResNet starts from random weights, not from ImageNet's; it sees pictures of 512 px, enlarged and cut
as ``AugmentConfig`` does, in place of random crops of 448 px; brightness moves by an amount, not by
a factor. The moving average is an option of ours.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.face.labels import colour_table, find_schema
from facegan.image import to_float
from facegan.losses.segmentation import IGNORED, cross_entropy_loss, ohem_cross_entropy_loss
from facegan.models.face_parser import (
    BISENET_STRIDE,
    BiSeNetConfig,
    ParserUNetConfig,
    make_label_net,
    make_parser_net,
)
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig, SgdConfig
from facegan.training.recipe import Batch, Nets, Phase, PhaseResult, Serving


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FaceParserConfig:
    """What is trained, and by which losses.

    ``schema`` names the labels: a built-in schema or a ``.json`` file. ``loss`` "ohem" is the mean
    over the pixels whose label gets a probability below ``ohem_threshold``, and over the share
    ``ohem_min_share`` of all at least; "cross_entropy" is that over all pixels. ``aux_weight``
    weighs each of BiSeNet's auxiliary heads.
    """

    parser: BiSeNetConfig | ParserUNetConfig = BiSeNetConfig()
    schema: str = "celebamask19"
    loss: Literal["ohem", "cross_entropy"] = "ohem"
    ohem_threshold: float = 0.7
    ohem_min_share: float = 0.0625
    aux_weight: float = 1.0
    optimizer: AdamConfig | SgdConfig = SgdConfig()
    ema: EmaConfig | None = None

    def __post_init__(self) -> None:
        schema = find_schema(self.schema)
        if schema.num_labels != self.parser.num_labels:
            raise ConfigError(
                f"recipe.parser.num_labels must be that of recipe.schema {self.schema!r}, "
                f"{schema.num_labels}; got {self.parser.num_labels}."
            )
        if self.parser.norm == "none":
            raise ConfigError("recipe.parser.norm 'none' is for serving; train with 'batch'.")
        if not 0 < self.ohem_threshold < 1:
            raise ConfigError(
                f"recipe.ohem_threshold must lie between 0 and 1, got {self.ohem_threshold}."
            )
        if not 0 < self.ohem_min_share <= 1:
            raise ConfigError(
                f"recipe.ohem_min_share must be in (0, 1], got {self.ohem_min_share}."
            )
        if self.aux_weight < 0:
            raise ConfigError(f"recipe.aux_weight must be >= 0, got {self.aux_weight}.")


CONFIG = FaceParserConfig


class Recipe:
    """Losses and updates of a face parser; see ``facegan.training.recipe.Recipe``.

    The batch holds ``image`` [B, S, S, 3] float32 in [-1, 1] and ``label_map`` [B, S, S] uint8 ids
    of the schema, 255 where a pixel is not to count.
    """

    stem = "face_parser"
    group = 1
    phases: tuple[Phase, ...] = (Phase(name="parser", updates={"P": ("parser",)}),)
    statistics: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}

    def __init__(self, config: FaceParserConfig):
        self.config = config
        self.optimizers = {"parser": config.optimizer}
        self.ema = config.ema
        self.ema_nets = ("parser",) if config.ema else ()
        self._colours = to_float(colour_table(find_schema(config.schema)))
        self._loss: Callable[[Any, Any], Any] = cross_entropy_loss
        if config.loss == "ohem":
            self._loss = functools.partial(
                ohem_cross_entropy_loss,
                threshold=config.ohem_threshold,
                min_share=config.ohem_min_share,
            )

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the parser."""
        net = make_parser_net(self.config.parser, name="parser", dtype=precision)
        net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return {"parser": net}

    def prepare(self, precision: str) -> None:
        """The losses need nothing beside the net."""

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of the one phase."""
        del phase, step, statistics
        images, label_map = batch["image"], batch["label_map"]
        self._require_two_pictures(images)
        outputs = nets["parser"]({"image": images}, training=True, seed=seed)
        terms = {"P/main": self._loss(outputs["logits"], label_map)}
        loss = terms["P/main"]
        for stage, logits in zip((16, 32), outputs.get("aux_logits", ()), strict=False):
            terms[f"P/aux{stage}"] = self._loss(logits, label_map)
            loss = loss + self.config.aux_weight * terms[f"P/aux{stage}"]
        terms["P/accuracy"] = _pixel_accuracy(outputs["logits"], label_map)
        return PhaseResult(losses={"P": loss}, terms=terms)

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """Picture, label map found, true label map, both in the schema's colours."""
        logits = nets["parser"]({"image": batch["image"]}, training=False)["logits"]
        found = ops.argmax(logits, axis=-1)
        return [batch["image"], self._paint(found), self._paint(batch["label_map"])]

    def serving(self) -> Serving:
        """The parser as a net from pictures, of any batch size, height and width, to label maps."""
        parser = self.config.parser
        multiple = BISENET_STRIDE if isinstance(parser, BiSeNetConfig) else 2**parser.depth
        return Serving(
            net="parser",
            inputs=(TensorSpec(name="image", shape=(None, None, None, 3)),),
            outputs=(
                TensorSpec(
                    name="label_map", shape=(None, None, None), dtype="uint8", value_range=None
                ),
            ),
            simplify=make_label_net,
            size_multiple=multiple,
            labels=find_schema(self.config.schema),
        )

    def _require_two_pictures(self, images: Any) -> None:
        if isinstance(self.config.parser, BiSeNetConfig) and images.shape[0] == 1:
            raise ConfigError(
                "BiSeNet normalises one value a picture over the batch, so each device needs two "
                "pictures a step, got 1. Raise data.batch_size, or train with fewer devices."
            )

    def _paint(self, label_map: Any) -> Any:
        """Ids [B, H, W] -> [B, H, W, 3] float32 in [-1, 1]."""
        return ops.take(self._colours, ops.cast(label_map, "int32"), axis=0)


def _pixel_accuracy(logits: Any, label_map: Any) -> Any:
    """Share of the counted pixels whose highest score is their label's; of equal ones the first."""
    ids = ops.cast(label_map, "float32")
    # What argmax says, by a product and a maximum: these fuse under XLA, and take a quarter of its
    # time on a CPU.
    count = logits.shape[-1]
    is_highest = ops.cast(logits >= ops.max(logits, axis=-1, keepdims=True), "float32")
    found = count - ops.max(is_highest * ops.arange(count, 0, -1, dtype="float32"), axis=-1)
    counted = ops.cast(ops.not_equal(ids, IGNORED), "float32")
    right = ops.cast(ops.equal(found, ids), "float32") * counted
    return ops.sum(right) / ops.maximum(ops.sum(counted), 1.0)
