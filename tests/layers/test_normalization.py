import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.layers.normalization import make_norm, normalize_instances


@pytest.fixture
def x(request):
    return np.random.default_rng(1).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)


def test_batch_norm_trains_on_the_batch_and_moves_its_statistics_by_a_tenth(x):
    layer = make_norm("batch", affine=False)
    out = np.asarray(layer(x, training=True))
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


def test_batch_norm_serves_by_its_moving_statistics(x):
    layer = make_norm("batch")
    layer.build(x.shape)
    values = [np.linspace(a, b, 7, dtype=np.float32) for a, b in [(1, 2), (0, 1), (2, 3), (4, 9)]]
    gamma, beta, mean, variance = values
    layer.set_weights(values)
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_starts_around_one():
    layer = make_norm("batch")
    layer.build((None, 2, 2, 1000))
    gamma = np.asarray(layer.gamma)
    assert abs(gamma.mean() - 1) < 0.005
    assert 0.015 < gamma.std() < 0.025


def test_instance_norm_works_per_image_and_channel(x):
    out = np.asarray(make_norm("instance")(x))
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)


def test_instance_norm_learns_only_when_asked(x):
    plain, learned = make_norm("instance"), make_norm("instance", affine=True)
    for layer in (plain, learned):
        layer.build(x.shape)
    assert not plain.variables
    assert len(learned.trainable_variables) == 2


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_statistics_are_float32_under_half_precision(norm):
    # A mean of 4096 values near 1000 is lost in float16's sums: they pass 65504 after 66 values.
    x = np.random.default_rng(2).normal(1000, 20, (1, 64, 64, 1)).astype(np.float16)
    out = np.asarray(make_norm(norm, dtype="mixed_float16")(x, training=True), np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean()) / exact.std()
    if norm == "batch":
        exact = exact / exact.std()
    np.testing.assert_allclose(out / out.std(), exact, atol=0.01)


def test_none_changes_nothing(x):
    np.testing.assert_array_equal(make_norm("none")(x, training=True), x)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'instance'"):
        make_norm("instnace")


def test_instance_norm_is_keras_group_norm_with_a_group_a_channel(x):
    ours, theirs = make_norm("instance", affine=True), keras.layers.GroupNormalization(-1, -1, 1e-5)
    values = [np.linspace(0.5, 2, 7, dtype=np.float32), np.linspace(-1, 1, 7, dtype=np.float32)]
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(values)
    assert [v.path.rpartition("/")[2] for v in ours.variables] == ["gamma", "beta"]
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


def test_instances_are_scaled_each_by_its_own(x):
    rng = np.random.default_rng(3)
    scale, offset = rng.normal(size=(2, 4, 1, 1, 7)).astype(np.float32)
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = scale * (x - mean) / np.sqrt(variance + 1e-5) + offset
    np.testing.assert_allclose(normalize_instances(x, scale, offset), expected, atol=1e-5)
