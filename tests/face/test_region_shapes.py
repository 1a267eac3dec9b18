import numpy as np
import pytest

from facegan.face.landmarks import FLIP_ORDER, MEAN_SHAPE
from facegan.face.region_shapes import (
    face_axes,
    fill,
    frame_face,
    open_line,
    part_polygons,
    round_off,
)

SIZE = 128
FACE = (MEAN_SHAPE * 60 + (34, 44)).astype(np.float64)


def opened(face, gap):
    """The face with its mouth open: the lower lip, the jaw and the chin sink."""
    out = face.copy()
    out[[55, 56, 57, 58, 59, 65, 66, 67], 1] += gap
    out[3:14, 1] += gap * np.sin(np.linspace(0, np.pi, 11))
    return out


def test_the_frame_measures_from_the_middle_of_the_eyes():
    frame = frame_face(FACE, SIZE)
    column, row = np.rint(FACE[36:48].mean(axis=0)).astype(int)
    assert abs(frame.across[row, column]) < 0.05 and abs(frame.up[row, column]) < 0.05
    assert frame.up[row - 20, column] > 0 > frame.up[row + 20, column]
    assert frame.across[row, column + 20] > 0 > frame.across[row, column - 20]
    eyes = FACE[42:48].mean(axis=0) - FACE[36:42].mean(axis=0)
    assert frame.unit_px == pytest.approx(np.hypot(*eyes), rel=0.1)
    assert frame.across[row, column + 20] == pytest.approx(20 / frame.unit_px, abs=0.05)
    assert frame.outside[row, column] < -0.5 < 0.5 < frame.outside[0, 0]
    chin = np.rint(FACE[8]).astype(int)
    assert frame.below[chin[1] + 8, chin[0]] < 0 < frame.below[row, column]
    assert abs(frame.turn) < 0.02
    # The person's right ear stands at the picture's left.
    assert frame.ears_xy[0, 0] < -0.8 and frame.ears_xy[1, 0] > 0.8


def test_the_frame_turns_with_the_face():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])  # a quarter, clockwise as it is seen
    centre = (SIZE - 1) / 2
    turned = (FACE - centre) @ turn.T + centre
    upright, lying = frame_face(FACE, SIZE), frame_face(turned, SIZE)
    for name in ("up", "across"):
        expected = np.rot90(getattr(upright, name), -1)
        np.testing.assert_allclose(expected, getattr(lying, name), atol=1e-4)
    for name in ("outside", "below"):
        expected = np.rot90(getattr(upright, name), -1)
        assert np.abs(expected - getattr(lying, name)).max() < 0.15
    np.testing.assert_allclose(upright.ears_xy, lying.ears_xy, atol=1e-6)


def test_the_frame_does_not_move_when_the_mouth_opens():
    shut, wide = frame_face(FACE, SIZE), frame_face(opened(FACE, 14.0), SIZE)
    np.testing.assert_array_equal(shut.up, wide.up)
    np.testing.assert_array_equal(shut.across, wide.across)
    assert shut.unit_px == wide.unit_px


def test_a_turned_head_has_its_middle_behind_the_face():
    # The nose points to the picture's right: the far cheek is short.
    face = FACE.copy()
    face[17:, 0] += 9.0
    frame = frame_face(face, SIZE)
    assert frame.turn > 0.2
    plain = frame_face(FACE, SIZE)
    assert frame.across.mean() > plain.across.mean() - 0.05
    mirrored = face[FLIP_ORDER] * (-1, 1) + (SIZE - 1, 0)
    other = frame_face(mirrored, SIZE)
    assert other.turn == pytest.approx(-frame.turn)
    np.testing.assert_allclose(frame.across, -other.across[:, ::-1], atol=1e-4)


def test_axes_of_points_that_coincide_are_upright():
    right, up, unit = face_axes(np.zeros((68, 2)))
    np.testing.assert_array_equal(right, [1, 0])
    np.testing.assert_array_equal(up, [0, -1])
    assert unit == 2.0


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("r_eye", range(36, 42)),
        ("l_eye", range(42, 48)),
        ("r_brow", range(17, 22)),
        ("l_brow", range(22, 27)),
    ],
)
def test_parts_lie_around_their_landmarks(name, points):
    mask = fill([part_polygons(FACE)[name]], SIZE)
    middle = FACE[list(points)].mean(axis=0) + (0, 1 if "brow" in name else 0)
    column, row = np.rint(middle).astype(int)
    assert mask[row, column] == 1
    assert 0 < mask.mean() < 0.05


def test_the_person_s_right_is_the_picture_s_left():
    polygons = part_polygons(FACE)
    assert polygons["r_eye"][:, 0].max() < polygons["l_eye"][:, 0].min()
    assert polygons["r_brow"][:, 0].mean() < polygons["l_brow"][:, 0].mean()


def test_lips_meet_when_the_mouth_is_closed_and_part_when_it_opens():
    shut, wide = opened(FACE, -1.5), opened(FACE, 8.0)
    closed, open_ = part_polygons(shut), part_polygons(wide)
    assert "mouth" not in closed and "mouth" in open_
    column = round(float(FACE[62, 0]))
    for polygons in (closed, open_):
        upper, lower = (
            np.flatnonzero(fill([polygons[n]], SIZE)[:, column]) for n in ("u_lip", "l_lip")
        )
        between = lower.min() - upper.max()
        assert between <= 1 if polygons is closed else between > 5
    inside = np.flatnonzero(fill([open_["mouth"]], SIZE)[:, column])
    assert len(inside) > 5


def test_lines_pass_through_their_points():
    points = np.array([[0.0, 0.0], [4.0, 1.0], [8.0, 0.0], [9.0, 5.0], [2.0, 6.0]])
    closed = round_off(points, 4)
    assert closed.shape == (20, 2)
    np.testing.assert_allclose(closed[::4], points)
    line = open_line(points, 9)
    np.testing.assert_allclose(line[::2], points)
    # Points on a straight line stay there.
    straight = np.stack([np.arange(4.0), 2 * np.arange(4.0)], axis=1)
    line = open_line(straight, 13)
    np.testing.assert_allclose(line[:, 1], 2 * line[:, 0], atol=1e-12)
    np.testing.assert_allclose(line[:, 0], np.linspace(0, 3, 13), atol=1e-12)


def test_points_far_outside_do_no_harm():
    mask = fill([np.array([[10.0, 10.0], [1e9, 10.0], [10.0, 1e9]])], 64)
    assert mask[20, 20] == 1 and mask[5, 5] == 0
    frame = frame_face(FACE + 1e5, SIZE)
    assert np.isfinite(frame.outside).all() and (frame.outside > 1).all()
