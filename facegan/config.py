"""Strict translation between frozen dataclasses and JSON.

Every setting of the library is a frozen dataclass. This module writes one as JSON, reads it back,
and changes single values by dotted name; unknown, missing and mistyped keys are errors that name
the nearest allowed key. A field whose type is a union of dataclasses carries a ``"kind"`` in JSON
(the class's ``KIND``), so that the reader knows which one is meant.
"""

import copy
import dataclasses
import difflib
import functools
import json
import math
import os
import pathlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from facegan.errors import ConfigError


class Config(Protocol):
    """Any dataclass instance."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C", bound=Config)


def encode(config: Config) -> dict[str, Any]:
    """Turns a config dataclass into plain JSON values.

    Args:
        config: A dataclass instance whose fields are numbers, strings, booleans, None, tuples,
            mappings from strings, or further config dataclasses.

    Returns:
        A dict in field order. A class with a ``KIND`` writes it under ``"kind"``.
    """
    out: dict[str, Any] = {}
    kind = getattr(type(config), "KIND", None)
    if kind is not None:
        out["kind"] = kind
    for field in dataclasses.fields(config):
        out[field.name] = _encode_value(getattr(config, field.name))
    return out


def _encode_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return encode(value)
    if isinstance(value, tuple | list):
        return [_encode_value(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _encode_value(v) for k, v in value.items()}
    return value


def decode(cls: type[C], data: Mapping[str, Any], where: str = "") -> C:
    """Builds a config dataclass from plain JSON values, strictly.

    Args:
        cls: The dataclass to build.
        data: Values by field name, as ``encode`` writes them. Fields with a default may be left
            out.
        where: Dotted name of this config in the whole, for messages.

    Returns:
        An instance of ``cls``.

    Raises:
        ConfigError: A key is unknown, missing or has a value of the wrong type, or the class
            itself refuses the values.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where or cls.__name__} must be an object with the keys of {cls.__name__}, "
            f"got {_show(data)}."
        )
    data = dict(data)
    kind = getattr(cls, "KIND", None)
    if kind is not None:
        found = data.pop("kind", kind)
        if found != kind:
            raise ConfigError(f"{_join(where, 'kind')} must be {kind!r}, got {_show(found)}.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in data:
        if key not in fields:
            raise unknown_name(_join(where, key), key, fields, what="key", parent=where)
    hints = _type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _decode_value(hints[name], data[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"The key {_join(where, name)!r} is missing and has no default.")
    return cls(**values)


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode_value(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(hint), value, where)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise unknown_name(where, value, allowed, what="value")
        return value
    if origin is tuple:
        return _decode_tuple(typing.get_args(hint), value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be an object, got {_show(value)}.")
        item = (typing.get_args(hint) or (str, Any))[1]
        return {k: _decode_value(item, v, _join(where, k)) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        return decode(typing.cast(Any, hint), value, where)
    return _decode_scalar(hint, value, where)


def _decode_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{where} must be a finite number, got {value}.")
        return float(value)
    if hint is type(None) and value is None:
        return None
    if isinstance(hint, type) and isinstance(value, hint):
        if not (hint is int and isinstance(value, bool)):
            return value
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    raise ConfigError(f"{where} must be {names.get(hint, str(hint))}, got {_show(value)}.")


def _decode_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{where} must be a list, got {_show(value)}.")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decode_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{where} must have {len(args)} items, got {len(value)}.")
    return tuple(
        _decode_value(a, v, f"{where}[{i}]")
        for i, (a, v) in enumerate(zip(args, value, strict=True))
    )


def _decode_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    options = tuple(o for o in options if o is not type(None))
    configs: dict[str, Any] = {
        getattr(o, "KIND", str(o)): o for o in options if dataclasses.is_dataclass(o)
    }
    if isinstance(value, Mapping) and configs:
        if len(configs) == 1 and "kind" not in value:
            return decode(next(iter(configs.values())), value, where)
        if value.get("kind") not in configs:
            raise unknown_name(_join(where, "kind"), value.get("kind"), configs, what="value")
        return decode(configs[value["kind"]], value, where)
    errors = []
    for option in options:
        try:
            return _decode_value(option, value, where)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError(errors[-1])


def assign(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Returns a copy of a config's document with single values changed by dotted name.

    Args:
        document: A document with every value spelled out, as ``encode`` makes it.
        assignments: Texts such as ``"train.batch_size=8"``. The value is read as JSON where it is
            JSON, else as text.

    Raises:
        ConfigError: An assignment has no ``=`` or names a key that the document does not have.

    Example:
        >>> assign({"train": {"steps": 100}}, ["train.steps=7"])
        {'train': {'steps': 7}}
    """
    data = copy.deepcopy(dict(document))
    for text in assignments:
        name, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes name=value, got {text!r}.")
        try:
            value = json.loads(raw)
        except json.JSONDecodeError:
            value = raw
        node, parts = data, name.strip().split(".")
        for depth, part in enumerate(parts):
            at = ".".join(parts[:depth])
            if not isinstance(node, dict):
                raise ConfigError(f"--set {text}: {at!r} is a single value and has no {part!r}.")
            if part not in node:
                raise unknown_name(_join(at, part), part, node, what="key", parent=at)
            if depth < len(parts) - 1:
                node = node[part]
        node[parts[-1]] = value
    return data


def set_by_name(config: C, assignments: Sequence[str]) -> C:
    """Returns a copy of a config with single values changed by dotted name; see ``assign``.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass(frozen=True)
        ... class Small:
        ...     size: int = 64
        >>> set_by_name(Small(), ["size=128"])
        Small(size=128)
    """
    return decode(type(config), assign(encode(config), assignments))


def unknown_name(
    where: str, name: Any, allowed: typing.Iterable[Any], *, what: str, parent: str = ""
) -> ConfigError:
    """The error for a name that is not among the allowed ones, with the nearest of them."""
    names = [str(a) for a in allowed]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(names) if names else "none"
    if what == "key":
        place = f" in {parent!r}" if parent else ""
        return ConfigError(f"Unknown key {str(name)!r}{place}.{hint} Allowed keys: {listing}.")
    return ConfigError(f"{where} must be one of {listing}; got {_show(name)}.{hint}")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        ConfigError: The file cannot be read or is not JSON; the message names it.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not a JSON file: {error}.") from error


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Writes a JSON file whole or not at all (a temporary neighbour, then a rename)."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error


def require_power_of_two(name: str, value: int, minimum: int, maximum: int = 4096) -> None:
    """Raises ConfigError unless ``value`` is a power of two in [minimum, maximum]."""
    if not minimum <= value <= maximum or value & (value - 1):
        sizes = ", ".join(str(2**k) for k in range(13) if minimum <= 2**k <= maximum)
        raise ConfigError(f"{name} must be a power of two, one of {sizes}; got {value}.")


def _join(parent: str, name: Any) -> str:
    return f"{parent}.{name}" if parent else str(name)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
