import json

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.image import read_image, write_image
from facegan.models.local_editing import Catalogue
from tests.layout_puppets import export_painter
from tests.style_puppet import export_style_puppet


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=16)


@pytest.fixture(scope="module")
def catalogue(bundle):
    """One in which every channel belongs half to the eyes and half to the mouth."""
    manifest, path = read_manifest(bundle), bundle.parent / "catalogue.npz"
    Catalogue(
        contributions={
            spec.name: np.full((2, spec.shape[1]), 0.5, np.float32)
            for spec in manifest.methods["find_scales"].outputs
        },
        names=("eyes", "mouth"),
        centroids=np.eye(2, dtype=np.float32),
        fingerprint=manifest.fingerprint(),
    ).save(path)
    return path


def test_parts_are_words_after_their_flag(run_tool, bundle, catalogue, tmp_path):
    base = ("edit_image", "--bundle", bundle, "--catalogue", catalogue)
    drawn = ("--target=seed:1", "--reference=seed:2")
    write_image(tmp_path / "a.png", np.full((20, 30, 3), 90, np.uint8))
    words = ("--parts", "eyes", "mouth", "--output=b.png", "--dry_run")
    code, out, err = run_tool(*base, *drawn, *words, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(out)["parts"] == ["eyes", "mouth"]
    assert not (tmp_path / "b.png").exists()
    code, out, err = run_tool(
        *(*base, "--target=a.png", "--work_dir=work", "--space=w", "--steps=2"),
        *("--perceptual_net", "random", "--reference", "seed:2", "seed:3", "--grid"),
        *("--output", "grid.png"),
        cwd=tmp_path,
    )
    assert code == 0, err
    result = json.loads(out)
    assert (result["kind"], result["columns"][-3:]) == ("grid", ["eyes", "mouth", "all"])
    assert "Project a.png: 2/2 step" in err
    assert read_image(tmp_path / "grid.png").shape == (2 * 18 - 2, 7 * 18 - 2, 3)
    assert len(list((tmp_path / "work").iterdir())) == 1


def test_bad_input_is_refused_in_one_sentence(refused, bundle, tmp_path):
    base = ("edit_image", "--bundle", bundle, "--target=seed:1", "--output=b.png")
    for flags, message in (
        (
            ("--clusters=9",),
            "--clusters is for a catalogue that is made, and none is",
        ),
        (("--reference=seed:2", "--parts=eyes", "--frame_steps=9"), "--frame_steps is for a video"),
        (("mouth",), "'mouth' belongs to no flag"),
    ):
        assert message in refused(*base, *flags, cwd=tmp_path), flags


def test_flags_of_the_other_kind_of_bundle_are_refused(refused, bundle, tmp_path):
    masks = export_painter(tmp_path / "masks")
    write_image(tmp_path / "a.png", np.full((70, 80, 3), 90, np.uint8))
    for chosen, flag, message in (
        (masks, "--parts=eyes", "--parts is for a bundle of stylegan2"),
        (masks, "--grow=mout=2", "'mouth'"),
        (bundle, "--grow=mouth=2", "--grow is for a bundle of mask_pix2pix"),
    ):
        told = ("edit_image", "--bundle", chosen, "--target=a.png", "--output=b.png", flag)
        assert message in refused(*told, cwd=tmp_path)
