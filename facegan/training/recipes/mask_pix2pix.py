"""Training recipe of faces from segmentation maps: reconstructed, and painted by another's map.

The generator paints each face from its own map and, with its colours and identity kept, from that
of its neighbour in the batch, which is shuffled. A discriminator of patches sees masks and picture;
one of colour maps also reads the map off a picture, and the generator is to be read correctly.

The losses are those of a public system for CelebAMask-HQ, whose pictures go from 0 to 1. A pixel
loss from -1 to 1 is twice as large: the system's weight of 100 is 50 here, and its bounds of a
change, 0.08 and 0.04, are 0.16 and 0.08.

Reference: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, equations 1 to 4, for the terms of a reconstruction.
Differences from the system: a picture whose map is read is shown to the discriminator beside a
blank map, because from the map itself it would learn to copy; the overlap of two maps is where they
show the same groups or none; the identity term is an option that the system does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.layers.randomness import fold_in
from facegan.losses.adversarial import bce_generator_loss
from facegan.losses.manipulation import change_loss, find_overlap, overlap_loss
from facegan.losses.reconstruction import l1_loss
from facegan.models.mask_pix2pix import (
    ColourDiscriminator,
    ColourDiscriminatorConfig,
    MaskGenerator,
    MaskGeneratorConfig,
    colour_map,
    split_groups,
)
from facegan.models.pix2pix import PatchDiscriminator, PatchDiscriminatorConfig, fold_batch_norm
from facegan.training.ema import EmaConfig
from facegan.training.identity_term import IdentityTerm
from facegan.training.optimizers import AdamConfig
from facegan.training.recipe import Batch, Nets, Phase, PhaseResult, Serving, require_weights

_PATCHES = PatchDiscriminatorConfig(condition_channels=7, first_bias=False)
# Weights of what the picture of another's map is judged by.
_OF_MANIPULATION = ("overlap_weight", "change_weight")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaskPix2PixConfig:
    """What is trained, and by which losses.

    ``manipulate`` paints every face by another's map, too; without it faces are reconstructed only,
    and ``overlap_weight`` and ``change_weight`` must be 0. ``map_weight`` is that of the colour map
    that a ``colour`` discriminator reads, and must be 0 with one of patches. Weights of 0 leave a
    term out. ``face_net`` names the weights of VGG-Face for the identity term: a file made with
    ``tools/convert_weights.py --from vgg_face``, or "random" (a seeded stand-in).
    """

    generator: MaskGeneratorConfig = MaskGeneratorConfig()
    discriminator: PatchDiscriminatorConfig | ColourDiscriminatorConfig = _PATCHES
    manipulate: bool = True
    adversarial_weight: float = 1.0
    discriminator_weight: float = 1.0
    l1_weight: float = 50.0
    overlap_weight: float = 50.0
    change_weight: float = 50.0
    map_weight: float = 0.0
    identity_weight: float = 0.0
    face_net: str = "random"
    generator_optimizer: AdamConfig = AdamConfig()
    discriminator_optimizer: AdamConfig = AdamConfig()
    ema: EmaConfig | None = None

    def __post_init__(self) -> None:
        require_weights(self)
        if not self.manipulate:
            for name in _OF_MANIPULATION:
                if getattr(self, name):
                    raise ConfigError(
                        f"recipe.{name} must be 0 without recipe.manipulate, got "
                        f"{getattr(self, name)}: it is for pictures of another's map."
                    )
        if isinstance(self.discriminator, PatchDiscriminatorConfig):
            self._check_patches(self.discriminator)
        if self.discriminator.image_size != self.generator.image_size:
            raise ConfigError(
                "recipe: image_size must be the same for both nets, got "
                f"{self.generator.image_size} and {self.discriminator.image_size}."
            )

    def _check_patches(self, discriminator: PatchDiscriminatorConfig) -> None:
        if self.map_weight:
            raise ConfigError(
                f"recipe.map_weight must be 0 with a discriminator of the kind "
                f"{discriminator.KIND!r}, got {self.map_weight}: it reads no colour map. Take one "
                f"of the kind {ColourDiscriminatorConfig.KIND!r}."
            )
        if discriminator.condition_channels != self.generator.num_groups:
            raise ConfigError(
                "recipe.discriminator.condition_channels must be the number of groups, "
                f"{self.generator.num_groups}, got {discriminator.condition_channels}."
            )


CONFIG = MaskPix2PixConfig


class Recipe:
    """Losses and updates of mask_pix2pix; see ``facegan.training.recipe.Recipe``.

    The batch holds ``image`` [B, H, W, 3] in [-1, 1], ``label_map`` [B, H, W] ids with 0 for
    background, ``colours`` [B, num_groups, 3] in [-1, 1], and ``identity`` [B, identity_size] for a
    generator that is told one. Both nets are updated by the gradients of one forward pass.
    """

    stem = "mask_pix2pix"
    statistics: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}

    def __init__(self, config: MaskPix2PixConfig):
        self.config = config
        # Neighbours lend each other their maps.
        self.group = 2 if config.manipulate else 1
        self.phases = (Phase(name="both", updates={"G": ("generator",), "D": ("discriminator",)}),)
        self.optimizers = {
            "generator": config.generator_optimizer,
            "discriminator": config.discriminator_optimizer,
        }
        self.ema = config.ema
        self.ema_nets = ("generator",) if config.ema else ()
        # What a face keeps in another's layout.
        self._kept = ("colours", "identity") if config.generator.identity_size else ("colours",)
        self._identity = IdentityTerm(config.face_net) if config.identity_weight else None

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds the generator and the discriminator."""
        config, made = self.config, {"name": "discriminator", "dtype": precision}
        nets: dict[str, keras.Model] = {
            "generator": MaskGenerator(config.generator, name="generator", dtype=precision),
            "discriminator": PatchDiscriminator(config.discriminator, **made)
            if isinstance(config.discriminator, PatchDiscriminatorConfig)
            else ColourDiscriminator(config.discriminator, **made),
        }
        for net in nets.values():
            net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        return nets

    def prepare(self, precision: str) -> None:
        """Gets VGG-Face for the identity term."""
        if self._identity is not None:
            self._identity.prepare(precision)

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Any, step: Any, statistics: Batch
    ) -> PhaseResult:
        """Losses of the one phase."""
        del phase, step, statistics
        masks = [split_groups(batch["label_map"], self.config.generator.num_groups)]
        if self.config.manipulate:
            masks.append(swap_neighbours(masks[0]))
        maps = [colour_map(shown, batch["colours"]) for shown in masks]
        # Both layouts in one pass: batch norm is to fit the one as well as the other.
        fakes = self._paint(nets, batch, masks, training=True, seed=fold_in(seed, 0))
        painted = ops.split(fakes, len(masks), axis=0)
        judges_masks = isinstance(self.config.discriminator, PatchDiscriminatorConfig)
        told = masks if judges_masks else maps
        real_logits = self._judge(nets, told[0], batch["image"])["logits"]
        fake_out = self._judge(nets, ops.concatenate(told, axis=0), fakes)
        fake_logits = ops.split(fake_out["logits"], len(masks), axis=0)
        image = batch["image"]
        painted_loss, terms = self._generator_loss(nets, image, painted, fake_logits, masks, maps)
        judged_loss, more = self._discriminator_loss(nets, image, real_logits, fake_logits, maps[0])
        return PhaseResult(losses={"G": painted_loss, "D": judged_loss}, terms={**terms, **more})

    def preview(self, nets: Nets, batch: Batch) -> list[Any]:
        """Picture, colour map, reconstruction; another's map in its colours, and what it gives."""
        colours = ops.convert_to_tensor(batch["colours"])
        own = split_groups(
            ops.convert_to_tensor(batch["label_map"]), self.config.generator.num_groups
        )
        columns = [batch["image"], colour_map(own, colours), self._paint(nets, batch, [own])]
        if self.config.manipulate:
            # Of any number of examples.
            other = ops.roll(own, -1, axis=0)
            columns += [colour_map(other, colours), self._paint(nets, batch, [other])]
        return columns

    def serving(self) -> Serving:
        """The generator on masks, colours and an identity."""
        config = self.config.generator
        size = config.image_size
        inputs = [
            TensorSpec(
                name="masks", shape=(None, size, size, config.num_groups), value_range=(0.0, 1.0)
            ),
            TensorSpec(name="colours", shape=(None, config.num_groups, 3)),
        ]
        if config.identity_size:
            inputs.append(
                TensorSpec(name="identity", shape=(None, config.identity_size), value_range=None)
            )
        return Serving(
            net="generator",
            inputs=tuple(inputs),
            outputs=(TensorSpec(name="image", shape=(None, size, size, 3)),),
            simplify=fold_batch_norm if config.norm == "batch" else None,
        )

    def _paint(
        self, nets: Nets, batch: Batch, masks: list[Any], training: bool = False, seed: Any = None
    ) -> Any:
        """Pictures of one or several layouts of a batch, one batch behind the other."""
        inputs = {"masks": ops.concatenate(masks, axis=0)}
        for name in self._kept:
            inputs[name] = ops.concatenate([batch[name]] * len(masks), axis=0)
        return nets["generator"](inputs, training=training, seed=seed)

    def _judge(self, nets: Nets, condition: Any, images: Any) -> dict[str, Any]:
        return nets["discriminator"]({"condition": condition, "image": images}, training=True)

    def _read_map(self, nets: Nets, images: Any) -> Any:
        return self._judge(nets, ColourDiscriminator.blank(images), images)["colour_map"]

    def _discriminator_loss(
        self, nets: Nets, image: Any, real_logits: Any, fake_logits: list[Any], own_map: Any
    ) -> tuple[Any, dict[str, Any]]:
        config = self.config
        # The cross-entropy of a fake as fake is that of its negative logit as real.
        terms = {"D/real": bce_generator_loss(real_logits)}
        for name, logits in zip(("D/fake", "D/fake_other"), fake_logits, strict=False):
            terms[name] = bce_generator_loss(-logits)
        loss = config.discriminator_weight * sum(terms.values())
        if config.map_weight:
            wanted = nets["discriminator"].shrink(own_map)
            terms["D/map"] = l1_loss(self._read_map(nets, image), wanted)
            loss = loss + config.map_weight * terms["D/map"]
        return loss, terms

    def _generator_loss(
        self,
        nets: Nets,
        image: Any,
        painted: list[Any],
        fake_logits: list[Any],
        masks: list[Any],
        maps: list[Any],
    ) -> tuple[Any, dict[str, Any]]:
        config = self.config
        terms = {"G/l1": l1_loss(painted[0], image)}
        loss = config.l1_weight * terms["G/l1"]
        if config.adversarial_weight:
            for name, logits in zip(("G/adv", "G/adv_other"), fake_logits, strict=False):
                terms[name] = bce_generator_loss(logits)
                loss = loss + config.adversarial_weight * terms[name]
        if config.overlap_weight:
            area = find_overlap(*masks)
            terms["G/overlap"] = overlap_loss(painted[1], image, area)
            loss = loss + config.overlap_weight * terms["G/overlap"]
        if config.change_weight:
            area = 1.0 - find_overlap(*masks)
            terms["G/change"] = change_loss(painted[1], image, area)
            loss = loss + config.change_weight * terms["G/change"]
        if config.map_weight:
            wanted = nets["discriminator"].shrink(maps[-1])
            terms["G/map"] = l1_loss(self._read_map(nets, painted[-1]), wanted)
            loss = loss + config.map_weight * terms["G/map"]
        if self._identity is not None:
            person = self._identity.describe(image)
            found = [self._identity.compare(picture, person) for picture in painted]
            terms["G/identity"] = sum(found) / len(found)
            loss = loss + config.identity_weight * terms["G/identity"]
        return loss, terms


def swap_neighbours(values: Any) -> Any:
    """[B, ...], B even, with the first example in the place of the second, and so on by pairs."""
    shape = ops.shape(values)[1:]
    pairs = ops.reshape(values, (-1, 2, *shape))  # one rank more
    return ops.reshape(ops.flip(pairs, axis=1), (-1, *shape))
