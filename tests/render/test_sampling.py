import numpy as np
import pytest

from facegan.bundle import Manifest, read_manifest
from facegan.errors import BundleError, DataError
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.sampling import (
    BATCH_SIZE,
    draw_latents,
    draw_seeded_latents,
    find_mean_w,
    latent_conditioning,
    map_latents,
    paint_w,
    read_w,
    slerp,
    style_shape,
    truncate_w,
    write_w,
)
from tests.style_puppet import LATENT_SIZE, STYLE_SIZE, export_style_puppet
from tests.toy_bundle import export_toy, image_spec

SHAPE = (4, STYLE_SIZE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=8)


@pytest.fixture(scope="module")
def methods(bundle):
    return BundleMethods(bundle, read_manifest(bundle))


def test_bundles_are_told_apart(methods, tmp_path):
    assert latent_conditioning(methods.manifest).size == 8
    assert style_shape(methods.manifest) == SHAPE
    manifest, _ = export_toy(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' bundle makes no faces of noise"):
        latent_conditioning(manifest)
    image = (image_spec("w", 8),)
    other = Manifest(model="x", facegan_version="0", inputs=image, outputs=image, image_size=8)
    with pytest.raises(BundleError, match="'x' bundle takes no styles 'w'"):
        style_shape(other)


def test_a_seed_draws_the_same_whatever_the_others_are(methods):
    drawn = draw_seeded_latents(methods, [5, 17])
    assert drawn.shape == (2, LATENT_SIZE) and drawn.dtype == np.float32
    expected = np.random.default_rng(17).standard_normal(LATENT_SIZE)
    np.testing.assert_array_equal(drawn[1], expected.astype(np.float32))
    np.testing.assert_array_equal(draw_seeded_latents(methods, [17]), drawn[1:])


def test_truncation_is_that_of_the_mapping_net(methods):
    latents = draw_latents(methods, np.random.default_rng(0), 3)
    w, mean = map_latents(methods, latents), find_mean_w(methods)
    assert w.shape == (3, *SHAPE) and mean.shape == SHAPE
    np.testing.assert_allclose(
        truncate_w(w, mean, 0.7), map_latents(methods, latents, 0.7), atol=1e-6
    )
    some = truncate_w(w, mean, -0.5, 2)
    np.testing.assert_allclose(some[:, :2], 1.5 * mean[:2] - 0.5 * w[:, :2], atol=1e-6)
    np.testing.assert_array_equal(some[:, 2:], w[:, 2:])
    np.testing.assert_array_equal(truncate_w(w, mean, 1.0), w)


def test_pictures_do_not_depend_on_their_batch(bundle, methods):
    w = map_latents(methods, draw_latents(methods, np.random.default_rng(0), BATCH_SIZE + 2))
    engine = load_engine(bundle, "tensorflow")
    together = np.stack(list(paint_w(engine, w)))
    assert together.shape == (BATCH_SIZE + 2, 8, 8, 3)
    np.testing.assert_allclose(next(paint_w(engine, w[3:4])), together[3], atol=1)
    assert together.std(axis=0).mean() > 5  # and are not all the same


def test_slerp_turns_evenly():
    first, last = np.array([[2, 0, 0], [0, 3, 0]], np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(slerp(first, last, 0.5), [half, half, 0], atol=1e-6)
    np.testing.assert_allclose(slerp(first, last, 1 / 3), [np.sqrt(0.75), 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(slerp(first, last, 0.0), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(slerp(first, last, 1.0), [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(slerp(first, first, 0.4), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(slerp(first, -first, 0.6), [-1, 0, 0], atol=1e-6)


def test_styles_survive_the_file(tmp_path):
    w = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    write_w(tmp_path / "w.npz", w)
    np.testing.assert_array_equal(read_w(tmp_path / "w.npz", SHAPE), w)
    assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]
    # As the authors' projector writes one picture's, and others in double precision.
    np.savez(tmp_path / "w.npz", w=w[0].astype(np.float64), seed=3)
    np.testing.assert_array_equal(read_w(tmp_path / "w.npz", SHAPE), w[:1])
    with pytest.raises(DataError, match="Cannot write .*No such file"):
        write_w(tmp_path / "none" / "w.npz", w)


def test_files_without_usable_styles_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    with pytest.raises(DataError, match="Cannot read styles from .*No such file"):
        read_w(path, SHAPE)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="Cannot read styles from .*w.npz"):
        read_w(path, SHAPE)
    for arrays, message in (
        ({"latent": np.zeros(3)}, "it has no array 'w', only latent"),
        ({"w": np.array(["a"])}, "could not convert"),
        ({"w": np.zeros((1, 9, STYLE_SIZE))}, r"shape \[N, 4, 8\] for this bundle, got \[1, 9, 8"),
        ({"w": np.zeros(STYLE_SIZE)}, r"got \[8\]"),
        ({"w": np.zeros((0, *SHAPE))}, r"got \[0, 4, 8\]"),
        ({"w": np.full(SHAPE, np.nan)}, "must hold finite numbers"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            read_w(path, SHAPE)
    np.savez(path, w=np.zeros(SHAPE))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="Cannot read styles from"):
        read_w(path, SHAPE)
    with open(path, "wb") as file:
        np.save(file, np.zeros(SHAPE))
    with pytest.raises(DataError, match="it holds one array without a name"):
        read_w(path, SHAPE)
