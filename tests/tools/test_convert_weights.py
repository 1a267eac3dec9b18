import json


def test_it_says_what_is_wrong(refused, junk, tmp_path):
    base = ("convert_weights", "--from", "vgg_face", "--output", tmp_path / "face.npz")
    assert "weights" in refused(*base, "--checkpoint", junk / "junk.mp4")
    assert "should be one of" in refused(
        "convert_weights", "--from=vgg", "--checkpoint=a", "--output=b"
    )
    assert "is there already" in refused(
        *base[:4], junk / "junk.mp4", "--checkpoint", junk / "junk.mp4"
    )
    assert not (tmp_path / "face.npz").exists()


def test_the_plan_reads_nothing(run_tool, tmp_path):
    code, out, _ = run_tool(
        *("convert_weights", "--from", "vgg_face", "--checkpoint", "a", "--output", "b"),
        "--dry_run",
        cwd=tmp_path,
    )
    assert code == 0 and json.loads(out)["from"] == "vgg_face"
