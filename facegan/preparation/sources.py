"""A folder or a zip as a tree of files, from which nothing leads out.

Nothing is ever unpacked into the tree or beside it: members of a zip are read in memory. What
cannot be used - a link that leaves the tree, a member called ``../x``, one that is encrypted - is
named in ``refused`` with its reason and left alone. Hidden files and what systems leave behind
(``.DS_Store``, ``__MACOSX/``, ``Thumbs.db``) are passed over without a word.
"""

import abc
import collections
import contextlib
import dataclasses
import errno
import functools
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from facegan.errors import DataError
from facegan.preparation.file_names import check_name, is_litter, show_name
from facegan.preparation.items import LeftOut, Rejected
from facegan.preparation.zip_index import (
    MAX_FILE_BYTES,
    ZipIndex,
    read_zip_index,
    unpack_member,
)

# A folder that links lead to is listed under this many names at most: folders that link to each
# other have no end of names.
_MAX_ALIASES = 16

_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a source.

    Attributes:
        name: Its path below the root, with forward slashes.
        size_bytes: Its length, unpacked.
    """

    name: str
    size_bytes: int


class _Source(abc.ABC):
    """What folders and zips have in common."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._refused: dict[str, LeftOut] = {}
        self._all: list[FileEntry] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Neither an index nor what was refused travels to other processes.
        return type(self), (self.root,)

    @property
    def refused(self) -> list[LeftOut]:
        """What ``list_files`` has refused so far, each file once."""
        return list(self._refused.values())

    def list_files(self, under: str = "") -> list[FileEntry]:
        """All files, sorted by name.

        The whole is listed once and remembered; one folder alone is not.

        Args:
            under: A folder of the source; only its files are listed, still by their full names.
                There are none if there is no such folder.

        Raises:
            Rejected: The name of the folder leads out of the source.
        """
        folder = check_name(under) if under else ""
        if folder and self._all is None:
            return sorted(self._list(folder), key=lambda entry: entry.name)
        if self._all is None:
            self._all = sorted(self._list(""), key=lambda entry: entry.name)
        prefix = f"{folder}/" if folder else ""
        return [entry for entry in self._all if entry.name.startswith(prefix)]

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            Rejected: It cannot be read; the reason is "missing", "outside_tree", "too_large",
                "unreadable", or tells more of what it is.
        """

    @abc.abstractmethod
    def open_local(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        """A real file for decoders that want a path; gone after the ``with`` if it is a copy.

        Raises:
            Rejected: As ``read`` does.
            DataError: There is no room for a temporary copy.
        """

    @abc.abstractmethod
    def describe(self) -> str:
        """Where it is, for messages."""

    @abc.abstractmethod
    def _list(self, under: str) -> Iterable[FileEntry]:
        """The files below a folder of the source, in any order."""

    def _refuse(self, name: str, reason: str, detail: str) -> None:
        self._refused.setdefault(name, LeftOut(name, reason, detail))


@dataclasses.dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the way of a walk; ``above`` are those that its name leads through."""

    name: str
    real: str
    above: "_Folder | None"
    linked: bool

    def passes(self, real: str) -> bool:
        folder: _Folder | None = self
        while folder is not None and folder.real != real:
            folder = folder.above
        return folder is not None


class FolderSource(_Source):
    """A folder of this machine.

    Links to files and folders within it are followed, all others are refused.
    """

    def __init__(self, root: str) -> None:
        super().__init__(os.path.realpath(root))

    def read(self, name: str) -> bytes:
        descriptor = self._open(name)
        try:
            size = os.fstat(descriptor).st_size
            if size > MAX_FILE_BYTES:
                raise Rejected("too_large", _too_large(name, size))
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(size)
        except OSError as error:
            raise _translated(error, name) from error
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def open_local(self, name: str) -> Iterator[pathlib.Path]:
        os.close(self._open(name))
        yield pathlib.Path(self._resolve(name))

    def describe(self) -> str:
        return show_name(self.root)

    def _inside(self, real: str) -> bool:
        return real == self.root or real.startswith(os.path.join(self.root, ""))

    def _resolve(self, name: str) -> str:
        """The file itself, behind all links."""
        try:
            real = os.path.realpath(os.path.join(self.root, check_name(name)), strict=True)
        except OSError as error:
            raise _translated(error, name) from error
        except ValueError as error:
            raise Rejected(
                "bad_name", f"{show_name(name)!r} cannot be the name of a file: {error}."
            ) from error
        if not self._inside(real):
            raise Rejected(
                "outside_tree",
                f"{show_name(name)} leads through a link to {show_name(real)}, outside "
                f"{self.root}. Put the file itself in its place.",
            )
        return real

    def _open(self, name: str) -> int:
        """A descriptor of a regular file, which the caller closes."""
        real = self._resolve(name)
        try:
            # A pipe without a writer would wait for ever.
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _translated(error, name) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Rejected("not_a_file", f"{show_name(name)} is not a regular file.")
        return descriptor

    def _list(self, under: str) -> Iterator[FileEntry]:
        try:
            stack = [self._start(under)]
        except Rejected as error:
            if error.reason != "missing":
                self._refuse_error(error, under)
            return
        visits: collections.Counter[str] = collections.Counter()
        while stack:
            folder = stack.pop()
            if folder.linked:
                visits[folder.real] += 1
                if visits[folder.real] > _MAX_ALIASES:
                    self._refuse(
                        folder.name,
                        "link_loop",
                        f"More than {_MAX_ALIASES} names lead through links to this folder.",
                    )
                    continue
            try:
                with os.scandir(folder.real) as entries:
                    for entry in entries:
                        found = self._visit(entry, folder)
                        if isinstance(found, FileEntry):
                            yield found
                        elif found is not None:
                            stack.append(found)
            except OSError as error:
                self._refuse(folder.name or ".", "unreadable", f"{error.strerror or error}.")

    def _start(self, under: str) -> _Folder:
        folder = _Folder("", self.root, None, False)
        real = self.root
        for name in under.split("/") if under else []:
            full = f"{folder.name}/{name}" if folder.name else name
            real = self._resolve(full)
            linked = folder.linked or real != os.path.join(folder.real, name)
            folder = _Folder(full, real, folder, linked)
        if not os.path.isdir(real):
            raise Rejected("missing", f"{show_name(under)} is no folder.")
        return folder

    def _visit(self, entry: os.DirEntry[str], folder: _Folder) -> FileEntry | _Folder | None:
        if is_litter(entry.name):
            return None
        name = f"{folder.name}/{entry.name}" if folder.name else entry.name
        if not entry.name.isascii() and show_name(name) != name:
            self._refuse(
                show_name(name), "bad_name", "Its name is not valid UTF-8; give it another name."
            )
            return None
        try:
            if entry.is_symlink():
                return self._follow(entry.path, name, folder)
            if entry.is_file(follow_symlinks=False):
                return FileEntry(name, entry.stat(follow_symlinks=False).st_size)
            if entry.is_dir(follow_symlinks=False):
                return _Folder(name, entry.path, folder, folder.linked)
        except OSError as error:
            self._refuse_error(_translated(error, name), name)
            return None
        self._refuse(name, "not_a_file", "It is neither a file nor a folder.")
        return None

    def _follow(self, path: str, name: str, folder: _Folder) -> FileEntry | _Folder | None:
        try:
            real = os.path.realpath(path, strict=True)
            status = os.stat(real)
        except FileNotFoundError:
            self._refuse(name, "broken_link", "It is a link to nothing.")
            return None
        if not self._inside(real):
            self._refuse(
                name,
                "outside_tree",
                f"It is a link to {show_name(real)}, outside {self.root}. Put the file or folder "
                "itself in its place, or choose a folder that holds both.",
            )
        elif stat.S_ISREG(status.st_mode):
            return FileEntry(name, status.st_size)
        elif not stat.S_ISDIR(status.st_mode):
            self._refuse(name, "not_a_file", "It is a link to neither a file nor a folder.")
        elif folder.passes(real):
            self._refuse(name, "link_loop", "It is a link to a folder that it stands in itself.")
        else:
            return _Folder(name, real, folder, True)
        return None

    def _refuse_error(self, error: Rejected, name: str) -> None:
        self._refuse(name, error.reason, str(error))


class RemoteSource(_Source):
    """A folder that ``etils.epath`` can read, such as ``gs://bucket/folder``.

    Each file's size is one request, so that listing many takes long.
    """

    def read(self, name: str) -> bytes:
        return b"".join(self._chunks(name))

    @contextlib.contextmanager
    def open_local(self, name: str) -> Iterator[pathlib.Path]:
        with _temporary_copy(self._chunks(name), name) as path:
            yield path

    def describe(self) -> str:
        return show_name(self.root)

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            path = _remote_path(self.root) / check_name(name)
            size = path.stat().length
            if size > MAX_FILE_BYTES:
                raise Rejected("too_large", _too_large(name, size))
            with path.open("rb") as file:
                while block := file.read(_CHUNK_BYTES):
                    yield block
        except (Rejected, MemoryError):
            raise
        except Exception as error:  # each backend has errors of its own
            raise _translated(error, name) from error

    def _list(self, under: str) -> Iterator[FileEntry]:
        root = _remote_path(self.root)
        try:
            stack = [under] if (root / under).is_dir() else []
            while stack:
                folder = stack.pop()
                for path in (root / folder).iterdir():
                    if is_litter(path.name):
                        continue
                    name = f"{folder}/{path.name}" if folder else path.name
                    if path.is_dir():
                        stack.append(name)
                    else:
                        yield FileEntry(name, path.stat().length)
        except MemoryError:
            raise
        except Exception as error:  # each backend has errors of its own
            raise DataError(f"Cannot list {self.describe()}: {error}.") from error


class ZipSource(_Source):
    """A zip file. Zips within it are files like all others.

    Its table of contents is read once in each process. Every read opens the file anew, so that
    processes and threads do not move each other's place in it.
    """

    def read(self, name: str) -> bytes:
        return b"".join(self._chunks(name))

    @contextlib.contextmanager
    def open_local(self, name: str) -> Iterator[pathlib.Path]:
        with _temporary_copy(self._chunks(name), name) as path:
            yield path

    def describe(self) -> str:
        return show_name(self.root)

    def check(self) -> None:
        """Reads the table of contents.

        Raises:
            DataError: It cannot be read, or all that is in it is encrypted.
        """
        index = self._index()
        encrypted = sum(refusal.reason == "encrypted" for refusal in index.refused.values())
        if encrypted and not index.members:
            raise DataError(
                f"{self.root} is an encrypted zip; pack it again without a password, or unpack it "
                "and give the folder."
            )

    def _index(self) -> ZipIndex:
        try:
            status = os.stat(self.root)
        except OSError as error:
            raise DataError(f"Cannot read {self.root}: {_cause(error)}.") from error
        return _read_index(self.root, status.st_size, status.st_mtime_ns)

    def _list(self, under: str) -> Iterator[FileEntry]:
        index = self._index()
        # Names such as "../x" stand in no folder, and so all are told, whichever is listed.
        for refusal in index.refused.values():
            self._refuse(refusal.file, refusal.reason, refusal.detail)
        prefix = f"{under}/" if under else ""
        for name, member in index.members.items():
            if name.startswith(prefix):
                yield FileEntry(name, member.size_bytes)

    def _chunks(self, name: str) -> Iterator[bytes]:
        plain = check_name(name)
        index = self._index()
        member = index.members.get(plain)
        if member is None:
            refusal = index.refused.get(plain)
            if refusal is not None:
                raise Rejected(refusal.reason, f"{show_name(name)}: {refusal.detail}")
            raise Rejected("missing", f"There is no {show_name(name)!r} in {self.describe()}.")
        try:
            with open(self.root, "rb") as file:
                yield from unpack_member(file, member, f"{name} in {self.root}")
        except OSError as error:
            raise _translated(error, name) from error


Source: TypeAlias = FolderSource | RemoteSource | ZipSource


def open_source(path: str | os.PathLike[str]) -> Source:
    """Opens a folder or a zip.

    Args:
        path: A folder or zip file of this machine, or a folder in which a zip stands alone; if it
            holds "://", a folder that ``etils.epath`` can read.

    Returns:
        A source, which can be pickled: a zip is opened again in each process that reads from it.

    Raises:
        DataError: There is neither, or it cannot be read.
    """
    text = os.fspath(path)
    if "://" in text:
        return _open_remote(text)
    try:
        status = os.stat(text)
        if stat.S_ISDIR(status.st_mode):
            entries = [name for name in os.listdir(text) if not is_litter(name)]
    except FileNotFoundError as error:
        raise DataError(f"{text} does not exist; name a folder or a zip file.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {text!r}: {_cause(error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        # The folder for manual downloads that TFDS asks for holds a dataset, or its zip alone.
        if len(entries) == 1 and entries[0].lower().endswith(".zip"):
            return open_source(os.path.join(text, entries[0]))
        return FolderSource(text)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{text} is neither a folder nor a zip file.")
    source = ZipSource(os.path.realpath(text))
    source.check()
    return source


def _open_remote(text: str) -> RemoteSource:
    try:
        if _remote_path(text).is_dir():
            return RemoteSource(text.rstrip("/"))
    except Exception as error:  # each backend has errors of its own
        raise DataError(f"Cannot read {text}: {_cause(error)}.") from error
    raise DataError(
        f"{text} is not a folder. Of remote places only folders are read; copy a zip to this "
        "machine."
    )


def find_root(source: Source, marker: str) -> str:
    """Finds the folder in which a folder or file of a certain name stands.

    People pack a dataset with and without a folder around it.

    Args:
        source: Where to look; all of it is listed.
        marker: A folder's or file's name, without slashes. A folder counts if files are in it.

    Returns:
        What the names of all that stands in it begin with: "" or a folder and a slash.

    Raises:
        DataError: There is none, or several.
    """
    found = set()
    for entry in source.list_files():
        if marker in entry.name:
            parts = entry.name.split("/")
            if marker in parts:
                found.add("".join(f"{part}/" for part in parts[: parts.index(marker)]))
    if len(found) == 1:
        return found.pop()
    if not found:
        raise DataError(
            f"{source.describe()} holds no {marker}; name the folder or zip that holds it."
        )
    places = ", ".join(repr(place or ".") for place in sorted(found)[:4])
    raise DataError(
        f"{source.describe()} holds {marker} in several places ({places}"
        f"{', ...' if len(found) > 4 else ''}); name one of them."
    )


def _remote_path(path: str) -> Any:
    # Some of its backends are slow to import, and only remote places need it.
    from etils import epath

    return epath.Path(path)


def _too_large(name: str, size_bytes: int) -> str:
    return (
        f"{show_name(name)} has {size_bytes} bytes; at most {MAX_FILE_BYTES} are read from one "
        "file."
    )


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _translated(error: Exception, name: str) -> Rejected:
    shown = show_name(name)
    code = getattr(error, "errno", None)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Rejected("missing", f"{shown} does not exist.")
    if code == errno.ELOOP:
        return Rejected("link_loop", f"{shown} is a link that leads to itself.")
    if code == errno.ENAMETOOLONG:
        return Rejected("bad_name", f"{shown[:80]}... is too long a name for this file system.")
    return Rejected("unreadable", f"{shown} cannot be read: {_cause(error)}.")


@functools.lru_cache(maxsize=4)
def _read_index(path: str, size_bytes: int, mtime_ns: int) -> ZipIndex:
    """Reads a zip's index; size and time only tell one state of the file from another."""
    try:
        with open(path, "rb") as file:
            return read_zip_index(file, path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {_cause(error)}.") from error


@contextlib.contextmanager
def _temporary_copy(chunks: Iterator[bytes], name: str) -> Iterator[pathlib.Path]:
    # Decoders look at the ending; nothing else of the name is used.
    ending = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(
                tempfile.NamedTemporaryFile(prefix="facegan-", suffix=ending[0] if ending else "")
            )
            for chunk in chunks:
                file.write(chunk)
            file.flush()
        except OSError as error:
            raise DataError(
                f"Cannot copy {show_name(name)} to {tempfile.gettempdir()}: {_cause(error)}. Make "
                "room there or set TMPDIR to another folder."
            ) from error
        yield pathlib.Path(file.name)
