import os
import pathlib
import pickle
import stat
import zipfile

import pytest

from facegan.errors import DataError
from facegan.preparation import sources
from facegan.preparation.items import Rejected
from facegan.preparation.sources import RemoteSource, find_root, open_source


@pytest.fixture
def tree(tmp_path):
    """A folder with odd names, and a secret beside it."""
    root = tmp_path / "in"
    (root / "b" / "deep er").mkdir(parents=True)
    (root / "b" / "deep er" / "é ü.png").write_bytes(b"12345")
    (root / "a.txt").write_bytes(b"a")
    for noise in (".DS_Store", "._x", "Thumbs.db", "b/.hidden/x.png", "__MACOSX/y.png"):
        (root / noise).parent.mkdir(exist_ok=True)
        (root / noise).write_bytes(b"noise")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "canary.txt").write_bytes(b"canary")
    return root


def _zip(root, path, extra=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
            archive.write(file, file.relative_to(root).as_posix())
        for member, data in extra:
            archive.writestr(member, data)
    return path


def _names(source, under=""):
    return [entry.name for entry in source.list_files(under)]


@pytest.fixture(params=["folder", "zip", "remote"])
def source(request, tree, tmp_path):
    if request.param == "folder":
        return open_source(tree)
    if request.param == "zip":
        return open_source(_zip(tree, tmp_path / "a.zip"))
    return RemoteSource(str(tree))


def test_files_are_listed_by_name_without_noise(source):
    assert _names(source) == ["a.txt", "b/deep er/é ü.png"]
    assert [entry.size_bytes for entry in source.list_files()] == [1, 5]
    assert _names(source, "b") == ["b/deep er/é ü.png"] and _names(source, "deep") == []
    assert source.refused == []


def test_files_are_read_and_opened(source):
    assert source.read("b/deep er/é ü.png") == b"12345"
    with source.open_local("b/deep er/é ü.png") as path:
        assert path.read_bytes() == b"12345" and path.suffix == ".png"
    assert pickle.loads(pickle.dumps(source)).read("a.txt") == b"a"


@pytest.mark.parametrize(
    "name", ["../secret/canary.txt", "/etc/hostname", "b/../../secret/canary.txt", "..\\x", "C:\\x"]
)
def test_names_that_lead_out_are_rejected(source, name):
    with pytest.raises(Rejected) as caught:
        source.read(name)
    assert caught.value.reason in ("outside_tree", "missing")
    with pytest.raises(Rejected), source.open_local(name):
        pass


def test_what_is_not_there_is_missing(source):
    with pytest.raises(Rejected, match="none.png") as caught:
        source.read("b/none.png")
    assert caught.value.reason == "missing"


def test_files_that_are_too_large_are_not_read(source, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 4)
    assert source.read("a.txt") == b"a"
    with pytest.raises(Rejected, match="5 bytes") as caught:
        source.read("b/deep er/é ü.png")
    assert caught.value.reason == "too_large"


def test_links_are_followed_only_inside(tree, tmp_path):
    (tree / "inside.txt").symlink_to("a.txt")
    (tree / "out.txt").symlink_to(tmp_path / "secret" / "canary.txt")
    (tree / "outdir").symlink_to(tmp_path / "secret")
    (tree / "loop").symlink_to(tree / "b")
    (tree / "b" / "back").symlink_to(tree)
    (tree / "nothing").symlink_to("absent")
    source = open_source(tree)
    names = _names(source)
    assert "inside.txt" in names and "loop/deep er/é ü.png" in names
    assert not [name for name in names if "out" in name or "canary" in name]
    reasons = {entry.file: entry.reason for entry in source.refused}
    assert reasons["out.txt"] == reasons["outdir"] == "outside_tree"
    assert reasons["b/back"] == "link_loop" and reasons["nothing"] == "missing"
    for name in ("out.txt", "outdir/canary.txt"):
        with pytest.raises(Rejected) as caught:
            source.read(name)
        assert caught.value.reason == "outside_tree"
    assert source.read("inside.txt") == b"a"


def test_the_root_itself_may_be_a_link(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    source = open_source(tmp_path / "link")
    assert "a.txt" in _names(source) and source.read("a.txt") == b"a"


def test_special_files_and_bad_names_are_named(tree):
    os.mkfifo(tree / "pipe")
    with open(os.fsencode(tree) + b"/bad\xff.png", "wb"):
        pass
    source = open_source(tree)
    assert _names(source) == ["a.txt", "b/deep er/é ü.png"]
    assert {(e.file, e.reason) for e in source.refused} == {
        ("pipe", "missing"),
        ("bad\\udcff.png", "bad_name"),
    }
    with pytest.raises(Rejected):
        source.open_local("pipe").__enter__()


def _link_member(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def test_unsafe_members_are_named_and_never_read(tree, tmp_path):
    bomb = zipfile.ZipInfo("bomb.png")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    path = _zip(
        tree,
        tmp_path / "a.zip",
        [
            ("../escape.txt", b"x"),
            ("/absolute.txt", b"x"),
            ("C:/drive.txt", b"x"),
            ("back\\..\\slash.txt", b"x"),
            (_link_member("link"), b"/etc/hostname"),
            (bomb, bytes(20_000_000)),
        ],
    )
    before = sorted(tmp_path.rglob("*"))
    source = open_source(path)
    assert _names(source) == ["a.txt", "b/deep er/é ü.png"]
    reasons = {entry.file: entry.reason for entry in source.refused}
    assert reasons.pop("bomb.png") == "too_large"
    assert len(reasons) == 5 and set(reasons.values()) == {"outside_tree"}
    for name in (*reasons, "bomb.png"):
        with pytest.raises(Rejected):
            source.read(name)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_first_of_two_members_counts(tree, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = _zip(tree, tmp_path / "a.zip", [("a.txt", b"second")])
    source = open_source(path)
    assert _names(source).count("a.txt") == 1
    assert [entry.reason for entry in source.refused] == ["duplicate"]


def test_encrypted_members_are_named(tree, tmp_path):
    path = _zip(tree, tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(signature) + offset] |= 1
    path.write_bytes(data)
    source = open_source(path)
    source.list_files()
    assert [entry.reason for entry in source.refused] == ["encrypted"]


def test_a_damaged_member_costs_only_itself(tree, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.txt", b"good")
        archive.writestr("bad.txt", b"will be damaged")
    data = path.read_bytes().replace(b"will be damaged", b"will be dAmaged")
    path.write_bytes(data)
    source = open_source(path)
    assert source.read("good.txt") == b"good"
    with pytest.raises(Rejected, match="bad.txt") as caught:
        source.read("bad.txt")
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize("cut", [0, 10, 100])
def test_what_is_no_whole_zip_is_refused(tree, tmp_path, cut):
    path = _zip(tree, tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="neither a folder nor a whole zip"):
        open_source(path)


def test_a_folder_that_only_holds_a_zip_is_that_zip(tree, tmp_path):
    (tmp_path / "manual").mkdir()
    _zip(tree, tmp_path / "manual" / "Data.ZIP")
    assert open_source(tmp_path / "manual").read("a.txt") == b"a"


def test_absent_sources_are_refused(tmp_path):
    with pytest.raises(DataError, match="none does not exist"):
        open_source(tmp_path / "none")


def test_the_root_of_a_layout_is_found(tmp_path):
    for name in ("top/data/images/1.png", "top/data/list.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = open_source(tmp_path)
    assert find_root(source, "images") == find_root(source, "list.txt") == "top/data/"
    assert find_root(open_source(tmp_path / "top" / "data"), "images") == ""
    with pytest.raises(DataError, match="holds no masks"):
        find_root(source, "masks")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "2.png").write_bytes(b"x")
    with pytest.raises(DataError, match="several places"):
        find_root(open_source(tmp_path), "images")


def test_temporary_files_go_away(tree, tmp_path):
    source = open_source(_zip(tree, tmp_path / "a.zip"))
    with source.open_local("a.txt") as path:
        assert pathlib.Path(path).exists()
    assert not pathlib.Path(path).exists()
