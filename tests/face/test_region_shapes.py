import numpy as np
import pytest

from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.region_shapes import fill, frame_face, part_polygons

SIZE = 128
FACE = MEAN_SHAPE * 60 + (34, 44)


def test_the_frame_measures_from_the_bridge_of_the_nose():
    frame = frame_face(FACE, SIZE)
    column, row = np.rint(FACE[27]).astype(int)
    assert abs(frame.across[row, column]) < 0.05 and abs(frame.up[row, column]) < 0.05
    assert frame.up[row - 20, column] > 0 > frame.up[row + 20, column]
    assert frame.across[row, column + 20] > 0 > frame.across[row, column - 20]
    assert frame.inside[row, column] and frame.outside[row, column] == 0
    chin = np.rint(FACE[8]).astype(int)
    assert frame.below[chin[1] + 8, chin[0]] and not frame.below[row, column]
    assert not (frame.below & frame.inside).any()
    assert frame.outside[0, 0] > 0.5


def test_the_frame_turns_with_the_face():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])  # a quarter, clockwise as it is seen
    centre = (SIZE - 1) / 2
    turned = (FACE - centre) @ turn.T + centre
    upright, lying = frame_face(FACE, SIZE), frame_face(turned, SIZE)
    np.testing.assert_allclose(np.rot90(upright.up, -1), lying.up, atol=1e-4)
    np.testing.assert_allclose(np.rot90(upright.across, -1), lying.across, atol=1e-4)
    assert np.mean(np.rot90(upright.inside, -1) != lying.inside) < 0.01


@pytest.mark.parametrize(
    ("name", "points"),
    [("r_eye", range(36, 42)), ("l_eye", range(42, 48)), ("r_brow", range(17, 22))],
)
def test_parts_lie_around_their_landmarks(name, points):
    mask = fill([part_polygons(FACE)[name]], SIZE)
    column, row = np.rint(FACE[list(points)].mean(axis=0)).astype(int)
    assert mask[row, column] == 1
    assert 0 < mask.mean() < 0.05


def test_the_person_s_right_is_the_picture_s_left():
    polygons = part_polygons(FACE)
    assert polygons["r_eye"][:, 0].max() < polygons["l_eye"][:, 0].min()
    assert polygons["r_brow"][:, 0].mean() < polygons["l_brow"][:, 0].mean()


def test_points_far_outside_do_no_harm():
    mask = fill([np.array([[10.0, 10.0], [1e9, 10.0], [10.0, 1e9]])], 64)
    assert mask[20, 20] == 1 and mask[5, 5] == 0
