import numpy as np
import pytest

from facegan.convert.vgg_weights import conv_names, is_torch_file, read_vgg
from facegan.errors import CheckpointError
from tests.convert.test_caffe_file import net
from tests.torch_writer import Writer, whole

# Not a net that there is, but small.
DEPTHS = (1, 2)
LAYERS = {"conv1_1": 0, "conv2_1": 3, "conv2_2": 5}
SHAPES = {"conv1_1": (64, 3), "conv2_1": (128, 64), "conv2_2": (128, 128)}


def layers():
    rng = np.random.default_rng(0)
    return {
        name: (rng.normal(size=(*shape, 3, 3)).astype("<f4"), rng.normal(size=shape[0]))
        for name, shape in SHAPES.items()
    }


def test_names_of_convolutions():
    assert conv_names(DEPTHS) == ("conv1_1", "conv2_1", "conv2_2")
    assert len(conv_names((2, 2, 4, 4, 4))) == 16


@pytest.mark.parametrize("kind", ["caffe", "zip", "legacy", "plain"])
def test_every_kind_of_file_means_the_same(kind, tmp_path, monkeypatch):
    path, wanted = tmp_path / "a", layers()
    if kind == "caffe":
        path.write_bytes(net({**wanted, "fc6": [np.zeros((2, 2)), np.zeros(2)]}))
    else:
        state = {"fc6": whole("x", np.zeros(2, "<f4"))}
        for name, (kernel, bias) in wanted.items():
            key = name if kind == "plain" else f"features.{LAYERS[name]}"
            state[f"{key}.weight"] = whole(f"{name}k", kernel)
            state[f"{key}.bias"] = whole(f"{name}b", bias.astype("<f2"))
        getattr(Writer(monkeypatch), "zip" if kind == "plain" else kind)(path, state)
    assert is_torch_file(path) == (kind != "caffe")
    arrays, left_over = read_vgg(path, "VGG", DEPTHS)
    assert left_over == ["fc6"]
    assert list(arrays) == [f"{name}/{part}" for name in wanted for part in ("kernel", "bias")]
    for name, (kernel, bias) in wanted.items():
        np.testing.assert_array_equal(arrays[f"{name}/kernel"], kernel.transpose(2, 3, 1, 0))
        np.testing.assert_allclose(arrays[f"{name}/bias"], bias, atol=2e-3)
        assert arrays[f"{name}/kernel"].dtype == arrays[f"{name}/bias"].dtype == np.float32


def test_biases_with_four_axes(tmp_path):
    wanted = {
        name: (kernel, bias.reshape(1, 1, 1, -1)) for name, (kernel, bias) in layers().items()
    }
    (tmp_path / "a").write_bytes(net(wanted))
    assert read_vgg(tmp_path / "a", "VGG", DEPTHS)[0]["conv1_1/bias"].shape == (64,)


def test_what_is_wrong_is_listed(tmp_path):
    wanted = layers()
    wanted["conv1_1"] = (np.zeros((64, 3, 5, 5), "<f4"), wanted["conv1_1"][1])
    wanted["conv2_1_renamed"] = wanted.pop("conv2_1")
    (tmp_path / "a").write_bytes(net(wanted))
    with pytest.raises(
        CheckpointError,
        match=r"a is no VGG: conv1_1/kernel is \[64, 3, 5, 5\], not \[64, 3, 3, 3\]; "
        r"conv2_1/kernel is missing; conv2_1/bias is missing\.$",
    ):
        read_vgg(tmp_path / "a", "VGG", DEPTHS)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_vgg(tmp_path / "none", "VGG", DEPTHS)
    (tmp_path / "a").write_bytes(b"PKno")
    with pytest.raises(CheckpointError, match="damaged"):
        read_vgg(tmp_path / "a", "VGG", DEPTHS)
