import dataclasses
import json
import pickle

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face import labels
from facegan.face.labels import (
    BISENET19,
    CELEBAMASK19,
    GROUPS7,
    PALETTES,
    LabelSchema,
    Palette,
    colour_table,
    schema_colours,
)

TINY = {
    "kind": "label_schema",
    "version": 1,
    "name": "tiny",
    "labels": ["background", "face", "left", "right"],
    "flip_pairs": [["left", "right"]],
}
TINY_COLOURS = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.fixture
def write_schema(tmp_path):
    def write(**changes):
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps({**TINY, **changes}), encoding="utf-8")
        return path

    return write


def test_the_built_in_orders_are_the_published_ones():
    assert CELEBAMASK19.num_labels == BISENET19.num_labels == 19
    in_celebamask = {1: "skin", 2: "nose", 3: "eye_g", 4: "l_eye", 10: "mouth", 13: "hair"}
    in_celebamask.update({14: "hat", 15: "ear_r", 16: "neck_l", 17: "neck", 18: "cloth"})
    in_bisenet = {1: "skin", 2: "l_brow", 6: "eye_g", 9: "ear_r", 10: "nose", 14: "neck"}
    in_bisenet.update({15: "neck_l", 16: "cloth", 17: "hair", 18: "hat"})
    for schema, places in ((CELEBAMASK19, in_celebamask), (BISENET19, in_bisenet)):
        assert {index: schema.labels[index] for index in places} == places
    assert GROUPS7.labels == (
        *("background", "skin", "eyes", "mouth", "hair", "nose", "clothes", "accessories"),
    )


def test_a_label_is_found_by_its_name_and_a_near_miss_is_named():
    assert [CELEBAMASK19.index(name) for name in ("background", "r_ear", "ear_r")] == [0, 9, 15]
    with pytest.raises(ConfigError, match="'celebamask19' must be one of .*'r_brwo'.*'r_brow'"):
        CELEBAMASK19.index("r_brwo")


@pytest.mark.parametrize(
    ("schema", "pairs"),
    [
        (CELEBAMASK19, [(4, 5), (6, 7), (8, 9)]),
        (BISENET19, [(2, 3), (4, 5), (7, 8)]),
        (GROUPS7, []),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_mirror_exchanges_exactly_the_sides(schema, pairs):
    expected = np.arange(256)
    for one, other in pairs:
        expected[[one, other]] = other, one
    assert schema.flip_table.dtype == np.uint8
    np.testing.assert_array_equal(schema.flip_table, expected)


def test_tables_are_shared_and_so_cannot_be_written_to():
    for table in (CELEBAMASK19.flip_table, labels.conversion_table(CELEBAMASK19, GROUPS7)):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1


def test_the_two_orders_turn_into_each_other_name_by_name():
    there = labels.conversion_table(CELEBAMASK19, BISENET19)
    back = labels.conversion_table(BISENET19, CELEBAMASK19)
    np.testing.assert_array_equal(back[there[:19]], np.arange(19))
    assert sorted(there[:19]) == list(range(19))
    for index, name in enumerate(CELEBAMASK19.labels):
        assert BISENET19.labels[there[index]] == name
    assert (there[19:] == 255).all()


@pytest.mark.parametrize("source", [CELEBAMASK19, BISENET19], ids=lambda schema: schema.name)
def test_parts_become_groups(source):
    table = labels.conversion_table(source, GROUPS7)
    groups = {name: GROUPS7.labels[table[i]] for i, name in enumerate(source.labels)}
    members = {
        group: {name for name, its_group in groups.items() if its_group == group}
        for group in GROUPS7.labels
    }
    assert members == {
        "background": {"background"},
        "skin": {"skin", "l_ear", "r_ear", "neck"},
        "eyes": {"l_eye", "r_eye"},
        "mouth": {"mouth", "u_lip", "l_lip"},
        "hair": {"hair", "l_brow", "r_brow"},
        "nose": {"nose"},
        "clothes": {"cloth"},
        "accessories": {"eye_g", "hat", "ear_r", "neck_l"},
    }


def test_groups_cannot_become_parts():
    with pytest.raises(
        DataError, match="'groups7' cannot .*'celebamask19', which has no 'eyes', 'clothes', 'acc"
    ):
        labels.conversion_table(GROUPS7, CELEBAMASK19)


def test_schemas_can_be_sent_to_another_process():
    for schema in labels.SCHEMAS.values():
        again = pickle.loads(pickle.dumps(schema))
        assert again == schema
        np.testing.assert_array_equal(again.flip_table, schema.flip_table)


@pytest.mark.parametrize("schema", labels.SCHEMAS.values(), ids=lambda schema: schema.name)
def test_built_in_schemas_are_found_by_name_and_survive_their_document(schema):
    assert labels.find_schema(schema.name) is schema
    document = json.loads(json.dumps(labels.encode_schema(schema)))
    assert labels.decode_schema(document) == schema


def test_a_schema_of_ones_own_is_read_from_json(write_schema):
    schema = labels.find_schema(write_schema(colours=TINY_COLOURS))
    assert schema.labels == ("background", "face", "left", "right")
    assert schema.flip_table[2] == 3 and schema.flip_table[3] == 2
    palette = labels.find_palette(write_schema(colours=TINY_COLOURS))
    assert palette.schema == schema and palette.colours[3] == (0, 0, 255)
    assert labels.find_schema(str(write_schema())).colours == ()


def test_unknown_names_get_the_nearest():
    with pytest.raises(ConfigError, match="'celebmask19'. Did you mean 'celebamask19'"):
        labels.find_schema("celebmask19")
    with pytest.raises(ConfigError, match="celebamask19_parser, .*a .json file; got 'rainbow'"):
        labels.find_palette("rainbow")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "palette"}, "kind 'label_schema' and the version 1, got 'palette' and 1"),
        ({"version": 2}, "version 1, got 'label_schema' and 2"),
        ({"lables": []}, "Unknown key 'lables'.*Did you mean 'labels'"),
        ({"labels": "skin"}, "labels must be a list"),
        ({"labels": ["background", 3]}, r"labels\[1\] must be a text, got 3"),
        ({"labels": ["background"]}, "must have 2 to 255 labels, got 1"),
        ({"labels": ["background", *map(str, range(255))]}, "2 to 255 labels, got 256"),
        ({"labels": ["face", "left", "right"]}, "must be 'background', got 'face'"),
        ({"labels": ["background", "left", "right", "left"]}, "not empty; 'left' is not"),
        ({"labels": ["background", "left", "right", ""]}, "not empty; '' is not"),
        ({"flip_pairs": [["left", "rigth"]]}, "got 'rigth'. Did you mean 'right'"),
        ({"flip_pairs": [["left", "background"]]}, "flip_pairs .*got 'background'"),
        ({"flip_pairs": [["left"]]}, "must have 2 items, got 1"),
        ({"flip_pairs": [["left", "right"], ["face", "left"]]}, "'left' more than once"),
        ({"flip_pairs": [["left", "left"]]}, "'left' more than once"),
        ({"colours": TINY_COLOURS[:3]}, "one colour for each of 4 labels, got 3"),
        ({"colours": [*TINY_COLOURS[:3], [0, 0, 256]]}, r"'right' .*0 to 255, got \(0, 0, 256\)"),
        ({"colours": [*TINY_COLOURS[:3], [255, 0, 0]]}, "'face' and 'right' .*the same colour"),
        ({"name": ""}, "needs a name"),
        ({"name": "groups7"}, "'groups7' is that of a built-in"),
    ],
)
def test_a_wrong_document_is_refused_by_the_name_of_its_file(write_schema, changes, message):
    with pytest.raises(ConfigError, match=rf"tiny\.json: .*{message}"):
        labels.find_schema(write_schema(**changes))


def test_what_is_no_schema_at_all_is_refused(tmp_path, write_schema):
    with pytest.raises(ConfigError, match="Cannot read .*nowhere.json"):
        labels.find_schema(tmp_path / "nowhere.json")
    path = tmp_path / "list.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="list.json: .*must be an object with a kind, got list"):
        labels.find_schema(path)
    with pytest.raises(ConfigError, match="tiny.json has no colours; add the key 'colours'"):
        labels.find_palette(write_schema())


def test_the_two_palettes_of_celebamask_hq_differ_in_the_right_brow_alone():
    dataset = labels.find_palette("celebamask19_dataset")
    parser = labels.find_palette("celebamask19_parser")
    differ = [i for i in range(19) if dataset.colours[i] != parser.colours[i]]
    assert [CELEBAMASK19.labels[i] for i in differ] == ["r_brow"]
    assert dataset.colours[7] == (255, 204, 204) and parser.colours[7] == (51, 255, 255)
    published = (
        "000000 cc0000 4c9900 cccc00 3333ff cc00cc 00ffff ffcccc 663300 ff0000 "
        "66cc00 ffff00 000099 0000cc ff3399 00cccc 003300 ff9933 00cc00"
    )
    assert " ".join(bytes(colour).hex() for colour in dataset.colours) == published


def test_a_part_has_one_colour_in_both_orders():
    celebamask = labels.PALETTES["celebamask19_dataset"]
    bisenet = labels.PALETTES["bisenet19"]
    assert bisenet.schema is BISENET19
    for name in CELEBAMASK19.labels:
        colour = bisenet.colours[BISENET19.index(name)]
        assert colour == celebamask.colours[CELEBAMASK19.index(name)]


def test_a_palette_must_fit_its_schema():
    schema = LabelSchema(name="two", labels=("background", "face"))
    with pytest.raises(ConfigError, match="'short' must have one colour for each of 2 labels"):
        Palette(name="short", schema=schema, colours=((0, 0, 0),))


def test_every_schema_has_colours_to_look_at():
    own = LabelSchema(name="mine", labels=("background", "a", "b"))
    for schema in (CELEBAMASK19, own):
        colours = schema_colours(schema)
        assert len(set(colours)) == len(colours) == schema.num_labels
        table = colour_table(schema)
        assert table.shape == (256, 3) and (table[schema.num_labels :] == 255).all()
        np.testing.assert_array_equal(table[: len(colours)], colours)
    assert schema_colours(CELEBAMASK19) == PALETTES["celebamask19_dataset"].colours
    brought = dataclasses.replace(own, colours=((0, 0, 0), (1, 2, 3), (4, 5, 6)))
    assert schema_colours(brought) == brought.colours
