import json

from facegan.bundle import read_manifest
from facegan.jobs.convert_checkpoint import SOURCES
from facegan.jobs.run import read_run
from facegan.models.fan import load_fan
from tests.fan_file import public_fan
from tests.parity.public_state import write_checkpoint
from tests.parity.small_checkpoints import write_small


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


def test_a_checkpoint_becomes_a_run_and_a_bundle(run_tool, refused, junk, tmp_path):
    path, state = write_small(tmp_path, "bisenet")["checkpoint"]
    write_checkpoint(path, state)
    run_dir, bundle = tmp_path / "run", tmp_path / "bundle"
    base = ("convert_weights", "--from", "bisenet", "--checkpoint", path, "--output", run_dir)
    assert "--encoder is for --from spade; bisenet does not take it" in refused(
        *base, "--encoder", path
    )
    assert "--bundle is for --from bisenet or parser_unet or pix2pix" in refused(
        *("convert_weights", "--from=fan", "--checkpoint", path, "--output=fan.npz"),
        *("--bundle", bundle),
    )
    assert "no file of PyTorch weights" in refused(*base[:4], junk / "junk.mp4", *base[5:])
    code, out, _ = run_tool(*base, "--bundle", bundle, "--dry_run")
    assert code == 0 and json.loads(out)["nets"] == ["parser"] and not run_dir.exists()
    code, out, _ = run_tool(*base, "--bundle", bundle, "--set", "train.steps=5")
    done = json.loads(out)
    assert code == 0 and done["bundle"]["bundle"] == str(bundle)
    assert "non-commercial research" in done["licence"] and done["notes"] == []
    assert "non-commercial research" in read_manifest(bundle).provenance.licence
    assert read_run(run_dir).train.steps == 5
    assert "is there already" in refused(*base)


def test_a_fixed_network_becomes_a_file(run_tool, tmp_path):
    path = write_checkpoint(tmp_path / "wing.ckpt", public_fan())
    code, out, _ = run_tool(
        *("convert_weights", "--from=fan", "--checkpoint", path),
        *("--output", tmp_path / "fan.npz"),
    )
    assert code == 0 and "BY-NC" in json.loads(out)["licence"]
    load_fan(tmp_path / "fan.npz")


def test_help_names_every_source(run_tool):
    _, out, _ = run_tool("convert_weights", "--help")
    for source in (*SOURCES, "fan", "vgg19", "vgg_face", "lpips"):
        assert f"\n  {source} " in out
    assert "non-commercial" in out and "recipe.losses.face_net" in out
