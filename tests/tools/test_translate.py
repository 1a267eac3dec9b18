import json

import numpy as np

from facegan.image import read_image, write_image
from tests.domain_puppet import export_domain_puppet


def test_translate_writes_a_picture_and_its_plan(run_tool, refused, tmp_path):
    bundle = export_domain_puppet(tmp_path / "bundle")
    picture = tmp_path / "a.png"
    write_image(picture, np.full((40, 60, 3), 90, np.uint8))
    base = ("translate", "--bundle", bundle, "--input", picture)
    code, out, err = run_tool(*base, "--domain=dog", "--output", tmp_path / "b.png", "--dry_run")
    assert (code, err) == (0, "")
    assert json.loads(out)["kind"] == "picture" and not (tmp_path / "b.png").exists()
    code, out, err = run_tool(*base, "--domain=dog", "--output", tmp_path / "b.png", "--seed=2")
    assert code == 0, err
    assert json.loads(out)["written"] == [str(tmp_path / "b.png")]
    assert read_image(tmp_path / "b.png").shape == (32, 32, 3)
    assert "exists already" in refused(*base, "--domain=dog", "--output", tmp_path / "b.png")
    sentence = refused(*base, "--domain=dgo", "--output", tmp_path / "c.png")
    assert "domain must be one of cat, dog; got 'dgo'. Did you mean 'dog'?" in sentence
    assert "is no bundle" in refused(
        *("translate", "--bundle", tmp_path, "--input", picture, "--domain=dog"),
        *("--output", tmp_path / "c.png"),
    )
