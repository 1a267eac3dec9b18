def test_parse_video_refuses_what_is_wrong(refused, junk, clip):
    base = ("parse_video", "--video", clip, "--output")
    out = junk / "out.mp4"
    assert "junk.mp4" in refused("parse_video", "--video", junk / "junk.mp4", "--output", out)
    assert "is there already. Add --overwrite" in refused(*base, junk / "junk.mp4")
    assert "power of two" in refused(*base, out, "--size=100")
    assert "is not empty" in refused(*base, out, "--labels_dir", junk / "occupied")
    assert "is no bundle" in refused(*base, out, "--parser", junk / "occupied")
    assert "No face was found" in refused(*base, out, after_progress=True)
    assert not out.exists()


def test_parse_video_tells_its_plan(run_tool, junk, clip):
    code, out, err = run_tool(
        "parse_video", "--video", clip, "--output", junk / "out.mp4", "--dry_run"
    )
    assert (code, err) == (0, "") and '"opacity": 0.5' in out
