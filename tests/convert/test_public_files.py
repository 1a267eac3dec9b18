import dataclasses
import hashlib
import pathlib
import re

import pytest

from facegan.convert import public_files
from facegan.convert.public_files import (
    PUBLIC_FILES,
    PublicFile,
    find_mismatch,
    identify,
    tell_licence,
)
from facegan.errors import CheckpointError

PRESETS = pathlib.Path(public_files.__file__).parents[1] / "presets"
SOURCES = set(
    "stargan_v2 fan spade pix2pix bisenet parser_unet stylegan2 vgg19 vgg_face lpips".split()
)
DATA = b"some weights"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def table(monkeypatch):
    """Small files in the place of the public ones."""
    whole = PublicFile(
        name="whole.pth",
        source="lpips",
        gives="",
        num_bytes=len(DATA),
        sha256=DIGEST,
        licence="BSD",
        non_commercial=False,
        origin="someone",
    )
    begun = dataclasses.replace(
        whole,
        name="begun.pth",
        source="vgg19",
        num_bytes=None,
        sha256=DIGEST[:8],
        licence=None,
    )
    named = dataclasses.replace(
        whole,
        name="model.pth",
        source="spade",
        num_bytes=None,
        sha256=None,
        licence="CC BY-NC",
        non_commercial=True,
    )
    twins = [dataclasses.replace(named, name="net.pth", gives=one) for one in "ab"]
    monkeypatch.setattr(public_files, "PUBLIC_FILES", (whole, begun, named, *twins))
    return {"whole": whole, "begun": begun, "named": named}


def write(folder, name, data=DATA):
    (folder / name).write_bytes(data)
    return folder / name


def test_the_table():
    for known in PUBLIC_FILES:
        assert known.source is None or known.source in SOURCES
        assert known.preset is None or (PRESETS / f"{known.preset}.json").is_file()
        assert known.gives and known.origin
        assert known.num_bytes is None or known.sha256 is not None
        if known.sha256 is not None:
            assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", known.sha256)
            # Some names have the beginning of the hash.
            in_name = re.search(r"-([0-9a-f]{8})\.", known.name)
            assert in_name is None or known.sha256.startswith(in_name.group(1))
        if known.licence is not None and re.search("NC|NVIDIA|non-commercial", known.licence):
            assert known.non_commercial
    assert {known.source for known in PUBLIC_FILES} == SOURCES | {None}
    whole = [known.sha256 for known in PUBLIC_FILES if known.sha256 is not None]
    assert len(whole) == len(set(whole))


def test_known_bytes_are_found_under_any_name(table, tmp_path):
    for name in ("whole.pth", "renamed.bin"):
        assert identify(write(tmp_path, name)) is table["whole"]
        assert identify(write(tmp_path, name), source="lpips") is table["whole"]
    assert identify(write(tmp_path, "whole.pth"), source="spade") is None
    assert identify(write(tmp_path, "whole.pth", DATA[::-1])) is None


def test_a_name_with_the_beginning_of_a_hash(table, tmp_path):
    assert identify(write(tmp_path, "begun.pth"), source="vgg19") is table["begun"]
    assert identify(write(tmp_path, "other.pth"), source="vgg19") is None
    assert identify(write(tmp_path, "begun.pth", b"other")) is None


def test_a_name_alone_counts_only_with_the_source(table, tmp_path):
    path = write(tmp_path, "model.pth", b"other")
    assert identify(path, source="spade") is table["named"]
    assert identify(path) is None
    assert identify(path, source="lpips") is None
    # Two files of one name.
    assert identify(write(tmp_path, "net.pth", b"other"), source="spade") is None


def test_the_hash_is_taken_only_where_the_size_agrees(table, tmp_path, monkeypatch):
    path = write(tmp_path, "whole.pth", DATA + b"more")
    monkeypatch.setattr(public_files, "hash_file", None)
    assert identify(path) is None
    with pytest.raises(TypeError):
        identify(write(tmp_path, "whole.pth"))


def test_why_a_file_is_another(table, tmp_path):
    assert find_mismatch(write(tmp_path, "whole.pth")) == ""
    assert find_mismatch(write(tmp_path, "model.pth", b"other")) == ""
    assert find_mismatch(write(tmp_path, "unknown.pth", b"other")) == ""
    sentence = find_mismatch(write(tmp_path, "whole.pth", b"other"))
    assert sentence == (
        f"{tmp_path}/whole.pth has the name of a file of someone, but 5 bytes, not {len(DATA)}: it "
        "is damaged, or another."
    )
    sentence = find_mismatch(write(tmp_path, "whole.pth", DATA[::-1]), source="lpips")
    assert f"not {DIGEST}: it is" in sentence
    assert f"not {DIGEST[:8]}: it is" in find_mismatch(write(tmp_path, "begun.pth", b"other"))
    assert find_mismatch(tmp_path / "begun.pth", source="spade") == ""


def test_licences_are_told(table, tmp_path):
    path = write(tmp_path, "whole.pth")
    assert tell_licence(path, source="lpips") == "whole.pth of someone: BSD."
    path = write(tmp_path, "begun.pth")
    assert tell_licence(path, source="vgg19") == "begun.pth of someone: licence not known."
    path = write(tmp_path, "other.pth", b"other")
    assert tell_licence(path, source="spade") == (
        "If it is public: someone: CC BY-NC, for non-commercial use."
    )
    assert "Nothing is known" in tell_licence(path, source="fan")


def test_files_that_cannot_be_read(tmp_path):
    for call in (identify, find_mismatch):
        with pytest.raises(CheckpointError, match="Cannot read"):
            call(tmp_path / "none.pth")
