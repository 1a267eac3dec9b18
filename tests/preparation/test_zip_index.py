import io
import stat
import struct
import zipfile
import zlib

import numpy as np
import pytest

from facegan.errors import DataError
from facegan.preparation.items import Rejected
from facegan.preparation.zip_index import MAX_FILE_BYTES, read_zip_index, unpack_member

NOISE = np.random.default_rng(0).bytes(3 << 20)


def make_zip(*members, method=zipfile.ZIP_DEFLATED):
    """Zip bytes of (name or ZipInfo, content) pairs; names may be given twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = method
            archive.NameToInfo.pop(info.filename, None)  # or it would warn
            archive.writestr(info, content)
    return file.getvalue()


def index_of(data):
    return read_zip_index(io.BytesIO(data), "x.zip")


def unpack(data, name):
    index = index_of(data)
    return b"".join(unpack_member(io.BytesIO(data), index.members[name], name))


def reason_of(data, name):
    """Why a member cannot be read: it is refused in the index or while it is unpacked."""
    index = index_of(data)
    if name in index.refused:
        assert name not in index.members
        return index.refused[name].reason
    with pytest.raises(Rejected) as caught:
        b"".join(unpack_member(io.BytesIO(data), index.members[name], name))
    return caught.value.reason


def patch_directory(data, name, offset, form, *values):
    """Overwrites fields of a member's entry in the table of contents."""
    data = bytearray(data)
    at = data.index(b"PK\1\2")
    while data[at + 46 : at + 46 + len(name)] != name:
        at = data.index(b"PK\1\2", at + 1)
    struct.pack_into("<" + form, data, at + offset, *values)
    return bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("content", [b"", b"x", NOISE, bytes(3 << 20), NOISE + bytes(3 << 20)])
def test_members_unpack_exactly(method, content):
    data = make_zip(("before", b"1"), ("a/b c.jpg", content), ("z", b"2"), method=method)
    assert unpack(data, "a/b c.jpg") == content


def test_an_index_is_sorted_and_holds_no_folders():
    data = make_zip(("b/c/2", b"2"), ("empty/", b""), ("a", b"1"), ("b/c/1", b"1"))
    index = index_of(data)
    assert list(index.members) == ["a", "b/c/1", "b/c/2"]
    assert not index.refused


@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\n" * 99])
def test_a_zip_behind_other_bytes_is_read(prefix):
    assert unpack(prefix + make_zip(("a", NOISE), ("b", b"2")), "b") == b"2"


@pytest.mark.parametrize(
    "name, reason",
    [
        ("../a", "outside_tree"),
        ("a/../../b", "outside_tree"),
        ("/etc/passwd", "outside_tree"),
        ("C:/a", "outside_tree"),
        ("a\\b", "bad_name"),
        ("..\\a", "outside_tree"),
        ("../.hidden", "outside_tree"),
    ],
)
def test_names_that_lead_out_are_refused(name, reason):
    index = index_of(make_zip((name, b"canary"), ("good", b"1")))
    assert index.refused[name].reason == reason
    assert list(index.members) == ["good"]


def test_a_name_with_a_zero_byte_is_refused():
    data = make_zip(("a.jpgX../../b", b"1"), ("good", b"1")).replace(b"a.jpgX", b"a.jpg\0")
    index = index_of(data)
    assert [refusal.reason for refusal in index.refused.values()] == ["bad_name"]
    assert list(index.members) == ["good"]


def test_litter_is_passed_over():
    names = [".DS_Store", "a/._b.jpg", "__MACOSX/a/b.jpg", "a/Thumbs.db", ".git/config"]
    index = index_of(make_zip(*((name, b"") for name in names), ("a/b.jpg", b"")))
    assert list(index.members) == ["a/b.jpg"] and not index.refused


def special(name, kind):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


@pytest.mark.parametrize(
    "kind, reason",
    [(stat.S_IFLNK, "link"), (stat.S_IFIFO, "not_a_file"), (stat.S_IFBLK, "not_a_file")],
)
def test_links_and_devices_are_refused(kind, reason):
    assert reason_of(make_zip((special("a", kind), b"/etc/passwd")), "a") == reason


def test_encrypted_members_are_refused():
    data = patch_directory(make_zip(("a", b"1"), ("b", b"2")), b"a", 8, "H", 1)
    assert reason_of(data, "a") == "encrypted"
    assert unpack(data, "b") == b"2"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(method):
    assert reason_of(make_zip(("a", b"1"), method=method), "a") == "unsupported_compression"


def test_names_that_come_twice_are_refused():
    data = make_zip(("a", b"1"), ("b", b"2"), ("./a", b"3"), ("a", b"4"))
    index = index_of(data)
    assert list(index.members) == ["b"]
    assert index.refused["a"].reason == "duplicate" and "3 times" in index.refused["a"].detail


def test_names_that_are_stored_as_utf8_without_saying_so_are_read():
    name = "Zoë/皇.jpg".encode()
    data = make_zip(("X" * len(name), b"1")).replace(b"X" * len(name), name)
    assert list(index_of(data).members) == ["Zoë/皇.jpg"]
    latin = make_zip(("cafX", b"1")).replace(b"cafX", b"caf\x82")
    assert list(index_of(latin).members) == ["café"]
    assert list(index_of(make_zip(("Zoë", b"1"))).members) == ["Zoë"]


def test_a_member_that_claims_gigabytes_is_refused():
    data = patch_directory(make_zip(("a", NOISE)), b"a", 24, "I", MAX_FILE_BYTES + 1)
    assert reason_of(data, "a") == "too_large"


def test_a_member_of_nothing_but_zeros_is_refused_when_it_is_large():
    assert reason_of(make_zip(("a", bytes(17 << 20))), "a") == "too_large"
    assert unpack(make_zip(("a", bytes(16 << 20))), "a") == bytes(16 << 20)


def test_a_member_that_holds_more_than_it_claims_is_refused():
    packed = make_zip(("a", bytes(64 << 20)))
    lie = patch_directory(packed, b"a", 24, "I", 1000)
    file = io.BytesIO(lie)
    unpacked = 0
    with pytest.raises(Rejected) as caught:
        for data in unpack_member(file, index_of(lie).members["a"], "a"):
            unpacked += len(data)
    assert caught.value.reason == "too_large" and "1000 bytes it claims" in str(caught.value)
    assert unpacked <= 1000


def test_a_member_that_holds_less_than_it_claims_is_refused():
    data = patch_directory(make_zip(("a", NOISE)), b"a", 24, "I", len(NOISE) + 1)
    assert reason_of(data, "a") == "damaged"


def test_a_wrong_checksum_is_refused():
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = patch_directory(make_zip(("a", NOISE), method=method), b"a", 16, "I", 7)
        assert reason_of(data, "a") == "damaged"


def test_members_that_share_their_bytes_are_refused():
    # Many names for one set of packed bytes: kilobytes that would unpack to terabytes.
    data = make_zip(("a", NOISE), ("b", b"2"), ("c", b"3"))
    shared = patch_directory(data, b"b", 42, "I", 0)
    index = index_of(patch_directory(shared, b"b", 20, "I", len(NOISE)))
    assert "damaged" in {refusal.reason for refusal in index.refused.values()}
    assert not {"a", "b"} <= set(index.members)
    assert "c" in index.members


def test_a_member_that_claims_more_packed_bytes_than_there_are_is_refused():
    # It would make the ratio of packed to unpacked bytes look harmless.
    data = patch_directory(make_zip(("a", bytes(17 << 20)), ("b", b"2")), b"a", 20, "I", 1 << 20)
    assert reason_of(data, "a") == "damaged"


@pytest.mark.parametrize("place", [0, 3, 40, 5000, -1])
def test_damaged_members_are_refused(place):
    data = bytearray(make_zip(("a", NOISE[:9000]), ("b", b"2")))
    start = 0 if place in (0, 3) else 31
    data[start + place if place >= 0 else 31 + 9000] ^= 0x55
    assert reason_of(bytes(data), "a") == "damaged"
    assert unpack(bytes(data), "b") == b"2"


def test_a_deflated_member_that_ends_early_is_refused():
    packed = zlib.compress(NOISE[:5000], wbits=-15)
    data = make_zip(("a", packed[:2500]), method=zipfile.ZIP_STORED)
    data = patch_directory(data, b"a", 10, "H", zipfile.ZIP_DEFLATED)
    assert reason_of(patch_directory(data, b"a", 24, "I", 5000), "a") == "damaged"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 0.9999])
def test_a_zip_that_was_cut_off_says_so(share):
    data = make_zip(*((f"{n}.jpg", NOISE[n : n + 900]) for n in range(20)))
    with pytest.raises(DataError, match=r"x\.zip is a damaged zip file, perhaps cut off"):
        index_of(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"GIF89a", bytes(5000), b"\x1f\x8b tar"])
def test_what_is_no_zip_says_so(data):
    with pytest.raises(DataError, match=r"x\.zip is neither a folder nor a zip file"):
        index_of(data)


def test_a_name_of_broken_utf8_makes_the_zip_damaged():
    data = make_zip(("Zoë", b"1")).replace("Zoë".encode(), b"Zo\xff\xff")
    with pytest.raises(DataError, match="damaged zip"):
        index_of(data)


def test_random_damage_is_an_error_of_ours():
    data = make_zip(*((f"{n}.jpg", NOISE[n : n + 300]) for n in range(5)))
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 5)):
            damaged[place] = rng.integers(256)
        try:
            index = index_of(bytes(damaged))
        except DataError:
            outcomes.add("zip")
            continue
        for name, member in index.members.items():
            try:
                content = b"".join(unpack_member(io.BytesIO(bytes(damaged)), member, name))
            except Rejected:
                outcomes.add("member")
            else:
                assert len(content) == member.size_bytes
                outcomes.add("good")
    assert outcomes == {"zip", "member", "good"}
