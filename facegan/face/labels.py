"""Label maps and the schemas that say what their ids mean.

A label map is [H, W] uint8, one id a pixel. Two orders of the same nineteen labels are in use, that
of CelebAMask-HQ and that of the BiSeNet face parser; a map of one read as the other looks plausible
and is wrong. So a map always travels with a named ``LabelSchema``, and maps go from one schema to
another by the labels' names. Both orders use the same names here; two of them are easily confused:
``ear_r`` is an earring, ``r_ear`` an ear.

Whether ``l_`` and ``r_`` mean the person's own sides or the picture's has been argued about for
both; here it does not matter: each pair in ``flip_pairs`` swaps when a picture is mirrored.

Colour pictures of label maps are read with a named ``Palette`` only: CelebAMask-HQ's authors use
two, which differ in the colour of ``r_brow``. What is done with the maps themselves stands in
``label_maps``.
"""

import colorsys
import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from facegan.config import decode, encode, read_json, unknown_name
from facegan.errors import ConfigError, DataError

BACKGROUND = "background"

# What tables hold for ids that their schema does not have; `check_labels` finds it in any result.
_NO_LABEL = 255


def _check_colours(
    name: str, labels: tuple[str, ...], colours: tuple[tuple[int, int, int], ...]
) -> None:
    if len(colours) != len(labels):
        raise ConfigError(
            f"The palette {name!r} must have one colour for each of {len(labels)} labels, got "
            f"{len(colours)}."
        )
    for index, colour in enumerate(colours):
        if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
            raise ConfigError(
                f"The colour of {labels[index]!r} in the palette {name!r} must be three whole "
                f"numbers from 0 to 255, got {colour}."
            )
        first = colours.index(colour)
        if first < index:
            raise ConfigError(
                f"The labels {labels[first]!r} and {labels[index]!r} of the palette {name!r} have "
                f"the same colour {colour}; a picture could not be read back."
            )


def _first_repeated(names: tuple[str, ...] | list[str]) -> str | None:
    return next((name for i, name in enumerate(names) if name in names[:i]), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelSchema:
    """What the ids of a label map mean.

    Attributes:
        name: Of the schema, as configs and datasets give it.
        labels: Names by id, at most 255; the first is ``background``. Where parts overlap, the
            larger id lies on top.
        flip_pairs: Names that change places when the picture is mirrored.
        colours: (r, g, b) by id for a schema that brings its own palette, else empty.
    """

    KIND: ClassVar[str] = "label_schema"
    VERSION: ClassVar[int] = 1

    name: str
    labels: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("A label schema needs a name, got an empty text.")
        if not 2 <= len(self.labels) <= _NO_LABEL:
            raise ConfigError(
                f"The label schema {self.name!r} must have 2 to {_NO_LABEL} labels, got "
                f"{len(self.labels)}."
            )
        if self.labels[0] != BACKGROUND:
            raise ConfigError(
                f"The first label of the schema {self.name!r} must be {BACKGROUND!r}, got "
                f"{self.labels[0]!r}; id 0 is where no part is."
            )
        twice = _first_repeated(self.labels)
        if twice is not None or "" in self.labels:
            raise ConfigError(
                f"The labels of the schema {self.name!r} must be different and not empty; "
                f"{twice or ''!r} is not."
            )
        paired = [name for pair in self.flip_pairs for name in pair]
        for name in paired:
            if name not in self.labels[1:]:
                raise unknown_name(
                    f"A name in flip_pairs of the schema {self.name!r}",
                    name,
                    self.labels[1:],
                    what="value",
                )
        twice = _first_repeated(paired)
        if twice is not None:
            raise ConfigError(
                f"Each label may be in one of the flip_pairs of the schema {self.name!r}, got "
                f"{twice!r} more than once."
            )
        if self.colours:
            _check_colours(self.name, self.labels, self.colours)

    @property
    def num_labels(self) -> int:
        """The number of ids, background included."""
        return len(self.labels)

    @property
    def flip_table(self) -> np.ndarray:
        """The id after a mirror by the id before, [256] uint8; other ids stay as they are."""
        return _flip_table(self)

    def index(self, name: str) -> int:
        """The id of a label.

        Raises:
            ConfigError: The schema has no such label.
        """
        if name not in self.labels:
            raise unknown_name(
                f"A label of the schema {self.name!r}", name, self.labels, what="value"
            )
        return self.labels.index(name)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """A colour for each label of a schema, so that a label map can be seen and read back.

    Attributes:
        name: Of the palette.
        schema: Whose labels it colours.
        colours: (r, g, b) by id, all different.
    """

    name: str
    schema: LabelSchema
    colours: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        _check_colours(self.name, self.schema.labels, self.colours)


_SIDES = (("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear"))

# The order in which CelebAMask-HQ's part masks are painted over each other.
CELEBAMASK19 = LabelSchema(
    name="celebamask19",
    labels=(
        BACKGROUND,
        *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
        *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
    ),
    flip_pairs=_SIDES,
)

# The ids that the public BiSeNet face parsing weights give.
BISENET19 = LabelSchema(
    name="bisenet19",
    labels=(
        BACKGROUND,
        *("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r"),
        *("nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat"),
    ),
    flip_pairs=_SIDES,
)

# Groups of parts that are edited and coloured as one; no group knows sides.
_GROUPS: dict[str, tuple[str, ...]] = {
    "skin": ("skin", "l_ear", "r_ear", "neck"),
    "eyes": ("l_eye", "r_eye"),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "hair": ("hair", "l_brow", "r_brow"),
    "nose": ("nose",),
    "clothes": ("cloth",),
    "accessories": ("eye_g", "hat", "ear_r", "neck_l"),
}
_GROUP_OF = {part: group for group, parts in _GROUPS.items() for part in parts}

GROUPS7 = LabelSchema(name="groups7", labels=(BACKGROUND, *_GROUPS))

SCHEMAS: dict[str, LabelSchema] = {s.name: s for s in (CELEBAMASK19, BISENET19, GROUPS7)}

# What the preparation scripts of CelebAMask-HQ's authors paint label maps with.
_CELEBAMASK_COLOURS: dict[str, tuple[int, int, int]] = {
    BACKGROUND: (0, 0, 0),
    "skin": (204, 0, 0),
    "nose": (76, 153, 0),
    "eye_g": (204, 204, 0),
    "l_eye": (51, 51, 255),
    "r_eye": (204, 0, 204),
    "l_brow": (0, 255, 255),
    "r_brow": (255, 204, 204),
    "l_ear": (102, 51, 0),
    "r_ear": (255, 0, 0),
    "mouth": (102, 204, 0),
    "u_lip": (255, 255, 0),
    "l_lip": (0, 0, 153),
    "hair": (0, 0, 204),
    "hat": (255, 51, 153),
    "ear_r": (0, 204, 204),
    "neck_l": (0, 51, 0),
    "neck": (255, 153, 51),
    "cloth": (0, 204, 0),
}
# Their parser's own output differs from it in this one.
_PARSER_COLOURS = {**_CELEBAMASK_COLOURS, "r_brow": (51, 255, 255)}
# A group has the colour of its first part, but for the eyes: beside hair theirs is hard to see.
_GROUP_COLOURS = {
    BACKGROUND: (0, 0, 0),
    **{group: _CELEBAMASK_COLOURS[parts[0]] for group, parts in _GROUPS.items()},
    "eyes": (0, 255, 255),
}


def _palette(
    name: str, schema: LabelSchema, colours: Mapping[str, tuple[int, int, int]]
) -> Palette:
    return Palette(name=name, schema=schema, colours=tuple(colours[n] for n in schema.labels))


PALETTES: dict[str, Palette] = {
    p.name: p
    for p in (
        _palette("celebamask19_dataset", CELEBAMASK19, _CELEBAMASK_COLOURS),
        _palette("celebamask19_parser", CELEBAMASK19, _PARSER_COLOURS),
        _palette("bisenet19", BISENET19, _CELEBAMASK_COLOURS),
        _palette("groups7", GROUPS7, _GROUP_COLOURS),
    )
}


def schema_colours(schema: LabelSchema) -> tuple[tuple[int, int, int], ...]:
    """(r, g, b) by id, to look at maps of a schema: a palette's, or made up where it has none."""
    if schema.colours:
        return schema.colours
    for palette in PALETTES.values():
        if palette.schema == schema:
            return palette.colours
    hues = (
        colorsys.hsv_to_rgb(i * 0.618 % 1, 0.8, 1 - i % 3 / 4) for i in range(schema.num_labels)
    )
    made = [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues]
    return ((0, 0, 0), *made[1:])


def colour_table(schema: LabelSchema) -> np.ndarray:
    """``schema_colours`` by id, [256, 3] uint8; white for ids that the schema does not have."""
    table = np.full((256, 3), 255, np.uint8)
    table[: schema.num_labels] = schema_colours(schema)
    return table


def encode_schema(schema: LabelSchema) -> dict[str, Any]:
    """The JSON document of a schema: its kind, version, names, pairs and colours."""
    return {"kind": schema.KIND, "version": schema.VERSION, **encode(schema)}


def decode_schema(document: Mapping[str, Any]) -> LabelSchema:
    """Reads what ``encode_schema`` wrote, or what was written by hand in the same form.

    Raises:
        ConfigError: The document is no label schema of a known version, a value is wrong, or it
            has the name of a built-in schema and other labels.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(
            f"A label schema must be an object with a kind, got {type(document).__name__}."
        )
    kind, version = document.get("kind"), document.get("version")
    if kind != LabelSchema.KIND or version != LabelSchema.VERSION:
        raise ConfigError(
            f"A label schema must have the kind {LabelSchema.KIND!r} and the version "
            f"{LabelSchema.VERSION}, got {kind!r} and {version!r}."
        )
    schema = decode(
        LabelSchema, {k: v for k, v in document.items() if k != "version"}, LabelSchema.KIND
    )
    if schema.name in SCHEMAS and schema != SCHEMAS[schema.name]:
        raise ConfigError(
            f"The name {schema.name!r} is that of a built-in label schema with other labels, pairs "
            "or colours; give yours another name."
        )
    return schema


def find_schema(name_or_path: str | os.PathLike[str]) -> LabelSchema:
    """A built-in schema by its name, or one from a ``.json`` file in ``encode_schema``'s form.

    Raises:
        ConfigError: There is no such schema, or the file is wrong.
    """
    text = os.fspath(name_or_path)
    if text in SCHEMAS:
        return SCHEMAS[text]
    if not text.lower().endswith(".json"):
        raise unknown_name("A label schema", text, [*SCHEMAS, "a .json file"], what="value")
    document = read_json(text)
    try:
        return decode_schema(document)
    except ConfigError as error:
        raise ConfigError(f"{text}: {error}") from error


def find_palette(name_or_path: str | os.PathLike[str]) -> Palette:
    """A built-in palette by its name, or that of a schema in a ``.json`` file with colours.

    Raises:
        ConfigError: There is no such palette, or the file is wrong or has no colours.
    """
    text = os.fspath(name_or_path)
    if text in PALETTES:
        return PALETTES[text]
    if not text.lower().endswith(".json"):
        raise unknown_name("A palette", text, [*PALETTES, "a .json file"], what="value")
    schema = find_schema(text)
    if not schema.colours:
        raise ConfigError(
            f"The label schema {text} has no colours; add the key 'colours' with one [r, g, b] for "
            f"each of its {schema.num_labels} labels."
        )
    return Palette(name=schema.name, schema=schema, colours=schema.colours)


@functools.cache
def conversion_table(source: LabelSchema, target: LabelSchema) -> np.ndarray:
    """The target's id by the source's id, [256] uint8.

    A label becomes the one of the same name, or else the group of ``groups7`` that it is part of.
    Ids that the source does not have become 255, which is no label of any schema.

    Raises:
        DataError: Some labels have no counterpart.
    """
    table = np.full(256, _NO_LABEL, np.uint8)
    lost = []
    for index, name in enumerate(source.labels):
        for candidate in (name, _GROUP_OF.get(name)):
            if candidate in target.labels:
                table[index] = target.labels.index(candidate)
                break
        else:
            lost.append(name)
    if lost:
        raise DataError(
            f"Labels of the schema {source.name!r} cannot be turned into those of {target.name!r}, "
            f"which has no {', '.join(map(repr, lost))}. Parts can become groups, but not the "
            "other way; start from maps of the finer schema."
        )
    table.flags.writeable = False
    return table


@functools.cache
def _flip_table(schema: LabelSchema) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    for left, right in schema.flip_pairs:
        one, other = schema.index(left), schema.index(right)
        table[[one, other]] = other, one
    table.flags.writeable = False
    return table
