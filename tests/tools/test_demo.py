import json
import os


def test_demo_refuses(refused, tmp_path):
    assert "size must be a power of two" in refused("demo", "--size=100", cwd=tmp_path)
    (tmp_path / "file").touch()
    assert "file" in refused("demo", "--output_dir=file", cwd=tmp_path)
    assert "holds no demo" in refused("demo", "--output_dir=.", cwd=tmp_path)


def test_demo_tells_its_plan(run_tool, tmp_path):
    code, out, err = run_tool("demo", "--dry_run", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(out)["output"] == os.path.join("demo", "hopper_says_collins.mp4")
    assert not list(tmp_path.iterdir())
