"""Bundles of every kind of model as they are before training, in the smallest size there is."""

import dataclasses

import numpy as np

from facegan.export.saved_model import export_bundle
from facegan.face.conditioning import ConditioningConfig, encode_conditioning
from facegan.jobs.export import make_spec
from facegan.jobs.run import load_config, make_recipe, override, with_everywhere, with_size
from facegan.training.recipes.talking_head_person import PersonRecipeConfig

_HEAD = (
    'recipe.embedder={"kind": "talking_head_embedder", "image_size": 64, "base_width": 2, '
    '"num_downs": 4}',
    'recipe.generator={"kind": "talking_head", "image_size": 64, "base_width": 2, '
    '"num_blocks": 1, "embedding_size": 16, "unit_scale": true}',
    'recipe.discriminator={"kind": "talking_head_discriminator", "image_size": 64, '
    '"base_width": 2, "num_downs": 4}',
    "conditioning.size=64",
    "conditioning.shots=2",
)


def pix2pix(size=32, base_width=8):
    config = with_size(load_config("pix2pix_tiny"), size)
    nets = (f"recipe.generator.base_width={base_width}", "recipe.generator.depth=3")
    return override(config, nets)


def spade():
    nets = (
        'recipe.generator={"kind": "spade", "image_size": 64, "base_width": 1, "hidden_width": 4, '
        '"norm": "instance"}'
    )
    return override(with_size(load_config("spade_tiny"), 64), [nets])


def spade_of_a_style():
    nets = (
        'recipe.generator={"kind": "spade", "image_size": 128, "base_width": 1, '
        '"hidden_width": 4, "norm": "batch", "style_size": 4}',
        'recipe.encoder={"kind": "spade_style_encoder", "image_size": 128, "style_size": 4, '
        '"base_width": 1}',
    )
    return override(load_config("spade_tiny"), nets)


def talking_head():
    return override(load_config("talking_head_tiny"), _HEAD)


def talking_head_person():
    meta = talking_head()
    return dataclasses.replace(
        meta,
        kind="talking_head_person",
        conditioning=ConditioningConfig(
            size=meta.conditioning.size, drawing=meta.conditioning.drawing
        ),
        recipe=PersonRecipeConfig(
            generator=meta.recipe.generator, discriminator=meta.recipe.discriminator
        ),
    )


def stargan_v2():
    config = with_size(load_config("stargan_v2_celebahq_tiny"), 32)
    config = with_everywhere(
        config, {"base_width": 4, "max_width": 8, "style_size": 6, "num_domains": 2}
    )
    shown = dataclasses.replace(config.conditioning, domains=("collins", "hopper"))
    return override(dataclasses.replace(config, conditioning=shown), ["recipe.mapping.width=8"])


def mask_pix2pix():
    config = with_size(load_config("mask_pix2pix_tiny"), 32)
    return with_everywhere(config, {"base_width": 4, "max_width": 8, "num_layers": 2})


def export_untrained(folder, config, seed=0):
    """Writes the bundle of a run's config; equal arguments give equal weights."""
    recipe = make_recipe(config)
    nets, serving = recipe.build_nets("float32"), recipe.serving()
    random = np.random.default_rng(seed)
    for net in nets.values():
        for variable in net.trainable_variables:
            if np.ptp(variable) == 0.0:  # a net that begins with nothing would show nothing
                variable.assign(variable + 0.1 * random.standard_normal(variable.shape))
    return export_bundle(
        folder,
        make_spec(serving, nets),
        model_name=config.kind,
        image_size=config.conditioning.size,
        conditioning=encode_conditioning(config.conditioning),
        labels=serving.labels,
        tolerance=0.01,  # what training has not tamed amplifies rounding
    )
