"""Training recipe of StarGAN v2: a picture of one domain in a style of another.

Reference: Choi et al., "StarGAN v2: Diverse Image Synthesis for Multiple Domains", CVPR 2020,
section 3 and appendix B. Differences: the weight of the diversity follows from the step alone, so
that a resumed run goes on with it. The presets enlarge every picture by up to 1.12 and show a part
of it; the authors do so with half of them, and change the ratio of the sides by a tenth.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.face.conditioning import LANDMARKS, SOURCE
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.losses.adversarial import bce_generator_loss
from facegan.losses.reconstruction import l1_loss
from facegan.models.configured import copy_net
from facegan.models.fan import FAN, load_fan
from facegan.models.stargan_translator import StarTranslator, find_details
from facegan.models.stargan_v2 import (
    MappingConfig,
    MappingNetwork,
    StarDiscriminator,
    StarDiscriminatorConfig,
    StarGenerator,
    StarGeneratorConfig,
    StarStyleEncoder,
    StarStyleEncoderConfig,
)
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig
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

_ADAM = AdamConfig(learning_rate=1e-4, beta_1=0.0, beta_2=0.99, weight_decay=1e-4)
_MAPPING_ADAM = dataclasses.replace(_ADAM, learning_rate=1e-6)
_LATENT, _REFERENCE = "latent", "reference"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StarganV2RecipeConfig:
    """What is trained, and by which losses.

    ``diversity_weight`` falls in a straight line to 0 at step ``diversity_steps``. With a
    ``high_pass`` of the generator, the details that are kept lie along the landmarks of the
    dataset's records; ``fan`` names a file with weights of the network that finds them instead.
    ``optimizer`` is that of all nets but the mapping network.
    """

    generator: StarGeneratorConfig = StarGeneratorConfig()
    mapping: MappingConfig = MappingConfig()
    style_encoder: StarStyleEncoderConfig = StarStyleEncoderConfig()
    discriminator: StarDiscriminatorConfig = StarDiscriminatorConfig()
    fan: str | None = None
    r1_weight: float = 1.0
    style_weight: float = 1.0
    diversity_weight: float = 1.0
    diversity_steps: int = 100_000
    cycle_weight: float = 1.0
    optimizer: AdamConfig = _ADAM
    mapping_optimizer: AdamConfig = _MAPPING_ADAM
    ema: EmaConfig | None = EmaConfig(decay=0.999, ramp=False)

    def __post_init__(self) -> None:
        require_weights(self)
        if self.diversity_steps < 1:
            raise ConfigError(
                f"recipe.diversity_steps must be at least 1, got {self.diversity_steps}."
            )
        _require_equal(self, "style_size", "generator", "mapping", "style_encoder")
        _require_equal(self, "image_size", "generator", "style_encoder", "discriminator")
        _require_equal(self, "num_domains", "mapping", "style_encoder", "discriminator")

    @property
    def needs_landmarks(self) -> bool:
        """Whether examples, and what is repainted later, come with landmarks."""
        return self.generator.high_pass > 0 and self.fan is None


def _require_equal(config: StarganV2RecipeConfig, field: str, *nets: str) -> None:
    values = {net: getattr(getattr(config, net), field) for net in nets}
    if len(set(values.values())) > 1:
        told = ", ".join(f"{net}: {value}" for net, value in values.items())
        raise ConfigError(f"recipe: {field} must be the same for all nets, got {told}.")


CONFIG = StarganV2RecipeConfig


class Recipe:
    """Losses and updates of StarGAN v2; see ``facegan.training.recipe.Recipe``.

    The batch holds threes of pictures, one behind the other: a source of any domain, and two
    references of one other or the same. ``image`` is [3 B, H, W, 3] in [-1, 1], ``domain`` [3 B];
    for a generator with the high-pass skip and no ``fan``, ``landmarks_xy_px`` is [3 B, 68, 2].
    """

    stem = "stargan_v2"
    group = 3
    statistics: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}

    def __init__(self, config: StarganV2RecipeConfig):
        self.config = config
        styled = ("generator", "mapping", "style_encoder")
        self.phases = (
            Phase(name=f"discriminator_{_LATENT}", updates={"D": ("discriminator",)}),
            Phase(name=f"discriminator_{_REFERENCE}", updates={"D": ("discriminator",)}),
            Phase(name=f"generator_{_LATENT}", updates={"G": styled}),
            Phase(name=f"generator_{_REFERENCE}", updates={"G": ("generator",)}),
        )
        self.optimizers = {
            "generator": config.optimizer,
            "mapping": config.mapping_optimizer,
            "style_encoder": config.optimizer,
            "discriminator": config.optimizer,
        }
        self.ema = config.ema
        self.ema_nets = styled if config.ema else ()
        self._fan: FAN | None = None

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the four nets."""
        config, made = self.config, {"dtype": precision}
        nets: dict[str, keras.Model] = {
            "generator": StarGenerator(config.generator, name="generator", **made),
            "mapping": MappingNetwork(config.mapping, name="mapping", **made),
            "style_encoder": StarStyleEncoder(config.style_encoder, name="style_encoder", **made),
            "discriminator": StarDiscriminator(config.discriminator, name="discriminator", **made),
        }
        for net in nets.values():
            net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return nets

    def prepare(self, precision: str) -> None:
        """Gets the network that finds landmarks, if one is named."""
        if self.config.fan is not None and self.config.generator.high_pass:
            self._fan = load_fan(self.config.fan, dtype=precision)

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of one phase."""
        del statistics
        source, of_source = batch["image"][::3], batch["domain"][::3]
        target = batch["domain"][1::3]
        by = phase.rpartition("_")[2]

        def style(number: int) -> Any:
            """The style of the target domain that is asked for, or another one."""
            if by == _REFERENCE:
                reference = batch["image"][1 + number :: 3]
                return nets["style_encoder"]({"image": reference, "domain": target}, training=True)
            return self._draw_style(nets, target, fold_in(seed, number))

        landmarks = batch[LANDMARKS][::3] if LANDMARKS in batch else None
        details = self._find_details(nets, source, landmarks)
        if phase.startswith("discriminator"):
            fake = self._paint(nets, source, style(0), details)
            judged = (source, of_source), (ops.stop_gradient(fake), target)
            return self._judge(nets, *judged, by)
        return self._paint_well(nets, source, of_source, target, style, details, step, by)

    def _draw_style(self, nets: Nets, domain: Any, seed: Any) -> Any:
        shape = (ops.shape(domain)[0], self.config.mapping.latent_size)
        latent = keras.random.normal(shape, seed=GivenSeed(seed))
        return nets["mapping"]({"latent": latent, "domain": domain}, training=True)

    def _find_details(self, nets: Nets, image: Any, landmarks: Any) -> dict[str, Any]:
        details = find_details(nets["generator"], image, landmarks, self._fan)
        return {name: ops.stop_gradient(mask) for name, mask in details.items()}

    def _paint(self, nets: Nets, image: Any, style: Any, details: Mapping[str, Any]) -> Any:
        return nets["generator"]({"image": image, "style": style, **details}, training=True)

    def _judge(
        self, nets: Nets, real: tuple[Any, Any], fake: tuple[Any, Any], by: str
    ) -> PhaseResult:
        def judge(image: Any, domain: Any) -> Any:
            return nets["discriminator"]({"image": image, "domain": domain}, training=True)[
                "logits"
            ]

        image, domain = real
        if self.config.r1_weight:
            logits, penalty = r1_penalty(lambda x: judge(x, domain), image)
        else:
            logits, penalty = judge(image, domain), 0.0
        fake_logits = judge(*fake)
        # The cross-entropy of a fake as fake is that of its negative logit as real.
        terms = {
            f"D/{by}/real": bce_generator_loss(logits),
            f"D/{by}/fake": bce_generator_loss(-fake_logits),
        }
        loss = sum(terms.values())
        if self.config.r1_weight:
            terms[f"D/{by}/r1"] = penalty
            loss = loss + self.config.r1_weight * penalty
        return PhaseResult(losses={"D": loss}, terms=terms)

    def _paint_well(
        self,
        nets: Nets,
        source: Any,
        of_source: Any,
        target: Any,
        style: Any,
        details: Mapping[str, Any],
        step: Any,
        by: str,
    ) -> PhaseResult:
        config, wanted = self.config, style(0)
        fake = self._paint(nets, source, wanted, details)
        verdict = nets["discriminator"]({"image": fake, "domain": target}, training=True)
        terms = {f"G/{by}/adv": bce_generator_loss(verdict["logits"])}
        loss = terms[f"G/{by}/adv"]
        if config.style_weight:
            found = nets["style_encoder"]({"image": fake, "domain": target}, training=True)
            terms[f"G/{by}/style"] = l1_loss(found, wanted)
            loss = loss + config.style_weight * terms[f"G/{by}/style"]
        if config.diversity_weight:
            other = ops.stop_gradient(self._paint(nets, source, style(1), details))
            terms[f"G/{by}/diversity"] = l1_loss(fake, other)
            loss = loss - self.diversity_weight(step) * terms[f"G/{by}/diversity"]
        if config.cycle_weight:
            own = nets["style_encoder"]({"image": source, "domain": of_source}, training=True)
            if self._fan is not None:  # else a face keeps its pose, and its details their places
                details = self._find_details(nets, fake, None)
            again = self._paint(nets, fake, own, details)
            terms[f"G/{by}/cycle"] = l1_loss(again, source)
            loss = loss + config.cycle_weight * terms[f"G/{by}/cycle"]
        return PhaseResult(losses={"G": loss}, terms=terms)

    def diversity_weight(self, step: Any) -> Any:
        """The weight of the diversity at a step, float32."""
        done = ops.cast(step, "float32") / self.config.diversity_steps
        return self.config.diversity_weight * ops.maximum(1.0 - done, 0.0)

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """Pictures; the next ones; in their style; and in a drawn one of each domain."""
        image, domain = (ops.convert_to_tensor(batch[name]) for name in ("image", "domain"))
        landmarks = batch.get(LANDMARKS)
        reference, of_reference = ops.roll(image, -1, axis=0), ops.roll(domain, -1, axis=0)
        inputs = {"image": reference, "domain": of_reference}
        styles = [nets["style_encoder"](inputs, training=False)]
        for number in range(self.config.mapping.num_domains):
            seed = fold_in(ops.convert_to_tensor([0, 0], "int32"), number)
            styles.append(self._draw_style(nets, ops.full_like(domain, number), seed))
        details = self._find_details(nets, image, landmarks)
        painted = [self._paint(nets, image, style, details) for style in styles]
        return [image, reference, *painted]

    def serving(self) -> Serving:
        """The generator on pictures and styles, and what makes styles of references and noise."""
        config = self.config
        size, width = config.generator.image_size, config.generator.style_size
        # Which details are kept is found at one size; a style is of pictures of one size, too.
        side = size if config.generator.high_pass else None
        made, source = (
            TensorSpec(name=name, shape=(None, side, side, 3)) for name in ("image", SOURCE)
        )
        picture = TensorSpec(name="image", shape=(None, size, size, 3))
        style = TensorSpec(name="style", shape=(None, width), value_range=None)
        last = config.mapping.num_domains - 1
        domain = TensorSpec(
            name="domain", shape=(None,), dtype="int32", value_range=(0.0, float(last))
        )
        latent = TensorSpec(
            name="latent", shape=(None, config.mapping.latent_size), value_range=None
        )
        inputs: tuple[TensorSpec, ...] = (source, style)
        if config.needs_landmarks:
            inputs += (
                TensorSpec(name=LANDMARKS, shape=(None, 68, 2), value_range=(0.0, float(size))),
            )
        return Serving(
            net="generator",
            with_nets=("mapping", "style_encoder"),
            inputs=inputs,
            outputs=(made,),
            simplify=functools.partial(make_translator, fan=config.fan),
            size_multiple=2 ** (len(config.generator.widths) - 1),
            methods={
                "encode_style": ServedMethod(inputs=(picture, domain), outputs=(style,)),
                "map_style": ServedMethod(inputs=(latent, domain), outputs=(style,)),
            },
        )


def make_translator(
    generator: StarGenerator,
    mapping: MappingNetwork,
    style_encoder: StarStyleEncoder,
    *,
    dtype: str,
    fan: str | None = None,
) -> StarTranslator:
    """Makes what is served.

    Args:
        generator: A built one; computes in ``dtype``.
        mapping: A built one; runs once for a style, in float32.
        style_encoder: Likewise.
        dtype: Type in which the generator computes and keeps its weights.
        fan: File of the network that finds the details to keep, where there is one.
    """
    finder = load_fan(fan) if fan is not None and generator.config.high_pass else None
    return StarTranslator(copy_net(generator, dtype), mapping, style_encoder, finder)
