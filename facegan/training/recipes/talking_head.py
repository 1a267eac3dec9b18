"""Meta-learning of talking heads: to paint anybody after a few pictures.

Reference: Zakharov et al., "Few-Shot Adversarial Learning of Realistic Neural Talking Head Models",
ICCV 2019, section 3.3. The feed-forward variant of the paper is trained without the match of
embeddings, ``match_weight`` 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.losses.reconstruction import l1_loss
from facegan.models.talking_head import (
    Embedder,
    EmbedderConfig,
    TalkingHeadConfig,
    TalkingHeadDiscriminator,
    TalkingHeadDiscriminatorConfig,
    TalkingHeadGenerator,
    fold_embedded,
)
from facegan.training.ema import EmaConfig
from facegan.training.head_losses import HeadLossConfig, HeadLosses, Update, head_phases
from facegan.training.optimizers import AdamConfig
from facegan.training.recipe import Batch, Nets, PhaseResult, ServedMethod, Serving
from facegan.training.row_table import RowTableSpec

# The table of the videos' rows W in the discriminator's score.
ROWS = "video_rows"
GENERATOR_ADAM = AdamConfig(learning_rate=5e-5, beta_1=0.0, beta_2=0.999)
DISCRIMINATOR_ADAM = AdamConfig(learning_rate=2e-4, beta_1=0.0, beta_2=0.999)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TalkingHeadRecipeConfig:
    """What is trained, and by which losses.

    ``num_videos`` is the number of videos that the discriminator tells apart; null takes that of
    the dataset. ``match_weight`` draws what the embedder finds towards the discriminator's rows
    (equation 7 of the paper). Each iteration updates the discriminator ``discriminator_steps``
    times. ``update`` "alternating" begins with the generator, each update by its own forward pass;
    "simultaneous" takes the first two from one.

    Fine-tuning on a person takes ``finetune_epochs`` epochs of the pictures (section 4.1 of the
    paper: 40), and at least ``finetune_min_steps`` updates.
    """

    embedder: EmbedderConfig = EmbedderConfig()
    generator: TalkingHeadConfig = TalkingHeadConfig()
    discriminator: TalkingHeadDiscriminatorConfig = TalkingHeadDiscriminatorConfig()
    num_videos: int | None = None
    losses: HeadLossConfig = HeadLossConfig()
    match_weight: float = 80.0
    discriminator_steps: int = 2
    update: Update = "alternating"
    generator_optimizer: AdamConfig = GENERATOR_ADAM
    discriminator_optimizer: AdamConfig = DISCRIMINATOR_ADAM
    ema: EmaConfig | None = None
    finetune_epochs: int = 40
    finetune_min_steps: int = 1

    def __post_init__(self) -> None:
        if self.match_weight < 0:
            raise ConfigError(f"recipe.match_weight must be >= 0, got {self.match_weight}.")
        for name in ("discriminator_steps", "finetune_epochs", "finetune_min_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name} must be at least 1, got {getattr(self, name)}.")
        if self.num_videos is not None and self.num_videos < 1:
            raise ConfigError(f"recipe.num_videos must be at least 1, got {self.num_videos}.")
        sizes = {
            "embedder": self.embedder.embedding_size,
            "generator": self.generator.embedding_size,
            "discriminator": self.discriminator.embedding_size,
        }
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            raise ConfigError(
                f"recipe: the embeddings must be of one size, got {told}. The embedder's and the "
                "discriminator's is 8 times their base_width."
            )


CONFIG = TalkingHeadRecipeConfig


class Recipe:
    """Losses and updates of meta-learning; see ``facegan.training.recipe.Recipe``.

    The batch holds ``images`` and ``conditions``, [B, K, H, W, 3], pictures of one video and the
    drawings of their landmarks; ``target`` and ``target_condition``, [B, H, W, 3], another picture
    of it, all in [-1, 1]; and ``video_index``, [B], which video it is.
    """

    stem = "talking_head"
    group = 1
    statistics: Mapping[str, Any] = {}

    def __init__(self, config: TalkingHeadRecipeConfig):
        self.config = config
        makers, judges = ("embedder", "generator"), ("discriminator", ROWS)
        self.phases = head_phases(config.update, config.discriminator_steps, makers, judges)
        self.optimizers = {
            **dict.fromkeys(makers, config.generator_optimizer),
            "discriminator": config.discriminator_optimizer,
        }
        self.ema = config.ema
        self.ema_nets = makers if config.ema else ()
        self.tables = {
            ROWS: RowTableSpec(
                rows=config.num_videos or 1,
                width=config.discriminator.embedding_size,
                index="video_index",
                optimizer=config.discriminator_optimizer,
            )
        }
        self._losses = HeadLosses(config.losses)

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the embedder, the generator and the discriminator."""
        config = self.config
        nets: dict[str, keras.Model] = {
            "embedder": Embedder(config.embedder, name="embedder", dtype=precision),
            "generator": TalkingHeadGenerator(config.generator, name="generator", dtype=precision),
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
        shots = {name: batch[name] for name in ("images", "conditions")}
        embedding = nets["embedder"](shots, training=True)
        condition, target, rows = batch["target_condition"], batch["target"], batch[ROWS]
        fake = nets["generator"]({"condition": condition, "embedding": embedding}, training=True)
        result = self._losses.compute(phase, nets, condition, target, fake, rows)
        if "G" not in result.losses or not self.config.match_weight:
            return result
        match = l1_loss(embedding, ops.stop_gradient(rows))
        painted = result.losses["G"] + self.config.match_weight * match
        return PhaseResult(
            losses={**result.losses, "G": painted}, terms={**result.terms, "G/match": match}
        )

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """One of the known pictures, the drawing, the generated picture, the true one."""
        shots = {name: batch[name] for name in ("images", "conditions")}
        embedding = nets["embedder"](shots, training=False)
        condition = batch["target_condition"]
        fake = nets["generator"]({"condition": condition, "embedding": embedding}, training=False)
        return [batch["images"][:, 0], condition, fake, batch["target"]]

    def serving(self) -> Serving:
        """The generator, on drawings and embeddings, and ``embed``, which makes the latter."""
        width = self.config.generator.embedding_size
        embedding = TensorSpec(name="embedding", shape=(None, width), value_range=None)
        pictures = (None, None, self.config.embedder.image_size, self.config.embedder.image_size, 3)
        return Serving(
            net="generator",
            inputs=(TensorSpec(name="condition", shape=(None, None, None, 3)), embedding),
            outputs=(TensorSpec(name="image", shape=(None, None, None, 3)),),
            simplify=fold_embedded,
            size_multiple=2**self.config.generator.num_downs,
            with_nets=("embedder",),
            methods={
                "embed": ServedMethod(
                    inputs=(
                        TensorSpec(name="images", shape=pictures),
                        TensorSpec(name="conditions", shape=pictures),
                    ),
                    outputs=(embedding,),
                )
            },
        )
