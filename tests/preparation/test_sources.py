import contextlib
import io
import json
import os
import pathlib
import pickle
import stat
import subprocess
import sys
import tempfile
import time
import zipfile

import pytest

from facegan.errors import DataError
from facegan.preparation import sources
from facegan.preparation.items import LeftOut, Rejected
from facegan.preparation.sources import (
    FileEntry,
    FolderSource,
    RemoteSource,
    ZipSource,
    find_root,
    open_source,
)

CANARY = b"what stands outside the tree"
FILES = {
    "CelebA-HQ-img/0.jpg": b"0",
    "CelebA-HQ-img/10.jpg": b"ten",
    "CelebA-HQ-img/2.jpg": b"",
    "Zoë 皇/a photo (1).jpg": b"names",
    "list.txt": b"1 2\n",
    "inner.zip": b"PK\3\4",
    "a\nb.txt": b"newline",
}
LITTER = [".DS_Store", "CelebA-HQ-img/._0.jpg", "__MACOSX/x.jpg", "Thumbs.db", ".git/config"]
NOT_UTF8 = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")


def write_tree(root, files=FILES):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_zip(path, files=FILES, **kwargs):
    with zipfile.ZipFile(path, "w", **kwargs) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def files_of(source, under=""):
    return {entry.name: entry.size_bytes for entry in source.list_files(under)}


def refused_of(source):
    return {refusal.file: refusal.reason for refusal in source.refused}


def reason_of(source, name):
    """Why a file cannot be read, which is the same for both ways of reading it."""
    with pytest.raises(Rejected) as read:
        source.read(name)
    with pytest.raises(Rejected) as opened, source.open_local(name):
        raise AssertionError("it was opened")
    assert read.value.reason == opened.value.reason
    assert CANARY.decode() not in str(read.value)
    return read.value.reason


@pytest.fixture
def tree(tmp_path):
    """A folder to be opened, beside which stand files that must never come out."""
    outside = tmp_path / "outside"
    write_tree(outside, {"secret.txt": CANARY, "folder/secret.jpg": CANARY})
    return write_tree(tmp_path / "tree")


@pytest.fixture(params=["folder", "zip", "deflated zip"])
def source(request, tree, tmp_path):
    files = FILES | dict.fromkeys(LITTER, b"litter")
    if request.param == "folder":
        return open_source(write_tree(tree, files))
    method = zipfile.ZIP_DEFLATED if "deflated" in request.param else zipfile.ZIP_STORED
    return open_source(write_zip(tmp_path / "a b.zip", files, compression=method))


def test_files_are_listed_by_name_and_read(source):
    entries = source.list_files()
    assert entries == [FileEntry(name, len(FILES[name])) for name in sorted(FILES)]
    assert source.refused == []
    for name, content in FILES.items():
        assert source.read(name) == content
        with source.open_local(name) as path:
            assert isinstance(path, pathlib.Path) and path.read_bytes() == content
            assert path.suffix == pathlib.PurePath(name).suffix
    assert source.read("./CelebA-HQ-img//0.jpg") == b"0"


def test_one_folder_is_listed_with_full_names(source):
    assert list(files_of(source, "CelebA-HQ-img")) == sorted(n for n in FILES if "HQ" in n)
    assert files_of(source, "Zoë 皇/") == {"Zoë 皇/a photo (1).jpg": 5}
    for under in ("CelebA", "CelebA-HQ-img/none", "none", "list.txt"):
        assert source.list_files(under) == []
    for under in ("../outside", "/etc"):
        with pytest.raises(Rejected) as caught:
            source.list_files(under)
        assert caught.value.reason == "outside_tree", under


def test_one_folder_is_the_same_before_and_after_the_whole_is_listed(source):
    before = source.list_files("CelebA-HQ-img")
    assert source.list_files() and source.list_files("CelebA-HQ-img") == before
    assert source.list_files("CelebA") == []


@pytest.mark.parametrize(
    "name, reason",
    [
        ("none.jpg", "missing"),
        ("CelebA-HQ-img/0.jpg/x", "missing"),
        ("", "bad_name"),
        ("a\0b", "bad_name"),
        ("../outside/secret.txt", "outside_tree"),
        ("CelebA-HQ-img/../list.txt", "outside_tree"),
        ("CelebA-HQ-img/../../outside/secret.txt", "outside_tree"),
        ("/etc/hostname", "outside_tree"),
        ("\ud800", "bad_name"),
        (NOT_UTF8, "missing"),
    ],
)
def test_names_that_somebody_asks_for_are_checked(source, name, reason):
    assert reason_of(source, name) == reason


def test_a_folder_is_not_a_file(source):
    assert reason_of(source, "CelebA-HQ-img") in ("not_a_file", "missing")


def test_long_names_are_refused(tree):
    assert reason_of(open_source(tree), "x" * 300) == "bad_name"


def test_sources_are_small_to_send_and_work_elsewhere(source, monkeypatch, tmp_path):
    source.list_files()
    data = pickle.dumps(source)
    assert len(data) < 400
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(data)
    assert type(again) is type(source) and again.describe() == source.describe()
    assert again.read("list.txt") == b"1 2\n"
    code = (
        "import pickle, sys; source = pickle.load(sys.stdin.buffer); "
        "print(len(source.list_files()), source.read('CelebA-HQ-img/10.jpg'))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True)
    assert done.stdout.decode().split() == [str(len(FILES)), "b'ten'"], done.stderr


def test_relative_paths_are_kept_when_the_working_folder_changes(tree, tmp_path, monkeypatch):
    write_zip(tmp_path / "a.zip")
    monkeypatch.chdir(tmp_path)
    opened = [open_source("tree"), open_source("a.zip")]
    monkeypatch.chdir("/")
    assert [source.read("list.txt") for source in opened] == [b"1 2\n"] * 2


def test_descriptions_name_the_place(tree, tmp_path):
    assert open_source(tree).describe() == str(tree)
    zipped = write_zip(tmp_path / "a.zip")
    assert open_source(str(zipped)).describe() == str(zipped)


@pytest.mark.parametrize("target", ["tree", "a.zip"])
def test_the_root_may_be_a_link(tree, tmp_path, target):
    write_zip(tmp_path / "a.zip")
    (tmp_path / "link").symlink_to(target)
    assert set(files_of(open_source(tmp_path / "link"))) == set(FILES)


# Links


def test_links_out_of_the_tree_are_refused_and_not_followed(tree):
    outside = tree.parent / "outside"
    (tree / "file").symlink_to(outside / "secret.txt")
    (tree / "relative").symlink_to("../outside/secret.txt")
    (tree / "folder").symlink_to(outside)
    (tree / "parent").symlink_to("..")
    (tree / "top").symlink_to("/")
    (tree / "detour").symlink_to("folder/folder/secret.jpg")
    # A sibling whose name begins as the root's does is outside, too.
    write_tree(tree.parent / "tree2", {"x": CANARY})
    (tree / "sibling").symlink_to("../tree2/x")
    source = open_source(tree)
    assert set(files_of(source)) == set(FILES)
    links = ["file", "relative", "folder", "parent", "top", "detour", "sibling"]
    assert refused_of(source) == dict.fromkeys(links, "outside_tree")
    detail = {refusal.file: refusal.detail for refusal in source.refused}
    assert str(outside) in detail["folder"]
    for name in ["file", "relative", "detour", "sibling", "folder/secret.txt", "top/etc/hostname"]:
        assert reason_of(source, name) == "outside_tree"
    for again in (source, open_source(tree)):
        assert again.list_files("folder") == []
        assert refused_of(again)["folder"] == "outside_tree"


def test_refusals_are_told_once(tree):
    (tree / "out").symlink_to("../outside")
    source = open_source(tree)
    source.list_files()
    source.list_files()
    assert [refusal.file for refusal in source.refused] == ["out"]
    assert isinstance(source.refused[0], LeftOut)


def test_links_within_the_tree_are_followed(tree):
    (tree / "first.jpg").symlink_to("CelebA-HQ-img/0.jpg")
    (tree / "absolute.jpg").symlink_to(tree / "CelebA-HQ-img" / "10.jpg")
    (tree / "images").symlink_to("CelebA-HQ-img")
    (tree / "again").symlink_to("images")
    source = open_source(tree)
    files = files_of(source)
    assert files["first.jpg"] == 1 and files["absolute.jpg"] == 3
    assert files["images/10.jpg"] == files["again/10.jpg"] == 3
    assert source.read("images/10.jpg") == source.read("absolute.jpg") == b"ten"
    assert set(files_of(source, "again")) == {f"again/{n}.jpg" for n in (0, 2, 10)}
    assert source.refused == []


def test_link_loops_end(tree):
    (tree / "CelebA-HQ-img" / "up").symlink_to("..")
    (tree / "self").symlink_to("self")
    (tree / "ping").symlink_to("pong")
    (tree / "pong").symlink_to("ping")
    (tree / "nothing").symlink_to("not there")
    source = open_source(tree)
    assert set(files_of(source)) == set(FILES)
    assert refused_of(source) == {
        "CelebA-HQ-img/up": "link_loop",
        "self": "link_loop",
        "ping": "link_loop",
        "pong": "link_loop",
        "nothing": "broken_link",
    }
    assert reason_of(source, "self") == "link_loop"
    assert reason_of(source, "nothing") == "missing"
    assert set(files_of(source, "CelebA-HQ-img")) == {n for n in FILES if "HQ" in n}


def test_folders_that_all_link_to_each_other_come_to_an_end(tmp_path):
    count = 12
    for one in range(count):
        write_tree(tmp_path / str(one), {"file": b""})
        for other in range(count):
            if other != one:
                (tmp_path / str(one) / f"to{other}").symlink_to(f"../{other}")
    source = open_source(tmp_path)
    start = time.monotonic()
    files = files_of(source)
    assert time.monotonic() - start < 5
    assert {f"{n}/file" for n in range(count)} <= set(files)
    assert len(files) <= count * 17 and "link_loop" in refused_of(source).values()


# What else stands in folders


def test_pipes_and_sockets_are_refused_and_do_not_hang(tree):
    os.mkfifo(tree / "pipe.jpg")
    (tree / "to pipe").symlink_to("pipe.jpg")
    source = open_source(tree)
    source.list_files()
    assert refused_of(source) == dict.fromkeys(["pipe.jpg", "to pipe"], "not_a_file")
    assert reason_of(source, "pipe.jpg") == reason_of(source, "to pipe") == "not_a_file"


def test_names_that_are_not_utf8_are_refused(tree):
    try:
        (tree / NOT_UTF8).write_bytes(b"1")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    write_tree(tree, {os.path.join("d\udce9", "x.jpg"): b"2"})
    source = open_source(tree)
    assert set(files_of(source)) == set(FILES)
    assert refused_of(source) == {"caf\\xe9.jpg": "bad_name", "d\\xe9": "bad_name"}
    json.dumps([refusal.file for refusal in source.refused], ensure_ascii=False).encode("utf-8")


def test_what_may_not_be_read_is_told(tree):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tree / "list.txt").chmod(0)
    (tree / "CelebA-HQ-img").chmod(0)
    try:
        source = open_source(tree)
        assert "list.txt" in files_of(source)
        assert refused_of(source) == {"CelebA-HQ-img": "unreadable"}
        assert reason_of(source, "list.txt") == "unreadable"
    finally:
        (tree / "CelebA-HQ-img").chmod(0o755)


def test_files_that_are_too_large_are_refused(tree, monkeypatch):
    path = tree / "large.mp4"
    with path.open("wb") as file:
        file.truncate(sources.MAX_FILE_BYTES + 1)  # sparse
    source = open_source(tree)
    with pytest.raises(Rejected) as caught:
        source.read("large.mp4")
    assert caught.value.reason == "too_large"
    # A path costs nothing, however large the file is.
    with source.open_local("large.mp4") as local:
        assert local.stat().st_size == sources.MAX_FILE_BYTES + 1


def test_a_file_that_is_swapped_for_a_link_after_listing_is_refused(tree):
    source = open_source(tree)
    source.list_files()
    (tree / "list.txt").unlink()
    (tree / "list.txt").symlink_to("../outside/secret.txt")
    assert reason_of(source, "list.txt") == "outside_tree"


# Zips


def hostile_zip(path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    files = {
        "good/0.jpg": b"0",
        "../canary.txt": CANARY,
        "/tmp/canary.txt": CANARY,
        "..\\canary.txt": CANARY,
        "C:/canary.txt": CANARY,
        "good\\1.jpg": CANARY,
        link: b"../outside/secret.txt",
    }
    return write_zip(path, files)


def test_hostile_members_are_refused_and_nothing_is_written(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    hostile_zip(folder / "a.zip")
    before = sorted(tmp_path.rglob("*"))
    source = open_source(folder / "a.zip")
    assert files_of(source) == {"good/0.jpg": 1}
    assert refused_of(source) == {
        "../canary.txt": "outside_tree",
        "/tmp/canary.txt": "outside_tree",
        "..\\canary.txt": "outside_tree",
        "C:/canary.txt": "outside_tree",
        "good\\1.jpg": "bad_name",
        "link.jpg": "link",
    }
    for name, reason in refused_of(source).items():
        assert reason_of(source, name) == reason
    with source.open_local("good/0.jpg"):
        pass
    assert sorted(tmp_path.rglob("*")) == before
    assert not os.path.exists("/tmp/canary.txt")


def test_refusals_of_a_zip_are_told_whichever_folder_is_listed(tmp_path):
    source = open_source(hostile_zip(tmp_path / "a.zip"))
    source.list_files("good")
    assert "../canary.txt" in refused_of(source)


def test_local_copies_are_removed(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    source = open_source(write_zip(tmp_path / "a.zip", {"a/b.mp4": b"clip", "c.../x y": b"2"}))
    with source.open_local("a/b.mp4") as path:
        assert path.parent == temporary and path.suffix == ".mp4" and path.read_bytes() == b"clip"
    with source.open_local("c.../x y") as path:
        assert path.parent == temporary and path.suffix == ""
    with contextlib.suppress(KeyError), source.open_local("a/b.mp4"):
        raise KeyError
    assert not list(temporary.iterdir())


def test_a_full_or_missing_temporary_folder_is_no_fault_of_the_file(tmp_path, monkeypatch):
    source = open_source(write_zip(tmp_path / "a.zip", {"a.mp4": b"clip"}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(DataError, match="TMPDIR") as caught, source.open_local("a.mp4"):
        pass
    assert not isinstance(caught.value, Rejected)


def test_damaged_members_leave_nothing_behind(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {"a.mp4": b"clip", "b.mp4": b"whole"})
    path.write_bytes(path.read_bytes().replace(b"clip", b"clap"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    source = open_source(path)
    assert reason_of(source, "a.mp4") == "damaged"
    assert source.read("b.mp4") == b"whole" and not list(temporary.iterdir())


def test_a_zip_in_a_zip_is_one_file(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("secret.jpg", CANARY)
    source = open_source(write_zip(tmp_path / "a.zip", {"inner.zip": inner.getvalue()}))
    assert files_of(source) == {"inner.zip": len(inner.getvalue())}
    assert reason_of(source, "inner.zip/secret.jpg") == "missing"


def test_a_zip_that_was_replaced_is_read_anew(tmp_path):
    source = open_source(write_zip(tmp_path / "a.zip", {"a": b"1"}))
    assert source.read("a") == b"1"
    write_zip(tmp_path / "a.zip", {"a": b"another", "b": b"2"})
    assert source.read("a") == b"another"
    assert files_of(source) == {"a": 7, "b": 1}
    (tmp_path / "a.zip").unlink()
    with pytest.raises(DataError, match="Cannot read"):
        source.read("a")


def test_a_zip_can_be_read_in_forked_processes_at_once(tmp_path):
    files = {f"{n}.bin": bytes([n]) * (50_000 + n) for n in range(40)}
    path = write_zip(tmp_path / "a.zip", files, compression=zipfile.ZIP_DEFLATED)
    code = (
        "import os, sys\n"
        "from facegan.preparation.sources import open_source\n"
        "source = open_source(sys.argv[1]); source.list_files(); children = []\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        good = all(source.read(f'{n}.bin') == bytes([n]) * (50_000 + n)\n"
        "                   for n in list(range(40)) * 5)\n"
        "        os._exit(0 if good else 1)\n"
        "    children.append(pid)\n"
        "sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 0


# Opening


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(9000))
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "cut.zip").write_bytes(write_zip(tmp_path / "a.zip").read_bytes()[:-50])
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    for name, message in [
        ("none", "does not exist"),
        ("broken", "does not exist"),
        ("a.zip/x", "Cannot read"),
        ("loop", "Cannot read"),
        ("a\0b", "Cannot read"),
        ("pipe", "neither a folder nor a zip"),
        ("a.tar", "neither a folder nor a zip"),
        ("empty.zip", "neither a folder nor a zip"),
        ("cut.zip", "damaged zip file, perhaps cut off"),
    ]:
        with pytest.raises(DataError, match=message):
            open_source(f"{tmp_path}/{name}")


def test_a_folder_in_which_a_zip_stands_alone_is_that_zip(tmp_path):
    folder = tmp_path / "manual"
    write_tree(folder, {".DS_Store": b"litter"})
    write_zip(folder / "Data.ZIP")
    assert files_of(open_source(folder)) == {name: len(data) for name, data in FILES.items()}
    (folder / "more.txt").write_bytes(b"")
    assert set(files_of(open_source(folder))) == {"Data.ZIP", "more.txt"}


def encrypt(path, names):
    """Marks members as encrypted."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    while at >= 0:
        if any(data[at + 46 :].startswith(name) for name in names):
            data[at + 8] |= 1
        at = data.find(b"PK\1\2", at + 1)
    path.write_bytes(data)


def test_an_encrypted_zip_is_refused_and_encrypted_members_are_told(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": b"1", "b": b"2"})
    encrypt(path, [b"a"])
    source = open_source(path)
    assert files_of(source) == {"b": 1} and refused_of(source) == {"a": "encrypted"}
    encrypt(path, [b"b"])
    with pytest.raises(DataError, match="is an encrypted zip; pack it again without"):
        open_source(path)


# Where the data stands in it


@pytest.mark.parametrize("around", ["", "CelebAMask-HQ/", "data/CelebA 皇/"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_folder_that_holds_a_marker_is_found(tmp_path, around, packed):
    files = {around + name: content for name, content in FILES.items()}
    if packed:
        source = open_source(write_zip(tmp_path / "a.zip", files))
    else:
        source = open_source(write_tree(tmp_path / "tree", files))
    assert find_root(source, "CelebA-HQ-img") == find_root(source, "list.txt") == around


def test_no_marker_or_several_are_errors(tree):
    source = open_source(tree)
    with pytest.raises(DataError, match=r"tree holds no mp4; name the folder"):
        find_root(source, "mp4")
    with pytest.raises(DataError, match="holds no HQ;"):
        find_root(source, "HQ")
    source = open_source(write_tree(tree, {"backup/CelebA-HQ-img/0.jpg": b""}))
    with pytest.raises(DataError, match=r"in several places \('.', 'backup/'\); name one"):
        find_root(source, "CelebA-HQ-img")


# Remote folders


@pytest.fixture
def remote(tree):
    """Read by the calls that read a bucket, from this machine."""
    return RemoteSource(str(write_tree(tree, dict.fromkeys(LITTER, b"litter"))))


def test_a_folder_is_read_through_etils(remote, tree):
    assert files_of(remote) == {name: len(content) for name, content in FILES.items()}
    assert list(files_of(RemoteSource(str(tree)), "Zoë 皇")) == ["Zoë 皇/a photo (1).jpg"]
    assert RemoteSource(str(tree)).list_files("none") == []
    assert remote.read("CelebA-HQ-img/10.jpg") == b"ten"
    with remote.open_local("list.txt") as path:
        assert path.read_bytes() == b"1 2\n" and path.parent != tree
    assert not path.exists()
    again = pickle.loads(pickle.dumps(remote))
    assert again.describe() == str(tree) and again.read("list.txt") == b"1 2\n"


def test_names_are_checked_before_etils_sees_them(remote):
    assert reason_of(remote, "../outside/secret.txt") == "outside_tree"
    assert reason_of(remote, "/etc/hostname") == "outside_tree"
    assert reason_of(remote, "none") == "missing"
    assert reason_of(remote, "CelebA-HQ-img") == "unreadable"


def test_errors_of_a_place_that_cannot_be_reached_are_ours(monkeypatch):
    monkeypatch.setenv("EPATH_USE_TF", "false")
    with pytest.raises(DataError, match="none://nowhere/x"):
        open_source("none://nowhere/x")


def test_local_sources_need_nothing_heavy(tree, tmp_path):
    zipped = write_zip(tmp_path / "a.zip")
    code = (
        "import sys; from facegan.preparation.sources import open_source\n"
        "for path in sys.argv[1:]: open_source(path).list_files()\n"
        "assert not {'tensorflow', 'etils', 'numpy', 'cv2', 'PIL'} & set(sys.modules) - {'numpy'}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tree), str(zipped)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_kinds_of_sources(tree, tmp_path):
    assert type(open_source(tree)) is FolderSource
    assert type(open_source(write_zip(tmp_path / "a.zip"))) is ZipSource
