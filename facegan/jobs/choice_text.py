"""Texts that choose some of many: "3,17,20-25" of numbered faces, "coarse,7" of layers."""

from __future__ import annotations

import math
import re

from facegan.errors import ConfigError

_MOST_NUMBERS = 1_000_000
# The first layer of each and the one after the last: 4 to 8, 16 to 32, and 64 px or more.
_LAYER_WORDS = {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 64)}


def parse_numbers(text: str, name: str, words: str = "") -> tuple[int, ...]:
    """The numbers that a text such as "3,17,20-25" lists, in its order.

    Args:
        text: The text.
        name: What it is called.
        words: What else may stand there, for the message.

    Raises:
        ConfigError: It is something else, or lists more than a million.
    """
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", part)
        first, last = (int(end or found[1]) for end in found.groups()) if found else (0, -1)
        if first > last:
            raise ConfigError(
                f"{name} must be {words}whole numbers from 0 on and ranges from a smaller to a "
                f"larger one, as 3,17,20-25; got {text!r}."
            )
        if len(numbers) + last - first >= _MOST_NUMBERS:
            raise ConfigError(f"{name} must be at most {_MOST_NUMBERS} numbers, got {text!r}.")
        numbers.extend(range(first, last + 1))
    return tuple(numbers)


def parse_decimals(text: str, name: str, example: str = "-0.5,0,1") -> tuple[float, ...]:
    """The numbers that a text such as "-0.5,0,1" lists.

    Args:
        text: The text.
        name: What it is called.
        example: What one looks like, for the message.

    Raises:
        ConfigError: It is something else.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise ConfigError(f"{name} must be numbers, as {example}; got {text!r}.")
    return values


def split_layers(text: str) -> list[str | tuple[int, ...]]:
    """The parts of a text such as "coarse,8-9", whatever layers there are: words and numbers.

    Raises:
        ConfigError: It has other parts.
    """
    words = f"{', '.join(_LAYER_WORDS)}, or "
    parts = [part.strip() for part in text.split(",")]
    return [p if p in _LAYER_WORDS else parse_numbers(p, "layers", words) for p in parts]


def find_layers(text: str, num_layers: int) -> tuple[int, ...]:
    """The layers of a synthesis net that a text such as "coarse,8-9" names, sorted.

    Args:
        text: Numbers, from 0 for the coarsest, and words: "coarse" layers are those that paint at 4
            to 8 px, "middle" ones at 16 to 32 px, "fine" ones at 64 px or more.
        num_layers: How many there are.

    Raises:
        ConfigError: It cannot be read, or names layers that are not there.
    """
    chosen: set[int] = set()
    for part in split_layers(text):
        if isinstance(part, str):
            first, end = _LAYER_WORDS[part]
            part = tuple(range(first, max(first + 1, min(end, num_layers))))
        chosen.update(part)
    if max(chosen) >= num_layers:
        raise ConfigError(
            f"{text!r} names layer {max(chosen)}, but this bundle's layers are 0-{num_layers - 1}."
        )
    return tuple(sorted(chosen))
