import math

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation import identity

NONE = (math.nan, math.nan)


def _rows(*rows):
    return np.array(rows, np.float32)


class MeanColour:
    """Describes a picture by two channel means; a black picture has no face."""

    def describe(self, image, landmarks_xy_px=None):
        return None if not image.any() else image[..., :2].mean(axis=(0, 1)) / 255


def test_describe_pictures_marks_pictures_without_a_face():
    black = np.zeros((4, 4, 3), np.uint8)
    white = np.full((6, 5, 3), 255, np.uint8)
    out = identity.describe_pictures(MeanColour(), [black, white])
    assert out.dtype == np.float32
    assert np.isnan(out[0]).all()
    np.testing.assert_array_equal(out[1], [1, 1])


def test_describe_pictures_refuses_none():
    with pytest.raises(ConfigError, match="at least one picture"):
        identity.describe_pictures(MeanColour(), [])


def test_paired_score_averages_only_pairs_with_two_faces():
    real = _rows((0, 0), (1, 1), NONE, (5, 5))
    fake = _rows((3, 4), NONE, (9, 9), (5, 6))
    score = identity.paired_identity_score(real, fake)
    assert score.distance == pytest.approx((5 + 1) / 2)
    assert score.pairs == 2
    # The third real picture has no face, so three could be found and two were.
    assert score.coverage == pytest.approx(2 / 3)


def test_paired_score_without_any_face_says_so():
    score = identity.paired_identity_score(_rows((0, 0)), _rows(NONE))
    assert score == identity.IdentityScore(distance=None, pairs=0, coverage=0.0)


def test_paired_score_refuses_sets_of_different_length():
    with pytest.raises(ConfigError, match="2 and 1"):
        identity.paired_identity_score(_rows((0, 0), (1, 1)), _rows((0, 0)))


def test_cross_score_averages_all_pairs():
    score = identity.cross_identity_score(_rows((0, 0), (0, 2)), _rows((0, 1), NONE, (0, 4)))
    assert score.distance == pytest.approx((1 + 4 + 1 + 2) / 4)
    assert (score.pairs, score.coverage) == (4, pytest.approx(2 / 3))


def test_own_score_never_compares_a_picture_with_itself():
    score = identity.own_identity_score(_rows((0, 0), (0, 3), NONE, (4, 0)))
    assert score.distance == pytest.approx((3 + 4 + 5) / 3)
    assert score.pairs == 3


def test_descriptors_of_other_width_are_refused():
    with pytest.raises(ConfigError, match=r"\(1, 2\) and \(1, 3\)"):
        identity.cross_identity_score(_rows((0, 0)), np.zeros((1, 3), np.float32))
