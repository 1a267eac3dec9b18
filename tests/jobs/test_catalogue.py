import json

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError, DataError
from facegan.face.landmarks import MEAN_SHAPE, Face
from facegan.face.parsing import ParserConfig
from facegan.image import read_image
from facegan.jobs.catalogue import CatalogueConfig, fit_catalogue, measure_locality
from facegan.models.local_editing import (
    EditConfig,
    load_catalogue,
    measure_contributions,
    spread_membership,
    transfer,
)
from facegan.preparation import small_faces
from facegan.render.engine import BundleMethods
from facegan.render.sampling import draw_latents, map_latents
from tests.style_puppet import export_style_puppet
from tests.toy_bundle import export_puppet, repeat_drawing

SIZE = 32
FINDER = "facegan.preparation.small_faces.find_largest_face"
SMALL = CatalogueConfig(
    samples=20, clusters=5, pixels=64, named=8, seed=1, parser=ParserConfig(size=64)
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=SIZE)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """Noise shows no face; here all of it is one, in the middle."""

    def find(image, config):
        height = image.shape[0]
        landmarks = ((MEAN_SHAPE * 0.6 + 0.2) * height).astype(np.float32)
        return Face(landmarks, np.float32([0, 0, height, height]), 1.0)

    monkeypatch.setattr(FINDER, find)


def test_a_catalogue_is_the_same_bits_each_time(bundle, tmp_path):
    summary = fit_catalogue(bundle, tmp_path / "a.npz", SMALL, overview=tmp_path / "a.png")
    fit_catalogue(bundle, tmp_path / "b.npz", SMALL)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = load_catalogue(tmp_path / "a.npz")
    assert found.fingerprint == read_manifest(bundle).fingerprint()
    assert found.settings["samples"] == 20
    assert found.layers == {
        "conv_4": 16, "rgb_4": 16, "up_8": 16, "conv_8": 8, "rgb_8": 8, "up_16": 8,
        "conv_16": 4, "rgb_16": 4, "up_32": 4, "conv_32": 2, "rgb_32": 2,
    }  # fmt: skip
    assert [cluster["name"] for cluster in summary["clusters"]] == list(found.names)
    assert sum(c["share"] for c in summary["clusters"]) == pytest.approx(1, abs=1e-3)
    assert summary["parts"] == list(found.parts) and summary["named"] == 8
    assert not set(summary["parts"]) & set(summary["missing"])
    json.dumps(summary)
    # Four rows of eight pictures of 128 px, two px apart.
    assert read_image(tmp_path / "a.png").shape == (4 * 130 - 2, 8 * 130 - 2, 3)


def test_contributions_are_those_of_the_traced_features(bundle, tmp_path):
    fit_catalogue(bundle, tmp_path / "a.npz", SMALL)
    found = load_catalogue(tmp_path / "a.npz")
    methods = BundleMethods(bundle, read_manifest(bundle))
    w = map_latents(methods, draw_latents(methods, np.random.default_rng(1), 20))
    # The clustered features are those that the layer rgb_32 scales.
    x = methods.run("trace_features", {"w": w})["features"]
    ids = (x @ found.centroids.T).argmax(axis=-1)
    a = (x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2))
    direct = [(a**2 * (ids == k)[..., None]).mean(axis=(0, 1, 2)) for k in range(5)]
    np.testing.assert_allclose(found.contributions["rgb_32"], direct, atol=1e-4)
    # The convolution conv_32 gets what up_32 gave, and spreads it.
    shares = [(ids == k).mean() for k in range(5)]
    np.testing.assert_allclose(found.shares, shares, rtol=1e-5)
    membership = spread_membership(np.eye(5, dtype=np.float32)[ids], 32)
    found_moments = methods.run("weigh_channels", {"w": w, "membership": membership})["conv_32"]
    conv = measure_contributions(
        {"conv": found_moments.mean(axis=0)}, {"conv": membership.mean(axis=(0, 1, 2))}
    )
    np.testing.assert_allclose(found.contributions["conv_32"], conv["conv"], atol=1e-4)


def test_faces_that_are_not_found_only_give_no_names(bundle, tmp_path, monkeypatch):
    whole = fit_catalogue(bundle, tmp_path / "a.npz", SMALL)
    find, calls = small_faces.find_largest_face, []

    def sometimes(image, config):
        calls.append(image.shape)
        return find(image, config) if len(calls) % 2 else None

    monkeypatch.setattr(FINDER, sometimes)
    part = fit_catalogue(bundle, tmp_path / "b.npz", SMALL)
    assert (whole["named"], part["named"]) == (8, 4)
    # Pictures are enlarged for the detector.
    assert set(calls) == {(256, 256, 3)}
    a, b = (load_catalogue(tmp_path / name).contributions for name in ("a.npz", "b.npz"))
    np.testing.assert_array_equal(a["conv_16"], b["conv_16"])
    monkeypatch.setattr(FINDER, lambda image, config: None)
    with pytest.raises(DataError, match="No face is found in 8 pictures"):
        fit_catalogue(bundle, tmp_path / "c.npz", SMALL)
    assert not (tmp_path / "c.npz").exists()


def test_locality_is_measured_over_pairs(bundle, tmp_path):
    fit_catalogue(bundle, tmp_path / "a.npz", SMALL)
    made = load_catalogue(tmp_path / "a.npz")
    part = made.parts[0]
    config = EditConfig(epsilon=0.1)
    found = measure_locality(bundle, made, part, pairs=3, seed=2, config=config)
    assert found["part"] == part and found["pairs"] == 3
    assert found["ratio"] == pytest.approx(found["inside"] / found["outside"])
    assert measure_locality(bundle, made, part, pairs=3, seed=2, config=config) == found
    still = measure_locality(bundle, made, part, pairs=2, config=EditConfig(strength=0.0))
    assert (still["inside"], still["outside"], still["ratio"]) == (0.0, 0.0, None)


def test_faces_without_the_part_are_drawn_again(bundle, tmp_path, monkeypatch):
    fit_catalogue(bundle, tmp_path / "a.npz", SMALL)
    made = load_catalogue(tmp_path / "a.npz")
    monkeypatch.setattr(FINDER, lambda image, config: None)
    with pytest.raises(DataError, match="Only 0 of 8 pictures show a face with the part"):
        measure_locality(bundle, made, made.parts[0], pairs=2)


def test_all_parts_at_once_paint_the_other_face(bundle, tmp_path):
    fit_catalogue(bundle, tmp_path / "a.npz", SMALL)
    made = load_catalogue(tmp_path / "a.npz")
    methods = BundleMethods(bundle, read_manifest(bundle))
    w = map_latents(methods, draw_latents(methods, np.random.default_rng(0), 2))
    first, second = (methods.run("find_scales", {"w": w[i : i + 1]}) for i in range(2))
    moved = transfer(first, second, made, made.parts, EditConfig(epsilon=1e9))
    np.testing.assert_array_equal(
        methods.run("paint_scales", moved)["image"], methods.run("paint_scales", second)["image"]
    )


def test_what_cannot_be_used_is_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match="A catalogue is an .npz file"):
        fit_catalogue(bundle, tmp_path / "a.json", SMALL)
    (tmp_path / "a.npz").touch()
    with pytest.raises(ConfigError, match="is there already"):
        fit_catalogue(bundle, tmp_path / "a.npz", SMALL)
    fit_catalogue(bundle, tmp_path / "a.npz", SMALL, overwrite=True)
    other = export_style_puppet(tmp_path / "other", size=SIZE, seed=1)
    with pytest.raises(ConfigError, match="made for another bundle"):
        measure_locality(other, load_catalogue(tmp_path / "a.npz"), "eyes")
    export_puppet(tmp_path / "toy", repeat_drawing, size=SIZE)
    with pytest.raises(BundleError, match="makes no faces of noise"):
        fit_catalogue(tmp_path / "toy", tmp_path / "b.npz", SMALL)


def test_settings_are_checked():
    for change, match in (
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"clusters": 1}, "clusters must be at least 2, got 1"),
        ({"truncation": 0.0}, r"truncation must be in \(0, 1\], got 0.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ):
        with pytest.raises(ConfigError, match=match):
            CatalogueConfig(**change)
