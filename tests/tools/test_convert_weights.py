import json


def test_it_says_what_is_wrong(refused, junk, tmp_path):
    base = ("convert_weights", "--from", "vgg_face", "--output", tmp_path / "face.npz")
    assert "no .caffemodel file" in refused(*base, "--checkpoint", junk / "junk.mp4")
    assert "is not there" in refused(*base, "--checkpoint", junk / "absent", "--dry_run")
    assert "should be one of" in refused(
        "convert_weights", "--from=vgg", "--checkpoint=a", "--output=b"
    )
    assert "is there already" in refused(
        *base[:4], junk / "junk.mp4", "--checkpoint", junk / "junk.mp4"
    )
    assert not (tmp_path / "face.npz").exists()


def test_the_plan_writes_nothing(run_tool, junk):
    before = sorted(junk.iterdir())
    code, out, _ = run_tool(
        *("convert_weights", "--from", "vgg_face", "--checkpoint", "junk.mp4", "--output", "b"),
        *("--channel_order", "rgb", "--dry_run"),
        cwd=junk,
    )
    assert code == 0
    assert json.loads(out) == {
        "from": "vgg_face",
        "checkpoint": "junk.mp4",
        "output": "b",
        "channel_order": "rgb",
    }
    assert sorted(junk.iterdir()) == before


def test_lpips_takes_two_files(refused, run_tool, junk):
    base = ("convert_weights", "--from", "lpips", "--checkpoint", junk / "junk.mp4", "--output")
    out = junk / "lpips.npz"
    heads = ("--heads", junk / "junk.mp4")
    assert "--heads must be given with --from lpips" in refused(*base, out, "--dry_run")
    assert "absent is not there" in refused(*base, out, "--heads", junk / "absent", "--dry_run")
    assert "--channel_order is for --from vgg_face; lpips does not take it" in refused(
        *base, out, *heads, "--channel_order", "rgb"
    )
    assert "--heads is for --from lpips" in refused(
        *("convert_weights", "--from=vgg_face", "--output", out, *heads),
        *("--checkpoint", junk / "junk.mp4"),
    )
    assert "no file of PyTorch weights" in refused(*base, out, *heads)
    assert not out.exists()
    _, plan, _ = run_tool(*base, "b", *heads, "--dry_run", cwd=junk)
    assert json.loads(plan) == {
        "from": "lpips",
        "checkpoint": str(junk / "junk.mp4"),
        "output": "b",
        "heads": str(junk / "junk.mp4"),
    }


def test_help_names_the_licence(run_tool):
    _, out, _ = run_tool("convert_weights", "--help")
    assert "non-commercial use (Creative Commons BY-NC" in out
    assert "recipe.losses.face_net" in out
