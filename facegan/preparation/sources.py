"""A folder or a zip file as a tree of files, from which nothing leads out.

Names use ``/`` and are relative to the root, as they are stored. Names come from listings and from
files that users wrote, so every read checks again that it stays inside. Nothing is ever unpacked:
a zip's members are read in memory. What a listing cannot take is in ``refused`` by name.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from etils import epath

from facegan.errors import DataError
from facegan.preparation.items import LeftOut, Rejected

# Larger files are no pictures and no clips; they are not read into memory.
MAX_FILE_BYTES = 1 << 30

# Pictures and videos are packed already: a member that shrank a thousandfold is a bomb.
_MAX_RATIO = 1000
_RATIO_MATTERS_BYTES = 1 << 20

# What operating systems leave in folders; nobody wants to be told about it.
_NOISE = re.compile(r"^(\..*|__MACOSX|Thumbs\.db|desktop\.ini)$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a source: its name below the root, and its size."""

    name: str
    size_bytes: int


class Source(Protocol):
    """A tree of files. It can be pickled and is then cheap: listings stay behind.

    Attributes:
        refused: What listings left out so far, each name once.
    """

    refused: list[LeftOut]

    def describe(self) -> str:
        """What messages call it."""

    def list_files(self, under: str = "") -> list[FileEntry]:
        """The files below a folder, by name; hidden ones are passed over."""

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            Rejected: It is missing, leads out of the tree, is too large or cannot be read.
        """

    def open_local(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        """A real file for decoders that want one, as long as the context lasts."""


class _Listed:
    """Lists once and answers from memory afterwards."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.refused: list[LeftOut] = []
        self._files: list[FileEntry] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.refused, self._files = state["path"], [], None

    def describe(self) -> str:
        return self.path

    def list_files(self, under: str = "") -> list[FileEntry]:
        if self._files is None:
            self._files = sorted(self._list(), key=lambda entry: entry.name)
        prefix = f"{under.rstrip('/')}/" if under else ""
        return [entry for entry in self._files if entry.name.startswith(prefix)]

    def _list(self) -> Iterator[FileEntry]:
        raise NotImplementedError

    def _refuse(self, name: str, reason: str, detail: str) -> None:
        # Surrogates stand for bytes that are no text; a report has to be one.
        shown = name.encode(errors="backslashreplace").decode()
        self.refused.append(LeftOut(shown, reason, detail))


class FolderSource(_Listed):
    """A folder. Links are followed while they stay inside it."""

    def _list(self) -> Iterator[FileEntry]:
        yield from self._walk("", (os.path.realpath(self.path),))

    def _walk(self, prefix: str, parents: tuple[str, ...]) -> Iterator[FileEntry]:
        """Files below a folder; ``parents`` are the real paths of the folders on the way."""
        try:
            entries = list(os.scandir(os.path.join(self.path, prefix)))
        except OSError as error:
            self._refuse(prefix.rstrip("/") or ".", "unreadable", f"{error.strerror or error}.")
            return
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if _NOISE.match(entry.name):
                continue
            if not _is_text(name):
                self._refuse(name, "bad_name", "Its name is not valid UTF-8; rename it.")
                continue
            try:
                if entry.is_symlink() and not self._leads_inside(name):
                    self._refuse(name, "outside_tree", "The link leads out of the folder.")
                elif entry.is_dir():
                    # Only through a link can a folder be its own child.
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if real in parents:
                        self._refuse(name, "link_loop", "The link leads to a folder it is in.")
                    else:
                        yield from self._walk(f"{name}/", (*parents, real))
                elif entry.is_file():
                    yield FileEntry(name, entry.stat().st_size)
                else:
                    what = "a link to nothing" if entry.is_symlink() else "no ordinary file"
                    self._refuse(name, "missing", f"It is {what}.")
            except OSError as error:
                self._refuse(name, "unreadable", f"{error.strerror or error}.")

    def read(self, name: str) -> bytes:
        path = self._locate(name)
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise Rejected("missing", f"{name} is no ordinary file.")
                _check_size(name, status.st_size)
                return file.read()
        except OSError as error:
            raise _cannot_read(name, error) from error

    @contextlib.contextmanager
    def open_local(self, name: str) -> Iterator[pathlib.Path]:
        path = self._locate(name)
        if not path.is_file():
            raise Rejected("missing", f"{name} is not there.")
        yield path

    def _locate(self, name: str) -> pathlib.Path:
        if _leads_out(name) or not self._leads_inside(name):
            raise Rejected("outside_tree", f"{name} leads out of the folder.")
        return pathlib.Path(self.path, name)

    def _leads_inside(self, name: str) -> bool:
        root = os.path.realpath(self.path)
        real = os.path.realpath(os.path.join(self.path, name))
        return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


class RemoteSource(_Listed):
    """A folder that etils.epath reads, such as a bucket's ``gs://bucket/folder``."""

    def _list(self) -> Iterator[FileEntry]:
        yield from self._walk("", epath.Path(self.path))

    def _walk(self, prefix: str, folder: epath.Path) -> Iterator[FileEntry]:
        for entry in folder.iterdir():
            name = f"{prefix}{entry.name}"
            if _NOISE.match(entry.name):
                continue
            if entry.is_dir():
                yield from self._walk(f"{name}/", entry)
            else:
                yield FileEntry(name, int(entry.stat().length))

    def read(self, name: str) -> bytes:
        if _leads_out(name):
            raise Rejected("outside_tree", f"{name} leads out of the folder.")
        path = epath.Path(self.path) / name
        try:
            _check_size(name, int(path.stat().length))
            return path.read_bytes()
        except OSError as error:
            raise _cannot_read(name, error) from error

    def open_local(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        return _temporary_file(name, self.read(name))


class ZipSource(_Listed):
    """A zip file, read where it lies."""

    def _list(self) -> Iterator[FileEntry]:
        seen = set()
        for member in _open_zip(self.path).infolist():
            # zipfile turns backslashes into slashes on Windows only.
            name = member.filename
            if member.is_dir() or any(
                _NOISE.match(part) for part in name.split("/")[-8:] if part != ".."
            ):
                continue
            problem = _problem(member)
            if problem is None and name in seen:
                problem = "duplicate", "The zip holds another member of the same name before it."
            if problem is None:
                seen.add(name)
                yield FileEntry(name, member.file_size)
            else:
                self._refuse(name, *problem)

    def read(self, name: str) -> bytes:
        archive = _open_zip(self.path)
        try:
            member = archive.getinfo(name)
        except KeyError as error:
            raise Rejected("missing", f"{name} is not in {self.path}.") from error
        if problem := _problem(member):
            raise Rejected(problem[0], f"{name}: {problem[1]}")
        try:
            with archive.open(member) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise Rejected("damaged", f"{name} cannot be read from the zip: {error}") from error
        _check_size(name, len(data))
        return data

    def open_local(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        return _temporary_file(name, self.read(name))


def open_source(path: str | os.PathLike[str]) -> Source:
    """Opens a folder or zip file.

    Raises:
        DataError: It is neither, or cannot be read.
    """
    text = os.fspath(path)
    if "://" in text:
        if not epath.Path(text).is_dir():
            raise DataError(f"The folder {text} does not exist or is empty.")
        return RemoteSource(text)
    if os.path.isdir(text):
        # A folder with one zip in it is how TFDS' manual folder holds a zipped dataset.
        entries = [name for name in sorted(os.listdir(text)) if not _NOISE.match(name)]
        if len(entries) == 1 and entries[0].lower().endswith(".zip"):
            return open_source(os.path.join(text, entries[0]))
        return FolderSource(text)
    if not os.path.exists(text):
        raise DataError(f"{text} does not exist; name a folder or a zip file.")
    if not zipfile.is_zipfile(text):
        raise DataError(
            f"{text} is neither a folder nor a whole zip file; other archives have to be unpacked."
        )
    _open_zip(text)
    return ZipSource(text)


def find_root(source: Source, marker: str) -> str:
    """The prefix of names, empty or ending in ``/``, below which something called ``marker`` is.

    Raises:
        DataError: There is none, or there are several.
    """
    roots = set()
    for entry in source.list_files():
        parts = entry.name.split("/")
        if marker in parts:
            roots.add("".join(f"{part}/" for part in parts[: parts.index(marker)]))
    if len(roots) == 1:
        return roots.pop()
    if not roots:
        raise DataError(f"{source.describe()} holds no {marker}; name the folder that holds it.")
    listing = ", ".join(repr(root or ".") for root in sorted(roots))
    raise DataError(f"{source.describe()} holds {marker} in several places ({listing}); name one.")


@functools.lru_cache(maxsize=4)
def _open_zip(path: str) -> zipfile.ZipFile:
    """A zip file, opened once per process: reading its directory takes seconds for a large one."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"The zip file {path} cannot be read: {error}.") from error


def _problem(member: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Why a member of a zip is not taken: reason and sentence, None if it is."""
    if _leads_out(member.filename):
        return "outside_tree", "Its name leads out of the zip."
    if stat.S_ISLNK(member.external_attr >> 16):
        return "outside_tree", "It is a link."
    if member.flag_bits & 1:
        return "encrypted", "It is encrypted; unpack the zip with its password."
    if member.file_size > MAX_FILE_BYTES:
        return "too_large", f"It has {member.file_size} bytes, {MAX_FILE_BYTES} at most are read."
    packed = max(member.compress_size, 1)
    if member.file_size > _RATIO_MATTERS_BYTES and member.file_size / packed > _MAX_RATIO:
        return "too_large", f"It claims {member.file_size} bytes from {packed}; that is a bomb."
    return None


def _leads_out(name: str) -> bool:
    return (
        name.startswith(("/", "\\"))
        or re.match(r"^[A-Za-z]:", name) is not None
        or ".." in re.split(r"[/\\]", name)
        or "\0" in name
    )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise Rejected("too_large", f"{name} has {size} bytes, {MAX_FILE_BYTES} at most are read.")


def _cannot_read(name: str, error: OSError) -> Rejected:
    reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
    return Rejected(reason, f"{name} cannot be read: {error.strerror or error}.")


@contextlib.contextmanager
def _temporary_file(name: str, data: bytes) -> Iterator[pathlib.Path]:
    ending = pathlib.PurePosixPath(name).suffix
    with tempfile.NamedTemporaryFile(prefix="facegan-", suffix=ending) as file:
        file.write(data)
        file.flush()
        yield pathlib.Path(file.name)
