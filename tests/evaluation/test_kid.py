import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation.kid import kernel_distance


def draw(count, width=6, shift=0.0, seed=0):
    features = np.random.default_rng(seed).normal(size=(count, width)) + shift
    return features.astype(np.float32)


def brute_force(real, fake):
    real, fake = real.astype(float), fake.astype(float)

    def mean(xs, ys, *, same):
        values = [
            (float(x @ y) / len(x) + 1) ** 3
            for i, x in enumerate(xs)
            for j, y in enumerate(ys)
            if not (same and i == j)
        ]
        return np.mean(values)

    return mean(real, real, same=True) + mean(fake, fake, same=True) - 2 * mean(real, fake, same=0)


def test_by_hand():
    # One feature wide: k(0, 0) = 1, k(1, 1) = 8, k(0, 1) = 1.
    zeros, ones = np.zeros((2, 1)), np.ones((2, 1))
    assert kernel_distance(zeros, ones, subsets=1) == (pytest.approx(1 + 8 - 2), 0.0)


def test_whole_sets_are_compared_as_by_two_loops():
    real, fake = draw(9), draw(9, shift=0.5, seed=1)
    mean, deviation = kernel_distance(real, fake, subsets=3)
    assert mean == pytest.approx(brute_force(real, fake), rel=1e-9)
    # Every subset is the whole, in another order.
    assert deviation == pytest.approx(0.0, abs=1e-9)


def test_subsets_are_drawn_from_both_sets():
    real, fake = draw(7), draw(5, seed=1)
    mean, deviation = kernel_distance(real, fake, subsets=400, subset_size=2)
    assert deviation > 0
    # The mean over subsets of an unbiased estimate is that of the sets.
    assert mean == pytest.approx(brute_force(real, fake), abs=5 * deviation / np.sqrt(400))
    # A subset is never larger than the smaller set.
    assert kernel_distance(real, fake, subset_size=5) == kernel_distance(real, fake)


def test_one_distribution_has_a_mean_of_zero():
    found = [
        kernel_distance(draw(40, seed=2 * n), draw(40, seed=2 * n + 1), subsets=1)[0]
        for n in range(300)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert 0.2 < np.mean(np.asarray(found) < 0) < 0.8
    # A diagonal left in would show at once.
    bias = np.mean([(x @ x / 6 + 1) ** 3 for x in draw(40)]) / 40
    assert error < bias / 10


def test_it_grows_with_the_shift():
    real = draw(200)
    scores = [
        kernel_distance(real, draw(200, shift=shift, seed=1), subsets=10, subset_size=100)[0]
        for shift in (0.0, 0.3, 1.0)
    ]
    assert scores[0] < scores[1] < scores[2]


def test_the_seed_decides():
    real, fake = draw(50), draw(50, seed=1)
    one, same, other = (
        kernel_distance(real, fake, subsets=5, subset_size=10, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same != other
    assert [type(value) for value in one] == [float, float]


def test_errors_are_sentences():
    with pytest.raises(ConfigError, match="At least 2 pictures of each.*5 real and 1 generated"):
        kernel_distance(draw(5), draw(1))
    with pytest.raises(ConfigError, match=r"\[5, 6\] and \[5, 4\]. Take both from one network"):
        kernel_distance(draw(5), draw(5, width=4))
    with pytest.raises(ConfigError, match=r"must be \[N, D\] and \[M, D\], got \[6\]"):
        kernel_distance(draw(5)[0], draw(5))
    with pytest.raises(ConfigError, match="subset_size at least 2, got 100 and 1"):
        kernel_distance(draw(5), draw(5), subset_size=1)
