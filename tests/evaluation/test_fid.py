import numpy as np
import pytest

from facegan.errors import CheckpointError, ConfigError
from facegan.evaluation.fid import GaussianStatistics, fid, frechet_distance, make_inception


def statistics(features):
    made = GaussianStatistics()
    made.update(features)
    return made


def test_by_hand():
    # Two points each: means 0 and 3 apart, variances 2 and 8.
    a = statistics(np.array([[-1.0], [1.0]]))
    b = statistics(np.array([[1.0], [5.0]]))
    assert frechet_distance(a, b) == pytest.approx(9 + 2 + 8 - 2 * np.sqrt(16))


def test_diagonal_covariances_have_a_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)) * [1, 2, 3]
    y = rng.normal(size=(4000, 3)) * [2, 2, 1] + [1, 0, -1]
    expected = 2 + sum((p - q) ** 2 for p, q in zip([1, 2, 3], [2, 2, 1], strict=True))
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(expected, rel=0.05)


def test_parts_and_whole_agree_far_from_zero():
    rng = np.random.default_rng(1)
    x = 1e6 + rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    parts = GaussianStatistics()
    for part in (x[:7], x[7:8], x[8:8], x[8:]):
        parts.update(part)
    other = statistics(x[:20])
    other.merge(statistics(x[20:]))
    for made in (parts, other):
        np.testing.assert_allclose(made.mean, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(made.covariance, np.cov(x.T), rtol=1e-6)


def test_the_same_set_has_no_distance_even_with_few_pictures():
    x = np.random.default_rng(2).normal(size=(5, 40))
    assert frechet_distance(statistics(x), statistics(x[::-1])) < 1e-6 * np.trace(np.cov(x.T))
    assert np.isfinite(frechet_distance(statistics(x), statistics(x[:3] + 1)))


def test_what_one_set_takes_is_done_once_until_it_grows():
    rng = np.random.default_rng(4)
    x, y, more = rng.normal(size=(3, 20, 4))
    real = statistics(x)
    assert frechet_distance(real, statistics(y)) == frechet_distance(statistics(x), statistics(y))
    root = real.covariance_root()
    np.testing.assert_allclose(root @ root, np.cov(x.T), atol=1e-12)
    assert real.covariance_root() is root
    real.update(more)
    grown = statistics(np.concatenate([x, more]))
    assert frechet_distance(real, statistics(y)) == pytest.approx(
        frechet_distance(grown, statistics(y))
    )


def test_the_stand_in_ranks_pictures(caplog):
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)] * 3
    pictures = [np.roll(image, 12 * n, axis=1) for n, image in enumerate(pictures)]
    noisy = [np.clip(p + rng.normal(0, 8, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    others = [255 - (p // 4) for p in pictures]
    features = make_inception("random")
    assert "random stand-in for InceptionV3" in caplog.text
    found = features(pictures)
    assert found.shape == (3, 2048) and np.isfinite(found).all() and found.std() > 1e-3
    near, far = (fid(pictures, judged, features)["fid"] for judged in (noisy, others))
    assert fid(pictures, pictures, features)["fid"] < near < far


def test_errors_are_sentences(tmp_path):
    one = statistics(np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="at least 2 pictures, got 1"):
        frechet_distance(one, one)
    with pytest.raises(ConfigError, match="one width.*3 and 2"):
        frechet_distance(one, statistics(np.zeros((4, 2))))
    with pytest.raises(ConfigError, match=r"\[N, 3\], got \[2, 2\]"):
        one.update(np.zeros((2, 2)))
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="Cannot read InceptionV3 weights"):
        make_inception(str(tmp_path / "x.h5"))
