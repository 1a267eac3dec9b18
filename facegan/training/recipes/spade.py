"""Training recipe of SPADE: a picture from a label map.

Reference: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019,
section 3 and appendix A. Differences: the pixel loss, the moving average of the generator and both
updates from one forward pass are options that the paper does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.face.labels import colour_table, find_schema
from facegan.image import to_float
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.losses.adversarial import ADVERSARIAL
from facegan.losses.features import feature_matching_loss
from facegan.losses.reconstruction import l1_loss
from facegan.losses.regularizers import kl_loss
from facegan.models.configured import fold_spectral_norm
from facegan.models.spade import (
    SpadeConfig,
    SPADEDiscriminator,
    SpadeDiscriminatorConfig,
    SPADEGenerator,
    StyleEncoder,
    StyleEncoderConfig,
    fold_styled,
)
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig
from facegan.training.perceptual_term import pyramid_term
from facegan.training.recipe import Batch, Nets, Phase, PhaseResult, Serving, require_weights

# The paper's two time scales (Heusel et al. 2017): base 2e-4, halved for G and doubled for D.
_GENERATOR_ADAM = AdamConfig(learning_rate=1e-4, beta_1=0.0, beta_2=0.9)
_DISCRIMINATOR_ADAM = AdamConfig(learning_rate=4e-4, beta_1=0.0, beta_2=0.9)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SpadeRecipeConfig:
    """What is trained, and by which losses.

    With an ``encoder`` the style of a picture is learnt too, as a variational autoencoder; the
    generator then needs ``style_size``. ``feature_weight`` counts every map of the discriminator,
    as the paper does. ``update`` "alternating" updates the generator, then the discriminator, each
    by its own forward pass, as the authors' code does; "simultaneous" takes both gradients of one.
    Weights of 0 leave a term out. ``perceptual_net`` names the weights of VGG19: "imagenet"
    (downloaded by Keras), "random" (a seeded stand-in for machines without them), or a weights
    file. ``schema`` names the labels.
    """

    generator: SpadeConfig = SpadeConfig()
    discriminator: SpadeDiscriminatorConfig = SpadeDiscriminatorConfig()
    encoder: StyleEncoderConfig | None = None
    schema: str = "celebamask19"
    adversarial: Literal["hinge", "bce", "lsgan"] = "hinge"
    adversarial_weight: float = 1.0
    discriminator_weight: float = 1.0
    feature_weight: float = 10.0
    perceptual_weight: float = 10.0
    perceptual_net: str = "imagenet"
    kl_weight: float = 0.05
    l1_weight: float = 0.0
    update: Literal["alternating", "simultaneous"] = "alternating"
    generator_optimizer: AdamConfig = _GENERATOR_ADAM
    discriminator_optimizer: AdamConfig = _DISCRIMINATOR_ADAM
    ema: EmaConfig | None = None

    def __post_init__(self) -> None:
        require_weights(self)
        sizes = {
            "generator": self.generator.num_labels,
            "discriminator": self.discriminator.num_labels,
            f"schema {self.schema!r}": find_schema(self.schema).num_labels,
        }
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name}: {count}" for name, count in sizes.items())
            raise ConfigError(f"recipe: the numbers of labels must be equal, got {told}.")
        expected = None if self.encoder is None else self.encoder.style_size
        if self.generator.style_size != expected:
            raise ConfigError(
                f"recipe.generator.style_size must be that of the encoder ({expected}), got "
                f"{self.generator.style_size}; null for both leaves the style out."
            )


CONFIG = SpadeRecipeConfig


class Recipe:
    """Losses and updates of SPADE; see ``facegan.training.recipe.Recipe``.

    The batch holds ``label_map``, [B, H, W] uint8 ids, and ``image``, [B, H, W, 3] float32 in
    [-1, 1].
    """

    stem = "spade"
    group = 1
    statistics: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}

    def __init__(self, config: SpadeRecipeConfig):
        self.config = config
        makers = ("generator",) if config.encoder is None else ("generator", "encoder")
        self.phases: tuple[Phase, ...]
        if config.update == "simultaneous":
            self.phases = (Phase(name="both", updates={"G": makers, "D": ("discriminator",)}),)
        else:
            self.phases = (
                Phase(name="generator", updates={"G": makers}),
                Phase(name="discriminator", updates={"D": ("discriminator",)}),
            )
        self.optimizers = {
            **dict.fromkeys(makers, config.generator_optimizer),
            "discriminator": config.discriminator_optimizer,
        }
        self.ema = config.ema
        self.ema_nets = makers if config.ema else ()
        self._losses = ADVERSARIAL[config.adversarial]
        self._colours = colour_table(find_schema(config.schema))
        self._perceptual = pyramid_term(config.perceptual_net) if config.perceptual_weight else None

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the generator, the discriminator and, with a style, the encoder."""
        config = self.config
        nets: dict[str, keras.Model] = {
            "generator": SPADEGenerator(config.generator, name="generator", dtype=precision),
            "discriminator": SPADEDiscriminator(
                config.discriminator, name="discriminator", dtype=precision
            ),
        }
        if config.encoder is not None:
            nets["encoder"] = StyleEncoder(config.encoder, name="encoder", dtype=precision)
        for net in nets.values():
            net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return nets

    def prepare(self, precision: str) -> None:
        """Gets VGG19 for the perceptual term."""
        if self._perceptual is not None:
            self._perceptual.prepare(precision)

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of one phase."""
        del step, statistics
        inputs, style_loss = self._generator_inputs(nets, batch, seed)
        fake = nets["generator"](inputs, training=True)
        if phase == "discriminator":
            fake = ops.stop_gradient(fake)
        # Real and generated pictures together, as the authors judge them: one pass is quicker.
        both = {
            "label_map": ops.concatenate([batch["label_map"]] * 2, axis=0),
            "image": ops.concatenate([batch["image"], fake], axis=0),
        }
        verdict = nets["discriminator"](both, training=True)
        count = ops.shape(fake)[0]
        real_out = {name: _part(value, slice(None, count)) for name, value in verdict.items()}
        fake_out = {name: _part(value, slice(count, None)) for name, value in verdict.items()}
        losses: dict[str, Any] = {}
        terms: dict[str, Any] = {}
        if phase != "discriminator":
            losses["G"], terms = self._generator_loss(batch, fake, real_out, fake_out, style_loss)
        if phase != "generator":
            loss = self._losses.discriminator(real_out["logits"], fake_out["logits"])
            terms |= {
                "D/adv": loss,
                "D/real": _mean_logit(real_out["logits"]),
                "D/fake": _mean_logit(fake_out["logits"]),
            }
            losses["D"] = self.config.discriminator_weight * loss
        return PhaseResult(losses=losses, terms=terms)

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """Label map in colours, generated picture, true picture."""
        inputs = {"label_map": batch["label_map"]}
        if self.config.encoder is not None:
            style = nets["encoder"]({"image": batch["image"]}, training=False)
            inputs["style"] = style["mean"]
        fake = nets["generator"](inputs, training=False)
        labels = to_float(self._colours[np.asarray(batch["label_map"])])
        return [labels, fake, batch["image"]]

    def serving(self) -> Serving:
        """The generator, on label maps of any batch size; with a style, on a picture too.

        Height and width are free without a style: it becomes a map of one size.
        """
        config = self.config
        schema = find_schema(config.schema)
        size = None if config.encoder is None else config.generator.image_size
        inputs: tuple[TensorSpec, ...] = (
            TensorSpec(
                name="label_map",
                shape=(None, size, size),
                dtype="uint8",
                value_range=(0, schema.num_labels - 1),
            ),
        )
        if config.encoder is not None:
            side = config.encoder.image_size
            inputs += (TensorSpec(name="style_image", shape=(None, side, side, 3)),)
        return Serving(
            net="generator",
            inputs=inputs,
            outputs=(TensorSpec(name="image", shape=(None, size, size, 3)),),
            simplify=fold_spectral_norm if config.encoder is None else fold_styled,
            with_nets=() if config.encoder is None else ("encoder",),
            fast_paths=True,
            labels=schema,
            size_multiple=2**config.generator.doublings,
        )

    def _generator_inputs(self, nets: Nets, batch: Batch, seed: Any) -> tuple[dict[str, Any], Any]:
        """The generator's inputs, and what the style costs (None without one)."""
        inputs = {"label_map": batch["label_map"]}
        if self.config.encoder is None:
            return inputs, None
        code = nets["encoder"]({"image": batch["image"]}, training=True)
        noise = keras.random.normal(ops.shape(code["mean"]), seed=GivenSeed(fold_in(seed, 0)))
        inputs["style"] = code["mean"] + ops.exp(0.5 * code["log_variance"]) * noise
        return inputs, kl_loss(code["mean"], code["log_variance"])

    def _generator_loss(
        self, batch: Batch, fake: Any, real_out: Any, fake_out: Any, style_loss: Any
    ) -> tuple[Any, dict[str, Any]]:
        config = self.config
        terms = {"G/adv": self._losses.generator(fake_out["logits"])}
        loss = config.adversarial_weight * terms["G/adv"]
        if config.feature_weight:
            real, made = real_out["features"], fake_out["features"]
            terms["G/feat"] = feature_matching_loss(real, made)
            # The loss averages over the maps of a scale, which the paper adds up.
            loss = loss + config.feature_weight * len(real[0]) * terms["G/feat"]
        if self._perceptual is not None:
            terms["G/perceptual"] = self._perceptual(fake, batch["image"])
            loss = loss + config.perceptual_weight * terms["G/perceptual"]
        if config.l1_weight:
            terms["G/l1"] = l1_loss(fake, batch["image"])
            loss = loss + config.l1_weight * terms["G/l1"]
        if style_loss is not None:
            terms["G/kl"] = style_loss
            loss = loss + config.kl_weight * style_loss
        return loss, terms


def _part(value: Any, examples: slice) -> Any:
    """Some examples of a tensor or of nested tuples of tensors."""
    if isinstance(value, tuple):
        return tuple(_part(item, examples) for item in value)
    return value[examples]


def _mean_logit(logits: tuple[Any, ...]) -> Any:
    return sum(ops.mean(ops.cast(scale, "float32")) for scale in logits) / len(logits)
