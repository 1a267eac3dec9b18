import pickle

import pytest

from facegan.errors import ConfigError, DataError
from facegan.preparation.face_clips import FaceClipConfig, find_faces
from facegan.preparation.items import Item, Rejected
from facegan.preparation.user_video import FindFaces, PersonVideo, find_all_faces, list_videos
from facegan.preparation.workers import WorkersConfig

HERE = WorkersConfig(processes=0)


def _touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_folder_is_read_by_person(tmp_path):
    folder = _touch(
        tmp_path / "in", "z.MP4", "ben/1.mov", "anna/b/2.webm", "anna/1.mp4", "anna/notes.txt"
    )
    _touch(folder, ".hidden.mp4", "anna/.2.mp4", ".cache/3.mp4")
    found = list_videos(folder)
    assert [(video.person, video.file) for video in found.videos] == [
        ("anna", "anna/1.mp4"),
        ("anna", "anna/b/2.webm"),
        ("ben", "ben/1.mov"),
        ("", "z.MP4"),
    ]
    assert found.videos[2].path == str(folder / "ben/1.mov")
    assert found.tolerant and found.refused == ()


def test_links_out_of_the_folder_are_left_out(tmp_path):
    folder = _touch(tmp_path / "in", "anna/1.mp4")
    _touch(tmp_path / "other", "2.mp4")
    (folder / "ben").symlink_to(tmp_path / "other")
    (folder / "anna" / "3.mp4").symlink_to(tmp_path / "other" / "2.mp4")
    (folder / "anna" / "4.mp4").symlink_to(folder / "anna" / "1.mp4")
    found = list_videos(folder)
    assert [video.file for video in found.videos] == ["anna/1.mp4", "anna/4.mp4"]
    assert {(left.file, left.reason) for left in found.refused} == {
        ("anna/3.mp4", "outside_tree"),
        ("ben", "outside_tree"),
    }


def test_lists_are_taken_as_they_are():
    found = list_videos(["b/2.mp4", "a/1.mp4"])
    assert found.videos == (
        PersonVideo("b/2.mp4", "", "2.mp4"),
        PersonVideo("a/1.mp4", "", "1.mp4"),
    )
    found = list_videos({"anna": ["1.mp4"], "ben": ["1.mp4", "2.mp4"]})
    assert [video.person for video in found.videos] == ["anna", "ben", "ben"]
    assert not found.tolerant


@pytest.mark.parametrize(
    "wrong, message",
    [
        ([], "Name at least one file in the videos, got none"),
        ({"anna": []}, "the videos of 'anna', got none"),
        ({"anna": "a.mp4"}, "the videos of 'anna' as a list of files, got 'a.mp4'"),
        ({1: ["a.mp4"]}, "must be a text, got 1"),
    ],
)
def test_wrong_lists_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        list_videos(wrong)


def test_what_is_no_folder_of_videos_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list_videos(tmp_path / "none")
    with pytest.raises(DataError, match="is a file"):
        list_videos(_touch(tmp_path, "a.zip") / "a.zip")
    with pytest.raises(DataError, match="holds no video"):
        list_videos(_touch(tmp_path / "in", "notes.txt"))
    (tmp_path / "in" / "a.mp4").symlink_to(tmp_path / "a.zip")
    with pytest.raises(DataError, match="holds no video.*a.mp4: .*link"):
        list_videos(tmp_path / "in")


def test_work_can_be_sent_and_is_named_by_what_it_finds(tmp_path):
    work = FindFaces(FaceClipConfig(), str(tmp_path / "a"))
    assert pickle.loads(pickle.dumps(work)) == work
    # Which of the faces is taken, and where they are kept, changes nothing in what is found.
    same = FindFaces(FaceClipConfig(select="all", min_sharpness=0.5), str(tmp_path / "b"))
    assert same.fingerprint() == work.fingerprint()
    other = FindFaces(FaceClipConfig(allow_damaged=True), str(tmp_path / "a"))
    assert other.fingerprint() != work.fingerprint()


def test_work_says_why_a_file_cannot_be_used(tmp_path):
    path = str(_touch(tmp_path, "junk.mp4") / "junk.mp4")
    with pytest.raises(Rejected, match="junk.mp4") as caught:
        FindFaces(FaceClipConfig(), str(tmp_path / "work"))(Item("junk", (path,)))
    assert caught.value.reason == "unreadable"


@pytest.fixture
def known_video(write_disc_clip, moving_frames, disc_detector, tmp_path):
    """A clip whose faces are in the work folder, so that no detector is needed for it."""
    path = write_disc_clip(moving_frames, "in/anna/1.mp4")
    find_faces(path, FaceClipConfig(), tmp_path / "work", detector=disc_detector)
    return path


def test_bad_videos_are_told_and_the_rest_goes_on(known_video, tmp_path):
    folder = _touch(tmp_path / "in", "ben/junk.mp4")
    data = known_video.read_bytes()
    (folder / "ben" / "copy.mp4").write_bytes(data)
    listing = list_videos(folder)
    # The copy has another name, and so a place of its own; only the junk is found out here.
    videos = [video for video in listing.videos if not video.file.endswith("copy.mp4")]
    failed = find_all_faces(videos, FaceClipConfig(), tmp_path / "work", HERE)
    assert {path: (left.file, left.reason) for path, left in failed.items()} == {
        str(folder / "ben" / "junk.mp4"): ("ben/junk.mp4", "unreadable")
    }
    assert not (tmp_path / "work" / "parts").exists()


def test_copies_of_a_bad_video_are_all_told(tmp_path):
    folder = _touch(tmp_path / "in", "anna/1.mp4", "ben/1.mp4")
    failed = find_all_faces(list_videos(folder).videos, FaceClipConfig(), tmp_path / "work", HERE)
    assert sorted(left.file for left in failed.values()) == ["anna/1.mp4", "ben/1.mp4"]


def test_a_work_folder_that_cannot_be_written_ends_the_build(known_video, tmp_path):
    (tmp_path / "file").touch()
    videos = list_videos(tmp_path / "in").videos
    with pytest.raises(DataError, match="cannot be written"):
        find_all_faces(videos, FaceClipConfig(), tmp_path / "file", HERE)


def test_a_detector_that_is_not_there_is_no_fault_of_the_videos(
    write_disc_clip, moving_frames, tmp_path
):
    from facegan.face.landmarks import DetectorConfig

    path = write_disc_clip(moving_frames, "in/1.mp4")
    config = FaceClipConfig(detector=DetectorConfig(name="mediapipe"))
    with pytest.raises(DataError, match="needs model_path"):
        find_all_faces(list_videos([path]).videos, config, tmp_path / "work", HERE)


def test_a_video_that_never_gets_further_is_left_out(write_disc_clip, moving_frames, tmp_path):
    path = write_disc_clip(moving_frames, "in/1.mp4")
    videos = list_videos([path]).videos
    # No process starts in this time.
    limited = WorkersConfig(processes=1, time_limit_s=0.01)
    failed = find_all_faces(videos, FaceClipConfig(), tmp_path / "work", limited)
    assert failed[str(path)].reason == "too_slow"
