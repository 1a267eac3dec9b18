"""What the tests of several jobs share: it takes seconds to make."""

import dataclasses
import shutil

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small_style_puppet(tmp_path_factory):
    """A StyleGAN2 bundle of 16 px, of pictures that are not aligned by a face."""
    from tests.style_puppet import export_style_puppet

    return export_style_puppet(tmp_path_factory.mktemp("style_puppet") / "puppet", size=16)


@pytest.fixture(scope="session")
def aligned_style_puppet(small_style_puppet, tmp_path_factory):
    """The same bundle, of faces as FFHQ has them."""
    from facegan.bundle import read_manifest, write_manifest
    from facegan.face.conditioning import LatentConditioningConfig, encode_conditioning

    path = tmp_path_factory.mktemp("style_puppet") / "aligned"
    shutil.copytree(small_style_puppet, path)
    shown = encode_conditioning(LatentConditioningConfig(size=16, align="ffhq"))
    write_manifest(path, dataclasses.replace(read_manifest(path), conditioning=shown))
    return path


@pytest.fixture(scope="session")
def make_catalogue(tmp_path_factory):
    """A function: bundle -> file of a catalogue in which each channel is the eyes' or the hair's.

    In noise there is nothing to be found.
    """
    from facegan.bundle import read_manifest
    from facegan.models.local_editing import Catalogue

    def make(bundle):
        manifest, random = read_manifest(bundle), np.random.default_rng(0)
        contributions = {}
        for spec in manifest.methods["find_scales"].outputs:
            eyes = random.integers(0, 2, spec.shape[1])
            contributions[spec.name] = np.stack([eyes, 1 - eyes]).astype(np.float32)
        path = tmp_path_factory.mktemp("catalogue") / "catalogue.npz"
        Catalogue(
            contributions=contributions,
            names=("eyes", "hair"),
            centroids=np.eye(2, dtype=np.float32),
            fingerprint=manifest.fingerprint(),
        ).save(path)
        return path

    return make


@pytest.fixture
def red_squares(monkeypatch):
    """Red squares are faces, in pictures and videos."""
    from tests.fake_face import RedSquareDetector

    for place in ("facegan.preparation.faces._detector", "facegan.render.pipeline.make_detector"):
        monkeypatch.setattr(place, lambda config: RedSquareDetector())
