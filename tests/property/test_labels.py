"""What holds for every label map: mirrors, orders, sizes and colours."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.face import label_maps
from facegan.face.labels import BISENET19, CELEBAMASK19, GROUPS7, PALETTES, SCHEMAS, LabelSchema

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 40)
schemas = st.sampled_from(list(SCHEMAS.values()))


def _map(seed, height, width, num_labels):
    return np.random.default_rng(seed).integers(0, num_labels, (height, width), np.uint8)


@st.composite
def own_schemas(draw):
    """A schema of any length with any of its labels paired."""
    count = draw(st.integers(2, 255))
    names = draw(st.permutations([str(i) for i in range(1, count)]))
    pairs = draw(st.integers(0, (count - 1) // 2))
    return LabelSchema(
        name="own",
        labels=("background", *names),
        flip_pairs=tuple((names[2 * i], names[2 * i + 1]) for i in range(pairs)),
    )


@quick
@given(seeds, sides, sides, st.one_of(schemas, own_schemas()))
def test_a_mirror_twice_is_the_identity(seed, height, width, schema):
    labels = _map(seed, height, width, schema.num_labels)
    flipped = label_maps.flip_labels(labels, schema)
    np.testing.assert_array_equal(label_maps.flip_labels(flipped, schema), labels)
    np.testing.assert_array_equal(label_maps.swap_sides(labels, schema)[:, ::-1], flipped)
    label_maps.check_labels(flipped, schema, "the mirrored map")


@quick
@given(seeds, sides, sides)
def test_mirrors_and_conversions_can_change_places(seed, height, width):
    labels = _map(seed, height, width, 19)
    for target in (BISENET19, GROUPS7):
        first = label_maps.flip_labels(
            label_maps.convert_labels(labels, CELEBAMASK19, target), target
        )
        last = label_maps.convert_labels(
            label_maps.flip_labels(labels, CELEBAMASK19), CELEBAMASK19, target
        )
        np.testing.assert_array_equal(first, last)


@quick
@given(seeds, sides, sides, sides, sides)
def test_no_size_invents_an_id(seed, height, width, new_height, new_width):
    labels = _map(seed, height, width, 256)
    resized = label_maps.resize_labels(labels, new_height, new_width)
    assert resized.shape == (new_height, new_width) and resized.dtype == np.uint8
    assert set(np.unique(resized)) <= set(np.unique(labels))


@quick
@given(seeds, st.integers(1, 8), st.integers(1, 8), st.integers(1, 6), st.integers(1, 6))
def test_each_block_becomes_its_most_frequent_id(seed, height, width, rows, columns):
    labels = _map(seed, height * rows, width * columns, 4)
    small = label_maps.resize_labels(labels, height, width)
    for y in range(height):
        for x in range(width):
            block = labels[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
            counts = np.bincount(block.ravel(), minlength=4)
            assert small[y, x] == np.flatnonzero(counts == counts.max())[-1]


@quick
@given(seeds, sides, sides, st.sampled_from(list(PALETTES.values())))
def test_colours_are_read_back(seed, height, width, palette):
    labels = _map(seed, height, width, palette.schema.num_labels)
    picture = label_maps.colour_labels(labels, palette)
    np.testing.assert_array_equal(label_maps.labels_from_colours(picture, palette), labels)


@quick
@given(seeds, sides, sides)
def test_overlapping_parts_are_painted_one_after_the_other(seed, height, width):
    rng = np.random.default_rng(seed)
    names = rng.permutation(CELEBAMASK19.labels[1:])
    masks = {str(name): rng.random((height, width)) < 0.2 for name in names}
    expected = np.zeros((height, width), np.uint8)
    for name in CELEBAMASK19.labels[1:]:
        expected[masks[name]] = CELEBAMASK19.index(name)
    np.testing.assert_array_equal(label_maps.merge_parts(masks, CELEBAMASK19), expected)
