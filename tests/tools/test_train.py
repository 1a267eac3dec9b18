import json

import pytest


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--data_dir and --run_dir must be given"),
        (["--data_dir=d", "--run_dir=r"], "--preset must be given"),
        (["--data_dir=d", "--run_dir=r", "--preset=a", "--config=b"], "exclude each other"),
        (["--data_dir=d", "--run_dir=r", "--resume", "--overwrite"], "exclude each other"),
        (
            ["--data_dir=d", "--run_dir=r", "--preset=pix2pix_tiny", "--set=train.stepps=1"],
            "Unknown key 'stepps' in 'train'. Did you mean 'steps'?",
        ),
        (
            ["--data_dir=d", "--run_dir=r", "--preset=pix2pix_tiny"],
            "The dataset folder d does not exist",
        ),
    ],
)
def test_train_refuses(refused, tmp_path, flags, expected):
    assert expected in refused("train", *flags, cwd=tmp_path)


def test_train_refuses_an_occupied_run_folder(refused, junk):
    sentence = refused(
        "train", "--preset=pix2pix_tiny", "--data_dir=d", "--run_dir", junk / "occupied"
    )
    assert "is not empty. Add --resume" in sentence
    assert (junk / "occupied" / "file").exists()


def test_train_tells_its_plan(run_tool, tmp_path):
    code, out, err = run_tool(
        *("train", "--preset=pix2pix_tiny", "--data_dir=d", "--run_dir=r", "--dry_run"),
        cwd=tmp_path,
    )
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan["config"]["kind"] == "pix2pix"
    assert plan["parameters"]["generator"] > 0
    assert not list(tmp_path.iterdir())


def test_train_names_the_presets(run_tool):
    code, out, err = run_tool("train", "--list_presets")
    assert (code, err) == (0, "")
    assert {"pix2pix_256", "pix2pix_vid2vid_demo", "pix2pix_tiny"} <= set(
        json.loads(out)["presets"]
    )
