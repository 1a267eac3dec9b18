"""What a zip holds and where, and its members' content, unpacked in memory and within limits.

Python's ``zipfile`` reads the table of contents. Unpacking is done here, because that must end when
a member is larger than it claims, and because processes and threads that share an open archive
move each other's place in it.
"""

import collections
import dataclasses
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from facegan.errors import DataError
from facegan.preparation.file_names import (
    find_member_name_problem,
    is_litter,
    plain_name,
    show_name,
)
from facegan.preparation.items import LeftOut, Rejected

# More is neither read into memory nor unpacked from a zip.
MAX_FILE_BYTES = 1 << 30

# Deflate shrinks zeros a thousandfold. Small members of one colour come near it; a large one that
# does is made to fill the memory.
_RATIO_FREE_BYTES = 16 << 20
_MAX_RATIO = 200

_CHUNK_BYTES = 1 << 20
_LOCAL_HEADER_BYTES = 30
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class ZipMember(NamedTuple):
    """Where a member's bytes stand, and what they have to unpack to."""

    offset: int
    packed_bytes: int
    size_bytes: int
    method: int
    crc: int


@dataclasses.dataclass(frozen=True, slots=True)
class ZipIndex:
    """The table of contents of a zip.

    Attributes:
        members: What can be read, by name and sorted by it.
        refused: What cannot, by the name that the zip gives it.
    """

    members: dict[str, ZipMember]
    refused: dict[str, LeftOut]


def read_zip_index(file: IO[bytes], path: str) -> ZipIndex:
    """Reads the table of contents of an open zip.

    All names are checked here, so that nothing else has to.

    Args:
        file: The zip; it has to be seekable.
        path: How messages call it.

    Raises:
        DataError: It is no zip, or a damaged one.
        OSError: It cannot be read.
    """
    magic = file.read(4)
    try:
        with zipfile.ZipFile(file) as archive:
            return _build_index(archive.infolist(), archive.start_dir)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        IndexError,
        OverflowError,
        EOFError,
        struct.error,
    ) as error:
        if magic[:2] != b"PK":
            raise DataError(
                f"{path} is neither a folder nor a zip file; unpack it and give the folder."
            ) from error
        raise DataError(
            f"{path} is a damaged zip file, perhaps cut off: {error}. Copy or download it again."
        ) from error


def _build_index(infos: list[zipfile.ZipInfo], end: int) -> ZipIndex:
    members: dict[str, ZipMember] = {}
    refused: dict[str, LeftOut] = {}
    overlapping = _find_overlaps(infos, end)
    seen: collections.Counter[str] = collections.Counter()
    for info in infos:
        name = _member_name(info)
        problem = find_member_name_problem(name)
        if problem is None:
            name = plain_name(name)
            if any(is_litter(part) for part in name.split("/")):
                continue
            if info.is_dir():
                continue
            seen[name] += 1
            problem = _member_problem(info, info.header_offset in overlapping)
        if problem is None:
            members[name] = ZipMember(
                info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
            )
        else:
            refused.setdefault(name, LeftOut(show_name(name), *problem))
    for name, count in seen.items():
        if count > 1:
            members.pop(name, None)
            refused[name] = LeftOut(name, "duplicate", f"The zip holds it {count} times.")
    return ZipIndex(dict(sorted(members.items())), refused)


def _find_overlaps(infos: list[zipfile.ZipInfo], end: int) -> frozenset[int]:
    """Offsets of members that reach into the next: one set of bytes that unpacks many times."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    nexts = [info.header_offset for info in ordered[1:]] + [end]
    return frozenset(
        info.header_offset
        for info, after in zip(ordered, nexts, strict=True)
        if info.header_offset < 0
        or info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > after
    )


def _member_name(info: zipfile.ZipInfo) -> str:
    """A member's name, which some programs store as UTF-8 without saying so."""
    name = info.orig_filename
    if info.flag_bits & 0x800 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _member_problem(info: zipfile.ZipInfo, overlaps: bool) -> tuple[str, str] | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "link", "It is a symbolic link; links in a zip are not followed."
    if kind not in (0, stat.S_IFREG):
        return "not_a_file", "It is neither a file nor a folder."
    if info.flag_bits & 0x1:
        return "encrypted", "It is encrypted; pack the zip again without a password."
    if info.compress_type not in _METHODS:
        return "unsupported_compression", (
            f"It is packed with method {info.compress_type}; only {' and '.join(_METHODS.values())}"
            " members are read. Pack the zip again."
        )
    if info.file_size > MAX_FILE_BYTES:
        return "too_large", (
            f"It unpacks to {info.file_size} bytes; at most {MAX_FILE_BYTES} are read from one "
            "file. Unpack the zip and give the folder."
        )
    if info.file_size > max(_RATIO_FREE_BYTES, _MAX_RATIO * info.compress_size):
        return "too_large", (
            f"It unpacks from {info.compress_size} to {info.file_size} bytes, more than "
            f"{_MAX_RATIO} times as many, as made to fill the memory."
        )
    if overlaps:
        return "damaged", "It overlaps the next member of the zip."
    return None


def unpack_member(file: IO[bytes], member: ZipMember, name: str) -> Iterator[bytes]:
    """Yields a member's content, never more than it claims to hold.

    Args:
        file: The open zip.
        member: An entry of its index.
        name: How messages call the member.

    Raises:
        Rejected: It is damaged, or larger than it claims.
        OSError: The zip cannot be read.
    """
    file.seek(member.offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\3\4":
        raise _damaged(name)
    file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
    stored = member.method == zipfile.ZIP_STORED
    size = crc = 0
    for data in _blocks(file, member, name) if stored else _inflate(file, member, name):
        size += len(data)
        crc = zlib.crc32(data, crc)
        if size > member.size_bytes:
            raise Rejected(
                "too_large",
                f"{show_name(name)} is more than the {member.size_bytes} bytes it claims.",
            )
        yield data
    if size != member.size_bytes or crc != member.crc:
        raise _damaged(name)


def _blocks(file: IO[bytes], member: ZipMember, name: str) -> Iterator[bytes]:
    left = member.packed_bytes
    while left:
        block = file.read(min(left, _CHUNK_BYTES))
        if not block:
            raise _damaged(name)
        left -= len(block)
        yield block


def _inflate(file: IO[bytes], member: ZipMember, name: str) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in _blocks(file, member, name):
            while block and not decoder.eof:
                yield decoder.decompress(block, _CHUNK_BYTES)
                block = decoder.unconsumed_tail
        # All input is taken, and what it still stands for is a few kilobytes at most.
        yield decoder.flush()
    except zlib.error as error:
        raise _damaged(name) from error
    if not decoder.eof:
        raise _damaged(name)


def _damaged(name: str) -> Rejected:
    return Rejected("damaged", f"{show_name(name)} is damaged; copy or download the zip again.")
