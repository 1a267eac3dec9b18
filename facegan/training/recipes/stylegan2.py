"""Training recipe of StyleGAN2: faces of noise, also of few pictures.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; the
augmentation and the automatic settings are those of Karras et al., "Training Generative Adversarial
Networks with Limited Data", NeurIPS 2020. Differences: each picture has a crossover of its own when
styles are mixed; the moving mean of the path length is a target that gets no gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.losses.adversarial import bce_generator_loss
from facegan.models.configured import copy_net
from facegan.models.style_sampler import StyleSampler, scale_widths
from facegan.models.stylegan2 import (
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Synthesis,
    StyleGAN2SynthesisConfig,
    StyleMapping,
    StyleMappingConfig,
    mix_w,
    repeat_w,
)
from facegan.training.ada import (
    AdaConfig,
    adjusted_probability,
    augment_pictures,
    mean_sign_so_far,
)
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig, lazy_adam
from facegan.training.path_length import path_length_penalty
from facegan.training.r1 import r1_penalty
from facegan.training.recipe import (
    Batch,
    Nets,
    Phase,
    PhaseResult,
    ServedMethod,
    Serving,
    require_weights,
)

_ADAM = AdamConfig(learning_rate=0.002, beta_1=0.0, beta_2=0.99)
# Names of statistics.
_PROBABILITY, _SIGN, _LENGTH = "ada_probability", "ada_sign", "path_length"
# The style of the preview's last columns lies so far from the mean one.
_TRUNCATION = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StyleGAN2RecipeConfig:
    """What is trained, and by which losses; the defaults are the paper's for 1024 px.

    ``r1_weight`` is the paper's gamma. The two regularizers run at every ``r1_every``-th and
    ``path_every``-th step, and weigh so many times more; a weight of 0 leaves them out.
    ``path_shrink`` is how many times smaller their batch is. ``style_mixing`` is the share of
    pictures with styles of two latents. ``augment`` None shows the discriminator pictures as they
    are.
    """

    generator: StyleGAN2SynthesisConfig = StyleGAN2SynthesisConfig()
    mapping: StyleMappingConfig = StyleMappingConfig()
    discriminator: StyleGAN2DiscriminatorConfig = StyleGAN2DiscriminatorConfig()
    r1_weight: float = 10.0
    r1_every: int = 16
    path_weight: float = 2.0
    path_every: int = 4
    path_decay: float = 0.01
    path_shrink: int = 2
    style_mixing: float = 0.9
    augment: AdaConfig | None = AdaConfig()
    optimizer: AdamConfig = _ADAM
    ema: EmaConfig | None = EmaConfig(decay=0.5 ** (32 / 10_000), ramp=False)

    def __post_init__(self) -> None:
        require_weights(self)
        for name in ("r1_every", "path_every", "path_shrink"):
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("style_mixing", "path_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"recipe.{name} must be in [0, 1], got {getattr(self, name)}.")
        for field, nets in (
            ("style_size", ("generator", "mapping")),
            ("image_size", ("generator", "discriminator")),
        ):
            values = [getattr(getattr(self, net), field) for net in nets]
            if values[0] != values[1]:
                raise ConfigError(
                    f"recipe: {field} must be the same for {nets[0]} and {nets[1]}, got "
                    f"{values[0]} and {values[1]}."
                )


CONFIG = StyleGAN2RecipeConfig


def automatic(image_size: int, batch_size: int) -> StyleGAN2RecipeConfig:
    """Settings that follow from the pictures' size and the batch, the authors' "auto".

    Args:
        image_size: Height and width in px.
        batch_size: Pictures of a step, over all devices.
    """
    half = image_size < 512
    shared = {"image_size": image_size, "base_width": 16_384 if half else 32_768}
    return StyleGAN2RecipeConfig(
        generator=StyleGAN2SynthesisConfig(**shared),
        mapping=StyleMappingConfig(num_layers=2),
        discriminator=StyleGAN2DiscriminatorConfig(
            **shared, group_size=next(n for n in (4, 3, 2, 1) if batch_size % n == 0)
        ),
        r1_weight=0.0002 * image_size**2 / batch_size,
        augment=AdaConfig(rise_steps=max(500_000 // batch_size, 1)),
        optimizer=dataclasses.replace(_ADAM, learning_rate=0.002 if image_size >= 1024 else 0.0025),
        # A half-life of 10,000 pictures in batches of 32, and in larger ones of as many steps.
        ema=EmaConfig(decay=0.5 ** (32 / 10_000), ramp=False, ramp_share=0.05),
    )


class Recipe:
    """Losses and updates of StyleGAN2; see ``facegan.training.recipe.Recipe``.

    The batch is {"image": [B, H, W, 3] in [-1, 1]}.
    """

    stem = "stylegan2"
    group = 1
    tables: Mapping[str, Any] = {}

    def __init__(self, config: StyleGAN2RecipeConfig):
        self.config = config
        styled = ("generator", "mapping")
        phases = [
            Phase(name="generator", updates={"G": styled}),
            Phase(name="path", updates={"path": styled}, every=config.path_every),
            Phase(name="discriminator", updates={"D": ("discriminator",)}),
            Phase(name="r1", updates={"r1": ("discriminator",)}, every=config.r1_every),
        ]
        used = {"path": config.path_weight > 0, "r1": config.r1_weight > 0}
        self.phases = tuple(phase for phase in phases if used.get(phase.name, True))
        generator = discriminator = config.optimizer
        if used["path"]:
            generator = lazy_adam(generator, config.path_every)
        if used["r1"]:
            discriminator = lazy_adam(discriminator, config.r1_every)
        self.optimizers = {
            "generator": generator,
            "mapping": generator,
            "discriminator": discriminator,
        }
        self.ema = config.ema
        self.ema_nets = styled if config.ema else ()
        self.statistics: Mapping[str, Any] = {_LENGTH: 0.0} if used["path"] else {}
        if config.augment is not None:
            self.statistics = {**self.statistics, _PROBABILITY: config.augment.start, _SIGN: 0.0}

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the three nets."""
        config, made = self.config, {"dtype": precision}
        nets: dict[str, keras.Model] = {
            "generator": StyleGAN2Synthesis(config.generator, name="generator", **made),
            # All layers follow the styles, which 16 bits would change by some percent.
            "mapping": StyleMapping(config.mapping, name="mapping", dtype="float32"),
            "discriminator": StyleGAN2Discriminator(
                config.discriminator, name="discriminator", **made
            ),
        }
        for net in nets.values():
            net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return nets

    def prepare(self, precision: str) -> None:
        """Nothing beside the nets is needed."""

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of one phase."""
        if phase == "generator":
            return self._paint_well(nets, batch, seed, statistics)
        if phase == "path":
            return self._even_out(nets, batch, seed, statistics)
        if phase == "r1":
            return self._flatten(nets, batch, seed, statistics)
        return self._judge(nets, batch, seed, step, statistics)

    def _paint_well(self, nets: Nets, batch: Batch, seed: Any, statistics: Batch) -> PhaseResult:
        image = self._paint(nets, self._draw_w(nets, ops.shape(batch["image"])[0], seed), seed)
        adversarial = bce_generator_loss(self._logits(nets, image, fold_in(seed, 4), statistics))
        return PhaseResult(losses={"G": adversarial}, terms={"G/adv": adversarial})

    def _even_out(self, nets: Nets, batch: Batch, seed: Any, statistics: Batch) -> PhaseResult:
        config = self.config
        count = ops.maximum(ops.shape(batch["image"])[0] // config.path_shrink, 1)
        penalty, mean = path_length_penalty(
            lambda w: self._paint(nets, w, seed),
            self._draw_w(nets, count, seed),
            statistics[_LENGTH],
            fold_in(seed, 4),
            decay=config.path_decay,
        )
        loss = config.path_weight * config.path_every * penalty
        terms = {"G/path": penalty, "G/path_length": mean}
        return PhaseResult(losses={"path": loss}, terms=terms, statistics={_LENGTH: mean})

    def _judge(
        self, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        found: dict[str, Any] = {}
        augment, real = self.config.augment, batch["image"]
        if augment is not None:
            probability = adjusted_probability(
                augment, statistics[_PROBABILITY], statistics[_SIGN], step
            )
            found[_PROBABILITY] = probability
            statistics = {**statistics, _PROBABILITY: probability}
        fake = self._paint(nets, self._draw_w(nets, ops.shape(real)[0], seed), seed)
        fake_logits = self._logits(nets, ops.stop_gradient(fake), fold_in(seed, 4), statistics)
        logits = self._logits(nets, real, fold_in(seed, 5), statistics)
        # The cross-entropy of a fake as fake is that of its negative logit as real.
        terms = {"D/real": bce_generator_loss(logits), "D/fake": bce_generator_loss(-fake_logits)}
        loss = terms["D/real"] + terms["D/fake"]
        if augment is not None:
            sign = ops.mean(ops.sign(logits))
            found[_SIGN] = mean_sign_so_far(augment, statistics[_SIGN], sign, step)
            terms |= {"D/sign": sign, "D/ada": found[_PROBABILITY]}
        return PhaseResult(losses={"D": loss}, terms=terms, statistics=found)

    def _flatten(self, nets: Nets, batch: Batch, seed: Any, statistics: Batch) -> PhaseResult:
        config = self.config
        _, penalty = r1_penalty(
            lambda image: self._logits(nets, image, fold_in(seed, 5), statistics), batch["image"]
        )
        loss = config.r1_weight * config.r1_every * penalty
        return PhaseResult(losses={"r1": loss}, terms={"D/r1": penalty})

    def _draw_w(self, nets: Nets, count: Any, seed: Any) -> Any:
        """Styles [count, num_styles, style_size], of one latent each or of two."""
        config, num_styles = self.config, self.config.generator.num_styles
        shape = (count, config.mapping.latent_size)

        def draw(number: int) -> Any:
            return {"latent": keras.random.normal(shape, seed=GivenSeed(fold_in(seed, number)))}

        w = repeat_w(nets["mapping"](draw(0), training=True), num_styles)
        if not config.style_mixing:
            return w
        # Without training: the mean style is that of the first latents.
        other = repeat_w(nets["mapping"](draw(1)), num_styles)
        mixed = keras.random.uniform((count,), seed=GivenSeed(fold_in(seed, 2)))
        start = keras.random.uniform((count,), seed=GivenSeed(fold_in(seed, 3)))
        # From 1 on, so that the first latent always has a share.
        crossover = 1 + ops.cast(start * (num_styles - 1), "int32")
        return mix_w(w, other, ops.where(mixed < config.style_mixing, crossover, num_styles))

    def _paint(self, nets: Nets, w: Any, seed: Any) -> Any:
        return nets["generator"]({"w": w}, training=True, seed=fold_in(seed, 6))

    def _logits(self, nets: Nets, image: Any, seed: Any, statistics: Batch) -> Any:
        if self.config.augment is not None:
            image = augment_pictures(self.config.augment, image, statistics[_PROBABILITY], seed)
        return nets["discriminator"]({"image": image}, training=True)["logits"]

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """Pictures that are learnt from; drawn ones; and some whose styles are nearer the mean."""
        image = ops.convert_to_tensor(batch["image"])
        shape = (ops.shape(image)[0], self.config.mapping.latent_size)
        columns = [image]
        for number, truncation in enumerate((1.0,) * 4 + (_TRUNCATION,) * 3):
            seed = fold_in(ops.convert_to_tensor([0, 0], "int32"), number)
            latent = keras.random.normal(shape, seed=GivenSeed(seed))
            w = nets["mapping"]({"latent": latent}, truncation=truncation)
            w = repeat_w(w, self.config.generator.num_styles)
            columns.append(nets["generator"]({"w": w}))
        return columns

    def serving(self) -> Serving:
        """The synthesis net on styles, and what finds, changes and measures styles."""
        config = self.config.generator
        size, cluster = config.image_size, min(32, config.image_size)

        def spec(name: str, *shape: int | None) -> TensorSpec:
            return TensorSpec(name=name, shape=(None, *shape), value_range=None)

        w = spec("w", config.num_styles, config.style_size)
        image = TensorSpec(name="image", shape=(None, size, size, 3))
        latent = spec("latent", self.config.mapping.latent_size)
        truncation = TensorSpec(name="truncation", shape=(None,), value_range=(0.0, 1.0))
        features = spec("features", cluster, cluster, config.width_at(cluster))
        membership = TensorSpec(
            name="membership", shape=(None, cluster, cluster, None), value_range=(0.0, 1.0)
        )
        widths = scale_widths(StyleGAN2Synthesis(config))
        scales = tuple(spec(name, width) for name, width in widths.items())
        moments = tuple(spec(name, 2, None, width) for name, width in widths.items())
        return Serving(
            net="generator",
            with_nets=("mapping",),
            inputs=(w,),
            outputs=(image,),
            simplify=make_sampler,
            fast_paths=True,
            methods={
                "map_style": ServedMethod(inputs=(latent, truncation), outputs=(w,)),
                "find_scales": ServedMethod(inputs=(w,), outputs=scales),
                "paint_scales": ServedMethod(inputs=scales, outputs=(image,)),
                "trace_features": ServedMethod(inputs=(w,), outputs=(features,)),
                "weigh_channels": ServedMethod(inputs=(w, membership), outputs=moments),
            },
        )


def make_sampler(
    generator: StyleGAN2Synthesis, mapping: StyleMapping, *, dtype: str
) -> StyleSampler:
    """Makes what is served.

    Args:
        generator: A built one; computes in ``dtype``.
        mapping: A built one; runs once for a style, in float32.
        dtype: Type in which the synthesis net computes and keeps its weights.
    """
    return StyleSampler(copy_net(generator, dtype), mapping)
