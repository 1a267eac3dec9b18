"""Changes a face by the map of its regions, with a model of faces from segmentation maps.

A photograph is cut and parsed as the model's training pictures were; its regions, their mean
colours and who it is are what the model paints it from. Another photograph's map, or a label
picture, may take the place of its own; then regions are moved, grown and recoloured, in this order.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from facegan.bundle import Manifest, read_manifest
from facegan.config import encode, unknown_name
from facegan.errors import BundleError, ConfigError, DataError
from facegan.face.align import (
    change_mask,
    compose_matrices,
    face_mask,
    invert_matrix,
    match_colours,
    paste_back,
    square_mask,
)
from facegan.face.conditioning import IDENTITY, MaskConditioningConfig, decode_conditioning
from facegan.face.label_maps import (
    check_labels,
    convert_labels,
    labels_from_colours,
    resize_labels,
)
from facegan.face.labels import LabelSchema, Palette, colour_table, find_schema, schema_colours
from facegan.face.landmarks import DetectorConfig, resize_landmarks
from facegan.face.mask_groups import draw_colour_map, split_groups
from facegan.face.parsing import ParserConfig
from facegan.face.region_edits import grow_region, move_region, surround
from facegan.image import make_grid, resize, to_float
from facegan.jobs.choice_text import parse_decimals
from facegan.jobs.picture_output import require_grid_room, require_picture_ending, write_picture
from facegan.preparation.file_names import VIDEO_ENDINGS
from facegan.preparation.items import Rejected
from facegan.preparation.pictures import probe_picture, read_label_ids, read_photo
from facegan.preparation.squares import Square, cut_square, read_photo_file
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import Engine, EngineConfig, load_engine
from facegan.render.plan import make_conditioner
from facegan.video.output import check_output

LEAST_GROWTH, MOST_GROWTH = 0.2, 5.0
# Of a grid; without an edit the first three.
COLUMNS = ("picture", "map", "reconstruction", "new map", "edited")

Kind = Literal["reconstruction", "edit", "grid", "map"]
Paste = Literal["change", "face", "square"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaskEditConfig:
    """What becomes of a face and its map; with no edit at all it is painted from its own map.

    Attributes:
        move: Regions that are moved: to the right and down, as shares of the square's side.
        grow: Regions that grow, or shrink below 1, by this factor about their centres; each eye
            about its own.
        recolour: New colours of regions, as "#804020".
        labels: Picture of a map that takes the place of the photograph's own: a PNG or BMP of
            single-channel ids, or of the colours in which a "map" is written. It shows the
            model's square, at its size or a whole number of times as large.
        labels_schema: Name of the schema of that picture; None is the model's.
        grid: One picture in rows: the photograph's square, its map in its colours, what the model
            paints of that, the new map, and what it paints of this.
        write_map: Write the new map, not a face: each region in a colour of its own, to be painted
            over and given as ``labels``.
        full_frame: Whether what is painted goes back into the whole photograph; without it the
            model's square is written.
        paste: What of it goes back: what the edit changed in and around the regions it is of, or
            all that the model paints of the face, or of the whole square. None takes what changed;
            the square, if another person's map is taken or nothing is edited.
        colour_match: Whether it takes the colours around it.
        parser: Finds the regions, instead of what the model's conditioning names.
        detector: What finds faces; the largest of a picture is taken.
        engine: What runs the network.
    """

    KIND: ClassVar[str] = "mask_edit"

    move: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    grow: dict[str, float] = dataclasses.field(default_factory=dict)
    recolour: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: str | None = None
    labels_schema: str | None = None
    grid: bool = False
    write_map: bool = False
    full_frame: bool = True
    paste: Paste | None = None
    colour_match: bool = True
    parser: ParserConfig | None = None
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        for name, shift in self.move.items():
            if len(shift) != 2 or not all(abs(share) < 1.0 for share in shift):
                raise ConfigError(
                    f"move {name} must be two shares of the side, each above -1 and below 1, got "
                    f"{', '.join(map(str, shift))}."
                )
        for name, factor in self.grow.items():
            if not LEAST_GROWTH <= factor <= MOST_GROWTH:
                raise ConfigError(
                    f"grow {name} must be a factor from {LEAST_GROWTH:g} to {MOST_GROWTH:g}, got "
                    f"{factor}."
                )
        for name, colour in self.recolour.items():
            _read_colour(name, colour)
        if self.labels_schema is not None:
            if self.labels is None:
                raise ConfigError(
                    "labels_schema says what a label picture means, and none is named; leave it "
                    "out, or name one as labels."
                )
            find_schema(self.labels_schema)
        if self.grid and self.write_map:
            raise ConfigError("A grid shows the map in colours; leave write_map out, or the grid.")
        if self.write_map and self.recolour:
            raise ConfigError(
                "A map shows where regions are, not their colours; leave recolour out."
            )
        if self.paste is not None and (self.grid or self.write_map or not self.full_frame):
            raise ConfigError(
                "paste says what goes back into a photograph, and none is written; leave it out."
            )

    @property
    def changes_regions(self) -> bool:
        """Whether the face is edited, even without another person's map."""
        return bool(self.move or self.grow or self.recolour or self.labels)


def read_region_edits(
    *, move: Sequence[str] = (), grow: Sequence[str] = (), recolour: Sequence[str] = ()
) -> dict[str, Any]:
    """The fields of a ``MaskEditConfig`` that command lines give as texts.

    Args:
        move: As "mouth=0.05,-0.02".
        grow: As "mouth=1.2".
        recolour: As "hair=#804020".

    Raises:
        ConfigError: A text is something else, or a region is named twice for one of them.
    """
    shifts = {
        name: parse_decimals(text, f"move {name}", "0.05,-0.02")
        for name, text in _split("move", move, "mouth=0.05,-0.02").items()
    }
    factors = {}
    for name, text in _split("grow", grow, "mouth=1.2").items():
        values = parse_decimals(text, f"grow {name}", "1.2")
        if len(values) != 1:
            raise ConfigError(f"grow {name} must be one factor, as 1.2; got {text!r}.")
        factors[name] = values[0]
    colours = _split("recolour", recolour, "hair=#804020")
    return {"move": shifts, "grow": factors, "recolour": colours}


def _split(what: str, texts: Sequence[str], example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{what} takes a region and a value, as {example}; got {text!r}.")
        if name in found:
            raise ConfigError(f"{what} names {name!r} twice; name it once.")
        found[name] = value
    return found


def mask_conditioning(manifest: Manifest) -> MaskConditioningConfig:
    """The conditioning of a bundle that paints faces from segmentation maps.

    Raises:
        BundleError: The bundle is of another kind.
    """
    if not _paints_maps(manifest):
        raise BundleError(
            f"A {manifest.model!r} bundle paints no faces from maps; take one of 'mask_pix2pix'."
        )
    config = decode_conditioning(manifest.conditioning or {})
    assert isinstance(config, MaskConditioningConfig)  # by its kind
    return config


def paints_maps(bundle: str | os.PathLike[str]) -> bool:
    """Whether a bundle paints faces from segmentation maps, so that ``edit_masks`` takes it.

    Raises:
        BundleError: It is no bundle, or a broken one.
    """
    return _paints_maps(read_manifest(bundle))


def _paints_maps(manifest: Manifest) -> bool:
    return (manifest.conditioning or {}).get("kind") == MaskConditioningConfig.KIND


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What was asked for, found to be possible. ``labels`` are ids [size, size] of the schema."""

    kind: Kind
    manifest: Manifest
    schema: LabelSchema
    target: str
    references: tuple[str, ...]
    output: pathlib.Path
    labels: np.ndarray | None


def edit_masks(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: MaskEditConfig | None = None,
    *,
    references: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Edits a face by the map of its regions.

    Args:
        bundle: The exported model.
        target: The photograph.
        output: The picture to write.
        config: What becomes of it; by default it is painted from its own map.
        references: Photographs whose maps take the place of the target's, which keeps its colours
            and who it is. One; of a grid any number, a row each.
        overwrite: Replace an output that exists.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``kind``, ``regions`` (the share of the square, by region of the target), and of
        an edit ``changed`` (the share of the square whose region is another) and ``borrowed``
        (regions that the target lacks, so that they have the reference's colours). A grid has
        ``columns`` and ``rows`` with these of each.

    Raises:
        ConfigError: A setting is wrong, or the model knows no such region.
        BundleError: The bundle is broken, or of another kind.
        DataError: A picture cannot be read, shows no face, or lacks a region that is edited.
        VideoError: The output is there already or cannot be written.
    """
    config = config or MaskEditConfig()
    task = _check(bundle, target, output, config, references, overwrite)
    reader, results = _Reader(task.manifest, config), []
    with progress("Edit masks") as report:
        total = 1 + len(task.references)
        report(0, total, "picture")
        face = reader.read(task.target)
        report(1, total, "picture")
        for done, name in enumerate(task.references, 2):
            results.append(_edit(task, config, face, reader.read(name)))
            report(done, total, "picture")
    if not results and config.changes_regions:
        results.append(_edit(task, config, face, None))
    told = {
        "output": str(task.output),
        "kind": task.kind,
        "regions": _shares(face.label_map, task.schema),
    }
    if task.kind == "grid":
        engine = load_engine(bundle, config.engine)
        write_picture(task.output, make_grid(_draw_rows(engine, face, results)))
        columns = list(COLUMNS[: 5 if results else 3])
        return {**told, "columns": columns, "rows": [result.told for result in results]}
    edited = results[0] if results else None
    if task.kind == "map":
        label_map = face.label_map if edited is None else edited.label_map
        write_picture(task.output, colour_table(task.schema)[label_map])
    else:
        engine = load_engine(bundle, config.engine)
        write_picture(task.output, _paint_result(engine, face, edited, config))
    return told if edited is None else {**told, **edited.told}


def plan_mask_edit(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: MaskEditConfig | None = None,
    *,
    references: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Checks what ``edit_masks`` would be given, and describes what it would do."""
    config = config or MaskEditConfig()
    task = _check(bundle, target, output, config, references, overwrite)
    return {
        "bundle": str(bundle),
        "model": task.manifest.model,
        "kind": task.kind,
        "target": task.target,
        "references": list(task.references),
        "regions": list(task.schema.labels[1:]),
        "output": str(task.output),
        "config": encode(config),
    }


def _check(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: MaskEditConfig,
    references: Sequence[str | os.PathLike[str]],
    overwrite: bool,
) -> _Task:
    manifest = read_manifest(bundle)
    shown = mask_conditioning(manifest)
    schema = find_schema(shown.schema)
    for what in ("move", "grow", "recolour"):
        for name in getattr(config, what):
            if name not in schema.labels[1:]:
                raise unknown_name(f"A region of {what}", name, schema.labels[1:], what="value")
    face, others = os.fspath(target), tuple(os.fspath(reference) for reference in references)
    _check_photo(face, "target")
    for other in others:
        _check_photo(other, "reference")
        if pathlib.Path(other).samefile(face):
            raise ConfigError(f"The reference {other} is the target itself; name another picture.")
    if others and config.labels is not None:
        raise ConfigError(
            "The new map is that of a reference or a label picture; leave one of them out."
        )
    if len(others) > 1 and not config.grid:
        raise ConfigError(f"A map is taken of one reference, got {len(others)}; a grid takes more.")
    if config.paste == "change" and not (others or config.changes_regions):
        raise ConfigError(
            "Nothing is edited, so nothing changes that could go back; paste must be face or "
            "square."
        )
    place = pathlib.Path(output)
    kind = _find_kind(place, config, edited=bool(others or config.changes_regions))
    if kind == "grid":
        require_grid_room(max(1, len(others)), len(COLUMNS), shown.size)
    for used in (face, *others, *([config.labels] if config.labels is not None else [])):
        if place.resolve() == pathlib.Path(used).resolve():
            raise ConfigError(f"The output {output} is read itself; give it another name.")
    if place.resolve().is_relative_to(pathlib.Path(bundle).resolve()):
        raise ConfigError(f"{output} lies in the bundle; name another place.")
    check_output(place, overwrite)
    parser = (config.parser or shown.parser).bundle
    if parser is not None:
        read_manifest(parser)
    return _Task(
        kind=kind,
        manifest=manifest,
        schema=schema,
        target=face,
        references=others,
        output=place,
        labels=None if config.labels is None else _read_labels(config, schema, shown.size),
    )


def _check_photo(path: str, what: str) -> None:
    place = pathlib.Path(path)
    if not place.is_file():
        raise DataError(f"The {what} {path} is no file that exists; name a picture.")
    if place.suffix.lower() in VIDEO_ENDINGS:
        raise ConfigError(
            f"The {what} must be a picture, got the video {path}; tools/render_video.py paints one "
            "from its own maps."
        )


def _find_kind(output: pathlib.Path, config: MaskEditConfig, *, edited: bool) -> Kind:
    if config.write_map:
        if output.suffix.lower() != ".png":
            raise ConfigError(
                f"The output of a map must end in .png, which keeps its colours; got "
                f"{output.name!r}."
            )
        return "map"
    require_picture_ending(output, "grid" if config.grid else "picture")
    if config.grid:
        return "grid"
    return "edit" if edited else "reconstruction"


def _read_colour(name: str, text: str) -> np.ndarray:
    """The colour "#rrggbb" of a region, [3] float32 in [-1, 1]."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ConfigError(f"recolour {name} must be a colour as #804020, got {text!r}.")
    return to_float(np.frombuffer(bytes.fromhex(text[1:]), np.uint8))


def _read_labels(config: MaskEditConfig, schema: LabelSchema, size: int) -> np.ndarray:
    """Reads a label picture as ids [size, size] uint8 of the model's schema."""
    path = str(config.labels)
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    source = find_schema(config.labels_schema or schema.name)
    mode = probe_picture(data, path).mode
    if mode in ("P", "PA"):
        raise Rejected("wrong_mode", f"{path} has a palette of its own; convert it to RGB.")
    if mode in ("RGB", "RGBA"):
        palette = Palette(name=source.name, schema=source, colours=schema_colours(source))
        try:
            ids = labels_from_colours(read_photo(data, path, turn_upright=False), palette)
        except Rejected:
            raise
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    else:
        ids = read_label_ids(data, path)
    check_labels(ids, source, path)
    height, width = ids.shape
    if height != width or height % size:
        raise DataError(
            f"{path} is {height}x{width} px; a label picture shows the model's square, so it must "
            f"be {size}x{size} px or a whole number of times as large."
        )
    return resize_labels(convert_labels(ids, source, schema), size, size)


@dataclasses.dataclass(frozen=True, slots=True)
class _Face:
    """A photograph and what the model is shown of it.

    Attributes:
        name: Its file.
        photo: [H, W, 3] uint8.
        square: As it is parsed, which may be larger than what the model paints.
        label_map: [size, size] uint8 ids.
        colours: [G, 3] float32 in [-1, 1].
        told: What else the model takes, by name.
    """

    name: str
    photo: np.ndarray
    square: Square
    label_map: np.ndarray
    colours: np.ndarray
    told: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class _Edit:
    """What the model is to paint.

    Attributes:
        label_map: [size, size] uint8 ids.
        colours: [G, 3] float32 in [-1, 1].
        area: [size, size] bool, where the map is another, or of a region that is edited.
        other: Whether it is another person's map.
        told: What there is to tell about it.
    """

    label_map: np.ndarray
    colours: np.ndarray
    area: np.ndarray
    other: bool
    told: dict[str, Any]


class _Reader:
    """Reads photographs as the model is shown them."""

    def __init__(self, manifest: Manifest, config: MaskEditConfig) -> None:
        self._detector = config.detector
        self._conditioner = make_conditioner(manifest, config.parser, load_engine)

    def read(self, path: str) -> _Face:
        """Reads a photograph, cuts and parses it."""
        photo, conditioner = read_photo_file(path), self._conditioner
        square = cut_square(
            photo,
            path,
            conditioner.crop_size,
            align=conditioner.config.align,
            detector=self._detector,
            landmarks=True,
        )
        if square.landmarks_xy_px is None:
            raise Rejected("no_face", f"No face is found in {path}, so it cannot be parsed.")
        shown = conditioner(square.landmarks_xy_px, square.image)
        masks = shown["masks"]
        label_map = np.where(masks.any(axis=-1), masks.argmax(axis=-1) + 1, 0).astype(np.uint8)
        told = {IDENTITY: shown[IDENTITY]} if IDENTITY in shown else {}
        return _Face(path, photo, square, label_map, shown["colours"], told)


def _paint(engine: Engine, face: _Face, label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """What the model paints of a map in colours, of a person: [size, size, 3] uint8."""
    inputs = {"masks": split_groups(label_map, len(colours)), "colours": colours, **face.told}
    return engine.generate({name: value[None] for name, value in inputs.items()})[0]


def _edit(task: _Task, config: MaskEditConfig, face: _Face, other: _Face | None) -> _Edit:
    """The map and the colours that the model is to paint."""
    schema, source = task.schema, face.name
    label_map, colours = face.label_map, face.colours.copy()
    if other is not None:
        label_map, source = other.label_map, other.name
    elif task.labels is not None:
        label_map, source = task.labels, str(config.labels)
    absent = sorted(_present(label_map) - _present(face.label_map))
    if other is not None:
        for index in absent:
            colours[index - 1] = other.colours[index - 1]
    else:
        _require_colours([schema.labels[i] for i in absent], config, face.name)
    for name, shift in config.move.items():
        index = _find_region(label_map, schema, name, "move", source)
        label_map = move_region(label_map, index, shift)
    for name, factor in config.grow.items():
        index = _find_region(label_map, schema, name, "grow", source)
        label_map = grow_region(label_map, index, factor)
    for name, colour in config.recolour.items():
        index = _find_region(label_map, schema, name, "recolour", source)
        colours[index - 1] = _read_colour(name, colour)
    told: dict[str, Any] = {}
    if other is not None:
        told["reference"] = other.name
        told["borrowed"] = [schema.labels[index] for index in absent]
    differs = label_map != face.label_map
    told["changed"] = round(float(differs.mean()), 4)
    edited = [schema.index(name) for name in (*config.move, *config.grow, *config.recolour)]
    return _Edit(label_map, colours, differs | np.isin(label_map, edited), other is not None, told)


def _present(label_map: np.ndarray) -> set[int]:
    """The ids of a map but for the background's."""
    return {int(index) for index in np.unique(label_map) if index}


def _require_colours(names: Sequence[str], config: MaskEditConfig, target: str) -> None:
    missing = [name for name in names if name not in config.recolour]
    if missing:
        raise DataError(
            f"{config.labels} has {', '.join(missing)}, of which {target} shows no colour; name "
            f"one, as recolour {missing[0]}=#804020, or leave it out of the label picture."
        )


def _find_region(
    label_map: np.ndarray, schema: LabelSchema, name: str, what: str, source: str
) -> int:
    index, present = schema.index(name), _present(label_map)
    if index not in present:
        raise DataError(
            f"There is no {name} to {what} in the map of {source}, only "
            f"{', '.join(schema.labels[i] for i in sorted(present)) or 'background'}."
        )
    return index


def _shares(label_map: np.ndarray, schema: LabelSchema) -> dict[str, float]:
    counts = np.bincount(label_map.ravel(), minlength=schema.num_labels)
    return {
        name: round(float(count) / label_map.size, 4)
        for name, count in zip(schema.labels[1:], counts[1:], strict=True)
    }


def _draw_rows(engine: Engine, face: _Face, edits: Sequence[_Edit]) -> list[list[np.ndarray]]:
    def draw(label_map: np.ndarray, colours: np.ndarray) -> list[np.ndarray]:
        masks = split_groups(label_map, len(colours))
        return [draw_colour_map(masks, colours), _paint(engine, face, label_map, colours)]

    first = [
        resize(face.square.image, *face.label_map.shape),
        *draw(face.label_map, face.colours),
    ]
    return [[*first, *draw(edit.label_map, edit.colours)] for edit in edits] or [first]


def _paint_result(
    engine: Engine, face: _Face, edit: _Edit | None, config: MaskEditConfig
) -> np.ndarray:
    """The painted square, in the photograph where that is wanted."""
    before = _paint(engine, face, face.label_map, face.colours)
    after = before if edit is None else _paint(engine, face, edit.label_map, edit.colours)
    if not config.full_frame:
        return after
    size, parsed = len(after), len(face.square.image)
    scale = size / parsed
    shrink = np.array([[scale, 0.0, 0.5 * scale - 0.5], [0.0, scale, 0.5 * scale - 0.5]])
    back = invert_matrix(compose_matrices(shrink, face.square.matrix))
    paste = config.paste or ("square" if edit is None or edit.other else "change")
    if paste == "change":
        assert edit is not None  # or it has been refused
        # A colour is told to the whole net, which may change what nobody asked it to.
        near = surround(edit.area)[..., None]
        after = np.rint(near * after + (1.0 - near) * before).astype(np.uint8)
        mask = change_mask(before, after)
    elif paste == "face":
        landmarks = face.square.landmarks_xy_px
        assert landmarks is not None  # or it would not have been parsed
        mask = face_mask(resize_landmarks(landmarks, (parsed, parsed), (size, size)), size)
    else:
        mask = square_mask(size)
    if config.colour_match:
        # Told by what the model paints of the face as it is: what the edit changes is meant.
        matched = match_colours(before, face.photo, back, mask)
        after = np.clip(after.astype(np.int16) + matched - before, 0, 255).astype(np.uint8)
    return paste_back(face.photo, after, back, mask, colour_match=False)
