import numpy as np
import pytest

from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.region_colours import look_at
from facegan.face.region_models import (
    BACKGROUND,
    CLOTH,
    HAIR,
    NECK,
    SKIN,
    learn_regions,
    loose_hair,
    region_odds,
)
from facegan.face.region_shapes import frame_face

SIZE = 64
FACE = MEAN_SHAPE * 23 + (20.5, 19)
FRAME = frame_face(FACE, SIZE)
WALL, HAIR_COLOUR, SKIN_COLOUR, COAT = (150, 170, 185), (45, 32, 25), (215, 165, 140), (30, 110, 60)


def head(*, hair=HAIR_COLOUR, coat=COAT, long=False, noise=3, seed=0):
    """A head in the frame's own terms: looks, and the regions that were painted."""
    regions = np.full((SIZE, SIZE), BACKGROUND)
    regions[(FRAME.up < -2.3 + 0.3 * np.abs(FRAME.across)) & (np.abs(FRAME.across) < 2.2)] = CLOTH
    mane = (FRAME.outside < 0.5) & (FRAME.up > (-3.0 if long else -0.5))
    regions[mane] = HAIR
    regions[(FRAME.below < 0) & (np.abs(FRAME.across) < 0.7) & (FRAME.up > -2.4)] = NECK
    regions[FRAME.outside < -0.1] = SKIN
    colours = {BACKGROUND: WALL, HAIR: hair, NECK: SKIN_COLOUR, SKIN: SKIN_COLOUR, CLOTH: coat}
    picture = np.zeros((SIZE, SIZE, 3))
    for region, colour in colours.items():
        picture[regions == region] = colour
    picture += np.random.default_rng(seed).normal(0, noise, picture.shape)
    return look_at(np.clip(picture, 0, 255).astype(np.uint8), SIZE), regions


def found(looks, models):
    return region_odds(looks, FRAME, models).argmax(axis=0)


def test_regions_are_learnt_and_found():
    looks, truth = head()
    models = learn_regions([(looks, FRAME)])
    assert models.absent == frozenset() and models.long_hair < 0.3
    assert np.mean(found(looks, models) == truth) > 0.93


def test_odds_are_relative_to_the_likeliest():
    looks, _ = head()
    odds = region_odds(looks, FRAME, learn_regions([(looks, FRAME)]))
    assert odds.shape == (6, SIZE, SIZE) and odds.dtype == np.float32
    np.testing.assert_array_equal(odds.max(axis=0), 0)


def test_clothes_as_dark_as_short_hair_are_clothes():
    looks, truth = head(coat=HAIR_COLOUR)
    models = learn_regions([(looks, FRAME)])
    assert models.long_hair < 0.3
    which = found(looks, models)
    assert np.mean(which[truth == CLOTH] == CLOTH) > 0.8
    assert np.mean(which[truth == HAIR] == HAIR) > 0.9


def test_long_hair_is_hair_down_to_the_bottom():
    looks, truth = head(long=True)
    models = learn_regions([(looks, FRAME)])
    assert models.long_hair == 1.0
    low = (truth == HAIR) & (FRAME.up < -1.2)
    assert np.mean(found(looks, models)[low] == HAIR) > 0.8


def test_a_bald_head_has_no_hair():
    looks, _ = head(hair=WALL)
    models = learn_regions([(looks, FRAME)])
    assert HAIR in models.absent
    assert not (found(looks, models) == HAIR).any()


def test_what_is_learnt_does_not_depend_on_chance_or_on_what_was_learnt_before():
    looks, _ = head()
    first = learn_regions([(looks, FRAME)])
    learn_regions([(head(seed=4)[0], FRAME)])
    second = learn_regions([(looks, FRAME)])
    for region, model in first.colours.items():
        np.testing.assert_array_equal(model.joint, second.colours[region].joint)


@pytest.mark.parametrize("code", [0, 128, 255])
def test_a_picture_of_one_colour_teaches_what_it_can(code):
    looks = look_at(np.full((SIZE, SIZE, 3), code, np.uint8), SIZE)
    odds = region_odds(looks, FRAME, learn_regions([(looks, FRAME)]))
    assert np.isfinite(odds).all()


def test_a_face_outside_the_picture_teaches_nothing_and_does_no_harm():
    looks, _ = head()
    far = frame_face(FACE + (500, 0), SIZE)
    assert np.isfinite(region_odds(looks, far, learn_regions([(looks, far)]))).all()


def test_hair_that_hangs_together_with_none_at_the_head_is_loose():
    hair = np.zeros((SIZE, SIZE), bool)
    hair[2:14, 24:40] = True  # on the head
    hair[50:60, 2:8] = True
    loose = loose_hair(hair, FRAME)
    assert loose[55, 5] and not loose[8, 30]
    assert loose.sum() == 60
