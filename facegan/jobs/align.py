"""Portraits as FFHQ and CelebA-HQ have them, from a picture or a whole tree of pictures.

``align.json`` in the output folder knows every picture that is done. The matrix of a portrait
takes pixels of its picture, turned upright as its EXIF orientation says, to pixels of the portrait;
``facegan.face.align.paste_back`` takes its inverse.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from facegan.config import encode, read_json, require_power_of_two, write_json
from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.face.portrait import extract_portrait, portrait_matrix, portrait_side_px
from facegan.image import write_image
from facegan.preparation.faces import find_faces
from facegan.preparation.items import Item, LeftOut, Outcome, Rejected
from facegan.preparation.parts import PartFolder, cut_parts
from facegan.preparation.pictures import read_photo
from facegan.preparation.sources import FolderSource, Source, open_source
from facegan.preparation.workers import WorkersConfig, run_parts
from facegan.progress import ProgressFactory, no_progress

PICTURES_NAME, REPORT_NAME = "align.json", "report.json"
_WORK_NAME = ".align"
# What a stop may cost.
_ITEMS_PER_PART = 16
# Reasons that lie with the machine; such pictures are tried again.
_TRY_AGAIN = frozenset(("missing", "unreadable", "not_written"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AlignConfig:
    """Which portraits are made.

    Attributes:
        size: Height and width of a portrait, a power of two.
        min_scale: A face is left out when its square has less than this share of ``size``.
        all_faces: Every face that the detector finds instead of the largest; pictures are then
            searched at ``detector.search_side_px`` at once.
        detector: What finds the faces.
    """

    KIND: ClassVar[str] = "align"

    size: int = 256
    min_scale: float = 0.5
    all_faces: bool = False
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        if not 0 <= self.min_scale <= 1:
            raise ConfigError(f"min_scale must be in [0, 1], got {self.min_scale}; 0 takes all.")

    @property
    def search(self) -> DetectorConfig:
        """The detector's settings as they are used."""
        if not self.all_faces:
            return self.detector
        # A coarse search ends with the first face; small ones beside it would stay unseen.
        return dataclasses.replace(self.detector, detect_side_px=self.detector.search_side_px)


@dataclasses.dataclass(frozen=True, slots=True)
class PortraitWork:
    """A picture -> its portraits, written as PNG, and a record of what became of it.

    Attributes:
        source: Where the pictures are.
        config: Which portraits are made.
        output_dir: Where they go.
    """

    source: Source
    config: AlignConfig
    output_dir: str

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the records."""
        return encode(self.config)

    def __call__(self, item: Item) -> Outcome:
        """Makes the portraits of one picture."""
        try:
            facts = self._align(item)
        except Rejected as error:
            if error.reason in _TRY_AGAIN:
                raise
            facts = {"portraits": [], "left_out": [_refusal(error.reason, str(error))]}
        entry = {"bytes": item.sizes[0], **facts}
        return Outcome(((item.key, {"entry": json.dumps(entry)}),))

    def _align(self, item: Item) -> dict[str, Any]:
        size = self.config.size
        image = read_photo(self.source.read(item.files[0]), item.key, turn_upright=True)
        faces = find_faces(image, self.config.search)
        if not faces:
            raise Rejected("no_face", f"No face is found in {item.key}.")
        portraits, left_out = [], []
        for index, face in enumerate(faces if self.config.all_faces else faces[:1]):
            matrix = portrait_matrix(face.landmarks_xy_px, size)
            side = portrait_side_px(matrix, size)
            least = self.config.min_scale * size
            if side < least:
                detail = (
                    f"The square of face {index} is {side:.0f} px wide, at least {least:.0f} are "
                    "needed (min_scale)."
                )
                left_out.append(_refusal("too_small", detail))
                continue
            file = f"{_stem(item.key)}{f'_{index}' if self.config.all_faces else ''}.png"
            path = pathlib.Path(self.output_dir, file)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, extract_portrait(image, matrix, size))
            except OSError as error:
                detail = f"Cannot make the folder {path.parent}: {error.strerror or error}."
                raise Rejected("not_written", detail) from error
            except DataError as error:
                raise Rejected("not_written", str(error)) from error
            portraits.append({"file": file, "matrix": matrix.tolist()})
        height, width = image.shape[:2]
        return {"width": width, "height": height, "portraits": portraits, "left_out": left_out}


def align_faces(
    input: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    config: AlignConfig,
    *,
    workers: WorkersConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Cuts the faces of pictures out as FFHQ and CelebA-HQ do.

    A portrait has its picture's name, below the same sub-folders, with the ending ``.png``, or
    ``_0.png``, ``_1.png``, ... from the largest face on with ``all_faces``. ``align.json`` lists
    the pictures with the matrix of each portrait, ``report.json`` what was left out and why.

    Args:
        input: A picture, or a folder or zip file of pictures, searched with its sub-folders.
        output_dir: Folder of the portraits.
        config: Which portraits are made.
        workers: Who does the work; by default one other process.
        resume: Use a folder with portraits of the same settings: pictures that are done and have
            the same length still are not done again.
        overwrite: Remove the portraits that are there, and make all of them again.
        progress: Told the pictures done.

    Returns:
        ``pictures`` (files looked at), ``written`` (portraits that are there), ``left_out`` (files
        or faces by reason), ``output`` (the folder).

    Raises:
        ConfigError: A setting or the output folder cannot be used.
        DataError: The input cannot be read, or there is not one portrait in the end.
    """
    _check_output(input, output_dir, resume, overwrite)
    source, items = _list_pictures(input)
    make_detector(config.search)  # what it lacks would be told of every single picture
    output = pathlib.Path(output_dir)
    folder = PartFolder(output / _WORK_NAME)
    known = _read_known(output, None if overwrite else config)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove_portraits(output, known)
            known = {}
        waiting, clashes = _choose(items, known, output)
        _remove_portraits(output, {i.key: known.pop(i.key) for i in waiting if i.key in known})
    except OSError as error:
        raise DataError(f"Cannot write {output}: {error.strerror or error}.") from error
    _write_known(output, config, known)
    shutil.rmtree(folder.path, ignore_errors=True)  # a stopped call's, now in the list
    left_out = [*source.refused, *clashes]
    if waiting:
        work = PortraitWork(source, config, os.fspath(output))
        parts = cut_parts({"": waiting}, work.fingerprint(), _ITEMS_PER_PART)
        workers = workers or WorkersConfig()
        run_parts(parts, folder, work, workers, progress, label="Align faces")
        left_out += _take_in(folder, known)
    result = _write_report(output, items, known, left_out)
    _write_known(output, config, known)
    shutil.rmtree(folder.path, ignore_errors=True)
    if not result["written"]:
        raise DataError(_nothing(os.fspath(input), output, left_out, known))
    return result


def plan_align(
    input: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    config: AlignConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Checks what ``align_faces`` would be given, and counts what it would do."""
    _check_output(input, output_dir, resume, overwrite)
    _, items = _list_pictures(input)
    output = pathlib.Path(output_dir)
    known = {} if overwrite else _read_known(output, config)
    waiting, _ = _choose(items, known, output)
    return {
        "pictures": len(items),
        "to_do": len(waiting),
        "output": str(output_dir),
        "config": encode(config),
    }


def _check_output(
    input: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    resume: bool,
    overwrite: bool,
) -> None:
    output = pathlib.Path(output_dir)
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other; give one of them.")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"The output folder {output} is a file; name a folder.")
    place, given = output.resolve(), pathlib.Path(input).resolve()
    if place == given.parent if given.is_file() else place.is_relative_to(given):
        raise ConfigError(
            f"The output folder {output} is where the pictures of {os.fspath(input)} are; name a "
            "folder outside, so that portraits and pictures do not mix."
        )
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / PICTURES_NAME).exists():
        raise ConfigError(
            f"The output folder {output} holds files but no {PICTURES_NAME}, so they are not "
            "portraits of an earlier call; name another folder."
        )
    if not resume and not overwrite:
        raise ConfigError(
            f"The output folder {output} is not empty. Add --resume to go on in it, --overwrite to "
            "make the portraits again, or name another."
        )


def _list_pictures(input: str | os.PathLike[str]) -> tuple[Source, list[Item]]:
    path = pathlib.Path(input)
    if path.is_file() and not zipfile.is_zipfile(path):
        # Whoever names one picture means it, even if it is a link to elsewhere.
        real = path.resolve()
        return FolderSource(str(real.parent)), [
            Item(path.name, (real.name,), (real.stat().st_size,))
        ]
    source = open_source(input)
    files = source.list_files()
    if not files:
        raise DataError(f"{source.describe()} holds no files, so there is nothing to align.")
    return source, [Item(entry.name, (entry.name,), (entry.size_bytes,)) for entry in files]


def _stem(key: str) -> str:
    """A picture's portrait without its ending: also one spelling of several of the same path."""
    return str(pathlib.PurePosixPath(key).with_suffix(""))


def _refusal(reason: str, detail: str) -> dict[str, str]:
    return {"reason": reason, "detail": " ".join(detail.split())}


def _read_known(output: pathlib.Path, config: AlignConfig | None) -> dict[str, Any]:
    """The pictures that earlier calls have done, a stopped one included.

    Args:
        output: Folder of the portraits.
        config: The settings that they must have been made with; None allows any.
    """
    path = output / PICTURES_NAME
    if not path.exists():
        return {}
    document = read_json(path)
    if not _is_list_of_pictures(document):
        raise ConfigError(f"{path} lists no pictures; remove it or name another folder.")
    if config is not None and document.get("config") != encode(config):
        raise ConfigError(
            f"The portraits in {output} were made with other settings ({PICTURES_NAME} has them). "
            "Use the same, add --overwrite to make them again, or name another folder."
        )
    known = dict(document["pictures"])
    if (output / _WORK_NAME).is_dir():
        _take_in(PartFolder(output / _WORK_NAME), known)
    return known


def _is_list_of_pictures(document: Any) -> bool:
    pictures = document.get("pictures") if isinstance(document, dict) else None
    return isinstance(pictures, dict) and all(
        isinstance(entry, dict) and {"bytes", "portraits", "left_out"} <= entry.keys()
        for entry in pictures.values()
    )


def _write_known(output: pathlib.Path, config: AlignConfig, known: Mapping[str, Any]) -> None:
    pictures = {key: known[key] for key in sorted(known)}
    write_json(output / PICTURES_NAME, {"config": encode(config), "pictures": pictures})


def _take_in(folder: PartFolder, known: dict[str, Any]) -> list[LeftOut]:
    """Adds the pictures of finished parts; returns those that have to be tried again."""
    failed: list[LeftOut] = []
    for name in sorted(folder.done()):
        failed += folder.read_summary(name).left_out
        for key, record in folder.read_records(name):
            known[key] = json.loads(str(record["entry"]))
    return sorted(failed, key=lambda entry: entry.file)


def _choose(
    items: list[Item], known: Mapping[str, Any], output: pathlib.Path
) -> tuple[list[Item], list[LeftOut]]:
    """The pictures that are to be done, and those whose portraits would overwrite others'."""
    waiting, clashes = [], []
    owners = {_stem(key): key for key in known}
    for item in items:
        owner = owners.setdefault(_stem(item.key), item.key)
        if owner != item.key:
            detail = f"Its portrait would have the same name as that of {owner}; rename one."
            clashes.append(LeftOut(item.key, "name_taken", detail))
        elif not _is_done(item, known.get(item.key), output):
            waiting.append(item)
    return waiting, clashes


def _is_done(item: Item, entry: Mapping[str, Any] | None, output: pathlib.Path) -> bool:
    if entry is None or entry["bytes"] != item.sizes[0]:
        return False
    return all((output / portrait["file"]).is_file() for portrait in entry["portraits"])


def _remove_portraits(output: pathlib.Path, known: Mapping[str, Any]) -> None:
    root = output.resolve()
    for entry in known.values():
        for portrait in entry["portraits"]:
            path = output / portrait["file"]
            # The list is a file that anybody may have edited.
            if path.parent.resolve().is_relative_to(root) and path.is_file():
                path.unlink()


def _write_report(
    output: pathlib.Path,
    items: list[Item],
    known: Mapping[str, Any],
    left_out: list[LeftOut],
) -> dict[str, Any]:
    files = [dataclasses.asdict(entry) for entry in left_out]
    for key in sorted(known):
        files += [{"file": key, **refusal} for refusal in known[key]["left_out"]]
    result = {
        "pictures": len(items),
        "written": sum(len(entry["portraits"]) for entry in known.values()),
        "left_out": dict(sorted(Counter(file["reason"] for file in files).items())),
        "output": str(output),
    }
    write_json(output / REPORT_NAME, {**result, "files": files})
    return result


def _nothing(
    input: str, output: pathlib.Path, left_out: list[LeftOut], known: Mapping[str, Any]
) -> str:
    details = [entry.detail for entry in left_out]
    details += [refusal["detail"] for entry in known.values() for refusal in entry["left_out"]]
    if len(details) == 1:
        return f"{input} gave no portrait: {details[0]}"
    return f"{input} gave no portrait; {output / REPORT_NAME} says why of each of its files."
