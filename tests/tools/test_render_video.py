import json
import re
import typing

import pytest

from tests.toy_bundle import export_puppet, repeat_drawing

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
    out = ("--output", junk / "out.mp4")
    assert "ASCII" in refused(*base[:-1], *out, "--visible_label=künstlich")
    assert "'AI' belongs to no flag" in refused(*base[:-1], *out, "--visible_label", "AI")


def test_a_visible_label_has_a_usual_text(run_tool, clip, tmp_path):
    bundle = tmp_path / "bundle"
    export_puppet(bundle, repeat_drawing, size=32)
    base = ("--bundle", bundle, "--video", clip, "--output", tmp_path / "out.mp4", "--dry_run")
    for flags, text in (
        ((), None),
        (("--visible_label",), "AI-generated"),
        (("--visible_label=Not real",), "Not real"),
        (("--visible_label", "--novisible_label"), None),
        (("--set=visible_label=Set",), "Set"),
    ):
        code, out, err = run_tool("render_video", *base, "--provenance", *flags)
        assert code == 0, err
        plan = json.loads(out)
        assert plan["config"]["visible_label"] == text
        assert plan["provenance"] == str(tmp_path / "out.provenance.json")


def test_render_video_s_choices_are_the_config_s(run_tool):
    from facegan.render.engine import EngineConfig
    from facegan.render.pipeline import RenderConfig
    from facegan.video.deflicker import DeflickerConfig

    _, out, _ = run_tool("render_video", "--help")
    assert "  --visible_label[=TEXT]\n" in out
    for flag, config, field in (
        ("missing_face", RenderConfig, "missing_face"),
        ("deflicker", DeflickerConfig, "method"),
        ("engine", EngineConfig, "name"),
    ):
        choices = typing.get_args(typing.get_type_hints(config)[field])
        shown = re.search(rf"--{flag}=(\S+)\n", out)
        assert shown and set(shown.group(1).split("|")) == set(choices)


def test_render_video_needs_one_place_of_a_model(refused, junk, clip):
    base = ("render_video", "--video", clip, "--output", junk / "out.mp4")
    assert "--bundle or --server must be given" in refused(*base)
    server = (*base, "--server=http://127.0.0.1:9/anna", "--retry_limit_s=0")
    assert "The server http://127.0.0.1:9/anna cannot be reached (tried once)" in refused(*server)
    assert "cannot be reached" in refused(*server, "--dry_run")
    assert "--engine is for a network that runs here" in refused(*server, "--engine=tensorflow")
    assert "names no model" in refused(*base, "--server=grpc://localhost:8500")
    local = (*base, "--bundle", junk / "occupied")
    assert "--retry_limit_s is for a --server" in refused(*local, "--retry_limit_s=5")
