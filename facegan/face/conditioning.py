"""Face -> the arrays that a model asks for.

The one implementation behind datasets and rendering: what a network is trained on and what it is
shown later come from the same lines. A bundle carries the config as a document; a reader that does
not know its kind or version refuses it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from facegan.config import decode, encode, require_power_of_two
from facegan.errors import ConfigError
from facegan.face.raster import DrawingConfig, draw_landmarks


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConditioningConfig:
    """A drawing of the landmarks as the model's condition.

    Attributes:
        size: Height and width of the condition, a power of two.
        drawing: How the landmarks are drawn.
    """

    KIND: ClassVar[str] = "landmark_drawing"
    VERSION: ClassVar[int] = 1

    size: int = 256
    drawing: DrawingConfig = dataclasses.field(default_factory=DrawingConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)


# Every kind that this version can make, by the name that documents carry.
KINDS: dict[str, type[ConditioningConfig]] = {ConditioningConfig.KIND: ConditioningConfig}


def encode_conditioning(config: ConditioningConfig) -> dict[str, Any]:
    """The JSON document of a conditioning: its kind, version and settings."""
    return {"kind": config.KIND, "version": config.VERSION, **encode(config)}


def decode_conditioning(document: Mapping[str, Any]) -> ConditioningConfig:
    """Reads what ``encode_conditioning`` wrote.

    Raises:
        ConfigError: The kind or version is not known, or a setting is wrong.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(
            f"A conditioning must be an object with a kind, got {type(document).__name__}."
        )
    known = ", ".join(f"{name} (version {cls.VERSION})" for name, cls in KINDS.items())
    kind, version = document.get("kind"), document.get("version")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None or version != cls.VERSION:
        raise ConfigError(
            f"The conditioning {kind!r} (version {version}) is not known to this version of "
            f"facegan, which knows: {known}. Update facegan or export the model again."
        )
    return decode(cls, {k: v for k, v in document.items() if k != "version"}, "conditioning")


class Conditioner:
    """Makes a model's inputs from the landmarks of one face.

    Call input: landmarks [68, 2] in pixels of a crop of ``config.size``.
    Call output: {"condition": [size, size, 3] uint8}.

    Example:
        >>> from facegan.face.landmarks import MEAN_SHAPE
        >>> conditioner = Conditioner(ConditioningConfig(size=64))
        >>> conditioner(16 + 32 * MEAN_SHAPE)["condition"].shape
        (64, 64, 3)
    """

    inputs: tuple[str, ...] = ("condition",)

    def __init__(self, config: ConditioningConfig) -> None:
        self.config = config

    def __call__(self, landmarks_xy_px: np.ndarray) -> dict[str, np.ndarray]:
        """Draws the condition."""
        return {"condition": draw_landmarks(landmarks_xy_px, self.config.size, self.config.drawing)}
