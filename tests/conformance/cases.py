"""Every layer and net of the library at toy size; each file beside this one checks one property.

A new layer or net needs one entry here and nothing else. ``test_cases.py`` fails for a registered
class without an entry.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import pytest

from facegan.layers.attention import SelfAttention
from facegan.layers.convolution import NearestUpConv2D, PaddedConv2D, PooledConv2D, UpConv2D
from facegan.layers.equalized import EqualizedConv2D, EqualizedDense
from facegan.layers.modulated import ModulatedConv2D
from facegan.layers.normalization import make_norm
from facegan.layers.randomness import SeededDropout
from facegan.layers.resize import BilinearUpsample
from facegan.layers.spectral import SpectralConv2D
from facegan.models import (
    face_parser,
    fan,
    lpips,
    mask_pix2pix,
    perceptual,
    pix2pix,
    spade,
    stargan_v2,
    stylegan2,
    talking_head,
)

# Batch size 2 everywhere, so that two replicas get one example each.
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One layer or net to check.

    Attributes:
        name: Identifier of the test.
        make: Makes a fresh one; takes ``dtype`` and ``name``.
        inputs: Shape [B, ...] of the input, or shapes by name for a dict. Not square where the
            class allows it, so that a swap of height and width shows.
        random: Whether training draws random numbers, and so needs a seed.
        couples_examples: Whether training mixes the examples of a batch (batch norm), so that two
            replicas do not equal one.
        tolerance: Largest difference between two ways to compute the same float32 outputs, relative
            to the largest output.
        ids: Inputs that are whole numbers: their name -> how many different ones there are.
    """

    name: str
    make: Callable[..., keras.layers.Layer]
    inputs: Shape | dict[str, Shape]
    random: bool = False
    couples_examples: bool = False
    tolerance: float = 1e-5
    ids: dict[str, int] = dataclasses.field(default_factory=dict)


def _made(cls: type, *args: Any, **values: Any) -> Callable[..., keras.layers.Layer]:
    return lambda **kwargs: cls(*args, **values, **kwargs)


HEAD = talking_head.TalkingHeadConfig(
    image_size=32, base_width=2, num_blocks=1, embedding_size=6, unit_scale=True
)

CASES = [
    Case(
        name="padded_conv_4x4_stride_2",
        make=_made(PaddedConv2D, 3, 4, strides=2, padding=1),
        inputs=(2, 8, 6, 2),
    ),
    Case(
        name="padded_conv_3x3_stride_2",
        make=_made(PaddedConv2D, 3, 3, strides=2, padding=1, use_bias=False),
        inputs=(2, 8, 7, 2),
    ),
    Case(
        name="padded_conv_4x4_stride_1",
        make=_made(PaddedConv2D, 3, 4, padding=1),
        inputs=(2, 6, 5, 2),
    ),
    Case(name="up_conv", make=_made(UpConv2D, 3), inputs=(2, 4, 3, 2)),
    Case(name="nearest_up_conv", make=_made(NearestUpConv2D, 3), inputs=(2, 4, 3, 2)),
    Case(
        name="nearest_up_conv_plain",
        make=_made(NearestUpConv2D, 3, composed=False),
        inputs=(2, 4, 3, 2),
    ),
    Case(name="pooled_conv", make=_made(PooledConv2D, 3), inputs=(2, 6, 4, 2)),
    Case(
        name="batch_norm",
        make=_made(make_norm, "batch"),
        inputs=(2, 4, 3, 5),
        couples_examples=True,
    ),
    Case(name="instance_norm", make=_made(make_norm, "instance"), inputs=(2, 4, 3, 5)),
    Case(
        name="instance_norm_affine",
        make=_made(make_norm, "instance", affine=True),
        inputs=(2, 4, 3, 5),
    ),
    Case(name="seeded_dropout", make=_made(SeededDropout, 0.5), inputs=(2, 4, 3, 5), random=True),
    Case(name="bilinear_upsample", make=_made(BilinearUpsample), inputs=(2, 4, 3, 2)),
    Case(
        name="conv_block",
        make=_made(pix2pix.ConvBlock, 3, dropout=0.3),
        inputs=(2, 6, 5, 2),
        random=True,
        couples_examples=True,
    ),
    Case(
        name="unet_batch",
        make=_made(
            pix2pix.UNetGenerator,
            pix2pix.UNetConfig(image_size=64, base_width=2, max_width=4, in_channels=2),
        ),
        inputs={"condition": (2, 64, 64, 2)},
        random=True,
        couples_examples=True,
    ),
    Case(
        name="unet_instance_nearest_shallow",
        make=_made(
            pix2pix.UNetGenerator,
            pix2pix.UNetConfig(
                image_size=16, base_width=4, depth=3, norm="instance", upsample="nearest"
            ),
        ),
        inputs={"condition": (2, 16, 24, 3)},
    ),
    Case(
        name="patch_discriminator_batch",
        make=_made(
            pix2pix.PatchDiscriminator,
            pix2pix.PatchDiscriminatorConfig(image_size=32, base_width=4, num_layers=2),
        ),
        inputs={"condition": (2, 16, 24, 3), "image": (2, 16, 24, 3)},
        couples_examples=True,
    ),
    Case(
        name="patch_discriminator_instance",
        make=_made(
            pix2pix.PatchDiscriminator,
            pix2pix.PatchDiscriminatorConfig(
                image_size=32,
                condition_channels=2,
                base_width=4,
                num_layers=2,
                norm="instance",
                first_bias=False,
            ),
        ),
        inputs={"condition": (2, 16, 24, 2), "image": (2, 16, 24, 3)},
    ),
    Case(
        name="block_generator",
        make=_made(
            pix2pix.BlockGenerator,
            pix2pix.BlockGeneratorConfig(image_size=16, base_width=3, num_blocks=2),
        ),
        inputs={"condition": (2, 8, 12, 3)},
        random=True,
        couples_examples=True,
    ),
    Case(
        name="block_discriminator",
        make=_made(
            pix2pix.BlockDiscriminator,
            pix2pix.BlockDiscriminatorConfig(
                image_size=16, base_width=2, num_blocks=2, dropout=0.2
            ),
        ),
        inputs={"condition": (2, 8, 12, 3), "image": (2, 8, 12, 3)},
        random=True,
        couples_examples=True,
    ),
    Case(
        name="vgg19_features",
        make=_made(
            perceptual.VGGFeatures,
            perceptual.VGGFeaturesConfig(layers=("conv1_1", "relu2_1"), preprocessing="none"),
        ),
        inputs={"image": (2, 8, 12, 3)},
    ),
    Case(
        name="vgg16_features",
        make=_made(
            perceptual.VGGFeatures,
            perceptual.VGGFeaturesConfig(
                architecture="vgg16", layers=("conv1_1",), preprocessing="vgg_face"
            ),
        ),
        inputs={"image": (2, 8, 12, 3)},
    ),
    Case(
        name="lpips",
        make=_made(lpips.Lpips, lpips.LpipsConfig()),
        inputs={"image": (2, 36, 48, 3), "other": (2, 36, 48, 3)},
    ),
    Case(
        name="hierarchical_block",
        make=_made(fan.HierarchicalBlock, 8),
        inputs=(2, 4, 6, 3),
        couples_examples=True,
    ),
    Case(
        name="hierarchical_block_identity",
        make=_made(fan.HierarchicalBlock, 4),
        inputs=(2, 4, 6, 4),
        couples_examples=True,
    ),
    Case(
        name="fan",
        make=_made(fan.FAN, fan.FanConfig(num_landmarks=3, width=8)),
        inputs={"image": (2, 64, 128, 3)},
        couples_examples=True,
        # Batch norms of few pixels, one behind the other, blow rounding up.
        tolerance=1e-4,
    ),
    Case(name="self_attention", make=_made(SelfAttention, 2), inputs=(2, 4, 3, 4)),
    Case(name="head_down_block", make=_made(talking_head.DownBlock, 3, 5), inputs=(2, 8, 6, 2)),
    Case(
        name="head_styled_block",
        make=_made(talking_head.StyledResBlock),
        inputs={"features": (2, 4, 6, 3), "style": (2, 12)},
    ),
    Case(
        name="head_styled_up_block",
        make=_made(talking_head.StyledUpBlock, 2, unit_scale=True),
        inputs={"features": (2, 4, 6, 3), "style": (2, 10)},
    ),
    Case(
        name="head_embedder",
        make=_made(
            talking_head.Embedder,
            talking_head.EmbedderConfig(image_size=32, base_width=2, num_downs=4),
        ),
        inputs={"images": (2, 3, 32, 48, 3), "conditions": (2, 3, 32, 48, 3)},
    ),
    Case(
        name="head_generator",
        make=_made(talking_head.TalkingHeadGenerator, HEAD),
        inputs={"condition": (2, 32, 48, 3), "embedding": (2, 6)},
        # Norms of nearly constant maps blow rounding up.
        tolerance=1e-3,
    ),
    Case(
        name="head_person_generator",
        make=_made(talking_head.PersonGenerator, HEAD),
        inputs={"condition": (2, 32, 48, 3)},
        tolerance=1e-3,
    ),
    Case(
        name="head_discriminator",
        make=_made(
            talking_head.TalkingHeadDiscriminator,
            talking_head.TalkingHeadDiscriminatorConfig(image_size=64, base_width=4, num_downs=4),
        ),
        inputs={"image": (2, 64, 96, 3), "condition": (2, 64, 96, 3), "embedding": (2, 32)},
        tolerance=1e-4,
    ),
    Case(
        name="star_preactivated_block",
        make=_made(stargan_v2.PreactivatedBlock, 3, normalize=True, downsample=True),
        inputs=(2, 8, 6, 2),
    ),
    Case(
        name="star_style_norm",
        make=_made(stargan_v2.StyleNorm),
        inputs={"features": (2, 4, 6, 3), "style": (2, 5)},
    ),
    Case(
        name="star_styled_block",
        make=_made(stargan_v2.StyledBlock, 2, upsample=True),
        inputs={"features": (2, 4, 6, 3), "style": (2, 5)},
    ),
    Case(name="star_domain_dense", make=_made(stargan_v2.DomainDense, 3, 4), inputs=(2, 5)),
    Case(
        name="star_generator",
        make=_made(
            stargan_v2.StarGenerator,
            stargan_v2.StarGeneratorConfig(
                image_size=64, base_width=4, max_width=8, style_size=5, high_pass=1.0
            ),
        ),
        inputs={
            "image": (2, 64, 64, 3),
            "style": (2, 5),
            "coarse_mask": (2, 64, 64, 1),
            "fine_mask": (2, 64, 64, 1),
        },
        tolerance=1e-4,
    ),
    Case(
        name="star_mapping_network",
        make=_made(
            stargan_v2.MappingNetwork,
            stargan_v2.MappingConfig(latent_size=6, width=8, style_size=5, num_domains=3),
        ),
        inputs={"latent": (2, 6), "domain": (2,)},
        ids={"domain": 3},
    ),
    Case(
        name="star_style_encoder",
        make=_made(
            stargan_v2.StarStyleEncoder,
            stargan_v2.StarStyleEncoderConfig(
                image_size=32, base_width=4, max_width=8, style_size=5
            ),
        ),
        inputs={"image": (2, 32, 32, 3), "domain": (2,)},
        ids={"domain": 2},
    ),
    Case(
        name="star_discriminator",
        make=_made(
            stargan_v2.StarDiscriminator,
            stargan_v2.StarDiscriminatorConfig(image_size=32, base_width=4, max_width=8),
        ),
        inputs={"image": (2, 32, 32, 3), "domain": (2,)},
        ids={"domain": 2},
    ),
    Case(
        name="equalized_dense",
        make=_made(EqualizedDense, 3, lr_multiplier=0.5, bias_start=1.0),
        inputs=(2, 5),
    ),
    Case(name="equalized_conv", make=_made(EqualizedConv2D, 3, clamp=2.0), inputs=(2, 6, 5, 2)),
    Case(
        name="equalized_conv_down",
        make=_made(EqualizedConv2D, 3, downsample=True, gain=0.5),
        inputs=(2, 6, 4, 2),
    ),
    Case(
        name="equalized_conv_1x1_down",
        make=_made(EqualizedConv2D, 3, 1, downsample=True, use_bias=False, activate=False),
        inputs=(2, 6, 4, 2),
    ),
    Case(
        name="modulated_conv",
        make=_made(ModulatedConv2D, 4),
        inputs={"features": (2, 6, 5, 3), "style": (2, 3)},
    ),
    Case(
        name="modulated_conv_up",
        make=_made(ModulatedConv2D, 4, upsample=True, demodulate=False),
        inputs={"features": (2, 3, 5, 3), "style": (2, 3)},
    ),
    Case(
        name="styled_conv_up",
        make=_made(stylegan2.StyledConv2D, 4, upsample=True, clamp=256.0),
        inputs={"features": (2, 3, 5, 3), "style": (2, 3)},
        random=True,
    ),
    Case(
        name="styled_rgb",
        make=_made(stylegan2.StyledRGB, clamp=256.0),
        inputs={"features": (2, 6, 5, 3), "style": (2, 3)},
    ),
    Case(
        name="minibatch_deviation",
        make=_made(stylegan2.MinibatchDeviation, 1),
        inputs=(2, 4, 3, 5),
    ),
    Case(
        name="residual_down_block",
        make=_made(stylegan2.ResidualDownBlock, 3, clamp=256.0),
        inputs=(2, 8, 6, 2),
    ),
    Case(
        name="stylegan2_mapping",
        make=_made(
            stylegan2.StyleMapping,
            stylegan2.StyleMappingConfig(
                latent_size=6, style_size=5, num_layers=2, lr_multiplier=0.5
            ),
        ),
        inputs={"latent": (2, 6)},
    ),
    Case(
        name="stylegan2_synthesis",
        make=_made(
            stylegan2.StyleGAN2Synthesis,
            stylegan2.StyleGAN2SynthesisConfig(
                image_size=16, base_width=64, max_width=6, style_size=5
            ),
        ),
        inputs={"w": (2, 6, 5)},
        random=True,
    ),
    Case(
        name="stylegan2_discriminator",
        make=_made(
            stylegan2.StyleGAN2Discriminator,
            # Groups of one: larger ones couple the examples of a batch.
            stylegan2.StyleGAN2DiscriminatorConfig(
                image_size=16, base_width=64, max_width=6, group_size=1
            ),
        ),
        inputs={"image": (2, 16, 16, 3)},
    ),
    Case(
        name="mask_generator",
        make=_made(
            mask_pix2pix.MaskGenerator,
            mask_pix2pix.MaskGeneratorConfig(
                image_size=16, num_groups=3, identity_size=5, base_width=2, max_width=4
            ),
        ),
        inputs={"masks": (2, 16, 16, 3), "colours": (2, 3, 3), "identity": (2, 5)},
        random=True,
        couples_examples=True,
        ids={"masks": 2},
        # The norm of two values of one pixel blows rounding up.
        tolerance=1e-4,
    ),
    Case(
        name="colour_discriminator",
        make=_made(
            mask_pix2pix.ColourDiscriminator,
            mask_pix2pix.ColourDiscriminatorConfig(
                image_size=16, base_width=3, max_width=4, num_downs=2
            ),
        ),
        inputs={"condition": (2, 16, 24, 3), "image": (2, 16, 24, 3)},
        couples_examples=True,
    ),
    Case(
        name="colour_discriminator_instance",
        make=_made(
            mask_pix2pix.ColourDiscriminator,
            mask_pix2pix.ColourDiscriminatorConfig(
                image_size=16, base_width=3, max_width=4, num_downs=1, norm="instance"
            ),
        ),
        inputs={"condition": (2, 16, 24, 3), "image": (2, 16, 24, 3)},
    ),
    Case(
        name="sync_batch_norm",
        make=_made(make_norm, "sync_batch"),
        inputs=(2, 4, 3, 5),
        couples_examples=True,
    ),
    Case(
        name="spectral_conv",
        make=_made(SpectralConv2D, 3, 4, strides=2, padding=2),
        inputs=(2, 8, 6, 2),
    ),
    Case(
        name="spade_batch",
        make=_made(spade.SPADE, 4, 5),
        inputs={"features": (2, 6, 5, 3), "labels": (2, 6, 5, 4)},
        couples_examples=True,
    ),
    Case(
        name="spade_block_instance",
        make=_made(spade.SPADEBlock, 3, 4, 5, "instance"),
        inputs={"features": (2, 6, 5, 4), "labels": (2, 6, 5, 4)},
    ),
    Case(
        name="spade_generator",
        make=_made(
            spade.SPADEGenerator,
            spade.SpadeConfig(
                image_size=64, num_labels=4, base_width=1, hidden_width=3, norm="instance"
            ),
        ),
        inputs={"label_map": (2, 64, 96)},
        ids={"label_map": 4},
        tolerance=1e-4,
    ),
    Case(
        name="spade_generator_style_instance",
        make=_made(
            spade.SPADEGenerator,
            spade.SpadeConfig(
                image_size=128,
                num_labels=4,
                base_width=1,
                hidden_width=3,
                norm="instance",
                upsampling="more",
                style_size=5,
            ),
        ),
        inputs={"label_map": (2, 128, 128), "style": (2, 5)},
        ids={"label_map": 4},
        tolerance=1e-4,
    ),
    Case(
        name="spade_discriminator",
        make=_made(
            spade.SPADEDiscriminator,
            spade.SpadeDiscriminatorConfig(image_size=32, num_labels=4, base_width=2),
        ),
        inputs={"label_map": (2, 32, 48), "image": (2, 32, 48, 3)},
        ids={"label_map": 4},
    ),
    Case(
        name="style_encoder",
        make=_made(
            spade.StyleEncoder,
            spade.StyleEncoderConfig(image_size=128, style_size=5, base_width=2),
        ),
        inputs={"image": (2, 128, 128, 3)},
    ),
    Case(
        name="parser_conv_norm",
        make=_made(face_parser.ConvNorm, 3, 7, strides=2, use_bias=True),
        inputs=(2, 8, 6, 2),
        couples_examples=True,
    ),
    Case(
        name="parser_residual_block",
        make=_made(face_parser.ResidualBlock, 3, strides=2, projects=True),
        inputs=(2, 8, 6, 2),
        couples_examples=True,
    ),
    Case(
        name="parser_residual_block_identity",
        make=_made(face_parser.ResidualBlock, 3, norm="none"),
        inputs=(2, 4, 6, 3),
    ),
    Case(
        name="parser_attention_refinement",
        make=_made(face_parser.AttentionRefinement, 3),
        inputs=(2, 8, 6, 2),
        couples_examples=True,
    ),
    Case(
        name="parser_feature_fusion",
        make=_made(face_parser.FeatureFusion, 3, 8),
        inputs=(2, 8, 6, 2),
        couples_examples=True,
    ),
    Case(
        name="parser_bisenet",
        make=_made(
            face_parser.BiSeNet,
            face_parser.BiSeNetConfig(image_size=64, num_labels=4, base_width=8),
        ),
        inputs={"image": (2, 32, 64, 3)},
        couples_examples=True,
        # The norm of two pooled values that lie close together blows rounding up.
        tolerance=1e-4,
    ),
    Case(
        name="parser_bisenet_folded",
        make=_made(
            face_parser.BiSeNet,
            face_parser.BiSeNetConfig(
                image_size=64, num_labels=4, base_width=6, norm="none", aux_heads=False
            ),
        ),
        inputs={"image": (2, 32, 64, 3)},
    ),
    Case(
        name="parser_unet",
        make=_made(
            face_parser.ParserUNet,
            face_parser.ParserUNetConfig(image_size=32, num_labels=4, base_width=2, depth=2),
        ),
        inputs={"image": (2, 16, 24, 3)},
        couples_examples=True,
    ),
]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_random_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case.random], ids=lambda case: case.name
)
