import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.faces import Faces
from facegan.render.sampling import draw_seeded_latents, find_mean_w, map_latents, slerp
from tests.style_puppet import STYLE_SIZE, export_style_puppet


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """An engine and the methods."""
    bundle = export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=8)
    return load_engine(bundle, "tensorflow"), BundleMethods(bundle, read_manifest(bundle))


def drawn_w(parts, *seeds):
    return map_latents(parts[1], draw_seeded_latents(parts[1], seeds))


def test_drawn_faces_follow_from_their_seeds(parts):
    faces = Faces(*parts)
    assert faces.num_layers == 4
    np.testing.assert_allclose(faces.find_w([3, 8]), drawn_w(parts, 3, 8), atol=1e-6)
    (picture,) = faces.paint(faces.find_w([3]))
    assert picture.shape == (8, 8, 3) and picture.dtype == np.uint8


def test_stored_faces_are_counted(parts):
    stored = np.random.default_rng(0).standard_normal((3, 4, STYLE_SIZE)).astype(np.float32)
    np.testing.assert_array_equal(Faces(*parts, stored).find_w([2, 0]), stored[[2, 0]])


def test_truncation_may_end_at_a_layer(parts):
    w, mean = drawn_w(parts, 1)[0], find_mean_w(parts[1])
    found = Faces(*parts, truncation=0.5, num_truncated=3).find_w([1])[0]
    np.testing.assert_allclose(found[:3], 0.5 * (w + mean)[:3], atol=1e-6)
    np.testing.assert_allclose(found[3], w[3], atol=1e-6)


def test_rows_of_truncations(parts):
    rows = list(Faces(*parts).truncation_rows([1, 2], (0.0, 1.0)))
    mean = find_mean_w(parts[1])
    np.testing.assert_allclose(rows, [[mean, w] for w in drawn_w(parts, 1, 2)], atol=1e-6)


def test_rows_of_mixtures(parts):
    first, *rows = Faces(*parts).mixing_rows([1, 2], [5, 6, 7], [0, 3])
    columns = drawn_w(parts, 5, 6, 7)
    np.testing.assert_allclose(first, columns, atol=1e-6)
    for row, w in zip(rows, drawn_w(parts, 1, 2), strict=True):
        np.testing.assert_allclose(row[0], w, atol=1e-6)
        np.testing.assert_allclose(row[1:, [0, 3]], columns[:, [0, 3]], atol=1e-6)
        np.testing.assert_allclose(row[1:, [1, 2]], [w[[1, 2]]] * 3, atol=1e-6)


def painted(parts, w):
    return np.stack(list(Faces(*parts).paint(w)))


def test_a_walk_passes_the_faces_and_closes(parts):
    frames = np.stack(list(Faces(*parts).walk([1, 2, 3], 8, "w")))
    assert frames.shape == (24, 8, 8, 3)
    w = drawn_w(parts, 1, 2, 3)
    np.testing.assert_allclose(frames[[0, 8, 16]], painted(parts, w), atol=1)
    np.testing.assert_allclose(frames[12], painted(parts, 0.5 * (w[1] + w[2])[None])[0], atol=1)
    # A quarter of the time is sin(pi / 8)^2 of the way; the last leg leads to the first face.
    share = np.float32(np.sin(np.pi / 8) ** 2)
    late = w[2] + share * (w[0] - w[2])
    np.testing.assert_allclose(frames[18], painted(parts, late[None])[0], atol=1)


def test_a_walk_between_latents_is_round(parts):
    faces = Faces(*parts, truncation=0.5)
    frames = list(faces.walk([1, 2], 3, "z"))
    first, last = draw_seeded_latents(parts[1], [1, 2])
    w = map_latents(parts[1], slerp(first, last, 0.25)[None])
    expected = painted(parts, 0.5 * (w + find_mean_w(parts[1])))
    np.testing.assert_allclose(frames[1], expected[0], atol=1)
    np.testing.assert_allclose(frames[0], painted(parts, faces.find_w([1]))[0], atol=1)
