import itertools

import numpy as np
import pytest

from facegan.errors import CheckpointError, ConfigError
from facegan.evaluation.lpips import LpipsDistance, diversity, make_distance
from facegan.image import to_float, to_uint8
from facegan.models.lpips import make_lpips


@pytest.fixture(scope="module")
def distance():
    model = make_lpips("random")
    rng = np.random.default_rng(0)
    for linear in model.linears:
        linear.kernel.assign(rng.uniform(0, 1, linear.kernel.shape))
    return LpipsDistance(model, "random")


def pictures(count, size=32):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, size, size + 4, 3), dtype=np.uint8)


def test_pictures_as_they_are_stored(distance):
    images, others = pictures(18), pictures(18)[::-1]
    got = distance(images, others)
    assert got.dtype == np.float32
    expected = distance._model({"image": to_float(images), "other": to_float(others)})
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert distance(images[:0], others[:0]).shape == (0,)


def test_pictures_as_they_are_painted_are_not_rounded(distance):
    images = to_float(pictures(18))
    others = images[::-1]
    np.testing.assert_allclose(
        distance.between_floats(images, others),
        distance(pictures(18), pictures(18)[::-1]),
        rtol=1e-5,
    )
    # A hundredth of a code: LPIPS is a squared difference, so half the step has a quarter of it.
    step = np.float32(1e-4) * np.sign(others)
    near, nearer = (distance.between_floats(images, images + n * step) for n in (1.0, 0.5))
    np.testing.assert_array_equal(to_uint8(images + step), pictures(18))
    np.testing.assert_allclose(nearer / near, 0.25, rtol=0.05)


# One batch, two, and two of which the last has one picture.
@pytest.mark.parametrize("count", [2, 3, 10, 17, 20])
def test_diversity_is_the_mean_over_all_pairs(distance, count):
    images = pictures(count)
    first, second = zip(*itertools.combinations(range(count), 2), strict=True)
    every = distance(images[list(first)], images[list(second)])
    assert len(every) == count * (count - 1) // 2
    expected = np.mean(every, dtype=np.float64)
    assert diversity(images, distance) == pytest.approx(expected, rel=1e-5)
    assert diversity(list(images), distance) == diversity(images, distance)


def test_pictures_that_are_all_the_same_have_none(distance):
    same = np.repeat(pictures(1), 19, axis=0)
    assert diversity(same, distance) == pytest.approx(0.0, abs=1e-9)
    # Half of the pairs and a bit, 10 * 9 of 19 * 18 / 2, are of two pictures.
    same[10:] = pictures(2)[1]
    between = distance(same[:1], same[-1:])[0]
    assert diversity(same, distance) == pytest.approx(between * 90 / 171, rel=1e-5)


def test_the_stand_in_is_noted(caplog):
    made = make_distance("random")
    assert made.source == "random"
    assert "random stand-in for AlexNet" in caplog.text
    images = pictures(2, 64)
    near = np.clip(images.astype(int) + 8, 0, 255).astype(np.uint8)
    assert np.all(made(images, near) < made(images, images[::-1]))


def test_errors_are_sentences(distance, tmp_path):
    images = pictures(2)
    with pytest.raises(ConfigError, match="at least 2 pictures of one size, got 1"):
        diversity(images[:1], distance)
    with pytest.raises(ConfigError, match="got 0 of none"):
        diversity([], distance)
    with pytest.raises(ConfigError, match=r"\[31, 36, 3\] and \[32, 36, 3\]"):
        diversity([images[0], images[1, 1:]], distance)
    with pytest.raises(ConfigError, match=r"one to one, got \[2, 32, 36, 3\] and \[1, 32, 36, 3\]"):
        distance(images, images[:1])
    with pytest.raises(ConfigError, match="uint8 images, got float64"):
        distance(images / 255, images / 255)
    with pytest.raises(ConfigError, match="float pictures.*got uint8. Call the distance itself"):
        distance.between_floats(images, images / 255)
    with pytest.raises(ConfigError, match="one to one"):
        distance.between_floats(images / 255, images[:1] / 255)
    with pytest.raises(ConfigError, match="at least 31x31"):
        diversity(images[:, :30], distance)
    with pytest.raises(CheckpointError, match="Cannot read LPIPS weights"):
        make_distance(str(tmp_path / "none.npz"))
