import pytest

NO_VIDEOS = ["junk.mp4", "empty.mp4", "folder.mp4", "absent.mp4"]


@pytest.mark.parametrize("video", NO_VIDEOS)
def test_build_dataset_refuses_what_is_no_video(refused, junk, video):
    sentence = refused("build_dataset", "--videos", junk / video, "--data_dir", junk / "data")
    assert video in sentence
    assert not (junk / "data").exists()


def test_build_dataset_refuses_settings(refused, junk, clip):
    base = ("build_dataset", "--videos", clip, "--data_dir", junk / "data")
    assert "size must be a power of two" in refused(*base, "--size=100")
    assert "Did you mean 'tracker'?" in refused(*base, "--set=clip.trackr=1")
    assert not (junk / "data").exists()


def test_build_dataset_refuses_a_clip_without_a_face_and_an_occupied_folder(refused, junk, clip):
    base = ("build_dataset", "--videos", clip, "--data_dir")
    assert "is not empty. Add --resume" in refused(*base, junk / "occupied")
    sentence = refused(*base, junk / "data", "--size=64", after_progress=True)
    assert "grey.mp4: No face was found" in sentence
