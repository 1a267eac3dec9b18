import numpy as np
import pytest

from facegan.convert.vgg19 import convert_vgg19
from facegan.convert.vgg_face import convert_vgg_face
from facegan.errors import CheckpointError, ConfigError
from facegan.models.perceptual import VGGFeaturesConfig, load_vgg19, make_vgg19, make_vgg_face
from facegan.training.perceptual_term import content_term, pyramid_term
from tests.convert.test_caffe_file import net
from tests.convert.test_vgg_face import convolve, make_weights
from tests.torch_writer import Writer, whole

DEPTHS = (2, 2, 4, 4, 4)
# Layers of torchvision's VGG19 that are convolutions.
FEATURES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
# Of blue, green, red in 0 ... 255; of red, green, blue in 0 ... 1.
MEANS = {"caffe": [103.939, 116.779, 123.68], "torchvision": [0.485, 0.456, 0.406]}


@pytest.fixture(scope="module")
def weights():
    return make_weights(DEPTHS)


@pytest.fixture
def state(weights):
    made = {"classifier.0.weight": whole("x", np.zeros((2, 3), "<f4"))}
    for number, (kernel, bias) in zip(FEATURES, weights.values(), strict=True):
        made[f"features.{number}.weight"] = whole(f"{number}k", kernel)
        made[f"features.{number}.bias"] = whole(f"{number}b", bias)
    return made


@pytest.fixture
def writer(monkeypatch):
    return Writer(monkeypatch)


def prepare(image, preprocessing):
    """[H, W, 3] in [-1, 1] as the weights want it, in float64."""
    image = (image.astype(np.float64) + 1) / 2
    if preprocessing == "caffe":
        return image[..., ::-1] * 255 - np.array(MEANS["caffe"])
    return (image - np.array(MEANS["torchvision"])) / np.array([0.229, 0.224, 0.225])


def pool(maps):
    height, width, channels = maps.shape
    return maps.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))


def check(path, weights, preprocessing):
    """The first maps of two blocks in every place, also at the border, by hand in float64."""
    layers = ("conv1_1", "relu1_2", "conv2_1", "relu2_2")
    model = make_vgg19(str(path), VGGFeaturesConfig(layers=layers))
    assert model.config.preprocessing == preprocessing
    image = np.random.default_rng(1).uniform(-1, 1, (6, 4, 3)).astype(np.float32)
    first = convolve(prepare(image, preprocessing), *weights["conv1_1"])
    second = np.maximum(convolve(np.maximum(first, 0), *weights["conv1_2"]), 0)
    third = convolve(pool(second), *weights["conv2_1"])
    fourth = np.maximum(convolve(np.maximum(third, 0), *weights["conv2_2"]), 0)
    wanted = (first, second, third, fourth)
    for got, one in zip(model({"image": image[None]}), wanted, strict=True):
        # float32 sums of up to 1152 products
        np.testing.assert_allclose(got[0], one, atol=1e-5 * np.abs(one).max(), rtol=1e-4)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_torchvisions_file_means_the_same(weights, state, writer, layout, tmp_path):
    getattr(writer, layout)(tmp_path / "vgg19.pth", state)
    done = convert_vgg19(tmp_path / "vgg19.pth", tmp_path / "vgg19.npz")
    assert done == {
        "output": str(tmp_path / "vgg19.npz"),
        "convolutions": 16,
        "preprocessing": "torchvision",
        "left_over": ["classifier.0.weight"],
    }
    check(tmp_path / "vgg19.npz", weights, "torchvision")


def test_the_caffe_file_means_the_same(weights, tmp_path):
    layers = {**weights, "fc8": [np.zeros((2, 3)), np.zeros(2)]}
    (tmp_path / "a.caffemodel").write_bytes(net(layers))
    done = convert_vgg19(tmp_path / "a.caffemodel", tmp_path / "vgg19.npz")
    assert done["preprocessing"] == "caffe" and done["left_over"] == ["fc8"]
    check(tmp_path / "vgg19.npz", weights, "caffe")
    with pytest.raises(CheckpointError, match="is there already"):
        convert_vgg19(tmp_path / "a.caffemodel", tmp_path / "vgg19.npz")


def test_the_authors_weights_in_a_state_dict(weights, state, writer, tmp_path):
    writer.zip(tmp_path / "vgg19.pth", state)
    convert_vgg19(tmp_path / "vgg19.pth", tmp_path / "vgg19.npz", preprocessing="caffe")
    check(tmp_path / "vgg19.npz", weights, "caffe")
    with pytest.raises(ConfigError, match="preprocessing"):
        convert_vgg19(tmp_path / "vgg19.pth", tmp_path / "b.npz", preprocessing="none")


def test_a_mean_in_the_bias_would_be_wrong_at_the_border(weights):
    """Why the file keeps its own preparation."""
    image = np.random.default_rng(1).uniform(-1, 1, (6, 5, 3))
    kernel, bias = (values.astype(np.float64) for values in weights["conv1_1"])
    wanted = convolve(prepare(image, "torchvision"), kernel, bias)
    scale = 1 / (255 * np.array([0.229, 0.224, 0.225]))
    shift = (np.array(MEANS["caffe"])[::-1] / 255 - MEANS["torchvision"]) / [0.229, 0.224, 0.225]
    folded = (kernel * scale[:, None, None])[:, ::-1]
    folded_bias = bias + np.einsum("oiyx,i->o", kernel, shift)
    got = convolve(prepare(image, "caffe"), folded, folded_bias)
    off = np.abs(got - wanted).max(-1)
    assert off[1:-1, 1:-1].max() < 1e-9 and off[0].min() > 1e-6


def test_recipes_read_the_file(weights, tmp_path):
    (tmp_path / "a.caffemodel").write_bytes(net(weights))
    convert_vgg19(tmp_path / "a.caffemodel", tmp_path / "vgg19.npz")
    image = np.random.default_rng(1).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    for make in (pyramid_term, content_term):
        term = make(str(tmp_path / "vgg19.npz"))
        term.prepare("float32")
        assert float(term(image, image)) == 0 < float(term(image, -image))
    whole_net = make_vgg19(str(tmp_path / "vgg19.npz"), VGGFeaturesConfig(layers=("relu5_4",)))
    np.testing.assert_array_equal(
        whole_net.convs[-1].kernel, weights["conv5_4"][0].transpose(2, 3, 1, 0)
    )


def test_the_file_that_is_written(weights, tmp_path):
    (tmp_path / "a.caffemodel").write_bytes(net(weights, new=True))
    (tmp_path / "vgg19.npz").write_bytes(b"old")
    convert_vgg19(tmp_path / "a.caffemodel", tmp_path / "vgg19.npz", overwrite=True)
    with np.load(tmp_path / "vgg19.npz", allow_pickle=False) as stored:
        assert (str(stored["kind"]), str(stored["preprocessing"])) == ("vgg19", "caffe")
        names = {f"{name}/{part}" for name in weights for part in ("kernel", "bias")}
        assert set(stored.files) == names | {"kind", "preprocessing"}


def test_other_nets_are_refused(weights, state, writer, tmp_path):
    path, output = tmp_path / "a.pth", tmp_path / "vgg19.npz"
    # VGG16 lacks a convolution in each of the last three blocks.
    smaller = make_weights((2, 2, 3, 3, 3))
    path.write_bytes(net(smaller))
    with pytest.raises(CheckpointError, match="is no VGG19: conv3_4/kernel is missing"):
        convert_vgg19(path, output)
    # With batch norm every third layer is a convolution.
    with_norms = {
        key.replace(f".{number}.", f".{number // 2 * 3}."): value
        for key, value in state.items()
        for number in [int(key.split(".")[1])]
    }
    writer.zip(path, with_norms)
    with pytest.raises(CheckpointError, match="is no VGG19.*is missing"):
        convert_vgg19(path, output)
    writer.zip(path, {f"net.{key}": value for key, value in state.items()})
    with pytest.raises(CheckpointError, match="is no VGG19: conv1_1/kernel is missing.*26 more"):
        convert_vgg19(path, output)
    kernel = np.zeros((64, 3, 5, 5), "<f4")
    writer.zip(path, {**state, "features.0.weight": whole("k", kernel)})
    with pytest.raises(CheckpointError, match=r"conv1_1/kernel is \[64, 3, 5, 5\]"):
        convert_vgg19(path, output)
    assert not output.exists()


@pytest.mark.parametrize("layout", ["zip", "legacy", "caffe"])
def test_truncated_files(weights, state, writer, layout, tmp_path):
    path = tmp_path / "a"
    if layout == "caffe":
        path.write_bytes(net(weights))
    else:
        getattr(writer, layout)(path, state)
    data = path.read_bytes()
    for size in (0, 1, 100, 5000, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            convert_vgg19(path, tmp_path / "vgg19.npz")
    assert not (tmp_path / "vgg19.npz").exists()


def test_files_that_are_no_converted_weights(weights, writer, state, tmp_path):
    (tmp_path / "face.caffemodel").write_bytes(net(make_weights((2, 2, 3, 3, 3))))
    convert_vgg_face(tmp_path / "face.caffemodel", tmp_path / "face.npz")
    with pytest.raises(CheckpointError, match="holds the weights of 'vgg_face'.*--from vgg19"):
        load_vgg19(tmp_path / "face.npz", VGGFeaturesConfig(layers=("relu1_1",)))
    (tmp_path / "a.caffemodel").write_bytes(net(weights))
    convert_vgg19(tmp_path / "a.caffemodel", tmp_path / "vgg19.npz")
    with pytest.raises(CheckpointError, match="holds the weights of 'vgg19'.*--from vgg_face"):
        make_vgg_face(str(tmp_path / "vgg19.npz"))
    with np.load(tmp_path / "vgg19.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "b.npz", **{**arrays, "preprocessing": "other"})
    with pytest.raises(CheckpointError, match="preprocessing 'other' is unknown"):
        load_vgg19(tmp_path / "b.npz")
    del arrays["conv1_1/bias"]
    np.savez(tmp_path / "c.npz", **arrays)
    writer.zip(tmp_path / "raw.pth", state)
    data = (tmp_path / "vgg19.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    for name in ("c.npz", "raw.pth", "cut.npz"):
        with pytest.raises(CheckpointError, match="Cannot read VGG19 weights.*--from vgg19"):
            load_vgg19(tmp_path / name)
