import numpy as np
import pytest

from facegan.face.landmarks import FLIP_ORDER, MEAN_SHAPE
from facegan.face.region_places import REGIONS, place_regions
from facegan.face.region_shapes import frame_face

SIZE = 128
FACE = MEAN_SHAPE * 46 + (41, 40)


def likeliest(long_hair=1.0, face=FACE):
    return place_regions(frame_face(face, SIZE), long_hair).argmax(axis=0)


@pytest.mark.parametrize(
    ("region", "column", "row"),
    [
        ("skin", 64, 75),  # the nose
        ("skin", 64, 48),  # between the brows
        ("hair", 64, 14),
        ("hair", 36, 40),
        ("background", 4, 4),
        ("background", 124, 40),
        ("neck", 64, 97),
        ("cloth", 90, 125),
    ],
)
def test_regions_are_where_a_head_has_them(region, column, row):
    assert REGIONS[likeliest()[row, column]] == region


def test_odds_are_finite_and_mirror_with_the_face():
    odds = place_regions(frame_face(FACE, SIZE))
    assert odds.shape == (len(REGIONS), SIZE, SIZE) and odds.dtype == np.float32
    assert np.isfinite(odds).all()
    mirrored = FACE[FLIP_ORDER] * (-1, 1) + (SIZE - 1, 0)
    other = place_regions(frame_face(mirrored, SIZE))[:, :, ::-1]
    assert np.mean(odds.argmax(axis=0) != other.argmax(axis=0)) < 0.01


def test_short_hair_does_not_hang_under_the_jaw():
    hair = REGIONS.index("hair")
    frame = frame_face(FACE, SIZE)
    low = frame.up < -1.8
    long_, short = (place_regions(frame, amount)[hair] for amount in (1.0, 0.0))
    assert (short[low] < long_[low] - 5).all()
    np.testing.assert_array_equal(short[frame.up > 0.6], long_[frame.up > 0.6])


def test_the_ear_that_a_head_turns_away_from_the_camera_is_not_seen():
    ear = REGIONS.index("ear")
    frontal = place_regions(frame_face(FACE, SIZE))[ear]
    assert frontal[:, :64].max() > 0 and frontal[:, 64:].max() > 0
    turned = FACE.copy()
    turned[17:, 0] += 9.0  # the nose points to the picture's right
    odds = place_regions(frame_face(turned, SIZE))[ear]
    assert odds[:, :64].max() > 0 > odds[:, 80:].max()
