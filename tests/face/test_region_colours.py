import cv2
import numpy as np
import pytest

from facegan.face.region_colours import (
    fit_colours,
    join,
    log_density,
    look_at,
    monomials,
    without_place,
)

RED, BLUE, GREY = (200, 40, 40), (30, 60, 180), (128, 128, 128)


def flat(colour, size=32, spread=3, seed=0):
    """A picture of one colour."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(colour, spread, (size, size, 3)), 0, 255).astype(np.uint8)


def samples(picture, x=0.0, y=0.0):
    looks = look_at(picture, len(picture))
    place = np.zeros(looks.shape[:2], np.float32)
    return join(looks, place + np.float32(x), place + np.float32(y))


def test_looks_are_cielab_and_roughness():
    picture = np.full((64, 64, 3), 128, np.uint8)
    picture[:, 32:] = np.random.default_rng(0).integers(88, 168, (64, 32, 1), np.uint8)
    looks = look_at(picture, 32)
    assert looks.shape == (32, 32, 4) and looks.dtype == np.uint8
    np.testing.assert_array_equal(looks[4, 4, :3], cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[0, 0])
    assert looks[:, :12, 3].max() == 0 and looks[:, 20:, 3].min() > 40


def test_a_single_gaussian_by_hand():
    data = np.random.default_rng(1).normal(0, 6, (500, 6)).astype(np.float32)
    model = fit_colours(data, np.ones(500), 1)
    # Spreads of 4.5 codes and 1.4 units are added to what is seen.
    covariance = np.cov(data.T, bias=True) + np.diag([4.5**2] * 4 + [1.4**2] * 2)
    offset = data - data.mean(axis=0)

    def gaussian(columns):
        part = covariance[columns, columns]
        distance = np.einsum(
            "ni,ij,nj->n", offset[:, columns], np.linalg.inv(part), offset[:, columns]
        )
        return -0.5 * (distance + np.log(np.linalg.det(2 * np.pi * part)))

    # The density of the look, given the place.
    expected = gaussian(slice(0, 6)) - gaussian(slice(4, 6))
    np.testing.assert_allclose(model.log_density(data), expected, atol=1e-3)
    np.testing.assert_array_equal(log_density(model, *monomials(data)), model.log_density(data))


def test_a_region_s_own_colours_are_likely_and_others_not():
    red, blue, grey = (samples(flat(c)) for c in (RED, BLUE, GREY))
    model = fit_colours(np.concatenate([red, blue]), np.ones(2 * len(red)), 4)
    for own in (red, blue):
        assert np.median(model.log_density(own)) > np.median(model.log_density(grey)) + 10


def test_the_same_colour_is_likely_at_one_place_and_not_at_another():
    left, right = samples(flat(RED), x=-6.0), samples(flat(BLUE), x=6.0)
    both = np.concatenate([left, right])
    model = fit_colours(both, np.ones(len(both)), 2)
    red_there = samples(flat(RED, seed=3), x=6.0)
    assert np.median(model.log_density(left)) > np.median(model.log_density(red_there)) + 4
    anywhere = fit_colours(without_place(both), np.ones(len(both)), 2)
    known = anywhere.log_density(without_place(red_there))
    np.testing.assert_allclose(known, anywhere.log_density(red_there), atol=30)
    assert np.median(known) > -20


def test_weights_count_and_zero_weights_do_not():
    red, blue = samples(flat(RED)), samples(flat(BLUE))
    weights = np.concatenate([np.ones(len(red)), np.zeros(len(blue))])
    some = fit_colours(np.concatenate([red, blue]), weights, 4)
    only = fit_colours(red, np.ones(len(red)), 4)
    np.testing.assert_array_equal(some.joint, only.joint)


@pytest.mark.parametrize("count", [21, 60, 400])
def test_few_and_equal_pixels_are_fitted(count):
    same = np.repeat(samples(flat(GREY, 1, 0)), count, axis=0)
    model = fit_colours(same, np.ones(count), 6)
    assert np.isfinite(model.log_density(same)).all()
    # More parts than pixels can fill are not made.
    assert len(model.joint) == 1


def test_the_same_pixels_give_the_same_model():
    data = np.concatenate([samples(flat(c, seed=5)) for c in (RED, BLUE, GREY)])
    one, other = (fit_colours(data, np.ones(len(data)), 5) for _ in range(2))
    np.testing.assert_array_equal(one.joint, other.joint)
    np.testing.assert_array_equal(one.place, other.place)
