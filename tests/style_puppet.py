"""A bundle of StyleGAN2 as a run exports it, tiny and with random weights."""

import numpy as np

from facegan.export.saved_model import export_bundle
from facegan.face.conditioning import LatentConditioningConfig, encode_conditioning
from facegan.jobs.export import make_spec
from facegan.models.stylegan2 import (
    StyleGAN2DiscriminatorConfig,
    StyleGAN2SynthesisConfig,
    StyleMappingConfig,
)
from facegan.training.recipes.stylegan2 import Recipe, StyleGAN2RecipeConfig

LATENT_SIZE = STYLE_SIZE = 8


def export_style_puppet(folder, size=32, seed=0):
    """Writes the bundle; equal arguments give equal weights."""
    shared = {"image_size": size, "base_width": max(64, size)}
    recipe = Recipe(
        StyleGAN2RecipeConfig(
            generator=StyleGAN2SynthesisConfig(**shared, style_size=STYLE_SIZE),
            mapping=StyleMappingConfig(
                latent_size=LATENT_SIZE, style_size=STYLE_SIZE, num_layers=2
            ),
            discriminator=StyleGAN2DiscriminatorConfig(**shared),
        )
    )
    nets = recipe.build_nets("float32")
    generator, mapping = nets["generator"], nets["mapping"]
    _randomize(generator, mapping, np.random.default_rng(seed))
    export_bundle(
        folder,
        make_spec(recipe.serving(), nets),
        model_name="stylegan2",
        image_size=size,
        conditioning=encode_conditioning(LatentConditioningConfig(size=size, align="none")),
    )
    return folder


def _randomize(generator, mapping, random):
    """Weights from N(0, 1), as training starts; the rest as if it had gone on for a while."""
    for variable in (*generator.trainable_variables, *mapping.trainable_variables):
        drawn = random.standard_normal(variable.shape)
        start = variable.numpy()
        constant = np.ptp(start) == 0.0  # biases and strengths of noise
        # Weights of layers with a multiplier of the learning rate are so many times larger.
        variable.assign(start + 0.1 * drawn if constant else start.std() * drawn)
    latents = random.standard_normal((256, LATENT_SIZE)).astype(np.float32)
    mapping.w_avg.assign(np.mean(mapping({"latent": latents}), axis=0))
