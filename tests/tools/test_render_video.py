import re
import typing

import pytest

NO_VIDEOS = ["junk.mp4", "empty.mp4", "folder.mp4", "absent.mp4"]


@pytest.mark.parametrize("video", NO_VIDEOS)
def test_render_video_refuses_what_is_no_video(refused, junk, video):
    sentence = refused(
        "render_video",
        *("--bundle", junk / "occupied", "--video", junk / video, "--output", junk / "out.mp4"),
    )
    assert video in sentence
    assert not (junk / "out.mp4").exists()


def test_render_video_refuses_outputs_and_bundles(refused, junk, clip):
    base = ("render_video", "--video", clip, "--bundle", junk / "occupied", "--output")
    assert "is there already. Add --overwrite" in refused(*base, junk / "junk.mp4")
    assert "is a folder" in refused(*base, junk / "folder.mp4")
    assert "must end in one of" in refused(*base, junk / "out.txt")
    assert "does not exist" in refused(*base, junk / "absent" / "out.mp4")
    assert "is no bundle" in refused(*base, junk / "out.mp4")
    assert "Did you mean 'crf'?" in refused(*base, junk / "out.mp4", "--set=crv=3")


def test_render_video_s_choices_are_the_config_s(run_tool):
    from facegan.render.engine import EngineConfig
    from facegan.render.pipeline import RenderConfig
    from facegan.video.deflicker import DeflickerConfig

    _, out, _ = run_tool("render_video", "--help")
    for flag, config, field in (
        ("missing_face", RenderConfig, "missing_face"),
        ("deflicker", DeflickerConfig, "method"),
        ("engine", EngineConfig, "name"),
    ):
        choices = typing.get_args(typing.get_type_hints(config)[field])
        shown = re.search(rf"--{flag}=(\S+)\n", out)
        assert shown and set(shown.group(1).split("|")) == set(choices)
