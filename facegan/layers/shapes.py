"""Checks of what a network is given, made once at its public entry."""

from collections.abc import Mapping
from typing import Any

from facegan.errors import ConfigError


def require_images(
    net: str, inputs: Mapping[str, Any], name: str, channels: int, multiple_of: int = 1
) -> None:
    """Checks one entry of a network's input dict.

    Args:
        net: Class name of the network, for the message.
        inputs: The network's inputs by name: tensors [B, H, W, C] or their shapes.
        name: Which entry to check.
        channels: The channel count it must have.
        multiple_of: What height and width must be divisible by; sizes that are not known while
            tracing are let through.

    Raises:
        ConfigError: The entry is missing or has another rank, channel count or size.
    """
    if not isinstance(inputs, Mapping) or name not in inputs:
        given = ", ".join(sorted(inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ConfigError(
            f"{net} takes a dict with the key {name!r}, got {given}. "
            f'Pass {{"{name}": images}} with images [B, H, W, {channels}].'
        )
    shape = tuple(getattr(inputs[name], "shape", inputs[name]))
    if len(shape) != 4 or shape[3] != channels:
        raise ConfigError(
            f"{net} takes {name!r} of shape [B, H, W, {channels}], got {list(shape)}. "
            "Change the net's channel count in its config or the data's."
        )
    _require_multiple(net, name, shape, multiple_of)


def require_labels(net: str, inputs: Mapping[str, Any], name: str, multiple_of: int = 1) -> None:
    """Checks the label map in a network's input dict; see ``require_images``.

    Raises:
        ConfigError: The entry is missing or is no map of ids, [B, H, W], or has another size.
    """
    if not isinstance(inputs, Mapping) or name not in inputs:
        given = ", ".join(sorted(inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ConfigError(
            f"{net} takes a dict with the key {name!r}, got {given}. "
            f'Pass {{"{name}": ids}} with whole numbers [B, H, W].'
        )
    shape = tuple(getattr(inputs[name], "shape", inputs[name]))
    if len(shape) != 3:
        raise ConfigError(
            f"{net} takes {name!r} as ids of shape [B, H, W], got {list(shape)}. A one-hot map "
            "becomes ids by argmax over its last axis."
        )
    _require_multiple(net, name, shape, multiple_of)


def _require_multiple(net: str, name: str, shape: tuple[Any, ...], multiple_of: int) -> None:
    if any(size is not None and size % multiple_of for size in shape[1:3]):
        raise ConfigError(
            f"{net} halves its input until {multiple_of} pixels are one: height and width of "
            f"{name!r} must be multiples of {multiple_of}, got {shape[1]}x{shape[2]}. "
            "Resize or pad the images, or use a net with fewer levels."
        )
