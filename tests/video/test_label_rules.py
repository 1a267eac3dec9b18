import json

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.video.label_rules import load_rules

LABELS = ("background", "skin", "neck", "hair", "hat")

# The source system's hand rules.
HAND = {
    "size": 512,
    "rules": [
        {"from": "hat", "to": "background"},
        {"from": "skin", "to": "neck", "rows": [430, None], "columns": [220, 400]},
        {"from": "background", "to": "neck", "rows": [450, None], "columns": [210, 420]},
        {"from": "hair", "to": "background", "rows": [300, None], "columns": [400, None]},
        {
            "from": "hair",
            "to": "background",
            "rows": [260, None],
            "columns": [0, 160],
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
        ({"rules": []}, "'size' must be the height"),
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
