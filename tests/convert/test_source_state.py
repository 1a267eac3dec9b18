import keras
import numpy as np
import pytest

from facegan.convert.source_state import SourceState, kernel_of
from facegan.errors import CheckpointError


class Pair(keras.Model):
    """A convolution and a norm."""

    def __init__(self):
        super().__init__(name="pair")
        self.conv = keras.layers.Conv2D(2, 3, name="conv")
        self.norm = keras.layers.BatchNormalization(name="norm")
        self.conv.build((None, None, None, 1))
        self.norm.build((None, None, None, 2))
        self.built = True


def values():
    return {
        "module.conv.weight": np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3),
        "module.conv.bias": np.float32([1, 2]),
        "norm.weight": np.float32([3, 4]),
        "norm.bias": np.float32([5, 6]),
        "norm.running_mean": np.float32([7, 8]),
        "norm.running_var": np.float32([9, 10]),
        "norm.num_batches_tracked": np.int64(3),
    }


def fill(arrays):
    state, net = SourceState("a.pth", "pair", arrays), Pair()
    state.give_layer("conv", net.conv)
    state.give_norm("norm", net.norm)
    return state, net


def test_everything_finds_its_place():
    state, net = fill(values())
    assert state.finish([net]) == []
    kernel = values()["module.conv.weight"]
    for out in range(2):
        np.testing.assert_array_equal(net.conv.kernel[:, :, 0, out], kernel[out, 0])
    np.testing.assert_array_equal(net.norm.gamma, [3, 4])
    np.testing.assert_array_equal(net.norm.moving_variance, [9, 10])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v.pop("norm.bias"), "norm.bias is missing"),
        (lambda v: v.update({"norm.bias": np.zeros(3, "f4")}), r"norm.bias is \[3\], not \[2\]"),
        (lambda v: v.update({"norm.bias": np.zeros(2, "i4")}), "norm.bias is int32, not float"),
        (lambda v: v.update({"norm.bias": np.float32([1, np.nan])}), "not finite"),
        (lambda v: v.update({"norm.more": np.zeros(2, "f4")}), "norm.more is unknown"),
        (
            lambda v: v.update({"module.conv.weight": np.zeros((2, 1, 3), "f4")}),
            r"conv.weight is \[2, 1, 3\], not \[3, 3, 1, 2\]",
        ),
    ],
)
def test_what_does_not_fit_is_listed(change, told):
    arrays = values()
    change(arrays)
    state, net = fill(arrays)
    with pytest.raises(CheckpointError, match=f"a.pth is no pair: .*{told}"):
        state.finish([net])


def test_a_variable_that_nothing_is_there_for_is_named():
    state, net = SourceState("a.pth", "pair", values()), Pair()
    state.give_layer("conv", net.conv)
    state.leave(r"norm\..*")
    with pytest.raises(CheckpointError, match="nothing is there for norm/gamma"):
        state.finish([net])


def test_parts_are_checked_with_the_whole():
    arrays = {f"nets.a.{name}": value for name, value in values().items()}
    whole, net = SourceState("a.pth", "pair", {**arrays, "step": np.zeros(())}), Pair()
    part = whole.split("nets").split("a")
    part.give_layer("conv", net.conv)
    part.give_norm("norm", net.norm)
    assert whole.owns(part) and not part.owns(whole)
    with pytest.raises(CheckpointError, match="step is unknown"):
        whole.finish([net])
    whole.leave("step")
    assert whole.finish([net]) == ["step"]


def test_a_problem_of_a_part_has_its_whole_name():
    whole, net = SourceState("a.pth", "pair", {"a.conv.bias": np.zeros(2, "f4")}), Pair()
    whole.split("a").give_layer("conv", net.conv)
    with pytest.raises(CheckpointError, match=r"a\.conv\.weight is missing"):
        whole.finish([])


def test_shapes_that_settings_follow_from():
    state = SourceState("a.pth", "pair", values())
    assert state.shape("conv.weight", 4) == (2, 1, 3, 3)
    with pytest.raises(CheckpointError, match="norm.weight has 1 axes, not 2"):
        state.shape("norm.weight", 2)
    with pytest.raises(CheckpointError, match="absent is missing"):
        state.shape("absent", 2)
    assert SourceState("a", "b", {"up_2.x": 0, "up_0.y": 0, "down_1.x": 0}).numbers(
        r"up_(\d+)\."
    ) == [0, 2]


def test_layers_that_are_stacked():
    arrays = {f"{i}.weight": np.full((2, 3), i, np.float32) for i in range(2)}
    state = SourceState("a.pth", "pair", arrays)
    variable = keras.Variable(np.zeros((2, 3, 2), np.float32), name="kernel")
    state.give_stacked(["0.weight", "1.weight"], variable, np.transpose)
    assert state.finish([]) == []
    np.testing.assert_array_equal(variable[1], np.ones((3, 2)))
    state = SourceState("a.pth", "pair", {"0.weight": arrays["0.weight"]})
    state.give_stacked(["0.weight", "1.weight"], variable, np.transpose)
    with pytest.raises(CheckpointError, match=r"0\.weight is \[2, 3\]; 1\.weight is missing"):
        state.finish([])


def test_kernels_come_into_our_order():
    assert kernel_of(np.zeros((5, 4, 3, 2))).shape == (3, 2, 4, 5)
    assert kernel_of(np.zeros((5, 4))).shape == (4, 5)
