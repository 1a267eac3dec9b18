import numpy as np
import pytest

from facegan.errors import DataError
from facegan.face.label_maps import convert_labels
from facegan.face.labels import CELEBAMASK19, GROUPS7
from facegan.face.mask_groups import draw_colour_map, mean_colours, show_groups, split_groups

# What each of the source system's groups is made of; "ear_l" does not exist in the dataset.
GROUPS = {
    "skin": ("skin", "l_ear", "r_ear", "neck"),
    "eyes": ("l_eye", "r_eye"),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "hair": ("hair", "l_brow", "r_brow"),
    "nose": ("nose",),
    "clothes": ("cloth",),
    "accessories": ("eye_g", "hat", "ear_r", "neck_l"),
}


def test_parts_become_the_masks_of_their_groups():
    label_map = np.arange(19, dtype=np.uint8)[None]
    masks = split_groups(convert_labels(label_map, CELEBAMASK19, GROUPS7), 7)
    assert masks.shape == (1, 19, 7) and masks.dtype == np.float32
    assert not masks[0, 0].any()
    for channel, parts in enumerate(GROUPS.values()):
        marked = {CELEBAMASK19.labels[i] for i in np.flatnonzero(masks[0, :, channel])}
        assert marked == set(parts)
    assert masks.sum() == 18


def test_mean_colours_by_hand():
    image = np.zeros((1, 4, 3), np.uint8)
    image[0] = [(255, 0, 0), (0, 0, 255), (255, 255, 255), (9, 9, 9)]
    masks = np.zeros((1, 4, 3), np.float32)
    masks[0, :2, 0] = 1
    masks[0, 2, 1] = 1
    colours = mean_colours(image, masks)
    assert colours.dtype == np.float32
    np.testing.assert_allclose(colours, [[0, -1, 0], [1, 1, 1], [-1, -1, -1]], atol=1e-6)


def test_the_colour_map_averages_overlaps_and_is_black_elsewhere():
    masks = np.zeros((1, 4, 2), np.float32)
    masks[0] = [[1, 0], [1, 1], [0, 0], [0, 1]]
    colours = np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]], np.float32)
    drawn = draw_colour_map(masks, colours)
    assert drawn.dtype == np.uint8
    expected = [[255, 0, 128], [191, 0, 191], [0, 0, 0], [128, 0, 255]]
    np.testing.assert_array_equal(drawn[0], expected)


def test_what_a_model_is_shown_paints_the_picture_of_flat_regions_again():
    rng = np.random.default_rng(0)
    label_map = rng.integers(0, 8, (6, 5)).astype(np.uint8)
    flat = rng.integers(0, 256, (8, 3)).astype(np.uint8)
    flat[0] = 0
    shown = show_groups(flat[label_map], label_map, 7)
    assert set(shown) == {"masks", "colours"} and shown["colours"].shape == (7, 3)
    np.testing.assert_array_equal(draw_colour_map(**shown), flat[label_map])


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"of one size, got \[4, 4, 3\] and \[2, 2, 7\]"):
        mean_colours(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2, 7), np.float32))
