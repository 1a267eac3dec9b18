import json

import pytest


def test_spade_video_tells_its_plan(run_tool, junk, clip):
    code, out, err = run_tool(
        *("spade_video", "--style", clip, "--content", clip, "--output", junk / "out.mp4"),
        "--dry_run",
    )
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan["preset"] == "spade_tiny" and plan["parser"]["bundle"] is None
    assert not (junk / "out_work").exists()


def test_spade_video_refuses_what_is_wrong(refused, junk, clip):
    base = ("spade_video", "--style", clip, "--content", clip, "--output")
    out = junk / "out.mp4"
    assert "junk.mp4" in refused("spade_video", "--style", junk / "junk.mp4", *base[3:], out)
    assert "is there already. Add --overwrite" in refused(*base, junk / "junk.mp4")
    assert "three codes, as 255,250,250, or keep" in refused(*base, out, "--background=snow")
    assert "is no bundle" in refused(*base, out, "--parser", junk / "occupied")
    rules = junk / "rules.json"
    rules.write_text('{"size": 512, "rules": [{"from": "skinn", "to": "neck"}]}')
    assert "Did you mean 'skin'" in refused(*base, out, "--rules", rules)
    assert not out.exists() and not (junk / "out_work").exists()


@pytest.mark.parametrize("tool", ["spade_video", "parse_video", "render_video"])
def test_tools_steady_regions_as_the_config_does(run_tool, tool):
    import typing

    from facegan.video.label_deflicker import LabelDeflickerConfig

    choices = typing.get_args(typing.get_type_hints(LabelDeflickerConfig)["method"])
    _, out, _ = run_tool(tool, "--help")
    assert f"--steady_regions={'|'.join(choices)}" in out
