import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from facegan.errors import ConfigError
from facegan.video import label_rules
from facegan.video.label_rules import load_rules

LABELS = ("background", "skin", "neck", "hair", "hat")

# The source system's hand rules; it wrote two of them in pixels of half the size.
HAND = {
    "size": 512,
    "rules": [
        {"from": "hat", "to": "background"},
        {"from": "skin", "to": "neck", "rows": [430, None], "columns": [220, 400]},
        {"from": "background", "to": "neck", "rows": [450, None], "columns": [210, 420]},
        {
            "from": "hair",
            "to": "background",
            "rows": [150, None],
            "columns": [200, None],
            "size": 256,
        },
        {
            "from": "hair",
            "to": "background",
            "rows": [130, None],
            "columns": [0, 80],
            "size": 256,
            "frames": [50, 132],
        },
    ],
}


def by_hand(label_map, frame):
    """The same as array code."""
    out = label_map.copy()
    out[out == 4] = 0
    box = out[430:, 220:400]
    box[box == 1] = 2
    box = out[450:, 210:420]
    box[box == 0] = 2
    box = out[300:, 400:]
    box[box == 3] = 0
    if 50 <= frame < 132:
        box = out[260:, :160]
        box[box == 3] = 0
    return out


@pytest.mark.parametrize("frame", [0, 49, 50, 131, 132])
def test_the_source_systems_rules(frame):
    label_map = np.random.default_rng(frame).integers(0, 5, (512, 512)).astype(np.uint8)
    before = label_map.copy()
    changed = load_rules(HAND, LABELS).apply(label_map, frame)
    np.testing.assert_array_equal(changed, by_hand(label_map, frame))
    np.testing.assert_array_equal(label_map, before)


def test_boxes_scale_with_the_map(tmp_path):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(HAND))
    small = np.full((128, 128), 1, np.uint8)
    changed = load_rules(path, LABELS).apply(small, 0)
    expected = small.copy()
    expected[108:, 55:100] = 2  # 430 / 4 = 107.5
    np.testing.assert_array_equal(changed, expected)


def test_the_docstrings_example_is_the_source_systems():
    text = label_rules.__doc__
    example = text[text.index('{"size"') : text.index("``from``")]
    assert json.loads(example) == HAND


@pytest.mark.parametrize("height, width", [(10, 10), (5, 20)])
def test_boxes_may_be_parts_of_the_picture(height, width):
    rule = {"from": "background", "to": "hair", "rows": [0.6, None], "columns": [0.1, 0.5]}
    changed = load_rules({"size": 1, "rules": [rule]}, LABELS).apply(
        np.zeros((height, width), np.uint8), 0
    )
    expected = np.zeros((height, width), np.uint8)
    expected[6 * height // 10 :, width // 10 : width // 2] = 3
    np.testing.assert_array_equal(changed, expected)


@given(st.integers(0, 64), st.integers(0, 64), st.integers(0, 64), st.integers(3, 99))
def test_boxes_side_by_side_meet(start, middle, stop, height):
    """Whatever the map's size, no row is left out between two boxes and none is in both."""
    start, middle, stop = sorted((start, middle, stop))
    assume(start < middle < stop)
    rules = [
        {"from": "background", "to": "skin", "rows": [start, middle]},
        {"from": ["background", "skin"], "to": "hair", "rows": [middle, stop]},
    ]
    changed = load_rules({"size": 64, "rules": rules}, LABELS).apply(
        np.zeros((height, 2), np.uint8), 0
    )
    ends = [round(end * height / 64) for end in (start, middle, stop)]
    expected = np.repeat([0, 1, 3, 0], np.diff([0, *ends, height]))
    np.testing.assert_array_equal(changed[:, 0], expected)


def test_rules_without_boxes_need_no_size():
    rules = load_rules({"rules": [{"from": "hat", "to": "hair", "frames": [3, None]}]}, LABELS)
    hat = np.full((2, 2), 4, np.uint8)
    assert (rules.apply(hat, 2) == 4).all() and (rules.apply(hat, 3) == 3).all()


def test_other_maps_are_refused():
    rules = load_rules({"rules": []}, LABELS)
    with pytest.raises(ConfigError, match="uint8, got int32"):
        rules.apply(np.zeros((2, 2), np.int32), 0)
    with pytest.raises(ConfigError, match="shape"):
        rules.apply(np.zeros((2, 2, 3), np.uint8), 0)


def test_several_labels_may_become_one_and_order_counts():
    rules = [{"from": ["hair", "hat"], "to": "skin"}, {"from": "skin", "to": "neck"}]
    changed = load_rules({"size": 4, "rules": rules}, LABELS).apply(
        np.array([[0, 1, 3, 4]], np.uint8), 7
    )
    np.testing.assert_array_equal(changed, [[0, 2, 2, 2]])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be an object"),
        ({"rules": [{"from": "hat", "to": "hair", "rows": [1, 2]}]}, "'size' must be the height"),
        ({"size": True, "rules": []}, "json: 'size' must be"),
        ({"rules": [{"from": "hat", "to": "hair", "size": 0}]}, "rule 1: 'size' must be"),
        ({"size": 512, "rules": [{"from": "hat", "to": "hair", "rows": [0, 600]}]}, "outside"),
        ({"size": 512, "rules": [{"from": "hat", "to": "hair", "rows": [0.5, 9]}]}, "whole pix"),
        ({"size": 1, "rules": [{"from": "hat", "to": "hair", "columns": [0.5, 9]}]}, "outside"),
        ({"size": 512, "rules": [{"from": [], "to": "hair"}]}, "label or a list of some"),
        ({"rules": [{"from": 3, "to": "hair"}]}, "'from' must be the name of a label"),
        ({"rules": [{"from": "hat", "source": "hat", "to": "hair"}]}, "'source'.*keys: from, to"),
        ({"rules": [{"from": "hat", "to": "hair", "frames": [1.5, 3]}]}, "whole number"),
        ({"rules": [{"from": "hat", "to": "hair", "frames": [-1, 3]}]}, "at least 0"),
        ({"size": 512, "rule": []}, "Unknown key 'rule'.*Did you mean 'rules'"),
        ({"size": 512, "rules": {}}, "must be a list"),
        ({"size": 512, "rules": [{"to": "skin"}]}, "rule 1: A rule is an object with 'from'"),
        ({"size": 512, "rules": [{"from": "skinn", "to": "neck"}]}, "Did you mean 'skin'"),
        ({"size": 512, "rules": [{"from": "skin", "to": "neck", "row": [1, 2]}]}, "'rows'"),
        ({"size": 512, "rules": [{"from": "skin", "to": "neck", "rows": [9, 3]}]}, "larger one"),
        ({"size": 512, "rules": [{"from": "skin", "to": "neck", "rows": [600, None]}]}, "outside"),
        ({"size": 512, "rules": [{"from": "skin", "to": "neck", "rows": [1]}]}, "2 items"),
        ({"size": 512, "rules": [{"from": "skin"}]}, "'to' is missing"),
    ],
)
def test_wrong_files_are_named(document, message, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=message) as caught:
        load_rules(path, LABELS)
    assert "mine.json" in str(caught.value)
