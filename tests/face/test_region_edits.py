import numpy as np

from facegan.face.region_edits import grow_region, move_region, surround

# Regions of a drawn face: 0 is background.
SKIN, EYES, MOUTH = 1, 2, 3


def face():
    """[100, 100]: skin 60 px wide, an eye on each side, a mouth 20 px wide and 8 high."""
    label_map = np.zeros((100, 100), np.uint8)
    label_map[10:90, 20:80] = SKIN
    label_map[30:36, 30:42] = EYES
    label_map[30:36, 58:70] = EYES
    label_map[60:68, 40:60] = MOUTH
    return label_map


def box(mask):
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_a_region_moves_and_skin_fills_its_place():
    before = face()
    after = move_region(before, MOUTH, (0.1, -0.05))
    assert box(after == MOUTH) == (55, 63, 50, 70)
    assert (after == MOUTH).sum() == 160
    expected = before.copy()
    expected[60:68, 40:60] = SKIN
    expected[55:63, 50:70] = MOUTH
    np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(before, face())


def test_what_a_region_comes_over_is_covered():
    after = move_region(face(), MOUTH, (0.0, -0.3))
    assert (after[30:38, 40:60] == MOUTH).all()
    assert (after == EYES).sum() == 2 * 6 * 12 - 2 * 6 * 2


def test_a_gap_is_filled_by_whatever_is_nearest():
    label_map = np.zeros((10, 30), np.uint8)
    label_map[:, :10], label_map[:, 10:20], label_map[:, 20:] = 4, MOUTH, 5
    after = move_region(label_map, MOUTH, (0.0, 0.99))
    # A region that the border cuts goes on beyond it.
    np.testing.assert_array_equal(after, label_map)
    label_map[:2] = SKIN
    gone = label_map.copy()
    gone[4:6, 12:18], gone[gone == MOUTH] = 9, 5
    after = move_region(gone, 9, (0.0, -0.9))
    assert (after != 9).all() and (after[4:6, 12:18] == 5).all()


def test_what_is_nowhere_or_everywhere_stays():
    np.testing.assert_array_equal(move_region(face(), 7, (0.5, 0.5)), face())
    np.testing.assert_array_equal(grow_region(face(), 7, 2.0), face())
    full = np.full((8, 8), MOUTH, np.uint8)
    np.testing.assert_array_equal(move_region(full, MOUTH, (0.5, 0.5)), full)
    np.testing.assert_array_equal(grow_region(full, MOUTH, 0.5), full)


def test_a_region_grows_about_its_centre():
    after = grow_region(face(), MOUTH, 1.5)
    top, bottom, left, right = box(after == MOUTH)
    assert (top + bottom) / 2 == 64 and (left + right) / 2 == 50
    assert (bottom - top, right - left) == (12, 30)


def test_each_piece_grows_about_its_own_centre():
    eyes = grow_region(face(), EYES, 1.5) == EYES
    assert abs(np.nonzero(eyes[:, :50])[1].mean() - 35.5) < 0.5
    assert abs(np.nonzero(eyes[:, 50:])[1].mean() - 13.5) < 0.5
    assert eyes[:, :50].sum() == eyes[:, 50:].sum() >= 1.9 * 72


def test_a_region_shrinks_and_its_surroundings_take_the_room():
    after = grow_region(face(), MOUTH, 0.5)
    assert box(after == MOUTH) == (62, 66, 45, 55)
    assert set(np.unique(after[60:68, 40:60])) == {SKIN, MOUTH}


def test_growing_does_not_cover_what_is_enclosed():
    after = grow_region(face(), SKIN, 1.2)
    assert (after == EYES).sum() == (face() == EYES).sum()
    np.testing.assert_array_equal(after == MOUTH, face() == MOUTH)
    assert box(after == SKIN) == (2, 98, 14, 86)
    small = grow_region(face(), SKIN, 0.8)
    np.testing.assert_array_equal(small == MOUTH, face() == MOUTH)
    assert box(small == SKIN) == (18, 82, 26, 74)


def test_an_arch_grows_outwards():
    label_map = np.zeros((100, 100), np.uint8)
    label_map[20:80, 20:80] = 5
    label_map[35:80, 35:65] = SKIN
    after = grow_region(label_map, 5, 1.2)
    assert (after[40:75, 35:65] == SKIN).all() and box(after == 5)[0] < 20
    less = grow_region(label_map, 5, 0.8) == 5
    assert box(less)[0] > 20 and (less <= (label_map == 5)).all()


def test_edits_leave_disjoint_ids_of_the_map():
    for edit in (move_region(face(), EYES, (0.2, 0.1)), grow_region(face(), EYES, 3.0)):
        assert edit.dtype == np.uint8 and edit.shape == (100, 100)
        assert set(np.unique(edit)) <= {0, SKIN, EYES, MOUTH}


def test_an_area_is_surrounded_softly():
    area = np.zeros((100, 80), bool)
    area[40:60, 30:50] = True
    mask = surround(area)
    assert mask.dtype == np.float32 and 0.0 <= mask.min() and mask.max() <= 1.0
    assert mask[50, 40] > 0.999 and mask[39, 40] > 0.5
    assert (mask[[20, 75], 40] == 0).all() and 0.05 < mask[35, 40] < 0.5
    assert not surround(np.zeros((8, 8), bool)).any()
