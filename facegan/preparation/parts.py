"""Parts: the units in which a build is done, kept on disk and so never done twice.

A part is a handful of items. What became of them stands in two files that appear whole or not at
all: the records, and a summary that marks the part as done. Their name follows from the items and
from what is done with them, so a build that was stopped, on whatever machine, finds the finished
parts again and an item that has changed is worked on again. The folder may be any that etils.epath
can write, and is what the machines of a build share.
"""

import dataclasses
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from etils import epath

from facegan.errors import DataError, FaceganError
from facegan.preparation.items import Item, LeftOut, Outcome, Record, Rejected, Value

# Changes when the same items and settings would give other bytes.
_FORMAT = 1
_MAGIC = b"facegan part\n"
_NUMBER = struct.Struct("<I")


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Some items of one split, and the name under which the folder knows them."""

    name: str
    split: str
    items: tuple[Item, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What became of a part: records, files left out, and what was counted."""

    num_items: int
    num_records: int
    left_out: tuple[LeftOut, ...]
    counts: Mapping[str, int]


def cut_parts(
    splits: Mapping[str, Sequence[Item]], fingerprint: Mapping[str, Any], items_per_part: int
) -> list[Part]:
    """Cuts the items of every split into parts.

    Args:
        splits: Items by split.
        fingerprint: The work's, JSON values.
        items_per_part: Items of a part, but for the last of each split.
    """
    start = hashlib.sha256(json.dumps([_FORMAT, fingerprint], sort_keys=True).encode())
    parts = []
    for split, items in splits.items():
        for first in range(0, len(items), items_per_part):
            group = tuple(items[first : first + items_per_part])
            digest = start.copy()
            digest.update(json.dumps([dataclasses.asdict(item) for item in group]).encode())
            parts.append(Part(digest.hexdigest()[:24], split, group))
    return parts


class PartFolder:
    """The folder in which parts are planned, made and read. It can be sent to other processes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def plan(self, parts: Iterable[Part]) -> None:
        """Writes down what belongs to each part, so that workers need only its name.

        Raises:
            DataError: The folder cannot be written.
        """
        try:
            epath.Path(self.path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(error) from error
        planned = self._names(".items.json")
        for part in parts:
            if part.name not in planned:
                items = [dataclasses.asdict(item) for item in part.items]
                self._write(f"{part.name}.items.json", [json.dumps(items).encode()])

    def done(self) -> set[str]:
        """Names of the parts that are done."""
        return self._names(".done.json")

    def make(self, name: str, work: Callable[[Item], Outcome]) -> None:
        """Works on a part's items, unless that was done before.

        Args:
            name: A planned part.
            work: Called with each item. What it raises sets the item aside.

        Raises:
            DataError: The folder cannot be read or written.
        """
        if (epath.Path(self.path) / f"{name}.done.json").exists():
            return
        left_out: list[LeftOut] = []
        counts: dict[str, int] = {}
        num_records = 0

        def chunks() -> Iterator[bytes]:
            nonlocal num_records
            yield _MAGIC
            for item in items:
                outcome = _attempt(work, item)
                left_out.extend(outcome.left_out)
                for what, count in outcome.counts.items():
                    counts[what] = counts.get(what, 0) + count
                for key, record in outcome.records:
                    num_records += 1
                    yield _encode_record(key, record)

        items = [_decode_item(entry) for entry in json.loads(self._read(f"{name}.items.json"))]
        self._write(f"{name}.records", chunks())
        summary = {
            "items": len(items),
            "records": num_records,
            "left_out": [dataclasses.asdict(entry) for entry in left_out],
            "counts": counts,
        }
        self._write(f"{name}.done.json", [json.dumps(summary).encode()])

    def read_summary(self, name: str) -> Summary:
        """What became of a part that is done."""
        document = json.loads(self._read(f"{name}.done.json"))
        return Summary(
            document["items"],
            document["records"],
            tuple(LeftOut(**entry) for entry in document["left_out"]),
            document["counts"],
        )

    def read_records(self, name: str) -> Iterator[tuple[str, dict[str, Value]]]:
        """The keys and records of a part that is done, in the order of its items.

        Raises:
            DataError: The file is damaged.
        """
        path = epath.Path(self.path) / f"{name}.records"
        try:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise ValueError("it begins with something else")
                while head := file.read(_NUMBER.size):
                    yield _decode_record(head, file)
        except (OSError, ValueError, KeyError, struct.error) as error:
            raise DataError(
                f"The part {path} cannot be read: {error}. Remove it and the .done.json of the "
                "same name, and build again."
            ) from error

    def remove(self, names: Iterable[str]) -> None:
        """Removes parts, and the folder once nothing is left in it."""
        folder = epath.Path(self.path)
        for name in names:
            for ending in (".done.json", ".records", ".items.json"):
                (folder / f"{name}{ending}").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()

    def _names(self, ending: str) -> set[str]:
        folder = epath.Path(self.path)
        names = (entry.name for entry in folder.iterdir())
        return {name.removesuffix(ending) for name in names if name.endswith(ending)}

    def _read(self, name: str) -> bytes:
        path = epath.Path(self.path) / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error

    def _write(self, name: str, chunks: Iterable[bytes]) -> None:
        # Two workers may make one part when a runner takes the first for dead: each has its own
        # temporary file, and whichever renames last writes the same bytes.
        path = epath.Path(self.path) / name
        temporary = path.with_name(f".{name}.{os.uname().nodename}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._cannot_write(error) from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(
            f"The work folder {self.path} cannot be written: {error.strerror or error}."
        )


def _attempt(work: Callable[[Item], Outcome], item: Item) -> Outcome:
    """Works on one item; whatever it raises becomes a line of the report."""
    name = item.files[0] if len(item.files) == 1 else item.key
    try:
        return work(item)
    except Rejected as error:
        reason, detail = error.reason, str(error)
    except FaceganError as error:
        reason, detail = "unusable", str(error)
    except Exception as error:  # a fault of ours on one file must not end a build of a million
        reason, detail = "unexpected", f"{type(error).__name__}: {error}"
    return Outcome(left_out=(LeftOut(name, reason, " ".join(detail.split())),))


def _decode_item(entry: dict[str, Any]) -> Item:
    return Item(entry["key"], tuple(entry["files"]), tuple(entry["sizes"]), entry["data"])


def _encode_record(key: str, record: Record) -> bytes:
    """Length, header, checksum of what follows, and the bytes and arrays one after the other."""
    fields: dict[str, Any] = {}
    blobs: list[bytes] = []
    for name, value in record.items():
        if isinstance(value, bytes):
            fields[name] = {"bytes": len(value)}
            blobs.append(value)
        elif isinstance(value, list):
            fields[name] = {"list": [len(entry) for entry in value]}
            blobs.extend(value)
        elif isinstance(value, np.ndarray):
            fields[name] = {"array": value.dtype.str, "shape": value.shape}
            blobs.append(value.tobytes())
        else:
            fields[name] = {"value": value}
    body = b"".join(blobs)
    header = json.dumps([key, fields, len(body), zlib.crc32(body)]).encode()
    return b"".join([_NUMBER.pack(len(header)), header, body])


def _decode_record(head: bytes, file: IO[bytes]) -> tuple[str, dict[str, Value]]:
    (length,) = _NUMBER.unpack(head)
    key, fields, size, checksum = json.loads(file.read(length))
    body = file.read(size)
    if len(body) != size or zlib.crc32(body) != checksum:
        raise ValueError("it is truncated or damaged")
    record: dict[str, Value] = {}
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return body[position - count : position]

    for name, spec in fields.items():
        if "value" in spec:
            record[name] = spec["value"]
        elif "bytes" in spec:
            record[name] = take(spec["bytes"])
        elif "list" in spec:
            record[name] = [take(count) for count in spec["list"]]
        else:
            dtype = np.dtype(spec["array"])
            count = dtype.itemsize * int(np.prod(spec["shape"], dtype=np.int64))
            record[name] = np.frombuffer(take(count), dtype).reshape(spec["shape"])
    return key, record
