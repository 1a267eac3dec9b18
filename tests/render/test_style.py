import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError, DataError
from facegan.face.landmarks import DetectorConfig
from facegan.image import to_float, write_image
from facegan.render.engine import BundleMethods
from facegan.render.style import (
    StyleChoice,
    domain_conditioning,
    draw_latents,
    encode_references,
    find_styles,
    map_latents,
    style_files,
)
from tests.domain_puppet import export_domain_puppet
from tests.toy_bundle import export_toy


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    bundle = export_domain_puppet(tmp_path_factory.mktemp("bundles") / "puppet")
    return BundleMethods(bundle, read_manifest(bundle))


def test_a_seed_draws_one_style(methods):
    choices = [StyleChoice(domain="cat", seed=5), StyleChoice(domain="dog", seed=5)]
    cat, dog = find_styles(methods, choices, DetectorConfig())
    latent = np.random.default_rng(5).standard_normal(4)
    np.testing.assert_allclose(cat, np.tanh(latent[:3]), atol=1e-5)
    np.testing.assert_allclose(dog, cat - 0.5, atol=1e-5)


def test_a_reference_is_cut_as_what_was_learnt_from(methods, tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 10:50] = (200, 100, 50)  # the centred square
    write_image(tmp_path / "a.png", picture)
    choice = StyleChoice(domain="cat", reference=str(tmp_path / "a.png"))
    (style,) = find_styles(methods, [choice], DetectorConfig())
    np.testing.assert_allclose(style, to_float(picture[0, 20]), atol=1e-5)
    assert len(style_files([choice, StyleChoice(domain="cat")])) == 1
    with pytest.raises(DataError, match="Cannot read .*none.png"):
        missing = StyleChoice(domain="cat", reference=str(tmp_path / "none.png"))
        find_styles(methods, [missing], DetectorConfig())


def test_many_styles_come_at_once(methods):
    latents = draw_latents(methods, np.random.default_rng(0), 3)
    assert latents.shape == (3, 4) and latents.dtype == np.float32
    np.testing.assert_allclose(
        map_latents(methods, latents, 1), np.tanh(latents[:, :3]) - 0.5, 1e-5
    )
    pictures = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    styles = encode_references(methods, pictures, 0)
    np.testing.assert_allclose(styles, to_float(pictures).mean(axis=(1, 2)), atol=1e-5)


def test_what_cannot_be_is_refused(methods, tmp_path):
    with pytest.raises(ConfigError, match="domain must be one of cat, dog; got 'bird'"):
        find_styles(methods, [StyleChoice(domain="bird")], DetectorConfig())
    with pytest.raises(ConfigError, match="seed must be at least 0"):
        StyleChoice(domain="cat", seed=-1)
    export_toy(tmp_path / "toy")
    manifest = read_manifest(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' bundle knows no domains"):
        domain_conditioning(manifest)
    with pytest.raises(BundleError, match="no signature 'map_style' with an input 'latent'"):
        draw_latents(BundleMethods(tmp_path / "toy", manifest), np.random.default_rng(0), 1)
