import math

import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation.locality import Locality, colour_change, mean_locality, measure_edit


def flat(colour, size=4):
    return np.full((size, size, 3), colour, np.uint8)


def test_greys_differ_in_lightness_alone():
    # Black is L = 0 and white is L = 100 (code 255); a and b are 0 (code 128) in both.
    np.testing.assert_allclose(colour_change(flat(0), flat(255)), 1 / 3)


def test_change_is_that_of_the_formula():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 5, 7, 3), np.uint8)
    # In floats OpenCV gives L in 0..100 and a, b around 0, of sRGB in 0..1.
    x, y = (cv2.cvtColor((v / 255).astype(np.float32), cv2.COLOR_RGB2Lab) for v in (a, b))
    scale = np.array([100, 255, 255])
    np.testing.assert_allclose(
        colour_change(a, b), (((x - y) / scale) ** 2).mean(axis=-1), atol=0.01
    )


def test_inside_and_outside_are_means_by_pixel():
    before, mask = flat(0), np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    after = before.copy()
    after[1, 1] = 255  # one of 4 pixels inside
    after[0, 0] = after[3, 3] = 255  # two of 12 outside
    found = measure_edit(before, after, mask)
    assert found.inside == pytest.approx(1 / 12)
    assert found.outside == pytest.approx(1 / 18)
    assert found.ratio == pytest.approx(1.5)


def test_a_ratio_needs_a_change():
    mask = np.eye(4, dtype=bool)
    assert math.isnan(measure_edit(flat(9), flat(9), mask).ratio)
    after = flat(9)
    after[mask] = 200
    assert measure_edit(flat(9), after, mask).ratio == math.inf


def test_the_mean_ratio_is_that_of_the_means():
    found = mean_locality([Locality(4.0, 1.0), Locality(2.0, 3.0)])
    assert (found.inside, found.outside, found.ratio) == (3.0, 2.0, 1.5)
    with pytest.raises(ConfigError, match="no edit"):
        mean_locality([])


def test_what_cannot_be_compared_is_refused():
    mask = np.eye(4, dtype=bool)
    with pytest.raises(ConfigError, match=r"before must be a picture .* got \[4, 4, 3\] float64"):
        measure_edit(flat(0) * 1.0, flat(0), mask)
    with pytest.raises(ConfigError, match=r"one size, got \[4, 4, 3\] and \[5, 5, 3\]"):
        measure_edit(flat(0), flat(0, 5), mask)
    with pytest.raises(ConfigError, match=r"mask must be \[4, 4\] bool, got \[4, 4\] uint8"):
        measure_edit(flat(0), flat(0), mask.astype(np.uint8))
    with pytest.raises(ConfigError, match="The mask has 0 of 16 pixels"):
        measure_edit(flat(0), flat(0), mask & False)
