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


def test_build_dataset_refuses_what_does_not_belong_together(refused, junk, clip):
    base = ("build_dataset", "--data_dir", junk / "data")
    assert "--videos must be given" in refused(*base)
    assert "--manual_dir must be given" in refused(*base, "--dataset=voxceleb")
    voxceleb = (*base, "--dataset=voxceleb", "--manual_dir", junk)
    assert "--holdout belongs to the dataset user_video" in refused(*voxceleb, "--holdout=0.2")
    assert "--parser belongs to the datasets user_video and image_folder" in refused(
        *voxceleb, "--parser=landmarks"
    )
    both = refused(*base, "--videos", clip, "--manual_dir", junk)
    assert "exclude each other" in both
    assert "absent" in refused(*base, "--dataset=image_folder", "--manual_dir", junk / "absent")
    assert "Did you mean 'align'?" in refused(
        *voxceleb[:3], "--dataset=image_folder", "--manual_dir", junk, "--set=aligned=ffhq"
    )
    assert not (junk / "data").exists()
