import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import CheckpointError, ConfigError
from facegan.models.lpips import Lpips, LpipsConfig, make_lpips

WIDTHS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="module")
def model():
    return make_lpips("random")


def pictures(seed=0, shape=(2, 36, 45, 3)):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def convolve(image, kernel, bias, stride, padding):
    """[H, W, C] -> [H', W', F], by one product for each place."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    rows = range(0, padded.shape[0] - size + 1, stride)
    columns = range(0, padded.shape[1] - size + 1, stride)
    taken = [[padded[y : y + size, x : x + size].ravel() for x in columns] for y in rows]
    return np.array(taken) @ kernel.reshape(-1, kernel.shape[-1]) + bias


def pool(maps):
    """The largest of 3x3 at every second place."""
    rows, columns = ((size - 3) // 2 + 1 for size in maps.shape[:2])
    return np.array(
        [
            [maps[2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max((0, 1)) for x in range(columns)]
            for y in range(rows)
        ]
    )


def reference_maps(model, image):
    x = (image - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    found = []
    for number, (conv, (stride, padding)) in enumerate(
        zip(model.convs, [(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)], strict=True)
    ):
        x = pool(x) if number in (1, 2) else x
        kernel, bias = (np.asarray(v, np.float64) for v in (conv.kernel, conv.bias))
        x = np.maximum(convolve(x, kernel, bias, stride, padding), 0)
        found.append(x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10))
    return found


def test_the_whole_net_by_numpy():
    model = make_lpips("random")
    rng = np.random.default_rng(1)
    for conv, linear in zip(model.convs, model.linears, strict=True):
        conv.bias.assign(rng.normal(0, 0.1, conv.filters))
        linear.kernel.assign(rng.uniform(0, 1, linear.kernel.shape))
    image, other = pictures(0), pictures(1)
    expected = []
    for pair in zip(image, other, strict=True):
        maps = [reference_maps(model, picture) for picture in pair]
        expected.append(
            sum(
                ((a - b) ** 2 @ np.asarray(linear.kernel)[0, 0]).mean()
                for a, b, linear in zip(*maps, model.linears, strict=True)
            )
        )
    got = np.asarray(model({"image": image, "other": other}))
    assert got.shape == (2,) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_sum_by_hand():
    model = Lpips(LpipsConfig())
    model.build({name: (None, 64, 64, 3) for name in ("image", "other")})
    maps, others = ([np.zeros((1, 1, 2, width), np.float32) for width in WIDTHS] for _ in range(2))
    # Map 1: at one of two places channel 3 differs by 2; map 5: channel 0 by 1 at both places.
    maps[0][0, 0, 1, 3] = 2.0
    others[4][..., 0] = 1.0
    model.linears[0].kernel.assign(np.arange(64).reshape(1, 1, 64, 1) / 10)
    got = np.asarray(model.compare(maps, others))
    np.testing.assert_allclose(got, [0.3 * 2**2 / 2 + 0.1 * 1**2], rtol=1e-6)


def test_maps_have_unit_length_and_the_papers_sizes(model):
    maps = model.maps(pictures(shape=(1, 64, 64, 3)))
    assert [tuple(m.shape) for m in maps] == [
        (1, 15, 15, 64),
        (1, 7, 7, 192),
        (1, 3, 3, 384),
        (1, 3, 3, 256),
        (1, 3, 3, 256),
    ]
    for values in maps:
        np.testing.assert_allclose(np.linalg.norm(values, axis=-1), 1, atol=1e-5)


def test_it_is_a_distance(model):
    image, other = pictures(0), pictures(1)
    ahead, back = (
        np.asarray(model({"image": a, "other": b})) for a, b in ((image, other), (other, image))
    )
    np.testing.assert_array_equal(ahead, back)
    assert np.all(ahead > 0)
    np.testing.assert_array_equal(model({"image": image, "other": image}), [0, 0])
    nearer = np.asarray(model({"image": image, "other": image + 0.1 * (other - image)}))
    assert np.all(nearer < ahead) and np.all(ahead < 1)


def test_the_stand_in_is_the_same_every_time(model, caplog):
    again = make_lpips("random", name="again")
    assert "random stand-in for AlexNet" in caplog.text
    assert again.name == "again"
    for a, b in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.variables and not model.trainable_variables


def test_half_precision_changes_nothing(model):
    inputs = {"image": pictures(0), "other": pictures(1)}
    half = make_lpips("random", dtype="mixed_float16")
    np.testing.assert_array_equal(half(inputs), model(inputs))


def test_a_dark_place_has_a_gradient(model):
    # Exactly the shift: without biases every map is 0 everywhere.
    image = tf.constant(np.tile(np.float32([-0.030, -0.088, -0.188]), (1, 32, 32, 1)))
    with tf.GradientTape() as tape:
        tape.watch(image)
        distance = model({"image": image, "other": pictures(shape=(1, 32, 32, 3))})
    assert np.all(np.isfinite(tape.gradient(distance, image)))


def test_what_it_cannot_compare_is_refused(model):
    model({"image": pictures(shape=(1, 31, 31, 3)), "other": pictures(shape=(1, 31, 31, 3))})
    with pytest.raises(ConfigError, match="at least 31x31 pixels, got 30x64"):
        model.maps(pictures(shape=(1, 30, 64, 3)))
    with pytest.raises(ConfigError, match=r"\[1, 64, 64, 3\] and 'other' of \[1, 64, 65, 3\]"):
        model(
            {"image": pictures(shape=(1, 64, 64, 3)), "other": pictures(shape=(1, 64, 65, 3))},
        )
    with pytest.raises(ConfigError, match="'other'"):
        model({"image": pictures()})
    with pytest.raises(ConfigError, match=r"\[2, 36, 45\]"):
        model.maps(pictures()[..., 0])


def test_sizes_may_be_unknown_while_tracing(model):
    image, other = pictures(0), pictures(1)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))] * 2)
    def traced(image, other):
        return model({"image": image, "other": other})

    np.testing.assert_allclose(
        traced(image, other), model({"image": image, "other": other}), rtol=1e-5
    )


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    for problem in ("missing", "junk", "names", "shape"):
        if problem == "junk":
            path.write_bytes(b"no")
        elif problem == "names":
            np.savez(path, kernel=np.zeros(3))
        elif problem == "shape":
            np.savez(path, **{"conv1/kernel": np.zeros((3, 3, 3, 64)), "conv1/bias": np.zeros(64)})
        with pytest.raises(CheckpointError, match="Cannot read LPIPS weights.*random for a stand"):
            make_lpips(str(path))


def test_it_comes_back_from_its_config(model):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert again.config == LpipsConfig() and not again.trainable
