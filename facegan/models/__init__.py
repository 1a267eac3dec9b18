"""All model architectures. Importing this package registers every one with Keras."""

import importlib

import keras

from facegan.config import unknown_name

# File of this package -> the models it defines.
MODELS: dict[str, tuple[str, ...]] = {
    "pix2pix": ("UNetGenerator", "PatchDiscriminator", "BlockGenerator", "BlockDiscriminator"),
    "spade": ("SPADEGenerator", "SPADEDiscriminator", "StyleEncoder"),
    "talking_head": (
        "Embedder",
        "TalkingHeadGenerator",
        "PersonGenerator",
        "TalkingHeadDiscriminator",
    ),
    "stargan_v2": ("StarGenerator", "MappingNetwork", "StarStyleEncoder", "StarDiscriminator"),
    "mask_pix2pix": ("MaskGenerator", "ColourDiscriminator"),
    "stylegan2": ("StyleMapping", "StyleGAN2Synthesis", "StyleGAN2Discriminator"),
    "perceptual": ("VGGFeatures",),
    "lpips": ("Lpips",),
    "fan": ("FAN",),
    "face_parser": ("BiSeNet", "ParserUNet"),
}

for _stem in MODELS:
    importlib.import_module(f"{__name__}.{_stem}")


def find_model(name: str) -> type[keras.Model]:
    """The model class of a name.

    Raises:
        ConfigError: No model has that name; the message tells the nearest one.
    """
    for stem, names in MODELS.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{stem}"), name)
    known = [n for names in MODELS.values() for n in names]
    raise unknown_name("model", name, known, what="value")
