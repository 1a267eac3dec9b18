"""Work folders: names follow from what the content follows from."""

import pytest

from facegan.errors import VideoError
from facegan.render.workspace import WorkFolder, identify_file


def make(tmp_path, work_dir=None, clip="a", crf=18, output="out.mp4"):
    return WorkFolder(tmp_path / output, work_dir, {"clip": clip}, {"crf": crf})


def test_the_same_work_has_the_same_place(tmp_path):
    assert make(tmp_path).segments_dir == make(tmp_path).segments_dir
    assert make(tmp_path).landmarks_dir == make(tmp_path).landmarks_dir


def test_other_settings_share_the_landmarks_only(tmp_path):
    first, second = make(tmp_path, crf=18), make(tmp_path, crf=20)
    assert first.landmarks_dir == second.landmarks_dir
    assert first.segments_dir != second.segments_dir
    assert first.render_id != second.render_id
    other = make(tmp_path, clip="b")
    assert other.landmarks_dir != first.landmarks_dir
    assert other.segments_dir != first.segments_dir


def test_two_outputs_of_one_work_folder_keep_apart(tmp_path):
    work = tmp_path / "work"
    first = make(tmp_path, work, output="a.mp4")
    second = make(tmp_path, work, output="b.mp4")
    assert first.landmarks_dir == second.landmarks_dir
    assert first.segments_dir != second.segments_dir


def test_clean_removes_a_hidden_folder_and_keeps_landmarks_in_a_given_one(tmp_path):
    own = make(tmp_path)
    assert own.path.name == ".out.mp4.render"
    given = make(tmp_path, tmp_path / "work")
    for folder in (own, given):
        folder.segments_dir.mkdir()
        folder.landmarks_dir.mkdir()
        folder.clean()
    assert not own.path.exists()
    assert given.landmarks_dir.is_dir()
    assert not given.segments_dir.exists()


def test_discard_keeps_what_can_be_continued(tmp_path):
    own = make(tmp_path)
    own.segments_dir.mkdir()
    (own.segments_dir / "segments.json").write_text("{}")
    own.discard()
    assert own.segments_dir.is_dir()
    (own.segments_dir / "segments.json").unlink()
    own.discard()
    assert not own.path.exists()
    given = make(tmp_path, tmp_path / "work")
    given.discard()
    assert given.path.is_dir()


def test_a_place_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(VideoError, match="cannot be made"):
        make(tmp_path, tmp_path / "file" / "work")


def test_files_are_told_apart_by_content(tmp_path):
    data = bytes(range(256)) * 20_000
    for name, content in (
        ("a", data),
        ("copy", data),
        ("longer", data + b"x"),
        ("begin", b"x" + data[1:]),
        ("end", data[:-1] + b"x"),
    ):
        (tmp_path / name).write_bytes(content)
    ids = {name: identify_file(tmp_path / name) for name in ("a", "longer", "begin", "end")}
    assert len(set(ids.values())) == 4
    assert identify_file(tmp_path / "copy") == ids["a"]
    with pytest.raises(VideoError, match="Cannot read"):
        identify_file(tmp_path / "absent")
