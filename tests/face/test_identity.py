"""dlib's face descriptor."""

import numpy as np
import pytest

from facegan.errors import DataError
from facegan.face.identity import IdentityModel, identity_distance


@pytest.fixture(scope="module")
def model():
    return IdentityModel()


def test_same_person_is_near_and_others_are_far(model, portrait, portrait_face, read_clip):
    collins = model.describe(portrait, portrait_face.landmarks_xy_px)
    assert collins.shape == (128,) and collins.dtype == np.float32
    brighter = np.clip(portrait * 1.1 + 8, 0, 255).astype(np.uint8)
    assert identity_distance(collins, model.describe(brighter)) < 0.25
    first, *_, last = read_clip("d10", 3, every=40)
    same = identity_distance(model.describe(first), model.describe(last))
    other = identity_distance(collins, model.describe(first))
    assert same < 0.45 < 0.6 < other


def test_no_face_gives_none(model):
    assert model.describe(np.full((120, 120, 3), 60, np.uint8)) is None


def test_wrong_input_is_refused(model, portrait):
    with pytest.raises(DataError, match="uint8 RGB"):
        model.describe(np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="68, 2"):
        model.describe(portrait, np.zeros((5, 2)))


def test_distance_by_hand():
    assert identity_distance(np.array([0.0, 3.0]), np.array([4.0, 0.0])) == 5.0
