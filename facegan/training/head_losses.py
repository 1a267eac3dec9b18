"""What makes a talking head good, in meta-learning and in fine-tuning alike.

Reference: Zakharov et al., "Few-Shot Adversarial Learning of Realistic Neural Talking Head Models",
ICCV 2019, equations 3, 4 and 6. Differences: the pixel loss is an option that the paper does not
have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from keras import ops

from facegan.losses.adversarial import ADVERSARIAL
from facegan.losses.features import feature_matching_loss
from facegan.losses.reconstruction import l1_loss
from facegan.training.perceptual_term import content_term, face_term
from facegan.training.recipe import Nets, Phase, PhaseResult, require_weights

Update = Literal["alternating", "simultaneous"]
_MAKERS, _JUDGES = "generator", "discriminator"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeadLossConfig:
    """Weights of the losses; 0 leaves one out.

    ``content_weight`` counts each of five maps of VGG19, ``face_weight`` each of five of VGG-Face,
    ``feature_weight`` each map of the discriminator. ``perceptual_net`` names the weights of VGG19:
    "imagenet" (downloaded by Keras), "random" (a seeded stand-in) or a file; ``face_net`` those of
    VGG-Face: a file that ``tools/convert_weights.py`` made, or "random". The stand-ins' maps are a
    hundred times smaller than those of trained networks.
    """

    KIND: ClassVar[str] = "head_losses"

    content_weight: float = 1e-2
    face_weight: float = 2e-3
    feature_weight: float = 10.0
    adversarial_weight: float = 1.0
    l1_weight: float = 0.0
    perceptual_net: str = "imagenet"
    face_net: str = "random"

    def __post_init__(self) -> None:
        require_weights(self)


def head_phases(
    update: Update, discriminator_steps: int, makers: tuple[str, ...], judges: tuple[str, ...]
) -> tuple[Phase, ...]:
    """The phases of an iteration.

    Args:
        update: "alternating" begins with the makers, each update by its own forward pass;
            "simultaneous" takes the first two from one.
        discriminator_steps: Updates of the judges, at least 1.
        makers: Nets that paint.
        judges: Nets and tables that judge.
    """
    first = Phase(name=_MAKERS, updates={"G": makers})
    if update == "simultaneous":
        first = Phase(name="both", updates={"G": makers, "D": judges})
        discriminator_steps -= 1
    more = range(discriminator_steps)
    return (first, *(Phase(name=f"{_JUDGES}_{i}", updates={"D": judges}) for i in more))


class HeadLosses:
    """Computes the losses of generated heads.

    Args:
        config: Their weights.
    """

    def __init__(self, config: HeadLossConfig):
        self.config = config
        self._game = ADVERSARIAL["hinge"]
        self._nets = {}
        if config.content_weight:
            self._nets["content"] = content_term(config.perceptual_net)
        if config.face_weight:
            self._nets["face"] = face_term(config.face_net)

    def prepare(self, precision: str) -> None:
        """Gets VGG19 and VGG-Face.

        Raises:
            CheckpointError: Their weights cannot be had.
        """
        for term in self._nets.values():
            term.prepare(precision)

    def judge(
        self, nets: Nets, condition: Any, real: Any, fake: Any, rows: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The discriminator's verdicts on real and on generated pictures, by one pass.

        Args:
            nets: Have the ``discriminator``.
            condition: [B, H, W, 3], the drawings.
            real: [B, H, W, 3].
            fake: Likewise.
            rows: [B, E], the examples' videos; None for a discriminator of one person.
        """
        inputs = {"image": (real, fake), "condition": (condition, condition)}
        if rows is not None:
            inputs["embedding"] = (rows, rows)
        both = {name: ops.concatenate(pair, axis=0) for name, pair in inputs.items()}
        verdict = nets["discriminator"](both, training=True)
        count = ops.shape(real)[0]
        halves = []
        for part in (slice(None, count), slice(count, None)):
            features = [features[part] for features in verdict["features"]]
            halves.append({"logits": verdict["logits"][part], "features": features})
        return halves[0], halves[1]

    def compute(
        self, phase: str, nets: Nets, condition: Any, target: Any, fake: Any, rows: Any = None
    ) -> PhaseResult:
        """Losses of one of the phases of ``head_phases``; arguments as ``judge`` has them."""
        judges_only = phase.startswith(_JUDGES)
        if judges_only:
            fake = ops.stop_gradient(fake)
        real_out, fake_out = self.judge(nets, condition, target, fake, rows)
        losses: dict[str, Any] = {}
        terms: dict[str, Any] = {}
        if not judges_only:
            losses["G"], terms = self.generator(fake, target, real_out, fake_out)
        if phase != _MAKERS:
            losses["D"], more = self.discriminator(real_out, fake_out)
            terms |= more
        return PhaseResult(losses=losses, terms=terms)

    def generator(
        self, fake: Any, target: Any, real_out: Mapping[str, Any], fake_out: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Content, adversarial and feature losses of generated pictures, and their terms."""
        config = self.config
        terms = {"G/adv": self._game.generator(fake_out["logits"])}
        loss = config.adversarial_weight * terms["G/adv"]
        if config.feature_weight:
            real, made = real_out["features"], fake_out["features"]
            terms["G/feat"] = feature_matching_loss(real, made)
            # The loss averages over the maps, which the paper adds up.
            loss = loss + config.feature_weight * len(real) * terms["G/feat"]
        weights = {"content": config.content_weight, "face": config.face_weight}
        for name, term in self._nets.items():
            terms[f"G/{name}"] = term(fake, target)
            loss = loss + weights[name] * terms[f"G/{name}"]
        if config.l1_weight:
            terms["G/l1"] = l1_loss(fake, target)
            loss = loss + config.l1_weight * terms["G/l1"]
        return loss, terms

    def discriminator(
        self, real_out: Mapping[str, Any], fake_out: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The hinge loss (equation 6) and its terms."""
        loss = self._game.discriminator(real_out["logits"], fake_out["logits"])
        terms = {
            "D/adv": loss,
            "D/real": ops.mean(real_out["logits"]),
            "D/fake": ops.mean(fake_out["logits"]),
        }
        return loss, terms
