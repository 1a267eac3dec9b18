"""The styles of a bundle of domains: which domain, and in whose style."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from facegan.bundle import Manifest
from facegan.errors import BundleError, ConfigError
from facegan.face.conditioning import (
    LANDMARKS,
    DomainConditioningConfig,
    decode_conditioning,
)
from facegan.face.landmarks import DetectorConfig
from facegan.image import to_float
from facegan.preparation.squares import cut_square, read_photo_file
from facegan.render.engine import Methods
from facegan.render.sampling import MAP, draw_latents
from facegan.render.workspace import identify_file

# Input of a bundle that paints in a style, and the methods that find one.
STYLE, _ENCODE = "style", "encode_style"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StyleChoice:
    """A style.

    Attributes:
        domain: What the domain is called.
        reference: Picture whose style is taken; None draws one.
        seed: Which one is drawn, without a reference.
    """

    KIND: ClassVar[str] = "style"

    domain: str
    reference: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}.")


def domain_conditioning(manifest: Manifest) -> DomainConditioningConfig:
    """The conditioning of a bundle of domains, with landmarks if the bundle takes them.

    Raises:
        BundleError: The bundle is of another kind.
    """
    document = manifest.conditioning or {}
    if document.get("kind") != DomainConditioningConfig.KIND:
        raise BundleError(
            f"A {manifest.model!r} bundle knows no domains; take one of 'stargan_v2'."
        )
    config = decode_conditioning(document)
    assert isinstance(config, DomainConditioningConfig)  # by its kind
    # A bundle that finds landmarks itself takes none.
    shown = LANDMARKS in {spec.name for spec in manifest.inputs}
    return dataclasses.replace(config, landmarks=shown)


def find_styles(
    methods: Methods, choices: Sequence[StyleChoice], detector: DetectorConfig
) -> np.ndarray:
    """Finds styles by a bundle's own networks.

    Args:
        methods: The bundle's.
        choices: Which styles.
        detector: Finds the faces of references that have to be aligned.

    Returns:
        [N, style_size] float32.

    Raises:
        BundleError: The bundle knows no styles.
        ConfigError: It has no such domain.
        DataError: A reference cannot be read, or shows no face where one is needed.
    """
    conditioning = domain_conditioning(methods.manifest)
    styles = []
    for choice in choices:
        number = conditioning.domain_index(choice.domain)
        if choice.reference is None:
            latents = draw_latents(methods, np.random.default_rng(choice.seed), 1)
            styles.append(map_latents(methods, latents, number))
        else:
            image = read_reference(choice.reference, conditioning, detector)
            styles.append(encode_references(methods, image[None], number))
    return np.concatenate(styles)


def map_latents(methods: Methods, latents: np.ndarray, domain: int) -> np.ndarray:
    """Styles [N, style_size] of a domain, from latents."""
    domains = np.full(len(latents), domain, np.int32)
    return methods.run(MAP, {"latent": latents, "domain": domains})[STYLE]


def encode_references(methods: Methods, images: np.ndarray, domain: int) -> np.ndarray:
    """Styles [N, style_size] of pictures [N, size, size, 3] uint8 of a domain."""
    domains = np.full(len(images), domain, np.int32)
    return methods.run(_ENCODE, {"image": to_float(images), "domain": domains})[STYLE]


def read_reference(
    path: str, conditioning: DomainConditioningConfig, detector: DetectorConfig
) -> np.ndarray:
    """A reference picture [size, size, 3] uint8, cut as those that were learnt from."""
    size, align = conditioning.size, conditioning.align
    return cut_square(read_photo_file(path), path, size, align=align, detector=detector).image


def style_files(choices: Sequence[StyleChoice]) -> tuple[str, ...]:
    """Fingerprints of the files that styles follow from."""
    return tuple(identify_file(choice.reference) for choice in choices if choice.reference)
