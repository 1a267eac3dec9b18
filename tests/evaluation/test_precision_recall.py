import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation.precision_recall import precision_and_recall


def draw(count, width=5, scale=1.0, seed=0):
    features = np.random.default_rng(seed).normal(size=(count, width)) * scale
    return features.astype(np.float32)


def brute_force(real, fake, neighbours):
    def share(of, manifold):
        of, manifold = of.astype(float), manifold.astype(float)
        radii = []
        for i, x in enumerate(manifold):
            others = [np.linalg.norm(x - y) for j, y in enumerate(manifold) if j != i]
            radii.append(sorted(others)[neighbours - 1])
        within = [
            any(np.linalg.norm(x - y) <= r for y, r in zip(manifold, radii, strict=True))
            for x in of
        ]
        return np.mean(within)

    return share(fake, real), share(real, fake)


# Blocks that hold everything, that leave a rest, and of one feature.
@pytest.mark.parametrize("block_size", [2048, 16, 7, 1])
@pytest.mark.parametrize("neighbours", [1, 3])
def test_blocks_give_what_loops_give(block_size, neighbours):
    real, fake = draw(37), draw(30, scale=0.7, seed=1) + np.float32(0.3)
    expected = brute_force(real, fake, neighbours)
    assert 0 < expected[0] < 1 and 0 < expected[1] < 1
    found = precision_and_recall(real, fake, neighbours=neighbours, block_size=block_size)
    assert found == expected
    assert [type(share) for share in found] == [float, float]


def test_by_hand():
    # The nearest neighbours are 1, 1, 2 and 4 away: the manifold is [-1, 11].
    real = np.array([[0.0], [1.0], [3.0], [7.0]])
    # None is within it; the first fake's neighbour is 13.5 away, and so all reals are within.
    fake = np.array([[-2.0], [11.5], [12.5]])
    assert precision_and_recall(real, fake, neighbours=1) == (0.0, 1.0)
    # The second is on its very end.
    fake = np.array([[-2.0], [-1.0], [9.0]])
    assert precision_and_recall(real, fake, neighbours=1) == (pytest.approx(2 / 3), 1.0)
    # Two are within it, and reach half a unit: to the real at 7.
    fake = np.array([[7.0], [7.5], [20.0], [20.5]])
    assert precision_and_recall(real, fake, neighbours=1) == (0.5, 0.25)


# The copies' distance is 0, but rounding does not say so.
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_fakes_on_one_real_are_precise_and_recall_only_it(offset):
    real = draw(40, width=300) + np.float32(offset)
    fake = real[3:4].repeat(9, axis=0)
    assert precision_and_recall(real, fake) == (1.0, 1 / 40)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_copies_of_few_pictures_are_within_each_other(offset):
    # All radii are 0: what is within is on the very spot.
    few = draw(3, width=2048) + np.float32(offset)
    other = draw(1, width=2048, seed=1) + np.float32(offset)
    real = few.repeat(5, axis=0)
    fake = np.concatenate([few[:2], other]).repeat(4, axis=0)
    found = precision_and_recall(real, fake, block_size=4)
    assert found == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_the_same_set_covers_itself_and_one_far_away_nothing():
    real = draw(50, width=64)
    assert precision_and_recall(real, real[::-1]) == (1.0, 1.0)
    assert precision_and_recall(real, real + np.float32(100)) == (0.0, 0.0)


def test_few_kinds_cost_recall_and_many_cost_precision():
    real = draw(300)
    narrow, wide = (precision_and_recall(real, draw(300, scale=s, seed=1)) for s in (0.3, 3.0))
    assert narrow[0] > 0.95 > 0.5 > narrow[1]
    assert wide[1] > 0.95 > 0.5 > wide[0]


def test_errors_are_sentences():
    with pytest.raises(ConfigError, match="At least 4 pictures of each.*3 real and 9 generated"):
        precision_and_recall(draw(3), draw(9))
    with pytest.raises(ConfigError, match=r"\[5, 5\] and \[5, 4\]"):
        precision_and_recall(draw(5), draw(5, width=4))
    with pytest.raises(ConfigError, match="must be at least 1, got 0 and 2048"):
        precision_and_recall(draw(5), draw(5), neighbours=0)
