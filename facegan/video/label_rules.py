"""Rules that change labels by hand, where a parser is known to be wrong.

A rule file is JSON. This one says what the source system did to its video by hand: no hats; skin
at the bottom is neck; below it the neck goes on; hair in the bottom corners is background, in one
of them for some frames only:

    {"size": 512, "rules": [
      {"from": "hat", "to": "background"},
      {"from": "skin", "to": "neck", "rows": [430, null], "columns": [220, 400]},
      {"from": "background", "to": "neck", "rows": [450, null], "columns": [210, 420]},
      {"from": "hair", "to": "background", "rows": [150, null], "columns": [200, null],
       "size": 256},
      {"from": "hair", "to": "background", "rows": [130, null], "columns": [0, 80],
       "size": 256, "frames": [50, 132]}]}

``from`` may be a list of labels. Rows and columns count from 0 at the top left, in pixels of a
picture of ``size`` x ``size``, which stands in the file once or in a rule for itself; where it is
1 they are parts of the height and width, as in ``"rows": [0.84, null]``. Frames are those of the
clip, from 0. Ranges hold their first number and not their second; null leaves an end open. Rules
act one after the other, each on what those before it have made.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facegan.config import decode, read_json, unknown_name
from facegan.errors import ConfigError

Range = tuple[float | None, float | None]
_BOX = ("rows", "columns")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """One rule as it stands in a file; ``from`` is a word of the language."""

    source: str | tuple[str, ...]
    to: str
    rows: Range = (None, None)
    columns: Range = (None, None)
    frames: tuple[int | None, int | None] = (None, None)
    size: int | None = None

    def __post_init__(self) -> None:
        if not self.source:
            raise ConfigError("'from' must be a label or a list of some, got none.")
        for name in (*_BOX, "frames"):
            start, stop = getattr(self, name)
            if (start or 0) < 0 or (stop is not None and stop <= (start or 0)):
                raise ConfigError(
                    f"{name} must go from a number of at least 0 to a larger one, or null; got "
                    f"{_show(start, stop)}."
                )


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    """One rule, ready to act: the new id by the old one, and where and when."""

    ids: np.ndarray
    rows: Range
    columns: Range
    frames: tuple[int | None, int | None]
    size: int


class LabelRules:
    """Changes label maps by rules; ``load_rules`` makes it.

    Args:
        tables: The rules in order.
    """

    def __init__(self, tables: Sequence[_Table]) -> None:
        self._tables = tuple(tables)

    def apply(self, label_map: np.ndarray, frame_index: int) -> np.ndarray:
        """The label map of a frame after all rules.

        Args:
            label_map: [H, W] uint8; boxes are scaled to its size, to the nearest pixel.
            frame_index: Number of the frame in its clip.

        Returns:
            A new map, [H, W] uint8.

        Raises:
            ConfigError: The map has another form.
        """
        if label_map.ndim != 2 or label_map.dtype != np.uint8:
            raise ConfigError(
                f"Rules change label maps [H, W] uint8, got {label_map.dtype} of shape "
                f"{label_map.shape}."
            )
        changed = label_map.copy()
        height, width = label_map.shape
        for table in self._tables:
            start, stop = table.frames
            if frame_index < (start or 0) or (stop is not None and frame_index >= stop):
                continue
            rows = _scale(table.rows, height, table.size)
            part = changed[rows, _scale(table.columns, width, table.size)]
            part[...] = table.ids[part]
        return changed


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
    size = document.get("size")
    if "size" in document:
        try:
            _check_size(size)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    rules = document.get("rules")
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise ConfigError(f"{where}: 'rules' must be a list of rules, got {rules!r}.")
    tables = []
    for number, rule in enumerate(rules, 1):
        try:
            tables.append(_make_table(rule, labels, size))
        except ConfigError as error:
            raise ConfigError(f"{where}, rule {number}: {error}") from error
    return LabelRules(tables)


def _scale(box: Range, length: int, size: int) -> slice:
    start, stop = (None if n is None else round(n * length / size) for n in box)
    return slice(start, stop)


def _show(*ends: float | None) -> str:
    return f"[{', '.join('null' if end is None else f'{end:g}' for end in ends)}]"


def _make_table(document: Any, labels: Sequence[str], size: Any) -> _Table:
    if not isinstance(document, Mapping) or "from" not in document:
        raise ConfigError(f"A rule is an object with 'from' and 'to', got {document!r}.")
    allowed = ("from", *(field.name for field in dataclasses.fields(_Rule)[1:]))
    for key in document:
        if key not in allowed:
            raise unknown_name(key, key, allowed, what="key")
    named = {"source" if key == "from" else key: value for key, value in document.items()}
    source = document["from"]
    listed = [source] if isinstance(source, str) else source
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"'from' must be the name of a label or a list of some, got {source!r}.")
    rule = decode(_Rule, named)
    for name in (*listed, rule.to):
        if name not in labels:
            raise unknown_name("A label", name, labels, what="value")
    boxed = any(end is not None for name in _BOX for end in getattr(rule, name))
    size = size if rule.size is None else _check_size(rule.size)
    if boxed:
        size = _check_size(size)  # there may be none
    for name in _BOX if boxed else ():
        for end in getattr(rule, name):
            if end is None:
                continue
            if size > 1 and end != int(end):
                raise ConfigError(
                    f"{name} must be whole pixels of size {size}, got {_show(*getattr(rule, name))}"
                    "; for parts of the height and width set 'size' to 1."
                )
            if end > size:
                raise ConfigError(
                    f"{name} {_show(*getattr(rule, name))} go outside of size {size}; an end at "
                    "the border is null."
                )
        if getattr(rule, name)[0] == size:
            raise ConfigError(f"{name} begin at {size}, outside of size {size}.")
    ids = np.arange(256, dtype=np.uint8)
    ids[[labels.index(name) for name in listed]] = labels.index(rule.to)
    return _Table(ids, rule.rows, rule.columns, rule.frames, size or 1)


def _check_size(size: Any) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(
            "'size' must be the height and width of the picture that rows and columns are counted "
            f"in, as 512, or 1 for parts of them; got {size!r}."
        )
    return size
