"""Fine-tuning of a talking head on a few pictures of one person.

Reference: Zakharov et al., "Few-Shot Adversarial Learning of Realistic Neural Talking Head Models",
ICCV 2019, section 3.4: the embedder is dropped, the style that it gave becomes a variable of the
generator, and the discriminator's row of the person begins as what the embedder found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.models.configured import fold_spectral_norm
from facegan.models.talking_head import (
    PersonGenerator,
    TalkingHeadConfig,
    TalkingHeadDiscriminator,
    TalkingHeadDiscriminatorConfig,
    make_personal,
)
from facegan.training.ema import EmaConfig
from facegan.training.head_losses import HeadLossConfig, HeadLosses, Update, head_phases
from facegan.training.optimizers import AdamConfig
from facegan.training.recipe import Batch, Nets, PhaseResult, Serving
from facegan.training.recipes.talking_head import DISCRIMINATOR_ADAM, GENERATOR_ADAM


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PersonRecipeConfig:
    """What is trained, and by which losses; see ``TalkingHeadRecipeConfig``."""

    generator: TalkingHeadConfig = TalkingHeadConfig()
    discriminator: TalkingHeadDiscriminatorConfig = TalkingHeadDiscriminatorConfig()
    losses: HeadLossConfig = HeadLossConfig()
    discriminator_steps: int = 2
    update: Update = "alternating"
    generator_optimizer: AdamConfig = GENERATOR_ADAM
    discriminator_optimizer: AdamConfig = DISCRIMINATOR_ADAM
    ema: EmaConfig | None = None

    def __post_init__(self) -> None:
        if self.discriminator_steps < 1:
            raise ConfigError(
                f"recipe.discriminator_steps must be at least 1, got {self.discriminator_steps}."
            )


CONFIG = PersonRecipeConfig


class Recipe:
    """Losses and updates of fine-tuning; see ``facegan.training.recipe.Recipe``.

    The batch holds ``condition`` and ``image``, both [B, H, W, 3] float32 in [-1, 1].
    """

    stem = "talking_head_person"
    group = 1
    statistics: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}

    def __init__(self, config: PersonRecipeConfig):
        self.config = config
        self.phases = head_phases(
            config.update, config.discriminator_steps, ("generator",), ("discriminator",)
        )
        self.optimizers = {
            "generator": config.generator_optimizer,
            "discriminator": config.discriminator_optimizer,
        }
        self.ema = config.ema
        self.ema_nets = ("generator",) if config.ema else ()
        self._losses = HeadLosses(config.losses)

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the generator and the discriminator."""
        config = self.config
        nets: dict[str, keras.Model] = {
            "generator": PersonGenerator(config.generator, name="generator", dtype=precision),
            "discriminator": TalkingHeadDiscriminator(
                config.discriminator, name="discriminator", dtype=precision
            ),
        }
        for net in nets.values():
            net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return nets

    def prepare(self, precision: str) -> None:
        """Gets the networks of the content losses."""
        self._losses.prepare(precision)

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of one phase."""
        del seed, step, statistics
        condition, target = batch["condition"], batch["image"]
        fake = nets["generator"]({"condition": condition}, training=True)
        return self._losses.compute(phase, nets, condition, target, fake)

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """The drawing, the generated picture, the true one."""
        fake = nets["generator"]({"condition": batch["condition"]}, training=False)
        return [batch["condition"], fake, batch["image"]]

    def serving(self) -> Serving:
        """The generator, on drawings of any batch size, height and width."""
        return Serving(
            net="generator",
            inputs=(TensorSpec(name="condition", shape=(None, None, None, 3)),),
            outputs=(TensorSpec(name="image", shape=(None, None, None, 3)),),
            simplify=fold_spectral_norm,
            size_multiple=2**self.config.generator.num_downs,
        )


def start_from(nets: Nets, averages: Nets, meta: Nets, embedding: Any) -> None:
    """Gives the nets of a person their start from meta-learned ones (section 3.4).

    The generator's style is P e, and the discriminator's direction w_0 + e, where e is what the
    embedder finds in the person's pictures.

    Args:
        nets: ``generator`` and ``discriminator`` of this recipe.
        averages: Moving averages of some of them.
        meta: ``generator`` and ``discriminator`` of ``talking_head``, built alike.
        embedding: [embedding_size] float.
    """
    for group in (nets, averages):
        if "generator" in group:
            make_personal(group["generator"], meta["generator"], embedding)
    judge = nets["discriminator"]
    for target, source in zip(judge.variables, meta["discriminator"].variables, strict=True):
        target.assign(source)
    judge.direction.assign_add(ops.cast(embedding, "float32"))
