import numpy as np
import pytest

from facegan.convert.vgg_face import convert_vgg_face
from facegan.errors import CheckpointError, ConfigError
from facegan.models.perceptual import VGGFeaturesConfig, make_vgg_face
from tests.convert.test_caffe_file import net
from tests.torch_writer import Writer, whole

DEPTHS, WIDTHS = (2, 2, 3, 3, 3), (64, 128, 256, 512, 512)
# Layers of torchvision's VGG16 that are convolutions.
FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def make_weights(depths):
    """Convolution -> kernel [out, in, 3, 3] and bias, in the order of the net."""
    rng, channels, made = np.random.default_rng(0), 3, {}
    for block, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True), 1):
        for i in range(1, depth + 1):
            kernel = rng.normal(0, (2 / 9 / channels) ** 0.5, (width, channels, 3, 3))
            made[f"conv{block}_{i}"] = kernel.astype("<f4"), rng.normal(size=width).astype("<f4")
            channels = width
    return made


@pytest.fixture(scope="module")
def weights():
    return make_weights(DEPTHS)


def convolve(image, kernel, bias):
    """[H, W, C] -> [H, W, F], a plain 3x3 convolution with zeros around."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    height, width = image.shape[:2]
    out = np.zeros((height, width, len(bias)))
    for y in range(3):
        for x in range(3):
            out += padded[y : y + height, x : x + width] @ kernel[:, :, y, x].T
    return out + bias


def check(path, weights):
    config = VGGFeaturesConfig(
        architecture="vgg16", layers=("conv1_1", "conv1_2"), preprocessing="vgg_face"
    )
    model = make_vgg_face(str(path), config)
    image = np.random.default_rng(1).uniform(-1, 1, (6, 5, 3)).astype(np.float32)
    blue_first = (image[..., ::-1] + 1) * 127.5 - np.array([93.594, 104.7624, 129.1863])
    first = convolve(blue_first, *weights["conv1_1"])
    second = convolve(np.maximum(first, 0), *weights["conv1_2"])
    for got, wanted in zip(model({"image": image[None]}), (first, second), strict=True):
        np.testing.assert_allclose(got[0], wanted, atol=1e-3 * np.abs(wanted).max())
    whole_net = make_vgg_face(str(path))
    np.testing.assert_array_equal(
        whole_net.convs[-1].kernel, weights["conv5_1"][0].transpose(2, 3, 1, 0)
    )


def test_the_caffe_file_means_the_same(weights, tmp_path):
    layers = {**weights, "fc8": [np.zeros((2, 3)), np.zeros(2)]}
    (tmp_path / "VGG_FACE.caffemodel").write_bytes(net(layers))
    done = convert_vgg_face(tmp_path / "VGG_FACE.caffemodel", tmp_path / "face.npz")
    assert done["convolutions"] == 13 and done["left_over"] == ["fc8"]
    check(tmp_path / "face.npz", weights)
    with pytest.raises(CheckpointError, match="is there already"):
        convert_vgg_face(tmp_path / "VGG_FACE.caffemodel", tmp_path / "face.npz")


@pytest.mark.parametrize("names", ["plain", "torchvision"])
def test_a_state_dict_means_the_same(weights, names, tmp_path, monkeypatch):
    state = {"classifier.0.weight": whole("x", np.zeros((2, 3), "<f4"))}
    for number, (name, (kernel, bias)) in enumerate(weights.items()):
        key = name if names == "plain" else f"features.{FEATURES[number]}"
        state[f"{key}.weight"] = whole(f"{number}k", kernel)
        state[f"{key}.bias"] = whole(f"{number}b", bias)
    Writer(monkeypatch).zip(tmp_path / "face.pth", state)
    done = convert_vgg_face(tmp_path / "face.pth", tmp_path / "face.npz")
    assert done["left_over"] == ["classifier.0.weight"]
    check(tmp_path / "face.npz", weights)


def test_weights_for_red_first_are_turned(weights, tmp_path):
    path = tmp_path / "VGG_FACE.caffemodel"
    kernel, bias = weights["conv1_1"]
    path.write_bytes(net({**weights, "conv1_1": [kernel[:, ::-1], bias]}))
    done = convert_vgg_face(path, tmp_path / "face.npz", channel_order="rgb")
    assert done["channel_order"] == "rgb"
    check(tmp_path / "face.npz", weights)
    with pytest.raises(ConfigError, match="channel_order"):
        convert_vgg_face(path, tmp_path / "other.npz", channel_order="gbr")


def test_the_file_that_is_written(weights, tmp_path):
    # The contents tell the kind of file, not its name.
    path, output = tmp_path / "weights.bin", tmp_path / "face.npz"
    path.write_bytes(net(weights, new=True))
    output.write_bytes(b"old")
    convert_vgg_face(path, output, overwrite=True)
    with np.load(output, allow_pickle=False) as stored:
        assert str(stored["kind"]) == "vgg_face"
        names = {f"{name}/{part}" for name in weights for part in ("kernel", "bias")}
        assert set(stored.files) == names | {"kind"}
        for name, (kernel, bias) in weights.items():
            np.testing.assert_array_equal(stored[f"{name}/kernel"], kernel.transpose(2, 3, 1, 0))
            np.testing.assert_array_equal(stored[f"{name}/bias"], bias)
            assert stored[f"{name}/kernel"].dtype == np.float32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["face.npz", "weights.bin"]
    with pytest.raises(CheckpointError, match="Cannot write"):
        convert_vgg_face(path, tmp_path / "absent" / "face.npz")


def test_values_that_are_no_weights_are_refused(weights, tmp_path, monkeypatch):
    kernel, bias = weights["conv1_1"]
    path = tmp_path / "a.caffemodel"
    path.write_bytes(net({**weights, "conv1_1": [kernel, np.full_like(bias, np.nan)]}))
    with pytest.raises(CheckpointError, match=r"conv1_1/bias has values that are not finite\.$"):
        convert_vgg_face(path, tmp_path / "face.npz")
    state = {"conv1_1.bias": whole("0", np.zeros(64, "<i8"))}
    writer = Writer(monkeypatch)
    writer.zip(path, state)
    with pytest.raises(CheckpointError, match="conv1_1/bias is int64, not float.*and 20 more"):
        convert_vgg_face(path, tmp_path / "face.npz")
    writer.zip(path, {**state, "features.0.bias": whole("1", bias)})
    with pytest.raises(CheckpointError, match="conv1_1/bias twice"):
        convert_vgg_face(path, tmp_path / "face.npz")


def test_what_is_missing_or_of_another_shape_is_listed(weights, tmp_path):
    path = tmp_path / "a.caffemodel"
    layers = {name: weights[name] for name in list(weights)[:2]}
    layers["conv2_1"] = [np.zeros((128, 3, 3, 3)), np.zeros(128)]
    path.write_bytes(net(layers))
    with pytest.raises(CheckpointError, match=r"conv2_1/kernel is \[128, 3, 3, 3\].*conv2_2"):
        convert_vgg_face(path, tmp_path / "face.npz")
    assert not (tmp_path / "face.npz").exists()
    (tmp_path / "b.npz").write_bytes(b"no")
    np.savez(tmp_path / "c.npz", kind="vgg19")
    for name in ("b.npz", "none.npz", "c.npz"):
        with pytest.raises(CheckpointError, match="Cannot read VGG-Face weights"):
            make_vgg_face(str(tmp_path / name))
