import numpy as np
import pytest

from facegan.convert.lpips import convert_lpips
from facegan.errors import CheckpointError
from facegan.models.lpips import make_lpips
from tests.torch_writer import Writer, whole

# Layer of torchvision's AlexNet -> its kernel.
KERNELS = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


@pytest.fixture(scope="module")
def network():
    """AlexNet's state dict, by its public names."""
    rng, made = np.random.default_rng(0), {}
    for layer, shape in KERNELS.items():
        made[f"features.{layer}.weight"] = rng.standard_normal(shape, np.float32)
        made[f"features.{layer}.bias"] = rng.standard_normal(shape[0], np.float32)
    return {**made, "classifier.6.bias": np.zeros(3, np.float32)}


@pytest.fixture(scope="module")
def linear():
    """The linear weights of LPIPS v0.1, by their public names."""
    rng = np.random.default_rng(1)
    return {
        f"lin{i}.model.1.weight": rng.uniform(0, 1, (1, shape[0], 1, 1)).astype(np.float32)
        for i, shape in enumerate(KERNELS.values())
    }


@pytest.fixture
def convert(monkeypatch, tmp_path):
    """Writes both files and converts them to ``lpips.npz``."""
    writer = Writer(monkeypatch)

    def run(network, linear, **kwargs):
        for name, state, write in (
            ("alexnet.pth", network, writer.zip),
            ("alex.pth", linear, writer.legacy),
        ):
            write(tmp_path / name, {key: whole(key, value) for key, value in state.items()})
        return convert_lpips(
            tmp_path / "alexnet.pth",
            tmp_path / "lpips.npz",
            heads=tmp_path / "alex.pth",
            **kwargs,
        )

    return run


def test_the_model_gets_the_weights(convert, network, linear, tmp_path):
    done = convert(network, {**linear, "step": np.zeros(1, np.float32)})
    assert done == {
        "output": str(tmp_path / "lpips.npz"),
        "convolutions": 5,
        "left_over": ["classifier.6.bias", "step"],
    }
    model = make_lpips(str(tmp_path / "lpips.npz"))
    for i, layer in enumerate(KERNELS):
        kernel = network[f"features.{layer}.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(model.convs[i].kernel, kernel)
        np.testing.assert_array_equal(model.convs[i].bias, network[f"features.{layer}.bias"])
        np.testing.assert_array_equal(
            model.linears[i].kernel[0, 0, :, 0], linear[f"lin{i}.model.1.weight"][0, :, 0, 0]
        )


def test_the_file_that_is_written(convert, network, linear, tmp_path):
    convert(network, linear)
    with np.load(tmp_path / "lpips.npz", allow_pickle=False) as stored:
        assert str(stored["kind"]) == "lpips"
        assert len(stored.files) == 1 + 3 * 5
        assert all(stored[name].dtype == np.float32 for name in stored.files if name != "kind")
    with pytest.raises(CheckpointError, match="is there already"):
        convert(network, linear)
    convert(network, linear, overwrite=True)


def test_what_is_wrong_is_listed(convert, network, linear, tmp_path):
    def but(state, **changed):
        changed = {name.replace("_", "."): value for name, value in changed.items()}
        return {key: value for key, value in {**state, **changed}.items() if value is not None}

    bad = np.full(192, np.nan, np.float32)
    with pytest.raises(
        CheckpointError,
        match=r"alexnet\.pth is no AlexNet.*features\.0\.bias is missing; features\.3\.bias has "
        r"values that are not finite; features\.6\.bias is \[3\], not \[384\]\.$",
    ):
        convert(
            but(network, features_0_bias=None, features_3_bias=bad, features_6_bias=bad[:3]), linear
        )
    negative = linear["lin2.model.1.weight"].copy()
    negative[0, 7] = -0.1
    with pytest.raises(
        CheckpointError,
        match=r"alex\.pth is no file of LPIPS' linear weights.*lin1\.model\.1\.weight is "
        r"\[192\], not \[1, 192, 1, 1\]; lin2\.model\.1\.weight has negative values\.$",
    ):
        convert(network, but(linear, lin1_model_1_weight=bad * 0, lin2_model_1_weight=negative))
    with pytest.raises(CheckpointError, match="alex.pth.*lin0.model.1.weight is missing"):
        convert(network, network)
    assert not (tmp_path / "lpips.npz").exists()
