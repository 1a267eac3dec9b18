import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from facegan.errors import ConfigError, DataError
from facegan.evaluation.segmentation import ConfusionMatrix
from facegan.face.labels import LabelSchema

SCHEMA = LabelSchema(name="three", labels=("background", "skin", "hair"))


def test_scores_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 0, 0, 0], [1, 1, 1, 1]]), np.array([[0, 0, 0, 1], [1, 1, 0, 2]]))
    np.testing.assert_array_equal(matrix.counts, [[3, 1, 0], [1, 2, 1], [0, 0, 0]])
    scores = matrix.scores(SCHEMA)
    assert scores["pixel_accuracy"] == pytest.approx(5 / 8)
    assert scores["mean_accuracy"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    # hair is not in the truth: it has no IoU, but what was taken for it counts against skin.
    assert scores["iou"] == pytest.approx({"background": 3 / 5, "skin": 2 / 5})
    assert scores["mean_iou"] == pytest.approx(0.5)
    assert scores["frequency_weighted_iou"] == pytest.approx(0.5 * 3 / 5 + 0.5 * 2 / 5)


def test_one_matrix_over_all_pictures():
    first, second = np.array([[0, 1]]), np.array([[1, 1]])
    together, apart = ConfusionMatrix(2), ConfusionMatrix(2)
    together.update(np.concatenate([first, second]), np.concatenate([second, second]))
    apart.update(first, second)
    apart.update(second, second)
    assert apart.scores() == together.scores()


def test_ignored_pixels_are_not_judged():
    matrix = ConfusionMatrix(2, ignore=255)
    matrix.update(np.array([[0, 255]], np.uint8), np.array([[0, 0]], np.uint8))
    assert matrix.counts.sum() == 1 and matrix.scores()["pixel_accuracy"] == 1


def test_wrong_maps_are_named():
    matrix = ConfusionMatrix(3)
    with pytest.raises(DataError, match=r"one size .* \[1, 2\] and \[2, 1\]"):
        matrix.update(np.zeros((1, 2), int), np.zeros((2, 1), int))
    with pytest.raises(DataError, match="truth has ids from 0 to 3"):
        matrix.update(np.array([[0, 3]]), np.array([[0, 0]]))
    with pytest.raises(DataError, match="found has ids"):
        matrix.update(np.array([[0, 0]]), np.array([[0, 9]]))
    with pytest.raises(DataError, match="nothing to score"):
        matrix.scores()
    with pytest.raises(ConfigError, match="num_labels"):
        ConfusionMatrix(1)


maps = arrays.arrays(np.uint8, (6, 5), elements=st.integers(0, 3))


@given(maps, maps)
def test_figures_lie_in_order(truth, found):
    matrix = ConfusionMatrix(4)
    matrix.update(truth, found)
    scores = matrix.scores()
    assert scores["pixel_accuracy"] == pytest.approx(np.mean(truth == found))
    assert 0 <= scores["mean_iou"] <= scores["mean_accuracy"] <= 1
    perfect = ConfusionMatrix(4)
    perfect.update(truth, truth)
    assert perfect.scores()["mean_iou"] == 1
