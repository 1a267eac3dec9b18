"""Training recipe of pix2pix: a picture from a drawing, by an adversarial and a pixel loss.

Reference: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017, equations 1 to 4. Differences: the moving average of the generator, feature matching
(Wang et al., CVPR 2018) and the perceptual term are options that the paper does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.layers.randomness import fold_in
from facegan.losses.adversarial import ADVERSARIAL
from facegan.losses.features import feature_matching_loss
from facegan.losses.reconstruction import l1_loss
from facegan.models.pix2pix import (
    BlockDiscriminatorConfig,
    BlockGeneratorConfig,
    PatchDiscriminatorConfig,
    UNetConfig,
    fold_batch_norm,
    make_discriminator,
    make_generator,
)
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig
from facegan.training.perceptual_term import pyramid_term
from facegan.training.recipe import Batch, Nets, Phase, PhaseResult, Serving, require_weights


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pix2PixConfig:
    """What is trained, and by which losses.

    ``update`` "alternating" updates the discriminator first and gives the generator its new
    verdict, as the authors' code does; "simultaneous" takes both gradients of one forward pass,
    which saves the second pass through the generator. ``discriminator_weight`` 0.5 slows the
    discriminator, as in the paper (section 3.3). Weights of 0 leave a term out.
    ``perceptual_net`` names the weights of VGG19: "imagenet" (downloaded by Keras), "random" (a
    seeded stand-in for machines without them), or a weights file.
    """

    generator: UNetConfig | BlockGeneratorConfig = UNetConfig()
    discriminator: PatchDiscriminatorConfig | BlockDiscriminatorConfig = PatchDiscriminatorConfig()
    adversarial: Literal["bce", "lsgan", "hinge"] = "bce"
    adversarial_weight: float = 1.0
    discriminator_weight: float = 0.5
    l1_weight: float = 100.0
    feature_weight: float = 0.0
    perceptual_weight: float = 0.0
    perceptual_net: str = "imagenet"
    update: Literal["alternating", "simultaneous"] = "alternating"
    generator_optimizer: AdamConfig = AdamConfig()
    discriminator_optimizer: AdamConfig = AdamConfig()
    ema: EmaConfig | None = None

    def __post_init__(self) -> None:
        require_weights(self)


CONFIG = Pix2PixConfig


class Recipe:
    """Losses and updates of pix2pix; see ``facegan.training.recipe.Recipe``.

    The batch holds ``condition`` and ``image``, both [B, H, W, 3] float32 in [-1, 1].
    """

    stem = "pix2pix"
    group = 1
    statistics: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}

    def __init__(self, config: Pix2PixConfig):
        self.config = config
        self.phases: tuple[Phase, ...]
        if config.update == "simultaneous":
            both = {"G": ("generator",), "D": ("discriminator",)}
            self.phases = (Phase(name="both", updates=both),)
        else:
            self.phases = (
                Phase(name="discriminator", updates={"D": ("discriminator",)}),
                Phase(name="generator", updates={"G": ("generator",)}),
            )
        self.optimizers = {
            "generator": config.generator_optimizer,
            "discriminator": config.discriminator_optimizer,
        }
        self.ema = config.ema
        self.ema_nets = ("generator",) if config.ema else ()
        self._losses = ADVERSARIAL[config.adversarial]
        self._perceptual = pyramid_term(config.perceptual_net) if config.perceptual_weight else None

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the generator and the discriminator."""
        config = self.config
        generator = make_generator(config.generator, name="generator", dtype=precision)
        discriminator = make_discriminator(
            config.discriminator, name="discriminator", dtype=precision
        )
        for net in (generator, discriminator):
            net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return {"generator": generator, "discriminator": discriminator}

    def prepare(self, precision: str) -> None:
        """Gets VGG19 for the perceptual term."""
        if self._perceptual is not None:
            self._perceptual.prepare(precision)

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of one phase."""
        del step, statistics
        fake = nets["generator"](
            {"condition": batch["condition"]}, training=True, seed=fold_in(seed, 0)
        )
        if phase == "discriminator":
            real_out = self._judge(nets, batch, batch["image"], fold_in(seed, 1))
            fake_out = self._judge(nets, batch, ops.stop_gradient(fake), fold_in(seed, 2))
            loss, terms = self._discriminator_loss(real_out, fake_out)
            return PhaseResult(losses={"D": loss}, terms=terms)
        # One verdict serves both losses: each takes the gradients of its own nets only.
        needed = self.config.adversarial_weight or self.config.feature_weight or phase == "both"
        fake_out = self._judge(nets, batch, fake, fold_in(seed, 2)) if needed else None
        needs_real = self.config.feature_weight or phase == "both"
        real_out = (
            self._judge(nets, batch, batch["image"], fold_in(seed, 1)) if needs_real else None
        )
        generator_loss, terms = self._generator_loss(batch, fake, real_out, fake_out)
        if phase == "generator":
            return PhaseResult(losses={"G": generator_loss}, terms=terms)
        loss, more = self._discriminator_loss(real_out, fake_out)
        return PhaseResult(losses={"G": generator_loss, "D": loss}, terms={**terms, **more})

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """Condition, generated picture, true picture."""
        fake = nets["generator"]({"condition": batch["condition"]}, training=False)
        return [batch["condition"], fake, batch["image"]]

    def serving(self) -> Serving:
        """The generator, on conditions of any batch size, height and width."""
        generator = self.config.generator
        halvings = generator.levels if isinstance(generator, UNetConfig) else generator.num_blocks
        return Serving(
            net="generator",
            inputs=(TensorSpec(name="condition", shape=(None, None, None, generator.in_channels)),),
            outputs=(TensorSpec(name="image", shape=(None, None, None, 3)),),
            simplify=fold_batch_norm if self._has_batch_norm() else None,
            size_multiple=2**halvings,
        )

    def _has_batch_norm(self) -> bool:
        generator = self.config.generator
        return isinstance(generator, UNetConfig) and generator.norm == "batch"

    def _discriminator_loss(self, real_out: Any, fake_out: Any) -> tuple[Any, dict[str, Any]]:
        loss = self._losses.discriminator(real_out["logits"], fake_out["logits"])
        terms = {
            "D/adv": loss,
            "D/real": ops.mean(ops.cast(real_out["logits"], "float32")),
            "D/fake": ops.mean(ops.cast(fake_out["logits"], "float32")),
        }
        return self.config.discriminator_weight * loss, terms

    def _generator_loss(
        self, batch: Batch, fake: Any, real_out: Any, fake_out: Any
    ) -> tuple[Any, dict[str, Any]]:
        config = self.config
        terms = {"G/l1": l1_loss(fake, batch["image"])}
        loss = config.l1_weight * terms["G/l1"]
        if config.adversarial_weight:
            terms["G/adv"] = self._losses.generator(fake_out["logits"])
            loss = loss + config.adversarial_weight * terms["G/adv"]
        if config.feature_weight:
            real_features = [ops.stop_gradient(f) for f in real_out["features"]]
            terms["G/feat"] = feature_matching_loss(real_features, fake_out["features"])
            loss = loss + config.feature_weight * terms["G/feat"]
        if self._perceptual is not None:
            terms["G/perceptual"] = self._perceptual(fake, batch["image"])
            loss = loss + config.perceptual_weight * terms["G/perceptual"]
        return loss, terms

    def _judge(self, nets: Nets, batch: Batch, images: Any, seed: Any):
        inputs = {"condition": batch["condition"], "image": images}
        return nets["discriminator"](inputs, training=True, seed=seed)
