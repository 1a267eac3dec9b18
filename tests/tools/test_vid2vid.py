import json

import pytest

NO_VIDEOS = ["junk.mp4", "empty.mp4", "folder.mp4", "absent.mp4"]


@pytest.mark.parametrize("video", NO_VIDEOS)
@pytest.mark.parametrize("place", ["style", "content"])
def test_vid2vid_refuses_what_is_no_video(refused, junk, clip, video, place):
    videos = {"style": clip, "content": clip, place: junk / video}
    sentence = refused(
        "vid2vid",
        *("--style", videos["style"], "--content", videos["content"]),
        *("--output", junk / "out.mp4"),
    )
    assert video in sentence
    assert not (junk / "out.mp4").exists()
    assert not (junk / "out_work").exists()


def test_vid2vid_refuses_outputs_and_settings(refused, junk, clip):
    base = ("vid2vid", "--style", clip, "--content", clip, "--output")
    assert "is there already. Add --overwrite" in refused(*base, junk / "junk.mp4")
    assert "is the style video" in refused(*base, clip, "--overwrite")
    assert "is a folder" in refused(*base, junk / "folder.mp4")
    assert "must end in one of" in refused(*base, junk / "out.txt")
    assert "does not exist" in refused(*base, junk / "absent" / "out.mp4")
    assert "size must be a power of two" in refused(*base, junk / "out.mp4", "--size=100")
    assert "--face must be largest" in refused(*base, junk / "out.mp4", "--face=left")


def test_vid2vid_tells_its_plan(run_tool, junk, clip):
    code, out, err = run_tool(
        *("vid2vid", "--style", clip, "--content", clip, "--output", junk / "out.mp4"),
        "--dry_run",
    )
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan["style"]["frames"] == 2 and plan["content"]["audio"] is False
    assert plan["work_dir"] == str(junk / "out_work")
    assert not (junk / "out_work").exists()


def test_vid2vid_refuses_a_clip_without_a_face(refused, junk, clip):
    sentence = refused(
        *("vid2vid", "--style", clip, "--content", clip, "--output", junk / "out.mp4")
    )
    assert "grey.mp4: No face was found" in sentence
    assert not (junk / "out.mp4").exists()
