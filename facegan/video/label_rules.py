"""Rules that change labels by hand, where a parser is known to be wrong.

A rule file is JSON. This one says what the source system did to its video by hand: no hats; skin
at the bottom is neck; below it the neck goes on; hair in the bottom corners is background, in one
of them for some frames only:

    {"size": 512, "rules": [
      {"from": "hat", "to": "background"},
      {"from": "skin", "to": "neck", "rows": [430, null], "columns": [220, 400]},
      {"from": "background", "to": "neck", "rows": [450, null], "columns": [210, 420]},
      {"from": "hair", "to": "background", "rows": [300, null], "columns": [400, null]},
      {"from": "hair", "to": "background", "rows": [260, null], "columns": [0, 160],
       "frames": [50, 132]}]}

Rows and columns count from 0 at the top left, in pixels of a picture of ``size`` x ``size``; frames
are those of the clip. Ranges hold their first number and not their second; null leaves an end open.
Rules act one after the other, each on what those before it have made.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facegan.config import decode, read_json, unknown_name
from facegan.errors import ConfigError

Range = tuple[int | None, int | None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """One rule as it stands in a file; ``from`` is a word of the language."""

    source: str | tuple[str, ...]
    to: str
    rows: Range = (None, None)
    columns: Range = (None, None)
    frames: Range = (None, None)

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "frames"):
            start, stop = getattr(self, name)
            if (start or 0) < 0 or (stop is not None and stop <= (start or 0)):
                raise ConfigError(
                    f"{name} must go from a number of at least 0 to a larger one, or null; got "
                    f"[{start}, {stop}]."
                )


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    """One rule, ready to act: the new id by the old one, and where and when."""

    ids: np.ndarray
    rows: Range
    columns: Range
    frames: Range


class LabelRules:
    """Changes label maps by rules; ``load_rules`` makes it.

    Args:
        tables: The rules in order.
        size: Height and width in whose pixels boxes are given.
    """

    def __init__(self, tables: Sequence[_Table], size: int) -> None:
        self._tables, self._size = tuple(tables), size

    def apply(self, label_map: np.ndarray, frame_index: int) -> np.ndarray:
        """The label map of a frame after all rules.

        Args:
            label_map: [H, W] uint8; boxes are scaled to its size, to the nearest pixel.
            frame_index: Number of the frame in its clip.

        Returns:
            A new map, [H, W] uint8.
        """
        changed = label_map.copy()
        height, width = label_map.shape
        for table in self._tables:
            start, stop = table.frames
            if frame_index < (start or 0) or (stop is not None and frame_index >= stop):
                continue
            part = changed[self._slice(table.rows, height), self._slice(table.columns, width)]
            part[...] = table.ids[part]
        return changed

    def _slice(self, box: Range, length: int) -> slice:
        start, stop = (None if n is None else round(n * length / self._size) for n in box)
        return slice(start, stop)


def load_rules(
    source: str | os.PathLike[str] | Mapping[str, Any], labels: Sequence[str]
) -> LabelRules:
    """Reads rules strictly.

    Args:
        source: A JSON file, or its content.
        labels: Names of the labels by id.

    Raises:
        ConfigError: The file cannot be read, or a key, name or range in it is wrong; the message
            names the rule.
    """
    where = "The rules" if isinstance(source, Mapping) else os.fspath(source)
    document = source if isinstance(source, Mapping) else read_json(source)
    if not isinstance(document, Mapping):
        raise ConfigError(f"{where} must be an object with 'size' and 'rules'.")
    for key in document:
        if key not in ("size", "rules"):
            raise ConfigError(f"{where}: {unknown_name(key, key, ('size', 'rules'), what='key')}")
    size, rules = document.get("size"), document.get("rules")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(
            f"{where}: 'size' must be the height and width of the picture that rows and columns "
            f"are counted in, as 512; got {size!r}."
        )
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise ConfigError(f"{where}: 'rules' must be a list of rules, got {rules!r}.")
    tables = []
    for number, rule in enumerate(rules, 1):
        try:
            tables.append(_make_table(rule, labels, size))
        except ConfigError as error:
            raise ConfigError(f"{where}, rule {number}: {error}") from error
    return LabelRules(tables, size)


def _make_table(document: Any, labels: Sequence[str], size: int) -> _Table:
    if not isinstance(document, Mapping) or "from" not in document:
        raise ConfigError(f"A rule is an object with 'from' and 'to', got {document!r}.")
    named = {"source" if key == "from" else key: value for key, value in document.items()}
    if "source" in document:
        raise ConfigError("Unknown key 'source'. The label to change stands under 'from'.")
    rule = decode(_Rule, named)
    sources = (rule.source,) if isinstance(rule.source, str) else rule.source
    for name in (*sources, rule.to):
        if name not in labels:
            raise unknown_name("A label", name, labels, what="value")
    for name in ("rows", "columns"):
        if (getattr(rule, name)[0] or 0) >= size:
            raise ConfigError(f"{name} begin at {getattr(rule, name)[0]}, outside of size {size}.")
    ids = np.arange(256, dtype=np.uint8)
    ids[[labels.index(name) for name in sources]] = labels.index(rule.to)
    return _Table(ids, rule.rows, rule.columns, rule.frames)
