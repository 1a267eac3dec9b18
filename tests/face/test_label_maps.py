import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face import label_maps
from facegan.face.labels import BISENET19, CELEBAMASK19, GROUPS7, PALETTES


@pytest.fixture(scope="session", params=["0", "1"])
def real_map(request, media_dir):
    """A label map of CelebAMask-HQ, [512, 512] uint8."""
    path = media_dir / "celebamask_hq_sample" / f"{request.param}.png"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _noise(height=8, width=12, num_labels=19, seed=0):
    return np.random.default_rng(seed).integers(0, num_labels, (height, width), np.uint8)


def test_parts_are_painted_in_the_order_of_the_ids_whatever_the_order_they_come_in():
    skin, nose, hair = np.zeros((3, 1, 4), bool)
    skin[0, :3] = nose[0, 1:3] = hair[0, 2] = True
    merged = label_maps.merge_parts({"hair": hair, "skin": skin, "nose": nose}, CELEBAMASK19)
    assert merged.dtype == np.uint8
    np.testing.assert_array_equal(merged, [[1, 2, 13, 0]])
    # In the other order the nose (10) lies on the skin too, but under the hair (17).
    merged = label_maps.merge_parts({"nose": nose, "hair": hair, "skin": skin}, BISENET19)
    np.testing.assert_array_equal(merged, [[1, 10, 17, 0]])


def test_a_real_map_taken_apart_and_merged_is_itself(real_map):
    masks = {
        name: real_map == index
        for index, name in enumerate(CELEBAMASK19.labels)
        if index and (real_map == index).any()
    }
    assert len(masks) > 10
    np.testing.assert_array_equal(label_maps.merge_parts(masks, CELEBAMASK19), real_map)


def test_masks_that_cannot_be_merged_are_refused_by_name():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(DataError, match="no part mask"):
        label_maps.merge_parts({}, CELEBAMASK19)
    with pytest.raises(DataError, match="'l_brows'. Did you mean 'l_brow'"):
        label_maps.merge_parts({"l_brows": mask}, CELEBAMASK19)
    with pytest.raises(DataError, match="one of skin, .*got 'background'"):
        label_maps.merge_parts({"background": mask}, CELEBAMASK19)
    with pytest.raises(DataError, match=r"'skin' must be \[H, W\] bool, got \[4, 5\] uint8"):
        label_maps.merge_parts({"skin": mask.astype(np.uint8)}, CELEBAMASK19)
    with pytest.raises(DataError, match=r"'skin' must be .*got \[4, 5, 3\] bool"):
        label_maps.merge_parts({"skin": np.zeros((4, 5, 3), bool)}, CELEBAMASK19)
    with pytest.raises(DataError, match="'nose' is 5x4, others are 4x5"):
        label_maps.merge_parts({"skin": mask, "nose": mask.T}, CELEBAMASK19)


def test_a_real_map_survives_the_other_order(real_map):
    there = label_maps.convert_labels(real_map, CELEBAMASK19, BISENET19)
    assert (there[real_map == CELEBAMASK19.index("hair")] == BISENET19.index("hair")).all()
    back = label_maps.convert_labels(there, BISENET19, CELEBAMASK19)
    np.testing.assert_array_equal(back, real_map)


def test_groups_of_a_real_map_do_not_depend_on_the_way(real_map):
    straight = label_maps.convert_labels(real_map, CELEBAMASK19, GROUPS7)
    bisenet = label_maps.convert_labels(real_map, CELEBAMASK19, BISENET19)
    np.testing.assert_array_equal(label_maps.convert_labels(bisenet, BISENET19, GROUPS7), straight)
    eyes = np.isin(real_map, [4, 5])
    np.testing.assert_array_equal(straight == GROUPS7.index("eyes"), eyes)


def test_only_maps_of_the_source_are_converted():
    with pytest.raises(
        DataError, match=r"'celebamask19' \(0 to 18\) .*have: 19, 200, on 2 of 3 pix"
    ):
        label_maps.convert_labels(np.array([[0, 19, 200]], np.uint8), CELEBAMASK19, BISENET19)
    with pytest.raises(DataError, match="cannot be turned"):
        label_maps.convert_labels(np.zeros((1, 1), np.uint8), GROUPS7, BISENET19)


def test_a_mirror_moves_pixels_and_swaps_sides():
    labels = np.array([[4, 0, 5], [6, 15, 1]], np.uint8)
    expected = [[4, 0, 5], [1, 15, 7]]
    np.testing.assert_array_equal(label_maps.flip_labels(labels, CELEBAMASK19), expected)
    swapped = label_maps.swap_sides(labels, CELEBAMASK19)
    np.testing.assert_array_equal(swapped, [[5, 0, 4], [7, 15, 1]])


def test_the_mirror_of_a_real_map_has_its_sides_where_they_were(real_map):
    flipped = label_maps.flip_labels(real_map, CELEBAMASK19)
    assert not np.array_equal(flipped, real_map)
    for name in ("l_eye", "r_eye", "l_brow", "r_brow"):
        index = CELEBAMASK19.index(name)
        before, after = (np.nonzero(m == index)[1].mean() for m in (real_map, flipped))
        assert (before > 255.5) == (after > 255.5)
    again = label_maps.flip_labels(flipped, CELEBAMASK19)
    np.testing.assert_array_equal(again, real_map)


def test_shrinking_takes_the_majority_of_each_block_and_of_equals_the_larger():
    labels = np.array(
        [
            [1, 1, 3, 4, 0, 0],
            [1, 9, 4, 3, 2, 2],
            [0, 0, 7, 7, 5, 6],
            [0, 0, 7, 18, 8, 4],
        ],
        np.uint8,
    )
    np.testing.assert_array_equal(label_maps.resize_labels(labels, 2, 3), [[1, 4, 2], [0, 7, 8]])
    # The factors need not be alike: blocks of 4 x 3 and of 1 x 6.
    np.testing.assert_array_equal(label_maps.resize_labels(labels, 1, 2), [[0, 4]])
    np.testing.assert_array_equal(label_maps.resize_labels(labels, 4, 1), [[1], [2], [7], [0]])


def test_growing_by_a_whole_factor_repeats_and_shrinks_back():
    labels = _noise()
    large = label_maps.resize_labels(labels, 24, 24)
    np.testing.assert_array_equal(large, labels.repeat(3, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(label_maps.resize_labels(large, 8, 12), labels)


def test_other_sizes_take_the_pixel_under_the_new_centre():
    labels = np.array([[1, 2, 3]], np.uint8)
    # Centres at 0.75, 2.25 and at 0.3, 0.9, 1.5, 2.1, 2.7.
    np.testing.assert_array_equal(label_maps.resize_labels(labels, 1, 2), [[1, 3]])
    np.testing.assert_array_equal(label_maps.resize_labels(labels, 1, 5), [[1, 1, 2, 3, 3]])
    # Higher and narrower at once.
    np.testing.assert_array_equal(label_maps.resize_labels(labels, 2, 1), [[2], [2]])


def test_a_size_of_nothing_is_refused_and_the_same_size_is_the_same_map():
    labels = _noise()
    assert label_maps.resize_labels(labels, 8, 12) is labels
    with pytest.raises(ConfigError, match="at least 1x1 pixel, got 0x12"):
        label_maps.resize_labels(labels, 0, 12)


def test_a_real_map_keeps_its_eyes_when_it_shrinks(real_map):
    small = label_maps.resize_labels(real_map, 256, 256)
    share = [label_maps.count_labels(m)[[4, 5, 6, 7, 11, 12]] / m.size for m in (real_map, small)]
    # They grow a little at their edges, for they were painted after the skin.
    np.testing.assert_allclose(share[1], share[0], rtol=0.1)


def test_one_hot_has_a_one_where_the_id_is():
    labels = _noise()
    hot = label_maps.one_hot(labels, 19)
    assert hot.shape == (8, 12, 19) and hot.dtype == np.float32
    np.testing.assert_array_equal(hot.sum(axis=-1), np.ones((8, 12)))
    np.testing.assert_array_equal(hot.argmax(axis=-1), labels)
    with pytest.raises(DataError, match="has the id 5; one_hot with 5 labels takes 0 to 4"):
        label_maps.one_hot(np.array([[5]], np.uint8), 5)


def test_pixels_are_counted_by_id():
    counts = label_maps.count_labels(np.array([[0, 0, 255], [7, 0, 7]], np.uint8))
    assert counts.dtype == np.int64 and counts.shape == (256,)
    assert {int(i): int(counts[i]) for i in np.flatnonzero(counts)} == {0: 3, 7: 2, 255: 1}


def test_ids_outside_of_the_schema_are_named():
    labels = _noise(4, 5, 8)
    label_maps.check_labels(labels, GROUPS7, "00012.png")
    labels[0, :3] = 8, 9, 9
    with pytest.raises(
        DataError, match=r"00012.png has ids .*'groups7' \(0 to 7\) .*have: 8, 9, on 3 of 20 pixels"
    ):
        label_maps.check_labels(labels, GROUPS7, "00012.png")
    everything = np.arange(256, dtype=np.uint8)[None]
    with pytest.raises(DataError, match=r"have: 19, 20, .*, 26, \.\.\., on 237 of 256"):
        label_maps.check_labels(everything, CELEBAMASK19, "a map")


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2), np.int32), np.zeros((0, 2), np.uint8)],
    ids=["rank", "dtype", "empty"],
)
def test_what_is_no_label_map_is_refused(wrong):
    for call in (
        lambda: label_maps.check_labels(wrong, GROUPS7, "a map"),
        lambda: label_maps.convert_labels(wrong, CELEBAMASK19, GROUPS7),
        lambda: label_maps.swap_sides(wrong, GROUPS7),
        lambda: label_maps.flip_labels(wrong, GROUPS7),
        lambda: label_maps.resize_labels(wrong, 4, 4),
        lambda: label_maps.one_hot(wrong, 8),
        lambda: label_maps.count_labels(wrong),
        lambda: label_maps.colour_labels(wrong, PALETTES["groups7"]),
    ):
        with pytest.raises(DataError, match=r"must be a label map \[H, W\] uint8"):
            call()


@pytest.mark.parametrize("palette", PALETTES.values(), ids=lambda palette: palette.name)
def test_every_palette_is_read_back(palette):
    labels = np.arange(palette.schema.num_labels, dtype=np.uint8)[None].repeat(2, axis=0)
    picture = label_maps.colour_labels(labels, palette)
    np.testing.assert_array_equal(picture[0], palette.colours)
    np.testing.assert_array_equal(label_maps.labels_from_colours(picture, palette), labels)


@pytest.mark.parametrize("palette", PALETTES.values(), ids=lambda palette: palette.name)
def test_a_real_map_is_read_back_from_its_colours(real_map, palette):
    labels = label_maps.convert_labels(real_map, CELEBAMASK19, palette.schema)
    picture = label_maps.colour_labels(labels, palette)
    again = label_maps.labels_from_colours(picture, palette)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(label_maps.colour_labels(again, palette), picture)


def test_only_ids_of_the_palette_are_painted():
    with pytest.raises(DataError, match=r"'groups7' \(0 to 7\) does not have: 8, on 1 of 1"):
        label_maps.colour_labels(np.array([[8]], np.uint8), PALETTES["groups7"])


def test_the_other_palette_of_celebamask_hq_is_told_apart():
    labels = np.zeros((3, 4), np.uint8)
    labels[1, 2:] = CELEBAMASK19.index("r_brow")
    picture = label_maps.colour_labels(labels, PALETTES["celebamask19_parser"])
    with pytest.raises(
        DataError,
        match=r"\(51, 255, 255\) at row 1, column 2 is not in the palette 'celebamask19_dataset'\. "
        r"Pixels of unknown colours: 2 of 12; unknown colours: 1\. The colour "
        r"is one of the palette 'celebamask19_parser'",
    ):
        label_maps.labels_from_colours(picture, PALETTES["celebamask19_dataset"])


def test_smoothed_pictures_are_refused():
    palette = PALETTES["celebamask19_dataset"]
    picture = label_maps.colour_labels(np.array([[0, 0, 13, 13]], np.uint8), palette)
    smooth = cv2.resize(picture, (8, 1), interpolation=cv2.INTER_LINEAR)
    # Half-way from background to hair one of the colours happens to be that of the lower lip.
    assert [tuple(smooth[0, x]) for x in (3, 4)] == [(0, 0, 51), palette.colours[12]]
    with pytest.raises(
        DataError, match=r"\(0, 0, 51\) at row 0, column 3 .* 1 of 8; .* smoothed edges"
    ):
        label_maps.labels_from_colours(smooth, palette)
    # A colour beyond all of the palette's is one too.
    with pytest.raises(DataError, match=r"\(255, 255, 255\) at row 0, column 0"):
        label_maps.labels_from_colours(np.full((1, 1, 3), 255, np.uint8), palette)


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 4), (0, 2, 3)])
def test_a_colour_picture_has_three_channels(shape):
    with pytest.raises(DataError, match=r"must be \[H, W, 3\] uint8"):
        label_maps.labels_from_colours(np.zeros(shape, np.uint8), PALETTES["groups7"])


def test_labels_that_were_never_seen_are_shown_as_what_is_nearest():
    seen = np.zeros(256, int)
    for name in ("background", "skin", "hair", "neck", "l_lip", "nose"):
        seen[CELEBAMASK19.index(name)] = 100
    seen[CELEBAMASK19.index("cloth")] = 4  # too few to learn from
    found = label_maps.find_substitutes(seen, 100, CELEBAMASK19)
    assert found["l_ear"] == found["eye_g"] == found["u_lip"] == "skin"
    assert (found["hat"], found["cloth"], found["mouth"]) == ("hair", "neck", "l_lip")
    assert not {"skin", "hair", "nose", "background"} & set(found)
    nothing = label_maps.find_substitutes(np.zeros(256, int), 5, CELEBAMASK19)
    assert set(nothing.values()) == {"background"}
