import json


def test_reenact_tells_its_plan(run_tool, junk, clip, tmp_path):
    portrait = junk / "junk.mp4"  # a plan does not look into pictures
    code, out, err = run_tool(
        *("reenact", "--portraits", portrait, "--driving", clip, "--output", tmp_path / "out.mp4"),
        "--dry_run",
    )
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan["with"] == "talking_head_tiny" and plan["untrained"]
    assert not (tmp_path / "out_work").exists()


def test_reenact_refuses_what_is_wrong(refused, junk, clip, tmp_path):
    out = tmp_path / "out.mp4"
    base = ("reenact", "--driving", clip, "--output", out)
    assert "none.jpg does not exist" in refused(*base, "--portraits=none.jpg")
    named = (*base, "--portraits", junk / "junk.mp4")
    assert "Name one of run_dir, bundle and preset" in refused(
        *named, "--run_dir=a", "--preset=talking_head_tiny"
    )
    assert "is no bundle" in refused(*named, "--bundle", junk / "occupied")
    assert "A bundle cannot learn" in refused(*named, "--bundle=b", "--steps=5")
    assert not out.exists()
