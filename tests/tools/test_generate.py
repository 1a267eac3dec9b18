import json

import numpy as np
import pytest

from facegan.image import read_image
from tests.style_puppet import export_style_puppet
from tests.toy_bundle import export_toy


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=8)


def test_generate_writes_pictures_and_its_plan(run_tool, bundle, tmp_path):
    base = ("generate", "--bundle", bundle, "--output", tmp_path / "out", "--seed=3", "--count=2")
    code, out, err = run_tool(*base, "--dry_run")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert (plan["kind"], plan["config"]["seeds"]) == ("folder", "3-4")
    assert not (tmp_path / "out").exists()
    code, out, err = run_tool(*base, "--truncation=0.7", "--save_w", tmp_path / "w.npz")
    assert code == 0, err
    assert json.loads(out)["written"] == 2
    assert "Generate: 2/2 picture" in err
    assert read_image(tmp_path / "out" / "seed000003.png").shape == (8, 8, 3)
    assert np.load(tmp_path / "w.npz")["w"].shape == (2, 4, 8)


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (("--output=a.png", "--grid", "--count=9"), "grid"),
        (("--output=a.png", "--truncations", "-0.5,0,1", "--seeds=1,2"), "truncations"),
        (("--output=a.png", "--rows=1,2", "--columns=4-6", "--mix=1-3"), "mixing"),
        (("--output=a.mp4", "--seeds=1,5", "--seconds=0.5", "--fps=25", "--space=z"), "walk"),
        (("--output=a.jpg", "--seeds=7"), "picture"),
    ],
)
def test_flags_choose_what_is_made(run_tool, bundle, tmp_path, flags, kind):
    code, out, err = run_tool("generate", "--bundle", bundle, *flags, "--dry_run", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(out)["kind"] == kind


def test_bad_input_is_refused_in_one_sentence(refused, bundle, tmp_path):
    export_toy(tmp_path / "toy")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "file").touch()
    base = ("generate", "--bundle", bundle)
    for flags, message in (
        (("--output=out", "--seeds=1,x"), "seeds must be whole numbers from 0 on"),
        (("--output=out", "--seed=-1"), "-1 is not a non-negative integer"),
        (("--output=a.png", "--count=3"), "3 faces are asked for. Add --grid"),
        (("--output=a.png", "--seconds=3"), "--seconds is for a video; leave it out"),
        (("--output=a.mp4", "--mix=fine"), "--mix is for a sheet of mixtures; leave it out"),
        (("--output=a.png", "--rows=1"), "--columns must be given"),
        (("--output=a.png", "--columns=1"), "--rows must be given"),
        (("--output=a.png", "--rows=1", "--columns=2", "--seeds=3"), "--seeds names no rows"),
        (("--output=a.png", "--rows=1", "--columns=2", "--grid"), "--grid is for a plain sheet"),
        (("--output=a.png", "--rows=1", "--columns=2", "--mix=9"), "layers are 0-3"),
        (("--output=a.png", "--seeds=1", "--count=2"), "--count is for seeds in a row"),
        (("--output=a.png", "--truncations=a"), "truncations must be numbers, as -0.5,0,1"),
        (("--output=a.png", "--w=none.npz"), "Cannot read styles from none.npz"),
        (("--output=occupied",), "is not empty. Add --resume"),
    ):
        assert message in refused(*base, *flags, cwd=tmp_path), flags
    sentence = refused("generate", "--bundle=toy", "--output=a.png", cwd=tmp_path)
    assert "A 'toy' bundle makes no faces of noise" in sentence
