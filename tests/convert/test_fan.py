import keras
import numpy as np
import pytest

from facegan.convert.fan import convert_fan, fill_fan, make_fan
from facegan.convert.source_state import SourceState
from facegan.errors import CheckpointError
from facegan.models.fan import load_fan
from tests.fan_file import LANDMARKS, public_fan
from tests.parity.public_state import write_checkpoint


def test_the_first_network_of_a_stack_is_taken(tmp_path):
    state = public_fan(stack=2)
    path = write_checkpoint(tmp_path / "wing.ckpt", {"state_dict": state, "epoch": np.zeros(1)})
    done = convert_fan(path, tmp_path / "fan.npz")
    assert {"state_dict.m1.b2_plus_1.conv1.weight", "state_dict.bl0.weight", "epoch"} <= set(
        done["left_over"]
    )
    assert not any(".m0." in name or ".l0." in name for name in done["left_over"])
    net = load_fan(tmp_path / "fan.npz")
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    want = make_fan()
    fill_fan(SourceState("a", "b", public_fan()), want)
    got, expected = (
        keras.ops.convert_to_numpy(n({"image": picture})["heatmaps"]) for n in (net, want)
    )
    assert got.shape == (1, 16, 16, LANDMARKS)
    np.testing.assert_array_equal(got, expected)


def test_levels_are_counted_from_the_innermost():
    state, net = public_fan(), make_fan()
    fill_fan(SourceState("a", "b", state), net)
    for level, number in enumerate((4, 3, 2, 1)):
        kernel = state[f"m0.b2_{number}.conv1.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(net.befores[level].convs[0].kernel, kernel)
        kernel = state[f"m0.b3_{number}.conv3.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(net.afters[level].convs[2].kernel, kernel)


def test_one_block_by_hand():
    """Norm, ReLU, convolution, three times; the three results side by side, and the skip."""
    state, net = public_fan(), make_fan()
    fill_fan(SourceState("a", "b", state), net)
    x = np.random.default_rng(2).normal(size=(1, 5, 5, 64))

    def normed(v, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
        return np.maximum((v - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)

    def conv(v, name):
        kernel = state[f"{name}.weight"].astype(np.float64)
        pad = kernel.shape[2] // 2
        v = np.pad(v, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        out = np.zeros((1, 5, 5, len(kernel)))
        for i in range(kernel.shape[2]):
            for j in range(kernel.shape[3]):
                out += v[:, i : i + 5, j : j + 5] @ kernel[:, :, i, j].T
        return out

    parts, v = [], x
    for i in (1, 2, 3):
        v = conv(normed(v, f"conv2.bn{i}"), f"conv2.conv{i}")
        parts.append(v)
    skip = conv(normed(x, "conv2.downsample.0"), "conv2.downsample.2")
    got = net.stem[0](x.astype(np.float32))
    np.testing.assert_allclose(got, np.concatenate(parts, -1) + skip, rtol=1e-4, atol=1e-5)


def test_files_that_do_not_fit_are_refused(tmp_path):
    state = public_fan()
    del state["m0.b1_2.conv2.weight"]
    path = write_checkpoint(tmp_path / "wing.ckpt", state)
    with pytest.raises(CheckpointError, match=r"m0\.b1_2\.conv2\.weight is missing"):
        convert_fan(path, tmp_path / "fan.npz")
    assert not (tmp_path / "fan.npz").exists()
    (tmp_path / "fan.npz").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="is there already"):
        convert_fan(path, tmp_path / "fan.npz")
